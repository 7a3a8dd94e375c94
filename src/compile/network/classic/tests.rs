//! Both spellings of the era against networks.md 4.1 and 4.2, and what they refuse.

use std::net::Ipv4Addr;

use super::*;
use crate::addr::PortRange;
use crate::compile::example::{assert_golden, device, span};
use crate::compile::network::compile;
use crate::compile::{ObjectRules, network};
use crate::source::Spanned;

fn address(text: &str) -> NetworkAddress {
    NetworkAddress { address: text.parse().expect("an address with its prefix"), dhcp: false, tftp: false, span: span(2) }
}

fn with_dhcp(text: &str) -> NetworkAddress {
    NetworkAddress { dhcp: true, ..address(text) }
}

fn with_tftp(text: &str) -> NetworkAddress {
    NetworkAddress { tftp: true, ..address(text) }
}

fn policy(forward: Forward, addresses: Vec<NetworkAddress>) -> NetworkPolicy {
    NetworkPolicy { name: "lab".into(), bridge: device("virbr0"), forward, ipv6: false, addresses, place: span(1) }
}

fn nat() -> Nat {
    Nat { device: None, ipv6: false, addresses: None, ports: Nat::DEFAULT_PORTS, span: span(3) }
}

/// The network that networks.md 4.2 renders.
fn nat_with_both_families() -> NetworkPolicy {
    policy(Forward::Nat(nat()), vec![with_dhcp("192.168.122.1/24"), address("2001:db8:ca2:2::1/64")])
}

fn rules(policy: &NetworkPolicy, layout: Layout) -> ObjectRules {
    compile(policy, layout).expect("the era had it")
}

/// The number of rules in each chain, by name.
fn census(policy: &NetworkPolicy, layout: Layout) -> Vec<(String, usize)> {
    rules(policy, layout).direct.into_iter().map(|(id, rules)| (format!("{} {} {}", id.family, id.table, id.chain), rules.len())).collect()
}

fn refusal(policy: &NetworkPolicy, layout: Layout) -> (&'static str, Span) {
    let fault = compile(policy, layout).expect_err("the era did not have it");
    (fault.code, fault.span())
}

#[test]
fn nat_as_it_was() {
    assert_golden(&rules(&nat_with_both_families(), Layout::Classic), include_str!("../../golden/classic-nat.rules"));
}

#[test]
fn nat_as_the_document_has_it() {
    assert_golden(&rules(&nat_with_both_families(), Layout::ClassicDocument), include_str!("../../golden/classic-document-nat.rules"));
}

#[test]
fn routed_through_a_device_with_two_addresses_last_first() {
    let forward = Forward::Route { device: Some(Spanned::new(device("wan0"), span(3))), span: span(3) };
    let routed = policy(forward, vec![address("10.1.1.1/24"), address("10.1.2.1/24")]);
    assert_golden(&rules(&routed, Layout::Classic), include_str!("../../golden/classic-routed.rules"));
}

#[test]
fn isolated_in_both_lists() {
    let isolated = policy(Forward::Isolated, vec![address("10.1.1.1/24")]);
    let only_document = [("iptables filter INPUT".to_owned(), 4), ("iptables filter FORWARD".to_owned(), 3)];
    let mut expected = only_document.to_vec();
    expected.sort();
    let mut document = census(&isolated, Layout::ClassicDocument);
    document.sort();
    assert_eq!(document, expected);
    expected.push(("iptables filter OUTPUT".to_owned(), 1));
    let mut actual = census(&isolated, Layout::Classic);
    actual.sort();
    assert_eq!(actual, expected);
}

#[test]
fn guests_without_any_address_may_speak_ipv6_among_themselves() {
    let wire = NetworkPolicy { ipv6: true, ..policy(Forward::Isolated, Vec::new()) };
    assert!(census(&wire, Layout::Classic).contains(&("ip6tables filter FORWARD".to_owned(), 3)));
    assert!(!census(&wire, Layout::Classic).iter().any(|(chain, _)| chain == "ip6tables filter INPUT"));
}

#[test]
fn only_the_service_address_decides_on_the_checksum() {
    let checksums = |addresses| {
        let census = census(&policy(Forward::Isolated, addresses), Layout::Classic);
        census.iter().any(|(chain, _)| chain == "iptables mangle POSTROUTING")
    };
    assert!(checksums(vec![address("10.1.1.1/24"), with_dhcp("10.1.2.1/24")]));
    assert!(!checksums(vec![with_tftp("10.1.1.1/24"), with_dhcp("10.1.2.1/24")]));
    assert!(!checksums(vec![address("10.1.1.1/24")]));
}

#[test]
fn tftp_is_served_but_not_by_the_document() {
    let served = policy(Forward::Isolated, vec![with_tftp("10.1.1.1/24")]);
    assert!(census(&served, Layout::Classic).contains(&("iptables filter INPUT".to_owned(), 5)));
    assert!(census(&served, Layout::ClassicDocument).contains(&("iptables filter INPUT".to_owned(), 4)));
}

#[test]
fn what_the_era_did_not_have_is_refused_at_its_place() {
    let open = policy(Forward::Open { span: span(7) }, vec![address("10.1.1.1/24")]);
    let ipv6 = policy(Forward::Nat(Nat { ipv6: true, ..nat() }), vec![address("10.1.1.1/24")]);
    for layout in [Layout::Classic, Layout::ClassicDocument] {
        assert_eq!(refusal(&open, layout), ("classic-open", span(7)));
        assert_eq!(refusal(&ipv6, layout), ("classic-nat-ipv6", span(3)));
    }
    assert!(network::compile(&open, Layout::Chains).is_ok());
}

#[test]
fn one_rule_for_every_protocol_cannot_name_ports_but_can_name_addresses() {
    let addresses = Some((Ipv4Addr::new(203, 0, 113, 8), Ipv4Addr::new(203, 0, 113, 11)));
    let ranged = Nat { ports: PortRange { first: 20_000, last: 39_999 }, addresses, ..nat() };
    let network = |nat| policy(Forward::Nat(nat), vec![address("10.1.1.1/24")]);
    assert_eq!(refusal(&network(ranged.clone()), Layout::ClassicDocument), ("classic-nat-ports", span(3)));
    assert!(census(&network(ranged), Layout::Classic).contains(&("iptables nat POSTROUTING".to_owned(), 5)));
    assert!(census(&network(Nat { addresses, ..nat() }), Layout::ClassicDocument).contains(&("iptables nat POSTROUTING".to_owned(), 1)));
}

#[test]
fn a_network_has_the_keys_by_which_its_rules_of_the_other_layout_go() {
    let network = nat_with_both_families();
    assert_eq!(rules(&network, Layout::Classic).keys, rules(&network, Layout::Chains).keys);
}
