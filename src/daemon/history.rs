//! What happened: the last passes, the drift that they found, and who keeps undoing our rules.
//!
//! Values in, bounded lists out. An [`Ended`] pass is what the log, the status and the metrics are all told of; what is remembered of it are the parts of the
//! status document that outlive it.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::journal::Cause;
use super::status::{Moment, ObjectName};
use crate::backend::generation::Writer;
use crate::reconcile::Failure;
use crate::reconcile::compute::Computed;
use crate::reconcile::report::{Changed, Report};

/// Passes remembered.
const MOST_PASSES: usize = 20;
/// Times of drift remembered.
const MOST_DRIFT: usize = 100;
/// Rules told of one time of drift; more are counted.
const MOST_RULES: usize = 20;

/// A pass that is over.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// Why there was one.
    pub cause: &'a Cause,
    /// When it began.
    pub begun: Moment,
    /// How long it took, the reading of the state included.
    pub took: Duration,
    /// From the first that was heard of somebody's change to the end of the pass; `None` where nobody was heard.
    pub heard: Option<Duration>,
    /// Why the state could not be read; then the last one was used.
    pub unreadable: Option<&'a str>,
    /// What the state says.
    pub computed: &'a Computed,
    /// Whether it says the same as at the last pass that saw its rules in the kernel, so that whatever had to be written was drift.
    pub same_state: bool,
    /// What came of it.
    pub outcome: &'a Result<Report, Failure>,
}

/// One pass, remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// When it began.
    pub begun: Moment,
    /// Why there was one.
    pub cause: String,
    /// Milliseconds that it took, the reading of the state included.
    pub took_ms: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// Rules inserted.
    pub inserted: usize,
    /// Rules deleted.
    pub deleted: usize,
    /// Objects held.
    pub held: usize,
}

/// What came of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing had to be written.
    InSync,
    /// What the files say anew was written and seen.
    Applied,
    /// Drift was mended.
    Repaired,
    /// Differences were found and, in this mode, left.
    Seen,
    /// Something was written, and not all of it stayed.
    Unfinished,
    /// It could not be made.
    Failed,
}

/// One time that the kernel was found other than the last pass left it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// When it was seen.
    pub seen: Moment,
    /// Those who wrote rules just before, as far as the kernel names them.
    pub by: Vec<Author>,
    /// What had to be done about it, rule by rule.
    pub rules: Vec<Edit>,
    /// How many more rules than these.
    pub more: usize,
    /// Milliseconds from the first that was heard of it until it was mended, or from when it was looked for where nothing was heard; `None` where it
    /// is not mended.
    pub repaired_after_ms: Option<u64>,
}

/// A process that wrote rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Author {
    /// Its name, at most 15 bytes.
    pub command: String,
    /// Its id in the kernel's first process namespace.
    pub pid: u32,
}

/// What was done about one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// Whose it is; `None` for what all share.
    pub object: Option<ObjectName>,
    /// `+ iptables filter -A CHAIN RULE` for one that was missing, the same with `-` for one too many.
    pub rule: String,
}

/// Somebody keeps undoing our rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fight {
    /// Over what: `iptables filter FO-vnet0`.
    pub chain: String,
    /// Who, as far as the kernel names them.
    pub by: Vec<Author>,
    /// When it was noticed.
    pub since: Moment,
    /// How often it was repaired.
    pub repairs: u32,
    /// Milliseconds that each repair waits now.
    pub pause_ms: u64,
    /// Whether packets may pass meanwhile that the chain's rules should stop.
    pub open: bool,
}

/// Remembers.
#[derive(Debug, Clone, Default)]
pub struct History {
    passes: VecDeque<Pass>,
    drift: VecDeque<Drift>,
    fights: Vec<Fight>,
}

impl History {
    /// Takes in a pass.
    pub fn pass(&mut self, ended: &Ended<'_>) {
        remember(&mut self.passes, Pass::new(ended), MOST_PASSES);
        if let Some(report) = ended.drift() {
            let drift = Drift::new(ended, report);
            // What is only looked at is found again at every look.
            let known = report.only_seen && self.drift.front().is_some_and(|last| last.rules == drift.rules && last.more == drift.more);
            if !known {
                remember(&mut self.drift, drift, MOST_DRIFT);
            }
        }
    }

    /// Takes in who is fighting now; nobody ends all fights.
    pub fn fighting(&mut self, fights: Vec<Fight>) {
        self.fights = fights;
    }

    /// The last passes, the youngest first.
    pub fn passes(&self) -> Vec<Pass> {
        self.passes.iter().cloned().collect()
    }

    /// The last drift, the youngest first.
    pub fn drift(&self) -> Vec<Drift> {
        self.drift.iter().cloned().collect()
    }

    /// Who is fighting now.
    pub fn fights(&self) -> Vec<Fight> {
        self.fights.clone()
    }
}

impl<'a> Ended<'a> {
    /// What was done about drift, if there was any.
    pub fn drift(&self) -> Option<&'a Report> {
        self.outcome.as_ref().ok().filter(|report| self.same_state && !report.edits.is_empty())
    }

    /// In one word.
    pub fn in_a_word(&self) -> Outcome {
        match self.outcome {
            Err(_) => Outcome::Failed,
            Ok(report) if report.only_seen => {
                if report.edits.is_empty() {
                    Outcome::InSync
                } else {
                    Outcome::Seen
                }
            }
            Ok(report) if !report.verified => Outcome::Unfinished,
            Ok(report) if report.edits.is_empty() => Outcome::InSync,
            Ok(_) if self.same_state => Outcome::Repaired,
            Ok(_) => Outcome::Applied,
        }
    }

    /// Who wrote rules just before.
    pub fn writers(&self) -> impl Iterator<Item = &'a Writer> {
        let writers = if let Cause::Rules(writers) = self.cause { Some(writers) } else { None };
        writers.into_iter().flatten()
    }
}

impl Pass {
    fn new(ended: &Ended<'_>) -> Self {
        let total = ended.outcome.as_ref().map(Report::total).unwrap_or_default();
        Self {
            begun: ended.begun,
            cause: ended.cause.to_string(),
            took_ms: milliseconds(ended.took),
            outcome: ended.in_a_word(),
            inserted: total.inserted,
            deleted: total.deleted,
            held: ended.outcome.as_ref().map_or(0, |report| report.held.len()),
        }
    }
}

impl Drift {
    fn new(ended: &Ended<'_>, report: &Report) -> Self {
        let edit = |changed: &Changed| Edit { object: changed.object.as_ref().map(ObjectName::from), rule: changed.line.clone() };
        Self {
            seen: ended.begun,
            by: ended.writers().map(Author::from).collect(),
            rules: report.changes.first.iter().take(MOST_RULES).map(edit).collect(),
            more: report.changes.number.saturating_sub(MOST_RULES),
            repaired_after_ms: report.verified.then(|| milliseconds(ended.heard.unwrap_or(ended.took))),
        }
    }
}

impl From<&Writer> for Author {
    fn from(writer: &Writer) -> Self {
        Self { command: writer.command.clone(), pid: writer.pid }
    }
}

impl std::fmt::Display for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.command, self.pid)
    }
}

fn remember<T>(list: &mut VecDeque<T>, youngest: T, most: usize) {
    list.truncate(most - 1);
    list.push_front(youngest);
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::reconcile::report::Count;
    use crate::ruleset::{ChainId, ChainName, Family, Table};

    fn pass(history: &mut History, same_state: bool, rules: usize, heard: Option<u64>) {
        let writer = Writer { pid: 7, command: "iptables".into() };
        let count = Count { inserted: 1, deleted: 0 };
        let chain = ChainId { family: Family::Ipv4, table: Table::Nat, chain: ChainName::new("C") };
        let line = |number| format!("+ iptables nat -A C {number}");
        let changes = (0..rules).map(|number| Changed { object: None, chain: chain.clone(), line: line(number), count }).collect();
        let edits = if rules == 0 { BTreeMap::new() } else { BTreeMap::from([((Family::Ipv4, Table::Nat), count)]) };
        let report = Report { changes, edits, verified: true, ..Report::default() };
        history.pass(&Ended {
            cause: &Cause::Rules(BTreeSet::from([writer])),
            begun: Moment::now(),
            took: Duration::from_millis(20),
            heard: heard.map(Duration::from_millis),
            unreadable: None,
            computed: &Computed::default(),
            same_state,
            outcome: &Ok(report),
        });
    }

    #[test]
    fn what_the_files_did_not_ask_for_is_drift_with_its_author_and_its_end() {
        let mut history = History::default();
        pass(&mut history, false, 3, None);
        pass(&mut history, true, 0, Some(60));
        assert_eq!(history.drift(), []);
        pass(&mut history, true, 23, Some(61));
        let drift = &history.drift()[0];
        assert_eq!(drift.by[0].to_string(), "iptables[7]");
        assert_eq!((drift.rules.len(), drift.more, drift.repaired_after_ms), (20, 3, Some(61)));
        let outcomes: Vec<Outcome> = history.passes().iter().map(|pass| pass.outcome).collect();
        assert_eq!(outcomes, [Outcome::Repaired, Outcome::InSync, Outcome::Applied]);
    }

    #[test]
    fn only_the_youngest_are_remembered() {
        let mut history = History::default();
        (0..300).for_each(|number| pass(&mut history, true, 1, Some(number)));
        assert_eq!((history.passes().len(), history.drift().len()), (MOST_PASSES, MOST_DRIFT));
        assert_eq!(history.drift()[0].repaired_after_ms, Some(299));
    }
}
