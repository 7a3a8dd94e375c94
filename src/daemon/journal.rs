//! What the daemon says: one line per change or repair, a few more for its details, and nothing at all while nothing happens.
//!
//! A fault is told when it appears and when it goes, not at every pass.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::generation::Writer;
use crate::diagnostic::{self, Severity, Style};
use crate::model::Object;
use crate::reconcile::Failure;
use crate::reconcile::compute::Computed;
use crate::reconcile::report::{Changed, Count, Report};

/// Rules named one by one per pass, and objects when there are more rules; a flush of thousands is summed up.
const MOST_LINES: usize = 40;

/// Why there was a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The daemon came up.
    Start,
    /// State files changed.
    Files,
    /// These processes wrote rules.
    Rules(BTreeSet<Writer>),
    /// It was time to look.
    Poll,
    /// SIGHUP.
    Hangup,
    /// `apply` asked.
    Asked,
}

/// What was said last, so that it is not said again.
#[derive(Debug, Default)]
pub struct Journal {
    told: BTreeSet<String>,
    objects: Option<u64>,
}

impl Journal {
    /// Tells of one pass.
    pub fn pass(&mut self, cause: &Cause, unreadable: Option<&str>, computed: &Computed, outcome: &Result<Report, Failure>) {
        let mut now = BTreeSet::new();
        if let Some(reason) = unreadable {
            now.insert(format!("{reason}; the last state that could be read stays in force"));
        }
        for fault in computed.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error) {
            now.insert(diagnostic::render(fault, &computed.sources, Style::Plain));
        }
        match outcome {
            Ok(report) => {
                self.changes(cause, computed, report);
                now.extend(report.warnings.iter().cloned());
                now.extend(report.remarks.iter().map(|remark| format!("{}: {}", remark.code, remark.message)));
                now.extend(report.held.iter().map(|held| {
                    let place = held.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
                    format!("{} is held: {}{place}; {}", held.object, held.message, held.keeping)
                }));
                now.extend(report.stuck.iter().map(|stuck| {
                    format!(
                        "{} {} {}: `{}` does not stay as written and is left alone for a while",
                        stuck.family, stuck.table, stuck.chain, stuck.rule
                    )
                }));
            }
            Err(failure) => {
                now.insert(failure.to_string());
            }
        }
        for news in now.difference(&self.told) {
            tracing::warn!("{news}");
        }
        for gone in self.told.difference(&now) {
            tracing::info!("no longer: {}", head(gone));
        }
        self.told = now;
    }

    fn changes(&mut self, cause: &Cause, computed: &Computed, report: &Report) {
        let objects = fingerprint(computed);
        let same_state = self.objects.replace(objects) == Some(objects);
        let total = report.total();
        if report.edits.is_empty() {
            if !matches!(cause, Cause::Poll | Cause::Rules(_)) {
                tracing::info!(%cause, objects = report.objects, took = ?report.took, "in sync");
            }
            return;
        }
        let what = if same_state { "drift repaired" } else { "state applied" };
        tracing::info!(%cause, inserted = total.inserted, deleted = total.deleted, held = report.held.len(), took = ?report.took, "{what}");
        for line in details(report) {
            tracing::info!("  {line}");
        }
        if report.changed.len() > MOST_LINES {
            report.changed.iter().for_each(|changed| tracing::debug!("  {}", changed.line));
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Files => f.write_str("files changed"),
            Self::Rules(writers) if writers.is_empty() => f.write_str("rules changed"),
            Self::Rules(writers) => {
                f.write_str("rules changed by ")?;
                for (at, writer) in writers.iter().enumerate() {
                    write!(f, "{}{writer}", if at == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Poll => f.write_str("poll"),
            Self::Hangup => f.write_str("hangup"),
            Self::Asked => f.write_str("apply"),
        }
    }
}

/// A few rules one by one with whose they are; many as counts, per table and per object.
fn details(report: &Report) -> Vec<String> {
    if report.changed.len() <= MOST_LINES {
        let whose = |changed: &Changed| changed.object.as_ref().map_or_else(String::new, |object| format!("  # {object}"));
        return report.changed.iter().map(|changed| format!("{}{}", changed.line, whose(changed))).collect();
    }
    let mut lines: Vec<String> = report.edits.iter().map(|((family, table), count)| format!("{family} {table}: {count}")).collect();
    let mut objects: BTreeMap<&Object, Count> = BTreeMap::new();
    for changed in &report.changed {
        if let Some(object) = &changed.object {
            objects.entry(object).or_default().add(changed.count);
        }
    }
    lines.extend(objects.iter().take(MOST_LINES).map(|(object, count)| format!("{object}: {count}")));
    if let Some(more) = objects.len().checked_sub(MOST_LINES).filter(|more| *more > 0) {
        lines.push(format!("and {more} more networks and interfaces; -v lists every rule"));
    }
    lines
}

/// The head of what is no longer true: what it was, and where.
fn head(news: &str) -> String {
    news.lines().take_while(|line| !line.trim_start().starts_with('|')).map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Tells one desired rule set from another; places do not count.
fn fingerprint(computed: &Computed) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    for (object, rules) in &computed.compiled.objects {
        object.hash(&mut hasher);
        for (chain, placed) in rules.blocks() {
            chain.hash(&mut hasher);
            for rule in placed {
                rule.rule.hash(&mut hasher);
            }
        }
    }
    for held in computed.resolved.held.iter().chain(&computed.compiled.held) {
        held.object.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Family, Table};

    fn report(rules: usize, guests: usize) -> Report {
        let count = Count { inserted: 1, deleted: 0 };
        let changed = (0..rules).map(|number| Changed {
            object: Some(Object::Network(format!("lab{}", number % guests))),
            line: format!("+ iptables nat -A C {number}"),
            count,
        });
        let edits = BTreeMap::from([((Family::Ipv4, Table::Nat), Count { inserted: rules, deleted: 0 })]);
        Report { changed: changed.collect(), edits, ..Report::default() }
    }

    #[test]
    fn a_few_rules_are_named_and_many_are_counted_by_whose_they_are() {
        assert_eq!(details(&report(2, 1))[1], "+ iptables nat -A C 1  # network `lab0`");
        let many = details(&report(80, 2));
        assert_eq!(
            many,
            [
                "iptables nat: 80 rules added, 0 removed",
                "network `lab0`: 40 rules added, 0 removed",
                "network `lab1`: 40 rules added, 0 removed"
            ]
        );
        assert_eq!(details(&report(80, 42)).last().map(String::as_str), Some("and 2 more networks and interfaces; -v lists every rule"));
    }

    #[test]
    fn what_is_over_is_named_with_its_place() {
        assert_eq!(head("error[x]: wrong\n --> a.xml:1:2\n  |\n1 | <a>\n"), "error[x]: wrong --> a.xml:1:2");
        assert_eq!(head("plain words"), "plain words");
    }
}
