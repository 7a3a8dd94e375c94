//! One pass: `load -> parse -> resolve -> compile -> observe -> plan -> commit -> observe -> verify`, and what to do when a step fails.
//!
//! All policy of retrying and giving up is in this file: [`Reconciler::pass`] runs rounds until a plan comes out empty.
//! A busy tool is asked again, an object that a tool refuses is set aside ([`isolate`]), a rule that does not stay is left alone and
//! named. What a commit is about to do is written to the record first, so that a kill at any moment leaves no orphan.

pub mod compute;
pub mod isolate;
pub mod park;
pub mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::backend::{Kernel, Refusal, RefusalKind, namespace};
use crate::compile::{Key, ObjectRules};
use crate::model::Object;
use crate::plan::desire::{self, Choices, Installed, Keeping};
use crate::plan::script::{self, Script};
use crate::plan::{self, Change, Desired, HookPlacement, Phase, Plan, PlanError, Scope};
use crate::ruleset::{ChainId, Family, Observation, Observed};
use crate::source::Position;
use crate::store::{Intent, Record, RecordedObject, Store, StoreFailure, Stored};
use compute::Computed;
use isolate::Suspects;
use park::Parking;
use report::{Held, Report, Stuck};

/// How long a pass waits for another bridgeward to finish writing.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// A rule that is gone right after so many commits of it does not stay.
const SAME_COMMITS: u32 = 3;
/// An object whose rules do not stay is left alone for the shorter time, then for twice as long each time, up to the longer one.
const SETBACK_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// After so many commits in one pass that were each followed by another difference, the pass ends: the daemon comes back later.
const MOST_COMMITS: usize = 8;
/// How often a busy tool is asked again, and how long the first pause is; each further one is twice as long.
const BUSY_TRIES: u32 = 6;
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// A refused object is tried again after this time even if nothing of it changed: what it lacked may be there now.
const REFUSAL_EXPIRES: Duration = Duration::from_secs(60);

/// Brings the kernel to what the files say, and remembers what it installed.
#[derive(Debug)]
pub struct Reconciler<K> {
    kernel: K,
    store: Store,
    scope: Scope,
    hooks: HookPlacement,
    /// Objects that a tool would not take, by what was refused.
    refused: BTreeMap<Object, Refusing>,
    /// Objects whose rules do not stay as written; each left alone for a while, until its rules change.
    stuck: BTreeMap<Object, Setback>,
    /// Guests that a libvirtd is writing.
    parking: Parking,
}

/// What is known about an object whose rules do not stay as written: they do not read back as we wrote them, or somebody removes them.
#[derive(Debug, Clone)]
struct Setback {
    rules: ObjectRules,
    stuck: Stuck,
    since: Instant,
    pause: Duration,
}

/// What is known about an object that a tool would not take.
#[derive(Debug, Clone)]
struct Refusing {
    level: desire::Refused,
    /// The fresh rules that were refused: other ones get a new chance.
    rules: Option<ObjectRules>,
    since: Instant,
    held: Held,
}

/// Why a pass could not be made or not be finished.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What is desired cannot be planned on this host.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The record or its locks.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// A tool failed for a reason that no object is to blame for.
    #[error("{refusal}{detail}\nwhat was committed before stays; nothing else was changed")]
    Tool {
        /// What it said.
        refusal: Refusal,
        /// The input line it named, if it named one.
        detail: String,
    },
}

/// What one round came to.
enum Round {
    /// The kernel holds what is desired.
    InSync,
    /// A plan was committed; the next round verifies it.
    Committed(Plan),
    /// A tool refused one of these objects' rules.
    Refused(Suspects),
    /// A tool was busy.
    Busy(Refusal),
    /// What is left to do does not stay done.
    GivenUp,
}

/// A pass in progress: what is known so far.
struct Pass<'a> {
    computed: &'a Computed,
    record: Record,
    /// Held aside while the culprit of a refusal is looked for.
    aside: BTreeSet<Object>,
    kept: BTreeMap<Object, Keeping>,
    report: Report,
    last: Option<Plan>,
    /// Who was refused last, and gets a second chance.
    doubted: Option<Vec<Object>>,
    /// How often in a row the same rules had to be written.
    same: u32,
    observed: Observed,
    desired: Desired,
}

impl<K: Kernel> Reconciler<K> {
    /// A reconciler with no memory of refusals.
    pub fn new(kernel: K, store: Store, scope: Scope, hooks: HookPlacement) -> Self {
        Self { kernel, store, scope, hooks, refused: BTreeMap::new(), stuck: BTreeMap::new(), parking: Parking::default() }
    }

    /// Changes what is ours and where hooks stand, from the next pass on.
    pub fn choose(&mut self, scope: Scope, hooks: HookPlacement) {
        self.scope = scope;
        self.hooks = hooks;
    }

    /// The record's directory.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes the record's directory anew if it was removed; true when it was.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn reopen_store(&mut self) -> Result<bool, StoreFailure> {
        self.store.reopen_if_removed()
    }

    /// What a pass would do now, without doing it.
    ///
    /// # Errors
    /// When the record or a needed family cannot be read.
    pub async fn preview(&mut self, computed: &Computed) -> Result<(Plan, Observed, Report), Failure> {
        let mut pass = self.begin(computed)?;
        let plan = self.plan(&mut pass).await?;
        self.settle_report(&mut pass);
        Ok((plan, pass.observed, pass.report))
    }

    /// One pass: afterwards the kernel holds what `computed` says, as far as its tools take it.
    ///
    /// # Errors
    /// When the host, and no object of the state, is at fault.
    pub async fn pass(&mut self, computed: &Computed) -> Result<Report, Failure> {
        let _lock = tokio::task::block_in_place(|| self.store.lock(LOCK_WAIT))?;
        self.forgive(computed);
        let pass = self.begin(computed)?;
        Ok(self.finish(pass).await?.0)
    }

    /// Removes everything that the record or `computed` names; says which base chains that we made are still in use by others.
    ///
    /// # Errors
    /// As [`Reconciler::pass`].
    pub async fn purge(&mut self, computed: &Computed) -> Result<(Report, BTreeSet<ChainId>), Failure> {
        let _lock = tokio::task::block_in_place(|| self.store.lock(LOCK_WAIT))?;
        self.refused.clear();
        self.stuck.clear();
        let nothing = Computed::default();
        let mut pass = self.begin(&nothing)?;
        for (object, rules) in &computed.compiled.objects {
            let known = || RecordedObject { rules: rules.clone(), source: None };
            pass.record.objects.entry(object.clone()).or_insert_with(known);
        }
        self.finish(pass).await
    }

    /// Runs rounds until nothing is left to do; the report, and the base chains of ours that stay.
    async fn finish(&mut self, mut pass: Pass<'_>) -> Result<(Report, BTreeSet<ChainId>), Failure> {
        let started = Instant::now();
        let mut busy = 0;
        let mut committed = 0;
        let mut suspects: Vec<Suspects> = Vec::new();
        let verified = loop {
            match self.round(&mut pass).await? {
                Round::InSync if suspects.is_empty() => break true,
                Round::GivenUp => break false,
                Round::Committed(plan) if suspects.is_empty() => {
                    committed += 1;
                    if committed == MOST_COMMITS {
                        pass.report.warnings.push(format!("the rules were changed by somebody else during each of {committed} commits"));
                        break false;
                    }
                    pass.last = Some(plan);
                }
                Round::InSync | Round::Committed(_) => pass.aside = isolate::clear(&mut suspects),
                // Somebody else may have written in between: only what is refused twice in a row is to blame.
                Round::Refused(found) if suspects.is_empty() && pass.doubted.as_ref() != Some(&found.objects) => {
                    pass.doubted = Some(found.objects);
                }
                Round::Refused(found) => match isolate::narrow(&mut suspects, found) {
                    isolate::Verdict::Guilty(found) => {
                        self.refuse(&pass, found)?;
                        pass.aside = isolate::aside(&suspects);
                    }
                    isolate::Verdict::Unclear => pass.aside = isolate::aside(&suspects),
                },
                Round::Busy(refusal) => {
                    busy += 1;
                    if busy == BUSY_TRIES {
                        return Err(Failure::Tool { refusal, detail: String::new() });
                    }
                    tokio::time::sleep(BUSY_PAUSE * 2_u32.pow(busy - 1)).await;
                }
            }
        };
        if verified {
            // Otherwise the record keeps claiming both what was there and what was meant to be.
            self.remember(&mut pass)?;
        }
        self.settle_report(&mut pass);
        pass.report.took = started.elapsed();
        Ok((pass.report, pass.record.made))
    }

    fn begin<'a>(&self, computed: &'a Computed) -> Result<Pass<'a>, Failure> {
        let mut report = Report::default();
        let record = match self.store.load()? {
            Stored::Found(record) => record,
            Stored::Absent | Stored::OtherBoot => Record::default(),
            Stored::Corrupt { reason, moved_to } => {
                report.warnings.push(format!(
                    "the record of installed rules is corrupt ({reason}) and was moved to {}; what the state names is adopted, the rest left alone",
                    moved_to.display()
                ));
                Record::default()
            }
        };
        Ok(Pass {
            computed,
            record,
            aside: BTreeSet::new(),
            kept: BTreeMap::new(),
            report,
            last: None,
            doubted: None,
            same: 1,
            observed: Observed::default(),
            desired: Desired::default(),
        })
    }

    /// Observes and plans; `pass` knows afterwards what was desired and observed.
    async fn plan(&mut self, pass: &mut Pass<'_>) -> Result<Plan, Failure> {
        pass.observed = self.kernel.observe(&Family::ALL).await;
        pass.report.parked = self.parking.look(&pass.observed, Instant::now());
        let plan = self.replan(pass, false)?;
        let removes_base = plan.edits().any(|(_, _, edit)| edit.object.is_none() && matches!(edit.change, Change::DeleteChain(_)));
        if removes_base && namespace::libvirt_daemon().is_some() {
            return self.replan(pass, true);
        }
        Ok(plan)
    }

    fn replan(&self, pass: &mut Pass<'_>, libvirtd: bool) -> Result<Plan, Failure> {
        let installed = installed(&pass.record);
        let refused = self.refused.iter().map(|(object, refusing)| (object.clone(), refusing.level)).collect();
        let choices = Choices { scope: self.scope, hooks: self.hooks, libvirtd };
        let computed = pass.computed;
        let (mut desired, kept) = desire::desire(&computed.resolved, &computed.compiled, &refused, &installed, &pass.observed, choices);
        let resting = self.stuck.iter().filter(|(_, setback)| setback.rests()).map(|(object, _)| object);
        for object in resting.chain(&pass.aside) {
            set_aside(object, &pass.record, &mut desired);
        }
        desired.frozen.extend(pass.report.parked.iter().cloned());
        pass.kept = kept;
        let plan = plan::plan(&desired, &pass.observed)?;
        pass.desired = desired;
        pass.report.remarks = plan.remarks.iter().cloned().collect();
        Ok(plan)
    }

    async fn round(&mut self, pass: &mut Pass<'_>) -> Result<Round, Failure> {
        let mut plan = self.plan(pass).await?;
        if plan.is_empty() {
            return Ok(Round::InSync);
        }
        let again = pass.last.as_ref().and_then(|last| repeated(last, &plan));
        pass.same = if again.is_some() { pass.same + 1 } else { 1 };
        if let Some(culprits) = again.filter(|_| pass.same == SAME_COMMITS) {
            pass.last = None;
            if !self.give_up(culprits, pass) {
                return Ok(Round::GivenUp);
            }
            plan = self.plan(pass).await?;
            if plan.is_empty() {
                return Ok(Round::InSync);
            }
        }
        self.intend(pass, &plan)?;
        for phase in &plan.phases {
            if let Some(outcome) = self.commit(phase).await? {
                return Ok(outcome);
            }
            pass.report.count(phase);
        }
        crash_if_asked();
        Ok(Round::Committed(plan))
    }

    /// Commits the families of one phase at the same time; `None` when all went in.
    async fn commit(&self, phase: &Phase) -> Result<Option<Round>, Failure> {
        let scripts: Vec<(Family, Script)> =
            phase.families.iter().map(|(family, tables)| (*family, script::script(*family, tables))).collect();
        let outcomes = join_all(scripts.iter().map(|(family, script)| self.kernel.commit(*family, script))).await;
        let mut found = None;
        for ((family, script), outcome) in scripts.iter().zip(outcomes) {
            let Err(refusal) = outcome else { continue };
            match refusal.kind {
                RefusalKind::Busy => found = found.or(Some(Round::Busy(refusal))),
                RefusalKind::Environment => return Err(Failure::Tool { refusal, detail: String::new() }),
                RefusalKind::Input(line) => found = Some(Round::Refused(suspects(phase, *family, script, line, refusal)?)),
            }
        }
        Ok(found)
    }

    /// Writes down what is about to be installed, before it is.
    fn intend(&self, pass: &mut Pass<'_>, plan: &Plan) -> Result<(), Failure> {
        let touched: BTreeSet<&Object> = plan.edits().filter_map(|(_, _, edit)| edit.object.as_ref()).collect();
        let objects = touched
            .into_iter()
            .filter_map(|object| Some((object.clone(), recorded(object, pass.desired.objects.get(object)?, pass.computed, &pass.record))))
            .collect();
        pass.record.intend(Intent { made: new_base_chains(plan), objects });
        self.store.save(&pass.record)?;
        Ok(())
    }

    /// Writes down what is installed, after it was seen to be.
    fn remember(&mut self, pass: &mut Pass<'_>) -> Result<(), Failure> {
        let mut objects: BTreeMap<Object, RecordedObject> = BTreeMap::new();
        for (object, rules) in &pass.desired.objects {
            objects.insert(object.clone(), recorded(object, rules, pass.computed, &pass.record));
        }
        // Whoever was tried again and is in place has got over it.
        self.stuck.retain(|_, setback| setback.rests());
        for object in self.stuck.keys() {
            if let Some(known) = pass.record.last_good(object) {
                objects.insert(object.clone(), known.clone());
            }
        }
        let made = pass.record.made().into_iter().filter(|chain| exists(&pass.observed, chain)).collect();
        pass.record = Record { made, objects, intent: None };
        self.store.save(&pass.record)?;
        Ok(())
    }

    /// Gives refused and stuck objects another chance where their rules changed or time has passed.
    fn forgive(&mut self, computed: &Computed) {
        let fresh = &computed.compiled.objects;
        self.refused.retain(|object, refusing| fresh.get(object) == refusing.rules.as_ref() && refusing.since.elapsed() < REFUSAL_EXPIRES);
        self.stuck.retain(|object, setback| fresh.get(object) == Some(&setback.rules));
    }

    /// Sets aside for good an object that a tool will not take.
    fn refuse(&mut self, pass: &Pass<'_>, found: Suspects) -> Result<(), Failure> {
        let Suspects { objects, refusal, line, place } = found;
        let Some(object) = objects.into_iter().next() else { return Err(Failure::Tool { refusal, detail: line }) };
        let fresh = pass.computed.compiled.objects.get(&object);
        let refused_last_good = pass.kept.get(&object) == Some(&Keeping::LastGood)
            || (fresh.is_some() && pass.record.last_good(&object).map(|known| &known.rules.chains) == fresh.map(|rules| &rules.chains));
        if pass.kept.get(&object) == Some(&Keeping::Closed) {
            return Err(Failure::Tool { refusal, detail: line });
        }
        let level = if refused_last_good { desire::Refused::LastGood } else { desire::Refused::Fresh };
        let place = place.map(|span| pass.computed.sources.position(span));
        let message = format!("{} refuses a rule of it: {}{line}", refusal.command, refusal.words);
        let held = Held { object: object.clone(), keeping: Keeping::Closed, code: "tool-refused".into(), message, place };
        tracing::warn!(object = %object, words = %refusal.words, "a tool refuses the rules of this object; it is set aside");
        // The first refusal names the fresh rule at fault; a later one of older rules must not hide it.
        let held = self.refused.remove(&object).map_or(held, |before| before.held);
        self.refused.insert(object, Refusing { level, rules: fresh.cloned(), since: Instant::now(), held });
        Ok(())
    }

    /// Leaves alone what was written and is not there: it would be written for ever. False when that is not one object's, so that
    /// nothing can be left out.
    fn give_up(&mut self, culprits: BTreeMap<Option<Object>, Stuck>, pass: &mut Pass<'_>) -> bool {
        let mut all_belong = true;
        for (object, stuck) in culprits {
            tracing::error!(rule = %stuck.rule, chain = %stuck.chain, "a rule does not stay as written; it is left alone for a while");
            if let Some(object) = object {
                let rules = pass.computed.compiled.objects.get(&object).cloned().unwrap_or_default();
                let pause = self.stuck.get(&object).map_or(SETBACK_PAUSES.0, |before| SETBACK_PAUSES.1.min(before.pause * 2));
                self.stuck.insert(object, Setback { rules, stuck, since: Instant::now(), pause });
            } else {
                all_belong = false;
                pass.report.stuck.push(stuck);
            }
        }
        all_belong
    }

    fn settle_report(&self, pass: &mut Pass<'_>) {
        pass.report.hold_faults(pass.computed, &pass.kept);
        hold_absent(pass);
        for refusing in self.refused.values() {
            let keeping = pass.kept.get(&refusing.held.object).copied().unwrap_or(refusing.held.keeping);
            pass.report.hold(Held { keeping, ..refusing.held.clone() });
        }
        pass.report.stuck.extend(self.stuck.values().map(|setback| setback.stuck.clone()));
        pass.report.objects = pass.computed.compiled.objects.len();
    }
}

impl Setback {
    fn rests(&self) -> bool {
        self.since.elapsed() < self.pause
    }
}

/// Reports what stays only because a broken file may define it.
fn hold_absent(pass: &mut Pass<'_>) {
    let computed = pass.computed;
    let broken: Vec<Position> = computed.broken.iter().map(|span| computed.sources.position(*span)).collect();
    let absent = pass.desired.objects.keys().filter(|object| !computed.compiled.objects.contains_key(*object));
    for object in absent.filter(|object| !pass.kept.contains_key(*object)) {
        let source = pass.record.last_good(object).and_then(|known| known.source.as_deref()).unwrap_or_default();
        let own = broken.iter().find(|place| source.strip_prefix(&*place.path).is_some_and(|rest| rest.starts_with(':')));
        let message = match own {
            Some(_) => "the file that defined it is broken".to_owned(),
            None => "no file defines it, but nothing is deleted while a file is broken".to_owned(),
        };
        let place = own.or(broken.first()).cloned();
        let held = Held { object: object.clone(), keeping: Keeping::LastGood, code: "kept-while-broken".into(), message, place };
        pass.report.hold(held);
    }
}

/// Everything that the record claims, as a value.
fn installed(record: &Record) -> Installed {
    let names: BTreeSet<&Object> = record.objects.keys().chain(record.intent.iter().flat_map(|intent| intent.objects.keys())).collect();
    let objects = names.into_iter().filter_map(|object| Some((object.clone(), record.last_good(object)?.rules.clone()))).collect();
    Installed { objects, keys: record.keys(), made: record.made() }
}

/// Takes an object out of a pass: what lives of it is left as it is.
fn set_aside(object: &Object, record: &Record, desired: &mut Desired) {
    let fresh = desired.objects.remove(object).map(|rules| rules.keys).unwrap_or_default();
    let known = record.last_good(object).map(|known| known.rules.keys.clone()).unwrap_or_default();
    desired.frozen.extend(fresh.into_iter().chain(known));
    if let Object::Interface(device) = object {
        desired.frozen.insert(Key::Guest(device.clone()));
    }
}

fn recorded(object: &Object, rules: &ObjectRules, computed: &Computed, record: &Record) -> RecordedObject {
    let fresh = computed.compiled.objects.get(object) == Some(rules);
    let place = || rules.chains.values().chain(rules.shared.values()).flatten().find_map(|placed| placed.place);
    let source = if fresh {
        place().map(|span| computed.sources.position(span).to_string())
    } else {
        record.last_good(object).and_then(|known| known.source.clone())
    };
    RecordedObject { rules: rules.clone(), source }
}

fn new_base_chains(plan: &Plan) -> BTreeSet<ChainId> {
    plan.edits()
        .filter(|(_, _, edit)| edit.object.is_none())
        .filter_map(|(family, table, edit)| match &edit.change {
            Change::NewChain(chain) => Some(ChainId { family, table, chain: chain.clone() }),
            _ => None,
        })
        .collect()
}

/// The edits of `now` that the plan before, committed since, had already made.
fn repeated(before: &Plan, now: &Plan) -> Option<BTreeMap<Option<Object>, Stuck>> {
    let made: Vec<_> = before.edits().map(|(family, table, edit)| (family, table, &edit.change)).collect();
    let again: BTreeMap<Option<Object>, Stuck> = now
        .edits()
        .filter(|(_, _, edit)| matches!(edit.change, Change::Insert { .. } | Change::NewChain(_)))
        .filter(|(family, table, edit)| made.contains(&(*family, *table, &edit.change)))
        .map(|(family, table, edit)| (edit.object.clone(), report::stuck(family, table, edit)))
        .collect();
    (!again.is_empty()).then_some(again)
}

fn exists(observed: &Observed, id: &ChainId) -> bool {
    match observed.families.get(&id.family) {
        Some(Observation::Read(tables)) => tables.get(&id.table).is_some_and(|table| table.chains.contains_key(&id.chain)),
        // What cannot be read may still be there.
        _ => true,
    }
}

/// Who may be to blame for a refusal: the object of the line that the tool named, else everyone in the restore.
fn suspects(phase: &Phase, family: Family, script: &Script, line: Option<usize>, refusal: Refusal) -> Result<Suspects, Failure> {
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

/// A hook for the crash tests of debug builds: dies between a commit and its record.
fn crash_if_asked() {
    #[cfg(debug_assertions)]
    if std::env::var_os("BRIDGEWARD_TEST_KILL").is_some_and(|when| when == "after-commit") {
        std::process::abort();
    }
}
