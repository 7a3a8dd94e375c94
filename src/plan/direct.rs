//! Rules of ours straight in built-in chains, among those of others: which of the live ones are ours, and where new ones go.
//!
//! The classic layout has no chain and no key that says whose a rule is (networks.md 4.3), so the record counts: it knows
//! how many copies of each rule we put into a chain, and what lives beyond that is somebody else's, equal or not. Equal
//! copies cannot be told apart by their text, only by where they stand: ours are those that follow each other as the record
//! remembers (the foremost, if several do), else the first ones.
//!
//! Without a record every live rule is foreign, and ours come in beside equal ones. To adopt those instead would save a few
//! rules after a crash of the file system and give us the right to delete what an administrator wrote, so it is not done; a
//! remark says how many there are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::edit::{Slot, Standing, Wanted, match_up};
use super::{Desired, Remark, ownership};
use crate::compile::ObjectRules;
use crate::model::Object;
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainId, LiveRule, Observation, Observed};

/// What the record knows of our rules in one built-in chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Possession {
    /// Every copy that is ours, first to last.
    pub ours: Vec<Rule>,
    /// The commit that may change this; `None` once it is known to have gone in, or not to have.
    pub pending: Option<Pending>,
}

/// What a commit makes of a possession.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pending {
    /// What is ours after it.
    pub wanted: Vec<Rule>,
    /// The copies of any of these rules that were not ours before it. Without them nothing would tell, after a kill, whether
    /// the one live copy of a rule is the one that we were about to put in or one that was there.
    pub foreign: Vec<Rule>,
}

impl Possession {
    /// What is left of it when the commit has gone in.
    #[must_use]
    pub fn committed(self) -> Self {
        self.pending.map_or_else(|| Self { ours: self.ours, pending: None }, |pending| Self { ours: pending.wanted, pending: None })
    }

    /// What is left of it when there will be no commit.
    #[must_use]
    pub fn abandoned(self) -> Self {
        Self { pending: None, ..self }
    }

    /// Whether nothing is ours, nor may become so.
    pub fn is_empty(&self) -> bool {
        self.ours.is_empty() && self.pending.as_ref().is_none_or(|pending| pending.wanted.is_empty())
    }
}

/// Which live rules of a chain are ours.
pub fn ours(live: &[LiveRule], possession: Option<&Possession>) -> Vec<bool> {
    let mut found = vec![false; live.len()];
    let Some(possession) = possession else { return found };
    let mut quota = quota(live, possession);
    quota.retain(|_, copies| *copies > 0);
    let wanted = possession.pending.as_ref().map_or(&[][..], |pending| &pending.wanted);
    if let Some(whole) = [&possession.ours, wanted].into_iter().find_map(|rules| (count(rules) == quota).then(|| window(live, rules))?) {
        for index in whole {
            found[index] = true;
        }
        return found;
    }
    // Somebody moved or deleted some.
    for sequence in [wanted, &possession.ours] {
        let candidates: Vec<(usize, &LiveRule)> = live.iter().enumerate().filter(|(index, _)| !found[*index]).collect();
        let sequence: Vec<Wanted<'_>> = sequence.iter().map(Wanted::common).collect();
        for index in match_up(&candidates, &sequence).iter().filter_map(Slot::live) {
            found[index] = known_rule(&live[index]).is_some_and(|rule| take(&mut quota, rule));
        }
    }
    for (found, rule) in found.iter_mut().zip(live) {
        *found = *found || known_rule(rule).is_some_and(|rule| take(&mut quota, rule));
    }
    found
}

/// Where the rules of a sequence stand one after the other, as far forward and then as close together as they do; `None`
/// when they do not.
fn window(live: &[LiveRule], sequence: &[Rule]) -> Option<Vec<usize>> {
    let mut end = 0;
    for rule in sequence {
        end += live[end..].iter().position(|live| live.is(rule))? + 1;
    }
    let mut whole = Vec::with_capacity(sequence.len());
    for rule in sequence.iter().rev() {
        end = live[..end].iter().rposition(|live| live.is(rule))?;
        whole.push(end);
    }
    Some(whole)
}

/// How many live copies of each rule are ours.
fn quota<'a>(live: &'a [LiveRule], possession: &'a Possession) -> HashMap<&'a Rule, usize> {
    let mut quota = count(live.iter().filter_map(known_rule));
    let before = count(&possession.ours);
    let known = |counts: &HashMap<&Rule, usize>, rule: &Rule| counts.get(rule).copied().unwrap_or(0);
    match &possession.pending {
        None => quota.iter_mut().for_each(|(rule, copies)| *copies = known(&before, rule).min(*copies)),
        Some(pending) => {
            let (after, foreign) = (count(&pending.wanted), count(&pending.foreign));
            for (rule, copies) in &mut quota {
                *copies = copies.saturating_sub(known(&foreign, rule)).min(known(&before, rule).max(known(&after, rule)));
            }
        }
    }
    quota
}

fn count<'r>(rules: impl IntoIterator<Item = &'r Rule>) -> HashMap<&'r Rule, usize> {
    let mut counts = HashMap::new();
    for rule in rules {
        *counts.entry(rule).or_default() += 1;
    }
    counts
}

/// Takes one copy, if any is left.
fn take(counts: &mut HashMap<&Rule, usize>, rule: &Rule) -> bool {
    match counts.get_mut(rule) {
        Some(copies) if *copies > 0 => {
            *copies -= 1;
            true
        }
        _ => false,
    }
}

fn known_rule(rule: &LiveRule) -> Option<&Rule> {
    if let LiveRule::Known(rule) = rule { Some(rule) } else { None }
}

/// The target of a built-in chain: `rest`, in which everybody's rules and hooks have their places, without those of ours
/// that go and with those that stay or come; an unwanted one that `stays` keeps its place.
///
/// Our rules stand in the order of `wanted`, whatever is between them, since that order decides verdicts. A rule that is
/// missing from a block goes where the block is; a whole block goes behind the one before it, else to the head, in front of
/// foreign rules as libvirt put it, but never in front of the jumps to guests' filters: what a network accepts is accepted
/// for good.
pub fn weave<'a>(
    live: &'a [LiveRule],
    found: &[bool],
    wanted: &[Wanted<'a>],
    stays: impl Fn(&LiveRule) -> bool,
    mut rest: Vec<Slot<'a>>,
) -> Vec<Slot<'a>> {
    let candidates: Vec<(usize, &LiveRule)> = live.iter().enumerate().filter(|(index, _)| found[*index]).collect();
    let slots = match_up(&candidates, wanted);
    let kept: HashSet<usize> = slots.iter().filter_map(Slot::live).collect();
    rest.retain(|slot| slot.live().is_none_or(|index| !found[index] || (!kept.contains(&index) && stays(&live[index]))));
    let mut runs = runs(slots).into_iter().peekable();
    let front = runs.next_if(|run| run.anchor.is_none());
    let first = runs.peek().and_then(|run| run.anchor).unwrap_or(live.len());
    let head = head_of(live, &rest, first);
    let mut target = Vec::with_capacity(rest.len() + wanted.len());
    for (at, slot) in rest.iter().enumerate() {
        if at == head {
            target.extend(front.iter().flat_map(|run| &run.slots));
        }
        while let Some(run) = runs.next_if(|run| slot.live() > run.anchor) {
            target.extend(run.slots);
        }
        target.push(*slot);
    }
    if head == rest.len() {
        target.extend(front.iter().flat_map(|run| &run.slots));
    }
    target.extend(runs.flat_map(|run| run.slots));
    target
}

/// Whether an unwanted rule of ours stays: it belongs to an object that is not to be touched now.
pub fn is_left(rule: &LiveRule, left: &BTreeSet<Rule>) -> bool {
    known_rule(rule).is_some_and(|rule| left.contains(rule))
}

/// Where in `rest` the head is: behind the last jump to a guest's filter that stands before the live rule `first`.
fn head_of(live: &[LiveRule], rest: &[Slot<'_>], first: usize) -> usize {
    let before = rest.iter().take_while(|slot| slot.live().is_none_or(|index| index < first));
    before.enumerate().filter(|(_, slot)| leads_to_guests(slot, live)).last().map_or(0, |(at, _)| at + 1)
}

/// Whether a rule of a built-in chain is a jump to guests' filters.
pub fn leads_to_guests(slot: &Slot<'_>, live: &[LiveRule]) -> bool {
    slot.destinations(live).iter().any(|chain| ownership::base(chain).is_some_and(|base| !base.is_of_networks()))
}

/// Rules of ours that stand together: a live one and the new ones around it; those of no anchor go to the head.
#[derive(Default)]
struct Run<'a> {
    anchor: Option<usize>,
    slots: Vec<Slot<'a>>,
}

/// Splits our rules into runs, in their order; only the first run can be without an anchor.
fn runs(slots: Vec<Slot<'_>>) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    // New rules at the beginning of a block, until it is known whether any of the block is there.
    let mut waiting: Vec<Slot<'_>> = Vec::new();
    let mut begun: Option<Option<&Object>> = None;
    for slot in slots {
        let object = slot.wanted().and_then(|wanted| wanted.object);
        if waiting.first().and_then(Slot::wanted).is_some_and(|wanted| wanted.object != object) {
            append(&mut runs, &mut waiting);
        }
        match slot {
            Slot::Live(index, _) => {
                waiting.push(slot);
                runs.push(Run { anchor: Some(index), slots: std::mem::take(&mut waiting) });
                begun = Some(object);
            }
            Slot::New(_) => {
                waiting.push(slot);
                if begun == Some(object) {
                    append(&mut runs, &mut waiting);
                }
            }
        }
    }
    append(&mut runs, &mut waiting);
    runs
}

fn append<'a>(runs: &mut Vec<Run<'a>>, waiting: &mut Vec<Slot<'a>>) {
    if waiting.is_empty() {
        return;
    }
    if runs.is_empty() {
        runs.push(Run::default());
    }
    if let Some(last) = runs.last_mut() {
        last.slots.append(waiting);
    }
}

/// The number of live rules that equal one of ours and are not ours.
pub fn equal_but_foreign(live: &[LiveRule], found: &[bool], wanted: &[Wanted<'_>]) -> usize {
    let known: HashSet<&Rule> = wanted.iter().map(|wanted| wanted.rule).chain(picked(live, found)).collect();
    live.iter().zip(found).filter(|(rule, found)| !**found && known_rule(rule).is_some_and(|rule| known.contains(rule))).count()
}

/// Tells of rules that equal ours and are foreign.
pub fn remark(id: &ChainId, equal: usize) -> Remark {
    let ChainId { family, table, chain } = id;
    let message =
        format!("rules in {family} {table} chain `{chain}` that equal ours but are not in the record are foreign and left alone: {equal}");
    Remark { code: "equal-foreign-rule", message }
}

/// What is said when none of these objects' rules are ours any more: which of the live ones look as if they were.
pub fn look_alikes(objects: &BTreeMap<Object, Arc<ObjectRules>>, observed: &Observed) -> BTreeSet<Remark> {
    let mut rules: BTreeMap<&ChainId, HashSet<&Rule>> = BTreeMap::new();
    for (id, placed) in objects.values().flat_map(|rules| &rules.direct) {
        rules.entry(id).or_default().extend(placed.iter().map(|placed| &placed.rule));
    }
    let counts = rules.into_iter().map(|(id, rules)| {
        let live = live_rules(observed, id).unwrap_or_default();
        (id, live.iter().filter_map(known_rule).filter(|rule| rules.contains(rule)).count())
    });
    counts.filter(|(_, equal)| *equal > 0).map(|(id, equal)| remark(id, equal)).collect()
}

fn picked<'l>(live: &'l [LiveRule], found: &[bool]) -> impl Iterator<Item = &'l Rule> {
    live.iter().zip(found).filter(|(_, found)| **found).filter_map(|(rule, _)| known_rule(rule))
}

/// What is ours in every built-in chain that could be read, and what a commit of the plan for `desired` makes of it.
pub fn prospect(desired: &Desired, observed: &Observed) -> BTreeMap<ChainId, Possession> {
    let mut wanted: BTreeMap<&ChainId, Vec<&Rule>> = desired.direct.keys().map(|id| (id, Vec::new())).collect();
    for (id, placed) in desired.objects.values().flat_map(|rules| &rules.direct) {
        wanted.entry(id).or_default().extend(placed.iter().map(|placed| &placed.rule));
    }
    let nothing = BTreeSet::new();
    let prospects = wanted.into_iter().filter_map(|(id, wanted)| {
        let live = live_rules(observed, id)?;
        let possession = look(live, desired.direct.get(id), &wanted, desired.left.get(id).unwrap_or(&nothing));
        (!possession.is_empty()).then(|| (id.clone(), possession))
    });
    prospects.collect()
}

fn look(live: &[LiveRule], possession: Option<&Possession>, wanted: &[&Rule], left: &BTreeSet<Rule>) -> Possession {
    let found = ours(live, possession);
    let ours: Vec<Rule> = picked(live, &found).cloned().collect();
    let mut due = count(wanted.iter().copied());
    let stay: Vec<&Rule> = ours.iter().filter(|rule| !take(&mut due, rule) && left.contains(*rule)).collect();
    let concerned: HashSet<&Rule> = wanted.iter().copied().chain(&ours).collect();
    let foreign = live.iter().zip(&found).filter(|(_, found)| !**found).filter_map(|(rule, _)| known_rule(rule));
    let foreign = foreign.filter(|rule| concerned.contains(rule)).cloned().collect();
    let wanted = wanted.iter().copied().chain(stay).cloned().collect();
    Possession { ours, pending: Some(Pending { wanted, foreign }) }
}

/// The live rules of a chain; `None` when its family cannot be read.
fn live_rules<'o>(observed: &'o Observed, id: &ChainId) -> Option<&'o [LiveRule]> {
    match observed.families.get(&id.family) {
        Some(Observation::Read(tables)) => {
            Some(tables.get(&id.table).and_then(|table| table.chains.get(&id.chain)).map_or(&[], |chain| &chain.rules))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
