//! One pass: `load -> parse -> resolve -> compile -> observe -> plan -> commit -> observe -> verify`, and what to do when a step fails.
//!
//! All policy of retrying and giving up is in this folder: [`Reconciler::pass`] runs rounds until a plan comes out empty.
//! A busy tool is asked again, an object that a tool refuses is set aside ([`isolate`], [`refusing`]), a rule that does not stay is named and left alone for a
//! while ([`setback`]), and a guest that a libvirtd is writing waits for the next pass ([`park`]), a pass for a firewalld or a libvirtd that is at work ([`courtesy`]). What was read last is not read again while nobody wrote ([`knowledge`]). What a commit is about to do is written to the record first, so that a kill at any moment leaves no orphan.
//! Rules may be on [`trial`], and a pass may be made without writing anything, or be the one that a plan on paper describes ([`look`]).

mod beat;
pub mod cache;
pub mod compute;
mod courtesy;
pub mod isolate;
mod knowledge;
pub mod look;
mod memory;
pub mod park;
mod prerequisite;
mod refusing;
pub mod report;
mod setback;
pub mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::backend::{Kernel, Refusal, RefusalKind, namespace};
use crate::compile::{Key, ObjectRules};
use crate::model::Object;
use crate::plan::desire::{self, Choices, Keeping};
use crate::plan::direct::{self, Possession};
use crate::plan::prerequisite::Switches;
use crate::plan::script::{self, Script};
use crate::plan::{self, Change, Desired, HookPlacement, Phase, Plan, PlanError, Scope};
use crate::ruleset::{ChainId, Family, Observation, Observed};
use crate::store::{Record, RecordedObject, Store, StoreFailure, Stored, WriteLock};
use compute::Computed;
use courtesy::Courtesy;
use isolate::{Complaint, Guilty, Hunt, Suspects};
use knowledge::{Knowledge, Known, Look};
use park::Parking;
use prerequisite::Mending;
use refusing::Refusing;
use report::{Held, Report, Stuck};
use setback::{Commit, Setback};
use trial::Guard;

/// How long a pass waits for another bridgeward to finish writing.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// So many refusals in a row that each fell together with somebody else's writing are too many.
const MOST_CHANCES: u32 = 32;
/// A rule that is gone right after so many commits of it does not stay.
const SAME_COMMITS: u32 = 3;
/// After so many commits in one pass that were each followed by another difference, the pass ends: the daemon comes back later.
const MOST_COMMITS: usize = 8;
/// How often a busy tool is asked again, and how long the first pause is; each further one is twice as long.
const BUSY_TRIES: u32 = 6;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

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
    /// Whom a pass waits for.
    courtesy: Courtesy,
    /// The rules as they were read last.
    knowledge: Knowledge,
    /// Called after every step that can take long, and during it, for a watchdog.
    beat: fn(),
    /// How to start somebody who takes rules on trial back if we cannot.
    guard: Option<Guard>,
    /// Whether switches of the kernel that rules need are set, or only told of.
    manage_sysctls: bool,
    /// Those that were looked at last, and their values.
    switches: Option<(BTreeSet<String>, Switches)>,
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
    /// A plan on paper that may not be carried out any more.
    #[error("the plan is refused, nothing was changed; since it was made:\n  {}\nhelp: look at a new one with `bridgeward diff`", .0.join("\n  "))]
    Moved(Vec<String>),
    /// Somebody tries rules out.
    #[error("rules are on trial for another {}; `bridgeward confirm` keeps them, else the earlier ones come back", trial::seconds(*.0))]
    OnTrial(Duration),
    /// Nobody could be found to take rules back if we die.
    #[error("cannot start the process that takes the rules back if nobody confirms: {0}; nothing was changed")]
    Unguarded(std::io::Error),
}

impl From<Complaint> for Failure {
    fn from(complaint: Complaint) -> Self {
        Self::Tool { refusal: complaint.refusal, detail: complaint.line }
    }
}

/// What one round came to.
enum Round {
    /// The kernel holds what is desired.
    InSync,
    /// A plan was committed; the next round verifies it.
    Committed(Plan),
    /// A tool refused one of these objects' rules.
    Refused(Box<Suspects>),
    /// A tool refused something; the next round looks whether somebody else's writing is the reason.
    Doubted,
    /// Somebody wrote since the rules were read that the plan was made from, or is about to; the next round reads them.
    Overtaken,
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
    last: Option<Commit>,
    /// Whether the rules have to be read before the next plan.
    look: Look,
    /// Whether the last plan was made from rules that were read for it.
    read: bool,
    /// Who was refused last, and what the plan was made from, unless somebody committed since: then the refusal proves nothing.
    doubted: Option<(Box<Suspects>, Option<Observed>)>,
    /// How often that came to nothing.
    chances: u32,
    /// How often in a row the same rules had to be written.
    same: u32,
    seen: Known,
    desired: Desired,
    /// What is ours in built-in chains now, and after the plan.
    prospect: BTreeMap<ChainId, Possession>,
    /// How long the rules are to be on trial, until the trial has begun.
    within: Option<Duration>,
}

impl<K: Kernel> Reconciler<K> {
    /// A reconciler with no memory of refusals.
    pub fn new(kernel: K, store: Store, scope: Scope, hooks: HookPlacement) -> Self {
        let parking = Parking::default();
        Self {
            kernel,
            store,
            scope,
            hooks,
            refused: BTreeMap::new(),
            stuck: BTreeMap::new(),
            parking,
            courtesy: Courtesy::default(),
            knowledge: Knowledge::default(),
            beat: || (),
            guard: None,
            manage_sysctls: false,
            switches: None,
        }
    }

    /// Changes what is ours and where hooks stand, from the next pass on.
    pub fn choose(&mut self, scope: Scope, hooks: HookPlacement) {
        self.scope = scope;
        self.hooks = hooks;
    }

    /// Has `beat` called after every step of a pass that can take long, and again and again while a tool runs: it goes on, however long it is.
    pub fn beat_with(&mut self, beat: fn()) {
        self.beat = beat;
    }

    /// The generation of the kernel's rules now, where the kernel has one; see [`Kernel::generation`].
    pub fn generation(&self) -> Option<u32> {
        self.kernel.generation()
    }

    /// Has the next pass read the kernel's rules, whatever the generation says.
    pub fn look_anew(&mut self) {
        self.knowledge.forget();
    }

    /// Takes in that somebody else's program of this name wrote rules: what it is part of may have to be waited for.
    pub fn hear(&mut self, command: &str) {
        self.courtesy.hear(command);
    }

    /// Has the next pass wait for others until this moment and no longer: what it repairs has waited already.
    pub fn wait_until(&mut self, limit: Instant) {
        self.courtesy.wait_until(limit);
    }

    /// The process ids of our tools that committed since the last call; see [`Kernel::writers`].
    pub fn writers(&self) -> BTreeSet<u32> {
        self.kernel.writers()
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

    /// Brings the kernel to `computed`, whatever is on trial. Call it with the lock held.
    async fn enforce(&mut self, computed: &Computed, look: Look, within: Option<Duration>) -> Result<Report, Failure> {
        self.forgive(computed);
        let mut pass = Self::begin(computed, self.store.load_beside(&computed.compiled.objects)?);
        pass.look = look;
        pass.within = within;
        self.finish(&mut pass).await?;
        self.knowledge.keep(pass.seen, &pass.desired, &pass.report);
        Ok(pass.report)
    }

    /// Removes everything that the record or `computed` names; says which base chains that we made are still in use by others.
    ///
    /// # Errors
    /// As [`Reconciler::pass`].
    pub async fn purge(&mut self, computed: &Computed) -> Result<(Report, BTreeSet<ChainId>), Failure> {
        let _lock = self.lock()?;
        // Else somebody would bring back what is removed here.
        self.store.end_trial()?;
        self.refused.clear();
        self.stuck.clear();
        let nothing = Computed::default();
        let mut pass = Self::begin(&nothing, self.store.load()?);
        for (object, rules) in &computed.compiled.objects {
            // Not its rules straight in built-in chains: those are ours only where the record says so.
            let known = || {
                let rules = ObjectRules { direct: BTreeMap::new(), ..ObjectRules::clone(rules) };
                RecordedObject { rules: Arc::new(rules), source: None }
            };
            pass.record.objects.entry(object.clone()).or_insert_with(known);
        }
        // Nothing is desired, so a plan would do without what cannot be read; but "gone" has to be seen.
        pass.seen.observed = self.kernel.observe(&Family::ALL).await;
        for family in pass.record.objects.values().flat_map(|known| known.rules.families()) {
            if let Some(Observation::Unreadable(reason)) = pass.seen.observed.families.get(&family) {
                return Err(PlanError::Unreadable { family, reason: reason.clone() }.into());
            }
        }
        self.finish(&mut pass).await?;
        pass.report.remarks.extend(direct::look_alikes(&computed.compiled.objects, &pass.seen.observed));
        Ok((pass.report, pass.record.made))
    }

    /// Runs rounds until nothing is left to do.
    async fn finish(&mut self, pass: &mut Pass<'_>) -> Result<(), Failure> {
        let started = Instant::now();
        self.courtesy.begin();
        let mut busy = 0;
        let mut committed = 0;
        let mut hunt = Hunt::default();
        let verified = loop {
            match self.round(pass).await? {
                Round::InSync if hunt.is_over() => break true,
                Round::GivenUp => break false,
                Round::Committed(plan) if hunt.is_over() => {
                    committed += 1;
                    if committed == MOST_COMMITS {
                        pass.report.warnings.push(format!("{committed} commits were each followed by another difference: somebody else changes the rules all the time, or a tool does not do what it says"));
                        break false;
                    }
                    pass.last = Some(Commit::new(&plan, &pass.seen.observed));
                }
                Round::InSync | Round::Committed(_) => {
                    hunt.went_in();
                    pass.aside = hunt.aside();
                }
                Round::Refused(found) => {
                    if let Some(guilty) = hunt.refused(*found) {
                        self.refuse(pass, guilty)?;
                    }
                    pass.aside = hunt.aside();
                }
                Round::Doubted | Round::Overtaken => {}
                Round::Busy(refusal) => {
                    busy += 1;
                    if busy == BUSY_TRIES {
                        return Err(Failure::Tool { refusal, detail: String::new() });
                    }
                    tokio::time::sleep(BUSY_PAUSE * 2_u32.pow(busy - 1)).await;
                }
            }
        };
        pass.report.verified = verified;
        if verified {
            self.remember(pass)?;
        } else {
            // The record keeps claiming both what was there and what was meant to be.
            pass.report.generation = None;
        }
        self.settle_report(pass);
        self.look_at_host(pass, Mending::Allowed).await;
        pass.report.took = started.elapsed();
        Ok(())
    }

    fn lock(&self) -> Result<WriteLock, StoreFailure> {
        let lock = tokio::task::block_in_place(|| self.store.lock(LOCK_WAIT));
        (self.beat)();
        lock
    }

    fn begin(computed: &Computed, stored: Stored) -> Pass<'_> {
        let mut report = Report::default();
        let record = match stored {
            Stored::Found(record) => record,
            Stored::Absent | Stored::OtherBoot => Record::default(),
            Stored::Corrupt { reason, at } => {
                report.warnings.push(format!(
                    "the record of installed rules is corrupt ({reason}) and lies at {}; what the state names is adopted, the rest left alone",
                    at.display()
                ));
                Record::default()
            }
        };
        Pass {
            computed,
            record,
            aside: BTreeSet::new(),
            kept: BTreeMap::new(),
            report,
            last: None,
            look: Look::Always,
            read: false,
            doubted: None,
            chances: 0,
            same: 1,
            seen: Known::default(),
            desired: Desired::default(),
            prospect: BTreeMap::new(),
            within: None,
        }
    }

    /// Observes and plans; `pass` knows afterwards what was desired and observed.
    async fn plan(&mut self, pass: &mut Pass<'_>) -> Result<Plan, Failure> {
        // Asked before looking: whoever writes in between moves it, and that is noticed.
        pass.report.generation = self.kernel.generation();
        let known = self.knowledge.take(pass.report.generation, pass.look);
        pass.read = known.as_ref().is_none_or(|known| known.ahead);
        // What was read before takes as much memory as what is read now.
        pass.seen = Known::default();
        pass.seen = match known {
            Some(known) => known,
            None => Known { observed: beat::while_waiting(self.beat, self.kernel.observe(&Family::ALL)).await, ..Known::default() },
        };
        pass.report.parked = self.parking.look(&pass.seen.observed, Instant::now());
        let plan = self.replan(pass, false)?;
        let removes_base = plan.edits().any(|(_, _, edit)| edit.object.is_none() && matches!(edit.change, Change::DeleteChain(_)));
        let plan = if removes_base && namespace::libvirt_daemon().is_some() { self.replan(pass, true)? } else { plan };
        pass.prospect = direct::prospect(&pass.desired, &pass.seen.observed);
        // What was not known for certain after a failed commit, or a crash, has just been seen.
        memory::possess(&mut pass.record, &pass.seen.observed, &pass.prospect, Possession::abandoned);
        Ok(plan)
    }

    fn replan(&self, pass: &mut Pass<'_>, libvirtd: bool) -> Result<Plan, Failure> {
        let installed = memory::installed(&pass.record);
        let resting = self.refused.iter().filter(|(_, refusing)| refusing.rests);
        let refused = resting.map(|(object, refusing)| (object.clone(), refusing.level)).collect();
        let choices = Choices { scope: self.scope, hooks: self.hooks, libvirtd };
        let computed = pass.computed;
        // What lives of an object that is held, or gone, is asked for; what a sound one has is not.
        pass.seen.unsettle(&computed.compiled.objects);
        let (mut desired, kept) =
            desire::desire(&computed.resolved, &computed.compiled, &refused, &installed, &pass.seen.observed, choices);
        let resting = self.stuck.iter().filter(|(_, setback)| setback.rests()).map(|(object, _)| object);
        for object in resting.chain(&pass.aside) {
            set_aside(object, &pass.record, &mut desired);
        }
        desired.frozen.extend(pass.report.parked.iter().cloned());
        desired.displaced = pass.last.as_ref().map(|last| last.placement.displaced(&pass.seen.observed)).unwrap_or_default();
        desired.leftovers = self.parking.leftovers(Instant::now());
        pass.kept = kept;
        pass.seen.unsettle(&desired.objects);
        desired.settled = pass.seen.settled.keys().cloned().collect();
        let plan = plan::plan(&desired, &pass.seen.observed)?;
        pass.desired = desired;
        pass.report.remarks = plan.remarks.iter().cloned().collect();
        Ok(plan)
    }

    async fn round(&mut self, pass: &mut Pass<'_>) -> Result<Round, Failure> {
        self.courtesy.give_way().await;
        let mut plan = self.plan(pass).await?;
        if let Some((suspects, before)) = pass.doubted.take() {
            if before.is_some_and(|before| before == pass.seen.observed) {
                pass.chances = 0;
                return Ok(Round::Refused(suspects));
            }
            // Somebody else wrote in between, or a part of the commit went in: the refusal proves nothing.
            pass.chances += 1;
            if pass.chances == MOST_CHANCES {
                return Err(suspects.complaint.into());
            }
        }
        if plan.is_empty() {
            return Ok(Round::InSync);
        }
        let again = pass.last.as_ref().and_then(|last| last.repeated(&plan, &pass.seen.observed));
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
        self.begin_trial(pass).await?;
        self.intend(pass, &plan)?;
        if self.courtesy.must_wait() || !pass.read && self.kernel.generation() != pass.report.generation {
            return Ok(Round::Overtaken);
        }
        self.courtesy.apologize();
        for phase in &plan.phases {
            let generation = self.kernel.generation();
            match self.commit(phase, &mut pass.report).await? {
                Some(Round::Refused(suspects)) => {
                    // Where nothing was read there is nothing to compare with: the plan is made, and tried, once more. So it is where somebody committed meanwhile, be it to
                    // a table of his own: ebtables fails for that alone.
                    let untouched = self.kernel.generation() == generation;
                    let before = std::mem::take(&mut pass.seen.observed);
                    pass.doubted = pass.read.then(|| (suspects, untouched.then_some(before)));
                    return Ok(Round::Doubted);
                }
                Some(outcome) => return Ok(outcome),
                None => {}
            }
            pass.report.count(phase);
        }
        crash_if_asked();
        memory::possess(&mut pass.record, &pass.seen.observed, &pass.prospect, Possession::committed);
        Ok(Round::Committed(plan))
    }

    /// Commits the families of one phase at the same time; `None` when all went in.
    async fn commit(&self, phase: &Phase, report: &mut Report) -> Result<Option<Round>, Failure> {
        let scripts: Vec<(Family, Script)> =
            phase.families.iter().map(|(family, tables)| (*family, script::script(*family, tables))).collect();
        let commits = join_all(scripts.iter().map(|(family, script)| self.kernel.commit(*family, script)));
        let outcomes = beat::while_waiting(self.beat, commits).await;
        let mut found = None;
        for ((family, script), outcome) in scripts.iter().zip(outcomes) {
            let Err(refusal) = outcome else { continue };
            *report.tool_errors.entry((refusal.tool().to_owned(), refusal.kind.word())).or_default() += 1;
            match refusal.kind {
                RefusalKind::Busy => found = found.or(Some(Round::Busy(refusal))),
                RefusalKind::Environment => return Err(Failure::Tool { refusal, detail: String::new() }),
                RefusalKind::Input(line) => {
                    let suspects = isolate::suspects(phase, *family, script, line, refusal)?;
                    found = Some(Round::Refused(Box::new(suspects)));
                }
            }
        }
        Ok(found)
    }

    /// Writes down what is about to be installed, before it is.
    fn intend(&self, pass: &mut Pass<'_>, plan: &Plan) -> Result<(), Failure> {
        let intent = memory::intent(plan, &pass.desired, pass.computed, &pass.record);
        pass.record.intend(intent);
        memory::possess(&mut pass.record, &pass.seen.observed, &pass.prospect, std::convert::identity);
        self.store.save(&pass.record)?;
        Ok(())
    }

    /// Writes down what is installed, after it was seen to be.
    fn remember(&mut self, pass: &mut Pass<'_>) -> Result<(), Failure> {
        // Whoever was tried again and is in place has got over it.
        self.stuck.retain(|_, setback| setback.rests());
        self.refused.retain(|_, refusing| refusing.rests);
        pass.record = memory::verified(&pass.record, &pass.desired, &pass.seen.observed, pass.computed, self.stuck.keys());
        self.store.save(&pass.record)?;
        Ok(())
    }

    /// Gives refused and stuck objects another chance where their rules changed or time has passed.
    fn forgive(&mut self, computed: &Computed) {
        let fresh = &computed.compiled.objects;
        self.refused.retain(|object, refusing| refusing.counts(fresh.get(object)));
        self.stuck.retain(|object, setback| fresh.get(object) == Some(&setback.rules));
    }

    /// Sets aside for good objects that a tool will not take.
    fn refuse(&mut self, pass: &Pass<'_>, guilty: Guilty) -> Result<(), Failure> {
        let Guilty { objects, complaint } = guilty;
        let [first, others @ ..] = &objects[..] else { return Err(complaint.into()) };
        let shared = if others.is_empty() { String::new() } else { format!(", and of {} more that share the filter", others.len()) };
        tracing::warn!(object = %first, words = %complaint.refusal.words, "a tool refuses the rules of this object{shared}; set aside");
        let place = complaint.place.map(|span| pass.computed.sources.position(span));
        for object in &objects {
            let fresh = pass.computed.compiled.objects.get(object);
            let refused_last_good = pass.kept.get(object) == Some(&Keeping::LastGood)
                || fresh.zip(pass.record.last_good(object)).is_some_and(|(fresh, known)| fresh.says_the_same(&known.rules));
            if pass.kept.get(object) == Some(&Keeping::Closed) {
                return Err(complaint.into());
            }
            let level = if refused_last_good { desire::Refused::LastGood } else { desire::Refused::Fresh };
            let whose = if object == first { "it".to_owned() } else { format!("{first}, whose filter this one shares") };
            let Complaint { refusal, line, .. } = &complaint;
            let message = format!("{} refuses a rule of {whose}: {}{line}", refusal.command, refusal.words);
            let held =
                Held { object: object.clone(), keeping: Keeping::Closed, code: "tool-refused".into(), message, place: place.clone() };
            let before = self.refused.remove(object);
            self.refused.insert(object.clone(), Refusing::new(level, fresh.cloned(), held, before));
        }
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
                let setback = Setback::new(rules, stuck, self.stuck.get(&object));
                self.stuck.insert(object, setback);
            } else {
                all_belong = false;
                pass.report.stuck.push(stuck);
            }
        }
        all_belong
    }

    fn settle_report(&self, pass: &mut Pass<'_>) {
        pass.report.hold_faults(pass.computed, &pass.kept);
        pass.report.hold_absent(pass.desired.objects.keys(), pass.computed, &pass.kept, &pass.record);
        pass.report.hold(self.refused.values().filter(|refusing| refusing.rests).map(|refusing| {
            let keeping = pass.kept.get(&refusing.held.object).copied().unwrap_or(refusing.held.keeping);
            Held { keeping, ..refusing.held.clone() }
        }));
        pass.report.stuck.extend(self.stuck.values().map(|setback| setback.stuck.clone()));
        pass.report.objects = pass.computed.compiled.objects.len();
    }
}

/// Takes an object out of a pass: what lives of it is left as it is.
fn set_aside(object: &Object, record: &Record, desired: &mut Desired) {
    let fresh = desired.objects.remove(object);
    let intended = record.intent.iter().filter_map(|intent| intent.objects.get(object));
    let known = record.objects.get(object).into_iter().chain(intended).map(|known| &known.rules);
    for rules in fresh.iter().chain(known) {
        desired.frozen.extend(rules.keys.iter().cloned());
        desired.leave(rules);
    }
    if let Object::Interface(device) = object {
        desired.frozen.insert(Key::Guest(device.clone()));
    }
}

/// A hook for the crash tests of debug builds: dies between a commit and its record.
fn crash_if_asked() {
    #[cfg(debug_assertions)]
    if std::env::var_os("BRIDGEWARD_TEST_KILL").is_some_and(|when| when == "after-commit") {
        std::process::abort();
    }
}
