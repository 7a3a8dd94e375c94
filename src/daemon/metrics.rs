//! Numbers about the daemon's work, for Prometheus.
//!
//! Counters and histograms are told of every pass, gauges are set from the [`Status`] document, so both say the same. The names are part of the interface:
//! the alert rules and the dashboard in `contrib/` use exactly these.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::history::{Ended, Outcome};
use super::status::{Kind, Listening, Moment, State, Status, Weight};
use crate::reconcile::Failure;

type Seconds = Gauge<f64, AtomicU64>;

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    passes: Family<Way, Counter>,
    pass_seconds: Histogram,
    drifts: Family<Place, Counter>,
    repaired_rules: Family<Place, Counter>,
    repair_seconds: Histogram,
    lock_wait_seconds: Histogram,
    tool_errors: Family<ToolError, Counter>,
    back_offs: Counter,
    last_pass: Seconds,
    last_verified: Seconds,
    rules: Family<OfFamily, Gauge>,
    objects: Family<OfKind, Gauge>,
    faults: Gauge,
    trouble: Gauge,
    stuck_rules: Gauge,
    fights: Gauge,
    prerequisites: Family<Unmet, Gauge>,
    learned: Gauge,
    taps: Gauge,
    frames: Counter,
    malformed: Counter,
    surplus: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Way {
    cause: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Place {
    family: String,
    table: String,
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToolError {
    tool: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFamily {
    family: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Unmet {
    code: String,
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: String,
}

impl Metrics {
    /// All at zero. `started` is when the daemon came up.
    pub fn new(started: Moment) -> Self {
        let mut all = Registry::with_prefix("bridgeward");
        let registry = &mut all;
        let build = told(registry, "build_info", "Always 1; which program this is", Family::<Build, Gauge>::default());
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION").to_owned() }).set(1);
        told(registry, "start_time_seconds", "When the daemon came up, in seconds since 1970", Seconds::default()).set(seconds(started));
        Self {
            passes: told(registry, "passes", "Passes by what called for them and what came of them", Family::default()),
            pass_seconds: told(
                registry,
                "pass_seconds",
                "Time of a pass, from reading the state to the verified end",
                Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            ),
            drifts: told(registry, "drifts", "Times that a table was found other than the last pass left it", Family::default()),
            repaired_rules: told(registry, "repaired_rules", "Rules inserted or deleted to mend drift", Family::default()),
            repair_seconds: told(
                registry,
                "repair_seconds",
                "Time from the first word of somebody's change of rules to the verified repair",
                Histogram::new([0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            ),
            lock_wait_seconds: told(
                registry,
                "lock_wait_seconds",
                "Time that a pass waited for another bridgeward",
                Histogram::new([0.001, 0.01, 0.1, 1.0, 5.0, 30.0]),
            ),
            tool_errors: told(registry, "tool_errors", "Restores that failed: busy, refused, or trouble with the host", Family::default()),
            back_offs: told(registry, "back_offs", "Times that somebody who keeps undoing our rules made repairs wait", Counter::default()),
            last_pass: told(registry, "last_pass_timestamp_seconds", "End of the last pass, in seconds since 1970", Seconds::default()),
            last_verified: told(
                registry,
                "last_verified_timestamp_seconds",
                "End of the last pass that saw all rules in place, in seconds since 1970",
                Seconds::default(),
            ),
            rules: told(registry, "rules", "Rules that the state asks for", Family::default()),
            objects: told(registry, "objects", "Networks and interfaces by how they are", Family::default()),
            faults: told(registry, "faults", "Errors in the state files", Gauge::default()),
            trouble: told(registry, "trouble", "What went wrong in the last pass and no object is to blame for", Gauge::default()),
            stuck_rules: told(registry, "stuck_rules", "Rules that do not stay as written", Gauge::default()),
            fights: told(registry, "fights", "Chains whose repair waits because somebody keeps undoing it", Gauge::default()),
            prerequisites: told(registry, "prerequisites_failing", "What the host has to be like and is not", Family::default()),
            learned: told(registry, "learned_addresses", "Addresses that were learned and count", Gauge::default()),
            taps: told(registry, "learning_taps", "Taps that are listened to", Gauge::default()),
            frames: told(
                registry,
                "learning_frames",
                "Frames of guests that learn, and of their servers, that were looked at",
                Counter::default(),
            ),
            malformed: told(registry, "learning_malformed_frames", "Frames that were not what they claimed to be", Counter::default()),
            surplus: told(
                registry,
                "learning_surplus_frames",
                "Frames that were not looked at because their guest sent too many, ten a second of one guest at most",
                Counter::default(),
            ),
            registry: all,
        }
    }

    /// Takes in a pass.
    pub fn pass(&self, ended: &Ended<'_>) {
        let cause = ended.cause.word();
        let outcome = match ended.in_a_word() {
            Outcome::InSync => "in-sync",
            Outcome::Applied => "applied",
            Outcome::Repaired => "repaired",
            Outcome::Seen => "seen",
            Outcome::Unfinished => "unfinished",
            Outcome::Failed => "failed",
        };
        self.passes.get_or_create(&Way { cause, outcome }).inc();
        self.pass_seconds.observe(ended.took.as_secs_f64());
        let now = seconds(Moment::now());
        self.last_pass.set(now);
        match ended.outcome {
            Ok(report) => {
                if report.verified {
                    self.last_verified.set(now);
                }
                self.lock_wait_seconds.observe(report.lock_wait.as_secs_f64());
                for ((tool, kind), count) in &report.tool_errors {
                    self.tool_errors.get_or_create(&ToolError { tool: tool.clone(), kind }).inc_by(*count);
                }
            }
            Err(Failure::Tool { refusal, .. }) => {
                self.tool_errors.get_or_create(&ToolError { tool: refusal.tool().to_owned(), kind: refusal.kind.word() }).inc();
            }
            Err(Failure::Plan(_) | Failure::Store(_) | Failure::Moved(_) | Failure::OnTrial(_) | Failure::Unguarded(_)) => {}
        }
        // What is only looked at is found again at every look, and not repaired.
        let Some(report) = ended.drift().filter(|report| !report.only_seen) else { return };
        for ((family, table), count) in &report.edits {
            let place = Place { family: family.to_string(), table: table.to_string(), cause };
            self.drifts.get_or_create(&place).inc();
            self.repaired_rules.get_or_create(&place).inc_by((count.inserted + count.deleted) as u64);
        }
        if let Some(heard) = ended.heard.filter(|_| report.verified) {
            self.repair_seconds.observe(heard.as_secs_f64());
        }
    }

    /// Counts a repair that has to wait.
    pub fn back_off(&self) {
        self.back_offs.inc();
    }

    /// Sets how many rules each family is asked for.
    pub fn rules<'a>(&self, families: impl Iterator<Item = (&'a str, usize)>) {
        for (family, count) in families {
            self.rules.get_or_create(&OfFamily { family: family.to_owned() }).set(gauge(count));
        }
    }

    /// Sets how much is listened to, and was heard since the start.
    pub fn listening(&self, listening: Listening) {
        let Listening { taps, frames, malformed, surplus } = listening;
        self.taps.set(gauge(taps));
        for (counter, count) in [(&self.frames, frames), (&self.malformed, malformed), (&self.surplus, surplus)] {
            counter.inner().store(count, Ordering::Relaxed);
        }
    }

    /// Sets the gauges.
    pub fn status(&self, status: &Status) {
        self.objects.clear();
        for kind in [Kind::Network, Kind::Interface] {
            for state in State::ALL {
                let count = status.objects.iter().filter(|object| object.object.kind == kind && object.state == state).count();
                self.objects.get_or_create(&OfKind { kind: kind.word(), state: state.word() }).set(gauge(count));
            }
        }
        self.faults.set(gauge(status.faults.len()));
        self.trouble.set(gauge(status.trouble.len()));
        self.stuck_rules.set(gauge(status.stuck.len()));
        self.fights.set(gauge(status.fights.len()));
        self.learned.set(gauge(status.learned.len()));
        self.prerequisites.clear();
        for unmet in status.prerequisites.iter().filter(|unmet| !unmet.mended) {
            let severity = match unmet.severity {
                Weight::Error => "error",
                Weight::Warning => "warning",
                Weight::Note => "note",
            };
            self.prerequisites.get_or_create(&Unmet { code: unmet.code.clone(), severity }).inc();
        }
    }

    /// All of them as OpenMetrics text.
    pub fn openmetrics(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a string takes everything");
        out
    }

    /// All of them in the older text format, which is what node_exporter reads: a counter is named with its `_total`, and there is no end mark.
    pub fn textfile(&self) -> String {
        let openmetrics = self.openmetrics();
        let counters: Vec<&str> = openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
        let mut out = String::with_capacity(openmetrics.len());
        for line in openmetrics.lines().filter(|line| *line != "# EOF") {
            let described = line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')).and_then(|(word, rest)| {
                let (name, rest) = rest.split_once(' ')?;
                counters.contains(&name).then(|| format!("# {word} {name}_total {rest}"))
            });
            out.push_str(described.as_deref().unwrap_or(line));
            out.push('\n');
        }
        out
    }
}

/// Adds a metric to those that are told of.
fn told<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn seconds(moment: Moment) -> f64 {
    moment.0.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::*;
    use crate::daemon::journal::Cause;
    use crate::daemon::status::Prerequisite;
    use crate::reconcile::compute::Computed;
    use crate::reconcile::report::{Count, Report};
    use crate::ruleset::{Family, Table};

    /// Metrics with something in every one: those without a value are not told.
    fn busy() -> Metrics {
        let metrics = Metrics::new(Moment::now());
        let report = Report {
            edits: BTreeMap::from([((Family::Ipv4, Table::Nat), Count { inserted: 2, deleted: 1 })]),
            tool_errors: BTreeMap::from([(("iptables-restore".to_owned(), "busy"), 1)]),
            verified: true,
            ..Report::default()
        };
        let ended = Ended {
            cause: &Cause::Poll,
            begun: Moment::now(),
            took: Duration::from_millis(20),
            heard: Some(Duration::from_millis(60)),
            unreadable: None,
            computed: &Computed::default(),
            same_state: true,
            outcome: &Ok(report),
        };
        metrics.pass(&ended);
        metrics.rules([("iptables", 7)].into_iter());
        let mut status: Status = serde_json::from_str(include_str!("status/example.json")).expect("a status");
        let unmet = Prerequisite { code: "x".into(), severity: Weight::Note, message: String::new(), concerns: Vec::new(), mended: false };
        status.prerequisites.push(unmet);
        metrics.status(&status);
        metrics.listening(status.listening);
        metrics
    }

    /// The name of everything that a text in Prometheus' format describes.
    fn names(text: &str) -> BTreeSet<(String, String)> {
        let described = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        described.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
    }

    #[test]
    fn the_textfile_names_counters_as_their_samples_are_named() {
        let metrics = busy();
        metrics.back_off();
        let text = metrics.textfile();
        assert!(text.contains("# TYPE bridgeward_back_offs_total counter\nbridgeward_back_offs_total 1\n"), "{text}");
        assert!(text.contains("bridgeward_repaired_rules_total{family=\"iptables\",table=\"nat\",cause=\"poll\"} 3\n"), "{text}");
        assert!(text.contains("\nbridgeward_learning_taps 2\n"), "{text}");
        for (name, count) in [("frames", 120), ("malformed_frames", 3), ("surplus_frames", 40)] {
            assert!(text.contains(&format!("\nbridgeward_learning_{name}_total {count}\n")), "{text}");
        }
        assert!(!text.contains("# EOF"), "{text}");
        assert!(metrics.openmetrics().ends_with("# EOF\n"));
        assert_eq!(names(&text).len(), names(&metrics.openmetrics()).len());
        let plain = ["counter", "gauge", "histogram"];
        assert!(names(&text).iter().all(|(_, kind)| plain.contains(&kind.as_str())), "node_exporter knows no other kinds: {text}");
    }

    /// What comes beside a metric's name in queries.
    fn samples(name: &str, kind: &str) -> Vec<String> {
        match kind {
            "histogram" => ["_bucket", "_sum", "_count"].iter().map(|end| format!("{name}{end}")).collect(),
            _ => vec![name.to_owned()],
        }
    }

    #[test]
    fn alerts_and_dashboard_use_exactly_these_names() {
        let shipped =
            [include_str!("../../contrib/prometheus/bridgeward.rules.yml"), include_str!("../../contrib/grafana/bridgeward.json")];
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let used: BTreeSet<&str> =
            shipped.iter().flat_map(|text| text.split(word)).filter(|word| word.starts_with("bridgeward_")).collect();
        let described = names(&busy().textfile());
        let known: BTreeSet<String> = described.iter().flat_map(|(name, kind)| samples(name, kind)).collect();
        let unknown: Vec<_> = used.iter().filter(|name| !known.contains(**name)).collect();
        assert!(unknown.is_empty(), "contrib/ asks for what the daemon does not tell: {unknown:?}");
        let unused: Vec<_> =
            described.iter().filter(|(name, kind)| !samples(name, kind).iter().any(|sample| used.contains(sample.as_str()))).collect();
        assert!(unused.is_empty(), "told and shown nowhere in contrib/: {unused:?}");
    }
}
