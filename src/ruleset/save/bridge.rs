//! One rule as `ebtables-save` or `ebtables -L` prints it.

use ipnet::{Ipv4Net, Ipv6Net};

use super::name;
use super::token::Tokens;
use crate::addr::{DeviceName, Mac, PortRange};
use crate::ruleset::rule::{BridgeMatch, BridgeRule, BridgeTarget, EtherType, Invertible, MacNet, Range};
use crate::ruleset::{ChainName, normal};

/// Reads the text after `-A CHAIN `; `None` when anything in it is not modelled.
pub(super) fn rule(text: &str) -> Option<BridgeRule> {
    let mut tokens = Tokens::new(text);
    let mut rule = BridgeRule::new(BridgeTarget::Continue);
    let mut target = None;
    while !tokens.is_done() {
        let word = tokens.plain()?;
        if word == "-j" {
            fill(&mut target, verdict(&tokens.value()?))?;
            continue;
        }
        if word == "--arp-gratuitous" {
            rule.matches.push(BridgeMatch::ArpGratuitous(Invertible::is(())));
            continue;
        }
        // `! --arp-gratuitous` is the one option that is printed with its `!` in front.
        if word == "!" {
            if tokens.plain()? != "--arp-gratuitous" {
                return None;
            }
            rule.matches.push(BridgeMatch::ArpGratuitous(Invertible::new(true, ())));
            continue;
        }
        let inverted = tokens.accept("!");
        option(&mut rule, word, inverted, tokens.plain()?)?;
    }
    // A rule without a verdict counts and goes on.
    rule.target = target.unwrap_or(BridgeTarget::Continue);
    let rule = normal::bridge_rule(rule);
    // Two matches of one kind are both tested by the kernel; the model has room for one.
    let kinds_differ = rule.matches.windows(2).all(|pair| std::mem::discriminant(&pair[0]) != std::mem::discriminant(&pair[1]));
    kinds_differ.then_some(rule)
}

fn verdict(word: &str) -> BridgeTarget {
    match word {
        "ACCEPT" => BridgeTarget::Accept,
        "DROP" => BridgeTarget::Drop,
        "CONTINUE" => BridgeTarget::Continue,
        "RETURN" => BridgeTarget::Return,
        chain => BridgeTarget::Jump(ChainName::new(chain)),
    }
}

fn option(rule: &mut BridgeRule, word: &str, inverted: bool, value: &str) -> Option<()> {
    match word {
        "-i" => fill(&mut rule.in_device, Invertible::new(inverted, DeviceName::new(value)?)),
        "-o" => fill(&mut rule.out_device, Invertible::new(inverted, DeviceName::new(value)?)),
        "-p" => fill(&mut rule.protocol, Invertible::new(inverted, ether_type(value)?)),
        "-s" => fill(&mut rule.source, Invertible::new(inverted, mac_net(value)?)),
        "-d" => fill(&mut rule.destination, Invertible::new(inverted, mac_net(value)?)),
        _ => {
            rule.matches.push(entry(word, inverted, value)?);
            Some(())
        }
    }
}

fn entry(word: &str, inverted: bool, value: &str) -> Option<BridgeMatch> {
    let (prefix, name) = word.strip_prefix("--")?.split_once('-')?;
    match prefix {
        "ip" => ip_entry(name, inverted, value),
        "ip6" => ip6_entry(name, inverted, value),
        "arp" => arp_entry(name, inverted, value),
        "vlan" => vlan_entry(name, inverted, value),
        "stp" => stp_entry(name, inverted, value),
        _ => None,
    }
}

fn ip_entry(name: &str, inverted: bool, value: &str) -> Option<BridgeMatch> {
    Some(match name {
        "src" => BridgeMatch::IpSource(Invertible::new(inverted, ipv4_net(value)?)),
        "dst" => BridgeMatch::IpDestination(Invertible::new(inverted, ipv4_net(value)?)),
        "tos" => BridgeMatch::IpTos(Invertible::new(inverted, name::number(value)?)),
        "proto" => BridgeMatch::IpProtocol(Invertible::new(inverted, name::protocol(value)?)),
        "sport" => BridgeMatch::IpSourcePort(Invertible::new(inverted, ports(value)?)),
        "dport" => BridgeMatch::IpDestinationPort(Invertible::new(inverted, ports(value)?)),
        _ => return None,
    })
}

fn ip6_entry(name: &str, inverted: bool, value: &str) -> Option<BridgeMatch> {
    Some(match name {
        "src" => BridgeMatch::Ip6Source(Invertible::new(inverted, ipv6_net(value)?)),
        "dst" => BridgeMatch::Ip6Destination(Invertible::new(inverted, ipv6_net(value)?)),
        "proto" => BridgeMatch::Ip6Protocol(Invertible::new(inverted, name::protocol(value)?)),
        "sport" => BridgeMatch::Ip6SourcePort(Invertible::new(inverted, ports(value)?)),
        "dport" => BridgeMatch::Ip6DestinationPort(Invertible::new(inverted, ports(value)?)),
        "icmp-type" => BridgeMatch::Ip6IcmpType(Invertible::new(inverted, icmp6(value)?)),
        _ => return None,
    })
}

fn arp_entry(name: &str, inverted: bool, value: &str) -> Option<BridgeMatch> {
    Some(match name {
        "op" => BridgeMatch::ArpOpcode(Invertible::new(inverted, name::arp_operation(value)?)),
        "htype" => BridgeMatch::ArpHardwareType(Invertible::new(inverted, name::number(value)?)),
        "ptype" => BridgeMatch::ArpProtocolType(Invertible::new(inverted, name::ether_type(value)?)),
        "ip-src" => BridgeMatch::ArpIpSource(Invertible::new(inverted, ipv4_net(value)?)),
        "ip-dst" => BridgeMatch::ArpIpDestination(Invertible::new(inverted, ipv4_net(value)?)),
        "mac-src" => BridgeMatch::ArpMacSource(Invertible::new(inverted, mac_net(value)?)),
        "mac-dst" => BridgeMatch::ArpMacDestination(Invertible::new(inverted, mac_net(value)?)),
        _ => return None,
    })
}

fn vlan_entry(name: &str, inverted: bool, value: &str) -> Option<BridgeMatch> {
    Some(match name {
        "id" => BridgeMatch::VlanId(Invertible::new(inverted, name::number(value)?)),
        "prio" => BridgeMatch::VlanPriority(Invertible::new(inverted, name::number(value)?)),
        "encap" => BridgeMatch::VlanEncap(Invertible::new(inverted, encapsulated(value)?)),
        _ => return None,
    })
}

fn stp_entry(name: &str, inverted: bool, value: &str) -> Option<BridgeMatch> {
    Some(match name {
        "type" => BridgeMatch::StpType(Invertible::new(inverted, stp_type(value)?)),
        "flags" => BridgeMatch::StpFlags(Invertible::new(inverted, stp_flags(value)?)),
        "root-prio" => BridgeMatch::StpRootPriority(Invertible::new(inverted, range(value)?)),
        "root-addr" => BridgeMatch::StpRootAddress(Invertible::new(inverted, mac_net(value)?)),
        "root-cost" => BridgeMatch::StpRootCost(Invertible::new(inverted, range(value)?)),
        "sender-prio" => BridgeMatch::StpSenderPriority(Invertible::new(inverted, range(value)?)),
        "sender-addr" => BridgeMatch::StpSenderAddress(Invertible::new(inverted, mac_net(value)?)),
        "port" => BridgeMatch::StpPort(Invertible::new(inverted, range(value)?)),
        "msg-age" => BridgeMatch::StpMessageAge(Invertible::new(inverted, range(value)?)),
        "max-age" => BridgeMatch::StpMaxAge(Invertible::new(inverted, range(value)?)),
        "hello-time" => BridgeMatch::StpHelloTime(Invertible::new(inverted, range(value)?)),
        "forward-delay" => BridgeMatch::StpForwardDelay(Invertible::new(inverted, range(value)?)),
        _ => return None,
    })
}

/// Sets what may be given once.
fn fill<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.is_none().then(|| *slot = Some(value))
}

fn ether_type(value: &str) -> Option<EtherType> {
    if value.eq_ignore_ascii_case("length") { Some(EtherType::Length) } else { name::ether_type(value).map(EtherType::Type) }
}

/// An address, one under a mask, or one of ebtables' four names.
fn mac_net(value: &str) -> Option<MacNet> {
    let group_bit = Mac([1, 0, 0, 0, 0, 0]);
    match value {
        "Unicast" => return Some(MacNet::new(Mac([0; 6]), group_bit)),
        "Multicast" => return Some(MacNet::new(group_bit, group_bit)),
        "Broadcast" => return Some(MacNet::host(Mac::BROADCAST)),
        "BGA" => return Some(MacNet::host(Mac::BRIDGE_GROUP)),
        _ => {}
    }
    match value.split_once('/') {
        Some((address, mask)) => Some(MacNet::new(Mac::parse(address)?, Mac::parse(mask)?)),
        None => Mac::parse(value).map(MacNet::host),
    }
}

fn ipv4_net(value: &str) -> Option<Ipv4Net> {
    match value.split_once('/') {
        Some((address, prefix)) => Ipv4Net::new(address.parse().ok()?, name::number(prefix)?).ok(),
        None => Some(Ipv4Net::from(value.parse::<std::net::Ipv4Addr>().ok()?)),
    }
}

fn ipv6_net(value: &str) -> Option<Ipv6Net> {
    match value.split_once('/') {
        Some((address, prefix)) => Ipv6Net::new(address.parse().ok()?, name::number(prefix)?).ok(),
        None => Some(Ipv6Net::from(value.parse::<std::net::Ipv6Addr>().ok()?)),
    }
}

fn range<N: TryFrom<u32> + Copy>(value: &str) -> Option<Range<N>> {
    match value.split_once(':') {
        Some((first, last)) => Some(Range { first: name::number(first)?, last: name::number(last)? }),
        None => name::number(value).map(|number| Range { first: number, last: number }),
    }
}

fn ports(value: &str) -> Option<PortRange> {
    range(value).map(|Range { first, last }| PortRange { first, last })
}

/// Types and codes of ICMPv6; all codes where none is given.
fn icmp6(value: &str) -> Option<(Range<u8>, Range<u8>)> {
    let all = Range { first: 0, last: u8::MAX };
    if let Some((number, code)) = name::icmp6(value) {
        return Some((Range { first: number, last: number }, code.map_or(all, |code| Range { first: code, last: code })));
    }
    match value.split_once('/') {
        Some((types, codes)) => Some((range(types)?, range(codes)?)),
        None => Some((range(value)?, all)),
    }
}

/// Four hexadecimal digits without `0x`, or a name.
fn encapsulated(value: &str) -> Option<u16> {
    let digits = value.strip_prefix("0x").unwrap_or(value);
    if !digits.starts_with('+')
        && let Ok(number) = u16::from_str_radix(digits, 16)
    {
        return Some(number);
    }
    name::ether_type(value)
}

fn stp_type(value: &str) -> Option<u8> {
    match value {
        "config" => Some(0),
        "tcn" => Some(0x80),
        _ => name::number(value),
    }
}

fn stp_flags(value: &str) -> Option<u8> {
    match value {
        "topology-change" => Some(0x01),
        "topology-change-ack" => Some(0x80),
        _ => name::number(value),
    }
}
