//! Everything at once, for long: `make soak` (SOAK_SECONDS, 3600; SOAK_SEED, from the clock).
//!
//! In a network namespace of its own, `run` keeps 200 guests while files are edited, broken and mended, taps come and go, rules are flushed and fought over. After each turn
//! the rules have to become those that a fresh process makes of the same files in an empty namespace, chain by chain, and somebody else's have to be as they were. For three
//! quarters of the time one process lives, and its memory and descriptors have to stay level; in the last quarter it is also ended, killed and started again. What was measured
//! after each turn is in `target/soak.csv`; the sums are printed. It ends with status 1 where something was not as it should be.
//!
//! What the files mean while some of them are broken is kept beside them as a second directory, `good`: every file as it was last sound, and deleted ones for as long as anything
//! is broken. So that this does not depend on when the daemon looks, a turn either breaks files, before it writes others, or deletes and
//! mends some.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

const INSIDE: &str = "BRIDGEWARD_SOAK_INSIDE";
const SAVE: &str = "for tool in iptables ip6tables ebtables; do echo @$tool; $tool-save; done";
const GUESTS: std::ops::Range<u64> = 180..220;
/// How long the rules may take to be right again: a fight can make a repair wait for 10 s, and a look every 10 s is the net below everything.
const PATIENCE: Duration = Duration::from_mins(1);
/// Rests, with everything mended and no taps, of the one process: what is measured then has to be level.
const RESTS: u32 = 10;

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        let own = std::env::current_exe().expect("the program has a path");
        let status = Command::new("unshare").args(["--net", "--mount"]).arg(own).env(INSIDE, "1").status();
        let code = status.expect("`unshare` runs (Debian package util-linux)").code();
        return ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")));
    let length = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(3600));
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is set").as_secs();
    let seed = number("SOAK_SEED").unwrap_or(clock);
    println!("seed {seed}, {} s", length.as_secs());
    sh(
        Path::new("/"),
        "mount --make-rprivate /; mount -t tmpfs tmpfs /run; mkdir -p /var/lib/bridgeward; mount -t tmpfs -o mode=0700 tmpfs /var/lib/bridgeward; ip link set lo up",
    );
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut soak = Soak::start(directory.path(), seed);
    soak.run(length);
    soak.print();
    if soak.level() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn sh(place: &Path, script: &str) -> String {
    let output = Command::new("bash").args(["-c", script]).current_dir(place).output().expect("`bash` runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// xorshift64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        let count = of.len() as u64;
        (count > 0).then(|| of[usize::try_from(self.below(count)).expect("an index")].clone())
    }
}

/// What may happen to the files in a turn.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Breaks,
    DeletesAndMends,
}

/// What one process took.
#[derive(Clone, Copy)]
struct Cost {
    rss: u64,
    descriptors: usize,
    threads: u64,
}

struct Soak {
    place: PathBuf,
    dice: Dice,
    daemon: Child,
    fighter: Option<Child>,
    /// The text of every file as it was last sound, by the file's name.
    good: BTreeMap<String, String>,
    broken: BTreeSet<String>,
    /// Whether this turn wrote a sound file or took a tap away: whether the daemon saw it before another file broke would be a matter of time.
    written: bool,
    /// Deleted while something was broken.
    leaving: BTreeSet<String>,
    taps: BTreeSet<u64>,
    counts: BTreeMap<&'static str, u64>,
    settled: Vec<Duration>,
    rests: Vec<Cost>,
    csv: File,
    begun: Instant,
    seed: u64,
}

impl Soak {
    fn start(place: &Path, seed: u64) -> Self {
        for directory in ["state", "good"] {
            fs::create_dir(place.join(directory)).expect("the directory is ours");
        }
        let csv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak.csv");
        let mut csv = File::create(csv).expect("the target directory takes files");
        writeln!(csv, "seconds,turn,rss_kib,descriptors,threads,record_kib,guests,taps,broken,settle_ms").expect("the disk takes it");
        let mut soak = Self {
            place: place.to_owned(),
            dice: Dice(seed | 1),
            daemon: daemon(place),
            fighter: None,
            good: BTreeMap::new(),
            broken: BTreeSet::new(),
            written: false,
            leaving: BTreeSet::new(),
            taps: BTreeSet::new(),
            counts: BTreeMap::new(),
            settled: Vec::new(),
            rests: Vec::new(),
            csv,
            begun: Instant::now(),
            seed,
        };
        for number in 0..3 {
            soak.write(&format!("lab{number}.xml"), network(number, 0));
            soak.write(&format!("filter{number}.xml"), filter(number, 0));
        }
        for number in 0..200 {
            let text = guest(number, number % 3, 0);
            soak.write(&format!("vnet{number}.xml"), text);
        }
        soak.neighbour();
        soak.judge(0);
        soak
    }

    fn run(&mut self, length: Duration) {
        self.begun = Instant::now();
        let alone = length * 3 / 4;
        let mut turn = 0;
        while self.begun.elapsed() < length {
            turn += 1;
            let restarts = self.begun.elapsed() >= alone;
            self.turn(restarts);
            self.judge(turn);
            let due = alone * (u32::try_from(self.rests.len()).expect("a few") + 1) / RESTS;
            if self.rests.len() < RESTS as usize && self.begun.elapsed() >= due {
                self.rest(turn);
            }
        }
        *self.counts.entry("turns").or_default() = turn;
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        assert_eq!(self.daemon.wait().expect("it is our child").code(), Some(0), "it ends when it is asked to");
    }

    fn turn(&mut self, restarts: bool) {
        self.written = false;
        let turn = if self.dice.below(3) == 0 { Turn::Breaks } else { Turn::DeletesAndMends };
        if turn == Turn::DeletesAndMends {
            for name in self.broken.clone().into_iter().filter(|name| name.starts_with("filter")) {
                self.mend(&name);
            }
        }
        if self.dice.below(20) == 0 {
            self.count("fights");
            let chain = self.some_chain();
            let undo = format!("for _ in $(seq {}); do iptables -D {chain} 1 2>/dev/null; sleep 0.1; done", 30 + self.dice.below(80));
            self.fighter = Some(Command::new("bash").args(["-c", &undo]).spawn().expect("`bash` runs"));
        }
        for _ in 0..=self.dice.below(10) {
            match self.dice.below(if restarts { 16 } else { 14 }) {
                0..=6 => self.edit(turn),
                7 | 8 => self.flush(),
                9 | 10 => self.tamper(),
                11 | 12 => self.tap(),
                13 => self.signal("HUP"),
                14 => self.restart("TERM"),
                _ => self.restart("KILL"),
            }
            if self.dice.below(3) == 0 {
                sleep(Duration::from_millis(self.dice.below(400)));
            }
        }
        if let Some(mut fighter) = self.fighter.take() {
            fighter.wait().expect("it is our child");
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn edit(&mut self, turn: Turn) {
        let guests: Vec<String> = self
            .good
            .keys()
            .filter(|name| name.starts_with("vnet") && !self.broken.contains(*name) && !self.leaving.contains(*name))
            .cloned()
            .collect();
        let count = guests.len() as u64;
        let variant = self.dice.below(100);
        match self.dice.below(8) {
            0 | 1 if count < GUESTS.end => {
                let number = self.dice.below(240);
                let name = format!("vnet{number}.xml");
                if !self.good.contains_key(&name) || self.leaving.contains(&name) {
                    self.write_guest(number, variant);
                    self.count("guests added");
                }
            }
            0 | 1 if turn == Turn::DeletesAndMends && count > GUESTS.start => {
                let name = self.dice.one(&guests).expect("there are guests");
                self.delete(&name);
            }
            2 | 3 if turn == Turn::DeletesAndMends => {
                if let Some(name) = self.dice.one(&self.broken.iter().cloned().collect::<Vec<_>>()) {
                    self.mend(&name);
                } else if count > GUESTS.start {
                    let name = self.dice.one(&guests).expect("there are guests");
                    self.delete(&name);
                }
            }
            2 | 3 if !self.written && self.broken.len() < 4 => {
                let all: Vec<String> = self.good.keys().filter(|name| !self.leaving.contains(*name)).cloned().collect();
                let name = self.dice.one(&all).expect("there are files");
                self.break_file(&name);
            }
            4 => {
                let number = self.dice.below(3);
                let name = format!("lab{number}.xml");
                if !self.broken.contains(&name) {
                    self.write(&name, network(number, variant % 4));
                    self.count("networks edited");
                }
            }
            // Who is held keeps the rules that the filter had then.
            5 if turn == Turn::DeletesAndMends && self.broken.is_empty() => {
                let number = self.dice.below(3);
                self.write(&format!("filter{number}.xml"), filter(number, variant % 5));
                self.count("filters edited");
            }
            6 => {
                fs::write(self.place.join("state/.vnet1.xml.swp"), "junk").expect("the directory is ours");
                fs::write(self.place.join("state/vnet1.xml~"), "<junk").expect("the directory is ours");
                self.count("editors' leavings");
            }
            _ => {
                let name = self.dice.one(&guests).expect("there are guests");
                let number = name.trim_start_matches("vnet").trim_end_matches(".xml").parse().expect("our own name");
                self.write_guest(number, variant);
                self.count("guests edited");
            }
        }
    }

    /// Not with a filter that is broken: the guest would be held with what it had.
    fn write_guest(&mut self, number: u64, variant: u64) {
        let sound: Vec<u64> = (0..3).filter(|number| !self.broken.contains(&format!("filter{number}.xml"))).collect();
        let name = format!("vnet{number}.xml");
        let uses_broken =
            |text: &String| (0..3).any(|number| !sound.contains(&number) && text.contains(&format!("filter='filter{number}'")));
        if self.broken.contains(&name) || self.good.get(&name).is_some_and(uses_broken) {
            return;
        }
        if let Some(filter) = self.dice.one(&sound) {
            self.write(&name, guest(number, filter, variant));
        }
    }

    /// As a careful editor does it, or as a careless one.
    fn write(&mut self, name: &str, text: String) {
        self.written = true;
        self.put(name, &text);
        fs::write(self.place.join("good").join(name), &text).expect("the directory is ours");
        self.good.insert(name.to_owned(), text);
        self.leaving.remove(name);
    }

    fn put(&mut self, name: &str, text: &str) {
        let file = self.place.join("state").join(name);
        if self.dice.below(4) == 0 {
            fs::write(file, text).expect("the directory is ours");
        } else {
            let temporary = file.with_extension("new");
            fs::write(&temporary, text).expect("the directory is ours");
            fs::rename(&temporary, file).expect("a file can be renamed in its directory");
        }
    }

    fn delete(&mut self, name: &str) {
        fs::remove_file(self.place.join("state").join(name)).expect("it is there");
        self.leaving.insert(name.to_owned());
        self.let_go();
        self.count("guests deleted");
    }

    /// What was deleted goes when nothing is broken any more.
    fn let_go(&mut self) {
        if self.broken.is_empty() {
            for name in std::mem::take(&mut self.leaving) {
                fs::remove_file(self.place.join("good").join(&name)).expect("it is there");
                self.good.remove(&name);
            }
        }
    }

    fn break_file(&mut self, name: &str) {
        let text = &self.good[name];
        let half = text[..text.len() / 2].to_owned();
        self.put(name, &half);
        self.broken.insert(name.to_owned());
        self.count("files broken");
    }

    fn mend(&mut self, name: &str) {
        let text = self.good[name].clone();
        self.put(name, &text);
        self.broken.remove(name);
        self.let_go();
        self.count("files mended");
    }

    fn some_chain(&mut self) -> String {
        let chains = sh(&self.place, "iptables -S | sed -n 's/^-N \\(F[IO]-.*\\)/\\1/p'");
        let chains: Vec<&str> = chains.lines().collect();
        self.dice.one(&chains).unwrap_or("LIBVIRT_INP").to_owned()
    }

    fn flush(&mut self) {
        let kinds = [
            "iptables -F",
            "ip6tables -F; ip6tables -X || true",
            "ebtables -t nat -F; ebtables -t nat -X || true",
            "nft flush ruleset",
            "iptables -t nat -F; iptables -t mangle -F",
            "nft delete table bridge nat || true",
        ];
        let kind = self.dice.one(&kinds).expect("there are kinds");
        sh(&self.place, kind);
        self.neighbour();
        self.count("flushes");
    }

    fn tamper(&mut self) {
        let chain = self.some_chain();
        let kinds = [
            format!("iptables -D {chain} 1"),
            format!("iptables -I {chain} -j ACCEPT"),
            format!("iptables -A {chain} -s 192.0.2.7 -m comment --comment mine -j DROP"),
            "iptables -D FORWARD -j libvirt-in".to_owned(),
            "ip6tables -F libvirt-out".to_owned(),
            "ebtables -t nat -F PREROUTING".to_owned(),
            "ebtables -t nat -P libvirt-I-vnet7 DROP".to_owned(),
            "iptables -F ACME; iptables -D FORWARD -j ACME".to_owned(),
        ];
        let kind = self.dice.one(&kinds).expect("there are kinds");
        // What it is aimed at may just not be there.
        sh(&self.place, &format!("{{ {kind}; }} 2>/dev/null || true"));
        self.neighbour();
        self.count("rules tampered with");
    }

    /// Brings somebody else's rules back, as he would.
    fn neighbour(&mut self) {
        sh(
            &self.place,
            &format!(
                "iptables-restore --noflush <<'END'\n{}END\niptables -C FORWARD -j ACME 2>/dev/null || iptables -I FORWARD -j ACME",
                acme()
            ),
        );
    }

    fn tap(&mut self) {
        let number = self.dice.below(24) * 10 + self.dice.below(2);
        if self.taps.contains(&number) {
            // Rules that go with a tap stay while something is broken.
            if self.broken.is_empty() && self.leaving.is_empty() {
                sh(&self.place, &format!("ip link del {}", device(number)));
                self.taps.remove(&number);
                self.written = true;
                self.count("taps gone");
            }
        } else {
            sh(&self.place, &tap_script(number));
            self.taps.insert(number);
            self.count("taps come");
        }
    }

    fn signal(&mut self, name: &str) {
        sh(&self.place, &format!("kill -{name} {}", self.daemon.id()));
        self.count("hangups");
    }

    fn restart(&mut self, signal: &str) {
        let _ = Command::new("kill").args([&format!("-{signal}"), &self.daemon.id().to_string()]).status();
        self.daemon.wait().expect("it is our child");
        if self.dice.below(2) == 0 {
            self.flush();
        }
        self.daemon = daemon(&self.place);
        self.count("restarts");
    }

    /// Waits until the rules are right, and measures.
    fn judge(&mut self, turn: u64) {
        let expected = self.fresh();
        let started = Instant::now();
        loop {
            let live = sh(&self.place, SAVE);
            let found = chains(&live);
            if found == expected {
                let theirs: String =
                    live.lines().filter(|line| line.starts_with("-A ACME")).fold(String::new(), |all, line| all + line + "\n");
                assert_eq!(format!("*filter\n:ACME - [0:0]\n{theirs}COMMIT\n"), acme(), "somebody else's rules");
                break;
            }
            if let Some(status) = self.daemon.try_wait().expect("it is our child") {
                panic!("seed {}, turn {turn}: the daemon ended: {status}\n{}", self.seed, self.said());
            }
            if started.elapsed() > PATIENCE {
                let kept = std::env::temp_dir().join(format!("soak-{}", self.seed));
                let _ = Command::new("cp").arg("-a").arg(&self.place).arg(&kept).status();
                panic!(
                    "seed {}, turn {turn}: not right after {PATIENCE:?}; broken: {:?}; what was kept: {}\n{}\n{}",
                    self.seed,
                    self.broken,
                    kept.display(),
                    difference(&expected, &found),
                    self.said()
                );
            }
            sleep(Duration::from_millis(50));
        }
        let settled = started.elapsed();
        self.settled.push(settled);
        let cost = self.cost();
        let record = sh(&self.place, "du -sk /run/bridgeward | cut -f1");
        let guests = self.good.keys().filter(|name| name.starts_with("vnet")).count();
        writeln!(
            self.csv,
            "{},{turn},{},{},{},{},{guests},{},{},{}",
            self.begun.elapsed().as_secs(),
            cost.rss,
            cost.descriptors,
            cost.threads,
            record.trim(),
            self.taps.len(),
            self.broken.len(),
            settled.as_millis()
        )
        .expect("the disk takes it");
    }

    /// What a process that knows nothing makes of the sound files on a host with the same taps.
    fn fresh(&self) -> Chains {
        let taps = self.taps.iter().fold(String::new(), |all, number| all + &tap_script(*number) + "\n");
        let script = format!(
            "set -e; mount --make-rprivate /; mount -t tmpfs tmpfs /run; mount -t tmpfs -o mode=0700 tmpfs /var/lib/bridgeward; ip link set lo up
            {taps}{} --state good apply >/dev/null; {SAVE}",
            env!("CARGO_BIN_EXE_bridgeward")
        );
        let output = Command::new("unshare").args(["--net", "--mount", "bash", "-c", &script]).current_dir(&self.place).output();
        let output = output.expect("`unshare` runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        chains(&String::from_utf8_lossy(&output.stdout))
    }

    /// Everything mended, no taps: what the process takes now can be compared with what it took at another rest.
    fn rest(&mut self, turn: u64) {
        for name in self.broken.clone() {
            self.mend(&name);
        }
        self.judge(turn);
        for number in std::mem::take(&mut self.taps) {
            sh(&self.place, &format!("ip link del {}", device(number)));
        }
        self.judge(turn);
        sleep(Duration::from_secs(5));
        let cost = self.cost();
        self.rests.push(cost);
    }

    fn cost(&self) -> Cost {
        let path = |name: &str| format!("/proc/{}/{name}", self.daemon.id());
        let status = fs::read_to_string(path("status")).expect("the daemon lives");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_matches(|character: char| !character.is_ascii_digit()).parse().expect("the kernel prints numbers")
        };
        Cost { rss: field("VmRSS"), descriptors: fs::read_dir(path("fd")).expect("the daemon lives").count(), threads: field("Threads") }
    }

    fn said(&self) -> String {
        let log = fs::read_to_string(self.place.join("run.log")).expect("the log is ours");
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn print(&mut self) {
        println!("{:?}", self.counts);
        self.settled.sort();
        let last = self.settled.len() - 1;
        let at = |part: usize| self.settled[last * part / 100].as_secs_f64();
        println!("right again after: median {:.2} s, 95th percentile {:.2} s, at most {:.2} s", at(50), at(95), at(100));
        for (number, cost) in self.rests.iter().enumerate() {
            println!("rest {number}: {} KiB resident, {} descriptors, {} threads", cost.rss, cost.descriptors, cost.threads);
        }
    }

    /// Whether memory and descriptors of the one process were level from its first rest to its last.
    fn level(&self) -> bool {
        let (Some(first), Some(last)) = (self.rests.first(), self.rests.last()) else { return true };
        let level = last.rss < first.rss * 5 / 4 + 4096 && last.descriptors <= first.descriptors + 2;
        println!("memory and descriptors: {}", if level { "level" } else { "they GROW" });
        level
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        if let Some(mut fighter) = self.fighter.take() {
            let _ = fighter.kill().and_then(|()| fighter.wait());
        }
    }
}

fn daemon(place: &Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(place.join("run.log")).expect("the directory is ours");
    let mut run = Command::new(env!("CARGO_BIN_EXE_bridgeward"));
    run.args(["--state", "state", "run"]).current_dir(place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    run.spawn().expect("the program was built")
}

/// Rules by table and chain; those of chains that networks and guests share in any order, for it depends on who came first.
type Chains = BTreeMap<String, Vec<String>>;

fn chains(save: &str) -> Chains {
    let mut chains = Chains::new();
    let (mut tool, mut table) = ("", "");
    for line in save.lines().filter(|line| !line.contains("ACME")) {
        if line.starts_with('@') {
            tool = line;
        } else if line.starts_with('*') {
            table = line;
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap_or_default();
            chains.entry(format!("{tool} {table} {chain}")).or_default().push(rule.to_owned());
        } else if let Some(chain) = line.strip_prefix(':') {
            let chain = chain.split(" [").next().unwrap_or_default();
            // Built-in ones are there once somebody looked.
            if !chain.chars().take_while(|character| *character != ' ').all(|character| character.is_ascii_uppercase()) {
                chains.entry(format!("{tool} {table} {chain}")).or_default();
            }
        }
    }
    for (name, rules) in &mut chains {
        let shared = ["LIBVIRT_", "libvirt-in", "libvirt-out", "libvirt-host-in", "PREROUTING", "POSTROUTING"];
        if shared.iter().any(|shared| name.contains(shared)) {
            rules.sort();
        }
    }
    chains
}

fn difference(expected: &Chains, found: &Chains) -> String {
    let mut text = String::new();
    for name in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let (expected, found) = (expected.get(name), found.get(name));
        if expected != found {
            writeln!(text, "{name}\n  expected {expected:?}\n  found    {found:?}").expect("a string takes it");
        }
    }
    text
}

/// Somebody else's chain, as `iptables-save` prints it.
fn acme() -> String {
    let rules = (0..20).fold(String::new(), |all, number| all + &format!("-A ACME -s 198.51.100.{number}/32 -j DROP\n"));
    format!("*filter\n:ACME - [0:0]\n{rules}COMMIT\n")
}

fn network(number: u64, variant: u64) -> String {
    let mode = ["nat", "route", "open", "nat"][usize::try_from(variant).expect("few")];
    let port = if variant == 3 { "<nat><port start='1024' end='2048'/></nat>" } else { "" };
    format!(
        "<network><name>lab{number}</name><bridge name='br-lab{number}'/><forward mode='{mode}'>{port}</forward>
        <ip address='10.4{number}.0.1' prefix='24'><dhcp><range start='10.4{number}.0.9' end='10.4{number}.0.99'/></dhcp></ip>
        <ip family='ipv6' address='fd4{number}::1' prefix='64'/></network>"
    )
}

fn filter(number: u64, variant: u64) -> String {
    let ports = (0..=variant).fold(String::new(), |all, port| {
        all + &format!("<rule action='accept' direction='in'><tcp dstportstart='{}'/></rule>", 440 + port + number * 10)
    });
    format!(
        "<filter name='filter{number}' chain='root'><filterref filter='clean-traffic'/>{ports}
        <rule action='drop' direction='in'><all/></rule><rule action='drop' direction='in'><all-ipv6/></rule></filter>"
    )
}

/// A tenth of the guests is matched to a tap by its address, a tenth learns; those have taps that come and go.
fn guest(number: u64, filter: u64, variant: u64) -> String {
    let ip = format!("<parameter name='IP' value='10.4{}.{}.{}'/>", number % 3, variant, number % 250 + 2);
    let mac = format!("52:54:00:40:{:02x}:{:02x}", number >> 8, number & 255);
    match number % 10 {
        0 => format!(
            "<interface type='bridge'><mac address='{mac}'/><source bridge='br-lab0'/><filterref filter='filter{filter}'>{ip}</filterref></interface>"
        ),
        1 => format!(
            "<interface type='bridge'><mac address='{mac}'/><source bridge='br-lab0'/><target dev='{}'/><filterref filter='filter{filter}'/></interface>",
            device(number)
        ),
        _ => format!(
            "<filterbinding><owner><name>vm{number}</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1{number:03}</uuid></owner>
            <portdev name='{}'/><mac address='{mac}'/><filterref filter='filter{filter}'>{ip}</filterref></filterbinding>",
            device(number)
        ),
    }
}

fn device(number: u64) -> String {
    format!("vnet{number}")
}

fn tap_script(number: u64) -> String {
    let device = device(number);
    format!("ip tuntap add {device} mode tap; ip link set {device} address fe:54:00:40:{:02x}:{:02x} up", number >> 8, number & 255)
}
