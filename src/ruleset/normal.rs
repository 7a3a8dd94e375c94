//! The one normal form of a rule: what the tools make of a rule they are given.
//!
//! Every rule that enters the program, from XML or from a tool, passes through [`ip_rule`] or [`bridge_rule`], so that derived equality
//! is equality of meaning. What a tool refuses (an inverted `/0` with nf_tables, an ICMP type without its protocol) is left as it is: the tool
//! is to say so. Facts are of iptables and ebtables 1.8.9, nf_tables and legacy (nwfilter.md 2.9).

use ipnet::IpNet;

use super::Family;
use super::rule::{BridgeMatch, BridgeRule, IcmpType, Invertible, IpMatch, IpRule, MacNet, TcpFlags};
use crate::addr::{Mac, PortRange};

/// The longest comment in bytes: the kernel's buffer has 256 with the end mark.
pub const LONGEST_COMMENT: usize = 255;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Brings a rule of iptables or ip6tables into normal form.
#[must_use]
pub fn ip_rule(family: Family, mut rule: IpRule) -> IpRule {
    rule.source = rule.source.and_then(net);
    rule.destination = rule.destination.and_then(net);
    // `-p all` is no match; `! -p all` is refused by every tool.
    rule.protocol = rule.protocol.filter(|protocol| protocol.inverted || protocol.value != 0);
    let protocol = rule.protocol.filter(|protocol| !protocol.inverted).map(|protocol| protocol.value);
    for entry in &mut rule.matches {
        ip_match(family, protocol, entry);
    }
    rule.matches.sort_unstable();
    rule.matches.dedup();
    // `-m tcp` says nothing beside `-m tcp --dport`, and a protocol without a module of its own cannot have it.
    let implied = transport_module(protocol).is_none() || rule.matches.iter().any(is_transport_option);
    if implied {
        rule.matches.retain(|entry| *entry != IpMatch::Transport);
    }
    rule
}

/// Brings a rule of ebtables into normal form.
#[must_use]
pub fn bridge_rule(mut rule: BridgeRule) -> BridgeRule {
    rule.source = rule.source.and_then(mac_net);
    rule.destination = rule.destination.and_then(mac_net);
    for entry in &mut rule.matches {
        bridge_match(entry);
    }
    // Most rules come in order; an unstable sort sees that in one walk.
    rule.matches.sort_unstable();
    rule.matches.dedup();
    rule
}

/// The module that holds the port options of a protocol: `-m tcp`; `None` for a protocol that has none.
///
/// udplite has no module in iptables 1.8.9, and ICMP's is named by [`IpMatch::IcmpType`], without which it is refused.
pub(super) fn transport_module(protocol: Option<u8>) -> Option<&'static str> {
    match protocol? {
        TCP => Some("tcp"),
        UDP => Some("udp"),
        132 => Some("sctp"),
        50 => Some("esp"),
        51 => Some("ah"),
        _ => None,
    }
}

fn net(net: Invertible<IpNet>) -> Option<Invertible<IpNet>> {
    let value = net.value.trunc();
    // `-s 0.0.0.0/0` is no match. The inverted one matches nothing: legacy keeps it, nf_tables refuses it.
    (net.inverted || value.prefix_len() > 0).then_some(Invertible { value, ..net })
}

fn mac_net(net: Invertible<MacNet>) -> Option<Invertible<MacNet>> {
    let value = MacNet::new(net.value.address, net.value.mask);
    // ebtables refuses a mask of zero instead of dropping the match; we mean the same.
    (net.inverted || value.mask != Mac([0; 6])).then_some(Invertible { value, ..net })
}

fn ip_match(family: Family, protocol: Option<u8>, entry: &mut IpMatch) {
    match entry {
        IpMatch::TcpFlags(flags) => {
            flags.value = TcpFlags { mask: flags.value.mask & 0x3f, set: flags.value.set & 0x3f };
            if !flags.inverted && flags.value.mask == 0 && flags.value.set == 0 {
                *entry = IpMatch::Transport;
            }
        }
        // tcp and udp drop a full range and keep `-m tcp`; sctp keeps it. The inverted one matches nothing, and the tools lose it.
        IpMatch::SourcePort(ports) | IpMatch::DestinationPort(ports)
            if !ports.inverted && ports.value == PortRange::ALL && matches!(protocol, Some(TCP | UDP)) =>
        {
            *entry = IpMatch::Transport;
        }
        // 255 is iptables' own word for any type, whatever the code; ICMPv6 has no such word.
        IpMatch::IcmpType(icmp) if family == Family::Ipv4 && matches!(icmp.value, IcmpType::Type(255, _)) => icmp.value = IcmpType::Any,
        IpMatch::Comment(text) => {
            if let Some(clean) = comment(text) {
                *text = clean.into();
            }
        }
        _ => {}
    }
}

fn is_transport_option(entry: &IpMatch) -> bool {
    matches!(entry, IpMatch::TcpFlags(_) | IpMatch::SourcePort(_) | IpMatch::DestinationPort(_) | IpMatch::TcpOption(_))
}

/// The comment as restore input can carry it, if that is not `text` itself: cut at [`LONGEST_COMMENT`], blanks for line breaks and NUL.
fn comment(text: &str) -> Option<String> {
    let breaks = |c: char| matches!(c, '\n' | '\r' | '\0');
    if text.len() <= LONGEST_COMMENT && !text.contains(breaks) {
        return None;
    }
    let end = text.floor_char_boundary(LONGEST_COMMENT);
    Some(text[..end].replace(breaks, " "))
}

fn bridge_match(entry: &mut BridgeMatch) {
    match entry {
        // ebtables keeps `/0` of these, unlike iptables.
        BridgeMatch::ArpIpSource(net)
        | BridgeMatch::ArpIpDestination(net)
        | BridgeMatch::IpSource(net)
        | BridgeMatch::IpDestination(net) => net.value = net.value.trunc(),
        BridgeMatch::Ip6Source(net) | BridgeMatch::Ip6Destination(net) => net.value = net.value.trunc(),
        BridgeMatch::ArpMacSource(net)
        | BridgeMatch::ArpMacDestination(net)
        | BridgeMatch::StpRootAddress(net)
        | BridgeMatch::StpSenderAddress(net) => net.value = MacNet::new(net.value.address, net.value.mask),
        _ => {}
    }
}
