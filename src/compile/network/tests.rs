//! Networks against what libvirt 9.0 left in the kernel (networks.md section 8).

use std::collections::BTreeSet;

use super::*;
use crate::compile::example::{assert_golden, device, span};
use crate::source::Spanned;

fn compile(policy: &NetworkPolicy) -> ObjectRules {
    super::compile(policy, Layout::Chains).expect("chains can spell every network")
}

fn address(text: &str) -> NetworkAddress {
    NetworkAddress { address: text.parse().expect("an address with its prefix"), dhcp: false, tftp: false, span: span(2) }
}

fn with_dhcp(text: &str) -> NetworkAddress {
    NetworkAddress { dhcp: true, ..address(text) }
}

fn network(bridge: &str, forward: Forward, addresses: Vec<NetworkAddress>) -> NetworkPolicy {
    NetworkPolicy { name: bridge.into(), bridge: device(bridge), forward, ipv6: false, addresses, place: span(1) }
}

fn nat() -> Nat {
    Nat { device: None, ipv6: false, addresses: None, ports: PortRange { first: 1024, last: 65_535 }, span: span(3) }
}

fn route(uplink: &str) -> Forward {
    Forward::Route { device: Some(Spanned::new(device(uplink), span(3))), span: span(3) }
}

fn lab() -> NetworkPolicy {
    network("brlab0", Forward::Nat(nat()), vec![with_dhcp("10.20.0.1/24")])
}

fn vault() -> NetworkPolicy {
    network("brvault0", Forward::Isolated, vec![with_dhcp("10.21.0.1/26"), address("fd21:0:0:1::1/64")])
}

fn dmz() -> NetworkPolicy {
    network("brdmz0", route("wan0"), vec![address("198.51.100.129/25"), address("2001:db8:300::1/56")])
}

fn office() -> NetworkPolicy {
    let nat = Nat {
        device: Some(Spanned::new(device("wan0"), span(3))),
        ipv6: true,
        addresses: Some((Ipv4Addr::new(203, 0, 113, 8), Ipv4Addr::new(203, 0, 113, 11))),
        ports: PortRange { first: 20_000, last: 39_999 },
        span: span(3),
    };
    let served = NetworkAddress { tftp: true, ..with_dhcp("10.22.1.1/24") };
    network("broff0", Forward::Nat(nat), vec![served, address("10.22.2.1/24"), with_dhcp("fd22:0:0:1::1/64")])
}

fn chain<'a>(rules: &'a ObjectRules, family: Family, table: Table, chain: &str) -> &'a [PlacedRule] {
    let id = ChainId { family, table, chain: ChainName::new(chain) };
    rules.shared.get(&id).map_or(&[], Vec::as_slice)
}

#[test]
fn nat_with_dhcp() {
    assert_golden(&compile(&lab()), include_str!("../golden/network-nat.rules"));
}

#[test]
fn isolated_with_an_ipv6_address() {
    assert_golden(&compile(&vault()), include_str!("../golden/network-isolated.rules"));
}

#[test]
fn routed_through_one_device() {
    assert_golden(&compile(&dmz()), include_str!("../golden/network-routed.rules"));
}

#[test]
fn nat_with_device_ranges_tftp_and_two_subnets() {
    assert_golden(&compile(&office()), include_str!("../golden/network-nat-everything.rules"));
}

#[test]
fn open_networks_want_nothing_but_keep_their_key() {
    let rules = compile(&network("brraw0", Forward::Open { span: span(3) }, vec![with_dhcp("10.23.0.1/24"), address("fd23::1/64")]));
    let keys = BTreeSet::from([Key::Bridge(device("brraw0"))]);
    assert_eq!(rules, ObjectRules { keys, ..ObjectRules::default() });
}

#[test]
fn guests_without_any_address_may_speak_ipv6_among_themselves() {
    let wire = NetworkPolicy { ipv6: true, ..network("brwire0", Forward::Isolated, vec![]) };
    assert_golden(&compile(&wire), include_str!("../golden/network-without-address.rules"));
}

#[test]
fn nat_without_ipv6_routes_ipv6() {
    let mixed = network("brmix0", Forward::Nat(nat()), vec![address("2001:db8:7::1/64"), address("10.24.5.9/8")]);
    assert_golden(&compile(&mixed), include_str!("../golden/network-nat-by-default.rules"));
}

#[test]
fn networks_do_not_change_each_others_blocks() {
    let mut together = ObjectRules::default();
    for policy in [vault(), dmz(), lab()] {
        for (id, rules) in compile(&policy).shared {
            together.shared.entry(id).or_default().extend(rules);
        }
    }
    assert_golden(&together, include_str!("../golden/networks-together.rules"));
}

#[test]
fn a_network_is_known_by_its_bridge_and_its_translated_subnets() {
    let net = |text: &str| Key::Subnet(text.parse().expect("a network"));
    let keys = BTreeSet::from([Key::Bridge(device("broff0")), net("10.22.1.0/24"), net("10.22.2.0/24"), net("fd22:0:0:1::/64")]);
    assert_eq!(compile(&office()).keys, keys);
    assert_eq!(compile(&dmz()).keys, BTreeSet::from([Key::Bridge(device("brdmz0"))]));
}

#[test]
fn tftp_on_a_later_address_is_not_served_beside_dhcp_on_an_earlier_one() {
    let tftp = NetworkAddress { tftp: true, ..address("10.1.2.1/24") };
    let inputs = |addresses| {
        let rules = compile(&network("br0", Forward::Isolated, addresses));
        chain(&rules, Family::Ipv4, Table::Filter, "LIBVIRT_INP").len()
    };
    assert_eq!(inputs(vec![with_dhcp("10.1.1.1/24"), tftp.clone()]), 4);
    assert_eq!(inputs(vec![address("10.1.1.1/24"), tftp]), 5);
}

#[test]
fn the_checksum_rule_looks_at_every_ipv4_address_and_at_no_other() {
    let checksums = |addresses| {
        let rules = compile(&network("br0", Forward::Isolated, addresses));
        (chain(&rules, Family::Ipv4, Table::Mangle, "LIBVIRT_PRT").len(), chain(&rules, Family::Ipv6, Table::Mangle, "LIBVIRT_PRT").len())
    };
    assert_eq!(checksums(vec![address("10.1.1.1/24"), with_dhcp("10.1.2.1/24")]), (1, 0));
    assert_eq!(checksums(vec![address("10.1.1.1/24"), with_dhcp("fd00::1/64")]), (0, 0));
}

#[test]
fn rules_of_a_subnet_point_at_its_element() {
    let rules = compile(&lab());
    let places = |table, name| chain(&rules, Family::Ipv4, table, name).iter().map(|rule| rule.place).collect::<BTreeSet<_>>();
    assert_eq!(places(Table::Nat, "LIBVIRT_PRT"), BTreeSet::from([Some(span(2))]));
    assert_eq!(places(Table::Filter, "LIBVIRT_FWX"), BTreeSet::from([Some(span(1))]));
}
