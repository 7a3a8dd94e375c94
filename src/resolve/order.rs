//! The order in which a guest's rules are looked at, for whoever wants to reason about it or show it.
//!
//! Reference: nwfilter.md 3.3 and 3.4. What goes in are rules in collection order, of any kind: of one guest, or of a filter that no guest
//! uses. What comes out is, for one side of the guest, the root chain with its jumps, and the rules of every chain that is jumped to.
//! What a rule matches, and how a tool spells it, does not matter here. [`crate::compile`] makes the rules in this order too, with faults and
//! names of chains in between; a test compares the two.

use std::collections::BTreeMap;

use super::PolicyRule;
use crate::addr::Mac;
use crate::model::filter::{Chain, Direction, Layer, Rule};

/// Which traffic of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// What it sends.
    FromGuest,
    /// What it is sent.
    ToGuest,
}

/// What decides where a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing<'a> {
    /// The chain of its filter.
    pub chain: &'a Chain,
    /// Its own priority.
    pub priority: i16,
    /// Which traffic it judges.
    pub direction: Direction,
    /// Where its protocol's rules end up.
    pub layer: Layer,
}

/// One step through a root chain of layer 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a, R> {
    /// A rule of a filter whose chain is `root`.
    Rule(R),
    /// A jump to a sub-chain, and what stands there.
    Jump(SubChain<'a, R>),
}

/// The rules of all filters that share a chain name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubChain<'a, R> {
    /// The chain's name.
    pub name: &'a str,
    /// Where its jump stands among the rules of the root chain.
    pub priority: i16,
    /// In order; never empty.
    pub rules: Vec<R>,
}

/// Which frames jump to a sub-chain (nwfilter.md 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Those of one Ethernet type.
    EtherType(u16),
    /// Those to this address.
    Destination(Mac),
    /// All.
    Open,
}

impl<'a> Standing<'a> {
    /// Where a rule of a guest stands.
    pub fn of(rule: &'a PolicyRule) -> Self {
        Self { chain: &rule.chain, priority: rule.priority, direction: rule.direction, layer: rule.protocol.layer() }
    }

    /// Where a rule as written stands, in a filter with this chain.
    pub fn written(rule: &Rule, chain: &'a Chain) -> Self {
        Self { chain, priority: rule.priority, direction: rule.direction, layer: rule.protocol.layer() }
    }

    fn is_root(&self) -> bool {
        &*self.chain.name == "root"
    }

    /// Layer-2 rules judge one side unless they say `inout`.
    fn judges(&self, side: Side) -> bool {
        self.layer == Layer::Link
            && match side {
                Side::FromGuest => self.direction != Direction::In,
                Side::ToGuest => self.direction != Direction::Out,
            }
    }
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::EtherType(0x0800) => f.write_str("IPv4 frames"),
            Self::EtherType(0x86dd) => f.write_str("IPv6 frames"),
            Self::EtherType(0x0806) => f.write_str("ARP frames"),
            Self::EtherType(0x8035) => f.write_str("RARP frames"),
            Self::EtherType(0x8100) => f.write_str("VLAN frames"),
            Self::EtherType(other) => write!(f, "frames of type {other:#06x}"),
            Self::Destination(mac) => write!(f, "frames to {mac}"),
            Self::Open => f.write_str("all frames"),
        }
    }
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::FromGuest, Self::ToGuest];
}

impl Gate {
    /// The gate of the chain of this name: its first letters decide.
    pub fn of(chain: &str) -> Self {
        const TYPES: [(&str, u16); 5] = [("ipv4", 0x0800), ("ipv6", 0x86dd), ("arp", 0x0806), ("rarp", 0x8035), ("vlan", 0x8100)];
        if chain.starts_with("stp") {
            return Self::Destination(Mac::BRIDGE_GROUP);
        }
        TYPES.iter().find(|(prefix, _)| chain.starts_with(prefix)).map_or(Self::Open, |&(_, ether_type)| Self::EtherType(ether_type))
    }
}

/// The root chain of one side at layer 2; empty where the side has none.
///
/// Jumps stand before root rules of equal priority; jumps of equal priority keep collection order, where libvirt's order is random (3.5).
pub fn link<'a, R: Copy>(rules: &[(Standing<'a>, R)], side: Side) -> Vec<Step<'a, R>> {
    let judged: Vec<_> = rules.iter().filter(|(standing, _)| standing.judges(side)).copied().collect();
    let mut root = Vec::new();
    let mut chains: BTreeMap<&str, (usize, SubChain<'a, R>)> = BTreeMap::new();
    for (standing, _) in judged.iter().filter(|(standing, _)| !standing.is_root()) {
        let (rank, name) = (chains.len(), &*standing.chain.name);
        chains.entry(name).or_insert_with(|| (rank, SubChain { name, priority: 0, rules: Vec::new() }));
    }
    for (standing, rule) in sorted(judged) {
        match chains.get_mut(&*standing.chain.name) {
            Some((_, chain)) => {
                // Several filters may share a chain: the last rule's filter gives the priority.
                chain.priority = standing.chain.priority;
                chain.rules.push(rule);
            }
            None => root.push((standing.priority, rule)),
        }
    }
    let mut jumps: Vec<_> = chains.into_values().collect();
    jumps.sort_by_key(|(rank, chain)| (chain.priority, *rank));
    merge(root, jumps.into_iter().map(|(_, chain)| chain))
}

/// The rules of one family at layer 3, root filters first; both sides see this order.
pub fn network<R: Copy>(rules: &[(Standing<'_>, R)], layer: Layer) -> Vec<R> {
    let of_layer = rules.iter().filter(|(standing, _)| standing.layer == layer).copied().collect();
    sorted(of_layer).into_iter().map(|(_, rule)| rule).collect()
}

/// nwfilter.md 3.3 step 2; equals keep collection order.
fn sorted<R>(mut rules: Vec<(Standing<'_>, R)>) -> Vec<(Standing<'_>, R)> {
    rules.sort_by_key(|(standing, _)| (!standing.is_root(), standing.priority));
    rules
}

fn merge<'a, R>(root: Vec<(i16, R)>, jumps: impl Iterator<Item = SubChain<'a, R>>) -> Vec<Step<'a, R>> {
    let mut steps = Vec::new();
    let mut jumps = jumps.peekable();
    for (priority, rule) in root {
        while let Some(chain) = jumps.next_if(|chain| chain.priority <= priority) {
            steps.push(Step::Jump(chain));
        }
        steps.push(Step::Rule(rule));
    }
    steps.extend(jumps.map(Step::Jump));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(name: &str, priority: i16) -> Chain {
        Chain { name: name.into(), priority }
    }

    fn standing(chain: &Chain, priority: i16, direction: Direction) -> Standing<'_> {
        Standing { chain, priority, direction, layer: Layer::Link }
    }

    fn show(steps: &[Step<'_, &str>]) -> String {
        let step = |step: &Step<'_, &str>| match step {
            Step::Rule(rule) => (*rule).to_owned(),
            Step::Jump(chain) => format!("{}[{}]", chain.name, chain.rules.join(" ")),
        };
        steps.iter().map(step).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn jumps_stand_before_root_rules_of_their_priority() {
        let (root, ipv4, mac) = (chain("root", 0), chain("ipv4-x", 150), chain("mac", -800));
        let rules = [
            (standing(&ipv4, -300, Direction::Out), "a"),
            (standing(&root, 150, Direction::Out), "b"),
            (standing(&root, 149, Direction::InOut), "c"),
            (standing(&mac, 900, Direction::Out), "d"),
            (standing(&ipv4, -301, Direction::Out), "e"),
            (standing(&root, -900, Direction::In), "f"),
        ];
        assert_eq!(show(&link(&rules, Side::FromGuest)), "mac[d] c ipv4-x[e a] b");
        assert_eq!(show(&link(&rules, Side::ToGuest)), "f c");
    }

    #[test]
    fn the_last_rule_gives_a_shared_chain_its_priority_and_equals_keep_collection_order() {
        let (early, late, other) = (chain("mac-x", -10), chain("mac-x", 10), chain("mac-a", 10));
        let rules = [
            (standing(&late, 600, Direction::In), "a"),
            (standing(&early, 500, Direction::In), "b"),
            (standing(&other, 500, Direction::In), "c"),
            (standing(&other, 500, Direction::In), "d"),
        ];
        assert_eq!(show(&link(&rules, Side::ToGuest)), "mac-x[b a] mac-a[c d]");
    }

    #[test]
    fn at_layer_3_root_filters_come_first_whatever_the_priorities() {
        let (root, mac) = (chain("root", 0), chain("mac", -800));
        let at = |chain, priority| Standing { layer: Layer::Ipv4, ..standing(chain, priority, Direction::In) };
        let rules = [(at(&mac, 5), "a"), (at(&root, 1000), "b"), (at(&root, -1000), "c")];
        assert_eq!(network(&rules, Layer::Ipv4), ["c", "b", "a"]);
        assert_eq!(network(&rules, Layer::Ipv6), Vec::<&str>::new());
    }
}
