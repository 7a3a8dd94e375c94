//! What a pass did and could not do, as a value that can be printed for people and written for machines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use crate::compile::Key;
use crate::model::Object;
use crate::plan::desire::Keeping;
use crate::plan::show::rule_words;
use crate::plan::{Change, Edit, Phase, Remark};
use crate::reconcile::compute::Computed;
use crate::ruleset::{Family, LiveRule, Table};
use crate::source::Position;

/// The outcome of a pass that came to its end.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Edits committed, per table.
    pub edits: BTreeMap<(Family, Table), Count>,
    /// Every rule that was inserted or deleted, one line each: `+ iptables filter -A CHAIN RULE`.
    pub changed: Vec<String>,
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
    /// The generation of the rules that were verified; `None` where the kernel has no such number, or nothing was verified.
    pub generation: Option<u32>,
    /// From the lock to the verified end.
    pub took: Duration,
}

/// How many edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Rules inserted.
    pub inserted: usize,
    /// Rules deleted.
    pub deleted: usize,
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
    /// The tool.
    pub family: Family,
    /// The table.
    pub table: Table,
    /// The chain.
    pub chain: String,
    /// The rule in the tool's words; empty for the chain itself.
    pub rule: String,
}

impl Report {
    /// True when nothing needs a person.
    pub fn is_clean(&self) -> bool {
        self.held.is_empty() && self.stuck.is_empty()
    }

    /// Rules inserted and deleted in all tables.
    pub fn total(&self) -> Count {
        let sum = |part: fn(&Count) -> usize| self.edits.values().map(part).sum();
        Count { inserted: sum(|count| count.inserted), deleted: sum(|count| count.deleted) }
    }

    /// This pass and the one after it as one.
    #[must_use]
    pub fn then(self, mut next: Self) -> Self {
        for (table, count) in self.edits {
            let sum = next.edits.entry(table).or_default();
            sum.inserted += count.inserted;
            sum.deleted += count.deleted;
        }
        next.changed.splice(0..0, self.changed);
        next.warnings.splice(0..0, self.warnings);
        next.took += self.took;
        next
    }

    /// Adds a committed phase.
    pub(super) fn count(&mut self, phase: &Phase) {
        for (family, tables) in &phase.families {
            for table in tables {
                let count = self.edits.entry((*family, table.table)).or_default();
                for edit in &table.edits {
                    let (sign, chain, rule) = match &edit.change {
                        Change::Insert { chain, rule, .. } => {
                            count.inserted += 1;
                            ('+', chain, rule_words(*family, rule))
                        }
                        Change::DeleteRule { chain, rule } => {
                            count.deleted += 1;
                            ('-', chain, rule_words(*family, rule))
                        }
                        Change::DeleteAt { chain, rule, .. } => {
                            count.deleted += 1;
                            ('-', chain, live_words(*family, rule))
                        }
                        Change::NewChain(_) | Change::DeleteChain(_) | Change::SetPolicy { .. } => continue,
                    };
                    self.changed.push(format!("{sign} {family} {} -A {chain} {rule}", table.table));
                }
            }
        }
    }

    /// Adds every object that a fault in the files holds.
    pub fn hold_faults(&mut self, computed: &Computed, kept: &BTreeMap<Object, Keeping>) {
        for held in computed.resolved.held.iter().chain(&computed.compiled.held) {
            self.hold(Held {
                object: held.object.clone(),
                keeping: kept.get(&held.object).copied().unwrap_or(Keeping::Closed),
                code: held.code.to_owned(),
                message: held.message.clone(),
                place: Some(computed.sources.position(held.span)),
            });
        }
    }

    /// Adds a held object; the first reason given for it stays.
    pub(super) fn hold(&mut self, held: Held) {
        if self.held.iter().all(|known| known.object != held.object) {
            self.held.push(held);
        }
    }

    /// For people: what changed, what is held and why, one line each.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for ((family, table), count) in &self.edits {
            let _ = writeln!(out, "{family} {table}: {} rules in, {} out", count.inserted, count.deleted);
        }
        for held in &self.held {
            let place = held.place.as_ref().map_or_else(String::new, |place| format!("\n  --> {place}"));
            let _ = writeln!(out, "held: {}: {}; {}{place}", held.object, held.message, held.keeping);
        }
        for stuck in &self.stuck {
            let _ = writeln!(out, "stuck: {} {} {}: `{}` does not stay as written", stuck.family, stuck.table, stuck.chain, stuck.rule);
        }
        let total = self.total();
        let milliseconds = self.took.as_millis();
        let what = match (total.inserted, total.deleted) {
            (0, 0) => "in sync, nothing changed".to_owned(),
            (inserted, deleted) => format!("{inserted} rules in, {deleted} out"),
        };
        let _ = writeln!(out, "{what}; {} objects, {} held, {milliseconds} ms", self.objects, self.held.len());
        out
    }
}

/// Names the rule or chain of an edit that does not stay.
pub(super) fn stuck(family: Family, table: Table, edit: &Edit) -> Stuck {
    let rule = match &edit.change {
        Change::Insert { rule, .. } => rule_words(family, rule),
        _ => String::new(),
    };
    Stuck { family, table, chain: edit.change.chain().to_string(), rule }
}

fn live_words(family: Family, rule: &LiveRule) -> String {
    match rule {
        LiveRule::Known(rule) => rule_words(family, rule),
        LiveRule::Unknown(text) => text.to_string(),
    }
}
