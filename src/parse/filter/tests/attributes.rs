//! Attributes of protocol elements: who knows which, and what a variable or a questionable value does.

use super::*;
use crate::model::attribute::ValueKind;
use crate::model::filter::{Access, Element, Literal, Protocol};

#[test]
fn an_attribute_that_no_protocol_knows_is_an_error_that_libvirt_ignores() {
    for name in ["dstport", "dstportstrat", "srcip", "Comment"] {
        let xml = around(&format!("<tcp {name}='1'/>"));
        expect(&xml, Quirks::Fixed, &["!unknown-protocol-attribute"]);
        assert!(only_rule(&expect(&xml, Quirks::Libvirt, &["?unknown-protocol-attribute"])).attributes.is_empty());
    }
    let parsed = read(&around("<tcp dstportstrat='1'/>"), Quirks::Fixed);
    assert_eq!(parsed.diagnostics[0].help.as_deref(), Some("did you mean `dstportstart`?"));
}

#[test]
fn an_attribute_of_another_protocol_is_ignored_with_a_warning() {
    for inside in [
        "<tcp vlanid='1'/>",
        "<tcp srcmacmask='ff:ff:ff:ff:ff:ff'/>",
        "<ipv6 dscp='1'/>",
        "<ip state='NEW'/>",
        "<ip srcipfrom='10.0.0.1'/>",
        "<stp dstmacaddr='1:2:3:4:5:6'/>",
        "<igmp type='1'/>",
        "<all dstportstart='80'/>",
        "<mac srcipaddr='10.0.0.1'/>",
    ] {
        for quirks in BOTH {
            assert!(only_rule(&expect(&around(inside), quirks, &["?ignored-attribute"])).attributes.is_empty(), "{inside}");
        }
    }
}

#[test]
fn every_attribute_of_the_table_is_read() {
    for (element, protocol) in Protocol::ELEMENTS {
        for spec in protocol.attributes() {
            let value = sample(spec.kind);
            let before = if spec.xml.contains("port") && matches!(protocol, Protocol::Ip | Protocol::Ipv6) { "protocol='tcp'" } else { "" };
            let parsed = read(&around(&format!("<{element} {before} {}='{value}'/>", spec.xml)), Quirks::Fixed);
            let faults: Vec<String> = codes(&parsed).into_iter().filter(|code| code.starts_with('!')).collect();
            let base = crate::model::dependence::base(protocol, spec.name);
            assert_eq!(faults, base.map_or(vec![], |_| vec!["!attribute-without-base"]), "{element}/{}", spec.xml);
            if base.is_none() {
                assert!(attribute(only_rule(&parsed), spec.name).is_some(), "{element}/{}", spec.xml);
            }
        }
    }
}

/// A variable where one can stand, a literal elsewhere.
fn sample(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::States => "NEW",
        ValueKind::TcpFlags => "SYN/SYN",
        ValueKind::Flag => "yes",
        ValueKind::Comment => "words",
        _ => "$V",
    }
}

#[test]
fn variables_are_kept_with_their_access() {
    let access = |element| Value::Variable(Access { name: "A".into(), element });
    for quirks in BOTH {
        for (text, element) in [("$A", Element::Iterated(0)), ("$A[@3]", Element::Iterated(3)), ("$A[2]", Element::Fixed(2))] {
            let parsed = expect(&around(&format!("<ip srcipaddr='{text}'/>")), quirks, &[]);
            assert_eq!(value(only_rule(&parsed), AttributeName::SrcIpAddr), Some(&access(element)));
        }
        expect(&around("<ip srcipaddr='${A}'/>"), quirks, &["!invalid-variable-reference"]);
        expect(&around("<ip comment='$A b'/>"), quirks, &["!invalid-variable-reference"]);
    }
}

#[test]
fn questionable_variables_are_errors_that_libvirt_takes() {
    for (text, code) in [("$A[1]x", "text-after-variable"), ("$A[-1]", "negative-number"), ("$", "nameless-variable")] {
        let xml = around(&format!("<ip srcipaddr='{text}'/>"));
        expect(&xml, Quirks::Fixed, &[&format!("!{code}")]);
        assert_eq!(only_rule(&expect(&xml, Quirks::Libvirt, &[&format!("?{code}")])).attributes.len(), 1);
    }
}

#[test]
fn variables_whose_text_libvirt_forgets_are_errors_or_still_need_a_value() {
    for inside in ["<tcp state='$S'/>", "<arp gratuitous='$S'/>", "<arp comment='$S'/>", "<tcp flags='$S'/>"] {
        expect(&around(inside), Quirks::Fixed, &["!variable-not-allowed"]);
        let parsed = expect(&around(inside), Quirks::Libvirt, &["?variable-not-allowed"]);
        let value = only_rule(&parsed).attributes.first().map(|attribute| &attribute.value);
        assert!(matches!(value, Some(Value::Variable(access)) if &*access.name == "S"), "{inside}");
    }
    for quirks in BOTH {
        expect(&around("<tcp comment='$C'/>"), quirks, &["!variable-not-allowed"]);
        expect(&around("<all ipset='$S' ipsetflags='$F'/>"), quirks, &[]);
    }
}

#[test]
fn questionable_literals_are_errors_that_libvirt_takes() {
    let long = "x".repeat(300);
    for (inside, code) in [
        ("<tcp dstportstart='abc'/>", "bare-hex-number"),
        ("<stp root-cost='-1'/>", "negative-number"),
        ("<ip srcipaddr='010.1.1.1'/>", "ambiguous-ipv4-address"),
        ("<ip srcipaddr='10.1'/>", "ambiguous-ipv4-address"),
        ("<ip srcipaddr='10.0.0.0' srcipmask='0xff000000'/>", "ambiguous-ipv4-address"),
        ("<mac srcmacaddr='1:2:3:4:5:6 x'/>", "text-after-mac-address"),
        ("<arp gratuitous='True'/>", "unknown-flag"),
        ("<all ipset='a b' ipsetflags='src'/>", "blank-in-set-name"),
        (&format!("<tcp comment='{long}'/>"), "long-comment"),
    ] {
        expect(&around(inside), Quirks::Fixed, &[&format!("!{code}")]);
        let parsed = expect(&around(inside), Quirks::Libvirt, &[&format!("?{code}")]);
        assert!(!only_rule(&parsed).attributes.is_empty(), "{inside}");
    }
}

#[test]
fn values_that_nobody_reads_are_errors() {
    for (inside, code) in [
        ("<tcp dstportstart='http'/>", "!invalid-number"),
        ("<tcp dstportstart='65536'/>", "!number-out-of-range"),
        ("<vlan vlanid='4095'/>", "!number-out-of-range"),
        ("<mac protocolid='ipx'/>", "!unknown-ethernet-type"),
        ("<arp opcode='Ask'/>", "!unknown-arp-opcode"),
        ("<ip protocol='dccp'/>", "!unknown-ip-protocol"),
        ("<mac srcmacaddr='1-2-3-4-5-6'/>", "!invalid-mac-address"),
        ("<mac srcmacaddr='1:2:3:4:5:6' srcmacmask='1:0:0:0:0:0'/>", "!invalid-mac-mask"),
        ("<ip srcipaddr='10.0.0.0/8'/>", "!invalid-ipv4-address"),
        ("<ip srcipaddr='10.0.0.0' srcipmask='33'/>", "!invalid-ipv4-mask"),
        ("<ipv6 srcipaddr='fe80::1%eth0'/>", "!invalid-ipv6-address"),
        ("<ipv6 srcipaddr='fe80::' srcipmask='129'/>", "!invalid-ipv6-mask"),
        ("<tcp flags='SYN'/>", "!invalid-tcp-flags"),
        ("<tcp state='FRESH'/>", "!invalid-state"),
        ("<all ipset='a/b' ipsetflags='src'/>", "!invalid-set-name"),
        ("<all ipset='a' ipsetflags='src,'/>", "!invalid-set-directions"),
        ("<tcp comment='a&#10;-A INPUT'/>", "!control-character-in-comment"),
    ] {
        for quirks in BOTH {
            expect(&around(inside), quirks, &[code]);
        }
    }
}

#[test]
fn the_end_of_an_ipv6_destination_range_is_ipv6_in_fixed_quirks_only() {
    let literal = around("<tcp-ipv6 dstipfrom='fe80::1' dstipto='fe80::2'/>");
    let end = Literal::Ipv6("fe80::2".parse().expect("an address"));
    assert_eq!(value(only_rule(&expect(&literal, Quirks::Fixed, &[])), AttributeName::DstIpTo), Some(&Value::Literal(end)));
    expect(&literal, Quirks::Libvirt, &["!ipv6-range-end"]);
    let other_family = around("<tcp-ipv6 dstipfrom='fe80::1' dstipto='1.2.3.4'/>");
    expect(&other_family, Quirks::Fixed, &["!invalid-ipv6-address"]);
    expect(&other_family, Quirks::Libvirt, &["!ipv6-range-end"]);
    for quirks in BOTH {
        expect(&around("<tcp-ipv6 dstipfrom='fe80::1' dstipto='$END'/>"), quirks, &[]);
        expect(&around("<tcp-ipv6 srcipfrom='fe80::1' srcipto='fe80::2'/>"), quirks, &[]);
        expect(&around("<tcp dstipfrom='1.2.3.4' dstipto='1.2.3.5'/>"), quirks, &[]);
    }
}

#[test]
fn flags_of_tcp_ipv6_count_in_fixed_quirks_only() {
    let xml = around("<tcp-ipv6 flags='SYN/SYN'/>");
    let parsed = expect(&xml, Quirks::Fixed, &[".attribute-libvirt-ignores"]);
    assert_eq!(value(only_rule(&parsed), AttributeName::TcpFlags), Some(&Value::Literal(Literal::TcpFlags(2, 2))));
    assert!(only_rule(&expect(&xml, Quirks::Libvirt, &["?ignored-attribute"])).attributes.is_empty());
    expect(&around("<tcp-ipv6 flags='bogus'/>"), Quirks::Libvirt, &["?ignored-attribute"]);
}

#[test]
fn the_documented_name_of_the_age_counts_in_fixed_quirks_only() {
    let xml = around("<stp msg-age='5' msg-age-hi='6'/>");
    let note = ".attribute-libvirt-ignores";
    let parsed = expect(&xml, Quirks::Fixed, &[note, note]);
    assert_eq!(value(only_rule(&parsed), AttributeName::Age), Some(&Value::Literal(Literal::Number(5))));
    assert_eq!(value(only_rule(&parsed), AttributeName::AgeHi), Some(&Value::Literal(Literal::Number(6))));
    assert!(only_rule(&expect(&xml, Quirks::Libvirt, &["?ignored-attribute", "?ignored-attribute"])).attributes.is_empty());
    for quirks in BOTH {
        let parsed = expect(&around("<stp age='5' msg-age='6'/>"), quirks, &["?ignored-attribute"]);
        assert_eq!(value(only_rule(&parsed), AttributeName::Age), Some(&Value::Literal(Literal::Number(5))));
    }
    expect(&around("<ip msg-age='5'/>"), Quirks::Fixed, &["!unknown-protocol-attribute"]);
}
