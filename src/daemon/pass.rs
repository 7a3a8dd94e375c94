//! One pass of the daemon: files read, rules brought to them, and what that came to remembered and told.
//!
//! A state that cannot be read leaves the last one in force, and drift is repaired to that.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Daemon;
use super::control::{self, Answer, Ask, Question};
use super::drift::LIBVIRT_LIMIT;
use super::history::Ended;
use super::journal::Cause;
use super::mode::{self, Task};
use super::status::{Moment, Prerequisite};
use crate::addr::DeviceName;
use crate::backend::{Kernel, links};
use crate::config::name::{LayoutName, QuirksName};
use crate::load::{self, LoadFailure, Loaded};
use crate::monitor::links::LinkMonitor;
use crate::plan::TEMPORARY_CHAIN;
use crate::reconcile::report::Report;
use crate::resolve::Link;

impl<K: Kernel> Daemon<K> {
    /// Looks at files and rules, unless neither can have changed.
    pub(super) async fn poll(&mut self) {
        // What is known to have changed has its time.
        let unmoved = (self.is_verified() && !self.look_again) || self.repair_due.is_some();
        let links = links::links().await.unwrap_or_default();
        let same_links = self.same_taps(&links);
        let same_host = !self.reconciler.host_moved();
        if unmoved && same_host && same_links && Instant::now() < self.look_by && self.same_files() {
            return;
        }
        self.pass(Cause::Poll).await;
    }

    /// Whether the files say what they said. They are not looked at where a change would have been heard.
    fn same_files(&mut self) -> bool {
        let audible = self.loaded.as_ref().is_some_and(|loaded| loaded.audible);
        if audible && self.watch.hears_everything() {
            return true;
        }
        let loaded = self.load().ok();
        let same = match (&loaded, &self.loaded) {
            (Some(now), Some(before)) => now.says_the_same(before),
            (now, before) => now.is_none() && before.is_none(),
        };
        if same {
            self.loaded = loaded;
        }
        same
    }

    /// Without a monitor, a tap is seen at the next poll.
    pub(super) async fn listen_to_links(&self) -> Option<LinkMonitor> {
        let monitor = LinkMonitor::new().await;
        monitor.inspect_err(|error| tracing::warn!(%error, every = ?self.orders.poll, "new taps are seen at the next look")).ok()
    }

    /// Devices came or went: those of guests that learn are listened to; and a pass, if an interface may be matched to one of them.
    pub(super) async fn meet(&mut self) {
        let whose = self.lessons.refresh().await;
        self.tighten(whose).await;
        let Some(monitor) = &self.link_monitor else { return };
        let links: Vec<Link> = monitor.links().values().cloned().collect();
        if !self.same_taps(&links) {
            self.pass(Cause::Links).await;
        }
    }

    /// Whether the devices that interfaces may be matched to are those of the last pass.
    fn same_taps(&self, links: &[Link]) -> bool {
        let taps = |links| {
            let mut taps = self.computed.resolved.candidates(links);
            taps.sort_by(|a, b| a.device.cmp(&b.device));
            taps
        };
        taps(links) == taps(&self.links)
    }

    /// Makes the rules of what was learned for these guests.
    pub(super) async fn tighten(&mut self, whose: BTreeSet<DeviceName>) {
        if whose.is_empty() {
            // Renewals and conflicts change no rule.
            self.tell_learned();
        } else {
            self.pass(Cause::Learned(whose)).await;
        }
    }

    fn tell_learned(&mut self) {
        let (learned, conflicts) = self.lessons.status();
        self.publisher.learned(learned, conflicts, self.lessons.listening());
    }

    /// Reads the state, does what the mode says and tells of it.
    pub(super) async fn pass(&mut self, cause: Cause) -> Answer {
        self.pass_for(cause, Task::Keep).await
    }

    /// Reads the state, does what is to be done and tells of it.
    pub(super) async fn pass_for(&mut self, cause: Cause, task: Task) -> Answer {
        // What has waited since it was heard does not wait as long again; what a fight put off has not waited for a libvirtd.
        let limit = self.heard.map(|heard| heard + LIBVIRT_LIMIT).filter(|limit| self.repair_due.is_some_and(|due| due <= *limit));
        let limit = limit.unwrap_or_else(|| Instant::now() + LIBVIRT_LIMIT);
        self.give_way(limit).await;
        self.reconciler.wait_until(limit.into_std());
        // Whatever the cause, everything is repaired.
        self.repair_due = None;
        let writers = std::mem::take(&mut self.writers);
        let heard = self.heard.take();
        let (begun, started) = (Moment::now(), Instant::now());
        let everything = self.reads_everything(&cause);
        if everything {
            // Neither the stamps of files are believed nor the generation of the rules.
            self.loaded = None;
            self.reconciler.look_anew();
        }
        let unreadable = self.read().await;
        self.lessons.attend(&self.computed.resolved, self.orders.quirks).await;
        self.tell_learned();
        let outcome = self.execute(task, unreadable.as_ref()).await;
        let culprits = self.culprits(writers, outcome.as_ref().ok());
        let cause = cause.by(culprits.clone());
        let objects = self.computed.fingerprint();
        let ended = Ended {
            cause: &cause,
            begun,
            took: started.elapsed(),
            heard: heard.map(|heard| heard.elapsed()),
            unreadable: unreadable.as_deref(),
            computed: &self.computed,
            same_state: self.objects == Some(objects),
            outcome: &outcome,
        };
        let drift = ended.drift().is_some();
        self.publisher.pass(&ended, &self.orders);
        if let Ok(report) = &outcome {
            self.publisher.prerequisites(report.prerequisites.iter().map(Prerequisite::from).collect());
        }
        self.systemd.pass(&ended);
        if outcome.as_ref().is_ok_and(|report| report.verified || report.only_seen) {
            self.objects = Some(objects);
        }
        let report = outcome.as_ref().ok();
        if let Some(report) = report.filter(|report| drift && !report.only_seen) {
            self.note_repair(&culprits, report);
        }
        // Temporary chains that nobody renames are leftovers in a while.
        let left = |report: &&Report| report.remarks.iter().any(|remark| remark.code == TEMPORARY_CHAIN);
        self.look_again = report.is_some_and(|report| !report.parked.is_empty() || left(&report));
        // What does not stay as written is tried again at the next poll.
        self.verified = report.filter(|report| report.stuck.is_empty()).and_then(|report| report.generation);
        if everything {
            self.look_by = Instant::now() + full_look();
        }
        Answer::new(unreadable, &self.computed, outcome)
    }

    /// Reads the state; where that fails, the last one stays and the reason is returned.
    async fn read(&mut self) -> Option<String> {
        self.links = links::links().await.unwrap_or_default();
        let reading = self.reading();
        let loaded = match self.load() {
            Ok(loaded) => loaded,
            Err(failure) => {
                self.loaded = None;
                return Some(failure.to_string());
            }
        };
        let learned = self.lessons.learned();
        self.computed = tokio::task::block_in_place(|| self.cache.compute(&loaded, &self.links, &learned, reading));
        self.loaded = Some(loaded);
        None
    }

    /// Reads the files, those that did not change from memory.
    fn load(&self) -> Result<Loaded, LoadFailure> {
        let nothing = Loaded::default();
        let before = self.loaded.as_ref().unwrap_or(&nothing);
        tokio::task::block_in_place(|| load::load_again(&self.orders.state, before))
    }

    /// Whether a pass for this cause opens every file, changed or not, and reads the rules before it plans: now and then, and whenever a person or a start asks.
    fn reads_everything(&self, cause: &Cause) -> bool {
        match cause {
            Cause::Files | Cause::Links | Cause::Learned(_) | Cause::Rules(_) | Cause::Poll => Instant::now() >= self.look_by,
            Cause::Start | Cause::Hangup | Cause::Asked | Cause::TrialOver => true,
        }
    }

    /// Does what `apply` asks for, if it means this state, and tells it what came of it.
    pub(super) async fn answer(&mut self, ask: Ask) {
        let answer = match ask.question {
            Question::Apply { ref state, quirks, layout, .. } if !self.same_state(state, quirks, layout) => Answer::refused(&format!(
                "the running daemon reads {} with other settings; stop it, or apply what it reads",
                self.orders.state.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            )),
            Question::Status { .. } | Question::Watch { .. } => unreachable!("the sockets answer this from what is published"),
            Question::Apply { confirm, .. } => self.pass_for(Cause::Asked, Task::Apply(mode::urge(confirm))).await,
            Question::CarryOut { ref plan, confirm, .. } => self.carry_out(plan, confirm).await,
            Question::Confirm { .. } => self.confirm().await,
            Question::Forget { ref device, .. } => self.forget(device).await,
        };
        // Whoever asked may have gone away meanwhile; the pass is done all the same.
        let _ = ask.reply.send(answer);
    }

    /// Forgets what was learned for a guest, and closes it.
    async fn forget(&mut self, device: &str) -> Answer {
        let known = DeviceName::new(device).and_then(|device| Some((self.lessons.forget(&device)?, device)));
        let Some((addresses, name)) = known else { return Answer::said(1, "", &format!("error: {}\n", control::nothing_learned(device))) };
        let answer = Answer::said(0, &control::forgotten(device, &addresses), "");
        self.tighten(BTreeSet::from([name])).await;
        answer
    }

    fn same_state(&self, state: &[PathBuf], quirks: QuirksName, layout: LayoutName) -> bool {
        load::absolute(state) == load::absolute(&self.orders.state)
            && quirks == self.orders.quirks.into()
            && layout == self.orders.layout.into()
    }
}

/// How long the rules are trusted without being read: a minute, give or take six seconds, so that many hosts do not look at once.
fn full_look() -> Duration {
    use std::hash::{BuildHasher, RandomState};
    Duration::from_millis(54_000 + RandomState::new().hash_one(0) % 12_000)
}
