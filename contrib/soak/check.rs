//! What checks the soak: whether the rules become those that a fresh process makes of the same files, what that took, and whether memory and descriptors are level.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::state::{acme, device, tap_script};
use super::{Cost, Soak, sh};

const SAVE: &str = "for tool in iptables ip6tables ebtables; do echo @$tool; $tool-save; done";
/// How long the rules may take to be right again: a fight can make a repair wait for 10 s, and a look every 10 s is the net below everything.
const PATIENCE: Duration = Duration::from_mins(1);

impl Soak {
    /// Waits until the rules are right, and measures.
    pub(super) fn judge(&mut self, turn: u64) {
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
    pub(super) fn rest(&mut self, turn: u64) {
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

    /// Whether memory and descriptors of the one process were level from its first rest to its last.
    pub(super) fn level(&self) -> bool {
        let (Some(first), Some(last)) = (self.rests.first(), self.rests.last()) else { return true };
        let level = last.rss < first.rss * 5 / 4 + 4096 && last.descriptors <= first.descriptors + 2;
        println!("memory and descriptors: {}", if level { "level" } else { "they GROW" });
        level
    }
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
