//! Filters that include filters: loops, absences, clashes, limits, and the order of what a tree yields.

use super::*;
use crate::resolve::includes::{DEPTH_LIMIT, RULE_LIMIT};
use AttributeName as A;

const NONE: &[(&str, &str)] = &[];

fn numbered(number: u32) -> Entry {
    rule(Protocol::Mac, vec![lit(A::ProtocolId, Literal::Number(number))])
}

#[test]
fn rules_come_depth_first_in_document_order_with_the_chain_of_their_own_filter() {
    let top = filter("top", vec![numbered(1), include("arp", NONE), numbered(4), include("arp", NONE)]);
    let arp = chained("arp", "arp", -500, vec![numbered(2), include("leaf", NONE)]);
    let leaf = chained("leaf", "mac-x", -800, vec![numbered(3)]);
    assert_eq!(
        rules(&bind(vec![top, arp, leaf], NONE)),
        [
            "root drop out protocolid=1",
            "arp drop out protocolid=2",
            "mac-x drop out protocolid=3",
            "root drop out protocolid=4",
            "arp drop out protocolid=2",
            "mac-x drop out protocolid=3",
        ]
    );
}

#[test]
fn an_empty_filter_is_a_policy_without_rules() {
    assert_eq!(rules(&bind(vec![filter("f", Vec::new())], NONE)), Vec::<String>::new());
}

#[test]
fn a_missing_filter_is_shown_at_the_interface_with_a_suggestion() {
    let interface = tap("vnet0", "clean-trafic", NONE);
    let place = interface.filter.as_ref().expect("bound").filter.span;
    let resolved = fixed(&[filters(vec![filter("clean-traffic", Vec::new())]), interfaces(vec![interface])]);
    let fault = fault(&resolved);
    assert_eq!((fault.code, fault.span()), ("missing-filter", place));
    assert_eq!(fault.help.as_deref(), Some("did you mean `clean-traffic`?"));
}

#[test]
fn a_missing_filter_deep_in_a_tree_is_shown_once_for_all_guests() {
    let inner = filter("inner", vec![include("gone", NONE)]);
    let top = filter("top", vec![include("inner", NONE), include("inner", NONE)]);
    let guests = vec![tap("vnet0", "top", NONE), tap("vnet1", "inner", NONE), tap("vnet2", "good", NONE)];
    let resolved = fixed(&[filters(vec![inner, top, filter("good", Vec::new())]), interfaces(guests)]);
    assert_eq!(codes(&resolved), ["missing-filter"]);
    assert_eq!(held(&resolved), ["vnet0", "vnet1"].map(|device| (format!("interface `{device}`"), "missing-filter")));
    assert_eq!(resolved.guests.len(), 1);
}

#[test]
fn a_reference_to_nothing_in_a_filter_that_nobody_uses_is_a_warning() {
    let resolved = fixed(&[filters(vec![filter("f", vec![include("gone", NONE)])])]);
    assert_eq!(codes(&resolved), ["missing-filter"]);
    assert_eq!(resolved.diagnostics[0].severity, Severity::Warning);
    assert!(resolved.held.is_empty());
}

#[test]
fn a_loop_is_an_error_with_its_whole_way_and_holds_whoever_reaches_it() {
    let loop_of_three =
        vec![filter("a", vec![include("b", NONE)]), filter("b", vec![include("c", NONE)]), filter("c", vec![include("a", NONE)])];
    let resolved = bind([vec![filter("top", vec![include("b", NONE)])], loop_of_three].concat(), NONE);
    let fault = fault(&resolved);
    assert_eq!(fault.code, "filter-loop");
    assert_eq!(fault.message, "filter `a` includes itself: `a` -> `b` -> `c` -> `a`");
    assert_eq!(fault.labels.len(), 3);
}

#[test]
fn a_filter_that_includes_itself_is_an_error_even_unused() {
    let resolved = fixed(&[filters(vec![filter("a", vec![include("a", NONE)])])]);
    assert_eq!(resolved.diagnostics[0].message, "filter `a` includes itself: `a` -> `a`");
    assert_eq!(resolved.diagnostics[0].severity, Severity::Error);
}

#[test]
fn two_loops_through_one_filter_are_both_reported() {
    let a = filter("a", vec![include("b", NONE), include("c", NONE)]);
    let resolved = bind(vec![a, filter("b", vec![include("a", NONE)]), filter("c", vec![include("a", NONE)])], NONE);
    assert_eq!(codes(&resolved), ["filter-loop", "filter-loop"]);
    assert_eq!(resolved.held.len(), 1);
}

#[test]
fn a_guest_whose_tree_has_a_broken_filter_is_held_and_others_are_not() {
    let documents = [
        broken(BrokenKind::Filter("bad".into())),
        filters(vec![filter("top", vec![include("bad", NONE)]), filter("good", Vec::new())]),
        interfaces(vec![tap("vnet0", "top", NONE), tap("vnet1", "bad", NONE), tap("vnet2", "good", NONE)]),
    ];
    let resolved = fixed(&documents);
    assert!(resolved.incomplete);
    assert_eq!(held(&resolved), ["vnet0", "vnet1"].map(|device| (format!("interface `{device}`"), "broken-filter")));
    assert_eq!(resolved.guests.len(), 1);
}

#[test]
fn filters_of_one_name_are_refused_at_both_places() {
    let pair = vec![filter("f", Vec::new()), filter("f", vec![numbered(1)])];
    let places = (pair[1].name.span, pair[0].name.span);
    let resolved = fixed(&[filters(pair), interfaces(vec![tap("vnet0", "f", NONE)])]);
    let duplicate = resolved.diagnostics.iter().find(|fault| fault.code == "duplicate-filter").expect("reported");
    assert_eq!((duplicate.labels[0].span, duplicate.labels[1].span), places);
    assert_eq!(held(&resolved), [("interface `vnet0`".to_owned(), "broken-filter")]);
}

#[test]
fn filters_of_one_uuid_and_different_names_are_both_unusable() {
    let with_uuid = |name: &str| Filter { uuid: Some(here(uuid::Uuid::from_u128(7))), ..filter(name, Vec::new()) };
    let guests = vec![tap("vnet0", "a", NONE), tap("vnet1", "b", NONE)];
    let resolved = fixed(&[filters(vec![with_uuid("a"), with_uuid("b")]), interfaces(guests)]);
    assert!(codes(&resolved).contains(&"duplicate-filter-uuid"));
    assert_eq!(resolved.held.len(), 2);
}

#[test]
fn a_file_replaces_a_stock_filter_without_a_clash() {
    let stock = [filter("clean", vec![numbered(1)]), filter("other", vec![include("clean", NONE)])];
    let user = [filters(vec![filter("clean", vec![numbered(2)])]), interfaces(vec![tap("vnet0", "other", NONE)])];
    assert_eq!(rules(&resolve(&user[1..], &stock, &[], &Learned::default(), Quirks::Fixed)), ["root drop out protocolid=1"]);
    assert_eq!(rules(&resolve(&user, &stock, &[], &Learned::default(), Quirks::Fixed)), ["root drop out protocolid=2"]);
}

#[test]
fn a_broken_file_does_not_let_the_stock_filter_back_in() {
    let stock = [filter("clean", vec![numbered(1)])];
    let documents = [broken(BrokenKind::Filter("clean".into())), interfaces(vec![tap("vnet0", "clean", NONE)])];
    assert_eq!(
        held(&resolve(&documents, &stock, &[], &Learned::default(), Quirks::Fixed)),
        [("interface `vnet0`".to_owned(), "broken-filter")]
    );
}

/// `f0` includes `f1` twice, which includes `f2` twice, and so on down to a filter with these entries.
fn doubling(levels: usize, entries: Vec<Entry>) -> Vec<Filter> {
    let name = |level: usize| format!("f{level}");
    let inner = |level: usize| filter(&name(level), vec![include(&name(level + 1), NONE), include(&name(level + 1), NONE)]);
    (0..levels).map(inner).chain([filter(&name(levels), entries)]).collect()
}

#[test]
fn a_tree_that_doubles_at_every_level_is_refused_without_being_walked() {
    let resolved = bind(doubling(60, vec![numbered(1)]), NONE);
    assert_eq!(fault(&resolved).code, "filter-tree-too-large");
}

#[test]
fn a_tree_that_doubles_at_every_level_without_rules_is_no_work() {
    assert_eq!(rules(&bind(doubling(60, Vec::new()), NONE)).len(), 0);
}

#[test]
fn the_largest_tree_is_walked() {
    let levels = RULE_LIMIT.trailing_zeros() as usize;
    assert_eq!(rules(&bind(doubling(levels, vec![numbered(1)]), NONE)).len() as u64, RULE_LIMIT);
    assert_eq!(fault(&bind(doubling(levels + 1, vec![numbered(1)]), NONE)).code, "filter-tree-too-large");
}

/// A chain of this many filters with one rule at its end.
fn nested(depth: u32) -> Vec<Filter> {
    let inner = |level: u32| filter(&format!("f{level}"), vec![include(&format!("f{}", level + 1), NONE)]);
    (1..depth).map(inner).chain([filter(&format!("f{depth}"), vec![numbered(1)])]).collect()
}

#[test]
fn nesting_is_bounded_and_a_chain_of_20_000_files_is_one_fault() {
    assert_eq!(rules(&bind(nested(DEPTH_LIMIT), NONE)).len(), 1);
    assert_eq!(fault(&bind(nested(DEPTH_LIMIT + 1), NONE)).code, "filter-tree-too-deep");
    assert_eq!(fault(&bind(nested(20_000), NONE)).code, "filter-tree-too-deep");
}

#[test]
fn a_loop_through_20_000_files_is_shown_in_a_few_words() {
    let mut ring = nested(20_000);
    ring.last_mut().expect("the last filter").entries.push(include("f1", NONE));
    let resolved = bind(ring, NONE);
    assert_eq!(fault(&resolved).code, "filter-loop");
    assert!(fault(&resolved).message.len() < 1000 && fault(&resolved).labels.len() < 20);
}

#[test]
fn products_of_iterators_are_bounded_before_they_are_enumerated() {
    let list: Vec<(String, String)> = (0..1000).map(|at| ("A".to_owned(), format!("10.0.{}.{}", at / 250, at % 250))).collect();
    let parameters: Vec<(&str, &str)> = list.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let attributes = vec![var(A::SrcIpAddr, "A[@1]"), var(A::DstIpAddr, "A[@2]")];
    let resolved = bind(vec![filter("f", vec![rule(Protocol::Ip, attributes)])], &parameters);
    assert_eq!(fault(&resolved).code, "too-many-rules");
}

#[test]
fn long_lists_in_many_rules_are_bounded_even_when_they_repeat_one_value() {
    let parameters = vec![("A", "10.0.0.1"); 20_000];
    let many: Vec<Entry> = (0..5_000).map(|_| rule(Protocol::Ip, vec![var(A::SrcIpAddr, "A")])).collect();
    assert_eq!(fault(&bind(vec![filter("f", many)], &parameters)).code, "too-many-rules");
}

#[test]
fn variables_without_a_value_are_paid_for() {
    let rules = |count: usize| -> Vec<Entry> {
        let attributes = || [A::SrcIpAddr, A::DstIpAddr, A::SrcMacAddr, A::DstMacAddr].into_iter().map(|name| var(name, "A")).collect();
        (0..count).map(|_| rule(Protocol::Ip, attributes())).collect()
    };
    assert_eq!(fault(&bind(vec![filter("f", rules(100))], NONE)).code, "missing-variable");
    assert_eq!(fault(&bind(vec![filter("f", rules(60_000))], NONE)).code, "too-many-rules");
}

#[test]
fn references_to_filters_without_rules_are_not_followed() {
    let empty = vec![include("e", NONE); 40_000];
    let f = [empty, vec![numbered(1)]].concat();
    let resolved = bind(vec![filter("f", vec![include("g", NONE); 40_000]), filter("g", f), filter("e", vec![])], NONE);
    assert_eq!(rules(&resolved).len(), 40_000);
}
