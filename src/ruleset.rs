//! Rule sets as values: tables, chains and typed rules of iptables, ip6tables and ebtables, in one normal form.
//!
//! [`rule`] has the rules; [`normal`] makes two spellings of one rule equal; [`save`] reads what `*-save` and `ebtables -L`
//! print; [`words`] writes what `*-restore` reads. The law that holds them together: `parse(save(restore(rule))) == rule` for
//! every rule that bridgeward emits, on every variant of the tools. Equality is derived and total: "the same rule" never
//! means "looks alike".

pub mod chain_name;
pub mod normal;
pub mod rule;
pub mod save;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rule::Rule;

/// One of the three tools, which is one family of tables in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// iptables
    Ipv4,
    /// ip6tables
    Ipv6,
    /// ebtables
    Bridge,
}

/// A table of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the tools' own")]
pub enum Table {
    Mangle,
    Nat,
    Filter,
    Raw,
    Security,
    Broute,
}

/// The name of a chain, at most 31 bytes, without blanks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName(Arc<str>);

/// A chain of one table of one family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    /// The family.
    pub family: Family,
    /// The table.
    pub table: Table,
    /// The chain.
    pub chain: ChainName,
}

/// Everything that was observed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// One entry per family that was asked for.
    pub families: BTreeMap<Family, Observation>,
}

impl Observed {
    /// The rules of a chain; none where it is not there or could not be read.
    pub fn rules(&self, id: &ChainId) -> &[LiveRule] {
        let Some(Observation::Read(tables)) = self.families.get(&id.family) else { return &[] };
        tables.get(&id.table).and_then(|table| table.chains.get(&id.chain)).map_or(&[], |chain| &chain.rules)
    }
}

/// What looking at one family gave. "Unreadable" is never "empty".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Its tables; one that is not there has never been used.
    Read(BTreeMap<Table, TableRules>),
    /// The tool is there but could not say: the reason in its own words.
    Unreadable(String),
    /// This host has no such tool, or its kernel no such tables: the reason.
    Missing(String),
}

/// One table as observed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableRules {
    /// All its chains. Those outside libvirt's name space that are not built in have their rules skipped.
    pub chains: BTreeMap<ChainName, ChainRules>,
    /// Chains that rules of skipped chains jump or go to: they cannot be deleted.
    pub foreign_targets: BTreeSet<ChainName>,
}

/// One chain as observed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChainRules {
    /// `ACCEPT`, `DROP`; user chains of iptables have none, those of ebtables always do (but `ebtables -L` does not say which).
    pub policy: Option<Policy>,
    /// Its rules from first to last; empty for a skipped chain.
    pub rules: Vec<LiveRule>,
}

/// What happens to a packet that reaches the end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the tools' own")]
pub enum Policy {
    Accept,
    Drop,
    Return,
}

/// A rule in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LiveRule {
    /// One that we understand whole.
    Known(Rule),
    /// One that we do not: everything after `-A CHAIN `, as printed.
    Unknown(Box<str>),
}

impl Family {
    /// All families, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Ipv4, Self::Ipv6, Self::Bridge];

    /// The tool's name: `iptables`, `ip6tables`, `ebtables`.
    pub fn tool(self) -> &'static str {
        match self {
            Self::Ipv4 => "iptables",
            Self::Ipv6 => "ip6tables",
            Self::Bridge => "ebtables",
        }
    }
}

impl Table {
    /// The tools' name of the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
            Self::Raw => "raw",
            Self::Security => "security",
            Self::Broute => "broute",
        }
    }

    /// The table of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Mangle, Self::Nat, Self::Filter, Self::Raw, Self::Security, Self::Broute].into_iter().find(|table| table.as_str() == name)
    }
}

impl fmt::Display for ChainId {
    /// `iptables filter FORWARD`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

impl ChainName {
    /// Wraps a chain's name; that it fits the tool is checked where it is made ([`chain_name`]) or was by the tool itself.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tool())
    }
}
