//! The smallest change of one chain: its live rules and the list that it should hold in, edits out.
//!
//! A target is a list of [`Slot`]s: live rules that stay, in their order, and new ones between them. How a target comes
//! about differs ([`whole`] for chains of our own, [`blocks`] for shared ones, [`hooks`] for built-in ones,
//! [`super::direct::weave`] for those with rules of ours among others'); how it becomes edits does not ([`edits`]).

use std::collections::HashMap;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::{Change, Edit, ownership};
use crate::compile::PlacedRule;
use crate::model::Object;
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainName, ChainRules, LiveRule, Policy, TableRules};
use crate::source::Span;

/// A rule that somebody wants.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// For whom.
    pub object: Option<&'a Object>,
    /// The XML element behind it.
    pub place: Option<Span>,
}

/// One position of a chain as it should be.
#[derive(Debug, Clone, Copy)]
pub enum Slot<'a> {
    /// The live rule of this index stays; what wants it, if it is ours.
    Live(usize, Option<Wanted<'a>>),
    /// A rule comes in.
    New(Wanted<'a>),
}

impl<'a> Slot<'a> {
    /// The index of the live rule that stays here.
    pub fn live(&self) -> Option<usize> {
        if let Self::Live(index, _) = self { Some(*index) } else { None }
    }

    /// The chains that the rule here leads to, of a chain whose live rules are `live`.
    pub fn destinations(&self, live: &[LiveRule]) -> Vec<ChainName> {
        match self {
            Self::Live(index, _) => ownership::destinations(&live[*index]),
            Self::New(wanted) => wanted.rule.destination().cloned().into_iter().collect(),
        }
    }

    /// What wants the rule here.
    pub fn wanted(&self) -> Option<Wanted<'a>> {
        match self {
            Self::Live(_, wanted) => *wanted,
            Self::New(wanted) => Some(*wanted),
        }
    }
}

/// How rules of a chain are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// By number: chains that are ours whole.
    ByPosition,
    /// By rule, which takes the first equal one: chains that others write, too, where a number may name another rule by the
    /// time it is used.
    ByRule,
}

impl<'a> Wanted<'a> {
    /// A rule of an object.
    pub fn of(object: &'a Object, placed: &'a PlacedRule) -> Self {
        Self { rule: &placed.rule, object: Some(object), place: placed.place }
    }

    /// A rule that is nobody's: a hook or a gate.
    pub fn common(rule: &'a Rule) -> Self {
        Self { rule, object: None, place: None }
    }
}

/// The edits that make `target` of `live`: deletions first to last, then insertions first to last. `owner` names the object
/// that a deleted rule belonged to.
pub fn edits<'a>(
    chain: &ChainName,
    live: &'a [LiveRule],
    mut target: Vec<Slot<'a>>,
    deletion: Deletion,
    owner: impl Fn(&LiveRule) -> Option<Object>,
) -> Vec<Edit> {
    let mut stays = vec![false; live.len()];
    for slot in &target {
        if let Slot::Live(index, _) = slot {
            stays[*index] = true;
        }
    }
    if target.len() == live.len() && stays.iter().all(|&stays| stays) {
        return Vec::new();
    }
    if deletion == Deletion::ByRule {
        make_deletions_first(live, &mut target, &mut stays);
    }
    let mut edits = Vec::new();
    let mut at = 1;
    for (rule, stays) in live.iter().zip(stays) {
        if stays {
            at += 1;
            continue;
        }
        let change = match (deletion, rule) {
            (Deletion::ByRule, LiveRule::Known(rule)) => Change::DeleteRule { chain: chain.clone(), rule: rule.clone() },
            _ => Change::DeleteAt { chain: chain.clone(), at, rule: rule.clone() },
        };
        edits.push(Edit { change, object: owner(rule), place: None });
    }
    for (index, slot) in target.iter().enumerate() {
        if let Slot::New(wanted) = slot {
            let change = Change::Insert { chain: chain.clone(), at: index + 1, rule: wanted.rule.clone() };
            edits.push(Edit { change, object: wanted.object.cloned(), place: wanted.place });
        }
    }
    edits
}

/// Arranges that among equal rules those that go come before those that stay, because deleting by rule takes the first.
///
/// Where nothing that stays stands between two copies, the later one stays in place of the earlier; otherwise the earlier one
/// is deleted, too, and put back. That is done even to a foreign rule that equals one of ours, for the foreign rules have to
/// read the same afterwards.
fn make_deletions_first<'a>(live: &'a [LiveRule], target: &mut [Slot<'a>], stays: &mut [bool]) {
    let mut end = live.len();
    for slot in target.iter_mut().rev() {
        let Slot::Live(index, wanted) = *slot else { continue };
        let later = (index + 1..end).rev().find(|&later| live[later] == live[index] && matches!(live[later], LiveRule::Known(_)));
        if let Some(later) = later {
            stays[index] = false;
            stays[later] = true;
            *slot = Slot::Live(later, wanted);
        }
        end = index;
    }
    let mut last_deleted: HashMap<&Rule, usize> = HashMap::new();
    for (index, rule) in live.iter().enumerate() {
        if let (false, LiveRule::Known(rule)) = (stays[index], rule) {
            last_deleted.insert(rule, index);
        }
    }
    for slot in target {
        let Slot::Live(index, wanted) = *slot else { continue };
        let LiveRule::Known(rule) = &live[index] else { continue };
        if last_deleted.get(rule).is_some_and(|&last| last > index) {
            stays[index] = false;
            *slot = Slot::New(wanted.unwrap_or(Wanted::common(rule)));
        }
    }
}

/// The target of a chain that is one object's, whole.
pub fn whole<'a>(live: &[LiveRule], wanted: &[Wanted<'a>]) -> Vec<Slot<'a>> {
    match_up(&live.iter().enumerate().collect::<Vec<_>>(), wanted).into_iter().collect()
}

/// What a shared chain should hold of one group of objects, and what it holds of them now.
#[derive(Debug, Default)]
pub struct Block<'a> {
    /// Indices into the live rules, ascending.
    pub live: Vec<usize>,
    /// First to last.
    pub wanted: Vec<Wanted<'a>>,
}

/// The target of a shared chain: foreign rules where they are, every block in its order, blocks in whatever order they are found
/// (networks.md 3.6); blocks of which nothing is there yet come to the `head` or the tail.
pub fn blocks<'a>(live: &[LiveRule], blocks: &[Block<'a>], foreign: &[bool], head: bool) -> Vec<Slot<'a>> {
    // What goes where: before or after the live rule of an index, or to the end that new blocks go to.
    let mut stays: Vec<Option<Slot<'a>>> = (0..live.len()).map(|index| foreign[index].then_some(Slot::Live(index, None))).collect();
    let mut before: HashMap<usize, Vec<Slot<'a>>> = HashMap::new();
    let mut after: HashMap<usize, Vec<Slot<'a>>> = HashMap::new();
    let mut fresh = Vec::new();
    for block in blocks {
        let found: Vec<(usize, &LiveRule)> = block.live.iter().map(|&index| (index, &live[index])).collect();
        let slots = match_up(&found, &block.wanted);
        let Some(first) = slots.iter().find_map(|slot| if let Slot::Live(index, _) = slot { Some(*index) } else { None }) else {
            fresh.extend(slots);
            continue;
        };
        let mut anchor = None;
        for slot in slots {
            match (slot, anchor) {
                (Slot::Live(index, _), _) => {
                    stays[index] = Some(slot);
                    anchor = Some(index);
                }
                (Slot::New(_), None) => before.entry(first).or_default().push(slot),
                (Slot::New(_), Some(index)) => after.entry(index).or_default().push(slot),
            }
        }
    }
    let mut target = Vec::with_capacity(live.len() + fresh.len());
    if head {
        target.append(&mut fresh);
    }
    for (index, slot) in stays.into_iter().enumerate() {
        target.extend(before.remove(&index).unwrap_or_default());
        target.extend(slot);
        target.extend(after.remove(&index).unwrap_or_default());
    }
    target.append(&mut fresh);
    target
}

/// The slots of one block or chain: the longest common subsequence stays. `live` are rules with their indices, ascending.
pub fn match_up<'a>(live: &[(usize, &LiveRule)], wanted: &[Wanted<'a>]) -> Vec<Slot<'a>> {
    let same = |(index, rule): &(usize, &LiveRule), wanted: &Wanted<'a>| {
        matches!(rule, LiveRule::Known(rule) if rule == wanted.rule).then_some(Slot::Live(*index, Some(*wanted)))
    };
    if live.len() == wanted.len()
        && let Some(slots) = live.iter().zip(wanted).map(|(live, wanted)| same(live, wanted)).collect()
    {
        return slots;
    }
    let (old, new) = numbered(live.iter().map(|(_, rule)| *rule), wanted.iter().map(|wanted| wanted.rule));
    let mut slots = Vec::with_capacity(wanted.len());
    // Hunt is minimal and the fastest of `similar` for rule lists; nothing rests on its being minimal.
    for op in capture_diff_slices(Algorithm::Hunt, &old, &new) {
        if let DiffOp::Equal { old_index, new_index, len } = op {
            slots.extend((0..len).map(|step| Slot::Live(live[old_index + step].0, Some(wanted[new_index + step]))));
        } else {
            slots.extend(wanted[op.new_range()].iter().map(|wanted| Slot::New(*wanted)));
        }
    }
    slots
}

/// Numbers rules so that equal rules have equal numbers and a rule that we cannot parse equals nothing; comparing numbers is
/// what a diff does most.
fn numbered<'r>(live: impl Iterator<Item = &'r LiveRule>, wanted: impl Iterator<Item = &'r Rule>) -> (Vec<usize>, Vec<usize>) {
    let mut numbers: HashMap<&Rule, usize> = HashMap::new();
    let mut next = 0;
    let mut number = |rule: Option<&'r Rule>| {
        next += 1;
        rule.map_or(next, |rule| *numbers.entry(rule).or_insert(next))
    };
    let old = live.map(|rule| number(if let LiveRule::Known(rule) = rule { Some(rule) } else { None })).collect();
    let new = wanted.map(|rule| number(Some(rule))).collect();
    (old, new)
}

/// Something that stands in a chain while edits are followed: a live rule, or one with more to say about it.
pub trait Standing {
    /// What an edit puts in.
    fn enter(rule: &Rule, edit: &Edit) -> Self;
    /// Whether it is this rule.
    fn is(&self, rule: &Rule) -> bool;
}

impl Standing for LiveRule {
    fn enter(rule: &Rule, _: &Edit) -> Self {
        Self::Known(rule.clone())
    }

    fn is(&self, rule: &Rule) -> bool {
        matches!(self, Self::Known(known) if known == rule)
    }
}

/// Follows one edit of a chain's rules as the tool will make it; what does not fit (a wrong position, no such rule) changes nothing.
pub fn follow<S: Standing>(rules: &mut Vec<S>, edit: &Edit) {
    match &edit.change {
        Change::Insert { at, rule, .. } if (1..=rules.len() + 1).contains(at) => rules.insert(at - 1, S::enter(rule, edit)),
        Change::DeleteAt { at, .. } if (1..=rules.len()).contains(at) => drop(rules.remove(at - 1)),
        Change::DeleteRule { rule, .. } => {
            if let Some(at) = rules.iter().position(|standing| standing.is(rule)) {
                rules.remove(at);
            }
        }
        _ => {}
    }
}

/// Follows one edit of a table.
pub fn apply(table: &mut TableRules, edit: &Edit) {
    match &edit.change {
        Change::NewChain(chain) => drop(table.chains.insert(chain.clone(), ChainRules::default())),
        Change::DeleteChain(chain) => drop(table.chains.remove(chain)),
        Change::SetPolicy { chain, policy } => table.chains.entry(chain.clone()).or_default().policy = Some(*policy),
        Change::Insert { chain, .. } | Change::DeleteAt { chain, .. } | Change::DeleteRule { chain, .. } => {
            follow(&mut table.chains.entry(chain.clone()).or_default().rules, edit);
        }
    }
}

/// A jump from a built-in chain to a base chain.
#[derive(Debug)]
pub struct Hook {
    /// The jump.
    pub rule: Rule,
    /// What is to become of it.
    pub fate: Fate,
}

/// What is to become of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It must be there, once.
    Needed,
    /// The same, and not where it is now.
    Displaced,
    /// Its chain goes, so all its copies go.
    Doomed,
    /// Not our business.
    Left,
}

/// The target of a built-in chain of iptables with hooks that have to be there once, anywhere. A missing one goes directly
/// before its present successor, else after its predecessor, else to the head. `hooks` are all that can stand in this chain, in
/// our order.
pub fn hooks<'a>(live: &[LiveRule], hooks: &'a [Hook]) -> Vec<Slot<'a>> {
    let mut target: Vec<Slot<'a>> = Vec::with_capacity(live.len() + hooks.len());
    let mut kept: HashMap<&Rule, usize> = HashMap::new();
    for (index, rule) in live.iter().enumerate() {
        let hook = hooks.iter().find(|hook| rule.is(&hook.rule));
        match hook.map(|hook| (hook.fate, hook)) {
            None | Some((Fate::Left, _)) => target.push(Slot::Live(index, None)),
            Some((Fate::Doomed | Fate::Displaced, _)) => {}
            Some((Fate::Needed, hook)) => {
                if kept.insert(&hook.rule, index).is_none() {
                    target.push(Slot::Live(index, Some(Wanted::common(&hook.rule))));
                }
            }
        }
    }
    for (place, hook) in hooks.iter().enumerate().rev() {
        if !matches!(hook.fate, Fate::Needed | Fate::Displaced) || kept.contains_key(&hook.rule) {
            continue;
        }
        let standing = |other: &Hook| target.iter().position(|slot| stands(slot, live, &other.rule));
        let successor = hooks[place + 1..].iter().find_map(standing);
        let at = successor.or_else(|| hooks[..place].iter().rev().find_map(standing).map(|at| at + 1)).unwrap_or(0);
        target.insert(at, Slot::New(Wanted::common(&hook.rule)));
    }
    target
}

/// The target of a chain whose first rules have to be `wanted`, in this order and nowhere else; the other rules, which `rest`
/// gives, follow.
pub fn head<'a>(live: &[LiveRule], wanted: &[Wanted<'a>], rest: Vec<Slot<'a>>) -> Vec<Slot<'a>> {
    // Before the first rule of the rest there are only such as are wanted here, or by nobody.
    let end = rest.iter().find_map(Slot::live).unwrap_or(live.len());
    let mut target = match_up(&live[..end].iter().enumerate().collect::<Vec<_>>(), wanted);
    target.extend(rest);
    target
}

fn stands(slot: &Slot<'_>, live: &[LiveRule], rule: &Rule) -> bool {
    match slot {
        Slot::Live(index, _) => live[*index].is(rule),
        Slot::New(wanted) => wanted.rule == rule,
    }
}

/// The policy that chains of ebtables are made with, and libvirt's have: at their end the frame is accepted, whatever `ebtables
/// -L` of 1.8.9 says (it prints RETURN for every user chain; `ebtables-save` and the kernel know better).
pub const BRIDGE_POLICY: Policy = Policy::Accept;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::rule::{IpRule, IpTarget};

    /// A rule of its own for every letter.
    fn rule(letter: char) -> Rule {
        IpRule::new(IpTarget::Jump(ChainName::new(&letter.to_string()))).into()
    }

    fn rules(letters: &str) -> Vec<Rule> {
        letters.chars().map(rule).collect()
    }

    /// `?` is a rule that cannot be parsed.
    fn live(letters: &str) -> Vec<LiveRule> {
        letters.chars().map(|letter| if letter == '?' { LiveRule::Unknown("?".into()) } else { LiveRule::Known(rule(letter)) }).collect()
    }

    fn spelled(rules: &[LiveRule]) -> String {
        let letter = |rule: &LiveRule| match rule {
            LiveRule::Known(rule) => rule.destination().expect("the tests have only jumps").to_string(),
            LiveRule::Unknown(_) => "?".to_owned(),
        };
        rules.iter().map(letter).collect()
    }

    fn outcome(chain: &[LiveRule], edits: &[Edit]) -> String {
        let mut chain = chain.to_vec();
        for edit in edits {
            follow(&mut chain, edit);
        }
        spelled(&chain)
    }

    /// The edits of an own chain, and what they make of it.
    fn mended(old: &str, new: &str, deletion: Deletion) -> (usize, String) {
        let (live, new) = (live(old), rules(new));
        let wanted: Vec<Wanted<'_>> = new.iter().map(Wanted::common).collect();
        let edits = edits(&ChainName::new("x"), &live, whole(&live, &wanted), deletion, |_| None);
        (edits.len(), outcome(&live, &edits))
    }

    #[test]
    fn a_chain_changes_by_as_few_edits_as_possible() {
        for (old, new, count) in
            [("abc", "abc", 0), ("", "abc", 3), ("abc", "", 3), ("abcd", "abxcd", 1), ("abcd", "acd", 1), ("abcd", "bcda", 2)]
        {
            assert_eq!(mended(old, new, Deletion::ByPosition), (count, new.to_owned()), "{old} to {new}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_parsed_equals_nothing() {
        assert_eq!(mended("a?b", "ab", Deletion::ByPosition), (1, "ab".to_owned()));
        assert_eq!(mended("a?b", "ab", Deletion::ByRule), (1, "ab".to_owned()));
    }

    #[test]
    fn deleting_by_rule_reckons_with_the_first_copy_going() {
        for (old, new) in [("aab", "ab"), ("aba", "ab"), ("aba", "ba"), ("abab", "ab"), ("abcabc", "cba"), ("aaa", "a")] {
            assert_eq!(mended(old, new, Deletion::ByRule).1, new, "{old} to {new}");
        }
    }

    #[test]
    fn of_neighbouring_copies_one_keeps_its_counter() {
        assert_eq!(mended("aab", "ab", Deletion::ByRule).0, 1);
    }

    fn shared(old: &str, wanted: &[&str], ours: &str, head: bool) -> String {
        let old = live(old);
        let wanted: Vec<Vec<Rule>> = wanted.iter().map(|letters| rules(letters)).collect();
        let foreign: Vec<bool> = spelled(&old).chars().map(|letter| !ours.contains(letter)).collect();
        let found: Vec<Block<'_>> = wanted
            .iter()
            .map(|block| Block {
                live: (0..old.len()).filter(|index| block.iter().any(|rule| old[*index].is(rule))).collect(),
                wanted: block.iter().map(Wanted::common).collect(),
            })
            .collect();
        let edits = edits(&ChainName::new("x"), &old, blocks(&old, &found, &foreign, head), Deletion::ByRule, |_| None);
        outcome(&old, &edits)
    }

    #[test]
    fn blocks_keep_their_order_and_foreign_rules_their_place() {
        assert_eq!(shared("xcdyab", &["ab", "cd"], "abcd", true), "xcdyab");
        assert_eq!(shared("xdyb", &["ab", "cd"], "abcd", true), "xcdyab");
        assert_eq!(shared("bxa", &["ab"], "ab", true).replace('x', ""), "ab");
    }

    #[test]
    fn a_new_block_goes_to_the_end_it_was_given() {
        assert_eq!(shared("xy", &["ab"], "ab", true), "abxy");
        assert_eq!(shared("xy", &["ab"], "ab", false), "xyab");
    }

    #[test]
    fn what_nobody_wants_goes_and_foreign_rules_stay() {
        assert_eq!(shared("axby", &[], "ab", true), "xy");
    }

    fn hooked(old: &str, order: &str) -> String {
        let old = live(old);
        let all: Vec<Hook> = order.chars().map(|letter| Hook { rule: rule(letter), fate: Fate::Needed }).collect();
        let edits = edits(&ChainName::new("x"), &old, hooks(&old, &all), Deletion::ByRule, |_| None);
        outcome(&old, &edits)
    }

    #[test]
    fn a_missing_hook_goes_before_its_successor_else_after_its_predecessor_else_to_the_head() {
        assert_eq!(hooked("xcy", "abc"), "xabcy");
        assert_eq!(hooked("xay", "abc"), "xabcy");
        assert_eq!(hooked("xy", "abc"), "abcxy");
        assert_eq!(hooked("cxa", "abc"), "bcxa");
    }

    #[test]
    fn displaced_hooks_go_where_missing_ones_would() {
        let old = live("xcbya");
        let fates = [('a', Fate::Needed), ('b', Fate::Displaced), ('c', Fate::Displaced)];
        let all = fates.map(|(letter, fate)| Hook { rule: rule(letter), fate });
        let edits = edits(&ChainName::new("x"), &old, hooks(&old, &all), Deletion::ByRule, |_| None);
        assert_eq!(outcome(&old, &edits), "xyabc");
    }

    #[test]
    fn the_first_copy_of_a_hook_is_the_one_that_counts() {
        assert_eq!(hooked("axaa", "a"), "ax");
    }

    #[test]
    fn an_edit_that_does_not_fit_changes_nothing() {
        let mut chain = live("ab");
        let change = |change| Edit { change, object: None, place: None };
        let name = ChainName::new("x");
        follow(&mut chain, &change(Change::Insert { chain: name.clone(), at: 4, rule: rule('c') }));
        follow(&mut chain, &change(Change::DeleteAt { chain: name.clone(), at: 0, rule: LiveRule::Known(rule('a')) }));
        follow(&mut chain, &change(Change::DeleteRule { chain: name, rule: rule('z') }));
        assert_eq!(spelled(&chain), "ab");
    }
}
