//! The interim rules of a guest whose address is being learned (nwfilter.md 5.2 and 5.3), in ebtables alone.
//!
//! Learning listens on the device itself, before any rule, so the rules need not let through what teaches an address. libvirt's let a guest
//! in mode `any` use any IPv4 address and receive everything; `fixed` lets it speak ARP and DHCP under its own Ethernet address, and
//! nothing else. Of ARP it may ask, as a host without an address does: an ARP message with a sender's address could claim another guest's. Where its filters use `IPV6` as well, that is neighbour discovery and DHCPv6, too: without them it would find neither a
//! router nor a server, and so never have an address to learn.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::bridge_filter::{self, ARP, IPV4, IPV6};
use super::{ObjectRules, PlacedRule};
use crate::addr::{Mac, PortRange};
use crate::model::Quirks;
use crate::model::learned::Method;
use crate::resolve::{Families, GuestPolicy, Learning};
use crate::ruleset::chain_name::Side;
use crate::ruleset::rule::{BridgeMatch, BridgeRule, BridgeTarget, EtherType, Invertible, MacNet, Range};

const UDP: u8 = 17;
/// The ports of a DHCP server and of its client.
const SERVER: u16 = 67;
const CLIENT: u16 = 68;
/// The same of DHCPv6.
const SERVER_IPV6: u16 = 547;
const CLIENT_IPV6: u16 = 546;
const ICMPV6: u8 = 58;
/// With 10 bits: what every interface has, whatever address it is given.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
/// Types of neighbour discovery (RFC 4861).
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// The rules until an address is known.
pub(super) fn compile(guest: &GuestPolicy, learning: &Learning, quirks: Quirks) -> ObjectRules {
    let mac = guest.mac;
    let (sent_ipv6, received_ipv6) = match learning.families {
        Families::Ipv4 => (Vec::new(), Vec::new()),
        Families::Ipv6 | Families::Both => (accept_ipv6_questions(mac), accept_ipv6_answers()),
    };
    let end = || std::iter::once(BridgeRule::new(BridgeTarget::Drop));
    match (&learning.claimant.method, quirks) {
        (Method::Any, Quirks::Libvirt) => {
            // The guest is sent everything: there is no chain for it.
            let sent = [drop_forged(mac), accept_type(IPV4), accept_type(ARP), BridgeRule::new(BridgeTarget::Drop)];
            assemble(guest, sent, None::<[BridgeRule; 0]>)
        }
        (Method::Any, Quirks::Fixed) => {
            let sent = [accept_arp(mac), accept_request(mac)].into_iter().chain(sent_ipv6).chain(end());
            let received = std::iter::once(accept_type(ARP)).chain(accept_replies(mac, &[])).chain(received_ipv6).chain(end());
            assemble(guest, sent, Some(received))
        }
        (Method::Dhcp(servers), _) => {
            let sent = std::iter::once(accept_request(mac)).chain(sent_ipv6).chain(end());
            assemble(guest, sent, Some(accept_replies(mac, servers).into_iter().chain(received_ipv6).chain(end())))
        }
    }
}

fn assemble(
    guest: &GuestPolicy,
    sent: impl IntoIterator<Item = BridgeRule>,
    received: Option<impl IntoIterator<Item = BridgeRule>>,
) -> ObjectRules {
    let place = Some(guest.place);
    let placed = |rule| PlacedRule::bridge(rule, place);
    let mut rules = ObjectRules::for_guest(&guest.device);
    bridge_filter::add_root(&guest.device, Side::FromGuest, sent.into_iter().map(placed).collect(), place, &mut rules);
    if let Some(received) = received {
        bridge_filter::add_root(&guest.device, Side::ToGuest, received.into_iter().map(placed).collect(), place, &mut rules);
    }
    rules
}

/// `-s ! MAC -j DROP`
fn drop_forged(mac: Mac) -> BridgeRule {
    BridgeRule { source: Some(Invertible::new(true, MacNet::host(mac))), ..BridgeRule::new(BridgeTarget::Drop) }
}

/// `-p TYPE -j ACCEPT`
fn accept_type(ether_type: u16) -> BridgeRule {
    BridgeRule { protocol: Some(Invertible::is(EtherType::Type(ether_type))), ..BridgeRule::new(BridgeTarget::Accept) }
}

/// `-p ARP -s MAC --arp-ip-src 0.0.0.0 --arp-mac-src MAC -j ACCEPT`
fn accept_arp(mac: Mac) -> BridgeRule {
    let own = Invertible::is(MacNet::host(mac));
    let nobody = Invertible::is(Ipv4Net::from(Ipv4Addr::UNSPECIFIED));
    BridgeRule { source: Some(own), matches: vec![BridgeMatch::ArpIpSource(nobody), BridgeMatch::ArpMacSource(own)], ..accept_type(ARP) }
}

/// `-p IPv4 -s MAC --ip-proto udp --ip-sport 68 --ip-dport 67 -j ACCEPT`
fn accept_request(mac: Mac) -> BridgeRule {
    BridgeRule { source: Some(Invertible::is(MacNet::host(mac))), ..accept_udp(CLIENT, SERVER) }
}

/// `-p IPv4 -d MAC [--ip-src SERVER] --ip-proto udp --ip-sport 67 --ip-dport 68 -j ACCEPT`, then the same to broadcast, for every server
fn accept_replies(mac: Mac, servers: &[Ipv4Addr]) -> Vec<BridgeRule> {
    let pair = |server: Option<Ipv4Addr>| {
        [mac, Mac::BROADCAST].map(|receiver| {
            let mut rule = accept_udp(SERVER, CLIENT);
            rule.destination = Some(Invertible::is(MacNet::host(receiver)));
            rule.matches.extend(server.map(|server| BridgeMatch::IpSource(Invertible::is(Ipv4Net::from(server)))));
            rule
        })
    };
    if servers.is_empty() {
        return pair(None).into();
    }
    servers.iter().flat_map(|&server| pair(Some(server))).collect()
}

/// `-p IPv6 -s MAC --ip6-src fe80::/10 --ip6-proto ipv6-icmp --ip6-icmp-type TYPE -j ACCEPT` for router and neighbour solicitations and
/// neighbour advertisements, the same from `::` for the solicitation of an address that the guest is about to take, then
/// `-p IPv6 -s MAC --ip6-src fe80::/10 --ip6-proto udp --ip6-sport 546 --ip6-dport 547 -j ACCEPT`
fn accept_ipv6_questions(mac: Mac) -> Vec<BridgeRule> {
    let link_local = Ipv6Net::new_assert(LINK_LOCAL, 10);
    let kinds = [ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT].map(|kind| (link_local, accept_icmpv6(kind)));
    let unspecified = (Ipv6Net::from(Ipv6Addr::UNSPECIFIED), accept_icmpv6(NEIGHBOUR_SOLICITATION));
    let dhcp = (link_local, accept_udp_ipv6(CLIENT_IPV6, SERVER_IPV6));
    let from = |(source, mut rule): (Ipv6Net, BridgeRule)| {
        rule.source = Some(Invertible::is(MacNet::host(mac)));
        rule.matches.push(BridgeMatch::Ip6Source(Invertible::is(source)));
        rule
    };
    kinds.into_iter().chain([unspecified, dhcp]).map(from).collect()
}

/// `-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type TYPE -j ACCEPT` for router advertisements and the neighbours' part, then
/// `-p IPv6 --ip6-proto udp --ip6-sport 547 --ip6-dport 546 -j ACCEPT`
fn accept_ipv6_answers() -> Vec<BridgeRule> {
    let mut rules: Vec<BridgeRule> = [ROUTER_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT].map(accept_icmpv6).into();
    rules.push(accept_udp_ipv6(SERVER_IPV6, CLIENT_IPV6));
    rules
}

fn accept_icmpv6(kind: u8) -> BridgeRule {
    let kind = (Range { first: kind, last: kind }, Range { first: 0, last: u8::MAX });
    let matches = vec![BridgeMatch::Ip6Protocol(Invertible::is(ICMPV6)), BridgeMatch::Ip6IcmpType(Invertible::is(kind))];
    BridgeRule { matches, ..accept_type(IPV6) }
}

fn accept_udp_ipv6(from: u16, to: u16) -> BridgeRule {
    let port = |port| Invertible::is(PortRange::single(port));
    let matches = vec![
        BridgeMatch::Ip6Protocol(Invertible::is(UDP)),
        BridgeMatch::Ip6SourcePort(port(from)),
        BridgeMatch::Ip6DestinationPort(port(to)),
    ];
    BridgeRule { matches, ..accept_type(IPV6) }
}

/// `-p IPv4 --ip-proto udp --ip-sport FROM --ip-dport TO -j ACCEPT`
fn accept_udp(from: u16, to: u16) -> BridgeRule {
    let port = |port| Invertible::is(PortRange::single(port));
    let matches =
        vec![BridgeMatch::IpProtocol(Invertible::is(UDP)), BridgeMatch::IpSourcePort(port(from)), BridgeMatch::IpDestinationPort(port(to))];
    BridgeRule { matches, ..accept_type(IPV4) }
}

#[cfg(test)]
mod tests;
