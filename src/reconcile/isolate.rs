//! Which object is to blame when a tool refuses a restore and does not say: found by halving, so that one bad guest never keeps out the rest.
//!
//! The groups that are not being tried are set aside (their rules in the kernel stay as they are). A group that goes in is clear;
//! a group of one that is refused is guilty. A rule of a filter that many share is not refused for one of them: whoever has the very same rule is guilty, too, and
//! where the rules differ in addresses, a few samples tell.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Failure;
use crate::addr::Mac;
use crate::backend::Refusal;
use crate::model::Object;
use crate::plan::script::Script;
use crate::plan::show::rule_words;
use crate::plan::{Change, Edit, Phase};
use crate::ruleset::Family;
use crate::source::Span;

/// What a tool said when it refused.
#[derive(Debug, Clone)]
pub struct Complaint {
    /// Its words.
    pub refusal: Refusal,
    /// The input line that it named, for people; empty if it named none.
    pub line: String,
    /// The XML element behind that line.
    pub place: Option<Span>,
}

/// Objects one of which a tool refuses.
#[derive(Debug, Clone)]
pub struct Suspects {
    /// Who; never empty.
    pub objects: Vec<Object>,
    /// What the tool said.
    pub complaint: Complaint,
    /// The kind of the rule in the line that it named.
    pub kind: Option<RuleKind>,
    /// Others for whom that very rule was to be put in: refused as well.
    pub equal: Vec<Object>,
    /// Others for whom another rule of its kind was: perhaps refused as well.
    pub alike: Vec<Object>,
}

/// The rules of one XML element that differ in nothing but addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleKind {
    /// The element.
    pub element: Span,
    /// What the rules say, a mark in the place of each address.
    pub words: String,
}

/// Objects that a tool will not take.
#[derive(Debug, Clone)]
pub struct Guilty {
    /// Who, never empty; the rule of the first one stood in the line.
    pub objects: Vec<Object>,
    /// What the tool said.
    pub complaint: Complaint,
}

/// The search for those to blame in one pass.
#[derive(Debug, Default)]
pub struct Hunt {
    /// The last one is tried next, the others are set aside.
    groups: Vec<Group>,
    /// Kinds of which the tool took a rule: whoever has another is tried like everybody.
    taken: BTreeSet<RuleKind>,
}

/// Objects that are tried, or set aside, together.
#[derive(Debug)]
struct Group {
    objects: Vec<Object>,
    kind: GroupKind,
}

#[derive(Debug)]
enum GroupKind {
    /// One of them may be to blame.
    Suspects,
    /// One of those with a rule of a kind that was refused so many times; the rest is the group below.
    Sample { kind: RuleKind, refused: u32 },
}

/// A kind of rule that was refused so many times in a row, all but the first of them for guests picked at random, counts as refused for all: one at a time, thousands
/// would take hours.
const SAMPLES: u32 = 5;

impl Hunt {
    /// Whether nobody is looked for.
    pub fn is_over(&self) -> bool {
        self.groups.is_empty()
    }

    /// Takes in a refusal, and says who is to blame if that is known now.
    pub fn refused(&mut self, found: Suspects) -> Option<Guilty> {
        let tried = self.groups.pop();
        let Suspects { mut objects, complaint, kind: complained, equal, alike } = found;
        if objects.len() > 1 {
            let right = objects.split_off(objects.len() / 2);
            self.groups.extend([right, objects].map(|objects| Group { objects, kind: GroupKind::Suspects }));
            return None;
        }
        let first = objects[0].clone();
        objects.extend(equal);
        let known: BTreeSet<&Object> = objects.iter().collect();
        for group in &mut self.groups {
            group.objects.retain(|object| !known.contains(object));
        }
        let (mut condemned, mut sampled) = (Vec::new(), None);
        match tried {
            Some(Group { objects: sample, kind: GroupKind::Sample { kind, refused } }) if sample.iter().any(|one| known.contains(one)) => {
                let refused = refused + u32::from(sample == [first] && complained.as_ref() == Some(&kind));
                let rest = self.groups.pop().map(|rest| rest.objects).unwrap_or_default();
                if refused < SAMPLES {
                    self.sample(rest, kind.clone(), refused);
                } else {
                    condemned = rest;
                }
                sampled = Some(kind);
            }
            // Somebody else was refused, who came with it.
            Some(sample @ Group { kind: GroupKind::Sample { .. }, .. }) => self.groups.push(sample),
            _ => {}
        }
        if let Some(kind) = complained.filter(|kind| sampled.as_ref() != Some(kind) && !self.taken.contains(kind)) {
            let grouped: BTreeSet<&Object> = self.groups.iter().flat_map(|group| &group.objects).collect();
            let alike = alike.into_iter().filter(|object| !grouped.contains(object)).collect();
            self.sample(alike, kind, 1);
        }
        objects.extend(condemned);
        Some(Guilty { objects, complaint })
    }

    /// Has one of these tried next, and the rest set aside.
    fn sample(&mut self, mut rest: Vec<Object>, kind: RuleKind, refused: u32) {
        if rest.is_empty() {
            return;
        }
        let sample = rest.swap_remove(random(rest.len()));
        self.groups.push(Group { objects: rest, kind: GroupKind::Suspects });
        self.groups.push(Group { objects: vec![sample], kind: GroupKind::Sample { kind, refused } });
    }

    /// Takes in that all who were tried went in.
    pub fn went_in(&mut self) {
        if let Some(Group { kind: GroupKind::Sample { kind, .. }, .. }) = self.groups.pop() {
            self.taken.insert(kind);
        }
    }

    /// Everyone but the group that is tried next.
    pub fn aside(&self) -> BTreeSet<Object> {
        let waiting = self.groups.split_last().map_or(&[][..], |(_, waiting)| waiting);
        waiting.iter().flat_map(|group| group.objects.iter().cloned()).collect()
    }
}

/// A number below `end`, another in each run: guests that are picked once and again must not be the same.
fn random(end: usize) -> usize {
    let seed = RandomState::new().build_hasher().finish();
    usize::try_from(seed % end as u64).unwrap_or(0)
}

/// Who may be to blame for a refusal: the object of the line that the tool named, else everyone in the restore.
pub(super) fn suspects(phase: &Phase, family: Family, script: &Script, line: Option<usize>, refusal: Refusal) -> Result<Suspects, Failure> {
    let tables = &phase.families[&family];
    let origin = line.and_then(|line| *script.origins.get(line.checked_sub(1)?)?);
    let words = line.and_then(|line| script.text.lines().nth(line.checked_sub(1)?)).unwrap_or_default();
    let detail = if words.is_empty() { String::new() } else { format!(" (input line {}: `{words}`)", line.unwrap_or_default()) };
    if let Some((table, edit)) = origin {
        let (edits, edit) = (&tables[table].edits, &tables[table].edits[edit]);
        if let Some(object) = &edit.object {
            let complaint = Complaint { refusal, line: detail, place: edit.place };
            let kind = kind_of(family, edit);
            let (equal, alike) = kind.as_ref().map(|kind| others(family, edit, kind, edits)).unwrap_or_default();
            return Ok(Suspects { objects: vec![object.clone()], complaint, kind, equal, alike });
        }
    }
    let everyone: BTreeSet<Object> = tables.iter().flat_map(|table| &table.edits).filter_map(|edit| edit.object.clone()).collect();
    if everyone.is_empty() {
        return Err(Failure::Tool { refusal, detail });
    }
    let complaint = Complaint { refusal, line: detail, place: None };
    Ok(Suspects { objects: everyone.into_iter().collect(), complaint, kind: None, equal: Vec::new(), alike: Vec::new() })
}

/// The kind of the rule that an edit puts in; `None` where no element of the files is behind it.
fn kind_of(family: Family, edit: &Edit) -> Option<RuleKind> {
    let Change::Insert { rule, .. } = &edit.change else { return None };
    Some(RuleKind { element: edit.place?, words: without_addresses(&rule_words(family, rule)) })
}

/// The others for whom rules of the kind of a refused edit are put in: those with its very rule, and the rest.
fn others(family: Family, refused: &Edit, kind: &RuleKind, edits: &[Edit]) -> (Vec<Object>, Vec<Object>) {
    let rule_of = |edit: &Edit| if let Change::Insert { rule, .. } = &edit.change { Some(rule.clone()) } else { None };
    let (mut equal, mut alike) = (BTreeSet::new(), BTreeSet::new());
    for edit in edits.iter().filter(|edit| edit.place == Some(kind.element) && edit.object != refused.object) {
        let Some(object) = &edit.object else { continue };
        if rule_of(edit) == rule_of(refused) {
            equal.insert(object.clone());
        } else if kind_of(family, edit).as_ref() == Some(kind) {
            alike.insert(object.clone());
        }
    }
    let alike = alike.difference(&equal).cloned().collect();
    (equal.into_iter().collect(), alike)
}

/// The words of a rule, a mark in the place of each address.
fn without_addresses(words: &str) -> String {
    let is_ip = |text: &str| text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
    let is_address = |word: &str| {
        let (start, end) = word.split_once(['-', '/']).unwrap_or((word, word));
        is_ip(word) || is_ip(start) && is_ip(end) || Mac::parse(start).is_some() && Mac::parse(end).is_some()
    };
    let marked: Vec<&str> = words.split(' ').map(|word| if is_address(word) { "@" } else { word }).collect();
    marked.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::RefusalKind;

    fn network(number: usize) -> Object {
        Object::Network(format!("{number:04}"))
    }

    fn number(object: &Object) -> usize {
        if let Object::Network(name) = object { name.parse().unwrap() } else { unreachable!() }
    }

    fn suspects(objects: Vec<Object>) -> Suspects {
        let refusal = Refusal { command: String::new(), status: String::new(), words: String::new(), kind: RefusalKind::Input(None) };
        let complaint = Complaint { refusal, line: String::new(), place: None };
        Suspects { objects, complaint, kind: None, equal: Vec::new(), alike: Vec::new() }
    }

    /// Goes through the rounds of a pass until all of `all` who are not to blame are in, `refuse` being the tool: of those who are not in yet, it answers with whom it
    /// blames. Who was found, and the number of tries.
    fn play(all: &[usize], mut refuse: impl FnMut(&[usize]) -> Option<Suspects>) -> (Vec<usize>, usize) {
        let mut found = Vec::new();
        let mut missing: Vec<usize> = all.to_vec();
        let mut hunt = Hunt::default();
        let mut tries = 0;
        loop {
            tries += 1;
            assert!(tries < 10_000, "the hunt must end");
            let aside: BTreeSet<usize> = hunt.aside().iter().map(number).collect();
            let tried: Vec<usize> = missing.iter().copied().filter(|one| !aside.contains(one)).collect();
            if let Some(blamed) = refuse(&tried) {
                for guilty in hunt.refused(blamed).into_iter().flat_map(|guilty| guilty.objects) {
                    let guilty = number(&guilty);
                    assert!(missing.contains(&guilty), "{guilty} is in, or was found before");
                    missing.retain(|one| *one != guilty);
                    found.push(guilty);
                }
            } else if hunt.is_over() {
                found.sort_unstable();
                return (found, tries);
            } else {
                missing.retain(|one| !tried.contains(one));
                hunt.went_in();
            }
        }
    }

    /// A tool that refuses whatever holds a guilty object, and says nothing of who.
    fn hunt(all: &[usize], guilty: &[usize]) -> (Vec<usize>, usize) {
        play(all, |tried| {
            let everyone = || suspects(tried.iter().copied().map(network).collect());
            tried.iter().any(|one| guilty.contains(one)).then(everyone)
        })
    }

    /// One rule of an object in a play.
    #[derive(Clone, Copy, PartialEq)]
    struct Line {
        element: usize,
        words: usize,
        address: usize,
    }

    fn line(element: usize, words: usize, address: usize) -> Line {
        Line { element, words, address }
    }

    fn kind(line: Line) -> RuleKind {
        let file = crate::source::Sources::default().add("f.xml", "");
        let start = u32::try_from(line.element).unwrap();
        RuleKind { element: Span { file, start, end: start + 1 }, words: line.words.to_string() }
    }

    /// A tool that reads the rules of each object in order, and names the first that it does not take.
    fn by_line(all: &[usize], rules: impl Fn(usize) -> Vec<Line>, takes: impl Fn(usize, Line) -> bool) -> (Vec<usize>, usize) {
        play(all, |tried| {
            let lines = || tried.iter().flat_map(|one| rules(*one).into_iter().map(move |line| (*one, line)));
            let (first, refused) = lines().find(|(one, line)| !takes(*one, *line))?;
            let others = |is_equal: bool| {
                let others = lines().filter(move |(one, line)| *one != first && kind(*line) == kind(refused));
                others.filter(move |(_, line)| (*line == refused) == is_equal).map(|(one, _)| network(one)).collect()
            };
            Some(Suspects { kind: Some(kind(refused)), equal: others(true), alike: others(false), ..suspects(vec![network(first)]) })
        })
    }

    #[test]
    fn one_guilty_object_among_many_is_found_in_few_tries() {
        let all: Vec<usize> = (0..128).collect();
        for guilty in [0, 63, 127] {
            let (found, tries) = hunt(&all, &[guilty]);
            assert_eq!(found, [guilty]);
            assert!(tries <= 20, "{tries} tries");
        }
    }

    #[test]
    fn several_guilty_objects_are_all_found() {
        let all: Vec<usize> = (0..40).collect();
        assert_eq!(hunt(&all, &[3, 4, 39]).0, [3, 4, 39]);
        assert_eq!(hunt(&all, &all).0, all);
        assert_eq!(hunt(&all, &[]).0, Vec::<usize>::new());
    }

    #[test]
    fn an_equal_rule_is_refused_for_everybody() {
        let all: Vec<usize> = (0..3_000).collect();
        assert_eq!(by_line(&all, |_| vec![line(1, 0, 0)], |_, _| false), (all.clone(), 2));
        let even: Vec<usize> = all.iter().copied().filter(|one| one % 2 == 0).collect();
        let (found, tries) = by_line(&all, |one| vec![line(1, one % 2, 0)], |one, _| one % 2 == 1);
        assert_eq!((found, tries), (even, 2));
    }

    #[test]
    fn a_kind_that_is_refused_for_samples_is_refused_for_everybody() {
        let all: Vec<usize> = (0..3_000).collect();
        let (found, tries) = by_line(&all, |one| vec![line(1, 0, one)], |_, _| false);
        assert_eq!(found, all);
        assert!(tries <= 8, "{tries} tries");
    }

    #[test]
    fn a_kind_that_is_refused_for_few_is_not_refused_for_everybody() {
        let all: Vec<usize> = (0..3_000).collect();
        for guilty in [&[0][..], &[1_234], &[2_999], &[0, 1, 2, 3, 4, 5, 6, 7], &[5, 600, 1_200, 1_800, 2_400, 2_999]] {
            let (found, tries) = by_line(&all, |one| vec![line(1, 0, one)], |one, _| !guilty.contains(&one));
            assert_eq!(found, guilty);
            assert!(tries <= 5 + 2 * guilty.len(), "{tries} tries");
        }
    }

    #[test]
    fn what_differs_in_more_than_addresses_is_tried_for_each() {
        let all: Vec<usize> = (0..100).collect();
        let few: Vec<usize> = (0..80).collect();
        assert_eq!(by_line(&all, |one| vec![line(1, one, 0)], |one, _| one >= 80).0, few);
    }

    #[test]
    fn a_refusal_of_another_kind_tells_nothing_of_the_first() {
        // All share a rule that is taken for all but the first, and each other one has another that nobody's is taken of: of its own, or of the same element.
        let all: Vec<usize> = (0..1_000).collect();
        let guilty: Vec<usize> = all.iter().copied().filter(|one| *one == 0 || one % 2 == 1).collect();
        let own = |one: usize| line(2 + one, 0, one);
        let shared = |one: usize| line(1, 1, one);
        for (other, most) in [(&own as &dyn Fn(usize) -> Line, 520), (&shared, 30)] {
            let rules = |one: usize| if one % 2 == 1 { vec![line(1, 0, one), other(one)] } else { vec![line(1, 0, one)] };
            let (found, tries) = by_line(&all, rules, |one, it| it == line(1, 0, one) && one != 0);
            assert_eq!(found, guilty);
            assert!(tries <= most, "{tries} tries");
        }
    }

    #[test]
    fn kinds_that_are_refused_for_all_are_each_found_in_few_tries() {
        // Two kinds that nobody's rule is taken of; every fifth object has both, and every fifth none.
        let all: Vec<usize> = (0..1_000).collect();
        let guilty: Vec<usize> = all.iter().copied().filter(|one| one % 5 != 4).collect();
        for equal in [false, true] {
            let second = |one: usize| line(2, 0, if equal { 0 } else { one });
            let rules = |one: usize| match one % 5 {
                0 => vec![line(1, 0, one), second(one)],
                1 | 2 => vec![line(1, 0, one)],
                3 => vec![second(one)],
                _ => Vec::new(),
            };
            let (found, tries) = by_line(&all, rules, |_, _| false);
            assert_eq!(found, guilty);
            assert!(tries <= 20, "{tries} tries");
        }
    }

    #[test]
    fn rules_are_alike_where_they_differ_in_addresses_alone() {
        let words = "-s 10.0.0.1/32 -m mac --mac-source 52:54:00:00:00:01 --src-range 10.0.0.1-10.0.0.9 -m set --match-set a src";
        let other = "-s 10.9.9.9/24 -m mac --mac-source 52:54:00:00:00:09 --src-range 10.0.0.3-10.0.0.4 -m set --match-set a src";
        assert_eq!(without_addresses(words), without_addresses(other));
        assert_ne!(without_addresses(words), without_addresses(&other.replace("set a", "set b")));
        assert_ne!(without_addresses("-s fe80::1 -j RETURN"), without_addresses("-s fe80::1 -j DROP"));
        assert_eq!(without_addresses("-s 52:54:00:00:00:01/ff:ff:ff:ff:ff:00"), without_addresses("-s 52:54:00:00:00:02"));
    }
}
