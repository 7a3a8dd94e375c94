//! Which object is to blame when a tool refuses a restore and does not say: found by halving, so that one bad guest never keeps out the rest.
//!
//! The groups that are not being tried are set aside (their rules in the kernel stay as they are). A group that goes in is clear;
//! a group of one that is refused is guilty.

use std::collections::BTreeSet;

use super::Failure;
use crate::backend::Refusal;
use crate::model::Object;
use crate::plan::Phase;
use crate::plan::script::Script;
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
}

/// What one more refusal tells.
#[derive(Debug)]
pub enum Verdict {
    /// This one object is to blame; the suspects it stood among are tried on without it.
    Guilty(Suspects),
    /// Still one of several: the next try is with fewer.
    Unclear,
}

/// Takes in a refusal. The last group of `groups` is the one that is tried next.
pub fn narrow(groups: &mut Vec<Suspects>, found: Suspects) -> Verdict {
    // The group that was tried is the one refused; what was found in it is at most that group.
    groups.pop();
    if found.objects.len() == 1 {
        return Verdict::Guilty(found);
    }
    let (left, right) = found.objects.split_at(found.objects.len() / 2);
    let group = |objects: &[Object]| Suspects { objects: objects.to_vec(), ..found.clone() };
    let halves = [group(right), group(left)];
    groups.extend(halves);
    Verdict::Unclear
}

/// The group that was tried went in; says who stays aside for the next try.
pub fn clear(groups: &mut Vec<Suspects>) -> BTreeSet<Object> {
    groups.pop();
    aside(groups)
}

/// Everyone but the group that is tried next.
pub fn aside(groups: &[Suspects]) -> BTreeSet<Object> {
    let waiting = groups.split_last().map_or(&[][..], |(_, waiting)| waiting);
    waiting.iter().flat_map(|group| group.objects.iter().cloned()).collect()
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
            return Ok(Suspects { objects: vec![object.clone()], refusal, line: detail, place: edit.place });
        }
    }
    let everyone: BTreeSet<Object> = tables.iter().flat_map(|table| &table.edits).filter_map(|edit| edit.object.clone()).collect();
    if everyone.is_empty() {
        return Err(Failure::Tool { refusal, detail });
    }
    Ok(Suspects { objects: everyone.into_iter().collect(), refusal, line: detail, place: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::RefusalKind;

    fn suspects(names: &[usize]) -> Suspects {
        let refusal = Refusal { command: String::new(), status: String::new(), words: String::new(), kind: RefusalKind::Input(None) };
        let objects = names.iter().map(|name| Object::Network(name.to_string())).collect();
        Suspects { objects, refusal, line: String::new(), place: None }
    }

    /// Plays the tool: refuses whatever holds a guilty object, says nothing of who.
    fn hunt(all: &[usize], guilty: &[usize]) -> (Vec<usize>, usize) {
        let name = |object: &Object| if let Object::Network(name) = object { name.parse::<usize>().unwrap() } else { unreachable!() };
        let mut found = Vec::new();
        let mut groups: Vec<Suspects> = Vec::new();
        let mut aside_now = BTreeSet::new();
        let mut tries = 0;
        loop {
            tries += 1;
            assert!(tries < 1000, "the hunt must end");
            let tried: Vec<usize> =
                all.iter().copied().filter(|n| !found.contains(n) && !aside_now.contains(&Object::Network(n.to_string()))).collect();
            if tried.iter().any(|n| guilty.contains(n)) {
                // A tool names only what was in its input: what went in before is unchanged and not part of it.
                let input: Vec<usize> = match groups.last() {
                    Some(group) => group.objects.iter().map(name).collect(),
                    None => tried,
                };
                match narrow(&mut groups, suspects(&input)) {
                    Verdict::Guilty(one) => {
                        found.push(name(&one.objects[0]));
                        aside_now = aside(&groups);
                    }
                    Verdict::Unclear => aside_now = aside(&groups),
                }
            } else if groups.is_empty() {
                found.sort_unstable();
                return (found, tries);
            } else {
                aside_now = clear(&mut groups);
            }
        }
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
}
