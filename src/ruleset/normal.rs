//! The one normal form of a rule: what the tools make of a rule they are given.
//!
//! Every rule that enters the program, from XML or from a tool, passes through [`ip_rule`] or [`bridge_rule`], so that derived equality
//! is equality of meaning. What a tool refuses (an inverted `/0` with nf_tables, an ICMP type without its protocol) is left as it is: the tool
//! is to say so. Facts are of iptables and ebtables 1.8.9, nf_tables and legacy (nwfilter.md 2.9).

use ipnet::IpNet;

use super::Family;
use super::rule::{BridgeMatch, BridgeRule, EtherType, IcmpType, Invertible, IpMatch, IpRule, MacNet, TcpFlags};
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
    let swapped = destination_range_first(&rule.matches);
    rule.matches.sort_unstable();
    rule.matches.dedup();
    if let (true, Some(at)) = (swapped, rule.matches.iter().position(|entry| matches!(entry, IpMatch::SourceRange(_)))) {
        rule.matches.swap(at, at + 1);
    }
    // `-m tcp` says nothing beside `-m tcp --dport`, and a protocol without a module of its own cannot have it.
    let implied = transport_module(protocol).is_none() || rule.matches.iter().any(is_transport_option);
    if implied {
        rule.matches.retain(|entry| *entry != IpMatch::Transport);
    }
    rule
}

/// Whether the rule has both ranges of addresses, that of the destination first: two matches that each stand alone, whose order the tools keep and
/// libvirt chooses. It means nothing, but who compares texts sees it.
fn destination_range_first(matches: &[IpMatch]) -> bool {
    let is_range = |entry: &&IpMatch| matches!(entry, IpMatch::SourceRange(_) | IpMatch::DestinationRange(_));
    let mut ranges = matches.iter().filter(is_range);
    matches!((ranges.next(), ranges.next()), (Some(IpMatch::DestinationRange(_)), Some(IpMatch::SourceRange(_))))
}

/// Brings a rule of ebtables into normal form.
#[must_use]
pub fn bridge_rule(mut rule: BridgeRule) -> BridgeRule {
    // `-p 0x600` is shown as `Length`, which then is all that can be known of it.
    rule.protocol = rule.protocol.map(|protocol| match protocol.value {
        EtherType::Type(0x600) => Invertible { value: EtherType::Length, ..protocol },
        _ => protocol,
    });
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

/// True for what would end a line of restore input, or the input.
pub(super) fn ends_line(char: char) -> bool {
    matches!(char, '\n' | '\r' | '\0')
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
            // Of no flags, none is set: always true, and iptables-nft shows no match. The reverse is never true, and shown alike.
            if flags.value.mask == 0 && (flags.value.set != 0) == flags.inverted {
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
    if text.len() <= LONGEST_COMMENT && !text.contains(ends_line) {
        return None;
    }
    let end = text.floor_char_boundary(LONGEST_COMMENT);
    Some(text[..end].replace(ends_line, " "))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::rule::{BridgeTarget, IpTarget};

    fn ip(change: impl FnOnce(&mut IpRule)) -> IpRule {
        let mut rule = IpRule::new(IpTarget::Drop);
        change(&mut rule);
        rule
    }

    fn assert_ip(family: Family, given: impl FnOnce(&mut IpRule), normal: impl FnOnce(&mut IpRule)) {
        let normal = ip(normal);
        assert_eq!(ip_rule(family, ip(given)), normal);
        assert_eq!(ip_rule(family, normal.clone()), normal, "normal form is a fixed point");
    }

    fn net_of(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    #[test]
    fn host_bits_are_cleared() {
        let with = |text| move |rule: &mut IpRule| rule.source = Some(Invertible::is(net_of(text)));
        assert_ip(Family::Ipv4, with("10.1.2.3/24"), with("10.1.2.0/24"));
        assert_ip(Family::Ipv6, with("fd00::1:2/64"), with("fd00::/64"));
    }

    #[test]
    fn a_network_of_everything_is_no_match_unless_inverted() {
        let with = |inverted| move |rule: &mut IpRule| rule.destination = Some(Invertible::new(inverted, net_of("0.0.0.0/0")));
        assert_ip(Family::Ipv4, with(false), |_| {});
        assert_ip(Family::Ipv4, with(true), with(true));
    }

    #[test]
    fn protocol_zero_is_no_match() {
        assert_ip(Family::Ipv6, |rule| rule.protocol = Some(Invertible::is(0)), |_| {});
    }

    #[test]
    fn all_ports_of_tcp_and_udp_are_the_bare_module() {
        let all = |protocol| {
            move |rule: &mut IpRule| {
                rule.protocol = Some(Invertible::is(protocol));
                rule.matches =
                    vec![IpMatch::SourcePort(Invertible::is(PortRange::ALL)), IpMatch::DestinationPort(Invertible::is(PortRange::ALL))];
            }
        };
        let bare = |protocol| {
            move |rule: &mut IpRule| {
                rule.protocol = Some(Invertible::is(protocol));
                rule.matches = vec![IpMatch::Transport];
            }
        };
        assert_ip(Family::Ipv4, all(TCP), bare(TCP));
        assert_ip(Family::Ipv6, all(UDP), bare(UDP));
        assert_ip(Family::Ipv4, all(132), all(132));
    }

    #[test]
    fn the_bare_module_goes_where_an_option_implies_it_or_none_exists() {
        let with = |protocol, matches: Vec<IpMatch>| {
            move |rule: &mut IpRule| {
                rule.protocol = Some(Invertible::is(protocol));
                rule.matches = matches;
            }
        };
        let port = IpMatch::DestinationPort(Invertible::is(PortRange::single(53)));
        assert_ip(Family::Ipv4, with(TCP, vec![port.clone(), IpMatch::Transport]), with(TCP, vec![port]));
        assert_ip(Family::Ipv4, with(47, vec![IpMatch::Transport]), with(47, vec![]));
    }

    #[test]
    fn tcp_flags_that_test_nothing_are_no_match() {
        let flags = |inverted, mask, set| {
            move |rule: &mut IpRule| {
                rule.protocol = Some(Invertible::is(TCP));
                rule.matches = vec![IpMatch::TcpFlags(Invertible::new(inverted, TcpFlags { mask, set }))];
            }
        };
        let bare = |rule: &mut IpRule| {
            rule.protocol = Some(Invertible::is(TCP));
            rule.matches = vec![IpMatch::Transport];
        };
        assert_ip(Family::Ipv4, flags(false, 0, 0), bare);
        assert_ip(Family::Ipv4, flags(true, 0, 2), bare);
        assert_ip(Family::Ipv4, flags(true, 0, 0), flags(true, 0, 0));
        assert_ip(Family::Ipv4, flags(false, 0, 2), flags(false, 0, 2));
        assert_ip(Family::Ipv4, flags(false, 0xc2, 0x42), flags(false, 0x02, 0x02));
    }

    #[test]
    fn icmp_255_is_any_type_in_ipv4_alone() {
        let icmp = |value| move |rule: &mut IpRule| rule.matches = vec![IpMatch::IcmpType(Invertible::is(value))];
        assert_ip(Family::Ipv4, icmp(IcmpType::Type(255, Some(3))), icmp(IcmpType::Any));
        assert_ip(Family::Ipv6, icmp(IcmpType::Type(255, Some(3))), icmp(IcmpType::Type(255, Some(3))));
    }

    #[test]
    fn matches_are_sorted_and_told_once() {
        let (mac, dscp) = (IpMatch::MacSource(Invertible::is(Mac::BROADCAST)), IpMatch::Dscp(Invertible::is(5)));
        let given = vec![dscp.clone(), mac.clone(), dscp.clone()];
        assert_ip(Family::Ipv4, |rule| rule.matches = given, |rule| rule.matches = vec![mac, dscp]);
    }

    #[test]
    fn ranges_of_addresses_keep_their_order() {
        let range = ("10.0.0.1".parse().expect("an address"), "10.0.0.9".parse().expect("an address"));
        let [source, destination] = [IpMatch::SourceRange, IpMatch::DestinationRange].map(|kind| kind(Invertible::is(range)));
        let dscp = IpMatch::Dscp(Invertible::is(5));
        for ranges in [[source.clone(), destination.clone()], [destination, source]] {
            let [first, second] = ranges.clone();
            let given = vec![dscp.clone(), first, second];
            assert_ip(Family::Ipv4, |rule| rule.matches = given, |rule| rule.matches = [&ranges[..], std::slice::from_ref(&dscp)].concat());
        }
    }

    #[test]
    fn a_comment_is_cut_between_characters_and_has_one_line() {
        let comment = |text: String| move |rule: &mut IpRule| rule.matches = vec![IpMatch::Comment(text.into())];
        assert_ip(Family::Ipv4, comment("é".repeat(200)), comment("é".repeat(127)));
        assert_ip(Family::Ipv4, comment("a\r\n\0b".into()), comment("a   b".into()));
    }

    #[test]
    fn ethernet_masks_are_applied_and_empty_ones_match_everything() {
        let mask = Mac([0xff, 0xff, 0xff, 0, 0, 0]);
        let address = Mac([1, 2, 3, 4, 5, 6]);
        let mut rule = BridgeRule::new(BridgeTarget::Drop);
        rule.source = Some(Invertible::is(MacNet { address, mask }));
        rule.destination = Some(Invertible::is(MacNet { address, mask: Mac([0; 6]) }));
        let normal = bridge_rule(rule);
        assert_eq!(normal.source, Some(Invertible::is(MacNet { address: Mac([1, 2, 3, 0, 0, 0]), mask })));
        assert_eq!(normal.destination, None);
    }

    #[test]
    fn bridge_matches_are_masked_and_sorted() {
        let net = |text: &str| Invertible::is(text.parse().expect("a network"));
        let mut rule = BridgeRule::new(BridgeTarget::Drop);
        rule.matches = vec![BridgeMatch::IpDestination(net("10.0.0.9/0")), BridgeMatch::IpSource(net("10.0.0.9/8"))];
        let expected = vec![BridgeMatch::IpSource(net("10.0.0.0/8")), BridgeMatch::IpDestination(net("0.0.0.0/0"))];
        assert_eq!(bridge_rule(rule).matches, expected);
    }
}
