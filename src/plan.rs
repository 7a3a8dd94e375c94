//! Observed and desired rules in, a plan out: every choice is made here, `commit` makes none.
//!
//! [`ownership`] and [`direct`] say which observed rules are ours, [`edit`] finds the smallest change of each chain and
//! [`table`] of each table, [`order`] arranges the changes so that no prefix of them opens what both ends keep closed,
//! [`script`] spells them for `*-restore`, [`show`] prints them for people and [`json`] for machines, [`sealed`] keeps one for later.

pub mod desire;
pub mod direct;
pub mod displaced;
pub mod earlier;
pub mod edit;
pub mod json;
pub mod order;
pub mod ownership;
pub mod prerequisite;
pub mod script;
pub mod sealed;
pub mod show;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::addr::DeviceName;
use crate::compile::hooks::base_chains;
use crate::compile::{Key, ObjectRules};
use crate::model::Object;
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainId, ChainName, Family, LiveRule, Observation, Observed, Policy, Table, TableRules};
use crate::source::Span;
use direct::Possession;
use order::Work;
use table::Wishes;

/// Everything that the kernel should hold, and what may be touched to get there.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// The rules of every object that has any, held ones (from the record) and closed ones included.
    pub objects: BTreeMap<Object, Arc<ObjectRules>>,
    /// Held objects without a record that live in the kernel: what these keys name stays as it is.
    pub frozen: BTreeSet<Key>,
    /// Guests whose chains under libvirt's temporary names were left by a libvirtd that died: those chains go.
    pub leftovers: BTreeSet<DeviceName>,
    /// Keys of what we installed earlier, by the record: ours to remove even though nothing desires it now.
    pub recorded: BTreeSet<Key>,
    /// Keys of what sound objects had earlier, by the record: a network that moved to another subnet has left the old one, whatever file of another object is broken.
    pub outgrown: BTreeSet<Key>,
    /// What is ours straight in built-in chains, by the record.
    pub direct: BTreeMap<ChainId, Possession>,
    /// Objects whose own chains are in the kernel as they want them, which somebody has seen: those chains are not among the observed.
    pub settled: BTreeSet<Object>,
    /// Rules of ours there that belong to objects which are set aside: nobody wants them and they stay.
    pub left: BTreeMap<ChainId, BTreeSet<Rule>>,
    /// Jumps to base chains that were put in a moment ago and are not where they should be ([`displaced`]): they are put in anew.
    pub displaced: BTreeMap<ChainId, BTreeSet<Rule>>,
    /// Base chains that we made, by the record: ours to remove once nothing needs them and they are empty.
    pub made: BTreeSet<ChainId>,
    /// How far our hands reach.
    pub scope: Scope,
    /// Where hooks have to stand.
    pub hooks: HookPlacement,
    /// True while some file is broken: in exclusive scope, too, nothing is then deleted for being absent.
    pub incomplete: bool,
    /// True where a libvirtd runs in this network namespace: base chains then stay.
    pub libvirtd: bool,
}

/// Whose rules are ours (design section 4, ownership).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// What the desired state or the record names.
    #[default]
    Shared,
    /// All of libvirt's name space.
    Exclusive,
}

/// The remark on chains under libvirt's temporary names that lie there.
pub const TEMPORARY_CHAIN: &str = "temporary-chain";

/// The remark on rules of others before ours in a built-in chain; [`prerequisite`] says whom it concerns.
pub const FOREIGN_FIRST: &str = "foreign-rule-first";

/// The remark on jumps to rules of networks before those to guests' filters; likewise.
pub const NETWORK_FIRST: &str = "network-rule-first";

/// Where our jumps must stand in built-in chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HookPlacement {
    /// Once, anywhere.
    #[default]
    Present,
    /// At the head, in our order.
    First,
}

/// A complete change: what to do, in which order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// One after another; within a phase the families are independent and may be committed at the same time.
    pub phases: Vec<Phase>,
    /// What people should know and a plan cannot mend.
    pub remarks: Vec<Remark>,
}

/// Edits that may be committed together: per family, one restore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Phase {
    /// Tables in the order in which the restore commits them.
    pub families: BTreeMap<Family, Vec<TableEdits>>,
}

/// The edits of one table: one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEdits {
    /// Which.
    pub table: Table,
    /// In the order in which they are made; positions count the edits before them.
    pub edits: Vec<Edit>,
    /// True when no rule of anybody is in the table before: then there is no counter that could be lost (see [`script`]).
    pub vacant: bool,
}

/// One line of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What happens.
    pub change: Change,
    /// For whom; `None` for base chains and hooks.
    pub object: Option<Object>,
    /// The XML element behind it; `None` for deletions and rules from the record.
    pub place: Option<Span>,
}

/// What one line of a restore does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// `-N CHAIN`. Not `:CHAIN`, which would flush the chain should somebody have made it meanwhile; `-N` is refused then.
    NewChain(ChainName),
    /// `-P CHAIN POLICY`: only for user chains of ebtables, which have policies
    SetPolicy {
        /// The chain.
        chain: ChainName,
        /// What becomes of a frame at its end.
        policy: Policy,
    },
    /// `-I CHAIN AT RULE`, `at` from 1; one past the end appends
    Insert {
        /// The chain.
        chain: ChainName,
        /// The position that the rule will have.
        at: usize,
        /// The rule.
        rule: Rule,
    },
    /// `-D CHAIN AT`: only in chains that are ours whole
    DeleteAt {
        /// The chain.
        chain: ChainName,
        /// Its position, from 1.
        at: usize,
        /// What stands there, for people.
        rule: LiveRule,
    },
    /// `-D CHAIN RULE`: the first equal rule, in chains that we share
    DeleteRule {
        /// The chain.
        chain: ChainName,
        /// The rule.
        rule: Rule,
    },
    /// `-X CHAIN`, after everything in it and all jumps to it are gone
    DeleteChain(ChainName),
}

/// Something that the plan leaves alone but people should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Stable, kebab-case.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
}

/// Finds the smallest safe change from `observed` to `desired`.
///
/// # Errors
/// When a family that an object needs rules in could not be read, or does not exist on this host.
pub fn plan(desired: &Desired, observed: &Observed) -> Result<Plan, PlanError> {
    let bases = base_chains(&desired.objects);
    let wishes = Wishes::new(desired, &bases);
    let mut families = BTreeMap::new();
    let mut remarks = BTreeSet::new();
    for family in Family::ALL {
        // A family that only base chains are wanted in is done without: a network's chains come in both families, whatever
        // addresses it has (networks.md 3.1).
        let first = || wishes.first_in(family);
        match observed.families.get(&family) {
            Some(Observation::Read(tables)) => drop(families.insert(family, tables)),
            Some(Observation::Missing(reason)) => {
                if let Some(object) = first() {
                    return Err(PlanError::Missing { object: object.clone(), family, reason: reason.clone() });
                }
            }
            Some(Observation::Unreadable(reason)) if first().is_some() => {
                return Err(PlanError::Unreadable { family, reason: reason.clone() });
            }
            Some(Observation::Unreadable(reason)) => {
                remarks.insert(Remark { code: "family-unreadable", message: format!("{family} rules cannot be read: {reason}") });
            }
            None if first().is_some() => return Err(PlanError::Unreadable { family, reason: "they were not looked at".into() }),
            None => {}
        }
    }
    let phases = order::phases(&Work { desired, wishes: &wishes, live: &families }, &mut remarks);
    Ok(Plan { phases, remarks: remarks.into_iter().collect() })
}

/// Why there can be no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A family with desired rules is unreadable.
    #[error("{family} rules cannot be read: {reason}")]
    Unreadable {
        /// The family.
        family: Family,
        /// The tool's own words.
        reason: String,
    },
    /// A family with desired rules does not exist on this host.
    #[error("{object} needs {family}, which this host does not have: {reason}")]
    Missing {
        /// The first object that needs it.
        object: Object,
        /// The family.
        family: Family,
        /// What is missing.
        reason: String,
    },
}

impl Desired {
    /// Whether an object has to stay as it is.
    pub fn is_frozen(&self, object: &Object) -> bool {
        if let Object::Interface(device) = object { self.frozen.contains(&Key::Guest(device.clone())) } else { false }
    }

    /// Leaves an object's rules in built-in chains where they are.
    pub fn leave(&mut self, rules: &ObjectRules) {
        for (id, placed) in &rules.direct {
            self.left.entry(id.clone()).or_default().extend(placed.iter().map(|placed| placed.rule.clone()));
        }
    }
}

impl Plan {
    /// Every edit, first to last, with the family and table that it is made in.
    pub fn edits(&self) -> impl Iterator<Item = (Family, Table, &Edit)> {
        let tables = self
            .phases
            .iter()
            .flat_map(|phase| phase.families.iter())
            .flat_map(|(family, tables)| tables.iter().map(move |table| (*family, table)));
        tables.flat_map(|(family, table)| table.edits.iter().map(move |edit| (family, table.table, edit)))
    }

    /// The objects that the plan changes anything for.
    pub fn objects_touched(&self) -> BTreeSet<&Object> {
        self.edits().filter_map(|(_, _, edit)| edit.object.as_ref()).collect()
    }

    /// True when the kernel already holds what is desired.
    pub fn is_empty(&self) -> bool {
        self.phases.iter().all(|phase| phase.families.values().all(|tables| tables.iter().all(|table| table.edits.is_empty())))
    }
}

impl Change {
    /// The chain that changes.
    pub fn chain(&self) -> &ChainName {
        match self {
            Self::NewChain(chain)
            | Self::DeleteChain(chain)
            | Self::SetPolicy { chain, .. }
            | Self::Insert { chain, .. }
            | Self::DeleteAt { chain, .. }
            | Self::DeleteRule { chain, .. } => chain,
        }
    }
}

/// Follows a plan: what the kernel holds once all of it is committed, if nobody else writes.
pub fn apply(plan: &Plan, observed: &mut Observed) {
    for (family, table, edit) in plan.edits() {
        let tables = observed.families.entry(family).or_insert_with(|| Observation::Read(BTreeMap::new()));
        if let Observation::Read(tables) = tables {
            edit::apply(tables.entry(table).or_insert_with(TableRules::default), edit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::PlacedRule;
    use crate::ruleset::save;

    fn network() -> Desired {
        let LiveRule::Known(rule) = save::parse_rule(Family::Ipv4, "-i virbr0 -j ACCEPT") else { unreachable!("the rule is plain") };
        let id = ChainId { family: Family::Ipv4, table: Table::Filter, chain: ChainName::new("LIBVIRT_INP") };
        let shared = BTreeMap::from([(id, vec![PlacedRule { rule, place: None }])]);
        let rules = ObjectRules { shared, ..ObjectRules::default() };
        Desired { objects: BTreeMap::from([(Object::Network("net".into()), Arc::new(rules))]), ..Desired::default() }
    }

    fn observed(ipv4: Observation, ipv6: Observation) -> Observed {
        Observed { families: BTreeMap::from([(Family::Ipv4, ipv4), (Family::Ipv6, ipv6)]) }
    }

    fn empty() -> Observation {
        Observation::Read(BTreeMap::new())
    }

    #[test]
    fn a_family_with_wishes_has_to_be_readable() {
        let unreadable = plan(&network(), &observed(Observation::Unreadable("tainted".into()), empty()));
        assert_eq!(unreadable, Err(PlanError::Unreadable { family: Family::Ipv4, reason: "tainted".into() }));
        let missing = plan(&network(), &observed(Observation::Missing("no tool".into()), empty()));
        let object = Object::Network("net".into());
        assert_eq!(missing, Err(PlanError::Missing { object, family: Family::Ipv4, reason: "no tool".into() }));
        assert!(matches!(plan(&network(), &Observed::default()), Err(PlanError::Unreadable { .. })));
    }

    #[test]
    fn a_family_with_base_chains_alone_is_done_without() {
        let made = plan(&network(), &observed(empty(), Observation::Missing("no tool".into()))).expect("a plan");
        assert!(made.edits().all(|(family, _, _)| family == Family::Ipv4) && !made.is_empty());
        let made = plan(&network(), &observed(empty(), Observation::Unreadable("tainted".into()))).expect("a plan");
        assert_eq!(made.remarks.iter().map(|remark| remark.code).collect::<Vec<_>>(), ["family-unreadable"]);
    }

    #[test]
    fn a_madenames_the_objects_that_it_touches() {
        let made = plan(&network(), &observed(empty(), empty())).expect("a plan");
        assert_eq!(made.objects_touched(), BTreeSet::from([&Object::Network("net".into())]));
    }
}
