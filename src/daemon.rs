//! `run`: one task that owns the rules, and the events that wake it.
//!
//! Everything that may call for a pass becomes one [`Event`]; the loop in [`Daemon::run`] takes them one after another, so nothing
//! in this process ever writes rules beside it. A state that cannot be read leaves the last one in force, and drift is repaired to that.

pub mod control;
pub mod journal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use crate::backend::{Kernel, links};
use crate::load;
use crate::model::Quirks;
use crate::plan::{HookPlacement, Scope};
use crate::reconcile::Reconciler;
use crate::reconcile::compute::{self, Computed, Reading};
use crate::watch::Watch;
use control::{Answer, Ask, Question};
use journal::{Cause, Journal};

/// A burst of file changes is waited out, but not longer than this.
const SETTLE_LIMIT: Duration = Duration::from_millis(500);

/// How often the watched directories are compared with those that are there; a few `stat` calls.
const REFRESH: Duration = Duration::from_secs(1);

/// How soon a guest is looked at again that a libvirtd was writing.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

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
    /// How often to look though nothing happened.
    pub poll: Duration,
    /// Quiet time after a file change.
    pub settle: Duration,
}

/// Everything that can wake the daemon.
enum Event {
    /// Something in the state directories changed.
    Files,
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
        Ok(Self { reconciler, orders, watch, bell, computed, journal: Journal::default(), look_again: false })
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

        self.pass(Cause::Start).await;
        tell_systemd(&[sd_notify::NotifyState::Ready]);
        loop {
            let event = tokio::select! {
                () = self.bell.notified() => Event::Files,
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
                    self.settle().await;
                    self.watch.refresh();
                    self.pass(Cause::Files).await;
                    poll.reset();
                }
                Event::Poll => {
                    self.pass(Cause::Poll).await;
                }
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

    /// Waits until the files are quiet.
    async fn settle(&self) {
        let limit = Instant::now() + SETTLE_LIMIT.max(self.orders.settle);
        while Instant::now() < limit {
            if tokio::time::timeout(self.orders.settle, self.bell.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Reads the state, brings the kernel to it and says what was done.
    async fn pass(&mut self, cause: Cause) -> Answer {
        let unreadable = self.read().await;
        let outcome = self.reconciler.pass(&self.computed).await;
        self.journal.pass(cause, unreadable.as_deref(), &self.computed, &outcome);
        self.look_again = outcome.as_ref().is_ok_and(|report| !report.parked.is_empty());
        Answer::new(unreadable, &self.computed, outcome)
    }

    /// Reads the state; where that fails, the last one stays and the reason is returned.
    async fn read(&mut self) -> Option<String> {
        let links = links::links().await.unwrap_or_default();
        let paths = self.orders.state.clone();
        let reading = Reading { quirks: self.orders.quirks, strict: self.orders.strict };
        match tokio::task::block_in_place(|| load::load(&paths).map(|loaded| compute::compute(&loaded, &links, reading))) {
            Ok(computed) => {
                self.computed = computed;
                None
            }
            Err(failure) => Some(failure.to_string()),
        }
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
            Question::Apply { ref state, quirks, .. } if !self.same_state(state, quirks) => Answer::refused(format!(
                "the running daemon reads {} with other settings; stop it, or apply what it reads",
                self.orders.state.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            )),
            Question::Apply { .. } => self.pass(Cause::Asked).await,
        };
        // Whoever asked may have gone away meanwhile; the pass is done all the same.
        let _ = ask.reply.send(answer);
    }

    fn same_state(&self, state: &[PathBuf], quirks: control::QuirksName) -> bool {
        let absolute =
            |paths: &[PathBuf]| paths.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect::<Vec<_>>();
        absolute(state) == absolute(&self.orders.state) && quirks == self.orders.quirks.into()
    }
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
