//! Which of the tools this host has, of which kind and version; found out without side effects.
//!
//! Only `--version` is run and only `/proc` is read: asking a legacy tool for rules would load its kernel modules.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::process;
use super::refusal;
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainId, Family, words};

/// `--version` reads nothing but the tool itself.
const LIMIT: Duration = Duration::from_secs(10);

/// The command of each family, as configured: a name looked up in `PATH`, or a path. `-save` and `-restore` are appended to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// `iptables`, `iptables-nft`, `iptables-legacy`, ...
    pub ipv4: String,
    /// `ip6tables`, ...
    pub ipv6: String,
    /// `ebtables`, ...
    pub bridge: String,
}

/// Which kernel interface a tool writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// nf_tables: changes are transactions and announce themselves.
    NfTables,
    /// `ip_tables`, `ip6_tables`, `ebtables` of the kernel: whole tables are replaced in silence.
    Legacy,
}

/// A tool's version, `1.8.9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 1
    pub major: u16,
    /// 8
    pub minor: u16,
    /// 9
    pub patch: u16,
}

/// A tool that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its family.
    pub family: Family,
    /// The command as configured.
    pub command: String,
    /// The file that this is on this host.
    pub path: PathBuf,
    /// What it writes to.
    pub variant: Variant,
    /// Its version.
    pub version: Version,
}

/// What was found for every family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// The tool, or why there is none.
    pub families: BTreeMap<Family, Result<Tool, ProbeFailure>>,
}

/// Why a family has no tool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// There is no such program.
    #[error("`{command}` is not installed: no such program {place}")]
    NotInstalled {
        /// The program looked for; one of the tool's three.
        command: String,
        /// Where it was looked for.
        place: String,
    },
    /// It cannot be run, or does not answer as the tool does.
    #[error("`{command} --version` failed: {reason}")]
    Unusable {
        /// The program.
        command: String,
        /// In its own words where it has any.
        reason: String,
    },
    /// It lacks what bridgeward relies on.
    #[error("`{command}` {version} is too old: {lacks}")]
    TooOld {
        /// The program.
        command: String,
        /// What it says it is.
        version: Version,
        /// What is missing.
        lacks: &'static str,
    },
}

/// Asks every family's tool what it is.
pub async fn probe(commands: &Commands) -> Tools {
    let (ipv4, ipv6, bridge) =
        tokio::join!(probe_tool(commands, Family::Ipv4), probe_tool(commands, Family::Ipv6), probe_tool(commands, Family::Bridge));
    Tools { families: BTreeMap::from([(Family::Ipv4, ipv4), (Family::Ipv6, ipv6), (Family::Bridge, bridge)]) }
}

/// The tables that the *legacy* kernel interface of a family holds now, by `/proc/net/ip_tables_names` of the calling thread's namespace; looking makes none.
/// `None` where that cannot be told: for ebtables, whose kernel side has no such list, and without privilege.
pub fn legacy_tables(family: Family) -> Option<Vec<String>> {
    // Not `/proc/net`: that is the namespace of the process' first thread.
    let path = match family {
        Family::Ipv4 => "/proc/thread-self/net/ip_tables_names",
        Family::Ipv6 => "/proc/thread-self/net/ip6_tables_names",
        Family::Bridge => return None,
    };
    match std::fs::read_to_string(path) {
        Ok(names) => Some(names.lines().map(str::to_owned).collect()),
        // The list comes with the kernel module: no list, no tables.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_) => None,
    }
}

/// Whether the tool itself (`iptables -C`) holds this rule to be in the chain: an alarm for our own comparison when a rule does not converge, never a
/// reason to act. Blocking: 3 to 80 ms, with the size of the table. Ask only after the family was observed in the same pass: the tool says `false` for every
/// failure.
///
/// `None` where it cannot be asked: ebtables; a command that is not one of the usual names; the legacy variant, for the `iptables` crate waits for its
/// lock without limit; a rule with quotes, which the crate tears apart.
pub fn tool_says_present(tool: &Tool, chain: &ChainId, rule: &Rule) -> Option<bool> {
    if tool.variant == Variant::Legacy {
        return None;
    }
    let cmd = match (tool.family, tool.command.as_str()) {
        (Family::Ipv4, "iptables") => "iptables",
        (Family::Ipv4, "iptables-nft") => "iptables-nft",
        (Family::Ipv6, "ip6tables") => "ip6tables",
        (Family::Ipv6, "ip6tables-nft") => "ip6tables-nft",
        _ => return None,
    };
    let mut text = String::new();
    words::rule(chain.family, rule, &mut text);
    if text.contains(['"', '\'', '\\']) {
        return None;
    }
    let hand = iptables::IPTables { cmd, has_check: true, has_wait: true, is_numeric: true };
    hand.exists(chain.table.as_str(), chain.chain.as_str(), &text).ok()
}

async fn probe_tool(commands: &Commands, family: Family) -> Result<Tool, ProbeFailure> {
    let command = commands.of(family);
    let path = installed(command, "")?;
    for suffix in ["-save", "-restore"] {
        installed(command, suffix)?;
    }
    let unusable = |reason: String| ProbeFailure::Unusable { command: command.to_owned(), reason };
    let finished = process::run(&path, &["--version"], b"", LIMIT).await.map_err(|failure| unusable(failure.to_string()))?;
    if !finished.status.success() {
        return Err(unusable(format!("{}: {}", refusal::ending(finished.status), finished.words)));
    }
    let answer = String::from_utf8_lossy(&finished.output);
    let (variant, version) =
        parse_version(&answer).ok_or_else(|| unusable(format!("it answered `{}`, which names no version", answer.trim())))?;
    let tool = Tool { family, command: command.to_owned(), path, variant, version };
    second_opinion(&tool).await?;
    Ok(tool)
}

/// Has the `iptables` crate run the tool as well and say whether it has the options that we rely on: it judges by version, as we would have to.
async fn second_opinion(tool: &Tool) -> Result<(), ProbeFailure> {
    if tool.command != tool.family.tool() || tool.family == Family::Bridge {
        // The crate runs `iptables` and `ip6tables` only.
        return Ok(());
    }
    let v6 = tool.family == Family::Ipv6;
    // Its error is neither `Send` nor more than a sentence.
    let opinion = tokio::task::spawn_blocking(move || {
        iptables::new(v6).map(|hand| (hand.has_wait, hand.has_check)).map_err(|error| error.to_string())
    });
    let too_old = |lacks| ProbeFailure::TooOld { command: tool.command.clone(), version: tool.version, lacks };
    match opinion.await {
        Ok(Ok((true, true))) => Ok(()),
        Ok(Ok((false, _))) => Err(too_old("it has no `--wait`, so two writers could undo each other")),
        Ok(Ok((true, false))) => Err(too_old("it has no `-C`")),
        Ok(Err(reason)) => Err(ProbeFailure::Unusable { command: tool.command.clone(), reason }),
        Err(interrupted) => Err(ProbeFailure::Unusable { command: tool.command.clone(), reason: interrupted.to_string() }),
    }
}

fn installed(command: &str, suffix: &str) -> Result<PathBuf, ProbeFailure> {
    let program = format!("{command}{suffix}");
    process::find_program(&program).ok_or_else(|| {
        let path = std::env::var("PATH").unwrap_or_default();
        let place = if program.contains('/') { "there".to_owned() } else { format!("in PATH ({path})") };
        ProbeFailure::NotInstalled { command: program, place }
    })
}

/// Reads `iptables v1.8.9 (nf_tables)`, `ebtables 1.8.9 (nf_tables)`, `ebtables v2.0.11 (legacy) (December 2011)` and, from before there were two
/// variants, `iptables v1.6.1` and `ebtables v2.0.10-4 (December 2011)`.
fn parse_version(answer: &str) -> Option<(Variant, Version)> {
    let line = answer.lines().next()?;
    let variant = if line.contains("(nf_tables)") { Variant::NfTables } else { Variant::Legacy };
    let version = line.split_whitespace().skip(1).find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).map(str::parse::<u16>);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Version { major, minor, patch: numbers.next().and_then(Result::ok).unwrap_or(0) })
    })?;
    Some((variant, version))
}

impl Tool {
    /// The file of `COMMAND`, `COMMAND-save` or `COMMAND-restore`.
    pub(super) fn program(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}

impl Tools {
    /// The tool of a family, or why there is none, in words.
    pub fn of(&self, family: Family) -> Result<&Tool, String> {
        match self.families.get(&family) {
            Some(Ok(tool)) => Ok(tool),
            Some(Err(failure)) => Err(failure.to_string()),
            None => Err(format!("`{}` was not looked for", family.tool())),
        }
    }
}

impl Default for Commands {
    fn default() -> Self {
        let command = |family: Family| family.tool().to_owned();
        Self { ipv4: command(Family::Ipv4), ipv6: command(Family::Ipv6), bridge: command(Family::Bridge) }
    }
}

impl Commands {
    /// The command of one family.
    pub fn of(&self, family: Family) -> &str {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
            Family::Bridge => &self.bridge,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NfTables => "nf_tables",
            Self::Legacy => "legacy",
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u16, minor: u16, patch: u16) -> Version {
        Version { major, minor, patch }
    }

    #[test]
    fn variant_and_version_are_read_from_every_spelling() {
        let cases = [
            ("iptables v1.8.9 (nf_tables)\n", Variant::NfTables, version(1, 8, 9)),
            ("ip6tables v1.8.9 (legacy)\n", Variant::Legacy, version(1, 8, 9)),
            ("ebtables 1.8.11 (nf_tables)\n", Variant::NfTables, version(1, 8, 11)),
            ("ebtables v2.0.11 (legacy) (December 2011)\n", Variant::Legacy, version(2, 0, 11)),
            ("ebtables v2.0.10-4 (December 2011)\n", Variant::Legacy, version(2, 0, 10)),
            ("iptables v1.6.1\n", Variant::Legacy, version(1, 6, 1)),
            ("iptables v1.10 (nf_tables)\n", Variant::NfTables, version(1, 10, 0)),
        ];
        for (answer, variant, version) in cases {
            assert_eq!(parse_version(answer), Some((variant, version)), "{answer}");
        }
    }

    #[test]
    fn an_answer_without_a_version_is_none() {
        for answer in ["", "\n", "busybox", "iptables (nf_tables)", "iptables version one"] {
            assert_eq!(parse_version(answer), None, "{answer}");
        }
    }

    #[test]
    fn all_three_programs_of_a_tool_must_be_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let command = directory.path().join("mytables");
        for suffix in ["", "-save"] {
            let path = format!("{}{suffix}", command.display());
            std::fs::copy("/bin/true", &path).expect("a program");
        }
        let command = command.display().to_string();
        assert!(installed(&command, "").is_ok() && installed(&command, "-save").is_ok());
        let failure = installed(&command, "-restore").expect_err("it is missing");
        assert_eq!(failure.to_string(), format!("`{command}-restore` is not installed: no such program there"));
    }
}
