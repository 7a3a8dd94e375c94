//! What many guests that learn cost, and what one that floods does to the others: `make learning-crowd`.
//!
//! In a network namespace of its own, under `run`: first all guests wait for a lease, then all wait for a first use while one of them sends as
//! fast as it can. Printed are the daemon's memory, descriptors and threads, its processor time, and how many of the others were learned.
//! Argument: `--guests N` (500).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use pcap::{Active, Capture};

const INSIDE: &str = "BRIDGEWARD_CROWD_INSIDE";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// How long the flood is watched once everybody is known.
const WATCH: Duration = Duration::from_secs(10);
/// The bridge's own Ethernet address.
const BRIDGE: [u8; 6] = [0x52, 0x54, 0, 0x41, 0, 0];

fn main() {
    if std::env::var_os(INSIDE).is_none() {
        let own = std::env::current_exe().expect("the program has a path");
        let mut inside = Command::new("unshare");
        inside.args(["--net", "--mount"]).arg(own).args(std::env::args_os().skip(1)).env(INSIDE, "1");
        let status = inside.status().expect("`unshare` runs (Debian package util-linux)");
        std::process::exit(status.code().unwrap_or(1));
    }
    let arguments: Vec<String> = std::env::args().collect();
    let given = arguments.iter().position(|argument| argument == "--guests").and_then(|at| arguments.get(at + 1)?.parse().ok());
    let guests: usize = given.unwrap_or(500);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    make_host(guests);

    let daemon = Daemon::start(directory.path(), guests, "<parameter name='CTRL_IP_LEARNING' value='dhcp'/>");
    println!("{guests} guests wait for a lease:       {}", daemon.cost());
    drop(daemon);

    let daemon = Daemon::start(directory.path(), guests, "");
    println!("{guests} guests wait for a first use:   {}", daemon.cost());
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut tap = open(0);
            // To the bridge itself: a broadcast would be copied to every guest, and so be slow.
            let probe = arp_to(BRIDGE, 0, [0; 4]);
            while !over.load(Ordering::Relaxed) {
                // A full queue drops it, as it should.
                if tap.sendpacket(&probe[..]).is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let started = Instant::now();
        let speak = || {
            for number in 1..guests {
                open(number).sendpacket(&arp(number, address(number))[..]).expect("the link is up");
            }
        };
        speak();
        let learned = wait_for(known, guests - 1, speak);
        println!(
            "one floods, the others speak once:   {learned} of {} are known after {:.1} s; {}",
            guests - 1,
            started.elapsed().as_secs_f64(),
            daemon.cost()
        );
        let (before, frames) = (daemon.processor_time(), sent.load(Ordering::Relaxed));
        sleep(WATCH);
        let frames = sent.load(Ordering::Relaxed) - frames;
        println!(
            "the flood goes on for {} s:          {frames} frames, {:.2} s of the processor",
            WATCH.as_secs(),
            daemon.processor_time().saturating_sub(before).as_secs_f64()
        );
        println!("the daemon says:                     {}", listening(directory.path()));
        over.store(true, Ordering::Relaxed);
    });
    let stopping = Instant::now();
    drop(daemon);
    println!("the daemon stops in {:.2} s", stopping.elapsed().as_secs_f64());
}

/// `run` on a state with these guests.
struct Daemon(Child);

impl Daemon {
    fn start(directory: &Path, guests: usize, parameter: &str) -> Self {
        let mut text = String::new();
        fs::create_dir_all(directory.join("state")).expect("the directory is ours");
        for number in 0..guests {
            text.clear();
            let [.., high, low] = mac(number);
            write!(
                text,
                "<interface type='bridge'><mac address='52:54:00:40:{high:02x}:{low:02x}'/><source bridge='br-lab'/><target dev='vnet{number}'/>
                 <filterref filter='clean-traffic'>{parameter}</filterref></interface>"
            )
            .expect("a string takes every write");
            fs::write(directory.join(format!("state/vnet{number}.xml")), &text).expect("the directory is ours");
        }
        let mut run = Command::new(env!("CARGO_BIN_EXE_bridgeward"));
        run.arg("run").env("BRIDGEWARD_STATE", directory.join("state")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = Self(run.spawn().expect("the program was built"));
        let closed = wait_for(|| ebtables().matches("-j libvirt-I-vnet").count(), guests, || ());
        assert_eq!(closed, guests, "the interim rules are not there");
        sleep(Duration::from_secs(3));
        daemon
    }

    fn cost(&self) -> String {
        let status = fs::read_to_string(self.path("status")).expect("the daemon lives");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_matches([':', '\t', ' ']).to_owned()
        };
        let descriptors = fs::read_dir(self.path("fd")).expect("the daemon lives").count();
        format!("{} resident, {descriptors} descriptors, {} threads", field("VmRSS"), field("Threads"))
    }

    fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(self.path("stat")).expect("the daemon lives");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0.id())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Waits until a count is what it should be, doing something every second; the last count.
fn wait_for(count: impl Fn() -> usize, wanted: usize, again: impl Fn()) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = count();
        if value == wanted || Instant::now() > deadline {
            return value;
        }
        sleep(Duration::from_secs(1));
        again();
    }
}

fn make_host(guests: usize) {
    let mut script = "mount --make-rprivate /; mount -t tmpfs tmpfs /run; mkdir -p /var/lib/bridgeward; mount -t tmpfs -o mode=0700 tmpfs /var/lib/bridgeward
        ip link set lo up; ip link add br-lab address 52:54:00:41:00:00 type bridge mcast_snooping 0; ip link set br-lab up\n"
        .to_owned();
    for number in 0..guests {
        let [.., high, low] = mac(number);
        let mac = format!("52:54:00:40:{high:02x}:{low:02x}");
        writeln!(script, "ip link add vnet{number} type veth peer name eth{number} address {mac}; ip link set vnet{number} master br-lab up; ip link set eth{number} up")
            .expect("a string takes every write");
    }
    // From a file: an argument may not be that long.
    let file = std::env::temp_dir().join(format!("learning-crowd-{}.sh", std::process::id()));
    fs::write(&file, &script).expect("the temporary directory takes files");
    let status = Command::new("sh").arg("-e").arg(&file).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").status();
    let _ = fs::remove_file(&file);
    assert!(status.expect("`sh` runs").success(), "the host cannot be made");
}

fn mac(number: usize) -> [u8; 6] {
    let [high, low] = u16::try_from(number).expect("fewer guests").to_be_bytes();
    [0x52, 0x54, 0, 0x40, high, low]
}

fn address(number: usize) -> [u8; 4] {
    let [.., high, low] = mac(number);
    [10, 40, high, low]
}

/// A question of a guest with this address, to everybody.
fn arp(number: usize, sender: [u8; 4]) -> Vec<u8> {
    arp_to([0xff; 6], number, sender)
}

fn arp_to(destination: [u8; 6], number: usize, sender: [u8; 4]) -> Vec<u8> {
    let mac = mac(number);
    let message =
        ArpPacket::new(ArpHardwareId::ETHERNET, EtherType::IPV4, ArpOperation::REQUEST, &mac, &sender, &[0; 6], &[10, 40, 255, 1]);
    let mut bytes = Vec::new();
    let written = PacketBuilder::ethernet2(mac, destination).arp(message.expect("equal sizes")).write(&mut bytes);
    written.expect("memory takes every write");
    bytes
}

fn open(number: usize) -> Capture<Active> {
    let capture = Capture::from_device(&*format!("eth{number}")).and_then(|capture| capture.snaplen(64).buffer_size(32 << 10).open());
    capture.expect("the link is up, and we are root")
}

/// What `status` says of all that was heard.
fn listening(directory: &Path) -> String {
    let mut status = Command::new(env!("CARGO_BIN_EXE_bridgeward"));
    let output = status.arg("status").env("BRIDGEWARD_STATE", directory.join("state")).output().expect("the program was built");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|line| line.starts_with("listening")).unwrap_or("nothing").to_owned()
}

/// How many guests have the rule of their address.
fn known() -> usize {
    ebtables().lines().filter(|line| line.starts_with("-A I-vnet") && line.contains("-arp-ip -p ARP --arp-ip-src 10.40.")).count()
}

fn ebtables() -> String {
    let output = Command::new("ebtables-save").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().expect("`ebtables-save` runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
