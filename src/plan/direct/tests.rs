//! Letters for rules: upper case is foreign by count, lower case ours; equal letters in either case are one rule.

use super::*;
use crate::plan::edit::{Deletion, Fate, Hook, edits, follow, hooks};
use crate::ruleset::ChainName;
use crate::ruleset::rule::{IpRule, IpTarget};

/// A rule of its own for every letter, whatever its case.
fn rule(letter: char) -> Rule {
    let chain = if letter == '>' { "libvirt-in".to_owned() } else { letter.to_ascii_lowercase().to_string() };
    IpRule::new(IpTarget::Jump(ChainName::new(&chain))).into()
}

fn rules(letters: &str) -> Vec<Rule> {
    letters.chars().map(rule).collect()
}

fn live(letters: &str) -> Vec<LiveRule> {
    letters.chars().map(|letter| LiveRule::Known(rule(letter))).collect()
}

fn settled(ours: &str) -> Possession {
    Possession { ours: rules(ours), pending: None }
}

fn pending(before: &str, wanted: &str, foreign: &str) -> Possession {
    Possession { ours: rules(before), pending: Some(Pending { wanted: rules(wanted), foreign: rules(foreign) }) }
}

/// The letters of a chain, ours in lower case and all others in upper case.
fn told(chain: &str, possession: &Possession) -> String {
    let found = ours(&live(chain), Some(possession));
    chain.chars().zip(found).map(|(letter, ours)| if ours { letter } else { letter.to_ascii_uppercase() }).collect()
}

/// The chain after the edits, and their number. `blocks` are the networks' blocks in order, each as letters.
fn mended(chain: &str, possession: &Possession, blocks: &[&str]) -> (String, usize) {
    let live = live(chain);
    let objects: Vec<Object> = blocks.iter().enumerate().map(|(number, _)| Object::Network(number.to_string())).collect();
    let blocks: Vec<Vec<Rule>> = blocks.iter().map(|letters| rules(letters)).collect();
    let wanted: Vec<Wanted<'_>> = objects
        .iter()
        .zip(&blocks)
        .flat_map(|(object, rules)| rules.iter().map(move |rule| Wanted { rule, object: Some(object), place: None }))
        .collect();
    let found = ours(&live, Some(possession));
    let guests = [Hook { rule: rule('>'), fate: Fate::Left }];
    let target = weave(&live, &found, &wanted, |_| false, hooks(&live, &guests));
    let edits = edits(&ChainName::new("FORWARD"), &live, target, Deletion::ByRule, |_| None);
    let mut after = live.clone();
    for edit in &edits {
        follow(&mut after, edit);
    }
    let letters = after.iter().filter_map(known_rule).map(|rule| match rule.destination() {
        Some(chain) if chain.as_str() == "libvirt-in" => ">".to_owned(),
        Some(chain) => chain.to_string(),
        None => unreachable!("the tests have only jumps"),
    });
    (letters.collect(), edits.len())
}

#[test]
fn without_a_record_nothing_is_ours() {
    assert_eq!(ours(&live("abc"), None), [false; 3]);
    assert_eq!(mended("abx", &settled(""), &["ab"]).0, "ababx");
}

#[test]
fn copies_beyond_the_count_are_foreign() {
    assert_eq!(told("aaa", &settled("a")), "aAA");
    assert_eq!(told("aaa", &settled("aa")), "aaA");
    assert_eq!(told("a", &settled("aaa")), "a");
    assert_eq!(told("ab", &settled("c")), "AB");
}

#[test]
fn of_equal_copies_ours_is_the_one_in_our_sequence() {
    assert_eq!(told("bxabc", &settled("abc")), "BXabc");
    assert_eq!(told("abcxb", &settled("abc")), "abcXB");
    assert_eq!(told("axabc", &settled("abc")), "AXabc");
    assert_eq!(told("abcabc", &settled("abc")), "abcABC");
    assert_eq!(told("cba", &settled("abc")), "cba");
}

#[test]
fn after_a_kill_the_copies_that_were_there_before_are_not_ours() {
    // About to put one `a` beside a foreign one: the commit did not go in, or it did.
    assert_eq!(told("a", &pending("", "a", "a")), "A");
    assert_eq!(told("aa", &pending("", "a", "a")), "aA");
    // About to take one away beside a foreign one.
    assert_eq!(told("aa", &pending("a", "", "a")), "aA");
    assert_eq!(told("a", &pending("a", "", "a")), "A");
    // Nobody else has one.
    assert_eq!(told("ab", &pending("a", "ab", "")), "ab");
    assert_eq!(told("b", &pending("a", "b", "")), "b");
}

#[test]
fn a_new_block_goes_to_its_place_by_name_before_foreign_rules() {
    assert_eq!(mended("xy", &settled(""), &["ab", "cd"]).0, "abcdxy");
    assert_eq!(mended("xcdy", &settled("cd"), &["ab", "cd"]).0, "abxcdy");
    assert_eq!(mended("abxcdy", &settled("abcd"), &["ab", "ef", "cd"]).0, "abefxcdy");
    assert_eq!(mended("abxy", &settled("ab"), &["ab", "cd"]).0, "abcdxy");
}

#[test]
fn a_block_never_goes_before_the_guests_filters() {
    assert_eq!(mended("x>y", &settled(""), &["ab"]).0, "x>aby");
    assert_eq!(mended(">xcd", &settled("cd"), &["ab", "cd"]).0, ">abxcd");
    assert_eq!(mended("cd>x", &settled("cd"), &["ab", "cd"]).0, "abcd>x");
}

#[test]
fn a_missing_rule_goes_where_its_block_is() {
    assert_eq!(mended("xbcy", &settled("abc"), &["abc"]), ("xabcy".to_owned(), 1));
    assert_eq!(mended("xaycz", &settled("abc"), &["abc"]).0, "xabycz");
    assert_eq!(mended("xaby", &settled("abc"), &["abc"]), ("xabcy".to_owned(), 1));
}

#[test]
fn rules_in_another_order_are_put_into_ours() {
    assert_eq!(mended("cdxab", &settled("abcd"), &["ab", "cd"]).0.replace('x', ""), "abcd");
    assert_eq!(mended("xbay", &settled("ab"), &["ab"]).0.replace(['x', 'y'], ""), "ab");
}

#[test]
fn what_nobody_wants_goes_and_equal_foreign_rules_stay_where_they_are() {
    assert_eq!(mended("xaby", &settled("ab"), &[]), ("xy".to_owned(), 2));
    assert_eq!(mended("axbay", &settled("ba"), &[]).0, "axy");
    assert_eq!(mended("abxa", &settled("ab"), &[]).0, "xa");
}

#[test]
fn an_equal_foreign_rule_that_stands_first_survives_the_deletion_of_ours() {
    let (after, edits) = mended("axba", &settled("ba"), &["b"]);
    assert_eq!(after, "axb");
    assert_eq!(edits, 3, "the tool deletes the first copy, so that one is put back");
}

#[test]
fn a_chain_that_is_as_wanted_is_not_touched() {
    for chain in ["abcd", "xabcdy", "axbcxd", "baabcdc"] {
        assert_eq!(mended(chain, &settled("abcd"), &["ab", "cd"]), (chain.to_owned(), 0), "{chain}");
    }
}

#[test]
fn equal_rules_of_two_networks_are_two_rules() {
    assert_eq!(mended("x", &settled(""), &["a", "a"]).0, "aax");
    assert_eq!(mended("aax", &settled("aa"), &["a"]), ("ax".to_owned(), 1));
}

#[test]
fn what_is_set_aside_stays_where_it_is() {
    let live = live("xaby");
    let found = ours(&live, Some(&settled("ab")));
    let left = BTreeSet::from([rule('a')]);
    let target = weave(&live, &found, &[], |rule| is_left(rule, &left), hooks(&live, &[]));
    assert_eq!(target.iter().filter_map(Slot::live).collect::<Vec<_>>(), [0, 1, 3]);
}

#[test]
fn a_prospect_names_what_is_ours_before_and_after_and_what_never_was() {
    use std::sync::Arc;

    use crate::compile::{ObjectRules, PlacedRule};
    use crate::ruleset::{ChainRules, Family, Table, TableRules};
    let id = ChainId { family: Family::Ipv4, table: Table::Filter, chain: ChainName::new("FORWARD") };
    let placed = |letters: &str| rules(letters).into_iter().map(|rule| PlacedRule { rule, place: None }).collect();
    let wants = |letters| ObjectRules { direct: BTreeMap::from([(id.clone(), placed(letters))]), ..ObjectRules::default() };
    let mut desired = Desired {
        objects: BTreeMap::from([(Object::Network("lab".into()), Arc::new(wants("ab")))]),
        direct: BTreeMap::from([(id.clone(), settled("acd"))]),
        ..Desired::default()
    };
    desired.leave(&wants("c"));
    let chain = ChainRules { policy: None, rules: live("axacdb") };
    let table = TableRules { chains: BTreeMap::from([(id.chain.clone(), chain)]), ..TableRules::default() };
    let observed = Observation::Read(BTreeMap::from([(id.table, table)]));
    let observed = Observed { families: BTreeMap::from([(id.family, observed)]) };
    let found = prospect(&desired, &observed);
    assert_eq!(found, BTreeMap::from([(id.clone(), pending("acd", "abc", "ab"))]));
    let unreadable = Observed { families: BTreeMap::from([(id.family, Observation::Unreadable("busy".into()))]) };
    assert!(prospect(&desired, &unreadable).is_empty());
}
