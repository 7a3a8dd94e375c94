//! Policy to rules, in libvirt's layout: every network and guest into its own chains and its blocks in the shared ones.
//!
//! [`network`] follows networks.md section 3, [`bridge_filter`] and [`ip_filter`] nwfilter.md sections 2 to 4, [`hooks`] makes what
//! all of them hang on. Objects are compiled one by one and know nothing of each other, so that one can be held, closed or
//! taken from the record in place of its fresh rules.

pub mod bridge_filter;
pub mod hooks;
pub mod ip_filter;
pub mod network;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::addr::DeviceName;
use crate::diagnostic::Diagnostic;
use crate::model::{Object, Quirks};
use crate::resolve::{Held, Resolved};
use crate::ruleset::ChainId;
use crate::ruleset::rule::Rule;
use crate::source::Span;

/// The rules of every object, by object.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    /// What each object wants. An object that wants nothing (an open network, an empty filter) is here all the same.
    pub objects: BTreeMap<Object, ObjectRules>,
    /// Objects that cannot be compiled, beside those that could not be resolved.
    pub held: Vec<Held>,
    /// What was found on the way.
    pub diagnostics: Vec<Diagnostic>,
}

/// What one object wants in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectRules {
    /// What tells its rules in shared chains from everybody else's.
    pub keys: BTreeSet<Key>,
    /// Chains that are its own, whole; empty ones included.
    pub chains: BTreeMap<ChainId, Vec<PlacedRule>>,
    /// Its blocks in base chains, and its hooks in built-in chains of ebtables, first to last.
    pub shared: BTreeMap<ChainId, Vec<PlacedRule>>,
}

/// What a rule in a shared chain is recognised by (design section 4, ownership).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A guest's device: `--physdev-in`, `--physdev-out`; `-i`, `-o` of ebtables.
    Guest(DeviceName),
    /// A network's bridge: `-i`, `-o` in the LIBVIRT_ chains.
    Bridge(DeviceName),
    /// A network's subnet: `-s` in nat LIBVIRT_PRT.
    Subnet(IpNet),
}

/// A rule and the XML element that it came from; `None` for a rule from the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedRule {
    /// The rule in normal form.
    pub rule: Rule,
    /// The element.
    pub place: Option<Span>,
}

/// Compiles every object of the policy.
pub fn compile(resolved: &Resolved, quirks: Quirks) -> Compiled {
    let _ = (resolved, quirks);
    Compiled::default()
}

/// A guest that may neither send nor receive: `-j DROP` alone in both of its ebtables root chains.
pub fn closed(device: &DeviceName) -> ObjectRules {
    let _ = device;
    ObjectRules::default()
}
