//! What a pass did and could not do, as a value that can be printed for people and written for machines.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::compile::Key;
use crate::diagnostic::several;
use crate::model::Object;
use crate::plan::desire::Keeping;
use crate::plan::prerequisite::Finding;
use crate::plan::show::rule_words;
use crate::plan::{Change, Edit, Phase, Remark, json};
use crate::reconcile::compute::Computed;
use crate::reconcile::trial::seconds;
use crate::ruleset::rule::{BridgeTarget, IpTarget, Rule};
use crate::ruleset::{ChainId, Family, LiveRule, Table};
use crate::source::Position;
use crate::store::Record;

/// How many held objects people are told of one by one.
pub const MOST_HELD: usize = 100;

/// The outcome of a pass that came to its end.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Edits committed, per table.
    pub edits: BTreeMap<(Family, Table), Count>,
    /// The chains that were edited, and how.
    pub chains: BTreeMap<ChainId, Edited>,
    /// The rules that were inserted or deleted.
    pub changes: Changes,
    /// Sound objects of the state.
    pub objects: usize,
    /// Objects that are not as their files say, by object.
    pub held: Vec<Held>,
    /// Rules that do not stay as written.
    pub stuck: Vec<Stuck>,
    /// Guests that a libvirtd is writing at this moment, so that they have to wait for the next pass.
    pub parked: BTreeSet<Key>,
    /// What people should know and we leave alone.
    pub remarks: BTreeSet<Remark>,
    /// What went wrong on the way without stopping the pass.
    pub warnings: Vec<String>,
    /// Whether the last look showed what is desired, as far as it is not left alone.
    pub verified: bool,
    /// Restores that failed, by the tool's name and what kind of failure it was.
    pub tool_errors: BTreeMap<(String, &'static str), u64>,
    /// How long another bridgeward kept the write lock.
    pub lock_wait: Duration,
    /// The generation of the rules that were verified; `None` where the kernel has no such number, or nothing was verified.
    pub generation: Option<u32>,
    /// From the lock to the verified end.
    pub took: Duration,
    /// Whether the edits were only found, and nothing was written.
    pub only_seen: bool,
    /// What the host has to be like for the rules to work, and is not.
    pub prerequisites: Vec<Finding>,
    /// Rules that wait for a confirmation, or did not get one.
    pub trial: Option<TrialState>,
}

/// How rules on trial stand after a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialState {
    /// They are in force, and taken back after this time unless somebody confirms.
    OnTrial {
        /// How long.
        left: Duration,
    },
    /// Nobody confirmed in time: the earlier rules are in force until the files change or somebody applies.
    TakenBack {
        /// How long ago.
        ago: Duration,
    },
}

/// How many edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Rules inserted.
    pub inserted: usize,
    /// Rules deleted.
    pub deleted: usize,
}

/// A rule that was inserted or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Whose rule it is; `None` for what all share.
    pub object: Option<Object>,
    /// The chain that it stands or stood in.
    pub chain: ChainId,
    /// `+ iptables filter -A CHAIN RULE`, or the same with `-`.
    pub line: String,
    /// What it adds to a count.
    pub count: Count,
}

/// The rules that were inserted or deleted: the first ones word for word, of all of them how many, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// In order, at most [`Changes::KEPT`].
    pub first: Vec<Changed>,
    /// How many there are.
    pub number: usize,
    /// How many for each object; those that all share are for none.
    pub objects: BTreeMap<Object, Count>,
    /// Of the words of all of them, in order.
    pub fingerprint: u64,
}

impl Changes {
    /// So many are kept word for word: a whole rule set would take as much memory as it does in the kernel.
    pub const KEPT: usize = 1000;

    /// Takes in one more.
    pub fn push(&mut self, changed: Changed) {
        self.number += 1;
        let mut hasher = DefaultHasher::new();
        (self.fingerprint, &changed.line).hash(&mut hasher);
        self.fingerprint = hasher.finish();
        if let Some(object) = &changed.object {
            self.objects.entry(object.clone()).or_default().add(changed.count);
        }
        if self.first.len() < Self::KEPT {
            self.first.push(changed);
        }
    }

    /// These and, after them, others.
    fn then(&mut self, next: Self) {
        self.number += next.number;
        let mut hasher = DefaultHasher::new();
        (self.fingerprint, next.fingerprint).hash(&mut hasher);
        self.fingerprint = hasher.finish();
        for (object, count) in next.objects {
            self.objects.entry(object).or_default().add(count);
        }
        self.first.extend(next.first);
        self.first.truncate(Self::KEPT);
    }
}

impl FromIterator<Changed> for Changes {
    fn from_iter<I: IntoIterator<Item = Changed>>(all: I) -> Self {
        let mut changes = Self::default();
        all.into_iter().for_each(|changed| changes.push(changed));
        changes
    }
}

/// What was done to one chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edited {
    /// For whom; empty for what all share.
    pub objects: BTreeSet<Object>,
    /// Whether it may stop packets that passed before.
    pub closes: bool,
}

/// An object that is held, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub object: Object,
    /// How it is kept.
    pub keeping: Keeping,
    /// The diagnostic's code, or `tool-refused`.
    pub code: String,
    /// Why.
    pub message: String,
    /// The XML place at fault.
    pub place: Option<Position>,
}

/// A rule that was written and is not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stuck {
    /// Whose it is; `None` for what all share.
    pub object: Option<Object>,
    /// The tool.
    pub family: Family,
    /// The table.
    pub table: Table,
    /// The chain.
    pub chain: String,
    /// The rule in the tool's words; empty for the chain itself.
    pub rule: String,
}

impl Count {
    const INSERTED: Self = Self { inserted: 1, deleted: 0 };
    const DELETED: Self = Self { inserted: 0, deleted: 1 };

    /// Adds another count to this one.
    pub fn add(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.deleted += other.deleted;
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} added, {} removed", several(self.inserted, "rule"), self.deleted)
    }
}

impl Report {
    /// True when nothing needs a person.
    pub fn is_clean(&self) -> bool {
        self.held.is_empty() && self.stuck.is_empty()
    }

    /// True when nothing needs a person after a pass that was to change the kernel: not after one that ended because another difference followed every commit.
    pub fn is_done(&self) -> bool {
        self.verified && self.is_clean()
    }

    /// Whether a libvirtd is writing this object.
    pub fn is_parked(&self, object: &Object) -> bool {
        if let Object::Interface(device) = object { self.parked.contains(&Key::Guest(device.clone())) } else { false }
    }

    /// Rules inserted and deleted in all tables.
    pub fn total(&self) -> Count {
        let mut total = Count::default();
        self.edits.values().for_each(|count| total.add(*count));
        total
    }

    /// This pass and the one after it as one.
    #[must_use]
    pub fn then(mut self, mut next: Self) -> Self {
        for (table, count) in self.edits {
            next.edits.entry(table).or_default().add(count);
        }
        for (chain, edited) in self.chains {
            next.chains.entry(chain).or_default().add(edited);
        }
        self.changes.then(std::mem::take(&mut next.changes));
        next.changes = self.changes;
        next.warnings.splice(0..0, self.warnings);
        for (failure, count) in self.tool_errors {
            *next.tool_errors.entry(failure).or_default() += count;
        }
        next.lock_wait += self.lock_wait;
        next.took += self.took;
        next
    }

    /// Adds a committed phase.
    pub(super) fn count(&mut self, phase: &Phase) {
        for (family, tables) in &phase.families {
            for table in tables {
                let sum = self.edits.entry((*family, table.table)).or_default();
                for edit in &table.edits {
                    let chain = ChainId { family: *family, table: table.table, chain: edit.change.chain().clone() };
                    self.chains.entry(chain).or_default().add(Edited::of(edit));
                    let (sign, count, chain, rule) = match &edit.change {
                        Change::Insert { chain, rule, .. } => ('+', Count::INSERTED, chain, rule_words(*family, rule)),
                        Change::DeleteRule { chain, rule } => ('-', Count::DELETED, chain, rule_words(*family, rule)),
                        Change::DeleteAt { chain, rule, .. } => ('-', Count::DELETED, chain, live_words(*family, rule)),
                        Change::NewChain(_) | Change::DeleteChain(_) | Change::SetPolicy { .. } => continue,
                    };
                    sum.add(count);
                    let line = format!("{sign} {family} {} -A {chain} {rule}", table.table);
                    let chain = ChainId { family: *family, table: table.table, chain: chain.clone() };
                    self.changes.push(Changed { object: edit.object.clone(), chain, line, count });
                }
            }
        }
    }

    /// The held objects as a plan for machines has them.
    pub fn held_for_json(&self) -> Vec<json::Held<'_>> {
        let parts = self.held.iter().map(|held| json::Held {
            object: &held.object,
            code: &held.code,
            message: &held.message,
            keeping: held.keeping,
            place: held.place.as_ref(),
        });
        parts.collect()
    }

    /// Adds every object that a fault in the files holds.
    pub fn hold_faults(&mut self, computed: &Computed, kept: &BTreeMap<Object, Keeping>) {
        let faulty = computed.resolved.held.iter().chain(&computed.compiled.held);
        self.hold(faulty.map(|held| Held {
            object: held.object.clone(),
            keeping: kept.get(&held.object).copied().unwrap_or(Keeping::Closed),
            code: held.code.to_owned(),
            message: held.message.clone(),
            place: Some(computed.sources.position(held.span)),
        }));
    }

    /// Adds what stays only because a broken file may define it: of these objects those that no file defines and that have no fault.
    pub(super) fn hold_absent<'o>(
        &mut self,
        objects: impl Iterator<Item = &'o Object>,
        computed: &Computed,
        kept: &BTreeMap<Object, Keeping>,
        record: &Record,
    ) {
        let mut broken = computed.broken.clone();
        broken.dedup_by_key(|span| span.file);
        let broken: Vec<Position> = broken.into_iter().map(|span| computed.sources.position(span)).collect();
        let absent = objects.filter(|object| !computed.compiled.objects.contains_key(*object) && !kept.contains_key(*object));
        self.hold(absent.map(|object| {
            let source = record.last_good(object).and_then(|known| known.source.as_deref()).unwrap_or_default();
            let own = broken.iter().find(|place| source.strip_prefix(&*place.path).is_some_and(|rest| rest.starts_with(':')));
            let message = match own {
                Some(_) => "the file that defined it is broken".to_owned(),
                None => "no file defines it, but nothing is deleted while a file is broken".to_owned(),
            };
            let place = own.or(broken.first()).cloned();
            Held { object: object.clone(), keeping: Keeping::LastGood, code: "kept-while-broken".into(), message, place }
        }));
    }

    /// Adds held objects; the first reason given for each stays.
    pub(super) fn hold(&mut self, held: impl Iterator<Item = Held>) {
        let mut known: HashSet<Object> = self.held.iter().map(|held| held.object.clone()).collect();
        self.held.extend(held.filter(|held| known.insert(held.object.clone())));
    }

    /// For people: the first held objects, each in these words, and how many more there are: one file can hold twenty thousand.
    pub fn held_lines(&self, words: impl Fn(&Held) -> String) -> impl Iterator<Item = String> {
        let more = self.held.len().checked_sub(MOST_HELD).filter(|more| *more > 0);
        let more = more.map(|more| format!("held: {more} more, which `diff --format json` names"));
        self.held.iter().take(MOST_HELD).map(words).chain(more)
    }

    /// For people: what changed, what is held and why, one line each.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for ((family, table), count) in &self.edits {
            let _ = writeln!(out, "{family} {table}: {count}");
        }
        let place = |held: &Held| held.place.as_ref().map_or_else(String::new, |place| format!("\n  --> {place}"));
        for line in self.held_lines(|held| format!("{held}{}", place(held))) {
            let _ = writeln!(out, "{line}");
        }
        for stuck in &self.stuck {
            let _ = writeln!(out, "stuck: {} {} {}: `{}` does not stay as written", stuck.family, stuck.table, stuck.chain, stuck.rule);
        }
        let total = self.total();
        let milliseconds = self.took.as_millis();
        let what = match (total.inserted, total.deleted) {
            (0, 0) if self.edits.is_empty() => "in sync, nothing changed".to_owned(),
            (0, 0) => "chains changed, no rules".to_owned(),
            _ => total.to_string(),
        };
        let _ = writeln!(out, "{what}; {}, {} held, {milliseconds} ms", several(self.objects, "object"), self.held.len());
        if let Some(trial) = &self.trial {
            let _ = writeln!(out, "{trial}");
        }
        out
    }
}

impl Edited {
    fn of(edit: &Edit) -> Self {
        Self { objects: edit.object.iter().cloned().collect(), closes: closes(&edit.change) }
    }

    fn add(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.closes |= other.closes;
    }
}

/// Whether a change may stop packets: a rule that stops some, or leads to such, comes, or one that may let them pass goes.
fn closes(change: &Change) -> bool {
    match change {
        Change::Insert { rule, .. } => stops(rule),
        Change::DeleteRule { rule, .. } | Change::DeleteAt { rule: LiveRule::Known(rule), .. } => !stops(rule),
        Change::DeleteAt { rule: LiveRule::Unknown(_), .. } => true,
        Change::NewChain(_) | Change::DeleteChain(_) | Change::SetPolicy { .. } => false,
    }
}

fn stops(rule: &Rule) -> bool {
    match rule {
        Rule::Ip(rule) => matches!(rule.target, IpTarget::Drop | IpTarget::Reject | IpTarget::Jump(_) | IpTarget::Goto(_)),
        Rule::Bridge(rule) => matches!(rule.target, BridgeTarget::Drop | BridgeTarget::Jump(_)),
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "held: {}: {}; {}", self.object, self.message, self.keeping)
    }
}

impl std::fmt::Display for TrialState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OnTrial { left } => {
                write!(f, "on trial: the earlier rules come back in {} unless `bridgeward confirm` is run before", seconds(*left))
            }
            Self::TakenBack { ago } => write!(
                f,
                "taken back {} ago, since nobody confirmed: the earlier rules are in force until the files change or somebody applies them",
                seconds(*ago)
            ),
        }
    }
}

/// Names the rule or chain of an edit that does not stay.
pub(super) fn stuck(family: Family, table: Table, edit: &Edit) -> Stuck {
    let rule = match &edit.change {
        Change::Insert { rule, .. } => rule_words(family, rule),
        _ => String::new(),
    };
    Stuck { object: edit.object.clone(), family, table, chain: edit.change.chain().to_string(), rule }
}

fn live_words(family: Family, rule: &LiveRule) -> String {
    match rule {
        LiveRule::Known(rule) => rule_words(family, rule),
        LiveRule::Unknown(text) => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_as_people_do() {
        let edits = BTreeMap::from([((Family::Ipv4, Table::Nat), Count { inserted: 1, deleted: 2 })]);
        let report = Report { edits, objects: 1, took: Duration::from_millis(7), ..Report::default() };
        assert_eq!(report.text(), "iptables nat: 1 rule added, 2 removed\n1 rule added, 2 removed; 1 object, 0 held, 7 ms\n");
        assert_eq!(Report::default().text(), "in sync, nothing changed; 0 objects, 0 held, 0 ms\n");
    }

    #[test]
    fn of_very_many_held_objects_the_first_are_told_and_for_machines_all() {
        let held = |number: usize| Held {
            object: Object::Network(number.to_string()),
            keeping: Keeping::LastGood,
            code: "some-fault".to_owned(),
            message: "a fault".to_owned(),
            place: None,
        };
        let report = |number: usize| Report { held: (0..number).map(held).collect(), ..Report::default() };
        let lines = |report: &Report| report.held_lines(Held::to_string).collect::<Vec<_>>();
        assert!(lines(&report(MOST_HELD)).iter().all(|line| line.starts_with("held: network")));
        let many = report(MOST_HELD + 900);
        assert_eq!(lines(&many).len(), MOST_HELD + 1);
        assert_eq!(lines(&many)[MOST_HELD], "held: 900 more, which `diff --format json` names");
        assert!(many.text().contains("\nheld: 900 more"), "{}", many.text());
        assert_eq!(many.held_for_json().len(), MOST_HELD + 900);
    }
}
