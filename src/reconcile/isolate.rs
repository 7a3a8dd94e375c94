//! Which object is to blame when a tool refuses a restore and does not say: found by halving, so that one bad guest never keeps out the rest.
//!
//! The groups that are not being tried are set aside (their rules in the kernel stay as they are). A group that goes in is clear;
//! a group of one that is refused is guilty. A rule of a filter that many share is not refused for one of them: whoever has the very same rule is guilty, too, and
//! where the rules differ, a few samples tell.

use std::collections::BTreeSet;

use super::Failure;
use crate::backend::Refusal;
use crate::model::Object;
use crate::plan::script::Script;
use crate::plan::{Change, Edit, Phase};
use crate::ruleset::Family;
use crate::source::Span;

/// Objects one of which a tool refuses.
#[derive(Debug, Clone)]
pub struct Suspects {
    /// Who; never empty.
    pub objects: Vec<Object>,
    /// What the tool said.
    pub refusal: Refusal,
    /// The input line that it named, for people; empty if it named none.
    pub line: String,
    /// The XML element behind that line.
    pub place: Option<Span>,
    /// Others for whom the very rule of that line was to be put in: refused as well.
    pub equal: Vec<Object>,
    /// Others for whom that element makes another rule, with other addresses, say: perhaps refused as well.
    pub alike: Vec<Object>,
}

/// Objects that a tool will not take.
#[derive(Debug, Clone)]
pub struct Guilty {
    /// Whose rule was refused, never empty; the first one's stood in the line.
    pub objects: Vec<Object>,
    /// What the tool said.
    pub refusal: Refusal,
    /// The input line that it named, for people; empty if it named none.
    pub line: String,
    /// The XML element behind that line.
    pub place: Option<Span>,
}

/// The search for those to blame in one pass.
#[derive(Debug, Default)]
pub struct Hunt {
    /// The last one is tried next, the others are set aside.
    groups: Vec<Group>,
    /// Elements of which the tool took some rules: whoever has others is tried like everybody.
    taken: BTreeSet<Span>,
}

/// Objects that are tried, or set aside, together.
#[derive(Debug)]
struct Group {
    objects: Vec<Object>,
    kind: GroupKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GroupKind {
    /// One of them may be to blame.
    Suspects,
    /// One of those for whom an element makes a rule, so many of which were refused in a row.
    Sample { element: Span, refused: u32 },
}

/// Where an element's rule was refused for so many guests in a row, all but the first of them picked from far apart, it is for all: one at a time, thousands would
/// take hours.
const SAMPLES: u32 = 5;

impl Hunt {
    /// Whether nobody is looked for.
    pub fn is_over(&self) -> bool {
        self.groups.is_empty()
    }

    /// Takes in a refusal, and says who is to blame if that is known now.
    pub fn refused(&mut self, found: Suspects) -> Option<Guilty> {
        let tried = self.groups.pop();
        let Suspects { mut objects, refusal, line, place, equal, alike } = found;
        if objects.len() > 1 {
            let right = objects.split_off(objects.len() / 2);
            self.groups.extend([right, objects].map(|objects| Group { objects, kind: GroupKind::Suspects }));
            return None;
        }
        let (refused, rest) = match tried {
            Some(Group { kind: GroupKind::Sample { refused, .. }, objects: sample }) if sample == objects => {
                (refused + 1, self.groups.pop().map(|rest| rest.objects).unwrap_or_default())
            }
            Some(sample @ Group { kind: GroupKind::Sample { .. }, .. }) => {
                // Somebody else was, who came with it.
                self.groups.push(sample);
                (1, alike)
            }
            _ => (1, alike),
        };
        objects.extend(equal);
        match place.filter(|element| !rest.is_empty() && !self.taken.contains(element)) {
            Some(_) if refused >= SAMPLES => objects.extend(rest),
            Some(element) => self.sample(rest, element, refused),
            None => {}
        }
        Some(Guilty { objects, refusal, line, place })
    }

    /// Has one of these tried next, and the rest set aside.
    fn sample(&mut self, mut rest: Vec<Object>, element: Span, refused: u32) {
        let sample = rest.remove(rest.len() * refused as usize / SAMPLES as usize);
        self.groups.push(Group { objects: rest, kind: GroupKind::Suspects });
        self.groups.push(Group { objects: vec![sample], kind: GroupKind::Sample { element, refused } });
    }

    /// Takes in that all who were tried went in.
    pub fn went_in(&mut self) {
        if let Some(Group { kind: GroupKind::Sample { element, .. }, .. }) = self.groups.pop() {
            self.taken.insert(element);
        }
    }

    /// Everyone but the group that is tried next.
    pub fn aside(&self) -> BTreeSet<Object> {
        let waiting = self.groups.split_last().map_or(&[][..], |(_, waiting)| waiting);
        waiting.iter().flat_map(|group| group.objects.iter().cloned()).collect()
    }
}

/// Who may be to blame for a refusal: the object of the line that the tool named, else everyone in the restore.
pub(super) fn suspects(phase: &Phase, family: Family, script: &Script, line: Option<usize>, refusal: Refusal) -> Result<Suspects, Failure> {
    let tables = &phase.families[&family];
    let origin = line.and_then(|line| *script.origins.get(line.checked_sub(1)?)?);
    let words = line.and_then(|line| script.text.lines().nth(line.checked_sub(1)?)).unwrap_or_default();
    let detail = if words.is_empty() { String::new() } else { format!(" (input line {}: `{words}`)", line.unwrap_or_default()) };
    if let Some((table, edit)) = origin {
        let edit = &tables[table].edits[edit];
        if let Some(object) = &edit.object {
            let (equal, alike) = others(edit, object, &tables[table].edits);
            return Ok(Suspects { objects: vec![object.clone()], refusal, line: detail, place: edit.place, equal, alike });
        }
    }
    let everyone: BTreeSet<Object> = tables.iter().flat_map(|table| &table.edits).filter_map(|edit| edit.object.clone()).collect();
    if everyone.is_empty() {
        return Err(Failure::Tool { refusal, detail });
    }
    let objects = everyone.into_iter().collect();
    Ok(Suspects { objects, refusal, line: detail, place: None, equal: Vec::new(), alike: Vec::new() })
}

/// The others for whom the element behind a refused edit makes a rule: those with the very same one, and the rest.
fn others(refused: &Edit, own: &Object, edits: &[Edit]) -> (Vec<Object>, Vec<Object>) {
    let Change::Insert { rule, .. } = &refused.change else { return Default::default() };
    let (mut equal, mut alike) = (BTreeSet::new(), BTreeSet::new());
    for edit in edits.iter().filter(|edit| edit.place.is_some() && edit.place == refused.place) {
        if let (Change::Insert { rule: other, .. }, Some(object)) = (&edit.change, &edit.object)
            && object != own
        {
            if other == rule { &mut equal } else { &mut alike }.insert(object.clone());
        }
    }
    let alike = alike.difference(&equal).cloned().collect();
    (equal.into_iter().collect(), alike)
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
        Suspects { objects, refusal, line: String::new(), place: None, equal: Vec::new(), alike: Vec::new() }
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

    /// A tool that names the first line that it does not take. All have one filter of which it refuses the rule for `guilty`; the rule is the same for those whose
    /// numbers are equal modulo `kinds`.
    fn hunt_by_line(all: &[usize], guilty: impl Fn(usize) -> bool, kinds: usize) -> (Vec<usize>, usize) {
        let mut sources = crate::source::Sources::default();
        let place = Some(Span { file: sources.add("f.xml", "<filter/>"), start: 0, end: 9 });
        play(all, |tried| {
            let first = *tried.iter().find(|one| guilty(**one))?;
            let others = || tried.iter().copied().filter(|one| *one != first);
            let equal = others().filter(|one| one % kinds == first % kinds).map(network).collect();
            let alike = others().filter(|one| one % kinds != first % kinds).map(network).collect();
            Some(Suspects { place, equal, alike, ..suspects(vec![network(first)]) })
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
        assert_eq!(hunt_by_line(&all, |_| true, 1), (all.clone(), 2));
        let even: Vec<usize> = all.iter().copied().filter(|one| one % 2 == 0).collect();
        let (found, tries) = hunt_by_line(&all, |one| one % 2 == 0, 2);
        assert_eq!(found, even);
        assert!(tries <= 4, "{tries} tries");
    }

    #[test]
    fn a_rule_that_is_refused_for_samples_is_refused_for_everybody() {
        let all: Vec<usize> = (0..3_000).collect();
        let (found, tries) = hunt_by_line(&all, |_| true, usize::MAX);
        assert_eq!(found, all);
        assert!(tries <= 8, "{tries} tries");
    }

    #[test]
    fn a_rule_that_is_refused_for_few_is_not_refused_for_everybody() {
        let all: Vec<usize> = (0..3_000).collect();
        for guilty in [&[0][..], &[1_234], &[2_999], &[0, 1, 2, 3, 4, 5, 6, 7], &[5, 700, 1_400, 2_100, 2_999]] {
            let (found, tries) = hunt_by_line(&all, |one| guilty.contains(&one), usize::MAX);
            assert_eq!(found, guilty);
            assert!(tries <= 4 + guilty.len(), "{tries} tries");
        }
    }
}
