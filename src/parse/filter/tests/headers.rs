//! The filter itself: name, chain, priority, UUID, and references with their parameters.

use super::*;
use crate::model::filter::Reference;

#[test]
fn a_filter_without_a_chain_is_in_root() {
    for quirks in BOTH {
        for xml in ["<filter name='a b'/>", "<filter name='a b' chain='' priority=''><uuid/></filter>", "<filter name='a b' chain='root'/>"]
        {
            let filter = good(xml, quirks);
            assert_eq!((&*filter.name.value, &*filter.chain.name, filter.chain.priority, filter.uuid), ("a b", "root", 0, None));
        }
    }
}

#[test]
fn a_filter_needs_a_name_that_can_be_stored() {
    for quirks in BOTH {
        expect("<filter/>", quirks, &["!missing-attribute"]);
        expect("<filter name=''/>", quirks, &["!empty-filter-name"]);
        expect("<filter name='a/b'/>", quirks, &["!invalid-filter-name"]);
        expect("<filter name='a&#10;b'/>", quirks, &["!invalid-filter-name"]);
    }
}

#[test]
fn chains_have_default_priorities_by_their_prefix() {
    for quirks in BOTH {
        for (chain, priority) in
            [("mac", -800), ("vlan-1", -750), ("arp-x", -500), ("arpipv4", -500), ("rarp", -400), ("ipv4:x", -700), ("ipv6_.", -600)]
        {
            let filter = good(&format!("<filter name='f' chain='{chain}'/>"), quirks);
            assert_eq!((&*filter.chain.name, filter.chain.priority), (chain, priority));
        }
    }
}

#[test]
fn the_default_priority_of_stp_is_the_documented_one_or_libvirts_zero() {
    for (quirks, priority) in [(Quirks::Fixed, -810), (Quirks::Libvirt, 0)] {
        let parsed = expect("<filter name='f' chain='stp-x'/>", quirks, &[".stp-chain-priority"]);
        assert_eq!(parsed.filters[0].chain.priority, priority);
        assert_eq!(good("<filter name='f' chain='stp-x' priority='7'/>", quirks).chain.priority, 7);
    }
}

#[test]
fn chain_priorities_are_decimal_from_minus_1000_to_1000() {
    for quirks in BOTH {
        for (text, priority) in [("-1000", -1000), ("1000", 1000), (" 5", 5), ("+5", 5), ("-0", 0), ("007", 7)] {
            assert_eq!(good(&format!("<filter name='f' chain='arp' priority='{text}'/>"), quirks).chain.priority, priority);
        }
        for text in ["1001", "-1001", "5 ", "0x5", "abc", "+-5", "99999999999999999999"] {
            expect(&format!("<filter name='f' chain='arp' priority='{text}'/>"), quirks, &["!invalid-chain-priority"]);
        }
        expect("<filter name='f' priority='1001'/>", quirks, &["?priority-without-chain", "!invalid-chain-priority"]);
    }
}

#[test]
fn a_priority_without_a_chain_is_ignored_with_a_warning() {
    for quirks in BOTH {
        let parsed = expect("<filter name='f' priority='-5'/>", quirks, &["?priority-without-chain"]);
        assert_eq!(parsed.filters[0].chain.priority, 0);
    }
}

#[test]
fn chain_names_are_checked() {
    for quirks in BOTH {
        good("<filter name='f' chain='mac-12345678'/>", quirks);
        for (chain, code) in [
            ("ip", "!unknown-chain"),
            ("tcp", "!unknown-chain"),
            ("MAC", "!unknown-chain"),
            ("root-x", "!unknown-chain"),
            ("mac-123456789", "!long-chain-name"),
            ("ipv4 x", "!invalid-chain-character"),
            (" arp", "!invalid-chain-character"),
            ("ärp", "!invalid-chain-character"),
        ] {
            expect(&format!("<filter name='f' chain='{chain}'/>"), quirks, &[code]);
        }
    }
}

#[test]
fn uuids_are_checked() {
    for quirks in BOTH {
        let filter = good("<filter name='f'><uuid> 380208A9ad45423dbb1a11df587fd280\n</uuid></filter>", quirks);
        assert_eq!(filter.uuid.map(|uuid| uuid.value.to_string()).as_deref(), Some("380208a9-ad45-423d-bb1a-11df587fd280"));
        expect("<filter name='f'><uuid>380208a9</uuid></filter>", quirks, &["!invalid-uuid"]);
    }
}

#[test]
fn rules_and_references_keep_their_order() {
    let xml = "<filter name='f'><filterref filter='a'/><rule action='drop' direction='in'/><filterref filter='b'/></filter>";
    let names: Vec<_> = good(xml, Quirks::Fixed)
        .entries
        .iter()
        .map(|entry| match entry {
            Entry::Rule(_) => "rule".to_owned(),
            Entry::Reference(reference) => reference.filter.value.to_string(),
        })
        .collect();
    assert_eq!(names, ["a", "rule", "b"]);
}

fn with_parameters(parameters: &str) -> String {
    format!("<filter name='f'><filterref filter='g'>{parameters}</filterref></filter>")
}

fn pairs(parsed: &Parsed) -> Vec<(String, String)> {
    let [Entry::Reference(Reference { parameters, .. })] = parsed.filters[0].entries.as_slice() else {
        panic!("expected one reference");
    };
    parameters.iter().map(|parameter| (parameter.name.value.to_string(), parameter.value.value.to_string())).collect()
}

#[test]
fn a_reference_needs_a_filter() {
    for quirks in BOTH {
        expect("<filter name='f'><filterref/></filter>", quirks, &["!missing-attribute"]);
        expect("<filter name='f'><filterref filter=''/></filter>", quirks, &["!empty-filter-reference"]);
    }
}

#[test]
fn parameters_repeat_in_order() {
    let xml =
        with_parameters("<parameter name='A' value='1.2.3.4'/><parameter name='b_1' value='fe80::1'/><parameter name='A' value='x'/>");
    for quirks in BOTH {
        let found = pairs(&expect(&xml, quirks, &[]));
        let expected = [("A", "1.2.3.4"), ("b_1", "fe80::1"), ("A", "x")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, expected);
    }
}

#[test]
fn faulty_parameters_are_errors_that_libvirt_drops() {
    for (parameter, code) in [
        ("<parameter name='A' value='10.0.0.1/24'/>", "invalid-parameter-value"),
        ("<parameter name='A' value='a-b'/>", "invalid-parameter-value"),
        ("<parameter name='A' value='1,2'/>", "invalid-parameter-value"),
        ("<parameter name='A' value='1 2'/>", "invalid-parameter-value"),
        ("<parameter name='A' value=''/>", "invalid-parameter-value"),
        ("<parameter name='A' value='é'/>", "invalid-parameter-value"),
        ("<parameter name='A-B' value='1'/>", "invalid-parameter-name"),
        ("<parameter name='' value='1'/>", "invalid-parameter-name"),
        ("<parameter name='A'/>", "incomplete-parameter"),
        ("<parameter value='1'/>", "incomplete-parameter"),
    ] {
        let xml = with_parameters(&format!("{parameter}<parameter name='B' value='1'/>"));
        expect(&xml, Quirks::Fixed, &[&format!("!{code}")]);
        let parsed = expect(&xml, Quirks::Libvirt, &[&format!("?{code}")]);
        assert_eq!(pairs(&parsed), [("B".to_owned(), "1".to_owned())], "{parameter}");
    }
}
