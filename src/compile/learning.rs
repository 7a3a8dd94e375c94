//! The interim rules of a guest whose address is being learned (nwfilter.md 5.2 and 5.3), in ebtables alone.
//!
//! Learning listens on the device itself, before any rule, so the rules need not let through what teaches an address. libvirt's let a guest
//! in mode `any` use any IPv4 address and receive everything; `fixed` lets it speak ARP and DHCP under its own Ethernet address, and
//! nothing else.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::bridge_filter::{self, ARP, IPV4};
use super::{ObjectRules, PlacedRule};
use crate::addr::{Mac, PortRange};
use crate::model::Quirks;
use crate::resolve::{GuestPolicy, Learning};
use crate::ruleset::chain_name::Side;
use crate::ruleset::rule::{BridgeMatch, BridgeRule, BridgeTarget, EtherType, Invertible, MacNet};

const UDP: u8 = 17;
/// The ports of a DHCP server and of its client.
const SERVER: u16 = 67;
const CLIENT: u16 = 68;

/// The rules until an address is known.
pub(super) fn compile(guest: &GuestPolicy, how: &Learning, quirks: Quirks) -> ObjectRules {
    let mac = guest.mac;
    match (how, quirks) {
        (Learning::Any, Quirks::Libvirt) => {
            // The guest is sent everything: there is no chain for it.
            let sent = [drop_forged(mac), accept_type(IPV4), accept_type(ARP), BridgeRule::new(BridgeTarget::Drop)];
            assemble(guest, sent, None::<[BridgeRule; 0]>)
        }
        (Learning::Any, Quirks::Fixed) => {
            let sent = [accept_arp(mac), accept_request(mac), BridgeRule::new(BridgeTarget::Drop)];
            let received = std::iter::once(accept_type(ARP)).chain(accept_replies(mac, &[])).chain([BridgeRule::new(BridgeTarget::Drop)]);
            assemble(guest, sent, Some(received))
        }
        (Learning::Dhcp(servers), _) => {
            let sent = [accept_request(mac), BridgeRule::new(BridgeTarget::Drop)];
            assemble(guest, sent, Some(accept_replies(mac, servers).into_iter().chain([BridgeRule::new(BridgeTarget::Drop)])))
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

/// `-p ARP -s MAC --arp-mac-src MAC -j ACCEPT`
fn accept_arp(mac: Mac) -> BridgeRule {
    let own = Invertible::is(MacNet::host(mac));
    BridgeRule { source: Some(own), matches: vec![BridgeMatch::ArpMacSource(own)], ..accept_type(ARP) }
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

/// `-p IPv4 --ip-proto udp --ip-sport FROM --ip-dport TO -j ACCEPT`
fn accept_udp(from: u16, to: u16) -> BridgeRule {
    let port = |port| Invertible::is(PortRange::single(port));
    let matches =
        vec![BridgeMatch::IpProtocol(Invertible::is(UDP)), BridgeMatch::IpSourcePort(port(from)), BridgeMatch::IpDestinationPort(port(to))];
    BridgeRule { matches, ..accept_type(IPV4) }
}

#[cfg(test)]
mod tests;
