//! What each hostile file costs: `cargo bench --bench hostile` runs the release build's `check` on every case alone and prints the time and the memory at its peak.
//!
//! It ends with status 1 when a case takes more than [`TIME_LIMIT`] or [`MEMORY_LIMIT`]. Tests never time; this is run by a person, or nightly, on a machine that
//! does nothing else. A case is measured three times and its best time counts: what is asked is what it costs, not what else went on.

mod large;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const TIME_LIMIT: Duration = Duration::from_millis(100);
/// Bytes of resident memory.
const MEMORY_LIMIT: u64 = 50 << 20;
const RUNS: usize = 3;

struct Cost {
    case: String,
    time: Duration,
    memory: u64,
}

fn main() -> ExitCode {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let idle = measure("(an empty directory)", directory.path());
    let mut costs: Vec<Cost> = write_cases(directory.path()).iter().map(|path| measure(&name(path), path)).collect();
    costs.sort_by_key(|cost| std::cmp::Reverse(cost.time));
    println!("{} cases; the ten slowest, and all above the limits:", costs.len());
    let above = |cost: &Cost| cost.time > TIME_LIMIT || cost.memory > MEMORY_LIMIT;
    for (_, cost) in costs.iter().enumerate().filter(|(rank, cost)| *rank < 10 || above(cost)) {
        print(cost, if above(cost) { "ABOVE" } else { "" });
    }
    let most = costs.iter().max_by_key(|cost| cost.memory).expect("there are cases");
    println!("the most memory:");
    print(most, "");
    println!("for nothing at all:");
    print(&idle, "");
    if costs.iter().any(above) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print(cost: &Cost, mark: &str) {
    let milliseconds = cost.time.as_secs_f64() * 1000.0;
    println!("{milliseconds:>8.1} ms {:>5} MiB  {} {mark}", cost.memory >> 20, cost.case);
}

/// One directory for each case.
fn write_cases(root: &Path) -> Vec<PathBuf> {
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
    let write = |(name, files): (String, large::Files)| {
        let directory = root.join(name);
        fs::create_dir(&directory).expect("a case has its own name");
        for (file, bytes) in files {
            fs::write(directory.join(file), bytes).expect("a file can be written");
        }
        directory
    };
    cases.into_iter().map(write).collect()
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

/// The time from start to end, and the resident memory at its peak in bytes.
#[allow(unsafe_code, clippy::zombie_processes, reason = "no safe call tells what one child used; it is waited for by `wait4`")]
fn run(state: &Path) -> (Duration, u64) {
    let started = Instant::now();
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
    (started.elapsed(), u64::try_from(usage.ru_maxrss).expect("memory is not negative") << 10)
}
