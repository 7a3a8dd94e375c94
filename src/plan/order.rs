//! Which edits are committed first: one transaction per table, so what is in between is a state that packets meet.
//!
//! The rule: no prefix of a plan lets a packet pass that both the old and the new state drop. A packet passes when ebtables and
//! the one of iptables and ip6tables that looks at it both let it pass, and a table changes in one piece, so only the order of
//! ebtables against the two others matters:
//!
//! * Ebtables new, iptables old: a packet that slips through was dropped by the old ebtables (old iptables lets it pass) and is dropped by
//!   the new iptables. So ebtables loosens for it. If ebtables only tightens, going first is safe.
//! * Iptables new, ebtables old: in the same way ebtables tightens for it. If ebtables only loosens, going last is safe.
//!
//! A packet between two guests meets the ebtables rules of both and possibly the iptables rules of either, or of a network; so
//! it is not enough to compare the edits of one guest. But the ebtables rules of a guest are its own, so guests can be told
//! apart there: those that tighten go first, those that loosen go last, and those that do both go first behind a *gate*, a jump
//! to a chain that drops, for what they send and receive. The gate goes last. Then, before iptables changes, a packet that
//! passes met only tightened guests (so the old ebtables let it pass, as the old iptables does) or loosening ones that are
//! still old; after it, likewise with "new" for "old". A plan without filter rules of iptables or without ebtables has one
//! phase. So has one that only tightens in ebtables where the old iptables lets everything pass, as after a flush: whatever comes first, a packet
//! that passes then was let through by both of the old ones. It takes as long as the slower of the two.
//!
//! Whether an edit tightens is judged coarsely: a doubt costs a gate for some milliseconds, never a hole.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::ownership::{self, Claims};
use super::table::{self, Situation, TableWishes, Wishes};
use super::{Change, Desired, Edit, Phase, Remark, TableEdits, edit};
use crate::addr::DeviceName;
use crate::compile::Key;
use crate::model::Object;
use crate::ruleset::chain_name::{self, GuestChain, Side, bridge_root};
use crate::ruleset::rule::{BridgeTarget, Rule};
use crate::ruleset::{ChainName, Family, LiveRule, Policy, Table, TableRules};

/// Everything that the order follows from.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// What is wanted.
    pub desired: &'a Desired,
    /// The same by table.
    pub wishes: &'a Wishes<'a>,
    /// What is there.
    pub live: &'a BTreeMap<Family, &'a BTreeMap<Table, TableRules>>,
}

/// What an edit may do to the set of packets that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Effect {
    loosens: bool,
    tightens: bool,
}

/// Finds all edits and arranges them in phases.
pub fn phases(work: &Work<'_>, remarks: &mut BTreeSet<Remark>) -> Vec<Phase> {
    let mut families: BTreeMap<Family, Vec<TableEdits>> =
        Family::ALL.into_iter().map(|family| (family, work.family(family, remarks))).filter(|(_, tables)| !tables.is_empty()).collect();
    let judged =
        families.iter().any(|(family, tables)| *family != Family::Bridge && tables.iter().any(|table| table.table == Table::Filter));
    if !judged {
        return phases_of([families]);
    }
    let Some(bridge) = families.remove(&Family::Bridge) else { return phases_of([families]) };
    let guests = work.guests(&bridge);
    let which = |effect: Effect| guests.iter().filter(move |(_, found)| **found == effect).map(|(device, _)| (*device).clone());
    let loosening: BTreeSet<Key> = which(Effect::LOOSENS).map(Key::Guest).collect();
    let gated: BTreeSet<DeviceName> = which(Effect::BOTH).collect();
    let only_bridge =
        |tables: Vec<TableEdits>| if tables.is_empty() { BTreeMap::new() } else { BTreeMap::from([(Family::Bridge, tables)]) };
    if loosening.is_empty() && gated.is_empty() {
        if families.keys().all(|family| work.passes_everything(*family)) {
            families.insert(Family::Bridge, bridge);
            return phases_of([families]);
        }
        return phases_of([only_bridge(bridge), families]);
    }
    if gated.is_empty() && guests.values().all(|effect| *effect == Effect::LOOSENS) {
        return phases_of([families, only_bridge(bridge)]);
    }
    let (first, between) = work.bridge_first(&loosening, &gated);
    let last = Work { live: &BTreeMap::from([(Family::Bridge, &between)]), ..*work }.family(Family::Bridge, &mut BTreeSet::new());
    phases_of([only_bridge(first), families, only_bridge(last)])
}

fn phases_of<const N: usize>(phases: [BTreeMap<Family, Vec<TableEdits>>; N]) -> Vec<Phase> {
    phases.into_iter().filter(|families| !families.is_empty()).map(|families| Phase { families }).collect()
}

impl Work<'_> {
    /// The edits of one family, all at once.
    fn family(&self, family: Family, remarks: &mut BTreeSet<Remark>) -> Vec<TableEdits> {
        self.tables(family, &BTreeSet::new(), &BTreeSet::new(), remarks)
    }

    fn tables(
        &self,
        family: Family,
        parked: &BTreeSet<Key>,
        gated: &BTreeSet<DeviceName>,
        remarks: &mut BTreeSet<Remark>,
    ) -> Vec<TableEdits> {
        let Some(live) = self.live.get(&family) else { return Vec::new() };
        let claims = Claims::new(self.desired, parked);
        let situation = Situation { desired: self.desired, claims: &claims, gated };
        let (no_wishes, no_rules) = (TableWishes::default(), TableRules::default());
        let tables: BTreeSet<Table> = live.keys().copied().chain(self.wishes.tables(family)).collect();
        let edits = tables.into_iter().map(|table| {
            let wishes = self.wishes.of(family, table).unwrap_or(&no_wishes);
            let edits = table::edits(situation, family, table, wishes, live.get(&table).unwrap_or(&no_rules), remarks);
            TableEdits {
                table,
                edits,
                vacant: self.desired.settled.is_empty() && live.get(&table).is_none_or(|rules| is_vacant(family, table, rules)),
            }
        });
        let mut edits: Vec<TableEdits> = edits.filter(|table| !table.edits.is_empty()).collect();
        edits.sort_by_key(|table| (stage(table), table.table));
        edits
    }

    /// The part of the ebtables edits that comes before those of iptables, and what it makes of the tables.
    fn bridge_first(&self, loosening: &BTreeSet<Key>, gated: &BTreeSet<DeviceName>) -> (Vec<TableEdits>, BTreeMap<Table, TableRules>) {
        let first = self.tables(Family::Bridge, loosening, gated, &mut BTreeSet::new());
        let mut between = self.live.get(&Family::Bridge).map_or_else(BTreeMap::new, |live| (*live).clone());
        for table in &first {
            let rules = between.entry(table.table).or_default();
            table.edits.iter().for_each(|change| edit::apply(rules, change));
        }
        (first, between)
    }

    /// What the ebtables edits do to each guest that they touch.
    fn guests<'e>(&self, bridge: &'e [TableEdits]) -> BTreeMap<&'e DeviceName, Effect> {
        let hooked = self.hooked();
        let wishes = self.wishes.of(Family::Bridge, Table::Nat);
        let wanted = |side| wishes.map_or_else(HashSet::new, |wishes| wishes.objects_in(&parent(side)));
        let (from_guest, to_guest) = (wanted(Side::FromGuest), wanted(Side::ToGuest));
        // A guest has dozens of edits; whether it is judged before and after them is found once.
        let mut judged: HashMap<(&DeviceName, Side), (bool, bool)> = HashMap::new();
        let mut guests: BTreeMap<&DeviceName, Effect> = BTreeMap::new();
        for edit in bridge.iter().flat_map(|table| &table.edits) {
            let Some(guest @ Object::Interface(device)) = &edit.object else { continue };
            let effect = match side(edit.change.chain(), device) {
                Some(side) => {
                    let wanted = if side == Side::FromGuest { &from_guest } else { &to_guest };
                    let before_and_after = || (hooked.contains(&bridge_root(side, device)), wanted.contains(guest));
                    match *judged.entry((device, side)).or_insert_with(before_and_after) {
                        (true, true) => effect(edit),
                        (false, true) => Effect::TIGHTENS,
                        (true, false) => Effect::LOOSENS,
                        (false, false) => Effect::default(),
                    }
                }
                None => Effect::BOTH,
            };
            let gate = matches!(&edit.change, Change::DeleteRule { rule, .. } if is_gate(rule));
            let found = guests.entry(device).or_default();
            *found = found.with(if gate { Effect::LOOSENS } else { effect });
        }
        // Edits without effect (of chains that nothing reaches) are in nobody's way: they go first.
        guests.values_mut().filter(|effect| **effect == Effect::default()).for_each(|effect| *effect = Effect::TIGHTENS);
        guests
    }

    /// Whether the filter table of a family stops no packet.
    fn passes_everything(&self, family: Family) -> bool {
        let table = self.live.get(&family).and_then(|tables| tables.get(&Table::Filter));
        table.is_none_or(|table| {
            let mut built_in = table.chains.iter().filter(|(name, _)| chain_name::is_builtin(family, Table::Filter, name.as_str()));
            built_in.all(|(_, chain)| chain.rules.is_empty() && chain.policy == Some(Policy::Accept))
        })
    }

    /// The chains that live rules of the built-in chains of ebtables jump to.
    fn hooked(&self) -> HashSet<ChainName> {
        let table = self.live.get(&Family::Bridge).and_then(|tables| tables.get(&Table::Nat));
        let chains = [Side::FromGuest, Side::ToGuest].map(|side| table.and_then(|table| table.chains.get(&parent(side))));
        chains.into_iter().flatten().flat_map(|chain| &chain.rules).flat_map(ownership::destinations).collect()
    }
}

/// A table of ours that others lead to or prepare for (address translation, checksums) is filled before packets are let through
/// to it, and emptied after.
fn stage(table: &TableEdits) -> u8 {
    let fills = table.edits.iter().any(|edit| matches!(edit.change, Change::Insert { .. }));
    match (table.table, fills) {
        (Table::Filter, _) => 1,
        (_, true) => 0,
        (_, false) => 2,
    }
}

/// Whether there is no rule in the table; what a skipped chain holds is not known.
fn is_vacant(family: Family, table: Table, rules: &TableRules) -> bool {
    rules.chains.iter().all(|(name, chain)| {
        let seen = chain_name::is_builtin(family, table, name.as_str()) || chain_name::in_libvirt_name_space(name.as_str());
        seen && chain.rules.is_empty()
    })
}

/// The side of a guest that a chain or the hooks in it judge.
fn side(chain: &ChainName, device: &DeviceName) -> Option<Side> {
    match chain.as_str() {
        "PREROUTING" => Some(Side::FromGuest),
        "POSTROUTING" => Some(Side::ToGuest),
        name => match chain_name::guest_of(name, device)?.0 {
            GuestChain::Root(side) | GuestChain::Sub(side, _) => Some(side),
            GuestChain::Ip(_) => None,
        },
    }
}

/// The built-in chain that judges this side.
fn parent(side: Side) -> ChainName {
    ChainName::new(match side {
        Side::FromGuest => "PREROUTING",
        Side::ToGuest => "POSTROUTING",
    })
}

impl Effect {
    const LOOSENS: Self = Self { loosens: true, tightens: false };
    const TIGHTENS: Self = Self { loosens: false, tightens: true };
    const BOTH: Self = Self { loosens: true, tightens: true };

    fn with(self, other: Self) -> Self {
        Self { loosens: self.loosens || other.loosens, tightens: self.tightens || other.tightens }
    }

    fn reversed(self) -> Self {
        Self { loosens: self.tightens, tightens: self.loosens }
    }
}

/// What an edit does to a guest that is judged before and after it. A verdict at once makes its rule one-sided; a jump or a
/// return can do either.
fn effect(edit: &Edit) -> Effect {
    let verdict = |rule: &Rule| match rule {
        Rule::Bridge(rule) if rule.target == BridgeTarget::Accept => Effect::LOOSENS,
        Rule::Bridge(rule) if rule.target == BridgeTarget::Drop => Effect::TIGHTENS,
        rule if is_gate(rule) => Effect::TIGHTENS,
        _ => Effect::BOTH,
    };
    match &edit.change {
        // Seen by packets only through the jumps that come or go with them.
        Change::NewChain(_) | Change::DeleteChain(_) => Effect::default(),
        Change::SetPolicy { policy: Policy::Drop, .. } => Effect::TIGHTENS,
        Change::SetPolicy { policy: Policy::Accept, .. } => Effect::LOOSENS,
        Change::Insert { rule, .. } => verdict(rule),
        Change::DeleteRule { rule, .. } | Change::DeleteAt { rule: LiveRule::Known(rule), .. } => verdict(rule).reversed(),
        Change::SetPolicy { policy: Policy::Return, .. } | Change::DeleteAt { rule: LiveRule::Unknown(_), .. } => Effect::BOTH,
    }
}

fn is_gate(rule: &Rule) -> bool {
    rule.destination().is_some_and(|chain| chain.as_str() == ownership::GATE)
}
