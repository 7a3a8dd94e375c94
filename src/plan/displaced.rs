//! Jumps to base chains that a commit put elsewhere than it meant to.
//!
//! The tools count positions when they run. Whoever puts a rule in front after we looked moves what we put in by one, and a jump to guests' filters can come
//! to stand behind one to rules of networks. Jumps that are there are in sync wherever they stand, so nothing would ever mend that: what
//! was put in has to be looked at once, when it is read back.

use std::collections::{BTreeMap, BTreeSet};

use super::edit::follow;
use super::ownership::BASES;
use super::{Change, Plan};
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainId, LiveRule, Observed};

/// Where a plan puts jumps among each other.
#[derive(Debug, Default)]
pub struct Placement(BTreeMap<ChainId, Order>);

/// The jumps of one built-in chain.
#[derive(Debug, Default)]
struct Order {
    /// All of them, as they should stand after the commit.
    jumps: Vec<Rule>,
    /// Those that it puts in.
    put: BTreeSet<Rule>,
}

impl Placement {
    /// That of a plan made for what `before` shows.
    pub fn of(plan: &Plan, before: &Observed) -> Self {
        let mut placement = Self::default();
        for (family, table, edit) in plan.edits() {
            let Change::Insert { chain, rule, .. } = &edit.change else { continue };
            let is_built_in = BASES.iter().any(|base| base.parent == chain.as_str() && base.table == table);
            if is_built_in && is_jump(rule) {
                let id = ChainId { family, table, chain: chain.clone() };
                placement.0.entry(id).or_default().put.insert(rule.clone());
            }
        }
        for (id, order) in &mut placement.0 {
            let mut rules = before.rules(id).to_vec();
            for (_, _, edit) in
                plan.edits().filter(|(family, table, edit)| (*family, *table, edit.change.chain()) == (id.family, id.table, &id.chain))
            {
                follow(&mut rules, edit);
            }
            order.jumps = jumps(&rules).cloned().collect();
        }
        placement
    }

    /// The jumps that were put in and do not stand as they should among the others.
    pub fn displaced(&self, now: &Observed) -> BTreeMap<ChainId, BTreeSet<Rule>> {
        let displaced = self.0.iter().filter_map(|(id, order)| {
            let found: Vec<&Rule> = jumps(now.rules(id)).filter(|rule| order.jumps.contains(rule)).collect();
            let expected = order.jumps.iter().filter(|rule| found.contains(rule));
            (!expected.eq(found.iter().copied())).then(|| (id.clone(), order.put.clone()))
        });
        displaced.collect()
    }
}

fn is_jump(rule: &Rule) -> bool {
    BASES.iter().any(|base| base.jump() == *rule)
}

fn jumps(rules: &[LiveRule]) -> impl Iterator<Item = &Rule> {
    rules.iter().filter_map(|rule| if let LiveRule::Known(rule) = rule { Some(rule) } else { None }).filter(|rule| is_jump(rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Edit, Phase, TableEdits};
    use crate::ruleset::{ChainName, ChainRules, Family, Observation, Table, TableRules, save};

    fn jump(chain: &str) -> LiveRule {
        save::parse_rule(Family::Ipv4, &format!("-j {chain}"))
    }

    fn forward(chains: &[&str]) -> Observed {
        let rules = ChainRules { rules: chains.iter().map(|chain| jump(chain)).collect(), ..ChainRules::default() };
        let table = TableRules { chains: BTreeMap::from([(ChainName::new("FORWARD"), rules)]), ..TableRules::default() };
        let read = Observation::Read(BTreeMap::from([(Table::Filter, table)]));
        Observed { families: BTreeMap::from([(Family::Ipv4, read)]) }
    }

    fn inserts(edits: &[(usize, &str)]) -> Plan {
        let edit = |(at, chain): &(usize, &str)| {
            let LiveRule::Known(rule) = jump(chain) else { unreachable!("a jump is plain") };
            Edit { change: Change::Insert { chain: ChainName::new("FORWARD"), at: *at, rule }, object: None, place: None }
        };
        let table = TableEdits { table: Table::Filter, edits: edits.iter().map(edit).collect(), vacant: false };
        Plan { phases: vec![Phase { families: BTreeMap::from([(Family::Ipv4, vec![table])]) }], remarks: Vec::new() }
    }

    fn displaced(before: &[&str], edits: &[(usize, &str)], now: &[&str]) -> Vec<String> {
        let placement = Placement::of(&inserts(edits), &forward(before));
        let displaced = placement.displaced(&forward(now)).into_values().flatten();
        displaced.map(|rule| rule.destination().expect("a jump").to_string()).collect()
    }

    #[test]
    fn what_somebody_moved_by_putting_a_rule_in_front_is_found() {
        let (before, edits) = (["libvirt-in"], [(2, "libvirt-out"), (3, "LIBVIRT_FWI")]);
        assert_eq!(displaced(&before, &edits, &["ACME", "libvirt-out", "LIBVIRT_FWI", "libvirt-in"]), ["LIBVIRT_FWI", "libvirt-out"]);
    }

    #[test]
    fn what_stands_as_it_was_put_stays() {
        let (before, edits) = (["libvirt-in"], [(2, "libvirt-out"), (3, "LIBVIRT_FWI")]);
        for now in [
            &["ACME", "libvirt-in", "libvirt-out", "LIBVIRT_FWI"][..],
            &["libvirt-in", "libvirt-out", "ACME", "LIBVIRT_FWI", "LIBVIRT_FWX"],
            &["libvirt-out", "LIBVIRT_FWI"],
            &[],
        ] {
            assert_eq!(displaced(&before, &edits, now), [] as [&str; 0], "{now:?}");
        }
    }

    #[test]
    fn an_order_that_was_there_before_is_nobodys_business() {
        let before = ["LIBVIRT_FWX", "LIBVIRT_FWI", "LIBVIRT_FWO", "libvirt-in", "libvirt-out"];
        let now = ["LIBVIRT_FWX", "LIBVIRT_FWI", "LIBVIRT_FWO", "libvirt-in", "libvirt-out", "libvirt-in-post"];
        assert_eq!(displaced(&before, &[(6, "libvirt-in-post")], &now), [] as [&str; 0]);
    }
}
