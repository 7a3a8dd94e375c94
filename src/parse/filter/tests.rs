//! Whole filters, in both quirks: what becomes of them, and which diagnostics say so.

mod attributes;
mod headers;
mod rules;

use crate::diagnostic::Severity;
use crate::model::Quirks;
use crate::model::filter::{Attribute, AttributeName, Entry, Filter, Rule, Value};
use crate::parse::{BrokenKind, Parsed, parse};
use crate::source::Sources;
use crate::stock::stock_filters;

pub(super) const BOTH: [Quirks; 2] = [Quirks::Fixed, Quirks::Libvirt];

fn read(xml: &str, quirks: Quirks) -> Parsed {
    let mut sources = Sources::default();
    let file = sources.add("test.xml", xml);
    parse(&sources, file, quirks)
}

/// The codes of the diagnostics, each after `!` for an error, `?` for a warning, `.` for a note.
fn codes(parsed: &Parsed) -> Vec<String> {
    let mark = |severity| match severity {
        Severity::Error => '!',
        Severity::Warning => '?',
        Severity::Note => '.',
    };
    parsed.diagnostics.iter().map(|diagnostic| format!("{}{}", mark(diagnostic.severity), diagnostic.code)).collect()
}

/// Asserts the diagnostics and that there is a filter exactly when none of them is an error.
#[track_caller]
fn expect(xml: &str, quirks: Quirks, expected: &[&str]) -> Parsed {
    let parsed = read(xml, quirks);
    assert_eq!(codes(&parsed), expected, "{quirks:?}: {xml}");
    let good = !expected.iter().any(|code| code.starts_with('!'));
    assert_eq!((parsed.filters.len(), parsed.broken.len()), if good { (1, 0) } else { (0, 1) }, "{quirks:?}: {xml}");
    parsed
}

/// The one filter of a text that nothing is wrong with.
#[track_caller]
fn good(xml: &str, quirks: Quirks) -> Filter {
    expect(xml, quirks, &[]).filters.remove(0)
}

/// A filter of one rule around these protocol elements.
fn around(elements: &str) -> String {
    format!("<filter name='f'><rule action='drop' direction='in'>{elements}</rule></filter>")
}

#[track_caller]
fn only_rule(parsed: &Parsed) -> &Rule {
    match parsed.filters[0].entries.as_slice() {
        [Entry::Rule(rule)] => rule,
        other => panic!("expected one rule, found {other:?}"),
    }
}

fn attribute(rule: &Rule, name: AttributeName) -> Option<&Attribute> {
    rule.attributes.iter().find(|attribute| attribute.name == name)
}

fn value(rule: &Rule, name: AttributeName) -> Option<&Value> {
    attribute(rule, name).map(|attribute| &attribute.value)
}

#[test]
fn stock_filters_are_read_without_a_word() {
    for quirks in BOTH {
        for (name, xml) in stock_filters() {
            let filter = good(xml, quirks);
            assert_eq!(&*filter.name.value, name);
        }
    }
}

#[test]
fn a_faulty_filter_is_broken_by_its_name() {
    let parsed = read("<filter name='f'><rule action='dorp' direction='in'/></filter>", Quirks::Fixed);
    assert_eq!(parsed.broken[0].what, BrokenKind::Filter("f".into()));
    let parsed = read("<filter chain='arp'/>", Quirks::Fixed);
    assert_eq!(parsed.broken[0].what, BrokenKind::Unknown);
}

#[test]
fn a_filter_cut_off_in_the_middle_is_broken_by_its_name() {
    let parsed = read("<filter name='f'><rule action='drop'", Quirks::Fixed);
    assert_eq!(parsed.broken[0].what, BrokenKind::Filter("f".into()));
    assert!(parsed.filters.is_empty());
}

#[test]
fn all_faults_of_a_filter_are_told_at_once() {
    let xml = "<filter name='' chain='tcp' priority='x'><uuid>1</uuid>\
               <rule action='nod' direction='up' priority='9999'><tcp dstportstart='http'/><x/></rule>\
               <filterref/></filter>";
    let codes_found = codes(&read(xml, Quirks::Fixed));
    let expected = [
        "!empty-filter-name",
        "!unknown-chain",
        "!invalid-chain-priority",
        "!invalid-uuid",
        "!invalid-keyword",
        "!invalid-keyword",
        "!invalid-rule-priority",
        "!invalid-number",
        "!unknown-protocol",
        "!missing-attribute",
    ];
    assert_eq!(codes_found, expected);
}

#[test]
fn stray_text_and_unknown_names_are_warnings() {
    let xml = "<filter name='f' nmae='g'>text<comment/><rule action='drop' direction='in' prio='5'>text<tcp>text<x/></tcp></rule>\
               <filterref filter='g' x=''><parameter name='A' value='1' x=''/><x/></filterref></filter>";
    for quirks in BOTH {
        let parsed = read(xml, quirks);
        assert!(codes(&parsed).iter().all(|code| code.starts_with('?')), "{:?}", codes(&parsed));
        assert_eq!((parsed.filters.len(), parsed.diagnostics.len()), (1, 10), "{:?}", codes(&parsed));
    }
}
