//! The conditions of one layer-2 rule into matches of ebtables (nwfilter.md 2.3 to 2.5), and what ebtables would refuse into faults.

use crate::addr::{Mac, PortRange};
use crate::model::Quirks;
use crate::model::filter::{AttributeName as Name, Literal, Protocol};
use crate::resolve::{Condition, PolicyRule};
use crate::ruleset::rule::{BridgeMatch, BridgeRule, BridgeTarget, EtherType, Invertible, MacNet, Range};

use super::super::value::{self, Facing, Fault, invertible};
use super::{ARP, IPV4, IPV6, RARP, VLAN};

const ICMPV6: u8 = 58;
/// tcp, udp, dccp and sctp: the only protocols whose ports ebtables looks at.
const WITH_PORTS: [u8; 4] = [6, 17, 33, 132];
/// 4095 is reserved; ebtables refuses it.
const LAST_VLAN: u16 = 4094;
/// Below it ebtables refuses `--vlan-encap` (the kernel's shortest frame).
const LEAST_ENCAP: u16 = 60;
/// The lowest number in an Ethernet header that is no length. ebtables 1.8.9 shows it as `Length` all the same, and its negation as if it were none,
/// so nobody could tell that.
const LEAST_TYPE: u16 = 0x600;

/// One rule as seen from one side.
struct View<'a> {
    rule: &'a PolicyRule,
    facing: Facing,
    quirks: Quirks,
}

type Made = Result<Option<BridgeMatch>, Fault>;

/// The ebtables rules that one policy rule means, seen facing one way: one, or four for a DSCP (see [`View::tos_octets`]).
///
/// # Errors
/// The first condition that ebtables, or the kernel below it, would refuse.
pub(super) fn compile(rule: &PolicyRule, facing: Facing, target: BridgeTarget, quirks: Quirks) -> Result<Vec<BridgeRule>, Fault> {
    let view = View { rule, facing, quirks };
    view.check()?;
    let mut base = BridgeRule::new(target);
    base.protocol = view.protocol()?;
    view.ethernet(&mut base)?;
    for condition in &rule.conditions {
        base.matches.extend(view.condition(condition)?);
    }
    let octets = match rule.condition(Name::Dscp) {
        Some(dscp) if rule.protocol == Protocol::Ip => view.tos_octets(dscp)?,
        _ => return Ok(vec![base]),
    };
    let with = |octet: &Invertible<u8>| {
        let mut rule = base.clone();
        rule.matches.push(BridgeMatch::IpTos(*octet));
        rule
    };
    Ok(octets.iter().map(with).collect())
}

impl View<'_> {
    fn get(&self, name: Name) -> Option<&Condition> {
        self.rule.condition(name)
    }

    /// What holds between conditions.
    fn check(&self) -> Result<(), Fault> {
        match self.rule.protocol {
            Protocol::Ip => self.check_ports(),
            Protocol::Ipv6 => self.check_ports().and_then(|()| self.check_icmp()),
            _ => Ok(()),
        }
    }

    /// The kernel wants the protocol beside the ports, not negated (nwfilter.md row 32).
    fn check_ports(&self) -> Result<(), Fault> {
        let ports = [Name::SrcPortStart, Name::DstPortStart];
        let Some(port) = ports.into_iter().find_map(|name| self.get(name)) else { return Ok(()) };
        let expected = "expected beside a `protocol` of tcp, udp, dccp or sctp";
        match self.get(Name::IpProtocol) {
            Some(protocol) if protocol.negated => {
                let message = "ports cannot be matched beside a negated `protocol`";
                Err(Fault::at(port, "ports-without-protocol", message, expected).also(protocol, "negated here"))
            }
            Some(protocol) if WITH_PORTS.contains(&value::number(protocol)?) => Ok(()),
            _ => Err(Fault::at(port, "ports-without-protocol", "ports need a protocol that has ports", expected)),
        }
    }

    /// The kernel wants ICMPv6 types beside the protocol, not negated (nwfilter.md 2.4).
    fn check_icmp(&self) -> Result<(), Fault> {
        let types = [Name::Type, Name::TypeEnd, Name::Code, Name::CodeEnd];
        let Some(first) = types.into_iter().find_map(|name| self.get(name)) else { return Ok(()) };
        match self.get(Name::IpProtocol) {
            Some(protocol) if !protocol.negated && value::number::<u8>(protocol)? == ICMPV6 => Ok(()),
            _ => {
                let message = "ICMPv6 types and codes need `protocol='icmpv6'`";
                Err(Fault::at(first, "type-needs-icmpv6", message, "expected beside `protocol='icmpv6'`"))
            }
        }
    }

    /// `-p`: the protocol of the element, or `protocolid`.
    fn protocol(&self) -> Result<Option<Invertible<EtherType>>, Fault> {
        if let Some(ether_type) = ether_type(self.rule.protocol) {
            return Ok(Some(Invertible::is(EtherType::Type(ether_type))));
        }
        let Some(id) = self.get(Name::ProtocolId) else { return Ok(None) };
        let ether_type = value::number(id)?;
        if ether_type < LEAST_TYPE || ether_type == LEAST_TYPE && id.negated {
            let expected = "expected a number from 1537 to 65535";
            return Err(Fault::at(id, "unusable-value", "ebtables takes this number for a length", expected));
        }
        Ok(Some(invertible(id, EtherType::Type(ether_type))))
    }

    /// `-s A[/M]` and `-d A[/M]`, swapped when reversed.
    fn ethernet(&self, rule: &mut BridgeRule) -> Result<(), Fault> {
        let source = self.ethernet_address(Name::SrcMacAddr, Name::SrcMacMask)?;
        if self.rule.protocol == Protocol::Stp {
            // `-s A[/M] -d BGA`: spanning-tree frames have one destination, so a source cannot become a second one.
            if let (Some(condition), Facing::Reversed) = (self.get(Name::SrcMacAddr), self.facing) {
                let message = "`stp` with `srcmacaddr` cannot be `inout`";
                let expected = "no source address can be matched in both directions";
                return Err(Fault::at(condition, "stp-source-inout", message, expected).help("write one rule for `in` and one for `out`"));
            }
            (rule.source, rule.destination) = (source, Some(Invertible::is(MacNet::host(Mac::BRIDGE_GROUP))));
            return Ok(());
        }
        let destination = self.ethernet_address(Name::DstMacAddr, Name::DstMacMask)?;
        (rule.source, rule.destination) = self.facing.choose((source, destination), (destination, source));
        Ok(())
    }

    fn ethernet_address(&self, name: Name, mask: Name) -> Result<Option<Invertible<MacNet>>, Fault> {
        let Some(condition) = self.get(name) else { return Ok(None) };
        let mask = self.get(mask);
        let net = value::mac_net(condition, mask)?;
        match mask {
            Some(mask) if net.mask == Mac([0; 6]) => {
                let message = "ebtables refuses an Ethernet mask of zeros";
                Err(Fault::at(mask, "empty-mac-mask", message, "expected at least one bit").help("leave the address out"))
            }
            _ => Ok(Some(invertible(condition, net))),
        }
    }

    /// The match of one condition; `None` for what is part of another condition's match, or of none.
    fn condition(&self, condition: &Condition) -> Made {
        match self.rule.protocol {
            Protocol::Vlan => self.vlan(condition),
            Protocol::Stp => self.stp(condition),
            Protocol::Arp | Protocol::Rarp => self.arp(condition),
            Protocol::Ip => self.ip(condition),
            Protocol::Ipv6 => self.ipv6(condition),
            _ => Ok(None),
        }
    }

    /// `--vlan-id N`, `--vlan-encap N`
    fn vlan(&self, condition: &Condition) -> Made {
        Ok(Some(match condition.name {
            Name::VlanId => BridgeMatch::VlanId(invertible(condition, value::number_to(condition, LAST_VLAN)?)),
            Name::EncapProtocol => BridgeMatch::VlanEncap(invertible(condition, self.encap(condition)?)),
            _ => return Ok(None),
        }))
    }

    /// The number as meant; in `libvirt` quirks what ebtables makes of it (row 8).
    fn encap(&self, condition: &Condition) -> Result<u16, Fault> {
        let meant = value::number(condition)?;
        let read = if self.quirks == Quirks::Libvirt && !condition.from_variable { decimal_read_as_hex(meant) } else { meant };
        if read < LEAST_ENCAP {
            return Err(Fault::at(
                condition,
                "unusable-value",
                "ebtables refuses this `encap-protocol`",
                "expected a number from 60 to 65535",
            ));
        }
        Ok(read)
    }

    /// `--stp-..`; a `-hi` or `-mask` belongs to its base (nwfilter.md 2.3)
    fn stp(&self, condition: &Condition) -> Made {
        let u16_range = |high| value::range::<u16>(condition, self.get(high)).map(|range| invertible(condition, range));
        let address = |mask| value::mac_net(condition, self.get(mask)).map(|net| invertible(condition, net));
        Ok(Some(match condition.name {
            Name::StpType => BridgeMatch::StpType(invertible(condition, value::number(condition)?)),
            Name::StpFlags => BridgeMatch::StpFlags(invertible(condition, value::number(condition)?)),
            Name::RootPriority => BridgeMatch::StpRootPriority(u16_range(Name::RootPriorityHi)?),
            Name::RootAddress => BridgeMatch::StpRootAddress(address(Name::RootAddressMask)?),
            Name::RootCost => {
                let costs: Range<u32> = value::range(condition, self.get(Name::RootCostHi))?;
                BridgeMatch::StpRootCost(invertible(condition, costs))
            }
            Name::SenderPriority => BridgeMatch::StpSenderPriority(u16_range(Name::SenderPriorityHi)?),
            Name::SenderAddress => BridgeMatch::StpSenderAddress(address(Name::SenderAddressMask)?),
            Name::StpPort => BridgeMatch::StpPort(u16_range(Name::StpPortHi)?),
            Name::Age => BridgeMatch::StpMessageAge(u16_range(Name::AgeHi)?),
            Name::MaxAge => BridgeMatch::StpMaxAge(u16_range(Name::MaxAgeHi)?),
            Name::HelloTime => BridgeMatch::StpHelloTime(u16_range(Name::HelloTimeHi)?),
            Name::ForwardDelay => BridgeMatch::StpForwardDelay(u16_range(Name::ForwardDelayHi)?),
            _ => return Ok(None),
        }))
    }

    /// `--arp-..`; addresses swap when reversed
    fn arp(&self, condition: &Condition) -> Made {
        let number = || value::number::<u16>(condition).map(|number| invertible(condition, number));
        let address = || value::mac(condition).map(|mac| invertible(condition, MacNet::host(mac)));
        let net = |mask| value::ipv4_net(condition, self.get(mask)).map(|net| invertible(condition, net));
        let facing = self.facing;
        Ok(Some(match condition.name {
            Name::HwType => BridgeMatch::ArpHardwareType(number()?),
            Name::Opcode => BridgeMatch::ArpOpcode(number()?),
            Name::ProtocolType => BridgeMatch::ArpProtocolType(number()?),
            Name::ArpSrcIpAddr => {
                facing.choose(BridgeMatch::ArpIpSource as fn(_) -> _, BridgeMatch::ArpIpDestination)(net(Name::ArpSrcIpMask)?)
            }
            Name::ArpDstIpAddr => {
                facing.choose(BridgeMatch::ArpIpDestination as fn(_) -> _, BridgeMatch::ArpIpSource)(net(self.arp_destination_mask())?)
            }
            Name::ArpSrcMacAddr => facing.choose(BridgeMatch::ArpMacSource as fn(_) -> _, BridgeMatch::ArpMacDestination)(address()?),
            Name::ArpDstMacAddr => facing.choose(BridgeMatch::ArpMacDestination as fn(_) -> _, BridgeMatch::ArpMacSource)(address()?),
            Name::Gratuitous if condition.value == Literal::Flag(true) => BridgeMatch::ArpGratuitous(invertible(condition, ())),
            _ => return Ok(None),
        }))
    }

    /// libvirt prints the destination with the source's mask when it has none of its own (row 9).
    fn arp_destination_mask(&self) -> Name {
        let lacks_own = self.get(Name::ArpDstIpMask).is_none() && self.get(Name::ArpSrcIpAddr).is_some();
        let inherits = self.quirks == Quirks::Libvirt && lacks_own;
        if inherits { Name::ArpSrcIpMask } else { Name::ArpDstIpMask }
    }

    /// `--ip-..`; addresses and ports swap when reversed
    fn ip(&self, condition: &Condition) -> Made {
        let net = |mask| value::ipv4_net(condition, self.get(mask)).map(|net| invertible(condition, net));
        let facing = self.facing;
        Ok(Some(match condition.name {
            Name::SrcIpAddr => facing.choose(BridgeMatch::IpSource as fn(_) -> _, BridgeMatch::IpDestination)(net(Name::SrcIpMask)?),
            Name::DstIpAddr => facing.choose(BridgeMatch::IpDestination as fn(_) -> _, BridgeMatch::IpSource)(net(Name::DstIpMask)?),
            Name::IpProtocol => BridgeMatch::IpProtocol(invertible(condition, value::number(condition)?)),
            Name::SrcPortStart => {
                let ports = self.ports(condition, Name::SrcPortEnd)?;
                facing.choose(BridgeMatch::IpSourcePort as fn(_) -> _, BridgeMatch::IpDestinationPort)(ports)
            }
            Name::DstPortStart => {
                let ports = self.ports(condition, Name::DstPortEnd)?;
                facing.choose(BridgeMatch::IpDestinationPort as fn(_) -> _, BridgeMatch::IpSourcePort)(ports)
            }
            _ => return Ok(None),
        }))
    }

    /// `--ip6-..`; addresses and ports swap when reversed
    fn ipv6(&self, condition: &Condition) -> Made {
        let net = |mask| value::ipv6_net(condition, self.get(mask)).map(|net| invertible(condition, net));
        let facing = self.facing;
        Ok(Some(match condition.name {
            Name::SrcIpAddr => facing.choose(BridgeMatch::Ip6Source as fn(_) -> _, BridgeMatch::Ip6Destination)(net(Name::SrcIpMask)?),
            Name::DstIpAddr => facing.choose(BridgeMatch::Ip6Destination as fn(_) -> _, BridgeMatch::Ip6Source)(net(Name::DstIpMask)?),
            Name::IpProtocol => BridgeMatch::Ip6Protocol(invertible(condition, value::number(condition)?)),
            Name::SrcPortStart => {
                let ports = self.ports(condition, Name::SrcPortEnd)?;
                facing.choose(BridgeMatch::Ip6SourcePort as fn(_) -> _, BridgeMatch::Ip6DestinationPort)(ports)
            }
            Name::DstPortStart => {
                let ports = self.ports(condition, Name::DstPortEnd)?;
                facing.choose(BridgeMatch::Ip6DestinationPort as fn(_) -> _, BridgeMatch::Ip6SourcePort)(ports)
            }
            Name::Type | Name::TypeEnd | Name::Code | Name::CodeEnd if self.leads_icmp(condition.name) => self.icmp_type()?,
            _ => return Ok(None),
        }))
    }

    fn ports(&self, start: &Condition, end: Name) -> Result<Invertible<PortRange>, Fault> {
        value::ascending_ports(start, self.get(end)).map(|range| invertible(start, range))
    }

    /// Whether this is the first of the four attributes that make one match together.
    fn leads_icmp(&self, name: Name) -> bool {
        [Name::Type, Name::TypeEnd, Name::Code, Name::CodeEnd].into_iter().find(|&name| self.get(name).is_some()) == Some(name)
    }

    /// `--ip6-icmp-type [!] TLO:THI/CLO:CHI`; never swapped
    fn icmp_type(&self) -> Result<BridgeMatch, Fault> {
        let types = self.icmp_range(Name::Type, Name::TypeEnd)?;
        let codes = self.icmp_range(Name::Code, Name::CodeEnd)?;
        Ok(BridgeMatch::Ip6IcmpType(Invertible::new(self.icmp_negated()?, (types, codes))))
    }

    /// Low is 0 where it is not given; high is low, or 255 where neither is.
    fn icmp_range(&self, low: Name, high: Name) -> Result<Range<u8>, Fault> {
        let (low, high) = (self.get(low), self.get(high));
        let first = low.map_or(Ok(0), value::number)?;
        let last = match (low, high) {
            (_, Some(high)) => value::number(high)?,
            (Some(_), None) => first,
            (None, None) => u8::MAX,
        };
        match high {
            Some(high) if first > last => Err(value::descending(high, first)),
            _ => Ok(Range { first, last }),
        }
    }

    /// libvirt negates only when `type` itself is negated (nwfilter.md 2.4); otherwise every attribute has its own negation, and as one
    /// match has one, they must agree (row 6).
    fn icmp_negated(&self) -> Result<bool, Fault> {
        let negated = |name| self.get(name).is_some_and(|condition| condition.negated);
        if self.quirks == Quirks::Libvirt {
            return Ok(negated(Name::Type));
        }
        let bases = [[Name::Type, Name::TypeEnd], [Name::Code, Name::CodeEnd]].map(|pair| pair.into_iter().find_map(|name| self.get(name)));
        match bases {
            [Some(icmp_type), Some(code)] if icmp_type.negated != code.negated => Err(value::mixed_negation(icmp_type, code)),
            [first, second] => Ok(first.or(second).is_some_and(|condition| condition.negated)),
        }
    }

    /// The octets that `--ip-tos` compares for a `dscp`.
    ///
    /// ebtables compares the whole octet, DSCP and ECN bits together, so a DSCP means one rule for each of the four ECN values. In
    /// `libvirt` quirks the number is compared as it is (row 10).
    fn tos_octets(&self, dscp: &Condition) -> Result<Vec<Invertible<u8>>, Fault> {
        if self.quirks == Quirks::Libvirt {
            return Ok(vec![invertible(dscp, value::number(dscp)?)]);
        }
        if dscp.negated {
            // "None of four octets" needs four matches in one rule, and ebtables takes one `--ip-tos`.
            let message = "a negated `dscp` cannot be matched at layer 2";
            let help = "match the DSCP with `return` or `accept` in a rule before this one, or use an iptables protocol such as `all`";
            return Err(Fault::at(dscp, "negated-dscp", message, "expected without `match='no'`").help(help));
        }
        let bits = value::number_to::<u8>(dscp, 63)? << 2;
        Ok((0..4).map(|ecn| Invertible::is(bits | ecn)).collect())
    }
}

/// The Ethernet type that an element itself stands for.
fn ether_type(protocol: Protocol) -> Option<u16> {
    match protocol {
        Protocol::Vlan => Some(VLAN),
        Protocol::Arp => Some(ARP),
        Protocol::Rarp => Some(RARP),
        Protocol::Ip => Some(IPV4),
        Protocol::Ipv6 => Some(IPV6),
        _ => None,
    }
}

/// What ebtables reads when libvirt prints `number` in decimal for an option that takes hex: the low 16 bits of its digits.
fn decimal_read_as_hex(number: u16) -> u16 {
    let digit = |place: u32| u32::from(number) / 10_u32.pow(place) % 10;
    let read = (0..5).fold(0_u32, |read, place| read | digit(place) << (4 * place));
    u16::try_from(read & 0xffff).expect("masked to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_digits_read_as_hex_keep_the_low_16_bits() {
        assert_eq!(decimal_read_as_hex(60), 0x60);
        assert_eq!(decimal_read_as_hex(2054), 0x2054);
        assert_eq!(decimal_read_as_hex(34525), 0x4525);
    }
}
