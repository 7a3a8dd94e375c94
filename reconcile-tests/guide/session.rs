//! A shell on a host of its own, where a page's commands are run one after another: /etc/bridgeward is empty, the program is in the search path, and what the repository
//! has in `state/` and `contrib/` is in the working directory.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::markdown::ROOT;
use crate::world::World;

/// How long a command may take, and how long what a daemon says may be awaited.
const PATIENCE: Duration = Duration::from_mins(1);

/// Ends what a command printed; its exit status follows.
const END: &str = "\u{1e}";

/// A host and a shell on it.
pub struct Session {
    world: World,
    shell: Child,
    log: PathBuf,
}

impl Session {
    pub fn new() -> Self {
        let world = World::new();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bridgeward"), world.scratch("tools/bridgeward")).expect("the directory takes links");
        world.sh(&format!(
            "mkdir -p /etc/bridgeward /usr/share/bridgeward
             mount -t tmpfs tmpfs /etc/bridgeward
             mount -t tmpfs tmpfs /usr/share/bridgeward
             mkdir /etc/bridgeward/state work
             cp -r {ROOT}/schemas /usr/share/bridgeward/schemas
             cp -r {ROOT}/state {ROOT}/contrib work/
             chown -R root: work
             chmod -R go-w work
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
        ));
        let log = world.scratch("session.log");
        let mut session = Self { shell: world.shell(&log), log, world };
        session.run("cd work");
        session
    }

    /// Writes a block to the file below /etc/bridgeward that its first line names, if it names one.
    pub fn write(&self, text: &str, before: &str, after: &str) {
        let name = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix(before)?.strip_suffix(after))
            .filter(|name| name.starts_with("/etc/bridgeward/"));
        if let Some(name) = name {
            // The mount is the world's own.
            let scratch = self.world.scratch("block");
            fs::write(&scratch, text).expect("the scratch directory takes files");
            self.world.sh(&format!("install -D -m 0644 {} {name}", scratch.display()));
        }
    }

    /// Runs every command of a block.
    pub fn run_all(&mut self, place: &str, text: &str) {
        for command in commands(text) {
            let (said, status) = self.run(&command);
            let program = command.split(' ').find(|word| !word.contains('=')).unwrap_or_default();
            let fine = status == 0 || (status == 1 && program == "bridgeward");
            assert!(fine, "{place}: `{command}` ended with status {status}:\n{said}");
        }
    }

    /// Runs the commands of a session, and compares what they print.
    pub fn replay(&mut self, place: &str, text: &str) {
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let mut command =
                line.strip_prefix("# ").unwrap_or_else(|| panic!("{place}: a session begins with a command: `{line}`")).to_owned();
            while command.ends_with('\\') {
                command.push('\n');
                command.push_str(lines.next().expect("a command ends"));
            }
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("# ")) {
                expected.push(normal(line));
            }
            let begun = self.length();
            self.run(&command);
            // A daemon says what it has to say when it has something to say.
            let deadline = Instant::now() + PATIENCE;
            loop {
                let said = self.said(begun);
                let actual: Vec<String> = said.lines().filter(|line| !line.contains(END)).map(normal).collect();
                if matches(&expected, &actual) {
                    break;
                }
                let ended = !expected.iter().any(|line| line.starts_with("INFO ")) || Instant::now() > deadline;
                assert!(!ended, "{place}: `{command}` does not print this:\n{}\nbut:\n{}", expected.join("\n"), actual.join("\n"));
                thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Runs one command to its end; returns what was printed meanwhile, and its exit status.
    fn run(&mut self, command: &str) -> (String, i32) {
        let since = self.length();
        let stdin = self.shell.stdin.as_mut().expect("the shell's input is piped");
        writeln!(stdin, "{command}\nprintf '{END}%d\\n' $?").expect("the shell lives");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.said(since);
            if let Some((before, after)) = said.rsplit_once(END)
                && let Some((status, _)) = after.split_once('\n')
            {
                return (before.to_owned(), status.parse().expect("a status is a number"));
            }
            assert!(Instant::now() < deadline, "`{command}` does not end: {said}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn length(&self) -> usize {
        usize::try_from(fs::metadata(&self.log).expect("the log is ours").len()).expect("a log is small")
    }

    fn said(&self, since: usize) -> String {
        let bytes = fs::read(&self.log).expect("the log is ours");
        String::from_utf8_lossy(&bytes[since.min(bytes.len())..]).into_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.shell.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.shell.wait();
    }
}

/// The commands of a block: its lines, those that a backslash or a here-document continues made one.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut command = line.to_owned();
        while command.ends_with('\\') {
            command.push('\n');
            command.push_str(lines.next().expect("a command ends"));
        }
        if let Some((_, word)) = line.split_once("<<'") {
            let end = word.split('\'').next().expect("a here-document has an end");
            for line in lines.by_ref() {
                command.extend(["\n", line]);
                if line == end {
                    break;
                }
            }
        }
        if !command.trim().is_empty() && !command.starts_with('#') {
            commands.push(command);
        }
    }
    commands
}

/// Whether the lines are as expected, `...` standing for any.
fn matches(expected: &[String], actual: &[String]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((first, rest)) if first == "..." => (0..=actual.len()).any(|skipped| matches(rest, &actual[skipped..])),
        Some((first, rest)) => actual.first() == Some(first) && matches(rest, &actual[1..]),
    }
}

/// A line without what is another at every run: times, durations, process ids, the version.
fn normal(line: &str) -> String {
    let line = line.trim_end();
    let dated = line.get(..20).is_some_and(|head| head.starts_with("20") && head.as_bytes()[10] == b'T');
    let line = if dated { line.split_once(' ').map_or(line, |(_, rest)| rest.trim_start()) } else { line };
    let mut words = Vec::new();
    for word in line.split(' ') {
        let word = placeholder(word, words.last().map(String::as_str));
        // `5s 1ms` is one duration, and so is `33 ms`.
        let unit = ["ms", "s"].iter().any(|unit| word.trim_end_matches([',', ';']) == *unit);
        if word.starts_with("TIME") && words.last().is_some_and(|last: &String| last == "TIME") {
            words.pop();
        } else if unit && words.last().is_some_and(|last: &String| last.bytes().all(|byte| byte.is_ascii_digit())) {
            words.pop();
            words.push(format!("TIME{}", word.trim_start_matches(['m', 's'])));
            continue;
        }
        words.push(word);
    }
    words.join(" ")
}

fn placeholder(word: &str, before: Option<&str>) -> String {
    let (core, tail) = word.split_at(word.trim_end_matches([',', ';', ')', ':']).len());
    let (key, value) = core.split_once('=').map_or(("", core), |(key, value)| (key, value));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unit = ["ms", "µs", "ns", "us", "s", "m", "h"].iter().find_map(|unit| value.strip_suffix(unit));
    let key = |value: &str| if key.is_empty() { value.to_owned() } else { format!("{key}={value}") };
    if unit.is_some_and(|number| number.split('.').all(digits)) {
        return key("TIME") + tail;
    }
    if before.is_some_and(|before| before.ends_with("process")) && digits(core) {
        return format!("PID{tail}");
    }
    if before == Some("bridgeward") && core.split('.').count() == 3 && core.split('.').all(digits) {
        return format!("VERSION{tail}");
    }
    if let Some((program, id)) = core.strip_suffix(']').and_then(|core| core.rsplit_once('['))
        && digits(id)
    {
        return format!("{program}[PID]{tail}");
    }
    word.to_owned()
}

#[test]
fn what_is_another_at_every_run_is_alike() {
    let lines = [
        ("336 rules added, 0 removed; 8 objects, 0 held, 33 ms", "336 rules added, 0 removed; 8 objects, 0 held, TIME"),
        (
            "2026-11-25T01:31:35.353053Z  INFO in sync cause=start objects=8 took=47.000175ms",
            "INFO in sync cause=start objects=8 took=TIME",
        ),
        (
            "INFO drift repaired cause=rules changed by iptables[3246] inserted=6",
            "INFO drift repaired cause=rules changed by iptables[PID] inserted=6",
        ),
        ("something: bridgeward 0.1.0 (process 77), up 5s 1ms, keeps", "something: bridgeward VERSION (process PID), up TIME, keeps"),
        ("  3s 39ms ago by iptables[3400]: 6 rules, repaired after 106 ms", "  TIME ago by iptables[PID]: 6 rules, repaired after TIME"),
        ("    + iptables filter -A FO-vnet-web --dport 80", "    + iptables filter -A FO-vnet-web --dport 80"),
    ];
    for (line, expected) in lines {
        assert_eq!(normal(line), expected);
    }
}
