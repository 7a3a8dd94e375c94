//! Layer-3 rules against captures of libvirt 9.0 (nwfilter.md section 9), quirk rows, and refusals.

use crate::compile::ObjectRules;
use crate::compile::example::{assert_golden, device, fault_in, fault_of, remarks_on, rules_of};
use crate::model::Quirks::{self, Fixed, Libvirt};
use crate::ruleset::{ChainId, ChainName, Family, Table};

const LINKS: &str = "
    -A libvirt-host-in -m physdev --physdev-in vnet0 -g HI-vnet0
    -A libvirt-in -m physdev --physdev-in vnet0 -g FI-vnet0
    -A libvirt-in-post -m physdev --physdev-in vnet0 -j ACCEPT
    -A libvirt-out -m physdev --physdev-out vnet0 --physdev-is-bridged -g FO-vnet0";

/// The rules of FI (and so of HI) and of FO.
#[track_caller]
fn assert_rules(family: &str, rule: &str, quirks: Quirks, from_guest: &[&str], to_guest: &[&str]) {
    let chains = [("FI", from_guest), ("HI", from_guest), ("FO", to_guest)];
    let lines = chains.iter().flat_map(|(chain, rules)| rules.iter().map(move |words| format!("-A {chain}-vnet0 {words}")));
    let golden = lines.fold(format!("[{family}]{LINKS}"), |golden, line| format!("{golden}\n{line}"));
    assert_golden(&rules_of(rule, quirks), &golden);
}

#[track_caller]
fn assert_both_quirks(rule: &str, from_guest: &[&str], to_guest: &[&str]) {
    for quirks in [Fixed, Libvirt] {
        assert_rules("iptables", rule, quirks, from_guest, to_guest);
    }
}

fn chains_in(rules: &ObjectRules, family: Family) -> Vec<(String, usize)> {
    let here = |(id, rules): (&ChainId, &Vec<_>)| (id.family == family).then(|| (id.chain.to_string(), rules.len()));
    rules.chains.iter().filter_map(here).collect()
}

#[test]
fn a_stateful_service() {
    let service = "
        accept in 200 tcp dstportstart=80
        accept in 210 tcp srcipaddr=192.0.2.7 srcipmask=24 dstportstart=8000 dstportend=8010 comment=admin_net
        accept out 300 udp dstportstart=53
        drop inout 900 all";
    for quirks in [Fixed, Libvirt] {
        assert_golden(&rules_of(service, quirks), include_str!("../golden/stateful-service.rules"));
    }
}

const STATES_AND_LIMITS: &str = "
    accept out 100 icmp type=8 code=0
    accept in 110 icmp type=0
    accept inout 130 icmp
    drop in 200 tcp dstportstart=22 connlimit-above=4
    accept in 210 tcp dstportstart=22 state=NEW
    accept out 220 all state=ESTABLISHED,RELATED
    accept in 230 statematch=false tcp dstportstart=25
    reject out 300 tcp dstportstart=25";

#[test]
fn icmp_types_states_and_limits() {
    for quirks in [Fixed, Libvirt] {
        assert_golden(&rules_of(STATES_AND_LIMITS, quirks), include_str!("../golden/icmp-states-limits.rules"));
    }
}

#[test]
fn libvirt_forgets_an_icmp_type_in_both_directions() {
    let text = format!("{STATES_AND_LIMITS}\naccept inout 120 icmp type=3");
    assert_golden(&rules_of(&text, Libvirt), include_str!("../golden/icmp-states-limits.rules"));
}

#[test]
fn an_icmp_type_narrows_an_inout_rule_on_both_sides() {
    let words = "-p icmp -m icmp --icmp-type 3 -j";
    let (from, to) = (format!("{words} RETURN"), format!("{words} ACCEPT"));
    assert_rules("iptables", "accept inout 120 icmp type=3", Fixed, &[&from], &[&to]);
    let words = "-p ipv6-icmp -m icmp6 --icmpv6-type 128/0 -j DROP";
    assert_rules("ip6tables", "drop inout 120 icmpv6 type=128 code=0", Fixed, &[words], &[words]);
    let (from, to) = ("-d 10.0.0.9/32 -p icmp -m icmp --icmp-type 8 -j DROP", "-s 10.0.0.9/32 -p icmp -m icmp --icmp-type 8 -j DROP");
    assert_rules("iptables", "drop inout 120 icmp srcipaddr=10.0.0.9 type=8", Fixed, &[from], &[to]);
}

#[test]
fn a_family_has_its_chains_even_when_all_its_rules_vanish() {
    let rules = rules_of("accept inout 120 icmp type=3", Libvirt);
    assert_eq!(chains_in(&rules, Family::Ipv4), [("FI-vnet0".into(), 0), ("FO-vnet0".into(), 0), ("HI-vnet0".into(), 0)]);
    assert_eq!(chains_in(&rules, Family::Ipv6), []);
    assert_rules("iptables", "accept inout 120 icmp type=3", Libvirt, &[], &[]);
}

#[test]
fn a_family_without_rules_has_neither_chains_nor_links() {
    let rules = rules_of("drop inout 500 all-ipv6", Fixed);
    assert!(rules.shared.keys().all(|id| id.family == Family::Ipv6));
    let id = ChainId { family: Family::Ipv6, table: Table::Filter, chain: ChainName::new("libvirt-in-post") };
    assert_eq!(rules.shared[&id].len(), 1);
    let rules = rules_of("", Fixed);
    assert!(rules.chains.is_empty() && rules.shared.is_empty() && !rules.keys.is_empty());
}

#[test]
fn ipv6_in_both_tables() {
    let six = "
        ipv6-g -650: return out 10 ipv6 srcipaddr=fe80:: srcipmask=10
        ipv6-g -650: return out 20 ipv6 $srcipaddr=2001:db8::10
        ipv6-g -650: drop in 30 ipv6 protocol=58 type=134 typeend=134 code=0
        ipv6-g -650: drop out 900
        ipv6-g -650: accept in 40 icmpv6 type=128 code=0
        ipv6-g -650: accept in 50 tcp-ipv6 srcipaddr=2001:db8:1:: srcipmask=48 dstportstart=22
        ipv6-g -650: drop inout 999 all-ipv6";
    for quirks in [Fixed, Libvirt] {
        assert_golden(&rules_of(six, quirks), include_str!("../golden/ipv6-in-both-tables.rules"));
    }
}

const NEGATION: &str = "
    drop out 10 tcp !srcipaddr=10.2.0.0 !srcipmask=16 dstportstart=445
    drop out 20 tcp !dstportstart=25
    drop in 30 udp !srcipfrom=10.9.0.1 !srcipto=10.9.0.20 !srcportstart=123
    drop inout 40 ip srcmacaddr=02:00:00:00:00:00 srcmacmask=ff:ff:ff:00:00:00 dstipaddr=10.3.0.1 protocol=6 srcportstart=1 srcportend=1023
    drop in 50 all srcmacaddr=02:00:00:00:00:99";

#[test]
fn negation_repeated_elements_and_reversal() {
    assert_golden(&rules_of(NEGATION, Libvirt), include_str!("../golden/negation.rules"));
}

#[test]
fn a_destination_port_has_its_own_negation() {
    let golden =
        include_str!("../golden/negation.rules").replace(" --dport 25 ", " ! --dport 25 ").replace(" --sport 25 ", " ! --sport 25 ");
    assert_golden(&rules_of(NEGATION, Fixed), &golden);
}

#[test]
fn libvirt_negates_a_destination_port_with_the_source_port() {
    let rule = "drop out 500 tcp !srcportstart=22 dstportstart=23";
    assert_rules(
        "iptables",
        rule,
        Libvirt,
        &["-p tcp -m tcp ! --sport 22 ! --dport 23 -j DROP"],
        &["-p tcp -m tcp ! --sport 23 ! --dport 22 -j DROP"],
    );
    assert_rules(
        "iptables",
        rule,
        Fixed,
        &["-p tcp -m tcp ! --sport 22 --dport 23 -j DROP"],
        &["-p tcp -m tcp --sport 23 ! --dport 22 -j DROP"],
    );
}

#[test]
fn rules_of_root_filters_come_first_whatever_their_priority() {
    let text = "
        mac -800: drop in 5 tcp
        drop in 1000 all";
    assert_both_quirks(text, &["-j DROP", "-p tcp -j DROP"], &["-j DROP", "-p tcp -j DROP"]);
}

#[test]
fn accept_returns_to_the_receiver_and_return_falls_through() {
    assert_both_quirks("return in 500 all", &["-j RETURN"], &["-j RETURN"]);
    assert_both_quirks("accept inout 500 all", &["-j RETURN"], &["-j ACCEPT"]);
}

#[test]
fn a_set_is_matched_on_every_protocol() {
    let rule = "drop in 500 tcp ipset=blocked ipsetflags=src,dst";
    let (from, to) = ("-p tcp -m set --match-set blocked dst,src -j DROP", "-p tcp -m set --match-set blocked src,dst -j DROP");
    assert_rules("iptables", rule, Fixed, &[from], &[to]);
    assert_rules("iptables", rule, Libvirt, &["-p tcp -j DROP"], &["-p tcp -j DROP"]);
}

#[test]
fn a_set_on_all_swaps_its_directions_when_reversed() {
    let (from, to) = ("-m set --match-set blocked dst -j DROP", "-m set --match-set blocked src -j DROP");
    assert_both_quirks("drop in 500 all ipset=blocked ipsetflags=src", &[from], &[to]);
    assert_rules("iptables", "drop in 500 all ipset=blocked $ipsetflags=src", Fixed, &[from], &[to]);
    assert_rules("iptables", "drop in 500 all ipset=blocked $ipsetflags=src", Libvirt, &[to], &[to]);
}

#[test]
fn a_set_without_directions_is_refused() {
    assert_eq!(fault_of("drop in 500 tcp ipset=blocked"), ("ipset-without-flags", 101));
    assert_eq!(fault_in("drop in 500 all ipset=blocked", Fixed), ("ipset-without-flags", 101));
}

#[test]
fn libvirt_forgets_a_set_without_directions_on_all() {
    assert_rules("iptables", "drop in 500 all ipset=blocked", Libvirt, &["-j DROP"], &["-j DROP"]);
}

#[test]
fn explicit_states_judge_one_direction_with_a_note() {
    let states = "-m conntrack --ctstate NEW -j";
    assert_both_quirks("accept in 500 all state=NEW", &[], &[&format!("{states} ACCEPT")]);
    assert_both_quirks("drop out 500 all state=NEW", &[&format!("{states} DROP")], &[]);
    assert_both_quirks("drop inout 500 all state=NEW", &[&format!("{states} DROP")], &[&format!("{states} DROP")]);
    assert_both_quirks("drop out 500 all state=NONE", &["-j DROP"], &[]);
    assert_eq!(remarks_on("accept in 500 all state=NEW", Fixed), ["state-without-replies"]);
    assert_eq!(remarks_on("accept inout 500 all state=NEW", Fixed), Vec::<&str>::new());
}

#[test]
fn statematch_switches_explicit_states_off_with_a_warning() {
    let rule = "accept in 500 statematch=false all state=NEW";
    assert_both_quirks(rule, &["-j RETURN"], &["-j ACCEPT"]);
    assert_eq!(remarks_on(rule, Fixed), ["state-switched-off"]);
}

#[test]
fn a_connection_limit_judges_one_direction_with_a_note() {
    let limit = "-p tcp -m connlimit --connlimit-above 3 --connlimit-mask 32 --connlimit-saddr -j";
    assert_both_quirks("accept in 500 tcp connlimit-above=3", &[], &[&format!("{limit} ACCEPT")]);
    assert_both_quirks("drop inout 500 tcp connlimit-above=3", &[], &[&format!("{limit} DROP")]);
    assert_both_quirks("drop out 500 tcp connlimit-above=3", &[&format!("{limit} DROP")], &[]);
    assert_eq!(remarks_on("drop out 500 tcp connlimit-above=3", Fixed), ["connlimit-one-way"]);
}

#[test]
fn a_limit_keeps_explicit_states_unless_it_accepts() {
    let limit = "-m connlimit --connlimit-upto 3 --connlimit-mask 32 --connlimit-saddr -j";
    assert_both_quirks("drop in 500 all state=NEW !connlimit-above=3", &[], &[&format!("-m conntrack --ctstate NEW {limit} DROP")]);
    assert_both_quirks("accept in 500 all state=NEW !connlimit-above=3", &[], &[&format!("{limit} ACCEPT")]);
}

#[test]
fn a_sender_is_matched_as_written_only() {
    let mac = "-m mac --mac-source 02:00:00:00:00:99";
    assert_both_quirks("drop out 500 all srcmacaddr=02:00:00:00:00:99 comment=x", &[&format!("{mac} -m comment --comment x -j DROP")], &[]);
    let more = "drop out 500 all srcmacaddr=02:00:00:00:00:99 dscp=0";
    let from = format!("{mac} -m dscp --dscp 0x00 -j DROP");
    assert_rules("iptables", more, Libvirt, &[&from], &["-m dscp --dscp 0x00 -j DROP"]);
    assert_rules("iptables", more, Fixed, &[&from], &[]);
    let state = "-m conntrack --ctstate";
    assert_both_quirks(
        "accept out 500 tcp srcmacaddr=02:00:00:00:00:99 dstportstart=22",
        &[&format!("-p tcp {mac} -m tcp --dport 22 {state} NEW,ESTABLISHED -m conntrack --ctdir ORIGINAL -j RETURN")],
        &[&format!("-p tcp -m tcp --sport 22 {state} ESTABLISHED -m conntrack --ctdir REPLY -j ACCEPT")],
    );
    assert_eq!(fault_in("drop inout 500 all srcmacaddr=02:00:00:00:00:99", Fixed).0, "source-mac-inout");
}

#[test]
fn states_and_sets_are_negated_in_fixed_quirks_only() {
    let states = "drop out 500 all !state=NEW";
    assert_rules("iptables", states, Fixed, &["-m conntrack ! --ctstate NEW -j DROP"], &[]);
    assert_rules("iptables", states, Libvirt, &["-m conntrack --ctstate NEW -j DROP"], &[]);
    let set = "drop out 500 all !ipset=s ipsetflags=src";
    assert_rules("iptables", set, Fixed, &["-m set ! --match-set s src -j DROP"], &["-m set ! --match-set s dst -j DROP"]);
    assert_rules("iptables", set, Libvirt, &["-m set --match-set s src -j DROP"], &["-m set --match-set s dst -j DROP"]);
}

#[test]
fn an_icmp_code_without_a_type_is_ignored() {
    let state = "-m conntrack --ctstate";
    assert_both_quirks(
        "accept out 500 icmp code=3",
        &[&format!("-p icmp {state} NEW,ESTABLISHED -m conntrack --ctdir ORIGINAL -j RETURN")],
        &[&format!("-p icmp {state} ESTABLISHED -m conntrack --ctdir REPLY -j ACCEPT")],
    );
}

#[test]
fn flags_on_tcp_ipv6_are_honoured() {
    let flags = "-p tcp -m tcp --tcp-flags SYN,ACK SYN -j DROP";
    assert_rules("ip6tables", "drop inout 500 tcp-ipv6 flags=18/2", Fixed, &[flags], &[flags]);
    assert_rules("ip6tables", "drop inout 500 tcp-ipv6 flags=18/2", Libvirt, &["-p tcp -j DROP"], &["-p tcp -j DROP"]);
}

#[test]
fn libvirt_passes_over_a_range_of_addresses_beside_an_address() {
    let both = "drop in 500 all srcipaddr=10.0.0.1 srcipfrom=10.0.0.2";
    assert_rules("iptables", both, Libvirt, &["-d 10.0.0.1/32 -j DROP"], &["-s 10.0.0.1/32 -j DROP"]);
    let range = |option| format!("-m iprange --{option}-range 10.0.0.2-10.0.0.2 -j DROP");
    let (from, to) = (format!("-d 10.0.0.1/32 {}", range("dst")), format!("-s 10.0.0.1/32 {}", range("src")));
    assert_rules("iptables", both, Fixed, &[&from], &[&to]);
    assert_both_quirks(
        "drop in 500 all dstipfrom=10.0.0.2",
        &["-m iprange --src-range 10.0.0.2-10.0.0.2 -j DROP"],
        &["-m iprange --dst-range 10.0.0.2-10.0.0.2 -j DROP"],
    );
}

#[test]
fn the_range_of_the_source_comes_first_on_either_end() {
    let range = |end, last| format!("-m iprange --{end}-range 10.0.0.{last}-10.0.0.{last}");
    assert_both_quirks(
        "drop in 500 all dstipfrom=10.0.0.2 srcipfrom=10.0.0.1",
        &[&format!("{} {} -j DROP", range("dst", 1), range("src", 2))],
        &[&format!("{} {} -j DROP", range("src", 1), range("dst", 2))],
    );
}

#[test]
fn ports_from_a_variable_may_be_a_range() {
    assert_both_quirks(
        "drop in 500 tcp $dstportstart=80:90",
        &["-p tcp -m tcp --sport 80:90 -j DROP"],
        &["-p tcp -m tcp --dport 80:90 -j DROP"],
    );
    assert_eq!(fault_of("drop in 500 tcp $dstportstart=80:90 dstportend=95"), ("unusable-value", 101));
}

#[test]
fn libvirt_takes_descending_ranges_of_udp_ports_and_of_addresses() {
    let rule = "drop in 500 udp dstportstart=9 dstportend=3";
    assert_rules("iptables", rule, Libvirt, &["-p udp -m udp --sport 9:3 -j DROP"], &["-p udp -m udp --dport 9:3 -j DROP"]);
    let rule = "drop in 500 all srcipfrom=10.0.0.9 srcipto=10.0.0.3";
    let range = "-range 10.0.0.9-10.0.0.3 -j DROP";
    assert_rules("iptables", rule, Libvirt, &[&format!("-m iprange --dst{range}")], &[&format!("-m iprange --src{range}")]);
}

#[test]
fn a_range_that_matches_nothing_is_refused() {
    assert_eq!(fault_in("drop in 500 udp dstportstart=9 dstportend=3", Fixed), ("descending-range", 102));
    assert_eq!(fault_in("drop in 500 all srcipfrom=10.0.0.9 srcipto=10.0.0.3", Fixed), ("descending-range", 102));
}

#[test]
fn icmp_type_255_is_refused_where_iptables_takes_it_for_any() {
    assert_eq!(fault_in("drop in 500 icmp type=255", Fixed), ("unusable-value", 101));
    assert_rules("iptables", "drop in 500 icmp type=255", Libvirt, &[], &["-p icmp -m icmp --icmp-type any -j DROP"]);
    assert_rules("ip6tables", "drop in 500 icmpv6 type=255", Fixed, &[], &["-p ipv6-icmp -m icmp6 --icmpv6-type 255 -j DROP"]);
}

#[test]
fn what_the_tools_refuse_holds_the_guest() {
    assert_eq!(fault_of("drop in 500 tcp dstportstart=9 dstportend=3"), ("descending-range", 102));
    assert_eq!(fault_of("drop in 500 sctp-ipv6 srcportstart=9 srcportend=3"), ("descending-range", 102));
    assert_eq!(fault_of("continue in 500 all"), ("continue-on-ip-rule", 100));
    assert_eq!(fault_of("drop in 500 tcp option=0"), ("unusable-value", 101));
    assert_eq!(fault_of("drop in 500 all !srcipaddr=10.0.0.1 srcipmask=0"), ("matches-nothing", 102));
    assert_eq!(fault_of("drop in 500 tcp !srcportstart=0 srcportend=65535"), ("matches-nothing", 101));
    assert_eq!(fault_of("drop in 500 tcp flags=0/2"), ("matches-nothing", 101));
    assert_eq!(fault_of("drop in 500 all dscp=64"), ("unusable-value", 101));
}

#[test]
fn a_type_and_a_code_that_disagree_on_negation_are_refused() {
    assert_eq!(fault_in("drop in 500 icmp type=8 !code=0", Fixed), ("mixed-negation", 102));
    let words = "-p icmp -m icmp --icmp-type 8/0 -j DROP";
    assert_rules("iptables", "drop in 500 icmp type=8 !code=0", Libvirt, &[], &[words]);
}

#[test]
fn rules_point_at_their_elements_and_links_at_the_interface() {
    let rules = rules_of("drop in 500 all", Fixed);
    let place = |chain| {
        let id = ChainId { family: Family::Ipv4, table: Table::Filter, chain: ChainName::new(chain) };
        rules.chains.get(&id).or(rules.shared.get(&id)).expect("a chain")[0].place.expect("a place").start
    };
    assert_eq!((place("FI-vnet0"), place("libvirt-in")), (100, 1));
    assert!(rules.keys.contains(&crate::compile::Key::Guest(device("vnet0"))));
}
