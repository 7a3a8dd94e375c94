//! nwfilter.md section 4 row by row, and the worked examples E2, E6 and E7 of section 9.

use std::net::Ipv4Addr;

use super::*;
use crate::model::learned::{Anchor, Claimant, Finding, Knowledge, Source, Until};
use crate::resolve::Families;
use AttributeName as A;

const NONE: &[(&str, &str)] = &[];

fn source(access: &str) -> Entry {
    rule(Protocol::Ip, vec![var(A::SrcIpAddr, access)])
}

fn source_ipv6(access: &str) -> Entry {
    rule(Protocol::Ipv6, vec![var(A::SrcIpAddr, access)])
}

/// The values that one attribute takes, rule by rule.
fn values(resolved: &Resolved, name: AttributeName) -> Vec<String> {
    let _ = rules(resolved);
    let Treatment::Filtered(rules) = &resolved.guests[0].treatment else { unreachable!("rules() has looked") };
    let value = |rule: &PolicyRule| rule.condition(name).map(|condition| format!("{:?}", condition.value));
    rules.iter().map(|rule| value(rule).unwrap_or_default()).collect()
}

#[test]
fn example_e2_a_guard_with_a_two_element_list() {
    let guard = chained(
        "ex-arpguard",
        "arp-guard",
        -450,
        vec![
            acting(
                Action::Return,
                Direction::Out,
                10,
                Protocol::Arp,
                vec![lit(A::Opcode, Literal::Number(2)), var(A::ArpSrcIpAddr, "IP"), var(A::ArpSrcMacAddr, "MAC[0]")],
            ),
            acting(Action::Accept, Direction::In, 30, Protocol::Arp, vec![var(A::ArpDstIpAddr, "IP")]),
        ],
    );
    let mut spoof = var(A::SrcMacAddr, "MAC");
    spoof.negated = true;
    let top =
        filter("ex-l2guard", vec![include("ex-arpguard", NONE), acting(Action::Drop, Direction::Out, -950, Protocol::Mac, vec![spoof])]);
    assert_eq!(
        rules(&bind(vec![top, guard], &[("IP", "198.51.100.4"), ("IP", "198.51.100.5")])),
        [
            "arp-guard return out opcode=2 arpsrcipaddr=198.51.100.4 arpsrcmacaddr=52:54:00:56:44:32",
            "arp-guard return out opcode=2 arpsrcipaddr=198.51.100.5 arpsrcmacaddr=52:54:00:56:44:32",
            "arp-guard accept in arpdstipaddr=198.51.100.4",
            "arp-guard accept in arpdstipaddr=198.51.100.5",
            "root drop out !srcmacaddr=52:54:00:56:44:32",
        ]
    );
}

#[test]
fn example_e6_iterators() {
    let tcp = || lit(A::IpProtocol, Literal::Number(6));
    let top = chained(
        "ex-iter",
        "ipv4-it",
        -700,
        vec![
            rule(Protocol::Ip, vec![var(A::SrcIpAddr, "PEER[@1]"), tcp(), var(A::DstPortStart, "PORT[@2]")]),
            rule(Protocol::Ip, vec![var(A::DstIpAddr, "PEER"), tcp(), var(A::DstPortStart, "PORT")]),
            rule(Protocol::Ip, vec![var(A::DstIpAddr, "PEER[1]")]),
        ],
    );
    let parameters = [("PEER", "203.0.113.1"), ("PEER", "203.0.113.2"), ("PORT", "80"), ("PORT", "8080")];
    assert_eq!(
        rules(&bind(vec![top], &parameters)),
        [
            "ipv4-it drop out srcipaddr=203.0.113.1 protocol=6 dstportstart=80",
            "ipv4-it drop out srcipaddr=203.0.113.2 protocol=6 dstportstart=80",
            "ipv4-it drop out srcipaddr=203.0.113.1 protocol=6 dstportstart=8080",
            "ipv4-it drop out srcipaddr=203.0.113.2 protocol=6 dstportstart=8080",
            "ipv4-it drop out dstipaddr=203.0.113.1 protocol=6 dstportstart=80",
            "ipv4-it drop out dstipaddr=203.0.113.2 protocol=6 dstportstart=8080",
            "ipv4-it drop out dstipaddr=203.0.113.2",
        ]
    );
}

#[test]
fn example_e7_outermost_parameters_win() {
    let leaf = chained("ex-leaf", "ipv4", -700, vec![rule(Protocol::Ip, vec![var(A::SrcIpAddr, "NET"), var(A::SrcIpMask, "LEN")])]);
    let middle = filter(
        "ex-mid",
        vec![include("ex-leaf", &[("NET", "10.0.0.0"), ("LEN", "8")]), include("ex-leaf", &[("NET", "172.16.0.0"), ("LEN", "12")])],
    );
    let outer = filter("ex-outer", vec![include("ex-mid", NONE), include("ex-mid", &[("NET", "192.168.0.0")])]);
    assert_eq!(
        rules(&bind(vec![outer, leaf, middle], &[("LEN", "16")])),
        [
            "ipv4 drop out srcipaddr=10.0.0.0 srcipmask=/16",
            "ipv4 drop out srcipaddr=172.16.0.0 srcipmask=/16",
            "ipv4 drop out srcipaddr=192.168.0.0 srcipmask=/16",
            "ipv4 drop out srcipaddr=192.168.0.0 srcipmask=/16",
        ]
    );
}

#[test]
fn the_interface_gives_mac_unless_a_parameter_of_its_own_does() {
    let top = || vec![filter("f", vec![rule(Protocol::Mac, vec![var(A::SrcMacAddr, "MAC")])])];
    assert_eq!(rules(&bind(top(), NONE)), ["root drop out srcmacaddr=52:54:00:56:44:32"]);
    assert_eq!(rules(&bind(top(), &[("MAC", "02:00:00:00:00:01")])), ["root drop out srcmacaddr=02:00:00:00:00:01"]);
}

#[test]
fn a_mac_parameter_inside_a_filter_never_wins() {
    let top = filter("f", vec![include("g", &[("MAC", "02:00:00:00:00:01")])]);
    let inner = filter("g", vec![rule(Protocol::Mac, vec![var(A::SrcMacAddr, "MAC")])]);
    assert_eq!(rules(&bind(vec![top, inner], NONE)), ["root drop out srcmacaddr=52:54:00:56:44:32"]);
}

#[test]
fn an_outer_list_replaces_an_inner_one_whole() {
    let top = filter("f", vec![include("g", &[("A", "10.0.0.1"), ("A", "10.0.0.2")])]);
    let inner = filter("g", vec![source("A")]);
    assert_eq!(rules(&bind(vec![top, inner], &[("A", "10.0.0.9")])), ["root drop out srcipaddr=10.0.0.9"]);
}

#[test]
fn parameters_are_seen_below_but_not_beside_or_above() {
    let top = |rest: Entry| filter("f", vec![include("g", &[("A", "10.0.0.1")]), rest]);
    let (inner, leaf) = (|| filter("g", vec![include("h", NONE)]), || filter("h", vec![source("A")]));
    assert_eq!(
        rules(&bind(vec![top(rule(Protocol::None, vec![])), inner(), leaf()], NONE)),
        ["root drop out srcipaddr=10.0.0.1", "root drop out"]
    );
    assert_eq!(fault(&bind(vec![top(source("A")), inner(), leaf()], NONE)).code, "missing-variable");
    assert_eq!(fault(&bind(vec![top(include("h", NONE)), inner(), leaf()], NONE)).code, "missing-variable");
}

#[test]
fn interface_addresses_give_ip_and_ipv6_unless_a_parameter_does() {
    let top = || filters(vec![filter("f", vec![source("IP"), rule(Protocol::Ipv6, vec![var(A::SrcIpAddr, "IPV6")])])]);
    let mut interface = tap("vnet0", "f", NONE);
    interface.addresses = ["10.0.0.1", "2001:db8::1", "10.0.0.2"].map(|address| here(address.parse().expect("an address"))).to_vec();
    let expected = ["root drop out srcipaddr=10.0.0.1", "root drop out srcipaddr=10.0.0.2", "root drop out srcipaddr=2001:db8::1"];
    assert_eq!(rules(&fixed(&[top(), interfaces(vec![interface.clone()])])), expected);

    interface.filter = Some(reference("f", &[("IP", "10.9.9.9")]));
    let expected = ["root drop out srcipaddr=10.9.9.9", "root drop out srcipaddr=2001:db8::1"];
    assert_eq!(rules(&fixed(&[top(), interfaces(vec![interface])])), expected);
}

#[test]
fn libvirt_ignores_interface_addresses_and_says_so() {
    let mut interface = tap("vnet0", "f", NONE);
    interface.addresses = vec![here("10.0.0.1".parse().expect("an address"))];
    let documents = [filters(vec![filter("f", vec![source("IP")])]), interfaces(vec![interface])];
    let resolved = resolve(&documents, &[], &[], &Learned::default(), Quirks::Libvirt);
    assert_eq!(codes(&resolved), ["ignored-address"]);
    assert_eq!(resolved.diagnostics[0].severity, Severity::Note);
    assert!(matches!(resolved.guests[0].treatment, Treatment::Learning(_)));
}

#[test]
fn names_of_variables_are_case_sensitive() {
    let resolved = bind(vec![filter("f", vec![source("Peer")])], &[("PEER", "10.0.0.1")]);
    assert_eq!(fault(&resolved).help.as_deref(), Some("did you mean `PEER`?"));
}

#[test]
fn the_iterator_of_the_first_attribute_advances_fastest() {
    // The parser puts attributes element by element, within each in the protocol's order.
    let attributes = vec![var(A::DstIpAddr, "B[@1]"), var(A::SrcIpAddr, "A[@2]")];
    let resolved = bind(vec![filter("f", vec![rule(Protocol::Ip, attributes)])], &PAIRS);
    assert_eq!(
        rules(&resolved),
        [
            "root drop out dstipaddr=10.1.0.1 srcipaddr=10.0.0.1",
            "root drop out dstipaddr=10.1.0.2 srcipaddr=10.0.0.1",
            "root drop out dstipaddr=10.1.0.1 srcipaddr=10.0.0.2",
            "root drop out dstipaddr=10.1.0.2 srcipaddr=10.0.0.2",
        ]
    );
}

const PAIRS: [(&str, &str); 4] = [("A", "10.0.0.1"), ("A", "10.0.0.2"), ("B", "10.1.0.1"), ("B", "10.1.0.2")];

#[test]
fn iterator_zero_is_the_fastest_wherever_it_appears() {
    let attributes = vec![var(A::SrcIpAddr, "A[@7]"), var(A::DstIpAddr, "B")];
    let resolved = bind(vec![filter("f", vec![rule(Protocol::Ip, attributes)])], &PAIRS);
    assert_eq!(
        rules(&resolved),
        [
            "root drop out srcipaddr=10.0.0.1 dstipaddr=10.1.0.1",
            "root drop out srcipaddr=10.0.0.1 dstipaddr=10.1.0.2",
            "root drop out srcipaddr=10.0.0.2 dstipaddr=10.1.0.1",
            "root drop out srcipaddr=10.0.0.2 dstipaddr=10.1.0.2",
        ]
    );
}

#[test]
fn three_iterators_with_iterator_zero_last_keep_their_values_apart() {
    let attributes =
        vec![var(A::SrcIpAddr, "A[@2]"), var(A::DstIpAddr, "B[@1]"), lit(A::IpProtocol, Literal::Number(6)), var(A::DstPortStart, "PORT")];
    let parameters = [PAIRS.as_slice(), &[("PORT", "1"), ("PORT", "2")]].concat();
    let resolved = bind(vec![filter("f", vec![rule(Protocol::Ip, attributes)])], &parameters);
    let all = rules(&resolved);
    assert_eq!(all.len(), 8);
    assert_eq!(all[1], "root drop out srcipaddr=10.0.0.1 dstipaddr=10.1.0.1 protocol=6 dstportstart=2");
    assert_eq!(all[2], "root drop out srcipaddr=10.0.0.2 dstipaddr=10.1.0.1 protocol=6 dstportstart=1");
    assert_eq!(all[4], "root drop out srcipaddr=10.0.0.1 dstipaddr=10.1.0.2 protocol=6 dstportstart=1");
}

#[test]
fn one_variable_on_one_iterator_is_one_walk_and_on_two_all_pairs() {
    let same = vec![var(A::SrcIpAddr, "A"), var(A::DstIpAddr, "A")];
    let pairs = vec![var(A::SrcIpAddr, "A[@1]"), var(A::DstIpAddr, "A[@2]")];
    let count = |attributes| rules(&bind(vec![filter("f", vec![rule(Protocol::Ip, attributes)])], &PAIRS[..2])).len();
    assert_eq!(count(same), 2);
    assert_eq!(count(pairs), 4);
}

#[test]
fn a_fixed_element_stands_still_beside_an_iterator() {
    let attributes = vec![var(A::SrcIpAddr, "A"), var(A::DstIpAddr, "B[1]")];
    let resolved = bind(vec![filter("f", vec![rule(Protocol::Ip, attributes)])], &PAIRS);
    assert_eq!(values(&resolved, A::DstIpAddr), ["Ipv4(10.1.0.2)", "Ipv4(10.1.0.2)"]);
}

#[test]
fn repeated_values_of_an_iterator_make_one_rule() {
    let repeated = [("A", "10.0.0.1"), ("A", "10.0.0.2"), ("A", "10.0.0.1")];
    assert_eq!(rules(&bind(vec![filter("f", vec![source("A")])], &repeated)).len(), 2);
}

#[test]
fn pairs_are_repeated_only_when_all_their_values_are() {
    let attributes = vec![var(A::SrcIpAddr, "A"), var(A::DstIpAddr, "B")];
    let parameters = [("A", "10.0.0.1"), ("A", "10.0.0.1"), ("A", "10.0.0.1"), ("B", "10.1.0.1"), ("B", "10.1.0.2"), ("B", "10.1.0.1")];
    let resolved = bind(vec![filter("f", vec![rule(Protocol::Ip, attributes)])], &parameters);
    assert_eq!(values(&resolved, A::DstIpAddr), ["Ipv4(10.1.0.1)", "Ipv4(10.1.0.2)"]);
}

#[test]
fn equal_rules_of_different_origin_all_stay() {
    assert_eq!(rules(&bind(vec![filter("f", vec![source("A"), source("A")])], &[("A", "10.0.0.1")])).len(), 2);
}

#[test]
fn lists_on_one_iterator_must_be_equally_long() {
    let attributes = vec![var(A::SrcIpAddr, "A"), var(A::DstIpAddr, "B")];
    let shown = attributes[1].span;
    let parameters = [PAIRS.as_slice(), &[("A", "10.0.0.3")]].concat();
    let resolved = bind(vec![filter("f", vec![rule(Protocol::Ip, attributes)])], &parameters);
    let fault = fault(&resolved);
    assert_eq!((fault.code, fault.span()), ("uneven-lists", shown));
    assert_eq!(fault.message, "lists that are walked together differ in length: `A` has 3, `B` has 2");
    assert_eq!(fault.labels.len(), 3);
}

#[test]
fn row_18_a_single_mac_stands_still_beside_two_addresses_but_not_in_libvirt() {
    let top = || vec![filter("f", vec![rule(Protocol::Ip, vec![var(A::SrcMacAddr, "MAC"), var(A::SrcIpAddr, "IP")])])];
    let parameters = [("IP", "10.0.0.1"), ("IP", "10.0.0.2")];
    assert_eq!(
        rules(&bind(top(), &parameters)),
        ["root drop out srcmacaddr=52:54:00:56:44:32 srcipaddr=10.0.0.1", "root drop out srcmacaddr=52:54:00:56:44:32 srcipaddr=10.0.0.2"]
    );
    assert_eq!(fault(&bind_with(Quirks::Libvirt, top(), &parameters)).code, "uneven-lists");
}

#[test]
fn a_missing_variable_is_shown_at_its_use_and_at_the_binding() {
    let top = filter("f", vec![source("PEER")]);
    let Entry::Rule(used) = &top.entries[0] else { unreachable!("a rule") };
    let used = used.attributes[0].span;
    let resolved = bind(vec![top], NONE);
    let fault = fault(&resolved);
    assert_eq!((fault.code, fault.span(), fault.labels.len()), ("missing-variable", used, 2));
}

#[test]
fn every_missing_variable_is_reported_once() {
    let resolved = bind(vec![filter("f", vec![source("A"), source("B"), source("A"), source("C[2]")])], &[("C", "10.0.0.1")]);
    assert_eq!(codes(&resolved), ["missing-variable", "missing-variable", "missing-element"]);
}

#[test]
fn only_ip_on_iterator_zero_is_learned() {
    let learn = |access| bind(vec![filter("f", vec![source(access)])], NONE);
    assert_eq!(learning(&learn("IP")), &Method::Any);
    assert_eq!(learning(&learn("IP[@0]")), &Method::Any);
    assert_eq!(fault(&learn("IP[@1]")).code, "missing-variable");
    assert_eq!(fault(&learn("IP[0]")).code, "missing-element");
    assert_eq!(fault(&learn("IP[1]")).code, "missing-element");
    assert_eq!(fault(&learn("IPV6[@1]")).code, "missing-variable");
}

#[test]
fn ipv6_is_learned_beside_ip_and_only_in_fixed_quirks() {
    let both = || vec![filter("f", vec![source("IP"), source_ipv6("IPV6")])];
    assert_eq!(learning(&bind(both(), NONE)), &Method::Any);
    let resolved = bind_with(Quirks::Libvirt, both(), NONE);
    assert_eq!(codes(&resolved), ["missing-variable", "missing-variable"]);
}

#[test]
fn a_guest_with_an_address_does_not_wait_for_one_of_the_other_kind() {
    let both = vec![filter("f", vec![source("IP"), source_ipv6("IPV6")])];
    let resolved = bind(both, &[("IP", "10.0.0.1")]);
    assert_eq!(rules(&resolved), ["root drop out srcipaddr=10.0.0.1", "root drop out srcipaddr=::"]);
    assert_eq!(resolved.guests[0].learning().map(|learning| learning.families), Some(Families::Ipv6));
}

#[test]
fn learned_addresses_are_used_where_the_file_gives_none_and_only_by_the_guest_that_has_them() {
    let documents = |parameters: &[(&str, &str)]| {
        let all = vec![filter("f", vec![source("IP"), source_ipv6("IPV6")])];
        [filters(all), interfaces(vec![tap("vnet0", "f", parameters)])]
    };
    let claimant =
        |name: &str| Claimant { anchor: Anchor::Device(device("vnet0")), mac: mac(MAC), filter: name.into(), method: Method::Any };
    let finding = |address: &str| Finding { address: address.parse().expect("an address"), source: Source::Use, until: Until::Forever };
    let known = |name: &str, addresses: &[&str]| {
        let findings = addresses.iter().map(|address| finding(address)).collect();
        Learned([(claimant(name), Knowledge { findings, first: None })].into())
    };
    let with = |learned: &Learned, parameters| resolve(&documents(parameters), &[], &[], learned, Quirks::Fixed);
    let resolved = with(&known("f", &["10.0.0.7", "2001:db8::7"]), NONE);
    assert_eq!(rules(&resolved), ["root drop out srcipaddr=10.0.0.7", "root drop out srcipaddr=2001:db8::7"]);
    assert_eq!(resolved.guests[0].learned.as_ref().map(|learning| &learning.claimant), Some(&claimant("f")));
    let one = with(&known("f", &["10.0.0.7", "10.0.0.8"]), NONE);
    let expected = ["root drop out srcipaddr=10.0.0.7", "root drop out srcipaddr=10.0.0.8", "root drop out srcipaddr=::"];
    assert_eq!(rules(&one), expected);
    let given = with(&known("f", &["10.0.0.7"]), &[("IP", "10.0.0.1")]);
    assert_eq!(rules(&given)[0], "root drop out srcipaddr=10.0.0.1");
    assert_eq!(learning(&with(&known("g", &["10.0.0.7"]), NONE)), &Method::Any, "another filter's");
    let other_way = with(&known("f", &["10.0.0.7"]), &[("CTRL_IP_LEARNING", "dhcp")]);
    assert_eq!(learning(&other_way), &Method::Dhcp(Vec::new()), "learned another way");
    assert_eq!(codes(&with(&known("f", &["10.0.0.7"]), &[("CTRL_IP_LEARNING", "none")])).len(), 2, "learning is forbidden");
}

#[test]
fn ip_and_anything_else_missing_is_an_error() {
    let resolved = bind(vec![filter("f", vec![source("IP"), source("GATEWAY")])], NONE);
    assert_eq!(codes(&resolved), ["missing-variable", "missing-variable"]);
    assert_eq!(bind(vec![filter("f", vec![source("IP"), source("IP[0]")])], NONE).held.len(), 1);
}

#[test]
fn ip_given_anywhere_around_its_use_is_not_learned() {
    let top = filter("f", vec![include("g", &[("IP", "10.0.0.1")])]);
    assert_eq!(rules(&bind(vec![top, filter("g", vec![source("IP")])], NONE)), ["root drop out srcipaddr=10.0.0.1"]);
}

#[test]
fn the_way_to_learn_is_read_in_any_case() {
    let learn = |mode| bind(vec![filter("f", vec![source("IP")])], &[("CTRL_IP_LEARNING", mode)]);
    assert_eq!(learning(&learn("ANY")), &Method::Any);
    assert_eq!(learning(&learn("Dhcp")), &Method::Dhcp(Vec::new()));
    assert_eq!(fault(&learn("none")).code, "missing-variable");
    assert_eq!(fault(&learn("dhpc")).code, "unknown-learning-mode");
    assert_eq!(fault(&learn("dhpc")).help.as_deref(), Some("did you mean `dhcp`?"));
}

#[test]
fn the_way_to_learn_matters_only_when_something_is_to_be_learned() {
    let resolved = bind(vec![filter("f", vec![source("IP")])], &[("CTRL_IP_LEARNING", "bogus"), ("IP", "10.0.0.1")]);
    assert_eq!(rules(&resolved).len(), 1);
}

#[test]
fn the_way_to_learn_is_read_from_the_interface_alone() {
    let top = filter("f", vec![include("g", &[("CTRL_IP_LEARNING", "none")])]);
    assert_eq!(learning(&bind(vec![top, filter("g", vec![source("IP")])], NONE)), &Method::Any);
}

#[test]
fn dhcp_servers_are_addresses() {
    let learn = |server| {
        bind(vec![filter("f", vec![source("IP")])], &[("CTRL_IP_LEARNING", "dhcp"), ("DHCPSERVER", "10.0.0.1"), ("DHCPSERVER", server)])
    };
    assert_eq!(learning(&learn("10.0.0.2")), &Method::Dhcp(vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]));
    assert_eq!(fault(&learn("gateway")).code, "invalid-dhcp-server");
}

#[test]
fn while_learning_fixed_reports_what_no_address_could_mend_and_libvirt_does_not() {
    let top = || vec![filter("f", vec![source("IP"), source("A")])];
    assert_eq!(fault(&bind(top(), &[("A", "nonsense")])).code, "invalid-variable-value");
    assert_eq!(learning(&bind_with(Quirks::Libvirt, top(), &[("A", "nonsense")])), &Method::Any);
}

#[test]
fn a_wrong_value_is_shown_where_it_was_written_and_where_it_is_used() {
    let interface = tap("vnet0", "f", &[("A", "10.0.0.1"), ("A", "ten")]);
    let written = interface.filter.as_ref().expect("bound").parameters[1].value.span;
    let top = filter("f", vec![source("A"), include("g", NONE), include("g", NONE)]);
    let inner = filter("g", vec![rule(Protocol::None, Vec::new())]);
    let resolved = fixed(&[filters(vec![top, inner]), interfaces(vec![interface])]);
    let fault = fault(&resolved);
    assert_eq!((fault.code, fault.span()), ("invalid-variable-value", written));
    assert_eq!(fault.message, "`ten` is no value for `srcipaddr`, which `A` gives");
}

#[test]
fn conditions_tell_whether_a_variable_gave_their_value() {
    let attributes = vec![var(A::SrcIpAddr, "A"), lit(A::SrcIpMask, Literal::Prefix(8))];
    let resolved = bind(vec![filter("f", vec![rule(Protocol::Ip, attributes)])], &[("A", "10.0.0.1")]);
    let Treatment::Filtered(rules) = &resolved.guests[0].treatment else { panic!("expected rules") };
    assert_eq!(rules[0].conditions.iter().map(|condition| condition.from_variable).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn libvirt_makes_no_condition_of_variables_that_do_not_work() {
    let tcp = vec![var(A::State, "A"), var(A::TcpFlags, "A")];
    let arp = vec![var(A::Gratuitous, "A")];
    let resolved = bind_with(Quirks::Libvirt, vec![filter("f", vec![rule(Protocol::Tcp, tcp), rule(Protocol::Arp, arp)])], &[("A", "x")]);
    assert_eq!(rules(&resolved), ["root drop out flags=TcpFlags(0, 0)", "root drop out"]);
}
