//! Which of the tools this host has, of which kind and version; found out without side effects.
//!
//! Only `--version` is run and only `/proc` is read: asking a legacy tool for rules would load its kernel modules.

use std::collections::BTreeMap;
use std::fmt;

use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainId, Family};

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
    #[error("{command} is not installed: no such program in PATH")]
    NotInstalled {
        /// The program looked for.
        command: String,
    },
    /// It cannot be run, or does not answer as the tool does.
    #[error("`{command} --version` failed: {reason}")]
    Unusable {
        /// The program.
        command: String,
        /// In its own words where it has any.
        reason: String,
    },
}

/// Asks every family's tool what it is.
pub async fn probe(commands: &Commands) -> Tools {
    let _ = commands;
    Tools { families: BTreeMap::new() }
}

/// The tables that the *legacy* kernel interface of a family holds now, by `/proc/net/ip_tables_names`; looking makes none.
/// `None` for ebtables, whose kernel side has no such list.
pub fn legacy_tables(family: Family) -> Option<Vec<String>> {
    let _ = family;
    None
}

/// Whether the tool itself (`iptables -C`) holds this rule to be in the chain: an alarm for our own comparison when a rule does not converge, never a
/// reason to act. Blocking, several milliseconds. `None` where it cannot be asked. Ask only after the family was observed in the same pass: the tool
/// says `false` for every failure.
pub fn tool_says_present(tool: &Tool, chain: &ChainId, rule: &Rule) -> Option<bool> {
    let _ = (tool, chain, rule);
    None
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
