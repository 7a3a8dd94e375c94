//! What each hostile file costs: `cargo bench --bench hostile` runs the release build's `check` on every case alone and prints the time and the memory at its peak.
//!
//! It ends with status 1 when a case takes more than [`TIME_LIMIT`] or [`MEMORY_LIMIT`]. Tests never time; this is run by a person, or nightly. What is judged is
//! processor time, which on a machine that does nothing else is the time it takes, and on a busy one hardly more; of three runs the best counts. A machine that needs more
//! than [`IDLE_TIME`] for an empty directory may take as many times as long for everything.
//!
//! What is taken of a file is work, and no attack: whoever may write a guest or a network may give it rules. Some cases ([`TAKEN`]) are mostly that, such as one guest with
//! nearly as many rules as it may have before 1,499 that are refused, and may take [`RULE_TIME`] and [`RULE_MEMORY`] more for each rule. So the most that one file can ask for
//! is the limits and 65,536 rules.
//!
//! The cases are written by a process of its own, which is this program under [`WRITE`]: what a child is said to have used begins with what the process held that
//! started it, and making the cases takes hundreds of megabytes.

mod large;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const TIME_LIMIT: Duration = Duration::from_millis(100);
/// What the machine that the limits are for takes for a directory without files.
const IDLE_TIME: Duration = Duration::from_millis(5);
/// Bytes of resident memory.
const MEMORY_LIMIT: u64 = 50 << 20;
/// For each rule that a guest or a network has and keeps.
const RULE_TIME: Duration = Duration::from_nanos(1_500);
/// Bytes; it is in several chains.
const RULE_MEMORY: u64 = 1_500;
/// The ends of names of cases, and how many rules are taken of them.
const TAKEN: [(&str, u32); 2] = [("product-just-below-the-limit-in-many-guests", 62_500), ("a-hundred-thousand-addresses", 56_000)];
const RUNS: usize = 3;
/// The argument before the directory that takes the cases.
const WRITE: &str = "--write-cases";

struct Cost {
    case: String,
    time: Duration,
    memory: u64,
}

impl Cost {
    /// Whether it is above the limits, on a machine that is so many times slower than the one that they are for.
    fn is_above(&self, slowness: f64) -> bool {
        let rules = TAKEN.iter().find(|(case, _)| self.case.ends_with(case)).map_or(0, |(_, rules)| *rules);
        self.time > (TIME_LIMIT + RULE_TIME * rules).mul_f64(slowness) || self.memory > MEMORY_LIMIT + RULE_MEMORY * u64::from(rules)
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip_while(|argument| argument != WRITE);
    if let Some(directory) = arguments.nth(1) {
        write_cases(Path::new(&directory));
        return ExitCode::SUCCESS;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let idle = measure("(an empty directory)", directory.path());
    let mut costs: Vec<Cost> = cases(directory.path()).iter().map(|path| measure(&name(path), path)).collect();
    costs.sort_by_key(|cost| std::cmp::Reverse(cost.time));
    let slowness = idle.time.div_duration_f64(IDLE_TIME).max(1.0);
    println!("{} cases, on a machine that is {slowness:.1} times slower than the one that the limits are for;", costs.len());
    println!("the ten slowest, and all above {:?} or {} MiB:", TIME_LIMIT.mul_f64(slowness), MEMORY_LIMIT >> 20);
    for (_, cost) in costs.iter().enumerate().filter(|(rank, cost)| *rank < 10 || cost.is_above(slowness)) {
        print(cost, if cost.is_above(slowness) { "ABOVE" } else { "" });
    }
    let most = costs.iter().max_by_key(|cost| cost.memory).expect("there are cases");
    println!("the most memory:");
    print(most, "");
    println!("for nothing at all:");
    print(&idle, "");
    if costs.iter().any(|cost| cost.is_above(slowness)) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print(cost: &Cost, mark: &str) {
    let milliseconds = cost.time.as_secs_f64() * 1000.0;
    println!("{milliseconds:>8.1} ms {:>5} MiB  {} {mark}", cost.memory >> 20, cost.case);
}

/// Has one directory written for each case.
fn cases(root: &Path) -> Vec<PathBuf> {
    let program = std::env::current_exe().expect("a program knows its own file");
    let written = Command::new(program).arg(WRITE).arg(root).status().expect("this program runs again");
    assert!(written.success(), "the cases cannot be written: {written}");
    fs::read_dir(root).expect("the cases are there").map(|entry| entry.expect("they can be listed").path()).collect()
}

fn write_cases(root: &Path) {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("reconcile-tests/hostile");
    let mut cases = Vec::new();
    for entry in fs::read_dir(small).expect("the corpus is there") {
        let path = entry.expect("it can be listed").path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            cases.push((name(&path), vec![("evil.xml".to_owned(), fs::read(&path).expect("the corpus can be read"))]));
        }
    }
    // Just below the limit of a file, and far beyond it.
    for (prefix, scale) in
        [("", large::Scale { million: 280_000, huge: (2 << 20) - 512 }), ("beyond-", large::Scale { million: 1_000_000, huge: 7 << 20 })]
    {
        cases.extend(large::cases(scale).into_iter().map(|(name, files)| (format!("{prefix}{name}"), files)));
    }
    for (name, files) in cases {
        let directory = root.join(name);
        fs::create_dir(&directory).expect("a case has its own name");
        for (file, bytes) in files {
            fs::write(directory.join(file), bytes).expect("a file can be written");
        }
    }
}

fn name(path: &Path) -> String {
    path.file_stem().expect("a case has a name").to_string_lossy().into_owned()
}

fn measure(case: &str, state: &Path) -> Cost {
    let runs: Vec<(Duration, u64)> = (0..RUNS).map(|_| run(state)).collect();
    let time = runs.iter().map(|run| run.0).min().expect("it ran");
    let memory = runs.iter().map(|run| run.1).max().expect("it ran");
    Cost { case: case.to_owned(), time, memory }
}

/// The processor time, and the resident memory at its peak in bytes.
#[allow(unsafe_code, clippy::zombie_processes, reason = "no safe call tells what one child used; it is waited for by `wait4`")]
fn run(state: &Path) -> (Duration, u64) {
    let child = Command::new(env!("CARGO_BIN_EXE_bridgeward"))
        .args(["check", "--color", "never"])
        .arg(state)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let id = i32::try_from(child.id()).expect("process ids are small");
    let mut status = 0;
    // SAFETY: a structure of plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers lead to live variables of the right types; the child is ours and nobody else waits for it.
    let waited = unsafe { libc::wait4(id, &raw mut status, 0, &raw mut usage) };
    assert_eq!(waited, id, "the child can be waited for");
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) <= 2, "`check {}` ended with status {status}", state.display());
    let time = [usage.ru_utime, usage.ru_stime].into_iter().map(|part| {
        let positive = "the kernel counts up from zero";
        Duration::new(u64::try_from(part.tv_sec).expect(positive), u32::try_from(part.tv_usec * 1000).expect(positive))
    });
    (time.sum(), u64::try_from(usage.ru_maxrss).expect("memory is not negative") << 10)
}
