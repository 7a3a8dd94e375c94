//! A host that libvirt runs and `run` keeps, in mixed use: an operator with virsh, one who flushes tables, and libvirtds that are restarted or die.
//!
//! `make test` goes through a fixed list of steps; `make beside-libvirt` takes random ones for ten minutes (`BRIDGEWARD_BESIDE_SECONDS`), with the seed in its
//! output. A call of virsh may fail where our commit falls into it, and then succeeds when it is made again. When it is quiet, the rules are those that the daemon
//! computes, and those that a fresh libvirtd makes of the same objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fixture::FILTER;
use crate::libvirt_move::{LIBVIRT, stop};
use crate::nightly::Dice;
use crate::world::{Answer, Daemon, Server, World};

const FORWARDS: [&str; 3] = ["<forward mode='nat'/>", "<forward mode='route'/>", ""];
const NETWORKS: usize = 5;

/// What people do to rules that they do not know are somebody's.
const FLUSHES: [&str; 9] = [
    "nft flush ruleset",
    "iptables -F; iptables -t nat -F; iptables -t mangle -F",
    "ebtables -t nat -F; ebtables -t nat -X",
    "ip6tables -F",
    "iptables -F LIBVIRT_FWI",
    "iptables -F FORWARD; iptables -F INPUT",
    "printf '*filter\\nCOMMIT\\n' | iptables-restore",
    "iptables -D FORWARD -j LIBVIRT_FWX; iptables -t nat -D POSTROUTING -j LIBVIRT_PRT",
    "ebtables -t nat -F PREROUTING",
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Define(usize),
    Undefine(usize),
    Start(usize),
    Destroy(usize),
    /// A network that is in no file of `/etc`.
    Create(usize),
    /// A host for the DHCP of a network, live and in its file.
    Update(usize),
    Bind(usize),
    Unbind(usize),
    /// The filter of every third guest, with this port.
    Redefine(u16),
    DefineSpare,
    UndefineSpare,
    Flush(usize),
    /// A flush, and the next call of virsh at once, while the rules are put back.
    FlushUnderWay(usize),
    /// libvirtd ends by this signal, and another is started.
    Restart(Signal),
}

#[derive(Debug, Clone, Copy, Default)]
struct Network {
    defined: bool,
    runs: bool,
    hosts: usize,
}

/// A world with a libvirtd, and what it was told.
struct Host {
    world: World,
    libvirtd: Vec<Server>,
    networks: BTreeMap<usize, Network>,
    guests: BTreeSet<usize>,
    filter: String,
    port: u16,
    spare: bool,
    /// How many guests there may be.
    most: usize,
    calls: usize,
    /// The answers of calls that failed while rules were being written, and succeeded when made again.
    again: Vec<String>,
}

fn network(number: usize) -> String {
    format!(
        "<network><name>net{number}</name>{}<bridge name='virbr{number}'/>\
         <ip address='10.7{number}.0.1' prefix='24'><dhcp><range start='10.7{number}.0.100' end='10.7{number}.0.200'/></dhcp></ip>\
         <ip family='ipv6' address='fd7{number}::1' prefix='64'/></network>",
        FORWARDS[number % 3]
    )
}

fn binding(number: usize) -> String {
    let filter = ["their-filter", "clean-traffic", "no-mac-spoofing"][number % 3];
    format!(
        "<filterbinding><owner><name>vm{number}</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1c{number:02}</uuid></owner>\
         <portdev name='vnet{number}'/><mac address='52:54:00:77:00:{number:02}'/>\
         <filterref filter='{filter}'><parameter name='IP' value='10.71.0.{}'/></filterref></filterbinding>",
        100 + number
    )
}

impl Host {
    fn new(most: usize) -> Self {
        let world = World::with_libvirt();
        let mut host = Self {
            world,
            libvirtd: Vec::new(),
            networks: BTreeMap::new(),
            guests: BTreeSet::new(),
            filter: FILTER.replace("'web'", "'their-filter'"),
            port: 443,
            spare: false,
            most,
            calls: 0,
            again: Vec::new(),
        };
        // The world's own sees another process namespace than its `/proc` shows, and does not find its dnsmasq again.
        host.restart(Signal::TERM);
        host.virsh_with("nwfilter-define", &host.filter.clone());
        let dump = host.world.sh("virsh -q -c qemu:///system nwfilter-dumpxml their-filter");
        let uuid = dump.lines().find(|line| line.contains("<uuid>")).expect("libvirt gives every filter a UUID");
        // A redefinition has to name it.
        host.filter = host.filter.replacen('>', &format!(">{}", uuid.trim()), 1);
        host
    }

    /// Ends libvirtd and starts another. One whose ebtables meets a commit of ours while it starts ends at once; systemd starts it again, and so do we.
    fn restart(&mut self, signal: Signal) {
        stop(&self.world, "libvirtd", signal);
        let deadline = Instant::now() + Duration::from_mins(2);
        let mut starts = 0;
        loop {
            if self.libvirtd.last_mut().is_none_or(Server::has_ended) {
                starts += 1;
                assert!(starts <= 4, "libvirtd does not start:\n{}", self.logs());
                self.libvirtd.push(self.world.serve("libvirtd", &["libvirtd"]));
            }
            let answer = self.try_virsh("nwfilter-list");
            if answer.code == Some(0) {
                return;
            }
            assert!(Instant::now() < deadline, "no answer: {answer}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn try_virsh(&mut self, words: &str) -> Answer {
        self.calls += 1;
        self.world.run_to_end(std::process::Command::new("bash").args(["-c", &format!("virsh -q -c qemu:///system {words}")]))
    }

    fn virsh(&mut self, words: &str) {
        let answer = self.try_virsh(words);
        assert_eq!(answer.code, Some(0), "{answer}");
    }

    fn virsh_with(&mut self, command: &str, xml: &str) {
        let words = self.file(command, xml);
        self.virsh(&words);
    }

    /// The words of a command on a file with this text.
    fn file(&self, command: &str, xml: &str) -> String {
        let file = self.world.scratch("object.xml");
        fs::write(&file, xml).expect("the scratch directory takes files");
        format!("{command} {}", file.display())
    }

    /// The words for virsh, where a step is for virsh.
    fn words(&self, step: Step) -> Option<String> {
        Some(match step {
            Step::Define(number) => self.file("net-define", &network(number)),
            Step::Undefine(number) => format!("net-undefine net{number}"),
            Step::Start(number) => format!("net-start net{number}"),
            Step::Destroy(number) => format!("net-destroy net{number}"),
            Step::Create(number) => self.file("net-create", &network(number)),
            Step::Update(number) => {
                let Network { defined, runs, hosts } = self.networks[&number];
                let host = format!("<host mac='52:54:00:99:0{number}:{:02}' ip='10.7{number}.0.{}'/>", hosts + 10, hosts + 10);
                let (live, config) = (if runs { "--live" } else { "" }, if defined { "--config" } else { "" });
                format!("net-update net{number} add-last ip-dhcp-host \"{host}\" {live} {config}")
            }
            Step::Bind(number) => self.file("nwfilter-binding-create", &binding(number)),
            Step::Unbind(number) => format!("nwfilter-binding-delete vnet{number}"),
            Step::Redefine(port) => self.file("nwfilter-define", &self.filter.replace("='443'", &format!("='{port}'"))),
            Step::DefineSpare => {
                self.file("nwfilter-define", "<filter name='spare'><rule action='drop' direction='inout'><icmp/></rule></filter>")
            }
            Step::UndefineSpare => "nwfilter-undefine spare".to_owned(),
            Step::Flush(_) | Step::FlushUnderWay(_) | Step::Restart(_) => return None,
        })
    }

    /// What libvirt has after a step.
    fn note(&mut self, step: Step) {
        match step {
            Step::Define(number) => self.networks.entry(number).or_default().defined = true,
            Step::Start(number) | Step::Create(number) => self.networks.entry(number).or_default().runs = true,
            Step::Undefine(number) => self.networks.entry(number).or_default().defined = false,
            Step::Destroy(number) => self.networks.entry(number).or_default().runs = false,
            Step::Update(number) => self.networks.entry(number).or_default().hosts += 1,
            Step::Bind(number) => drop(self.guests.insert(number)),
            Step::Unbind(number) => drop(self.guests.remove(&number)),
            Step::Redefine(port) => self.port = port,
            Step::DefineSpare => self.spare = true,
            Step::UndefineSpare => self.spare = false,
            Step::Flush(_) | Step::FlushUnderWay(_) | Step::Restart(_) => {}
        }
        self.networks.retain(|_, network| network.defined || network.runs);
    }

    /// One step; `daemon` where rules have to be put back before the next. A call of virsh under way of a flush or of a commit may have to be made again.
    fn step(&mut self, step: Step, daemon: Option<&mut Daemon>, under_way: bool) {
        if let Step::Bind(number) = step {
            self.world.sh(&format!(
                "[ -e /sys/class/net/vnet{number} ] || ip tuntap add vnet{number} mode tap; ip link set vnet{number} master virbr1 up"
            ));
        }
        match (step, daemon) {
            (Step::Flush(flush), Some(daemon)) => {
                // Some of it may not be there, such as the jumps before the first network.
                self.world.sh(&format!("({}) 2>/dev/null || true", FLUSHES[flush]));
                self.quiet(daemon);
            }
            (Step::FlushUnderWay(flush), Some(_)) => drop(self.world.sh(&format!("({}) 2>/dev/null || true", FLUSHES[flush]))),
            (Step::Restart(signal), Some(_)) => {
                self.restart(signal);
            }
            (step, daemon) => {
                let words = self.words(step).expect("a step for virsh");
                let answer = self.try_virsh(&words);
                if answer.code != Some(0) {
                    // Its ebtables survives no commit of ours, which on a loaded host may fall into a call that takes longer than we wait.
                    assert!(under_way || answer.stderr.contains("/usr/sbin/ebtables"), "{step:?}: {answer}\n{}", self.logs());
                    self.again.push(format!("{step:?}: {}", answer.stderr.trim()));
                    self.quiet(daemon.expect("rules are put back by the daemon"));
                    self.virsh(&words);
                }
            }
        }
        self.note(step);
        if let Step::Unbind(number) = step {
            self.world.sh(&format!("ip link del vnet{number}"));
        }
    }

    fn logs(&self) -> String {
        ["libvirt.log", "libvirtd.log", "run.log"].iter().filter_map(|name| fs::read_to_string(self.world.scratch(name)).ok()).collect()
    }

    /// Waits until the rules are those that the daemon computes, and there are no others.
    fn quiet(&self, daemon: &mut Daemon) {
        let running = self.networks.iter().filter(|(_, network)| network.runs).map(|(number, _)| *number).collect();
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let diff = self.world.bridgeward(&[&["diff"][..], &LIBVIRT].concat());
            let save = self.world.save_all();
            if diff.code == Some(0) && numbers(&save, "vnet") == self.guests && numbers(&save, "virbr") == running {
                return;
            }
            assert!(Instant::now() < deadline, "not quiet: {diff}\n{save}\n{}", daemon.log());
            daemon.wait_until("the daemon lives", || true);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Compares with what a fresh libvirtd makes of the same objects.
    fn as_a_fresh_libvirtd_would(&self) {
        let mut fresh = Self::new(self.most);
        fresh.virsh_with("nwfilter-define", &fresh.filter.replace("='443'", &format!("='{}'", self.port)));
        for number in self.networks.iter().filter(|(_, network)| network.runs).map(|(number, _)| *number) {
            fresh.step(Step::Create(number), None, false);
        }
        for number in &self.guests {
            fresh.step(Step::Bind(*number), None, false);
        }
        assert_eq!(ordered(&self.world.save_all()), ordered(&fresh.world.save_all()));
    }

    /// Three networks, and guests on the first.
    fn fill(&mut self) {
        for number in 1..=3 {
            self.step(Step::Define(number), None, false);
            self.step(Step::Start(number), None, false);
        }
        for number in 1..=self.most {
            self.step(Step::Bind(number), None, false);
        }
    }

    /// Takes everything away by virsh, and sees that nothing is left.
    fn empty(&mut self, daemon: &mut Daemon) {
        for number in self.guests.clone() {
            self.step(Step::Unbind(number), Some(daemon), false);
        }
        for (number, network) in self.networks.clone() {
            if network.runs {
                self.step(Step::Destroy(number), Some(daemon), false);
            }
            if network.defined {
                self.step(Step::Undefine(number), Some(daemon), false);
            }
        }
        self.quiet(daemon);
        let save = self.world.save_all();
        assert!(!save.contains("10.7") && !save.contains("fd7"), "{save}");
    }

    /// A step that is possible now.
    fn any_step(&self, dice: &mut Dice) -> Step {
        loop {
            let kind = dice.below(20);
            let mut below = |end: usize| usize::try_from(dice.below(end as u64)).expect("a small number");
            // The first network carries the guests.
            let number = 2 + below(NETWORKS - 1);
            let network = self.networks.get(&number).copied().unwrap_or_default();
            let known = self.networks.contains_key(&number);
            let guest = 1 + below(self.most);
            let flush = below(FLUSHES.len());
            let step = match kind {
                0 if !known => Step::Define(number),
                1 if network.defined => Step::Undefine(number),
                2 | 3 if network.defined && !network.runs => Step::Start(number),
                4 | 5 if network.runs => Step::Destroy(number),
                6 if !known => Step::Create(number),
                7 if known && network.hosts < 80 => Step::Update(number),
                8 | 9 if !self.guests.contains(&guest) => Step::Bind(guest),
                10 | 11 if self.guests.contains(&guest) => Step::Unbind(guest),
                12 => Step::Redefine(8000 + u16::try_from(below(900)).expect("below 900")),
                13 => [Step::DefineSpare, Step::UndefineSpare][usize::from(self.spare)],
                14 | 15 => Step::Flush(flush),
                16 => Step::FlushUnderWay(flush),
                17 if below(3) == 0 => Step::Restart([Signal::TERM, Signal::KILL][below(2)]),
                _ => continue,
            };
            return step;
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Daemons that outlive their libvirtd.
        self.libvirtd.clear();
        stop(&self.world, "dnsmasq", Signal::KILL);
    }
}

/// The numbers after a prefix, wherever it stands.
fn numbers(save: &str, prefix: &str) -> BTreeSet<usize> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    save.split(prefix).skip(1).filter_map(digits).collect()
}

/// Chains and rules in order, without counters, but for what is in libvirt's order of events: the blocks of its objects in the chains that they share, and the jumps
/// in built-in chains.
fn ordered(save: &str) -> Vec<String> {
    let mut chains: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut declared = Vec::new();
    let (mut tool, mut table) = ("", "");
    for line in save.lines() {
        if line.starts_with('#') {
            tool = line;
        } else if line.starts_with('*') {
            table = line;
        } else if let Some(chain) = line.strip_prefix(':') {
            let chain = chain.split(" [").next().unwrap_or(chain);
            if chain.contains("vnet") || chain.starts_with("libvirt") || chain.starts_with("LIBVIRT") {
                declared.push(format!("{tool} {table} :{chain}"));
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, rule) = rule.split_once(' ').unwrap_or((rule, ""));
            chains.entry(format!("{tool} {table} {chain}")).or_default().push(rule);
        }
    }
    declared.sort();
    let object = |rule: &str| {
        ["vnet", "virbr", "10.7", "fd7"].iter().find_map(|prefix| numbers(rule, prefix).first().map(|number| (*prefix, *number)))
    };
    for (chain, rules) in &mut chains {
        let name = chain.rsplit(' ').next().unwrap_or_default();
        if ["INPUT", "OUTPUT", "FORWARD", "PREROUTING", "POSTROUTING"].contains(&name) {
            rules.sort_unstable();
        } else if !name.contains("vnet") {
            rules.sort_by_key(|rule| object(rule));
        }
    }
    declared.extend(chains.iter().flat_map(|(chain, rules)| rules.iter().map(move |rule| format!("{chain} {rule}"))));
    declared
}

#[test]
fn virsh_flushes_and_restarts_beside_the_daemon() {
    let seconds =
        std::env::var("BRIDGEWARD_BESIDE_SECONDS").ok().map(|seconds| seconds.parse().expect("BRIDGEWARD_BESIDE_SECONDS is a number"));
    let mut host = Host::new(if seconds.is_some() { 20 } else { 6 });
    host.fill();
    let save = host.world.save_all();
    let synced = host.world.bridgeward(&[&["diff"][..], &LIBVIRT].concat());
    assert_eq!((synced.code, synced.stdout.as_str()), (Some(0), ""), "{synced}");
    let mut daemon = host.world.run_with(&[], &LIBVIRT);
    daemon.wait_until_log("in sync");
    assert_eq!(host.world.save_all(), save, "the first pass wrote");
    host.step(Step::Flush(0), Some(&mut daemon), false);
    assert_eq!(ordered(&host.world.save_all()), ordered(&save));

    match seconds {
        Some(seconds) => for_seconds(&mut host, &mut daemon, seconds),
        None => through_the_list(&mut host, &mut daemon),
    }

    host.as_a_fresh_libvirtd_would();
    host.empty(&mut daemon);
    let log = daemon.log();
    for words in ["is held", "refuses", "panicked", "does not converge"] {
        assert!(!log.contains(words), "{words}:\n{log}");
    }
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn files_that_libvirtd_has_half_written_close_and_delete_nothing() {
    let mut host = Host::new(3);
    host.fill();
    let world = &host.world;
    let save = world.save_all();
    let mut daemon = world.run_with(&[], &LIBVIRT);
    daemon.wait_until_log("in sync");
    // Under the names that libvirtd writes to before it renames, nobody looks at anything.
    world.sh("cd /run/libvirt; head -c 100 network/net1.xml >network/net1.xml.new; : >nwfilter-binding/vnet9.xml.new");
    host.quiet(&mut daemon);

    world.sh("cd /run/libvirt; rm network/*.new nwfilter-binding/*.new; mkdir /run/whole; cp -a network nwfilter-binding /run/whole
        for file in network/net1.xml nwfilter-binding/vnet1.xml; do head -c 100 /run/whole/$file >$file; done
        : >nwfilter-binding/vnet2.xml
        echo '<filterbindingst' >nwfilter-binding/vnet9.xml");
    daemon.wait_until_log("vnet9.xml");
    assert_eq!(world.save_all(), save, "half files");
    world.sh("ebtables -t nat -F; ebtables -t nat -X; iptables -F LIBVIRT_FWI");
    daemon.wait_until("the repair from the last good rules", || ordered(&world.save_all()) == ordered(&save));
    world.sh("rm /run/libvirt/nwfilter-binding/vnet9.xml; cp -a /run/whole/. /run/libvirt");
    host.quiet(&mut daemon);
    assert_eq!(ordered(&world.save_all()), ordered(&save));
}

fn through_the_list(host: &mut Host, daemon: &mut Daemon) {
    let steps = [
        Step::Define(4),
        Step::Start(4),
        Step::Unbind(6),
        Step::Flush(2),
        Step::Bind(6),
        Step::Create(5),
        Step::Update(5),
        Step::Update(4),
        Step::DefineSpare,
        Step::Destroy(2),
        Step::Flush(1),
        Step::Undefine(2),
        Step::Restart(Signal::KILL),
        Step::UndefineSpare,
        Step::Redefine(8443),
        Step::Destroy(5),
        Step::Flush(4),
        Step::Unbind(3),
        Step::Unbind(4),
        Step::Define(2),
        Step::Start(2),
    ];
    for step in steps {
        host.step(step, Some(daemon), false);
    }
    host.quiet(daemon);
}

/// Random steps, and figures on standard output.
fn for_seconds(host: &mut Host, daemon: &mut Daemon, seconds: u64) {
    let seed = std::env::var("PROPTEST_RNG_SEED").unwrap_or_else(|_| "1".to_owned());
    println!("PROPTEST_RNG_SEED={seed}");
    let mut dice = Dice::new();
    let (start, mut compared) = (Instant::now(), Instant::now());
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let (mut under_way, mut quiet, mut fresh) = (false, 0, 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        let step = host.any_step(&mut dice);
        let name = format!("{step:?}").split('(').next().unwrap_or_default().to_owned();
        println!("{:>6.1} {step:?}", start.elapsed().as_secs_f64());
        *counts.entry(name).or_default() += 1;
        host.step(step, Some(daemon), under_way);
        // Until the rules are back, however many steps that takes.
        under_way = !matches!(step, Step::Flush(_)) && (under_way || matches!(step, Step::FlushUnderWay(_)));
        if dice.below(8) == 0 {
            host.quiet(daemon);
            quiet += 1;
            under_way = false;
        }
        if compared.elapsed() > Duration::from_secs(90) {
            host.quiet(daemon);
            host.as_a_fresh_libvirtd_would();
            compared = Instant::now();
            fresh += 1;
        }
    }
    host.quiet(daemon);
    println!("{counts:?}");
    println!(
        "{} calls of virsh, {} made again that met a flush under way: {:#?}\n{quiet} times quiet, {fresh} times compared with a fresh libvirtd",
        host.calls,
        host.again.len(),
        host.again
    );
}
