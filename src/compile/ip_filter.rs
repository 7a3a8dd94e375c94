//! The layer-3 rules of a guest into chains of iptables' and ip6tables' filter tables (nwfilter.md 2.6 to 2.8, 3.2, 3.3).
//!
//! In each family that it has rules in, a guest has three chains: FI (what it sends, forwarded), FO (what it is sent) and HI (what it
//! sends to the host itself, always a copy of FI). [`condition`] turns a rule's conditions into matches; this file decides which
//! instances of a rule there are and which connection states each of them takes.

mod condition;

use super::value::{Facing, Fault};
use super::{Draft, PlacedRule};
use crate::addr::DeviceName;
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::model::filter::{Action, AttributeName as Name, Direction, Layer, Literal, Protocol, States};
use crate::resolve::{Condition, PolicyRule};
use crate::ruleset::chain_name::{self, Path, Side};
use crate::ruleset::rule::{ConnectionDirection, ConnectionStates, Invertible, IpMatch, IpRule, IpTarget};
use crate::ruleset::{ChainId, ChainName, Family, Table};

/// Compiles the layer-3 rules, given in the order of nwfilter.md 3.3 step 2.
pub(super) fn compile(draft: &mut Draft, sorted: &[&PolicyRule]) {
    compile_family(draft, Layer::Ipv4, Family::Ipv4, sorted);
    compile_family(draft, Layer::Ipv6, Family::Ipv6, sorted);
}

/// One family's chains: all three, even if some stay empty, where it has a rule; nothing where it has none.
fn compile_family(draft: &mut Draft, layer: Layer, family: Family, sorted: &[&PolicyRule]) {
    let (mut from_guest, mut to_guest) = (Vec::new(), Vec::new());
    let mut judged = false;
    for &rule in sorted.iter().filter(|rule| rule.protocol.layer() == layer) {
        judged = true;
        remark(draft, rule);
        if vanishes(rule, draft.quirks) {
            continue;
        }
        let instances = Instances { rule, quirks: draft.quirks };
        let place = |made| PlacedRule::ip(family, made, Some(rule.place));
        match instances.make(Side::FromGuest).and_then(|from| Ok((from, instances.make(Side::ToGuest)?))) {
            Ok((from, to)) => {
                from_guest.extend(from.map(place));
                to_guest.extend(to.map(place));
            }
            Err(fault) => draft.refuse(fault),
        }
    }
    if judged {
        add_chains(draft, family, from_guest, to_guest);
    }
}

/// The guest's own chains and the rules in libvirt's base chains that lead to them.
fn add_chains(draft: &mut Draft, family: Family, from_guest: Vec<PlacedRule>, to_guest: Vec<PlacedRule>) {
    let (device, place) = (&draft.guest.device, Some(draft.guest.place));
    let id = |chain| ChainId { family, table: Table::Filter, chain };
    let [from, to, to_host] = [Path::FromGuest, Path::ToGuest, Path::ToHost].map(|path| chain_name::ip_chain(path, device));
    for (base, link) in [
        (chain_name::GUEST_IN, from_device(device, IpTarget::Goto(from.clone()))),
        (chain_name::GUEST_OUT, to_device(device, IpTarget::Goto(to.clone()))),
        (chain_name::GUEST_HOST_IN, from_device(device, IpTarget::Goto(to_host.clone()))),
        (chain_name::GUEST_IN_POST, from_device(device, IpTarget::Accept)),
    ] {
        draft.rules.shared.insert(id(ChainName::new(base)), vec![PlacedRule::ip(family, link, place)]);
    }
    draft.rules.chains.insert(id(to_host), from_guest.clone());
    draft.rules.chains.insert(id(from), from_guest);
    draft.rules.chains.insert(id(to), to_guest);
}

/// `-m physdev --physdev-in IF -g CHAIN`, or `-j ACCEPT`
fn from_device(device: &DeviceName, target: IpTarget) -> IpRule {
    IpRule { matches: vec![IpMatch::PhysdevIn(Invertible::is(device.clone()))], ..IpRule::new(target) }
}

/// `-m physdev --physdev-is-bridged --physdev-out IF -g CHAIN`
fn to_device(device: &DeviceName, target: IpTarget) -> IpRule {
    let matches = vec![IpMatch::PhysdevOut(Invertible::is(device.clone())), IpMatch::PhysdevIsBridged(Invertible::is(()))];
    IpRule { matches, ..IpRule::new(target) }
}

/// Whether libvirt makes nothing of this rule: an ICMP type has no instance that is reversed, and none at all in an `inout` rule (row 5).
///
/// `fixed` makes what `inout` means without a type, narrowed to the type on both sides. (Two rules, `out` and `in`, would be another meaning: they
/// match connection states, and no ICMP error is ever NEW or ESTABLISHED.)
fn vanishes(rule: &PolicyRule, quirks: Quirks) -> bool {
    rule.direction == Direction::InOut && icmp_type(rule).is_some() && quirks == Quirks::Libvirt
}

/// The instances of one rule.
struct Instances<'a> {
    rule: &'a PolicyRule,
    quirks: Quirks,
}

impl Instances<'_> {
    /// The rule for one side; `None` where there is none (nwfilter.md 2.7 and 2.8).
    fn make(&self, side: Side) -> Result<Option<IpRule>, Fault> {
        let facing = self.facing(side);
        self.check_source_mac()?;
        // Made even where it is then left out, so that no fault depends on the direction.
        let mut made = condition::compile(self.rule, facing, self.target(side)?, self.quirks)?;
        if self.state_speaks_of_other(side) || facing == Facing::Reversed && self.stands_as_written_only(side, &made) {
            return Ok(None);
        }
        let negated = self.negates_states();
        made.matches.extend(self.states(side).map(|states| IpMatch::ConnectionState(Invertible::new(negated, states))));
        made.matches.extend(self.conversation(side).map(IpMatch::ConnectionDirection));
        Ok(Some(made))
    }

    /// FI and HI face as written for `out` rules only, FO reversed for them only.
    fn facing(&self, side: Side) -> Facing {
        match (side, self.rule.direction) {
            (Side::FromGuest, Direction::Out) | (Side::ToGuest, Direction::In | Direction::InOut) => Facing::AsWritten,
            (Side::FromGuest, Direction::In | Direction::InOut) | (Side::ToGuest, Direction::Out) => Facing::Reversed,
        }
    }

    /// An accepted packet of the guest's goes on to the chains of whoever receives it; one to the guest is done.
    fn target(&self, side: Side) -> Result<IpTarget, Fault> {
        Ok(match (self.rule.action, side) {
            (Action::Accept, Side::ToGuest) => IpTarget::Accept,
            (Action::Accept, Side::FromGuest) | (Action::Return, _) => IpTarget::Return,
            (Action::Drop, _) => IpTarget::Drop,
            (Action::Reject, _) => IpTarget::Reject,
            (Action::Continue, _) => return Err(refuse_continue(self.rule)),
        })
    }

    /// An explicit `state` is that of packets in the rule's own direction (row 21).
    fn state_speaks_of_other(&self, side: Side) -> bool {
        let other = match side {
            Side::FromGuest => Direction::In,
            Side::ToGuest => Direction::Out,
        };
        self.explicit_states().is_some() && self.rule.direction == other
    }

    /// Limits are never reversed, ICMP types only in `inout` rules (rows 5 and 22). A source Ethernet address cannot be, so where the rule says nothing else
    /// there is nothing to reverse; states, sets and comments do not count. Where it says more, `fixed` reverses it for replies only: anything else would
    /// be judged without its Ethernet address.
    fn stands_as_written_only(&self, side: Side, reversed: &IpRule) -> bool {
        let lacks_address = self.quirks == Quirks::Fixed && !self.is_reply(side);
        let counts = |made: &IpMatch| !matches!(made, IpMatch::Set(_) | IpMatch::ConnectionLimit(_) | IpMatch::Comment(_));
        let says_something = reversed.source.is_some() || reversed.destination.is_some() || reversed.matches.iter().any(counts);
        connection_limit(self.rule).is_some()
            || icmp_type(self.rule).is_some() && self.rule.direction != Direction::InOut
            || self.rule.condition(Name::SrcMacAddr).is_some() && (lacks_address || !says_something)
    }

    /// No rule can look at the Ethernet address that a packet goes to, so one that should in one of two directions cannot be made.
    ///
    /// libvirt makes it without the address, or not at all.
    fn check_source_mac(&self) -> Result<(), Fault> {
        match self.rule.condition(Name::SrcMacAddr) {
            Some(mac) if self.quirks == Quirks::Fixed && self.rule.direction == Direction::InOut => {
                let message = "`srcmacaddr` cannot be matched in both directions";
                let expected = "iptables cannot look at the address that a packet goes to";
                Err(Fault::at(mac, "source-mac-inout", message, expected).help("write one rule for `in` and one for `out`"))
            }
            _ => Ok(()),
        }
    }

    /// Whether an instance lets through replies to what the rule let in, and nothing else.
    fn is_reply(&self, side: Side) -> bool {
        matches!(self.conversation(side), Some(ConnectionDirection::Reply))
    }

    /// `match='no'` on `state`, which libvirt does not look at.
    fn negates_states(&self) -> bool {
        let own = self.explicit_states().is_some();
        own && self.quirks == Quirks::Fixed && self.rule.condition(Name::State).is_some_and(|state| state.negated)
    }

    /// `state`, where it counts: then it alone decides which instances there are and what they match (mode B).
    fn explicit_states(&self) -> Option<States> {
        states(self.rule).filter(|_| self.rule.state_match).map(|(states, _)| states)
    }

    /// `-m conntrack --ctstate ..`
    fn states(&self, side: Side) -> Option<ConnectionStates> {
        let accept = self.rule.action == Action::Accept;
        if accept && connection_limit(self.rule).is_some() {
            return None;
        }
        if let Some(States { invalid, new, related, established, none }) = self.explicit_states() {
            return (!none).then(|| ConnectionStates { invalid, new, related, established, ..ConnectionStates::default() });
        }
        let stateful = accept && self.rule.state_match;
        Some(match (stateful, self.opens(side)?) {
            (false, _) => return None,
            (true, Opens::Conversation) => ConnectionStates { new: true, established: true, ..ConnectionStates::default() },
            (true, Opens::Nothing) => ConnectionStates { established: true, ..ConnectionStates::default() },
        })
    }

    /// `-m conntrack --ctdir ..`; not beside an ICMP type, where it would be wrong for errors.
    fn conversation(&self, side: Side) -> Option<ConnectionDirection> {
        if self.explicit_states().is_some() || icmp_type(self.rule).is_some() {
            return None;
        }
        self.states(side)?;
        Some(match self.opens(side)? {
            Opens::Conversation => ConnectionDirection::Original,
            Opens::Nothing => ConnectionDirection::Reply,
        })
    }

    /// Which part of a conversation a side carries; `None` for both parts.
    fn opens(&self, side: Side) -> Option<Opens> {
        match (self.rule.direction, side) {
            (Direction::InOut, _) => None,
            (Direction::Out, Side::FromGuest) | (Direction::In, Side::ToGuest) => Some(Opens::Conversation),
            (Direction::Out, Side::ToGuest) | (Direction::In, Side::FromGuest) => Some(Opens::Nothing),
        }
    }
}

/// Whether packets of a side may begin a conversation.
enum Opens {
    Conversation,
    /// They only answer.
    Nothing,
}

/// A non-empty `state`.
fn states(rule: &PolicyRule) -> Option<(States, &Condition)> {
    let condition = rule.condition(Name::State)?;
    match condition.value {
        Literal::States(states) if states != States::default() => Some((states, condition)),
        _ => None,
    }
}

/// The ICMP type that decides about instances; a `code` alone does not.
fn icmp_type(rule: &PolicyRule) -> Option<&Condition> {
    matches!(rule.protocol, Protocol::Icmp | Protocol::Icmpv6).then(|| rule.condition(Name::Type)).flatten()
}

fn connection_limit(rule: &PolicyRule) -> Option<&Condition> {
    rule.condition(Name::ConnLimitAbove)
}

fn refuse_continue(rule: &PolicyRule) -> Fault {
    let message = "`continue` exists at layer 2 only";
    let diagnostic = Diagnostic::error("continue-on-ip-rule", message, rule.place, "expected another action for this protocol");
    Fault::new(diagnostic.help("leave the rule out: it would do nothing"))
}

/// What is as libvirt does it, in both quirks, but hardly what everybody expects (nwfilter.md rows 20 to 22).
fn remark(draft: &mut Draft, rule: &PolicyRule) {
    let one_way = rule.direction != Direction::InOut;
    match states(rule) {
        Some((_, state)) if !rule.state_match => draft.remark("state-switched-off", state.span, || {
            let message = "`state` has no effect beside `statematch='false'`";
            Diagnostic::warning("state-switched-off", message, state.span, "not matched").help("remove one of the two")
        }),
        Some((_, state)) if one_way => draft.remark("state-without-replies", state.span, || {
            let message = "a rule with `state` judges its own direction only";
            Diagnostic::note("state-without-replies", message, state.span, "no rule is made for replies")
                .help("write a second rule for the other direction, with the states that replies have")
        }),
        _ => {}
    }
    if let Some(limit) = connection_limit(rule) {
        draft.remark("connlimit-one-way", limit.span, || {
            let message = "a rule with `connlimit-above` judges one direction only, and `accept` then looks at no states";
            Diagnostic::note("connlimit-one-way", message, limit.span, "no rule is made for the other direction")
        });
    }
}

#[cfg(test)]
mod tests;
