//! `run`: one task that owns the rules, and the events that wake it.
//!
//! Everything that may call for a pass becomes one [`Event`]; the loop in [`Daemon::run`] takes them one after another, so nothing
//! in this process ever writes rules beside it. What a pass is for the daemon is in [`pass`], how it hears of drift in [`drift`].

pub mod ask;
pub mod control;
pub mod damper;
mod drift;
pub mod exporter;
pub mod history;
pub mod journal;
pub mod lessons;
pub mod metrics;
mod mode;
mod pace;
mod pass;
pub mod publish;
pub mod status;
mod systemd;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::backend::Kernel;
use crate::backend::generation::Writer;
use crate::compile::Layout;
use crate::config;
use crate::config::name::{LogName, Mode};
use crate::load::Loaded;
use crate::model::Quirks;
use crate::monitor::links::LinkMonitor;
use crate::monitor::rules::RuleMonitor;
use crate::plan::{HookPlacement, Scope};
use crate::reconcile::Reconciler;
use crate::reconcile::cache::Cache;
use crate::reconcile::compute::Computed;
use crate::reconcile::park::LOOK_AGAIN;
use crate::resolve::Link;
use crate::watch::Watch;
use control::{Ask, Desk, Sockets};
use damper::Damper;
use journal::Cause;
use lessons::Lessons;
use mode::Paperwork;
use pace::{reach, settle, ticks};
use publish::Publisher;
use systemd::Systemd;

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
    /// What to do about differences.
    pub mode: Mode,
    /// Where plans go in [`Mode::Plan`]; `None`: beside the record.
    pub plan_file: Option<PathBuf>,
    /// Whose rules are ours.
    pub scope: Scope,
    /// Where hooks stand.
    pub hooks: HookPlacement,
    /// How the rules of networks are spelled.
    pub layout: Layout,
    /// Whether switches of the kernel that rules need are set, or only told of.
    pub manage_sysctls: bool,
    /// How often to look though nothing happened.
    pub poll: Duration,
    /// Quiet time after a file change.
    pub settle: Duration,
    /// The group that may ask for the status.
    pub socket_group: Option<String>,
    /// Where metrics go.
    pub metrics: config::Metrics,
    /// What only a restart changes.
    pub fixed: Fixed,
}

/// Settings that a daemon keeps for its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Where the record lies.
    pub run_dir: PathBuf,
    /// The tools, which were looked at when it started.
    pub tools: config::Tools,
    /// How its log is written.
    pub log: LogName,
}

/// Everything that can wake the daemon.
enum Event {
    /// Something in the state directories changed.
    Files,
    /// Somebody wrote nf_tables rules.
    Rules,
    /// A network device came, went or changed.
    Links,
    /// Time to repair what somebody changed.
    Repair,
    /// Time to look at files and kernel.
    Poll,
    /// Time to see whether the directories and the devices are still the same.
    Refresh,
    /// A guest that learns was heard, or something learned ends.
    Learned,
    /// SIGHUP: configuration and a full pass.
    Hangup,
    /// `apply` asks for a pass.
    Ask(Ask),
    /// Nobody confirmed what is on trial.
    TrialOver,
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
    cache: Cache,
    /// Tells of everything.
    publisher: Publisher,
    systemd: Systemd,
    /// What the state said at the last pass that saw it in the kernel: what differs from that later is drift.
    objects: Option<u64>,
    /// Rings when somebody writes rules; `None` where the kernel cannot tell.
    monitor: Option<RuleMonitor>,
    rules: Arc<Notify>,
    /// The process ids of our tools that wrote during the last pass.
    own: BTreeSet<u32>,
    damper: Damper,
    /// Rings when devices come and go; `None` where the kernel does not tell.
    link_monitor: Option<LinkMonitor>,
    /// Addresses that no file gives.
    lessons: Lessons,
    /// Who changed rules since the last pass, and when that is to be repaired.
    writers: BTreeSet<Writer>,
    heard: Option<Instant>,
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
    paperwork: Paperwork,
}

/// SIGHUP from now on. Whoever does not listen to it is ended by it, so this comes before anything that takes time.
///
/// # Errors
/// When the signal cannot be had.
pub fn hangups() -> anyhow::Result<Signal> {
    signal(SignalKind::hangup()).context("cannot listen to SIGHUP")
}

impl<K: Kernel> Daemon<K> {
    /// Prepares to watch; nothing is read or written yet.
    ///
    /// # Errors
    /// When the kernel gives out no inotify instance.
    pub fn new(reconciler: Reconciler<K>, lessons: Lessons, orders: Orders) -> anyhow::Result<Self> {
        let bell = Arc::new(Notify::new());
        let watch = listen(&orders, &bell)?;
        // Until the state has been read, nothing may be taken for absent.
        let computed = Computed { resolved: crate::resolve::Resolved { incomplete: true, ..Default::default() }, ..Computed::default() };
        let publisher = Publisher::new(reconciler.store().namespace().to_string(), &orders);
        Ok(Self {
            reconciler,
            orders,
            watch,
            bell,
            computed,
            cache: Cache::default(),
            publisher,
            systemd: Systemd::default(),
            objects: None,
            monitor: None,
            rules: Arc::new(Notify::new()),
            own: BTreeSet::new(),
            damper: Damper::default(),
            link_monitor: None,
            lessons,
            writers: BTreeSet::new(),
            heard: None,
            repair_due: None,
            loaded: None,
            links: Vec::new(),
            verified: None,
            look_by: Instant::now(),
            look_again: false,
            paperwork: Paperwork::default(),
        })
    }

    /// Works until told to stop; the rules stay. `reread` brings fresh orders on each `hangup`.
    ///
    /// # Errors
    /// When signals or the control socket cannot be had; never because of the state or the kernel's rules.
    pub async fn run(mut self, mut hangup: Signal, mut reread: impl FnMut() -> anyhow::Result<Orders>) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
        let (asks, mut asked) = mpsc::channel(8);
        let desk = Desk { asks, status: self.publisher.subscribe() };
        self.publisher.obey(&self.orders);
        self.reconciler.beat_with(systemd::beat);
        let mut sockets = Some(self.sockets(&desk)?);
        let mut _lock = None;
        let mut poll = ticks(self.orders.poll);
        let mut refresh = ticks(REFRESH);
        self.monitor = self.listen_to_rules();
        self.link_monitor = self.listen_to_links().await;

        self.pass(Cause::Start).await;
        loop {
            systemd::beat();
            let event = tokio::select! {
                () = self.bell.notified() => Event::Files,
                () = self.rules.notified() => Event::Rules,
                () = changed(self.link_monitor.as_mut()) => Event::Links,
                () = reach(self.repair_due) => Event::Repair,
                () = reach(self.paperwork.due) => Event::TrialOver,
                _ = poll.tick() => Event::Poll,
                _ = refresh.tick() => Event::Refresh,
                () = self.lessons.due() => Event::Learned,
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
                    drop(sockets.take());
                    sockets = Some(self.sockets(&desk)?);
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
                Event::Links => self.meet().await,
                Event::Repair => self.repair().await,
                Event::Poll => self.poll().await,
                Event::Refresh => {
                    if self.watch.refresh() {
                        self.bell.notify_one();
                    }
                    self.make_peace();
                    let whose = self.lessons.refresh().await;
                    self.tighten(whose).await;
                }
                Event::Learned => {
                    let whose = self.lessons.work();
                    self.tighten(whose).await;
                }
                Event::Hangup => {
                    self.systemd.reload();
                    if self.obey(reread()) == Moved::Socket {
                        drop(sockets.take());
                        sockets = Some(self.sockets(&desk)?);
                    }
                    // Whoever sends it may have ended a fight.
                    self.damper = Damper::default();
                    self.tell_fights();
                    poll = ticks(self.orders.poll);
                    self.pass(Cause::Hangup).await;
                }
                Event::Ask(ask) => self.answer(ask).await,
                Event::TrialOver => drop(self.pass(Cause::TrialOver).await),
                Event::Stop => break,
            }
            if self.look_again {
                poll.reset_after(LOOK_AGAIN);
            }
        }
        systemd::stop();
        self.lessons.close().await;
        tracing::info!("stopped; the rules stay in force");
        Ok(())
    }

    /// Takes new orders, or keeps the old ones when they cannot be read; says whether sockets have to be made anew.
    fn obey(&mut self, orders: anyhow::Result<Orders>) -> Moved {
        let orders = match orders {
            Ok(orders) if orders == self.orders => return Moved::Nothing,
            Ok(orders) => orders,
            Err(error) => {
                tracing::error!("the configuration stays as it was: {error:#}");
                return Moved::Nothing;
            }
        };
        for key in orders.fixed.other_than(&self.orders.fixed) {
            tracing::warn!("`{key}` has changed, which takes a restart: `systemctl restart bridgeward` (the rules stay meanwhile)");
        }
        match listen(&orders, &self.bell) {
            Ok(watch) => self.watch = watch,
            Err(error) => tracing::error!("the new state directories are read only every {:?}: {error:#}", orders.poll),
        }
        self.reconciler.choose(orders.scope, orders.hooks);
        self.reconciler.manage_sysctls(orders.manage_sysctls);
        let moved = if orders.socket_group == self.orders.socket_group { Moved::Nothing } else { Moved::Socket };
        self.orders = orders;
        self.publisher.obey(&self.orders);
        moved
    }

    fn sockets(&self, desk: &Desk) -> anyhow::Result<Sockets> {
        Sockets::open(self.reconciler.store(), self.orders.socket_group.as_deref(), desk)
    }
}

/// What new orders change of what the loop holds.
#[derive(PartialEq)]
enum Moved {
    Nothing,
    Socket,
}

impl Fixed {
    /// The keys that say something else here than there.
    fn other_than(&self, there: &Self) -> Vec<&'static str> {
        let Self { run_dir, tools, log } = self;
        let keys = [("run_dir", *run_dir != there.run_dir), ("tools", *tools != there.tools), ("log", *log != there.log)];
        keys.into_iter().filter_map(|(key, moved)| moved.then_some(key)).collect()
    }
}

fn listen(orders: &Orders, bell: &Arc<Notify>) -> anyhow::Result<Watch> {
    Watch::new(&orders.state, Arc::clone(bell)).context("cannot watch files: raise fs.inotify.max_user_instances")
}

/// Waits until devices change, for ever if that is not told.
async fn changed(links: Option<&mut LinkMonitor>) {
    match links {
        Some(links) => links.changed().await,
        None => std::future::pending().await,
    }
}
