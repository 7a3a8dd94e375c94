//! SIGKILL at any moment of `apply` and of `run`: the kernel is then somewhere on the way, the next start finishes it, and nobody else's rules move.
//!
//! After each kill the rules in the kernel are read, and every kind of packet is walked through them: what was dropped before and is dropped once
//! everything is done must be dropped now as well. `make nightly` kills 300 times.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use bridgeward::ruleset::{Family, Observation, Observed, save};
use rustix::process::Signal;

use crate::nightly::{Dice, times};
use crate::packet::{self, Packet};
use crate::world::World;

const GUESTS: [&str; 3] = ["vnet0", "vnet1", "vnet2"];

/// Rules whose matches `packet` understands, in ebtables and in iptables.
const FILTERS: [(&str, &str); 4] = [
    ("closed", "<rule action='drop' direction='inout'><all/></rule><rule action='drop' direction='inout'><arp/></rule>"),
    (
        "tcp-alone",
        "<rule action='accept' direction='inout' statematch='false'><tcp/></rule><rule action='drop' direction='inout'><all/></rule>\
         <rule action='drop' direction='inout'><all-ipv6/></rule>",
    ),
    ("own-address", "<rule action='drop' direction='out'><mac match='no' srcmacaddr='$MAC'/></rule>"),
    (
        "no-tcp",
        "<rule action='drop' direction='inout'><tcp/></rule><rule action='drop' direction='inout'><tcp-ipv6/></rule>\
         <rule action='accept' direction='out'><mac srcmacaddr='$MAC'/></rule><rule action='drop' direction='out'><mac/></rule>",
    ),
];

/// Somebody else's rules, in a chain of the tools' and in ours.
const FOREIGN: &str = "
    iptables -A FORWARD -i acme0 -j ACCEPT
    iptables -I FORWARD -o acme0 -j ACCEPT
    ebtables -t nat -A PREROUTING -i acme0 -j ACCEPT";

#[test]
fn an_apply_killed_at_any_moment_leaves_nothing_open_and_the_next_one_finishes() {
    let mut scene = Scene::new();
    for _ in 0..times(8, 150) {
        let before = scene.observe();
        scene.shuffle();
        let started = scene.world.start(&["apply"]);
        thread::sleep(scene.moment());
        started.end(Signal::KILL);
        scene.judge(&before);
    }
}

#[test]
fn a_daemon_killed_at_any_moment_leaves_nothing_open_and_the_next_start_finishes() {
    let mut scene = Scene::new();
    for _ in 0..times(6, 150) {
        let before = scene.observe();
        let daemon = scene.world.run(&[]);
        // Half of the kills hit the first pass, the others a later one.
        if scene.dice.below(2) == 0 {
            thread::sleep(scene.full);
        }
        scene.shuffle();
        thread::sleep(scene.moment() * 2);
        daemon.end(Signal::KILL);
        scene.judge(&before);
    }
}

struct Scene {
    world: World,
    dice: Dice,
    /// How long a whole `apply` took here: the kills are spread over it. Nothing is asserted of it.
    full: Duration,
    foreign: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        for (name, rules) in FILTERS {
            world.write(&format!("{name}.xml"), &format!("<filter name='{name}' chain='root'>{rules}</filter>\n"));
        }
        let mut scene = Self { world, dice: Dice::new(), full: Duration::ZERO, foreign: Vec::new() };
        scene.shuffle();
        scene.world.apply();
        scene.world.sh(FOREIGN);
        scene.foreign = scene.foreign();
        scene.shuffle();
        let started = Instant::now();
        scene.world.apply();
        scene.full = started.elapsed();
        scene
    }

    /// Gives every guest another filter, or none of its own for a while.
    fn shuffle(&mut self) {
        for (number, device) in GUESTS.iter().enumerate() {
            let file = format!("{device}.xml");
            let choice = usize::try_from(self.dice.below(FILTERS.len() as u64 + 1)).expect("a small number");
            match FILTERS.get(choice) {
                Some((filter, _)) => self.world.write(
                    &file,
                    &format!(
                        "<filterbinding><owner><name>vm{number}</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c100{number}</uuid></owner>\
                         <portdev name='{device}'/><mac address='02:00:00:00:00:0{}'/><filterref filter='{filter}'/></filterbinding>\n",
                        number + 1
                    ),
                ),
                None if self.world.state().join(&file).exists() => self.world.delete(&file),
                None => {}
            }
        }
    }

    fn moment(&mut self) -> Duration {
        let most = u64::try_from(self.full.as_micros()).expect("a short time") + 1;
        Duration::from_micros(self.dice.below(most))
    }

    fn observe(&self) -> Observed {
        let read = |family: Family| {
            let text = self.world.sh(&format!("{}-save", family.tool()));
            (family, Observation::Read(save::parse(family, &text).unwrap_or_else(|fault| panic!("{fault}:\n{text}"))))
        };
        Observed { families: BTreeMap::from(Family::ALL.map(read)) }
    }

    fn foreign(&self) -> Vec<String> {
        self.world.save_all().lines().filter(|line| line.contains("acme")).map(str::to_owned).collect()
    }

    /// Judges what the kernel holds after a kill, and finishes the work.
    fn judge(&self, before: &Observed) {
        let killed = self.observe();
        let words = self.world.save_all();
        self.world.apply();
        self.world.assert_in_sync();
        let end = self.observe();
        for packet in Packet::all(&GUESTS) {
            let closed = !packet::passes(before, &packet) && !packet::passes(&end, &packet);
            assert!(!closed || !packet::passes(&killed, &packet), "{packet:?} passes after a kill:\n{words}");
        }
        assert_eq!(self.foreign(), self.foreign, "somebody else's rules");
    }
}
