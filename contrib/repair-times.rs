//! How long it takes until tampered rules are back, and how much work a fight costs: `make repair-times`.
//!
//! In a network namespace of its own with 100 guests and 3 networks, under `run`. A time is taken from the commit of the tampering to the last commit of the repair, both as
//! the kernel announces them, so that looking does not slow down what is looked at; afterwards the rules are compared. Beside it stands the raw restore: the time of the tool
//! alone, from its start to its end, for the same rules. Arguments: `--tries N` (50), `--fight SECONDS` (120).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use bridgeward::monitor::rules::RuleMonitor;

const GUESTS: usize = 100;
/// Nothing was committed for so long: whatever was going on is over.
const QUIET: Duration = Duration::from_millis(300);
/// A repair that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// A way to break the rules, and how the tools alone would put back what it took.
struct Kind {
    name: &'static str,
    tampering: &'static str,
    author: &'static str,
    raw: &'static str,
}

const ALL: &str = "iptables-restore <iptables.save; ip6tables-restore <ip6tables.save; ebtables-restore <ebtables.save";

const KINDS: [Kind; 8] = [
    Kind { name: "iptables -F", tampering: "iptables -F", author: "iptables", raw: "iptables-restore <iptables.save" },
    Kind {
        name: "ip6tables -F; -X",
        tampering: "ip6tables -F; ip6tables -X || true",
        author: "ip6tables",
        raw: "ip6tables-restore <ip6tables.save",
    },
    Kind {
        name: "ebtables -t nat -F; -X",
        tampering: "ebtables -t nat -F; ebtables -t nat -X || true",
        author: "ebtables",
        raw: "ebtables-restore <ebtables.save",
    },
    Kind { name: "nft flush ruleset", tampering: "nft flush ruleset", author: "nft", raw: ALL },
    Kind {
        name: "a hook deleted",
        tampering: "iptables -D FORWARD -j libvirt-in",
        author: "iptables",
        raw: "iptables -I FORWARD -j libvirt-in",
    },
    Kind {
        name: "a rule edited in place",
        tampering: "iptables -R FO-vnet7 1 -j ACCEPT",
        author: "iptables",
        raw: "iptables -R FO-vnet7 1 -j RETURN",
    },
    Kind {
        name: "a foreign accept inserted",
        tampering: "iptables -I FO-vnet7 -j ACCEPT",
        author: "iptables",
        raw: "iptables -D FO-vnet7 1",
    },
    Kind {
        name: "an ebtables policy changed",
        tampering: "ebtables -t nat -P libvirt-I-vnet7 DROP",
        author: "ebtables",
        raw: "ebtables -t nat -P libvirt-I-vnet7 ACCEPT",
    },
];

fn main() {
    if std::env::var_os("BRIDGEWARD_REPAIR_TIMES").is_none() {
        let mut again = Command::new("unshare");
        again.args(["--net", "--mount", "--"]).arg(std::env::current_exe().expect("we run")).args(std::env::args_os().skip(1));
        let status = again.env("BRIDGEWARD_REPAIR_TIMES", "inside").status().expect("`unshare` runs (Debian package util-linux)");
        std::process::exit(status.code().unwrap_or(2));
    }
    let (tries, fight) = (argument("--tries", 50), argument("--fight", 120));
    sh(Path::new("/"), "mount --make-rprivate /; mount -t tmpfs tmpfs /run; ip link set lo up");
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let place = directory.path();
    write_state(&place.join("state"));
    let heard = listen();
    if tries > 0 {
        repairs(place, &heard, tries);
    }
    if fight > 0 {
        fight_for(place, &heard, Duration::from_secs(fight as u64));
    }
}

/// The number after an option; everything else that `cargo bench` passes is left alone.
fn argument(name: &str, default: usize) -> usize {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|argument| argument == name);
    at.map_or(default, |at| arguments.get(at + 1).and_then(|number| number.parse().ok()).expect("a number follows the option"))
}

fn write_state(state: &Path) {
    fs::create_dir(state).expect("the directory is ours");
    let write = |name: String, text: String| fs::write(state.join(name), text).expect("the directory takes files");
    for number in 0..3 {
        write(
            format!("lab{number}.xml"),
            format!(
                "<network><name>lab{number}</name><bridge name='br-lab{number}'/><forward mode='nat'/>
            <ip address='10.4{number}.0.1' prefix='24'/><ip family='ipv6' address='fd4{number}::1' prefix='64'/></network>"
            ),
        );
    }
    write(
        "web.xml".into(),
        "<filter name='web' chain='root'><filterref filter='clean-traffic'/>
        <rule action='accept' direction='in'><tcp dstportstart='443'/></rule>
        <rule action='drop' direction='in'><all/></rule><rule action='drop' direction='in'><all-ipv6/></rule></filter>"
            .into(),
    );
    for number in 0..GUESTS {
        write(
            format!("vnet{number}.xml"),
            format!(
                "<filterbinding><owner><name>vm{number}</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1{number:03}</uuid></owner>
            <portdev name='vnet{number}'/><mac address='52:54:00:40:00:{number:02x}'/>
            <filterref filter='web'><parameter name='IP' value='10.4{}.0.{}'/></filterref></filterbinding>",
                number % 3,
                number + 10
            ),
        );
    }
}

/// One announced commit.
#[derive(Clone)]
struct Commit {
    at: Instant,
    command: String,
}

impl Commit {
    /// The daemon writes with these tools, and nobody else in here does.
    fn is_repair(&self) -> bool {
        self.command.contains("tables-rest") || self.command.contains("tables-nft-rest")
    }
}

type Heard = Arc<Mutex<Vec<Commit>>>;

/// Notes every commit with its time, on a thread of its own.
fn listen() -> Heard {
    let heard = Heard::default();
    let (notes, ready) = (Arc::clone(&heard), Arc::new(std::sync::Barrier::new(2)));
    let listening = Arc::clone(&ready);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let bell = Arc::new(tokio::sync::Notify::new());
            let monitor = RuleMonitor::new(Arc::clone(&bell)).expect("the kernel has nf_tables and we are root");
            listening.wait();
            loop {
                bell.notified().await;
                let at = Instant::now();
                let commits = monitor
                    .take()
                    .transactions
                    .into_iter()
                    .filter_map(|transaction| Some(Commit { at, command: transaction.writer?.command }));
                notes.lock().expect("nobody panics here").extend(commits);
            }
        });
    });
    ready.wait();
    heard
}

fn sh(place: &Path, script: &str) -> String {
    let output = Command::new("bash").args(["-c", script]).current_dir(place).output().expect("`bash` runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All rules, in any order: guests that come back one after another may stand in another one.
fn rules(place: &Path) -> BTreeSet<String> {
    let text = sh(place, "iptables-save; ip6tables-save; ebtables-save");
    text.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
}

/// The daemon; killed when dropped.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The whole group: a daemon would outlive the strace that started it.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start(place: &Path, before: &[&str]) -> Self {
        let log = place.join("run.log");
        let file = fs::File::create(&log).expect("the directory is ours");
        let words: Vec<&str> =
            before.iter().copied().chain([env!("CARGO_BIN_EXE_bridgeward"), "--state", "state", "run", "--poll", "1h"]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(place).stdin(Stdio::null()).stderr(file).process_group(0);
        let child = command.spawn().expect("it starts");
        let daemon = Self { child, log };
        daemon.wait_for("state applied", 0);
        daemon
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is ours")
    }

    fn wait_for(&self, words: &str, from: usize) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said()[from..].contains(words) {
            assert!(Instant::now() < deadline, "the daemon never said `{words}`:\n{}", self.said());
            sleep(Duration::from_millis(5));
        }
    }

    /// Has it look at everything and forget earlier fights, so that each try is a first one.
    fn calm(&self) {
        let from = self.said().len();
        sh(Path::new("/"), &format!("kill -HUP {}", self.child.id()));
        self.wait_for("cause=hangup", from);
        sleep(QUIET);
    }
}

/// Waits until nothing was committed for a while.
fn settle(heard: &Heard) {
    let deadline = Instant::now() + PATIENCE;
    while heard.lock().expect("nobody panics here").last().is_some_and(|last| last.at.elapsed() < QUIET) {
        assert!(Instant::now() < deadline, "it never becomes quiet");
        sleep(Duration::from_millis(20));
    }
}

fn repairs(place: &Path, heard: &Heard, tries: usize) {
    let daemon = Daemon::start(place, &[]);
    settle(heard);
    let good = rules(place);
    sh(place, "for tool in iptables ip6tables ebtables; do $tool-save >$tool.save; done");
    println!("{GUESTS} guests, 3 networks, {} rules; {tries} tries each; milliseconds\n", good.len());
    let mut times = vec![Vec::new(); KINDS.len()];
    let mut named = vec![0; KINDS.len()];
    for _ in 0..tries {
        for (at, kind) in KINDS.iter().enumerate() {
            daemon.calm();
            let said = daemon.said().len();
            times[at].push(one_repair(place, heard, kind, &good));
            daemon.wait_for("drift repaired", said);
            named[at] += usize::from(daemon.said()[said..].contains(&format!("rules changed by {}[", kind.author)));
        }
    }
    drop(daemon);
    println!(
        "{:28} {:>8} {:>8} {:>8} {:>8}   {:>8} {:>8} {:>8}   named",
        "tampering to repair", "min", "median", "p95", "max", "raw min", "median", "p95"
    );
    for (at, kind) in KINDS.iter().enumerate() {
        let mut raw: Vec<Duration> = (0..tries).map(|_| raw_restore(place, kind)).collect();
        let (repair, raw) = (distribution(&mut times[at]), distribution(&mut raw));
        println!(
            "{:28} {:8.1} {:8.1} {:8.1} {:8.1}   {:8.1} {:8.1} {:8.1}   {}/{tries}",
            kind.name, repair[0], repair[1], repair[2], repair[3], raw[0], raw[1], raw[2], named[at]
        );
    }
}

/// From the last commit of the tampering to the last commit of the repair.
fn one_repair(place: &Path, heard: &Heard, kind: &Kind, good: &BTreeSet<String>) -> Duration {
    heard.lock().expect("nobody panics here").clear();
    sh(place, kind.tampering);
    let deadline = Instant::now() + PATIENCE;
    loop {
        settle(heard);
        let repaired = heard.lock().expect("nobody panics here").last().is_some_and(Commit::is_repair);
        if repaired && rules(place) == *good {
            break;
        }
        assert!(Instant::now() < deadline, "{} was not repaired", kind.name);
        sleep(Duration::from_millis(20));
    }
    let commits = heard.lock().expect("nobody panics here");
    let tampered = commits.iter().rfind(|commit| !commit.is_repair()).expect("it was heard").at;
    commits.last().expect("there is one").at - tampered
}

fn raw_restore(place: &Path, kind: &Kind) -> Duration {
    sh(place, &format!("{ALL}; {}", kind.tampering));
    let started = Instant::now();
    sh(place, kind.raw);
    started.elapsed()
}

/// Minimum, median, 95th percentile and maximum, in milliseconds.
fn distribution(times: &mut [Duration]) -> [f64; 4] {
    times.sort();
    let last = times.len() - 1;
    [0, last / 2, last * 95 / 100, last].map(|at| times[at].as_secs_f64() * 1000.0)
}

/// Deletes a rule every 100 ms; counts the processes that the daemon starts meanwhile, and looks at another chain now and then.
fn fight_for(place: &Path, heard: &Heard, length: Duration) {
    sh(place, "nft flush ruleset; rm -rf /run/bridgeward");
    let trace = place.join("trace");
    let daemon = Daemon::start(place, &["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", "trace"]);
    settle(heard);
    let good = rules(place);
    let started =
        |trace: &Path| fs::read_to_string(trace).expect("strace writes it").lines().filter(|line| line.contains("execve(\"")).count();
    let before = started(&trace);
    let mut undo =
        Command::new("bash").args(["-c", "while :; do iptables -D FO-vnet7 1 2>/dev/null; sleep 0.1; done"]).spawn().expect("`bash` runs");
    let begun = Instant::now();
    let mut others = Vec::new();
    let mut first_minute = None;
    while begun.elapsed() < length {
        sleep(Duration::from_secs(5));
        if begun.elapsed() > length / 2 && first_minute.is_none() {
            first_minute = Some(started(&trace) - before);
        }
        others.push(other_chain(place, heard));
    }
    let work = started(&trace) - before;
    undo.kill().and_then(|()| undo.wait()).expect("it is our child");
    let over = Instant::now();
    while rules(place) != good {
        assert!(over.elapsed() < PATIENCE, "not repaired after the fight:\n{}", daemon.said());
        sleep(Duration::from_millis(50));
    }
    println!("\na rule of one chain deleted every 100 ms for {} s:", length.as_secs());
    println!(
        "  processes started        {work} ({} of them in the first half), those for {} tamperings with another chain included",
        first_minute.unwrap_or(work),
        others.len()
    );
    let alarm = daemon.said().lines().find(|line| line.contains("somebody keeps undoing")).map(str::to_owned);
    println!("  alarm                    {}", alarm.expect("there is an alarm"));
    let others = distribution(&mut others);
    println!("  another chain repaired   min {:.1} ms, median {:.1} ms, max {:.1} ms", others[0], others[1], others[3]);
    println!("  in order after its end   {:.1} s", over.elapsed().as_secs_f64());
    daemon.wait_for("no longer: somebody keeps undoing our rules", 0);
    println!("  alarm over after         {:.1} s", over.elapsed().as_secs_f64());
}

/// Inserts an accept into a chain of another guest; the time until it is gone.
fn other_chain(place: &Path, heard: &Heard) -> Duration {
    heard.lock().expect("nobody panics here").clear();
    let started = Instant::now();
    sh(place, "iptables -I FO-vnet8 -s 192.0.2.77 -j ACCEPT");
    while sh(place, "iptables -S FO-vnet8").contains("192.0.2.77") {
        assert!(started.elapsed() < PATIENCE, "another chain waits");
        sleep(Duration::from_millis(5));
    }
    started.elapsed()
}
