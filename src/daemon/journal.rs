//! What the daemon says: one line per change or repair, a few more for its details, and nothing at all while nothing happens.
//!
//! A fault is told when it appears and when it goes, not at every pass. Whatever reads the log by machine finds what a line is about in its fields.

use std::collections::BTreeSet;

use super::history::Ended;
use crate::addr::DeviceName;
use crate::backend::generation::Writer;
use crate::diagnostic::{self, Severity, Style};
use crate::reconcile::report::{Changed, Changes, Held, Report, Stuck, TrialState};
use crate::ruleset::{ChainId, Family, Table};

/// Rules named one by one per pass, and objects when there are more rules; a flush of thousands is summed up.
const MOST_LINES: usize = 40;

/// Guests named in a cause; of more, only how many.
const MOST_NAMED: usize = 5;

/// How many lines one pass writes of what is wrong, and as many of what no longer is: one file can break twenty thousand objects.
const MOST_NEWS: usize = 200;

/// Why there was a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The daemon came up.
    Start,
    /// State files changed.
    Files,
    /// These processes wrote rules.
    Rules(BTreeSet<Writer>),
    /// Network devices came or went.
    Links,
    /// It was time to look.
    Poll,
    /// SIGHUP.
    Hangup,
    /// `apply` asked.
    Asked,
    /// Nobody confirmed what was on trial.
    TrialOver,
    /// The addresses of these guests changed.
    Learned(BTreeSet<DeviceName>),
}

impl Cause {
    /// The same, once it is known who wrote rules: then it is they that a look at the rules was for.
    #[must_use]
    pub fn by(self, writers: BTreeSet<Writer>) -> Self {
        match self {
            Self::Rules(_) => Self::Rules(writers),
            Self::Poll if !writers.is_empty() => Self::Rules(writers),
            other => other,
        }
    }
}

/// What was said last, so that it is not said again.
#[derive(Debug, Default)]
pub struct Journal {
    told: BTreeSet<News>,
}

/// Something that is not as it should be: its words, and what they are about.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct News {
    words: String,
    object: Option<String>,
    chain: Option<(Family, Table, String)>,
    place: Option<String>,
}

impl Journal {
    /// Tells of one pass.
    pub fn pass(&mut self, ended: &Ended<'_>) {
        let computed = ended.computed;
        let mut now = BTreeSet::new();
        if let Some(reason) = ended.unreadable {
            now.insert(News::of(format!("{reason}; the last state that could be read stays in force")));
        }
        for fault in computed.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error) {
            let place = Some(computed.sources.position(fault.span()).to_string());
            now.insert(News { place, ..News::of(diagnostic::render(fault, &computed.sources, Style::Plain)) });
        }
        match ended.outcome {
            Ok(report) => {
                if report.only_seen && !report.edits.is_empty() {
                    let drift = News::of(seen(report));
                    if !self.told.contains(&drift) {
                        tracing::info!(cause = %ended.cause, "drift");
                        tell_rules(report);
                    }
                    now.insert(drift);
                } else {
                    tell_changes(ended, report);
                }
                now.extend(report.trial.map(trial).map(News::of));
                for finding in report.prerequisites.iter().filter(|finding| finding.mended) {
                    tracing::info!(code = finding.code, "prerequisite {}", finding.line());
                }
                let unmet = report.prerequisites.iter().filter(|finding| !finding.mended);
                now.extend(unmet.map(|finding| News::of(format!("prerequisite {}: {}", finding.code, finding.line()))));
                now.extend(report.warnings.iter().cloned().map(News::of));
                now.extend(report.remarks.iter().map(|remark| News::of(format!("{}: {}", remark.code, remark.message))));
                now.extend(report.held.iter().map(News::held));
                now.extend(report.stuck.iter().map(News::stuck));
            }
            Err(failure) => {
                now.insert(News::of(failure.to_string()));
            }
        }
        for News { words, object, chain, place } in now.difference(&self.told).take(MOST_NEWS) {
            let (family, table, chain) = spread(chain.as_ref());
            let (object, place) = (object.as_deref(), place.as_deref());
            tracing::warn!(object, family, table, chain, place, "{words}");
        }
        for News { words, object, chain, place } in self.told.difference(&now).take(MOST_NEWS) {
            let (family, table, chain) = spread(chain.as_ref());
            let (object, place) = (object.as_deref(), place.as_deref());
            tracing::info!(object, family, table, chain, place, "no longer: {}", head(words));
        }
        let beyond = |news: usize| Some(news.saturating_sub(MOST_NEWS)).filter(|more| *more > 0);
        if let Some(more) = beyond(now.difference(&self.told).count()) {
            tracing::warn!("and {more} more warnings; `bridgeward status` says how things are");
        }
        if let Some(more) = beyond(self.told.difference(&now).count()) {
            tracing::info!("and {more} more things that are no longer so; `bridgeward status` says how things are");
        }
        self.told = now;
    }
}

impl News {
    fn of(words: String) -> Self {
        Self { words, ..Self::default() }
    }

    fn held(held: &Held) -> Self {
        let place = held.place.as_ref().map(ToString::to_string);
        let shown = place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
        let words = format!("{} is held: {}{shown}; {}", held.object, held.message, held.keeping);
        Self { object: Some(held.object.to_string()), place, ..Self::of(words) }
    }

    fn stuck(stuck: &Stuck) -> Self {
        let Stuck { object, family, table, chain, rule } = stuck;
        let words = format!("{family} {table} {chain}: `{rule}` does not stay as written and is left alone for a while");
        Self { object: object.as_ref().map(ToString::to_string), chain: Some((*family, *table, chain.clone())), ..Self::of(words) }
    }
}

/// What was written, and why.
fn tell_changes(ended: &Ended<'_>, report: &Report) {
    let Ended { cause, .. } = ended;
    let list = |names: Vec<String>| (!names.is_empty()).then(|| names.join(","));
    let writer = list(ended.writers().map(|writer| writer.command.clone()).collect());
    let pid = list(ended.writers().map(|writer| writer.pid.to_string()).collect());
    let (writer, pid) = (writer.as_deref(), pid.as_deref());
    let total = report.total();
    if report.edits.is_empty() {
        if !matches!(cause, Cause::Poll | Cause::Rules(_)) {
            tracing::info!(%cause, objects = report.objects, took = ?report.took, "in sync");
        }
        return;
    }
    let what = if ended.same_state { "drift repaired" } else { "state applied" };
    let held = report.held.len();
    tracing::info!(%cause, inserted = total.inserted, deleted = total.deleted, held, took = ?report.took, writer, pid, "{what}");
    tell_rules(report);
}

/// The rules one by one, or, of many, how many.
fn tell_rules(report: &Report) {
    if report.changes.number <= MOST_LINES {
        for Changed { object, chain: ChainId { family, table, chain }, line, .. } in &report.changes.first {
            let object = object.as_ref().map(ToString::to_string);
            let whose = object.as_ref().map_or_else(String::new, |object| format!("  # {object}"));
            tracing::info!(object, family = %family, table = %table, chain = %chain, "  {line}{whose}");
        }
        return;
    }
    for line in summary(report) {
        tracing::info!("  {line}");
    }
    report.changes.first.iter().for_each(|changed| tracing::debug!("  {}", changed.line));
}

fn spread(chain: Option<&(Family, Table, String)>) -> (Option<&str>, Option<&str>, Option<&str>) {
    chain.map_or((None, None, None), |(family, table, chain)| (Some(family.tool()), Some(table.as_str()), Some(chain)))
}

impl Cause {
    /// In one word, for counts: who wrote is left out.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Files => "files",
            Self::Rules(_) => "rules",
            Self::Links => "devices",
            Self::Poll => "poll",
            Self::Hangup => "hangup",
            Self::Asked => "apply",
            Self::TrialOver => "trial",
            Self::Learned(_) => "learned",
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
            Self::Links => f.write_str("devices changed"),
            Self::Poll => f.write_str("poll"),
            Self::Hangup => f.write_str("hangup"),
            Self::Asked => f.write_str("apply"),
            Self::TrialOver => f.write_str("trial over"),
            Self::Learned(whose) => {
                f.write_str("learned addresses of ")?;
                for (at, device) in whose.iter().take(MOST_NAMED).enumerate() {
                    write!(f, "{}{device}", if at == 0 { "" } else { ", " })?;
                }
                match whose.len().saturating_sub(MOST_NAMED) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
        }
    }
}

/// What was found and is left, as one fact that comes and goes.
fn seen(report: &Report) -> String {
    // The number tells two drifts of the same size apart.
    let number = report.changes.fingerprint >> 32;
    format!(
        "drift {number:08x}: the kernel is not what the files say ({} would make it so); nothing is written in this mode",
        report.total()
    )
}

/// Rules on trial as a fact: how long is left would make it another one every time.
fn trial(state: TrialState) -> String {
    match state {
        TrialState::OnTrial { .. } => {
            "rules are on trial: the earlier ones come back unless `bridgeward confirm` is run in time".to_owned()
        }
        TrialState::TakenBack { .. } => {
            "the earlier rules are in force, since nobody confirmed the new ones; they stay until the files change or somebody applies them"
                .to_owned()
        }
    }
}

/// Many rules as counts, per table and per object.
fn summary(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report.edits.iter().map(|((family, table), count)| format!("{family} {table}: {count}")).collect();
    let objects = &report.changes.objects;
    lines.extend(objects.iter().take(MOST_LINES).map(|(object, count)| format!("{object}: {count}")));
    if let Some(more) = objects.len().checked_sub(MOST_LINES).filter(|more| *more > 0) {
        lines.push(format!("and {more} more networks and interfaces; -v lists the first {} rules", Changes::KEPT));
    }
    lines
}

/// The head of what is no longer true: what it was, and where.
fn head(news: &str) -> String {
    news.lines().take_while(|line| !line.trim_start().starts_with('|')).map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Object;
    use crate::reconcile::report::Count;
    use crate::ruleset::ChainName;

    fn report(rules: usize, guests: usize) -> Report {
        let count = Count { inserted: 1, deleted: 0 };
        let changed = (0..rules).map(|number| Changed {
            object: Some(Object::Network(format!("lab{}", number % guests))),
            chain: ChainId { family: Family::Ipv4, table: Table::Nat, chain: ChainName::new("C") },
            line: format!("+ iptables nat -A C {number}"),
            count,
        });
        let edits = BTreeMap::from([((Family::Ipv4, Table::Nat), Count { inserted: rules, deleted: 0 })]);
        Report { changes: changed.collect(), edits, ..Report::default() }
    }

    #[test]
    fn many_rules_are_counted_by_whose_they_are() {
        let many = summary(&report(80, 2));
        assert_eq!(
            many,
            [
                "iptables nat: 80 rules added, 0 removed",
                "network `lab0`: 40 rules added, 0 removed",
                "network `lab1`: 40 rules added, 0 removed"
            ]
        );
        assert_eq!(
            summary(&report(80, 42)).last().map(String::as_str),
            Some("and 2 more networks and interfaces; -v lists the first 1000 rules")
        );
    }

    #[test]
    fn what_is_over_is_named_with_its_place() {
        assert_eq!(head("error[x]: wrong\n --> a.xml:1:2\n  |\n1 | <a>\n"), "error[x]: wrong --> a.xml:1:2");
        assert_eq!(head("plain words"), "plain words");
    }
}
