//! Rules: what they do, which protocol they are about, how repeated elements merge.

use super::*;
use crate::model::filter::AttributeName as A;
use crate::model::filter::{Action, Direction, Literal, Protocol, States};

fn rule_with(attributes: &str, inside: &str) -> String {
    format!("<filter name='f'><rule {attributes}>{inside}</rule></filter>")
}

#[test]
fn a_rule_has_defaults() {
    for quirks in BOTH {
        let parsed = expect(&rule_with("action='accept' direction='inout'", ""), quirks, &[]);
        let rule = only_rule(&parsed);
        assert_eq!((rule.action, rule.direction, rule.priority, rule.state_match), (Action::Accept, Direction::InOut, 500, true));
        assert_eq!((rule.protocol, rule.attributes.len()), (Protocol::None, 0));
    }
}

#[test]
fn actions_and_directions_are_exact_words() {
    for quirks in BOTH {
        expect(&rule_with("", ""), quirks, &["!missing-attribute", "!missing-attribute"]);
        for (attributes, code) in [
            ("action='Accept' direction='in'", "!invalid-keyword"),
            ("action='' direction='in'", "!invalid-keyword"),
            ("action='drop' direction='IN'", "!invalid-keyword"),
            ("action='drop' direction='both'", "!invalid-keyword"),
        ] {
            expect(&rule_with(attributes, ""), quirks, &[code]);
        }
    }
}

#[test]
fn rule_priorities_are_decimal_from_minus_1000_to_1000() {
    for (text, priority) in [("-1000", -1000), (" +5", 5), ("1000", 1000)] {
        for quirks in BOTH {
            let parsed = expect(&rule_with(&format!("action='drop' direction='in' priority='{text}'"), ""), quirks, &[]);
            assert_eq!(only_rule(&parsed).priority, priority);
        }
    }
    for text in ["1001", "-1001", "", "0x5", "5 ", "high"] {
        let xml = rule_with(&format!("action='drop' direction='in' priority='{text}'"), "");
        expect(&xml, Quirks::Fixed, &["!invalid-rule-priority"]);
        assert_eq!(only_rule(&expect(&xml, Quirks::Libvirt, &["?invalid-rule-priority"])).priority, 500);
    }
}

#[test]
fn state_matching_is_switched_off_by_zero_and_false() {
    let rule = |text: &str| rule_with(&format!("action='drop' direction='in' statematch='{text}'"), "");
    for quirks in BOTH {
        for (text, on) in [("0", false), ("FALSE", false), ("1", true), ("true", true), ("yes", true)] {
            assert_eq!(only_rule(&expect(&rule(text), quirks, &[])).state_match, on, "{text}");
        }
    }
    for text in ["no", "off", ""] {
        for quirks in BOTH {
            assert!(only_rule(&expect(&rule(text), quirks, &["?unknown-statematch"])).state_match);
        }
    }
}

#[test]
fn every_protocol_element_is_known() {
    for (name, protocol) in Protocol::ELEMENTS {
        for quirks in BOTH {
            assert_eq!(only_rule(&expect(&around(&format!("<{name}/>")), quirks, &[])).protocol, protocol);
        }
    }
}

#[test]
fn an_unknown_protocol_is_an_error_that_libvirt_takes_for_every_frame() {
    for name in ["bogus", "igmp-ipv6", "TCP"] {
        let xml = around(&format!("<{name} dstportstart='22'/>"));
        expect(&xml, Quirks::Fixed, &["!unknown-protocol"]);
        assert_eq!(only_rule(&expect(&xml, Quirks::Libvirt, &["?unknown-protocol"])).protocol, Protocol::None);
    }
    assert_eq!(only_rule(&expect(&around("<bogus/><tcp/>"), Quirks::Libvirt, &["?unknown-protocol"])).protocol, Protocol::Tcp);
}

#[test]
fn an_unknown_protocol_gets_a_suggestion() {
    let parsed = read(&around("<tpc/>"), Quirks::Fixed);
    assert_eq!(parsed.diagnostics[0].help.as_deref(), Some("did you mean `tcp`?"));
}

#[test]
fn a_second_protocol_is_an_error_that_libvirt_ignores() {
    let xml = around("<udp/><tcp srcportstart='1'/><udp dstportstart='5'/>");
    expect(&xml, Quirks::Fixed, &["!second-protocol"]);
    let parsed = expect(&xml, Quirks::Libvirt, &["?second-protocol"]);
    let rule = only_rule(&parsed);
    assert_eq!(rule.protocol, Protocol::Udp);
    assert_eq!(rule.attributes.iter().map(|attribute| attribute.name).collect::<Vec<_>>(), [AttributeName::DstPortStart]);
}

#[test]
fn repeated_elements_merge_and_the_later_value_wins() {
    let xml = around("<udp match='no' srcipaddr='10.0.0.1' dscp='1'/><udp srcipaddr='10.0.0.2' dstportstart='5'/>");
    expect(&xml, Quirks::Fixed, &["!repeated-attribute"]);
    let parsed = expect(&xml, Quirks::Libvirt, &["?repeated-attribute"]);
    let found: Vec<_> = only_rule(&parsed).attributes.iter().map(|attribute| (attribute.name, attribute.negated)).collect();
    assert_eq!(found, [(A::Dscp, true), (A::SrcIpAddr, false), (A::DstPortStart, false)]);
    let address = Literal::Ipv4("10.0.0.2".parse().expect("an address"));
    assert_eq!(value(only_rule(&parsed), A::SrcIpAddr), Some(&Value::Literal(address)));
    for quirks in BOTH {
        expect(&around("<udp dstportstart='5' comment='a'/><udp dstportstart='5' comment='b'/>"), quirks, &[]);
    }
}

#[test]
fn what_belongs_to_something_that_is_not_there_is_an_error_that_libvirt_ignores() {
    for inside in [
        "<mac srcmacmask='ff:ff:ff:00:00:00'/>",
        "<stp root-priority-hi='5'/>",
        "<arp arpdstipmask='24'/>",
        "<ip dstipmask='$M'/>",
        "<tcp srcportend='5'/>",
        "<all-ipv6 srcipto='fe80::1'/>",
        "<all ipsetflags='src'/>",
        "<icmp code='0'/>",
    ] {
        expect(&around(inside), Quirks::Fixed, &["!attribute-without-base"]);
        expect(&around(inside), Quirks::Libvirt, &["?attribute-without-base"]);
    }
    for quirks in BOTH {
        expect(&around("<ipv6 protocol='icmpv6' code='0'/>"), quirks, &[]);
        expect(&around("<ip srcipmask='8'/><ip srcipaddr='10.0.0.0'/>"), quirks, &[]);
    }
}

#[test]
fn states_of_repeated_elements_add_up() {
    let parsed = expect(&around("<tcp state='NEW'/><tcp state='RELATED'/>"), Quirks::Fixed, &[]);
    let both = States { new: true, related: true, ..States::default() };
    assert_eq!(value(only_rule(&parsed), AttributeName::State), Some(&Value::Literal(Literal::States(both))));
}

#[test]
fn attributes_of_one_element_stand_in_the_order_of_the_table() {
    let parsed = expect(
        &around("<tcp comment='c' dstportstart='1' srcipaddr='$A'/><tcp srcmacaddr='$M'/>"),
        Quirks::Libvirt,
        &[".reversed-source-mac"],
    );
    let names: Vec<_> = only_rule(&parsed).attributes.iter().map(|attribute| attribute.name).collect();
    assert_eq!(names, [A::SrcIpAddr, A::DstPortStart, A::Comment, A::SrcMacAddr]);
}

#[test]
fn negation_is_the_exact_word_no() {
    for quirks in BOTH {
        for (word, negated) in [("no", true), ("yes", false)] {
            let parsed = expect(&around(&format!("<mac match='{word}' srcmacaddr='$MAC'/>")), quirks, &[]);
            assert_eq!(only_rule(&parsed).attributes[0].negated, negated);
        }
    }
    for word in ["No", "false", ""] {
        let xml = around(&format!("<mac match='{word}' srcmacaddr='$MAC'/>"));
        expect(&xml, Quirks::Fixed, &["!unknown-match"]);
        assert!(!only_rule(&expect(&xml, Quirks::Libvirt, &["?unknown-match"])).attributes[0].negated);
    }
}

#[test]
fn continue_is_refused_where_the_tools_refuse_it() {
    for quirks in BOTH {
        expect(&rule_with("action='continue' direction='in'", "<ip/>"), quirks, &[]);
        expect(&rule_with("action='continue' direction='in'", ""), quirks, &[]);
        expect(&rule_with("action='continue' direction='in'", "<tcp/>"), quirks, &["!continue-on-ip-rule"]);
        expect(&rule_with("action='continue' direction='in'", "<icmpv6/>"), quirks, &["!continue-on-ip-rule"]);
    }
}

#[test]
fn layer_2_ports_need_a_literal_protocol_before_them() {
    for quirks in BOTH {
        for good in [
            "<ip protocol='tcp' dstportstart='1'/>",
            "<ipv6 protocol='33' srcportstart='1' srcportend='1'/>",
            "<ip protocol='sctp'/><ip srcportstart='$P'/>",
        ] {
            expect(&around(good), quirks, &[]);
        }
        for bad in [
            "<ip dstportstart='1'/>",
            "<ip srcportend='1'/>",
            "<ip protocol='icmp' dstportstart='1'/>",
            "<ip protocol='$P' dstportstart='1'/>",
            "<ip srcportstart='$P'/>",
            "<ip dstportstart='1'/><ip protocol='tcp'/>",
            "<ipv6 protocol='udplite' dstportend='1'/>",
        ] {
            expect(&around(bad), quirks, &["!ports-without-protocol"]);
        }
        let replaced = if quirks == Quirks::Fixed { "!repeated-attribute" } else { "?repeated-attribute" };
        expect(&around("<ip protocol='tcp' srcportstart='1'/><ip protocol='icmp'/>"), quirks, &[replaced, "!ports-without-protocol"]);
    }
}

#[test]
fn rules_that_libvirt_makes_otherwise_have_a_note() {
    let state = "action='drop' direction='in'";
    for (attributes, inside, code) in [
        ("action='accept' direction='inout'", "<icmp type='8'/>", ".inout-icmp-type"),
        (state, "<tcp match='no' dstportstart='22'/>", ".inherited-port-negation"),
        (state, "<udp-ipv6 match='no' srcportstart='22'/><udp-ipv6 dstportstart='5'/>", ".inherited-port-negation"),
        (state, "<tcp ipset='s' ipsetflags='src'/>", ".lost-set-match"),
        (state, "<vlan encap-protocol='arp'/>", ".misread-encap-protocol"),
        (state, "<arp arpsrcipaddr='10.0.0.0' arpsrcipmask='8' arpdstipaddr='10.1.1.1'/>", ".inherited-arp-mask"),
        (state, "<ip dscp='46'/>", ".unshifted-dscp"),
        (state, "<tcp match='no' state='NEW'/>", ".lost-negation"),
        (state, "<all match='no' ipset='s' ipsetflags='src'/>", ".lost-negation"),
        (state, "<all srcipaddr='10.0.0.1' srcipfrom='10.0.0.2'/>", ".lost-address-range"),
        (state, "<tcp srcmacaddr='2:0:0:0:0:1' dstportstart='22'/>", ".reversed-source-mac"),
    ] {
        for quirks in BOTH {
            expect(&rule_with(attributes, inside), quirks, &[code]);
        }
    }
}

#[test]
fn rules_that_libvirt_makes_likewise_have_no_note() {
    for inside in [
        "<icmp type='8'/>",
        "<tcp match='no' srcportstart='22' dstportstart='22'/>",
        "<all ipset='s' ipsetflags='src'/>",
        "<vlan encap-protocol='$P'/>",
        "<arp arpsrcipaddr='10.0.0.0' arpsrcipmask='32' arpdstipaddr='10.1.1.1'/>",
        "<arp arpsrcipaddr='10.0.0.0' arpsrcipmask='8' arpdstipaddr='10.1.1.1' arpdstipmask='32'/>",
        "<tcp dscp='46'/>",
        "<all srcmacaddr='2:0:0:0:0:1' comment='c'/>",
    ] {
        for quirks in BOTH {
            expect(&around(inside), quirks, &[]);
        }
    }
}
