//! The conditions of one layer-3 rule into matches of iptables and ip6tables (nwfilter.md 2.3, 2.6, 2.8), and what they would refuse into
//! faults.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::addr::PortRange;
use crate::model::Quirks;
use crate::model::filter::{AttributeName as Name, Layer, Literal, Protocol, SetDirection};
use crate::resolve::{Condition, PolicyRule};
use crate::ruleset::rule::{ConnectionLimit, IcmpType, Invertible, IpMatch, IpRule, IpTarget, SetMatch, TcpFlags};

use super::super::value::{self, Facing, Fault, invertible};

/// iptables' word for any ICMP type; ip6tables takes it literally.
const ANY_ICMP_TYPE: u8 = 255;

/// One rule as seen from one side.
struct View<'a> {
    rule: &'a PolicyRule,
    facing: Facing,
    quirks: Quirks,
}

type Made = Result<Option<IpMatch>, Fault>;

/// The rule that a policy rule means, seen facing one way, without connection states.
///
/// # Errors
/// The first condition that the tool, or the kernel below it, would refuse, or that no rule can express.
pub(super) fn compile(rule: &PolicyRule, facing: Facing, target: IpTarget, quirks: Quirks) -> Result<IpRule, Fault> {
    let view = View { rule, facing, quirks };
    let mut made = IpRule::new(target);
    made.protocol = number(rule.protocol).map(Invertible::is);
    let source = view.net(Name::SrcIpAddr, Name::SrcIpMask)?;
    let destination = view.net(Name::DstIpAddr, Name::DstIpMask)?;
    (made.source, made.destination) = facing.choose((source, destination), (destination, source));
    // The range of the XML's source comes first, whichever end it is matched on: the one order that normal form keeps.
    let (last, first): (Vec<_>, Vec<_>) = rule.conditions.iter().partition(|condition| condition.name == Name::DstIpFrom);
    for condition in first.into_iter().chain(last) {
        made.matches.extend(view.condition(condition)?);
    }
    Ok(made)
}

impl View<'_> {
    fn get(&self, name: Name) -> Option<&Condition> {
        self.rule.condition(name)
    }

    /// `-s A[/M]` or `-d A[/M]`
    fn net(&self, name: Name, mask: Name) -> Result<Option<Invertible<IpNet>>, Fault> {
        let Some(condition) = self.get(name) else { return Ok(None) };
        let mask = self.get(mask);
        let net = value::net(condition, mask)?;
        self.check_family(condition, net.addr())?;
        match mask {
            Some(mask) if condition.negated && net.prefix_len() == 0 => {
                Err(Fault::at(mask, "matches-nothing", "no packet has an address outside all addresses", "expected a longer mask"))
            }
            _ => Ok(Some(invertible(condition, net))),
        }
    }

    /// The match of one condition; `None` for what is part of another condition's match, or of none.
    fn condition(&self, condition: &Condition) -> Made {
        let facing = self.facing;
        Ok(Some(match condition.name {
            // `-m mac --mac-source A`; iptables knows no destination, so it is left out of reversed instances.
            Name::SrcMacAddr if facing == Facing::AsWritten => IpMatch::MacSource(invertible(condition, value::mac(condition)?)),
            Name::SrcIpFrom if self.counts_range(Name::SrcIpAddr) => {
                facing.choose(IpMatch::SourceRange as fn(_) -> _, IpMatch::DestinationRange)(self.addresses(condition, Name::SrcIpTo)?)
            }
            Name::DstIpFrom if self.counts_range(Name::DstIpAddr) => {
                facing.choose(IpMatch::DestinationRange as fn(_) -> _, IpMatch::SourceRange)(self.addresses(condition, Name::DstIpTo)?)
            }
            Name::Dscp => IpMatch::Dscp(invertible(condition, value::number_to(condition, 63)?)),
            Name::TcpFlags => return self.tcp_flags(condition),
            Name::SrcPortStart => {
                let ports = self.ports(condition, Name::SrcPortEnd, condition.negated)?;
                facing.choose(IpMatch::SourcePort as fn(_) -> _, IpMatch::DestinationPort)(ports)
            }
            Name::DstPortStart => {
                let ports = self.ports(condition, Name::DstPortEnd, self.destination_negated(condition))?;
                facing.choose(IpMatch::DestinationPort as fn(_) -> _, IpMatch::SourcePort)(ports)
            }
            Name::TcpOption => IpMatch::TcpOption(invertible(condition, tcp_option(condition)?)),
            Name::Type => self.icmp_type(condition)?,
            Name::IpSet => return self.set(condition),
            Name::ConnLimitAbove => IpMatch::ConnectionLimit(self.connection_limit(condition)?),
            Name::Comment => match &condition.value {
                Literal::Text(text) => IpMatch::Comment(text.clone()),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        }))
    }

    /// libvirt passes over a range beside an address.
    fn counts_range(&self, address: Name) -> bool {
        self.quirks == Quirks::Fixed || self.get(address).is_none()
    }

    /// `-m iprange --src-range F-T`; iptables takes a descending range, which matches nothing, so `fixed` takes none
    fn addresses(&self, from: &Condition, to: Name) -> Result<Invertible<(IpAddr, IpAddr)>, Fault> {
        let first = value::address(from)?;
        self.check_family(from, first)?;
        let Some(to) = self.get(to) else { return Ok(invertible(from, (first, first))) };
        let last = value::address(to)?;
        self.check_family(to, last)?;
        if self.quirks == Quirks::Fixed && first > last {
            return Err(value::descending(to, first));
        }
        Ok(invertible(from, (first, last)))
    }

    fn check_family(&self, condition: &Condition, address: IpAddr) -> Result<(), Fault> {
        let (fits, expected) = match self.rule.protocol.layer() {
            Layer::Ipv6 => (address.is_ipv6(), "expected an IPv6 address"),
            Layer::Ipv4 | Layer::Link => (address.is_ipv4(), "expected an IPv4 address"),
        };
        if fits { Ok(()) } else { Err(Fault::at(condition, "unusable-value", "the address is of the other family", expected)) }
    }

    /// `--tcp-flags MASK SET`; libvirt ignores the attribute on `tcp-ipv6` (row 12)
    fn tcp_flags(&self, condition: &Condition) -> Made {
        if self.rule.protocol == Protocol::TcpIpv6 && self.quirks == Quirks::Libvirt {
            return Ok(None);
        }
        let Literal::TcpFlags(mask, set) = condition.value else { return Err(value::unusable(condition, "expected TCP flags")) };
        // Where no flag is looked at, none is seen set. iptables takes such a rule, but iptables-save does not show it, so nobody could
        // tell whether it is there.
        if mask == 0 && (set != 0) != condition.negated {
            return Err(Fault::at(condition, "matches-nothing", "no packet has these flags", "expected flags to look at before the `/`"));
        }
        Ok(Some(IpMatch::TcpFlags(invertible(condition, TcpFlags { mask, set }))))
    }

    /// `--sport S[:E]`
    ///
    /// iptables takes a descending range for udp alone (row 31); it matches nothing, so `fixed` takes none.
    fn ports(&self, start: &Condition, end: Name, negated: bool) -> Result<Invertible<PortRange>, Fault> {
        let end = self.get(end);
        let range = match (self.rule.protocol, self.quirks) {
            (Protocol::Udp | Protocol::UdpIpv6, Quirks::Libvirt) => value::ports(start, end)?,
            _ => value::ascending_ports(start, end)?,
        };
        // The tools show no port then, but for sctp, where libvirt has it so.
        let shown = self.quirks == Quirks::Libvirt && matches!(self.rule.protocol, Protocol::Sctp | Protocol::SctpIpv6);
        if negated && range == PortRange::ALL && !shown {
            return Err(Fault::at(start, "matches-nothing", "no packet has a port outside all ports", "expected a smaller range"));
        }
        Ok(Invertible::new(negated, range))
    }

    /// libvirt takes the source port's negation for the destination port too, none where there is no source port (row 6).
    fn destination_negated(&self, condition: &Condition) -> bool {
        match self.quirks {
            Quirks::Fixed => condition.negated,
            Quirks::Libvirt => self.get(Name::SrcPortStart).is_some_and(|source| source.negated),
        }
    }

    /// `--icmp-type T[/C]`, `--icmpv6-type T[/C]`; a `code` without `type` is ignored (nwfilter.md 2.8)
    fn icmp_type(&self, condition: &Condition) -> Result<IpMatch, Fault> {
        let code = self.get(Name::Code);
        if let (Quirks::Fixed, Some(code)) = (self.quirks, code)
            && code.negated != condition.negated
        {
            return Err(value::mixed_negation(condition, code));
        }
        let number = value::number(condition)?;
        if (self.quirks, self.rule.protocol, number) == (Quirks::Fixed, Protocol::Icmp, ANY_ICMP_TYPE) {
            let message = "iptables takes ICMP type 255 for any type";
            return Err(
                Fault::at(condition, "unusable-value", message, "expected a number from 0 to 254").help("leave `type` out to match any")
            );
        }
        let icmp_type = IcmpType::Type(number, code.map(value::number).transpose()?);
        Ok(IpMatch::IcmpType(invertible(condition, icmp_type)))
    }

    /// `-m set --match-set NAME FLAGS` (row 7)
    ///
    /// libvirt matches a set on `all` and `all-ipv6` only: there it forgets one without flags, elsewhere it forgets one with flags and is
    /// refused one without. `fixed` matches it everywhere and needs the flags. libvirt does not look at `match` here.
    fn set(&self, condition: &Condition) -> Made {
        let everything = matches!(self.rule.protocol, Protocol::All | Protocol::AllIpv6);
        let flags = self.get(Name::IpSetFlags);
        let Some(flags) = flags else {
            if everything && self.quirks == Quirks::Libvirt {
                return Ok(None);
            }
            let message = "`ipset` needs `ipsetflags`";
            let expected = "expected beside `ipsetflags`";
            return Err(
                Fault::at(condition, "ipset-without-flags", message, expected).help("add `ipsetflags='src'`, `'dst'` or a list of them")
            );
        };
        if !everything && self.quirks == Quirks::Libvirt {
            return Ok(None);
        }
        let Literal::Text(name) = &condition.value else { return Err(value::unusable(condition, "expected the name of a set")) };
        let Literal::SetDirections(directions) = &flags.value else { return Err(value::unusable(flags, "expected `src` and `dst`")) };
        // libvirt pastes a variable as it is, without swapping (nwfilter.md 4.2).
        let swapped = self.facing == Facing::Reversed && !(self.quirks == Quirks::Libvirt && flags.from_variable);
        let source = directions.iter().map(|&direction| (direction == SetDirection::Source) != swapped).collect();
        let negated = self.quirks == Quirks::Fixed && condition.negated;
        Ok(Some(IpMatch::Set(Invertible::new(negated, SetMatch { name: name.clone(), source }))))
    }

    /// `-m connlimit [!] --connlimit-above N`; iptables says `--connlimit-upto` for `!`
    fn connection_limit(&self, condition: &Condition) -> Result<ConnectionLimit, Fault> {
        let prefix = if self.rule.protocol.layer() == Layer::Ipv6 { 128 } else { 32 };
        let connections = value::number(condition)?;
        Ok(ConnectionLimit { above: !condition.negated, connections, prefix, by_source: true })
    }
}

/// `--tcp-option N`; iptables refuses 0
fn tcp_option(condition: &Condition) -> Result<u8, Fault> {
    match value::number(condition)? {
        0 => Err(Fault::at(condition, "unusable-value", "iptables refuses TCP option 0", "expected a number from 1 to 255")),
        option => Ok(option),
    }
}

/// `-p`; none for `all`
fn number(protocol: Protocol) -> Option<u8> {
    Some(match protocol {
        Protocol::Tcp | Protocol::TcpIpv6 => 6,
        Protocol::Udp | Protocol::UdpIpv6 => 17,
        Protocol::UdpLite | Protocol::UdpLiteIpv6 => 136,
        Protocol::Esp | Protocol::EspIpv6 => 50,
        Protocol::Ah | Protocol::AhIpv6 => 51,
        Protocol::Sctp | Protocol::SctpIpv6 => 132,
        Protocol::Icmp => 1,
        Protocol::Igmp => 2,
        Protocol::Icmpv6 => 58,
        _ => return None,
    })
}
