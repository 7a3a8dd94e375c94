//! What the daemon knows, as one document: for `bridgeward status`, for its sockets and for metrics.
//!
//! A [`Status`] is put together in one place, [`Status::new`], from what the last pass returned and what [`super::history`] remembers of earlier ones; nothing is
//! kept for its sake. Its shape is what docs/json.md describes: change both, or neither.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::history::{Drift, Ended, Fight, History, Pass};
use crate::config::name::{HooksName, LayoutName, Mode, QuirksName, ScopeName};
use crate::diagnostic::visible::visible;
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::Object;
use crate::plan::desire::Keeping;
use crate::plan::prerequisite::Finding;
use crate::reconcile::compute::Computed;
use crate::reconcile::report::{self, Report};
use crate::resolve::Treatment;
use crate::source::{Position, Sources};

/// Of the shape below.
pub const VERSION: u32 = 1;

/// Everything that the daemon knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub v: u32,
    /// Who answers.
    pub daemon: About,
    /// Networks and interfaces, by name.
    pub objects: Vec<ObjectStatus>,
    /// Faults in the state files.
    pub faults: Vec<Fault>,
    /// What went wrong in the last pass and no object is to blame for: nothing while all is well.
    pub trouble: Vec<String>,
    /// Rules that do not stay as written.
    pub stuck: Vec<Stuck>,
    /// Those who keep undoing our rules, while they do.
    pub fights: Vec<Fight>,
    /// What the host has to be like for the rules to work, and is not.
    pub prerequisites: Vec<Prerequisite>,
    /// What a plan cannot mend.
    pub remarks: Vec<Remark>,
    /// The last passes, the youngest first.
    pub passes: Vec<Pass>,
    /// Drift since the daemon came up, the youngest first; the oldest are forgotten.
    pub drift: Vec<Drift>,
    /// Addresses that were learned.
    pub learned: Vec<Learned>,
    /// How much was heard to learn them.
    pub listening: Listening,
}

/// Which daemon this is, and what it works with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Its version.
    pub version: String,
    /// Its process id, in its own process namespace.
    pub pid: u32,
    /// The network namespace whose rules it keeps.
    pub namespace: String,
    /// When it came up.
    pub started: Moment,
    /// What it does about differences.
    pub mode: Mode,
    /// State directories and files.
    pub state: Vec<PathBuf>,
    /// How they are read.
    pub quirks: QuirksName,
    /// How the rules of networks are spelled.
    pub layout: LayoutName,
    /// Whose rules are ours.
    pub scope: ScopeName,
    /// Where hooks stand.
    pub hooks: HooksName,
    /// Whether warnings are errors.
    pub strict: bool,
}

/// A network or an interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectStatus {
    /// Which.
    #[serde(flatten)]
    pub object: ObjectName,
    /// Where it is defined; `None` where no file defines it any more, or the one that does is broken.
    pub place: Option<Place>,
    /// How it is.
    pub state: State,
    /// Why it is not as its file says, and what becomes of its rules; `None` where it is.
    pub held: Option<Held>,
}

/// The name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectName {
    /// What it is.
    pub kind: Kind,
    /// The network's name, or the interface's device.
    pub name: String,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A virtual network.
    Network,
    /// A guest interface.
    Interface,
}

/// How an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its rules are what its file says, and were seen in the kernel.
    InForce,
    /// Its address is not known yet: the interim rules of learning are in force.
    Learning,
    /// A libvirtd is writing it at this moment.
    Parked,
    /// Its last good rules stay, or what lives of it.
    Held,
    /// It is cut off: it is at fault and nothing of it was known.
    Closed,
    /// Its rules do not stay as written.
    Stuck,
    /// The last pass failed: how its rules are is not known.
    Unknown,
}

/// Why an object is not as its file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The diagnostic's code, `tool-refused` or `kept-while-broken`.
    pub code: String,
    /// Why.
    pub message: String,
    /// What becomes of its rules.
    pub keeping: String,
    /// The XML place at fault.
    pub place: Option<Place>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A fault in a state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The diagnostic's code.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Where.
    pub place: Place,
    /// How to mend it.
    pub help: Option<String>,
}

/// A rule that does not stay as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuck {
    /// Whose it is; `None` for what all share.
    pub object: Option<ObjectName>,
    /// `iptables`, `ip6tables` or `ebtables`.
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule in the tool's words; empty for the chain itself.
    pub rule: String,
}

/// Something that the host has to be like for rules to work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Prerequisite {
    /// Stable, kebab-case.
    pub code: String,
    /// How bad it is.
    pub severity: Weight,
    /// What it means and how to mend it.
    pub message: String,
    /// Whom it concerns.
    pub concerns: Vec<ObjectName>,
    /// Whether we mended it.
    pub mended: bool,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Rules do not do what they say.
    Error,
    /// They may not.
    Warning,
    /// Worth knowing.
    Note,
}

/// What a plan cannot mend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Remark {
    /// Stable, kebab-case.
    pub code: String,
    /// One sentence.
    pub message: String,
}

/// An address that was learned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Learned {
    /// Whose.
    #[serde(flatten)]
    pub object: ObjectName,
    /// The address.
    pub address: String,
    /// How it became known: `use`, or `lease from SERVER`.
    pub source: String,
    /// Until when it counts; `None` for ever.
    pub until: Option<Moment>,
}

/// How much is listened to, and what was heard since the daemon came up, as of the last pass or the last frame that was taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Taps that are listened to now.
    pub taps: usize,
    /// Frames that were looked at.
    pub frames: u64,
    /// Those of them that were not what they claimed to be.
    pub malformed: u64,
    /// Frames that were not looked at because their guest sent too many: ten a second of one guest at most, for the rest never leaves the kernel.
    pub surplus: u64,
}

/// A point in time, written as RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub SystemTime);

/// What the daemon knows beside its passes.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// See [`Status::prerequisites`].
    pub prerequisites: Vec<Prerequisite>,
    /// See [`Status::learned`].
    pub learned: Vec<Learned>,
    /// Addresses that two guests claim; among [`Status::remarks`].
    pub conflicts: Vec<Remark>,
    /// See [`Status::listening`].
    pub listening: Listening,
}

impl Status {
    /// Puts the document together. `last` is the last pass, if there was one.
    pub fn new(daemon: About, last: Option<&Ended<'_>>, history: &History, beside: Beside) -> Self {
        let Beside { prerequisites, learned, conflicts, listening } = beside;
        let (passes, drift, fights) = (history.passes(), history.drift(), history.fights());
        let mut status = Self {
            v: VERSION,
            daemon,
            objects: Vec::new(),
            faults: Vec::new(),
            trouble: Vec::new(),
            stuck: Vec::new(),
            fights,
            prerequisites,
            remarks: conflicts,
            passes,
            drift,
            learned,
            listening,
        };
        let Some(last) = last else { return status };
        let computed = last.computed;
        let errors = computed.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        status.faults = errors.map(|diagnostic| Fault::new(diagnostic, &computed.sources)).collect();
        status.trouble.extend(last.unreadable.map(|reason| format!("{reason}; the last state that could be read stays in force")));
        match last.outcome {
            Ok(report) => {
                status.objects = objects(computed, Some(report));
                if report.only_seen && !report.edits.is_empty() {
                    status.trouble.push(format!("the kernel is not what the files say ({} would make it so)", report.total()));
                }
                status.trouble.extend(report.trial.map(|trial| trial.to_string()));
                status.trouble.extend(report.warnings.iter().cloned());
                status.stuck = report.stuck.iter().map(Stuck::from).collect();
                let remark = |remark: &crate::plan::Remark| Remark { code: remark.code.to_owned(), message: remark.message.clone() };
                status.remarks.extend(report.remarks.iter().map(remark));
            }
            Err(failure) => {
                status.objects = objects(computed, None);
                status.trouble.push(failure.to_string());
            }
        }
        status
    }

    /// Whether something needs a person. Prerequisites are the host's and are left out: they are told, and change no exit status.
    pub fn needs_person(&self) -> bool {
        let well = |object: &ObjectStatus| matches!(object.state, State::InForce | State::Learning | State::Parked);
        let quiet = self.faults.is_empty() && self.trouble.is_empty() && self.stuck.is_empty() && self.fights.is_empty();
        !quiet || !self.objects.iter().all(well)
    }
}

/// Every object of the state, and every one that is held.
fn objects(computed: &Computed, report: Option<&Report>) -> Vec<ObjectStatus> {
    let held: BTreeMap<&Object, &report::Held> =
        report.into_iter().flat_map(|report| &report.held).map(|held| (&held.object, held)).collect();
    let objects: BTreeSet<&Object> = computed.compiled.objects.keys().chain(held.keys().copied()).collect();
    let status = |object: &Object| {
        let held = held.get(object).copied();
        let state = report.map_or(State::Unknown, |report| state(object, held, computed, report));
        let place = computed.definition(object).map(|span| Place::from(computed.sources.position(span)));
        ObjectStatus { object: object.into(), place, state, held: held.map(Held::from) }
    };
    objects.into_iter().map(status).collect()
}

fn state(object: &Object, held: Option<&report::Held>, computed: &Computed, report: &Report) -> State {
    let learning = || computed.guest(object).is_some_and(|guest| matches!(guest.treatment, Treatment::Learning(_)));
    match held {
        _ if report.stuck.iter().any(|stuck| stuck.object.as_ref() == Some(object)) => State::Stuck,
        Some(held) if held.keeping == Keeping::Closed => State::Closed,
        Some(_) => State::Held,
        None if report.is_parked(object) => State::Parked,
        None if learning() => State::Learning,
        None => State::InForce,
    }
}

impl Kind {
    /// As in the document.
    pub fn word(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Interface => "interface",
        }
    }
}

impl State {
    /// All of them, the good ones first.
    pub const ALL: [Self; 7] = [Self::InForce, Self::Learning, Self::Parked, Self::Held, Self::Closed, Self::Stuck, Self::Unknown];

    /// As in the document.
    pub fn word(self) -> &'static str {
        match self {
            Self::InForce => "in-force",
            Self::Learning => "learning",
            Self::Parked => "parked",
            Self::Held => "held",
            Self::Closed => "closed",
            Self::Stuck => "stuck",
            Self::Unknown => "unknown",
        }
    }
}

impl Fault {
    fn new(diagnostic: &Diagnostic, sources: &Sources) -> Self {
        Self {
            code: diagnostic.code.to_owned(),
            message: diagnostic.message.clone(),
            place: sources.position(diagnostic.span()).into(),
            help: diagnostic.help.clone(),
        }
    }
}

impl From<&report::Held> for Held {
    fn from(held: &report::Held) -> Self {
        let place = held.place.clone().map(Place::from);
        Self { code: held.code.clone(), message: held.message.clone(), keeping: held.keeping.to_string(), place }
    }
}

impl From<&Finding> for Prerequisite {
    fn from(finding: &Finding) -> Self {
        let severity = match finding.severity {
            Severity::Error => Weight::Error,
            Severity::Warning => Weight::Warning,
            Severity::Note => Weight::Note,
        };
        let concerns = finding.concerns.iter().map(ObjectName::from).collect();
        Self { code: finding.code.to_owned(), severity, message: finding.line(), concerns, mended: finding.mended }
    }
}

impl From<&report::Stuck> for Stuck {
    fn from(stuck: &report::Stuck) -> Self {
        Self {
            object: stuck.object.as_ref().map(ObjectName::from),
            family: stuck.family.to_string(),
            table: stuck.table.to_string(),
            chain: stuck.chain.clone(),
            rule: stuck.rule.clone(),
        }
    }
}

impl From<&Object> for ObjectName {
    fn from(object: &Object) -> Self {
        match object {
            Object::Network(name) => Self { kind: Kind::Network, name: name.clone() },
            Object::Interface(device) => Self { kind: Kind::Interface, name: device.to_string() },
        }
    }
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Self { path: position.path.to_string(), line: position.line, column: position.column }
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}`", self.kind.word(), visible(&self.name))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", visible(&self.path), self.line, self.column)
    }
}

impl Moment {
    /// This moment, by the clock of the host.
    pub fn now() -> Self {
        Self(SystemTime::now())
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(Self).map_err(serde::de::Error::custom)
    }
}
