//! Layer-2 rules against captures of libvirt 9.0 (nwfilter.md sections 6 and 9), quirk rows, and refusals.

use std::sync::Arc;

use crate::compile::example::{assert_golden, device, fault_in, fault_of, guest, remarks_on, rules, rules_of};
use crate::compile::{Layout, closed, compile};
use crate::model::Quirks::{Fixed, Libvirt};
use crate::model::{Object, Quirks};
use crate::resolve::{Resolved, Treatment};
use crate::ruleset::rule::Rule;

/// One rule in root, on one side, in ebtables' words.
#[track_caller]
fn assert_sent(rule: &str, quirks: Quirks, expected: &[&str]) {
    let hook = "[ebtables]\n-A PREROUTING -i vnet0 -j libvirt-I-vnet0";
    let golden = expected.iter().fold(hook.to_owned(), |golden, words| format!("{golden}\n-A libvirt-I-vnet0 {words}"));
    assert_golden(&rules_of(rule, quirks), &golden);
}

#[track_caller]
fn assert_both_ways(rule: &str, from_guest: &str, to_guest: &str) {
    let golden = format!(
        "[ebtables]
         -A PREROUTING -i vnet0 -j libvirt-I-vnet0
         -A POSTROUTING -o vnet0 -j libvirt-O-vnet0
         -A libvirt-I-vnet0 {from_guest}
         -A libvirt-O-vnet0 {to_guest}"
    );
    assert_golden(&rules_of(rule, Fixed), &golden);
}

#[test]
fn a_guard_with_a_chain_of_its_own() {
    let guard = "
        arp-guard -450: return out 10 arp opcode=2 $arpsrcipaddr=198.51.100.4 $arpsrcmacaddr=52:54:00:56:44:32
        arp-guard -450: return out 10 arp opcode=2 $arpsrcipaddr=198.51.100.5 $arpsrcmacaddr=52:54:00:56:44:32
        arp-guard -450: drop out 20 arp gratuitous=yes
        arp-guard -450: accept in 30 arp $arpdstipaddr=198.51.100.4
        arp-guard -450: accept in 30 arp $arpdstipaddr=198.51.100.5
        arp-guard -450: drop inout 40
        drop out -950 mac !$srcmacaddr=52:54:00:56:44:32
        accept inout 400 ip
        drop inout 990";
    for quirks in [Fixed, Libvirt] {
        assert_golden(&rules_of(guard, quirks), include_str!("../golden/layer-2-guard.rules"));
    }
}

#[test]
fn jumps_stand_among_root_rules_by_priority() {
    let mix = "
        ipv4-lim 150: drop out -300 ip protocol=17 dstportstart=9
        ipv4-lim 150: accept in 700 tcp dstportstart=443
        stp 0: drop inout 100
        accept out 150 mac protocolid=0x88cc
        accept out 149 mac protocolid=0x86dd
        accept out 0 mac protocolid=0x806
        accept out -1 mac protocolid=0x8035
        vlan-a 150: drop inout 600 vlan vlanid=100
        accept in 900 udp dstportstart=53";
    for quirks in [Fixed, Libvirt] {
        assert_golden(&rules_of(mix, quirks), include_str!("../golden/interleaved-priorities.rules"));
    }
}

#[test]
fn every_combination_of_iterators_is_a_rule() {
    let iterated = "
        ipv4-it -700: accept in 10 ip $srcipaddr=203.0.113.1 protocol=6 $dstportstart=80
        ipv4-it -700: accept in 10 ip $srcipaddr=203.0.113.2 protocol=6 $dstportstart=80
        ipv4-it -700: accept in 10 ip $srcipaddr=203.0.113.1 protocol=6 $dstportstart=8080
        ipv4-it -700: accept in 10 ip $srcipaddr=203.0.113.2 protocol=6 $dstportstart=8080
        ipv4-it -700: accept out 20 ip $dstipaddr=203.0.113.1 protocol=17 $dstportstart=80
        ipv4-it -700: accept out 20 ip $dstipaddr=203.0.113.2 protocol=17 $dstportstart=8080
        ipv4-it -700: drop out 30 ip $dstipaddr=203.0.113.2";
    assert_golden(&rules_of(iterated, Fixed), include_str!("../golden/iterators.rules"));
}

#[test]
fn a_side_without_rules_has_no_chain_and_no_hook() {
    let nested = "
        ipv4 -700: drop in 40 ip $srcipaddr=10.0.0.0 $srcipmask=16
        ipv4 -700: drop in 40 ip $srcipaddr=172.16.0.0 $srcipmask=16
        ipv4 -700: drop in 40 ip $srcipaddr=192.168.0.0 $srcipmask=16
        ipv4 -700: drop in 40 ip $srcipaddr=192.168.0.0 $srcipmask=16";
    assert_golden(&rules_of(nested, Fixed), include_str!("../golden/nested-parameters.rules"));
}

#[test]
fn clean_traffic() {
    let clean = "
        mac -800: return out 500 mac $srcmacaddr=52:54:00:56:44:32
        mac -800: drop out 500 mac
        ipv4-ip -710: return out 100 ip srcipaddr=0.0.0.0 protocol=17
        ipv4-ip -710: return out 500 ip $srcipaddr=10.0.0.5
        ipv4-ip -710: drop out 1000
        accept out -650 mac protocolid=0x800
        ipv4 -700: accept in 500
        arp-mac -520: return out 350 arp $arpsrcmacaddr=52:54:00:56:44:32
        arp-mac -520: drop out 1000
        arp-ip -510: return out 400 arp $arpsrcipaddr=10.0.0.5
        arp-ip -510: drop out 1000
        accept inout -500 mac protocolid=0x806
        drop inout 1000
        accept out 500 mac protocolid=0x835
        rarp -400: accept out 500 rarp opcode=3 $srcmacaddr=52:54:00:56:44:32 dstmacaddr=ff:ff:ff:ff:ff:ff $arpsrcmacaddr=52:54:00:56:44:32 $arpdstmacaddr=52:54:00:56:44:32 arpsrcipaddr=0.0.0.0 arpdstipaddr=0.0.0.0
        rarp -400: accept in 500 rarp opcode=3 dstmacaddr=ff:ff:ff:ff:ff:ff $arpsrcmacaddr=52:54:00:56:44:32 $arpdstmacaddr=52:54:00:56:44:32 arpsrcipaddr=0.0.0.0 arpdstipaddr=0.0.0.0
        rarp -400: drop inout 1000";
    for quirks in [Fixed, Libvirt] {
        assert_golden(&rules_of(clean, quirks), include_str!("../golden/clean-traffic.rules"));
    }
}

#[test]
fn inout_rules_are_written_for_traffic_to_the_guest() {
    assert_both_ways(
        "drop inout 500 arp arpsrcipaddr=10.0.0.0 arpsrcipmask=8 arpdstipaddr=10.1.0.1 arpdstmacaddr=02:00:00:00:00:01",
        "-p ARP --arp-ip-src 10.1.0.1 --arp-ip-dst 10.0.0.0/8 --arp-mac-src 02:00:00:00:00:01 -j DROP",
        "-p ARP --arp-ip-src 10.0.0.0/8 --arp-ip-dst 10.1.0.1 --arp-mac-dst 02:00:00:00:00:01 -j DROP",
    );
    assert_both_ways(
        "drop inout 500 ipv6 srcipaddr=fe80:: srcipmask=10 protocol=17 dstportstart=546 dstportend=547",
        "-p IPv6 --ip6-dst fe80::/10 --ip6-proto udp --ip6-sport 546:547 -j DROP",
        "-p IPv6 --ip6-src fe80::/10 --ip6-proto udp --ip6-dport 546:547 -j DROP",
    );
}

#[test]
fn icmpv6_types_are_never_reversed() {
    let words = "-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type 130:132/0:255 -j DROP";
    assert_both_ways("drop inout 500 ipv6 protocol=58 type=130 typeend=132", words, words);
}

#[test]
fn a_chain_takes_its_priority_from_the_last_rule_that_registered_it() {
    let shared = "
        arp-x 100: drop out 600 arp opcode=1
        arp-x -100: drop out 500 arp opcode=2
        accept out 0 mac";
    let golden = "[ebtables]
        -A PREROUTING -i vnet0 -j libvirt-I-vnet0
        -A libvirt-I-vnet0 -j ACCEPT
        -A libvirt-I-vnet0 -p ARP -j I-vnet0-arp-x
        -A I-vnet0-arp-x -p ARP --arp-op Reply -j DROP
        -A I-vnet0-arp-x -p ARP --arp-op Request -j DROP";
    assert_golden(&rules_of(shared, Fixed), golden);
}

#[test]
fn chains_of_equal_priority_keep_collection_order() {
    let equal = "
        mac-b 5: drop out 700 mac
        mac-a 5: drop out 600 mac";
    let golden = "[ebtables]
        -A PREROUTING -i vnet0 -j libvirt-I-vnet0
        -A libvirt-I-vnet0 -j I-vnet0-mac-b
        -A libvirt-I-vnet0 -j I-vnet0-mac-a
        -A I-vnet0-mac-a -j DROP
        -A I-vnet0-mac-b -j DROP";
    assert_golden(&rules_of(equal, Fixed), golden);
}

#[test]
fn spanning_tree_values_make_ranges_and_masks() {
    assert_sent(
        "drop out 500 stp type=0 root-priority=4096 root-priority-hi=8192 !root-address=02:00:00:00:00:00 root-address-mask=ff:ff:00:00:00:00 root-cost=7 age=1 age-hi=20",
        Fixed,
        &[
            "-d BGA --stp-type config --stp-root-prio 4096:8192 --stp-root-addr ! 02:00:00:00:00:00/ff:ff:00:00:00:00 --stp-root-cost 7 --stp-msg-age 1:20 -j DROP",
        ],
    );
}

#[test]
fn continue_is_kept() {
    assert_sent("continue out 500 mac", Fixed, &["-j CONTINUE"]);
}

#[test]
fn reject_drops_with_one_note() {
    let rejecting = "reject inout 500 arp";
    assert_both_ways(rejecting, "-p ARP -j DROP", "-p ARP -j DROP");
    assert_eq!(remarks_on(rejecting, Fixed), ["reject-drops"]);
    assert_eq!(remarks_on(rejecting, Libvirt), ["reject-drops"]);
}

#[test]
fn an_encapsulated_protocol_is_the_number_as_meant() {
    assert_sent("drop out 500 vlan encap-protocol=2054", Fixed, &["-p 802_1Q --vlan-encap 0806 -j DROP"]);
}

#[test]
fn libvirt_reads_an_encapsulated_protocol_as_hex() {
    assert_sent("drop out 500 vlan encap-protocol=2054", Libvirt, &["-p 802_1Q --vlan-encap 2054 -j DROP"]);
    assert_sent("drop out 500 vlan encap-protocol=34525", Libvirt, &["-p 802_1Q --vlan-encap 4525 -j DROP"]);
    assert_sent("drop out 500 vlan $encap-protocol=2054", Libvirt, &["-p 802_1Q --vlan-encap 0806 -j DROP"]);
}

#[test]
fn an_arp_destination_has_its_own_mask() {
    let rule = "drop out 500 arp arpsrcipaddr=10.0.0.0 arpsrcipmask=8 arpdstipaddr=10.1.2.3";
    assert_sent(rule, Fixed, &["-p ARP --arp-ip-src 10.0.0.0/8 --arp-ip-dst 10.1.2.3 -j DROP"]);
}

#[test]
fn libvirt_gives_an_arp_destination_the_mask_of_the_source() {
    let rule = "drop out 500 arp arpsrcipaddr=10.0.0.0 arpsrcipmask=8 arpdstipaddr=10.1.2.3";
    assert_sent(rule, Libvirt, &["-p ARP --arp-ip-src 10.0.0.0/8 --arp-ip-dst 10.0.0.0/8 -j DROP"]);
    let own = "drop out 500 arp arpsrcipaddr=10.0.0.0 arpsrcipmask=8 arpdstipaddr=10.1.2.3 arpdstipmask=24";
    assert_sent(own, Libvirt, &["-p ARP --arp-ip-src 10.0.0.0/8 --arp-ip-dst 10.1.2.0/24 -j DROP"]);
}

#[test]
fn a_dscp_matches_whatever_the_ecn_bits() {
    let octets = ["0xB8", "0xB9", "0xBA", "0xBB"].map(|octet| format!("-p IPv4 --ip-tos {octet} -j DROP"));
    assert_sent("drop out 500 ip dscp=46", Fixed, &octets.each_ref().map(String::as_str));
}

#[test]
fn libvirt_compares_a_dscp_with_the_whole_octet() {
    assert_sent("drop out 500 ip dscp=46", Libvirt, &["-p IPv4 --ip-tos 0x2E -j DROP"]);
    assert_sent("drop out 500 ip !dscp=46", Libvirt, &["-p IPv4 --ip-tos ! 0x2E -j DROP"]);
}

#[test]
fn a_negated_dscp_is_refused() {
    assert_eq!(fault_in("drop out 500 ip !dscp=46", Fixed), ("negated-dscp", 101));
}

#[test]
fn a_code_without_a_type_has_its_own_negation() {
    let rule = "drop out 500 ipv6 protocol=58 !code=3";
    assert_sent(rule, Fixed, &["-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type ! 0:255/3:3 -j DROP"]);
    assert_sent(rule, Libvirt, &["-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type 0:255/3:3 -j DROP"]);
}

#[test]
fn a_type_and_a_code_that_disagree_on_negation_are_refused() {
    assert_eq!(fault_in("drop out 500 ipv6 protocol=58 type=1 !code=3", Fixed), ("mixed-negation", 103));
    assert_sent("drop out 500 ipv6 protocol=58 type=1 !code=3", Libvirt, &["-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type 1/3 -j DROP"]);
}

#[test]
fn what_the_tools_refuse_holds_the_guest() {
    assert_eq!(fault_of("drop out 500 vlan vlanid=4095"), ("unusable-value", 101));
    assert_eq!(fault_of("drop out 500 vlan $encap-protocol=10"), ("unusable-value", 101));
    assert_eq!(fault_of("drop out 500 mac $protocolid=5"), ("unusable-value", 101));
    assert_eq!(fault_of("drop out 500 mac !protocolid=0x600"), ("unusable-value", 101));
    assert_eq!(fault_of("drop out 500 mac protocolid=0x5ff"), ("unusable-value", 101));
    assert_sent("drop out 500 mac protocolid=0x600", Fixed, &["-p 0x600 -j DROP"]);
    assert_eq!(fault_of("drop out 500 mac srcmacaddr=02:00:00:00:00:00 srcmacmask=00:00:00:00:00:00"), ("empty-mac-mask", 102));
    assert_eq!(fault_of("drop out 500 ip !protocol=6 dstportstart=22"), ("ports-without-protocol", 102));
    assert_eq!(fault_of("drop out 500 ip protocol=1 dstportstart=22"), ("ports-without-protocol", 102));
    assert_eq!(fault_of("drop out 500 ip dstportstart=22"), ("ports-without-protocol", 101));
    assert_eq!(fault_of("drop out 500 ip protocol=6 dstportstart=22 dstportend=21"), ("descending-range", 103));
    assert_eq!(fault_of("drop out 500 ipv6 type=1"), ("type-needs-icmpv6", 101));
    assert_eq!(fault_of("drop out 500 ipv6 protocol=6 code=1"), ("type-needs-icmpv6", 102));
    assert_eq!(fault_of("drop out 500 ipv6 protocol=58 type=5 typeend=3"), ("descending-range", 103));
    assert_eq!(fault_of("drop out 500 stp root-cost=5 root-cost-hi=3"), ("descending-range", 102));
    assert_eq!(fault_of("drop inout 500 stp srcmacaddr=02:00:00:00:00:01"), ("stp-source-inout", 101));
}

#[test]
fn a_spanning_tree_source_is_fine_in_one_direction() {
    assert_sent("drop out 500 stp srcmacaddr=02:00:00:00:00:01", Fixed, &["-s 02:00:00:00:00:01 -d BGA -j DROP"]);
}

#[test]
fn a_closed_guest_neither_sends_nor_receives() {
    let golden = "[ebtables]
        -A PREROUTING -i vnet0 -j libvirt-I-vnet0
        -A POSTROUTING -o vnet0 -j libvirt-O-vnet0
        -A libvirt-I-vnet0 -j DROP
        -A libvirt-O-vnet0 -j DROP";
    assert_golden(&closed(&device("vnet0")), golden);
}

fn compile_two(first: (&str, &str), second: (&str, &str), quirks: Quirks) -> crate::compile::Compiled {
    let guests = [first, second].map(|(name, text)| guest(name, Treatment::Filtered(rules(text))).into()).into();
    compile(&Resolved { guests, ..Resolved::default() }, quirks, Layout::default())
}

#[test]
fn guests_share_the_rules_that_name_neither_of_them() {
    let text = "
        drop out 500 arp opcode=2
        drop out 600 arp $arpsrcipaddr=198.51.100.4";
    let compiled = compile_two(("vnet0", text), ("vnet1", &text.replace("100.4", "100.5")), Fixed);
    let [one, two] = ["vnet0", "vnet1"].map(|name| {
        let rules = &compiled.objects[&Object::Interface(device(name))];
        rules.chains.values().flatten().map(|placed| placed.rule.clone()).collect::<Vec<_>>()
    });
    let same = |(one, two): (&Rule, &Rule)| matches!((one, two), (Rule::Bridge(one), Rule::Bridge(two)) if Arc::ptr_eq(one, two));
    assert_eq!(one.iter().zip(&two).map(same).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_fault_is_said_once_and_holds_every_guest_that_has_it() {
    let faulty = "drop out 500 vlan vlanid=4095";
    let compiled = compile_two(("vnet0", faulty), ("vnet1", faulty), Fixed);
    assert_eq!(compiled.diagnostics.len(), 1);
    assert_eq!(compiled.held.len(), 2);
    assert!(compiled.objects.is_empty());
}

#[test]
fn every_fault_of_a_guest_is_said() {
    let faulty = "
        drop out 500 vlan vlanid=4095
        drop out 500 ipv6 type=1
        continue out 500 all";
    assert_eq!(remarks_on(faulty, Fixed), ["unusable-value", "type-needs-icmpv6", "continue-on-ip-rule"]);
}

#[test]
fn a_name_that_the_tools_cannot_jump_to_holds_the_guest() {
    let text = "arp-12345678 0: drop out 500 arp";
    let compiled = compile_two(("a", text), ("a-device-of-15c", text), Fixed);
    let [held] = &compiled.held[..] else { panic!("held: {:?}", compiled.held) };
    assert_eq!((&held.object, held.code), (&Object::Interface(device("a-device-of-15c")), "chain-name-too-long"));
}

#[test]
fn the_second_of_two_guests_that_need_one_chain_is_held() {
    let compiled = compile_two(("a", "arp-mac 0: drop out 500 arp"), ("a-arp", "mac 0: drop out 500 mac"), Fixed);
    let [held] = &compiled.held[..] else { panic!("held: {:?}", compiled.held) };
    assert_eq!((&held.object, held.code), (&Object::Interface(device("a-arp")), "chain-name-clash"));
    let compiled = compile_two(("a", "arp-mac 0: drop out 500 arp"), ("a-arp", "mac-x 0: drop out 500 mac"), Fixed);
    assert!(compiled.held.is_empty());
}

const DHCP: &str = "ipv4 -700: accept out 100 ip protocol=17 srcportstart=68 dstportstart=67";

#[test]
fn an_end_that_something_later_would_drop_at_is_pointed_at() {
    let said = |rules: &str| [Fixed, Libvirt].map(|quirks| remarks_on(rules, quirks).contains(&"open-chain-end"));
    assert_eq!(said(DHCP), [false; 2], "nothing is dropped later");
    assert_eq!(said(&format!("{DHCP}\ndrop inout 1000")), [true; 2]);
    assert_eq!(
        said(&format!("{DHCP}\nipv4-ip -650: drop out 500 ip srcipaddr=10.0.0.9")),
        [true; 2],
        "dropped in a chain that comes later"
    );
    assert_eq!(said(&format!("drop inout -1000 mac protocolid=0x88cc\n{DHCP}")), [false; 2], "dropped before");
    assert_eq!(said(&format!("{DHCP}\nipv4-ip -750: drop out 500 ip")), [false; 2], "dropped in a chain that comes before");
    assert_eq!(said(&format!("{DHCP}\nipv4 -700: return out 500\ndrop inout 1000")), [false; 2], "the end is not reached");
}

#[test]
fn a_chain_whose_end_can_be_reached_returns_in_fixed_quirks() {
    let returning = |rules: &str, quirks| {
        let rules = rules_of(rules, quirks);
        rules.returning.iter().map(|id| id.chain.to_string()).collect::<Vec<_>>()
    };
    let open = format!(
        "{DHCP}\narp -500: drop in 100 arp opcode=9\nmac -800: drop out 500\nrarp -400: drop out 500\nrarp -400: accept out 900 rarp"
    );
    assert_eq!(returning(&open, Fixed), ["I-vnet0-ipv4", "O-vnet0-arp"]);
    assert_eq!(returning(&open, Libvirt), Vec::<String>::new());
    assert_eq!(returning("ipv4 -700: continue out 100", Fixed), ["I-vnet0-ipv4"], "`continue` decides nothing");
}
