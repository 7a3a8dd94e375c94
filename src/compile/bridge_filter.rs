//! The layer-2 rules of a guest into chains of ebtables' nat table (nwfilter.md 2.5, 3.2 to 3.4).
//!
//! Each side of the guest (what it sends, what it is sent) has a root chain, hooked to its device, and one sub-chain per filter chain.
//! [`condition`] turns a rule's conditions into matches; this file decides in which chain a rule stands and where the jumps go.

mod condition;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::value::{Facing, Fault};
use super::{Draft, ObjectRules, PlacedRule, is_root};
use crate::addr::{DeviceName, Mac};
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::model::filter::{Action, Direction, Layer};
use crate::resolve::{GuestPolicy, PolicyRule};
use crate::ruleset::chain_name::{self, NameTooLong, Side};
use crate::ruleset::rule::{BridgeRule, BridgeTarget, EtherType, Invertible, MacNet, Rule};
use crate::ruleset::{ChainId, ChainName, Family, Table};
use crate::source::Span;

// Ethernet types, as ebtables' `-p` compares them.
pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const VLAN: u16 = 0x8100;
pub(super) const IPV6: u16 = 0x86dd;

const SIDES: [Side; 2] = [Side::FromGuest, Side::ToGuest];

/// A sub-chain of one side.
struct SubChain {
    /// Its place among the guest's chains in collection order.
    rank: usize,
    /// Where its jump goes among the rules of the root chain.
    priority: i16,
    rules: Vec<PlacedRule>,
    /// The rule that gave the priority.
    place: Span,
}

/// The sub-chains of one side by the filter chain's name.
type SubChains<'a> = BTreeMap<&'a str, SubChain>;

/// Rules of a root chain with their priorities, in order.
type Ranked = Vec<(i16, PlacedRule)>;

/// Compiles the layer-2 rules; `sorted` are the same rules as `collected` in the order of nwfilter.md 3.3 step 2.
pub(super) fn compile(draft: &mut Draft, collected: &[Arc<PolicyRule>], sorted: &[&PolicyRule]) {
    for side in SIDES {
        compile_side(draft, side, collected, sorted);
    }
}

/// Gives the guest root chains that drop everything: `-A libvirt-I-IF -j DROP`, `-A libvirt-O-IF -j DROP`
pub(super) fn close(device: &DeviceName, rules: &mut ObjectRules) {
    for side in SIDES {
        let drop = PlacedRule::bridge(BridgeRule::new(BridgeTarget::Drop), None);
        add_root(device, side, vec![drop], None, rules);
    }
}

/// Adds a side's root chain and its hook: `-A PREROUTING -i IF -j libvirt-I-IF`, `-A POSTROUTING -o IF -j libvirt-O-IF`
pub(super) fn add_root(device: &DeviceName, side: Side, chain: Vec<PlacedRule>, place: Option<Span>, rules: &mut ObjectRules) {
    let root = chain_name::bridge_root(side, device);
    let port = Some(Invertible::is(device.clone()));
    let jump = BridgeRule::new(BridgeTarget::Jump(root.clone()));
    let (parent, hook) = match side {
        Side::FromGuest => ("PREROUTING", BridgeRule { in_device: port, ..jump }),
        Side::ToGuest => ("POSTROUTING", BridgeRule { out_device: port, ..jump }),
    };
    rules.shared.entry(chain_id(ChainName::new(parent))).or_default().push(PlacedRule::bridge(hook, place));
    rules.chains.insert(chain_id(root), chain);
}

/// One side's chains; a side that no rule judges has none (nwfilter.md 3.4).
///
/// libvirt walks all rules, root rules first, and emits a jump before the first rule whose priority is not below the jump's. As sub-chain
/// rules come after every root rule, that is a merge of root rules and jumps, jumps first among equals.
fn compile_side(draft: &mut Draft, side: Side, collected: &[Arc<PolicyRule>], sorted: &[&PolicyRule]) {
    let mut judged = sorted.iter().copied().filter(|rule| judges(side, rule)).peekable();
    if judged.peek().is_none() {
        return;
    }
    let mut sub_chains = register(side, collected);
    let mut root = Ranked::new();
    for rule in judged {
        let made = make(draft, side, rule);
        if let Some(chain) = sub_chains.get_mut(&*rule.chain.name) {
            chain.rules.extend(made);
            // Several filters may share a chain: the last rule's filter gives the priority.
            (chain.priority, chain.place) = (rule.chain.priority, rule.place);
        } else {
            root.extend(made.into_iter().map(|made| (rule.priority, made)));
        }
    }
    let jumps = add_sub_chains(draft, side, sub_chains);
    let root = merge(root, jumps);
    end_sub_chains(draft, &root);
    add_root(&draft.guest.device, side, root, Some(draft.guest.place), &mut draft.rules);
}

/// Decides what becomes of a frame that no rule of a sub-chain matches, and says so where something that comes later would drop it.
///
/// A chain made by `-N` ends with an accept (ebtables 1.8.9, nf_tables; `ebtables -L` shows RETURN all the same), and libvirt leaves it so: after
/// `allow-dhcp` all IPv4 gets through, whatever the root chain says later. The XML knows no such end: a frame that no rule of a chain decides goes on to the
/// rules that follow, so in `fixed` quirks the chain returns. A policy says that without a rule, so the rules stay libvirt's own. Where the last rule
/// takes everything nothing reaches the end, and the chain stays as the tools make it.
fn end_sub_chains(draft: &mut Draft, root: &[PlacedRule]) {
    let mut drops_later = false;
    for placed in root.iter().rev() {
        let chain = match bridge_rule(placed).map(|rule| &rule.target) {
            Some(BridgeTarget::Jump(chain)) => chain_id(chain.clone()),
            target => {
                drops_later |= target == Some(&BridgeTarget::Drop);
                continue;
            }
        };
        let rules: Vec<&BridgeRule> = draft.rules.chains.get(&chain).into_iter().flatten().filter_map(bridge_rule).collect();
        let drops = rules.iter().any(|rule| rule.target == BridgeTarget::Drop);
        if !rules.into_iter().any(decides_all) {
            if draft.quirks == Quirks::Fixed {
                draft.rules.returning.insert(chain);
            }
            if let Some(place) = placed.place.filter(|_| drops_later) {
                remark_open_end(draft, place);
            }
        }
        drops_later |= drops;
    }
}

/// Whether no frame gets past a rule.
fn decides_all(rule: &BridgeRule) -> bool {
    rule.target != BridgeTarget::Continue && *rule == BridgeRule::new(rule.target.clone())
}

fn remark_open_end(draft: &mut Draft, place: Span) {
    let quirks = draft.quirks;
    draft.remark("open-chain-end", place, || match quirks {
        Quirks::Fixed => {
            let message = "what no rule of this chain matches goes on to the rules that follow the chain";
            Diagnostic::note("open-chain-end", message, place, "with libvirt 9.0 it is accepted at the end of the chain")
        }
        Quirks::Libvirt => {
            let message = "what no rule of this chain matches is accepted, though something is dropped later";
            Diagnostic::warning("open-chain-end", message, place, "the last rule of the chain")
                .help("end the chain with `<rule action='return' direction='inout' priority='1000'/>`, or with a `drop`")
        }
    });
}

fn bridge_rule(placed: &PlacedRule) -> Option<&BridgeRule> {
    if let Rule::Bridge(rule) = &placed.rule { Some(rule) } else { None }
}

/// The sub-chains that rules of this side stand in, all but root.
fn register(side: Side, collected: &[Arc<PolicyRule>]) -> SubChains<'_> {
    let mut chains = SubChains::new();
    for rule in collected.iter().filter(|rule| judges(side, rule) && !is_root(rule)) {
        let rank = chains.len();
        let new = || SubChain { rank, priority: rule.chain.priority, rules: Vec::new(), place: rule.place };
        chains.entry(&rule.chain.name).or_insert_with(new);
    }
    chains
}

/// Adds the sub-chains; the answer are the jumps to them by priority. Equals keep collection order, where libvirt's order is random
/// (nwfilter.md 3.5).
fn add_sub_chains(draft: &mut Draft, side: Side, sub_chains: SubChains) -> Ranked {
    let mut ordered: Vec<_> = sub_chains.into_iter().collect();
    ordered.sort_unstable_by_key(|(_, chain)| (chain.priority, chain.rank));
    let mut jumps = Ranked::with_capacity(ordered.len());
    for (label, chain) in ordered {
        match chain_name::bridge_sub_chain(side, &draft.guest.device, label) {
            Ok(name) => {
                jumps.push((chain.priority, PlacedRule::bridge(jump(label, name.clone()), Some(chain.place))));
                draft.rules.chains.insert(chain_id(name), chain.rules);
            }
            Err(too_long) => draft.refuse(refuse_name(draft.guest, label, chain.place, &too_long)),
        }
    }
    jumps
}

/// Root rules and jumps as one chain; both come sorted by priority.
fn merge(root: Ranked, jumps: Ranked) -> Vec<PlacedRule> {
    let mut merged = Vec::with_capacity(root.len() + jumps.len());
    let mut jumps = jumps.into_iter().peekable();
    for (priority, rule) in root {
        while let Some((_, jump)) = jumps.next_if(|(of_jump, _)| *of_jump <= priority) {
            merged.push(jump);
        }
        merged.push(rule);
    }
    merged.extend(jumps.map(|(_, jump)| jump));
    merged
}

/// `[-p PROTOCOL | -d BGA] -j SUB-CHAIN`, by the prefix of the filter chain's name (nwfilter.md 3.4)
fn jump(label: &str, name: ChainName) -> BridgeRule {
    let jump = BridgeRule::new(BridgeTarget::Jump(name));
    let of_type = |ether_type| Some(Invertible::is(EtherType::Type(ether_type)));
    match Prefix::of(label) {
        Prefix::Type(ether_type) => BridgeRule { protocol: of_type(ether_type), ..jump },
        Prefix::SpanningTree => BridgeRule { destination: Some(Invertible::is(MacNet::host(Mac::BRIDGE_GROUP))), ..jump },
        Prefix::Any => jump,
    }
}

/// What the beginning of a chain's name says about the frames that it is for.
enum Prefix {
    Type(u16),
    SpanningTree,
    Any,
}

impl Prefix {
    fn of(label: &str) -> Self {
        const TYPES: [(&str, u16); 5] = [("ipv4", IPV4), ("ipv6", IPV6), ("arp", ARP), ("rarp", RARP), ("vlan", VLAN)];
        if label.starts_with("stp") {
            return Self::SpanningTree;
        }
        TYPES.iter().find(|(prefix, _)| label.starts_with(prefix)).map_or(Self::Any, |&(_, ether_type)| Self::Type(ether_type))
    }
}

/// The rules of one policy rule on one side; none, and a fault, where it cannot be made.
fn make(draft: &mut Draft, side: Side, rule: &PolicyRule) -> Vec<PlacedRule> {
    if rule.action == Action::Reject {
        draft.remark("reject-drops", rule.place, || {
            let message = "`reject` at layer 2 drops without an answer";
            Diagnostic::note("reject-drops", message, rule.place, "ebtables cannot reject")
                .help("write `drop`, or a rule of an iptables protocol such as `all`")
        });
    }
    match condition::compile(rule, facing(side, rule.direction), target(rule.action), draft.quirks) {
        Ok(made) => made.into_iter().map(|made| PlacedRule::bridge(made, Some(rule.place))).collect(),
        Err(fault) => {
            draft.refuse(fault);
            Vec::new()
        }
    }
}

/// `accept` ACCEPT, `drop` and `reject` DROP, `return` RETURN, `continue` CONTINUE (nwfilter.md 2.4)
fn target(action: Action) -> BridgeTarget {
    match action {
        Action::Accept => BridgeTarget::Accept,
        Action::Drop | Action::Reject => BridgeTarget::Drop,
        Action::Return => BridgeTarget::Return,
        Action::Continue => BridgeTarget::Continue,
    }
}

/// A sub-chain that the tools cannot jump to (nwfilter.md 3.1); `place` is a rule in it.
fn refuse_name(guest: &GuestPolicy, label: &str, place: Span, NameTooLong { name }: &NameTooLong) -> Fault {
    let room = chain_name::LONGEST.saturating_sub(name.len() - label.len());
    let expected = format!("a filter chain of this device may have {room} characters");
    let diagnostic = Diagnostic::error("chain-name-too-long", format!("the chain name `{name}` is too long"), guest.place, expected)
        .also(place, "a rule of the filter chain")
        .help("shorten the filter's `chain` or the device's name");
    Fault::new(diagnostic)
}

fn chain_id(chain: ChainName) -> ChainId {
    ChainId { family: Family::Bridge, table: Table::Nat, chain }
}

/// Whether a rule has an instance on this side.
fn judges(side: Side, rule: &PolicyRule) -> bool {
    let elsewhere = match side {
        Side::FromGuest => Direction::In,
        Side::ToGuest => Direction::Out,
    };
    rule.protocol.layer() == Layer::Link && rule.direction != elsewhere
}

/// An `inout` rule is written from the viewpoint of traffic to the guest (nwfilter.md 2.5).
fn facing(side: Side, direction: Direction) -> Facing {
    if side == Side::FromGuest && direction == Direction::InOut { Facing::Reversed } else { Facing::AsWritten }
}

#[cfg(test)]
mod tests;
