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

mod check;
mod drive;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use state::{filter, guest, network};

const INSIDE: &str = "BRIDGEWARD_SOAK_INSIDE";
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
    /// Whether this turn wrote a sound file, brought a tap or took one away: whether the daemon saw it before another file broke would be a matter of time.
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

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
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
