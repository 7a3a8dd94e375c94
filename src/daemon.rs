//! `run`: one task that owns the rules, and the events that wake it.
//!
//! Everything that may call for a pass becomes one [`Event`]; the loop in [`Daemon::run`] takes them one after another, so nothing
//! in this process ever writes rules beside it. A state that cannot be read leaves the last one in force, and drift is repaired to that.

pub mod control;
pub mod damper;
pub mod journal;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use crate::backend::generation::{Generation, Writer};
use crate::backend::{Kernel, links};
use crate::compile::Layout;
use crate::config::name::{LayoutName, QuirksName};
use crate::load::{self, Loaded};
use crate::model::Quirks;
use crate::monitor::{Monitor, News};
use crate::plan::{HookPlacement, Scope};
use crate::reconcile::Reconciler;
use crate::reconcile::compute::{self, Computed, Reading};
use crate::reconcile::park::LOOK_AGAIN;
use crate::resolve::Link;
use crate::watch::Watch;
use control::{Answer, Ask, Question};
use damper::Damper;
use journal::{Cause, Journal};

/// A burst of rule changes, such as the restart of a firewall service, is over after so much silence.
const RULES_QUIET: Duration = Duration::from_millis(50);

/// A burst of changes is waited out, but not longer than this.
const SETTLE_LIMIT: Duration = Duration::from_millis(500);

/// How often the watched directories are compared with those that are there; a few `stat` calls.
const REFRESH: Duration = Duration::from_secs(1);

/// What the daemon works with; SIGHUP brings new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    /// State directories and files.
    pub state: Vec<PathBuf>,
    /// How to read them.
    pub quirks: Quirks,
    /// Warnings are errors.
    pub strict: bool,
    /// Whose rules are ours.
    pub scope: Scope,
    /// Where hooks stand.
    pub hooks: HookPlacement,
    /// How the rules of networks are spelled.
    pub layout: Layout,
    /// How often to look though nothing happened.
    pub poll: Duration,
    /// Quiet time after a file change.
    pub settle: Duration,
}

/// Everything that can wake the daemon.
enum Event {
    /// Something in the state directories changed.
    Files,
    /// Somebody wrote nf_tables rules.
    Rules,
    /// Time to repair what somebody changed.
    Repair,
    /// Time to look at files and kernel.
    Poll,
    /// Time to see whether the directories are still the same.
    Refresh,
    /// SIGHUP: configuration and a full pass.
    Hangup,
    /// `apply` asks for a pass.
    Ask(Ask),
    /// SIGTERM or SIGINT.
    Stop,
}

/// The daemon's state between events.
pub struct Daemon<K> {
    reconciler: Reconciler<K>,
    orders: Orders,
    watch: Watch,
    bell: Arc<Notify>,
    computed: Computed,
    journal: Journal,
    /// Rings when somebody writes rules; `None` where the kernel cannot tell.
    monitor: Option<Monitor>,
    rules: Arc<Notify>,
    damper: Damper,
    /// Who changed rules since the last pass, and when that is to be repaired.
    writers: BTreeSet<Writer>,
    repair_due: Option<Instant>,
    /// The files of the last pass.
    loaded: Option<Loaded>,
    /// The devices that it saw.
    links: Vec<Link>,
    /// The generation of the rules that the last pass verified.
    verified: Option<u32>,
    /// When the rules are to be read whatever the generation says.
    look_by: Instant,
    /// Somebody else was writing during the last pass: the next one comes soon.
    look_again: bool,
}

impl<K: Kernel> Daemon<K> {
    /// Prepares to watch; nothing is read or written yet.
    ///
    /// # Errors
    /// When the kernel gives out no inotify instance.
    pub fn new(reconciler: Reconciler<K>, orders: Orders) -> anyhow::Result<Self> {
        let bell = Arc::new(Notify::new());
        let watch = listen(&orders, &bell)?;
        // Until the state has been read, nothing may be taken for absent.
        let computed = Computed { resolved: crate::resolve::Resolved { incomplete: true, ..Default::default() }, ..Computed::default() };
        Ok(Self {
            reconciler,
            orders,
            watch,
            bell,
            computed,
            journal: Journal::default(),
            monitor: None,
            rules: Arc::new(Notify::new()),
            damper: Damper::default(),
            writers: BTreeSet::new(),
            repair_due: None,
            loaded: None,
            links: Vec::new(),
            verified: None,
            look_by: Instant::now(),
            look_again: false,
        })
    }

    /// Works until told to stop; the rules stay. `reread` brings fresh orders on SIGHUP.
    ///
    /// # Errors
    /// When signals or the control socket cannot be had; never because of the state or the kernel's rules.
    pub async fn run(mut self, mut reread: impl FnMut() -> anyhow::Result<Orders>) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot listen to SIGHUP")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
        let (asks, mut asked) = mpsc::channel(8);
        let mut socket = Some(control::listen(self.reconciler.store().path(), asks.clone())?);
        let mut _lock = None;
        let mut poll = ticks(self.orders.poll);
        let mut refresh = ticks(REFRESH);
        self.monitor = self.listen_to_rules();

        self.pass(Cause::Start).await;
        tell_systemd(&[sd_notify::NotifyState::Ready]);
        loop {
            let event = tokio::select! {
                () = self.bell.notified() => Event::Files,
                () = self.rules.notified() => Event::Rules,
                () = reach(self.repair_due) => Event::Repair,
                _ = poll.tick() => Event::Poll,
                _ = refresh.tick() => Event::Refresh,
                _ = hangup.recv() => Event::Hangup,
                Some(ask) = asked.recv() => Event::Ask(ask),
                _ = terminate.recv() => Event::Stop,
                _ = interrupt.recv() => Event::Stop,
            };
            match self.reconciler.reopen_store() {
                Ok(true) => {
                    tracing::warn!("the directory of the record was removed; what the state names is adopted, the rest left alone");
                    // The lock went with the directory. Whoever took the new one meanwhile is the daemon now.
                    _lock = Some(self.reconciler.store().lock_as_daemon()?);
                    drop(socket.take());
                    socket = Some(control::listen(self.reconciler.store().path(), asks.clone())?);
                }
                Ok(false) => {}
                Err(failure) => tracing::error!("the removed directory of the record cannot be made again: {failure}"),
            }
            match event {
                Event::Files => {
                    settle(&self.bell, self.orders.settle).await;
                    self.watch.refresh();
                    self.pass(Cause::Files).await;
                    poll.reset();
                }
                Event::Rules => self.hear().await,
                Event::Repair => self.repair().await,
                Event::Poll => self.poll().await,
                Event::Refresh => {
                    if self.watch.refresh() {
                        self.bell.notify_one();
                    }
                }
                Event::Hangup => {
                    tell_systemd(&[sd_notify::NotifyState::Reloading]);
                    self.obey(reread());
                    poll = ticks(self.orders.poll);
                    self.pass(Cause::Hangup).await;
                    tell_systemd(&[sd_notify::NotifyState::Ready]);
                }
                Event::Ask(ask) => self.answer(ask).await,
                Event::Stop => break,
            }
            if self.look_again {
                poll.reset_after(LOOK_AGAIN);
            }
        }
        tell_systemd(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("stopped; the rules stay in force");
        Ok(())
    }

    /// Without a monitor, drift is seen at the next poll; why there is none is said once.
    fn listen_to_rules(&self) -> Option<Monitor> {
        if self.reconciler.generation().is_none() {
            tracing::info!(every = ?self.orders.poll, "the legacy tools do not announce changes of rules: looking for them");
            return None;
        }
        let monitor = Monitor::new(Arc::clone(&self.rules));
        monitor
            .inspect_err(|error| tracing::warn!(%error, every = ?self.orders.poll, "cannot listen to rule changes: looking for them"))
            .ok()
    }

    /// Somebody wrote rules: lets a burst settle, and has what it changed repaired, at once or, in a fight, after a pause.
    async fn hear(&mut self) {
        settle(&self.rules, RULES_QUIET).await;
        let Some(monitor) = &self.monitor else { return };
        let News { generations, overflow } = monitor.take();
        let news: Vec<Generation> = generations.into_iter().filter(|generation| self.is_news(generation.id)).collect();
        if news.is_empty() && !overflow {
            return;
        }
        self.writers.extend(news.into_iter().filter_map(|generation| generation.writer));
        let pause = self.damper.pause(std::time::Instant::now());
        self.repair_due.get_or_insert(Instant::now() + pause);
    }

    /// Repairs what others changed.
    async fn repair(&mut self) {
        let writers = std::mem::take(&mut self.writers);
        let who: Vec<String> = writers.iter().map(Writer::to_string).collect();
        if self.pass(Cause::Rules(writers)).await.changed && self.damper.repaired(std::time::Instant::now()) {
            tracing::error!(by = who.join(", "), "somebody keeps undoing our rules; the next repair waits a while");
        }
    }

    /// Whether a generation is younger than the rules that we verified. The number may wrap around.
    fn is_news(&self, id: u32) -> bool {
        self.verified.is_none_or(|verified| (id.wrapping_sub(verified)).cast_signed() > 0)
    }

    /// Looks at files and rules, unless neither can have changed.
    async fn poll(&mut self) {
        let unmoved = self.verified.is_some() && self.reconciler.generation() == self.verified;
        let loaded = tokio::task::block_in_place(|| load::load(&self.orders.state)).ok();
        let same_links = links::links().await.unwrap_or_default() == self.links;
        if unmoved && same_links && loaded == self.loaded && Instant::now() < self.look_by {
            return;
        }
        self.pass(Cause::Poll).await;
    }

    /// Reads the state, brings the kernel to it and says what was done.
    async fn pass(&mut self, cause: Cause) -> Outcome {
        // Whatever the cause, everything is repaired.
        self.repair_due = None;
        self.writers.clear();
        let unreadable = self.read().await;
        let outcome = self.reconciler.pass(&self.computed).await;
        self.journal.pass(&cause, unreadable.as_deref(), &self.computed, &outcome);
        let report = outcome.as_ref().ok();
        self.look_again = report.is_some_and(|report| !report.parked.is_empty());
        // What does not stay as written is tried again at the next poll.
        self.verified = report.filter(|report| report.stuck.is_empty()).and_then(|report| report.generation);
        self.look_by = Instant::now() + full_look();
        let changed = report.is_some_and(|report| !report.edits.is_empty());
        Outcome { changed, answer: Answer::new(unreadable, &self.computed, outcome) }
    }

    /// Reads the state; where that fails, the last one stays and the reason is returned.
    async fn read(&mut self) -> Option<String> {
        self.links = links::links().await.unwrap_or_default();
        let reading = Reading { quirks: self.orders.quirks, strict: self.orders.strict, layout: self.orders.layout };
        let loaded = match tokio::task::block_in_place(|| load::load(&self.orders.state)) {
            Ok(loaded) => loaded,
            Err(failure) => {
                self.loaded = None;
                return Some(failure.to_string());
            }
        };
        self.computed = tokio::task::block_in_place(|| compute::compute(&loaded, &self.links, reading));
        self.loaded = Some(loaded);
        None
    }

    /// Takes new orders, or keeps the old ones when they cannot be read.
    fn obey(&mut self, orders: anyhow::Result<Orders>) {
        let orders = match orders {
            Ok(orders) if orders == self.orders => return,
            Ok(orders) => orders,
            Err(error) => {
                tracing::error!("the configuration stays as it was: {error:#}");
                return;
            }
        };
        match listen(&orders, &self.bell) {
            Ok(watch) => self.watch = watch,
            Err(error) => tracing::error!("the new state directories are read only every {:?}: {error:#}", orders.poll),
        }
        self.reconciler.choose(orders.scope, orders.hooks);
        self.orders = orders;
    }

    async fn answer(&mut self, ask: Ask) {
        let answer = match ask.question {
            Question::Apply { ref state, quirks, layout, .. } if !self.same_state(state, quirks, layout) => Answer::refused(&format!(
                "the running daemon reads {} with other settings; stop it, or apply what it reads",
                self.orders.state.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            )),
            Question::Apply { .. } => self.pass(Cause::Asked).await.answer,
        };
        // Whoever asked may have gone away meanwhile; the pass is done all the same.
        let _ = ask.reply.send(answer);
    }

    fn same_state(&self, state: &[PathBuf], quirks: QuirksName, layout: LayoutName) -> bool {
        load::absolute(state) == load::absolute(&self.orders.state)
            && quirks == self.orders.quirks.into()
            && layout == self.orders.layout.into()
    }
}

/// What a pass came to.
struct Outcome {
    /// Whether rules were written.
    changed: bool,
    answer: Answer,
}

/// Waits until a bell has been quiet for so long.
async fn settle(bell: &Notify, quiet: Duration) {
    let limit = Instant::now() + SETTLE_LIMIT.max(quiet);
    while Instant::now() < limit {
        if tokio::time::timeout(quiet, bell.notified()).await.is_err() {
            return;
        }
    }
}

/// Waits for a moment, for ever if there is none.
async fn reach(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// How long the rules are trusted without being read: a minute, give or take six seconds, so that many hosts do not look at once.
fn full_look() -> Duration {
    use std::hash::{BuildHasher, RandomState};
    Duration::from_millis(54_000 + RandomState::new().hash_one(0) % 12_000)
}

fn listen(orders: &Orders, bell: &Arc<Notify>) -> anyhow::Result<Watch> {
    Watch::new(&orders.state, Arc::clone(bell)).context("cannot watch files: raise fs.inotify.max_user_instances")
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Without systemd there is nobody to tell.
fn tell_systemd(states: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
