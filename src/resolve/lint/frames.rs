//! What a rule matches on one side of a guest, as sets that can be compared.
//!
//! What goes in is a rule with typed conditions; what comes out is a list of constraints, each on one field of a frame as it is seen on that
//! side. What has no such form (limits, address sets, combinations that a tool would refuse) makes the list an upper bound, and
//! then the rule is never said to cover another one. So every answer here is "surely" or "not surely".

use ipnet::IpNet;

use super::super::order::{Gate, Side};
use super::super::{Condition, PolicyRule};
use crate::addr::Mac;
use crate::model::Quirks;
use crate::model::filter::{Action, AttributeName as Name, Direction, Layer, Literal, Protocol, States};

/// The frames that a rule matches, or more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Frames {
    /// All must hold; a field may have several.
    constraints: Vec<Constraint>,
    /// Some condition is not among the constraints.
    is_upper_bound: bool,
    /// A condition that nothing can meet.
    is_empty: bool,
}

/// What one field must be. `field` is an attribute that stands for it, already swapped where the rule is reversed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Constraint {
    field: Name,
    values: Values,
    negated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Values {
    /// Numbers and addresses, both ends included.
    Range(u128, u128),
    /// Values without order, of which a packet may have several; only equality says anything.
    Same(Literal),
    /// The part of a conversation that an `accept` without `state` is for; with the direction looked at, or without (ICMP types).
    Part(Side, Direction, Directed),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directed {
    Yes,
    No,
}

/// Without any of these a layer-3 rule with a source Ethernet address has no reversed instance (nwfilter.md 2.7).
const REVERSIBLE: [Name; 10] = [
    Name::SrcIpAddr,
    Name::DstIpAddr,
    Name::SrcIpFrom,
    Name::DstIpFrom,
    Name::Dscp,
    Name::TcpFlags,
    Name::SrcPortStart,
    Name::DstPortStart,
    Name::TcpOption,
    Name::Type,
];

/// One rule as seen from one side.
struct View<'a> {
    rule: &'a PolicyRule,
    reversed: bool,
    quirks: Quirks,
    frames: Frames,
}

/// The frames of a side that a rule matches, its chain's jump left out; `None` where it has no instance.
pub(super) fn of_rule(rule: &PolicyRule, side: Side, quirks: Quirks) -> Option<Frames> {
    let has_type = matches!(rule.protocol, Protocol::Icmp | Protocol::Icmpv6) && rule.condition(Name::Type).is_some();
    let reversed = match (rule.protocol.layer(), side, rule.direction) {
        (Layer::Link, Side::FromGuest, Direction::In) | (Layer::Link, Side::ToGuest, Direction::Out) => return None,
        (Layer::Link, side, direction) => side == Side::FromGuest && direction == Direction::InOut,
        // nwfilter.md row 5
        (_, _, Direction::InOut) if has_type && quirks == Quirks::Libvirt => return None,
        (_, Side::FromGuest, direction) => direction != Direction::Out,
        (_, Side::ToGuest, direction) => direction == Direction::Out,
    };
    let mut view = View { rule, reversed, quirks, frames: Frames::default() };
    view.protocol();
    for condition in &rule.conditions {
        view.condition(condition);
    }
    if rule.protocol.layer() != Layer::Link && !view.conversation(side, has_type) {
        return None;
    }
    Some(view.frames)
}

impl Frames {
    /// The frames that jump to a chain.
    pub(super) fn through(gate: Gate) -> Self {
        let mut frames = Self::default();
        match gate {
            Gate::EtherType(ether_type) => frames.number(Name::ProtocolId, u128::from(ether_type)),
            Gate::Destination(mac) => frames.number(Name::DstMacAddr, mac_number(mac)),
            Gate::Open => {}
        }
        frames
    }

    /// The frames from any Ethernet address but this one.
    pub(super) fn not_from(mac: Mac) -> Self {
        let mut frames = Self::default();
        frames.number(Name::SrcMacAddr, mac_number(mac));
        frames.constraints[0].negated = true;
        frames
    }

    /// The frames that are in both.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.constraints.extend_from_slice(&other.constraints);
        self.is_upper_bound |= other.is_upper_bound;
        self.is_empty |= other.is_empty;
        self
    }

    /// True when every frame of `other` is surely one of these.
    pub(super) fn cover(&self, other: &Self) -> bool {
        !self.is_upper_bound
            && !self.is_empty
            && self.constraints.iter().all(|wanted| other.constraints.iter().any(|given| given.implies(wanted)))
    }

    /// True when surely no frame is among these.
    pub(super) fn are_none(&self) -> bool {
        let constraints = &self.constraints;
        self.is_empty || constraints.iter().enumerate().any(|(at, one)| constraints[at + 1..].iter().any(|other| one.contradicts(other)))
    }

    /// True when they are those from single Ethernet addresses, named one by one.
    pub(super) fn name_their_source(&self) -> bool {
        let is_one = |constraint: &Constraint| matches!(constraint.values, Values::Range(first, last) if first == last);
        self.constraints.iter().any(|constraint| constraint.field == Name::SrcMacAddr && !constraint.negated && is_one(constraint))
    }

    fn number(&mut self, field: Name, number: u128) {
        self.constraints.push(Constraint { field, values: Values::Range(number, number), negated: false });
    }
}

impl Constraint {
    /// True when whatever meets this one meets `wanted`. A field that a frame does not have meets neither, negated or not.
    fn implies(&self, wanted: &Self) -> bool {
        if self.field != wanted.field {
            return false;
        }
        let (Values::Range(first, last), Values::Range(from, to)) = (&self.values, &wanted.values) else {
            return self.values == wanted.values && self.negated == wanted.negated;
        };
        match (self.negated, wanted.negated) {
            (false, false) => from <= first && last <= to,
            (false, true) => last < from || to < first,
            (true, true) => first <= from && to <= last,
            (true, false) => false,
        }
    }

    /// True when nothing meets both.
    fn contradicts(&self, other: &Self) -> bool {
        if self.field != other.field {
            return false;
        }
        let (Values::Range(first, last), Values::Range(from, to)) = (&self.values, &other.values) else { return false };
        match (self.negated, other.negated) {
            (false, false) => last < from || to < first,
            (false, true) => from <= first && last <= to,
            (true, false) => first <= from && to <= last,
            (true, true) => false,
        }
    }
}

impl View<'_> {
    /// What the element itself says.
    fn protocol(&mut self) {
        let ether_type = |ether_type| (Name::ProtocolId, ether_type);
        let (field, number) = match self.rule.protocol {
            Protocol::Vlan => ether_type(0x8100),
            Protocol::Arp => ether_type(0x0806),
            Protocol::Rarp => ether_type(0x8035),
            Protocol::Ip => ether_type(0x0800),
            Protocol::Ipv6 => ether_type(0x86dd),
            Protocol::Stp => (Name::DstMacAddr, mac_number(Mac::BRIDGE_GROUP)),
            Protocol::Tcp | Protocol::TcpIpv6 => (Name::IpProtocol, 6),
            Protocol::Udp | Protocol::UdpIpv6 => (Name::IpProtocol, 17),
            Protocol::UdpLite | Protocol::UdpLiteIpv6 => (Name::IpProtocol, 136),
            Protocol::Esp | Protocol::EspIpv6 => (Name::IpProtocol, 50),
            Protocol::Ah | Protocol::AhIpv6 => (Name::IpProtocol, 51),
            Protocol::Sctp | Protocol::SctpIpv6 => (Name::IpProtocol, 132),
            Protocol::Icmp => (Name::IpProtocol, 1),
            Protocol::Igmp => (Name::IpProtocol, 2),
            Protocol::Icmpv6 => (Name::IpProtocol, 58),
            Protocol::None | Protocol::Mac | Protocol::All | Protocol::AllIpv6 => return,
        };
        self.frames.number(field, number);
    }

    fn condition(&mut self, condition: &Condition) {
        let is_link = self.rule.protocol.layer() == Layer::Link;
        match condition.name {
            // iptables cannot match it when reversed and leaves it out.
            Name::SrcMacAddr if !is_link && self.reversed => {}
            Name::SrcMacAddr => self.mac(condition, Name::SrcMacMask),
            Name::DstMacAddr => self.mac(condition, Name::DstMacMask),
            Name::RootAddress => self.mac(condition, Name::RootAddressMask),
            Name::SenderAddress => self.mac(condition, Name::SenderAddressMask),
            Name::SrcIpAddr => self.net(condition, Name::SrcIpMask),
            Name::DstIpAddr => self.net(condition, Name::DstIpMask),
            Name::ArpSrcIpAddr => self.net(condition, Name::ArpSrcIpMask),
            // libvirt lends it the source's mask (row 9).
            Name::ArpDstIpAddr
                if self.quirks == Quirks::Libvirt
                    && self.rule.condition(Name::ArpDstIpMask).is_none()
                    && self.rule.condition(Name::ArpSrcIpAddr).is_some() =>
            {
                self.net(condition, Name::ArpSrcIpMask);
            }
            Name::ArpDstIpAddr => self.net(condition, Name::ArpDstIpMask),
            Name::SrcIpFrom if self.counts_range(Name::SrcIpAddr) => self.range(condition, Some(Name::SrcIpTo)),
            Name::DstIpFrom if self.counts_range(Name::DstIpAddr) => self.range(condition, Some(Name::DstIpTo)),
            Name::SrcPortStart => self.range(condition, Some(Name::SrcPortEnd)),
            Name::DstPortStart => self.range(condition, Some(Name::DstPortEnd)),
            Name::RootPriority => self.range(condition, Some(Name::RootPriorityHi)),
            Name::RootCost => self.range(condition, Some(Name::RootCostHi)),
            Name::SenderPriority => self.range(condition, Some(Name::SenderPriorityHi)),
            Name::StpPort => self.range(condition, Some(Name::StpPortHi)),
            Name::Age => self.range(condition, Some(Name::AgeHi)),
            Name::MaxAge => self.range(condition, Some(Name::MaxAgeHi)),
            Name::HelloTime => self.range(condition, Some(Name::HelloTimeHi)),
            Name::ForwardDelay => self.range(condition, Some(Name::ForwardDelayHi)),
            // What ebtables reads there depends on where the number came from (row 8).
            Name::EncapProtocol if self.quirks == Quirks::Libvirt => self.frames.is_upper_bound = true,
            Name::ProtocolId | Name::VlanId | Name::EncapProtocol | Name::IpProtocol | Name::Dscp => self.range(condition, None),
            Name::HwType | Name::ProtocolType | Name::Opcode | Name::ArpSrcMacAddr | Name::ArpDstMacAddr | Name::StpType => {
                self.range(condition, None);
            }
            Name::Type | Name::TypeEnd | Name::Code | Name::CodeEnd => self.icmp(condition),
            // A frame may have several flags or options: different values do not exclude each other.
            Name::TcpFlags if self.rule.protocol == Protocol::TcpIpv6 && self.quirks == Quirks::Libvirt => {}
            Name::TcpFlags | Name::TcpOption | Name::StpFlags => self.same(condition),
            Name::Gratuitous if condition.value == Literal::Flag(true) => self.same(condition),
            // What a set holds, and how many connections there are, changes.
            Name::IpSet | Name::ConnLimitAbove => self.frames.is_upper_bound = true,
            // Parts of other conditions, `state` (see `conversation`), and what matches nothing.
            _ => {}
        }
    }

    /// libvirt passes over a range beside an address.
    fn counts_range(&self, address: Name) -> bool {
        self.quirks == Quirks::Fixed || self.rule.condition(address).is_none()
    }

    /// `A/M`: masks are ones followed by zeros.
    fn mac(&mut self, condition: &Condition, mask: Name) {
        let mask = match self.rule.condition(mask).map(|mask| &mask.value) {
            None => Mac::BROADCAST,
            Some(&Literal::Mac(mask)) => mask,
            Some(_) => return self.give_up(),
        };
        let Literal::Mac(mac) = condition.value else { return self.give_up() };
        let free = mac_number(Mac::BROADCAST) & !mac_number(mask);
        if free & (free + 1) != 0 {
            return self.give_up();
        }
        let first = mac_number(mac) & !free;
        self.add(condition, Values::Range(first, first | free));
    }

    fn net(&mut self, condition: &Condition, mask: Name) {
        let address = match condition.value {
            Literal::Ipv4(address) => address.into(),
            Literal::Ipv6(address) => address.into(),
            _ => return self.give_up(),
        };
        let net = match self.rule.condition(mask).map(|mask| &mask.value) {
            None => Ok(IpNet::from(address)),
            Some(&Literal::Prefix(prefix)) => IpNet::new(address, prefix),
            Some(_) => return self.give_up(),
        };
        match net {
            // iptables leaves out a net that holds everything, negated it is refused.
            Ok(net) if net.prefix_len() == 0 && self.rule.protocol.layer() != Layer::Link => {
                self.frames.is_upper_bound |= condition.negated;
            }
            Ok(net) => self.add(condition, Values::Range(ip_number(net.network()), ip_number(net.broadcast()))),
            Err(_) => self.give_up(),
        }
    }

    /// From `condition` to the condition called `end`; one value where there is no end.
    fn range(&mut self, condition: &Condition, end: Option<Name>) {
        let end = end.and_then(|end| self.rule.condition(end));
        let ends = match (&condition.value, end) {
            (&Literal::Range(first, last), None) => Some((u128::from(first), u128::from(last))),
            (first, end) => number(first).zip(number(end.map_or(first, |end| &end.value))),
        };
        match ends {
            Some((first, last)) if first <= last => self.add(condition, Values::Range(first, last)),
            // Refused in `fixed` quirks, and by most tools in both: then it has been said.
            Some(_) if self.quirks == Quirks::Libvirt && self.rule.protocol.layer() != Layer::Link && !self.is_negated(condition) => {
                self.frames.is_empty = true;
            }
            _ => self.give_up(),
        }
    }

    /// A type with its code is one match: negated, it is no product of fields.
    fn icmp(&mut self, condition: &Condition) {
        let layer2 = self.rule.protocol == Protocol::Ipv6;
        let given = |name| self.rule.condition(name);
        let all = [Name::Type, Name::TypeEnd, Name::Code, Name::CodeEnd];
        let first = all.into_iter().find(|&name| given(name).is_some());
        if !layer2 && given(Name::Type).is_none() {
            return; // A code alone is ignored (nwfilter.md 2.8).
        }
        let any_type = !layer2 && given(Name::Type).and_then(Condition::number) == Some(255);
        if any_type || all.into_iter().filter_map(given).any(|condition| condition.negated) {
            return self.give_up();
        }
        if first != Some(condition.name) {
            return;
        }
        for (low, high) in [(Name::Type, Name::TypeEnd), (Name::Code, Name::CodeEnd)] {
            let (low_value, high_value) = (given(low).and_then(Condition::number), given(high).and_then(Condition::number));
            let (from, to) = match (low_value, high_value) {
                (None, None) => continue,
                (from, to) => (from.unwrap_or(0), to.or(from).unwrap_or(255)),
            };
            if from > to {
                return self.give_up();
            }
            self.frames.constraints.push(Constraint { field: low, values: Values::Range(from.into(), to.into()), negated: false });
        }
    }

    fn same(&mut self, condition: &Condition) {
        self.add(condition, Values::Same(condition.value.clone()));
    }

    /// The states that the rule is for (nwfilter.md 2.7); false where it has no instance on this side.
    fn conversation(&mut self, side: Side, has_type: bool) -> bool {
        let rule = self.rule;
        let has = |name| rule.condition(name).is_some();
        let only_mac = has(Name::SrcMacAddr) && !REVERSIBLE.into_iter().any(has);
        let one_way = has_type && rule.direction != Direction::InOut;
        let replies = rule.action == Action::Accept && rule.state_match && rule.direction != Direction::InOut && !has(Name::State);
        let lost_mac = self.quirks == Quirks::Fixed && has(Name::SrcMacAddr) && !replies;
        if self.reversed && (one_way || has(Name::ConnLimitAbove) || only_mac || lost_mac) {
            return false;
        }
        if !rule.state_match {
            return true;
        }
        let accept = rule.action == Action::Accept;
        let explicit = rule.condition(Name::State).and_then(|condition| match condition.value {
            Literal::States(states) if states != States::default() => Some((condition, states)),
            _ => None,
        });
        match (explicit, rule.direction) {
            (Some(_), Direction::In) if side == Side::FromGuest => return false,
            (Some(_), Direction::Out) if side == Side::ToGuest => return false,
            (Some((_, states)), _) if states.none || accept && has(Name::ConnLimitAbove) => {}
            (Some((condition, _)), _) => self.same(condition),
            (None, direction) if accept && direction != Direction::InOut && !has(Name::ConnLimitAbove) => {
                let directed = if has_type { Directed::No } else { Directed::Yes };
                let values = Values::Part(side, direction, directed);
                self.frames.constraints.push(Constraint { field: Name::State, values, negated: false });
            }
            _ => {}
        }
        true
    }

    fn add(&mut self, condition: &Condition, values: Values) {
        let field = if self.reversed { swapped(condition.name) } else { condition.name };
        let negated = self.is_negated(condition);
        self.frames.constraints.push(Constraint { field: canonical(field), values, negated });
    }

    /// Negation as it counts: libvirt takes that of source ports for destination ports (row 6), and ignores it for `state`.
    fn is_negated(&self, condition: &Condition) -> bool {
        let inherits = self.quirks == Quirks::Libvirt && self.rule.protocol.layer() != Layer::Link;
        match condition.name {
            Name::State => condition.negated && self.quirks == Quirks::Fixed,
            Name::DstPortStart if inherits => self.rule.condition(Name::SrcPortStart).is_some_and(|source| source.negated),
            _ => condition.negated,
        }
    }

    /// Leaves a condition out.
    fn give_up(&mut self) {
        self.frames.is_upper_bound = true;
    }
}

/// The field that a reversed rule looks at (nwfilter.md 2.5).
fn swapped(name: Name) -> Name {
    const PAIRS: [(Name, Name); 6] = [
        (Name::SrcMacAddr, Name::DstMacAddr),
        (Name::ArpSrcMacAddr, Name::ArpDstMacAddr),
        (Name::ArpSrcIpAddr, Name::ArpDstIpAddr),
        (Name::SrcIpAddr, Name::DstIpAddr),
        (Name::SrcIpFrom, Name::DstIpFrom),
        (Name::SrcPortStart, Name::DstPortStart),
    ];
    let other = |&(one, two): &(Name, Name)| if one == name { Some(two) } else { (two == name).then_some(one) };
    PAIRS.iter().find_map(other).unwrap_or(name)
}

/// A net and a range of addresses look at one field.
fn canonical(name: Name) -> Name {
    match name {
        Name::SrcIpFrom => Name::SrcIpAddr,
        Name::DstIpFrom => Name::DstIpAddr,
        other => other,
    }
}

fn number(value: &Literal) -> Option<u128> {
    Some(match *value {
        Literal::Number(number) => number.into(),
        Literal::Mac(mac) => mac_number(mac),
        Literal::Ipv4(address) => ip_number(address.into()),
        Literal::Ipv6(address) => ip_number(address.into()),
        _ => return None,
    })
}

fn mac_number(mac: Mac) -> u128 {
    mac.0.iter().fold(0, |number, &byte| number << 8 | u128::from(byte))
}

fn ip_number(address: std::net::IpAddr) -> u128 {
    match address {
        std::net::IpAddr::V4(address) => u32::from(address).into(),
        std::net::IpAddr::V6(address) => address.into(),
    }
}
