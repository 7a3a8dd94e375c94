//! The layer-2 rules of a guest into chains of ebtables' nat table (nwfilter.md 2.5, 3.2 to 3.4).
//!
//! Each side of the guest (what it sends, what it is sent) has a root chain, hooked to its device, and one sub-chain per filter chain.
//! [`condition`] turns a rule's conditions into matches; this file decides in which chain a rule stands and where the jumps go.

mod condition;

use std::sync::Arc;

use super::value::{Facing, Fault};
use super::{Draft, ObjectRules, PlacedRule, is_root};
use crate::addr::{DeviceName, Mac};
use crate::diagnostic::Diagnostic;
use crate::model::filter::{Action, Direction, Layer, Protocol};
use crate::resolve::{GuestPolicy, PolicyRule};
use crate::ruleset::chain_name::{self, NameTooLong, Side};
use crate::ruleset::rule::{BridgeRule, BridgeTarget, EtherType, Invertible, MacNet};
use crate::ruleset::{ChainId, ChainName, Family, Table};
use crate::source::Span;

const SIDES: [Side; 2] = [Side::FromGuest, Side::ToGuest];

/// A sub-chain of one side.
struct SubChain<'a> {
    /// The filter's chain.
    label: &'a Arc<str>,
    /// Where its jump goes among the rules of the root chain.
    priority: i16,
    rules: Vec<PlacedRule>,
    /// The rule that gave the priority.
    place: Span,
}

/// Compiles the layer-2 rules; `sorted` are the same rules as `collected` in the order of nwfilter.md 3.3 step 2.
pub(super) fn compile(draft: &mut Draft, collected: &[PolicyRule], sorted: &[&PolicyRule]) {
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
fn compile_side(draft: &mut Draft, side: Side, collected: &[PolicyRule], sorted: &[&PolicyRule]) {
    let mut sub_chains = register(side, collected);
    let mut root: Vec<(i16, PlacedRule)> = Vec::new();
    let mut judged = false;
    for rule in sorted.iter().copied().filter(|rule| judges(side, rule)) {
        judged = true;
        let made = make(draft, side, rule);
        if is_root(rule) {
            root.extend(made.into_iter().map(|made| (rule.priority, made)));
        } else if let Some(chain) = sub_chains.iter_mut().find(|chain| chain.label == &rule.chain.name) {
            chain.rules.extend(made);
            // Several filters may share a chain: the last rule's filter gives the priority.
            (chain.priority, chain.place) = (rule.chain.priority, rule.place);
        }
    }
    if !judged {
        return;
    }
    // Stable: chains of equal priority keep collection order, where libvirt's order is random (nwfilter.md 3.5).
    sub_chains.sort_by_key(|chain| chain.priority);
    let guest = draft.guest;
    let mut jumps = Vec::with_capacity(sub_chains.len());
    for chain in sub_chains {
        let name = match chain_name::bridge_sub_chain(side, &guest.device, chain.label) {
            Ok(name) => name,
            Err(NameTooLong { name }) => {
                draft.refuse(refuse_name(guest, &chain, &name));
                continue;
            }
        };
        jumps.push((chain.priority, PlacedRule::bridge(jump(chain.label, name.clone()), Some(chain.place))));
        draft.rules.chains.insert(chain_id(name), chain.rules);
    }
    add_root(&guest.device, side, merge(root, jumps), Some(guest.place), &mut draft.rules);
}

/// The sub-chains that rules of this side stand in, in collection order.
fn register(side: Side, collected: &[PolicyRule]) -> Vec<SubChain<'_>> {
    let mut chains: Vec<SubChain> = Vec::new();
    for rule in collected.iter().filter(|rule| judges(side, rule) && !is_root(rule)) {
        if !chains.iter().any(|chain| chain.label == &rule.chain.name) {
            chains.push(SubChain { label: &rule.chain.name, priority: rule.chain.priority, rules: Vec::new(), place: rule.place });
        }
    }
    chains
}

/// Root rules and jumps as one chain; both come sorted by priority.
fn merge(root: Vec<(i16, PlacedRule)>, jumps: Vec<(i16, PlacedRule)>) -> Vec<PlacedRule> {
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
        const TYPES: [(&str, u16); 5] = [
            ("ipv4", condition::IPV4),
            ("ipv6", condition::IPV6),
            ("arp", condition::ARP),
            ("rarp", condition::RARP),
            ("vlan", condition::VLAN),
        ];
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

/// The tools cannot jump to the chain (nwfilter.md 3.1).
fn refuse_name(guest: &GuestPolicy, chain: &SubChain, name: &str) -> Fault {
    let message = format!("the chain name `{name}` is too long");
    let room = chain_name::LONGEST.saturating_sub(name.len() - chain.label.len());
    let label = format!("a filter chain of this device may have {room} characters");
    let diagnostic = Diagnostic::error("chain-name-too-long", message, guest.place, label)
        .also(chain.place, "a rule of the filter chain")
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

impl Protocol {
    /// The Ethernet type that the element itself stands for.
    fn ether_type(self) -> Option<u16> {
        match self {
            Self::Vlan => Some(condition::VLAN),
            Self::Arp => Some(condition::ARP),
            Self::Rarp => Some(condition::RARP),
            Self::Ip => Some(condition::IPV4),
            Self::Ipv6 => Some(condition::IPV6),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
