//! Everything that tells of the daemon's work is told here, in one place: the log, the status document, the metrics.
//!
//! What is published lies behind a `watch` channel, so whoever asks for it is answered at once, also in the middle of a long pass.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::Orders;
use super::exporter::{self, Exporter};
use super::history::{Ended, Fight, History};
use super::journal::Journal;
use super::metrics::Metrics;
use super::status::{About, Beside, Learned, Listening, Moment, Prerequisite, Remark, Status};
use crate::config;

/// Tells of the daemon's work.
#[derive(Debug)]
pub struct Publisher {
    started: Moment,
    namespace: String,
    journal: Journal,
    history: History,
    beside: Beside,
    metrics: Arc<Metrics>,
    wanted: config::Metrics,
    exporter: Option<Exporter>,
    /// What was wrong with the textfile last, so that it is told once.
    textfile: Option<String>,
    status: watch::Sender<Arc<Status>>,
}

impl Publisher {
    /// Nothing is known yet but who we are.
    pub fn new(namespace: String, orders: &Orders) -> Self {
        let started = Moment::now();
        let history = History::default();
        let status = Status::new(about(started, &namespace, orders), None, &history, Beside::default());
        let metrics = Arc::new(Metrics::new(started));
        metrics.status(&status);
        Self {
            started,
            namespace,
            journal: Journal::default(),
            history,
            beside: Beside::default(),
            metrics,
            wanted: config::Metrics::default(),
            exporter: None,
            textfile: None,
            status: watch::channel(Arc::new(status)).0,
        }
    }

    /// What is published, now and later.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Status>> {
        self.status.subscribe()
    }

    /// Takes in where metrics are to go. An address that cannot be had is said in the log: the rules matter more.
    pub fn obey(&mut self, orders: &Orders) {
        if orders.metrics.listen != self.wanted.listen || self.exporter.is_none() {
            self.exporter = None;
            let listening = orders.metrics.listen.map(|address| Exporter::listen(address, Arc::clone(&self.metrics))).transpose();
            self.exporter = listening.unwrap_or_else(|error| {
                tracing::error!("no metrics are handed out: {error:#}");
                None
            });
        }
        self.wanted = orders.metrics.clone();
    }

    /// Tells of a pass.
    pub fn pass(&mut self, ended: &Ended<'_>, orders: &Orders) {
        self.journal.pass(ended);
        self.history.pass(ended);
        self.metrics.pass(ended);
        let rules = ended.computed.compiled.count();
        self.metrics.rules(rules.iter().map(|(family, count)| (family.tool(), *count)));
        let about = about(self.started, &self.namespace, orders);
        self.publish(Status::new(about, Some(ended), &self.history, self.beside.clone()));
    }

    /// Tells who keeps undoing our rules; nobody when all fights are over.
    pub fn fights(&mut self, fights: Vec<Fight>) {
        if fights != self.history.fights() {
            self.history.fighting(fights.clone());
            self.change(|status| status.fights = fights);
        }
    }

    /// Counts a repair that has to wait.
    pub fn back_off(&self) {
        self.metrics.back_off();
    }

    /// Tells what the host has to be like and is not.
    pub fn prerequisites(&mut self, unmet: Vec<Prerequisite>) {
        if unmet != self.beside.prerequisites {
            self.beside.prerequisites.clone_from(&unmet);
            self.change(|status| status.prerequisites = unmet);
        }
    }

    /// Tells which addresses were learned, and which two guests claim. That something was heard is no news to those who wait for some.
    pub fn learned(&mut self, learned: Vec<Learned>, conflicts: Vec<Remark>, listening: Listening) {
        self.beside.listening = listening;
        self.metrics.listening(listening);
        self.status.send_if_modified(|status| {
            if status.listening != listening {
                Arc::make_mut(status).listening = listening;
            }
            false
        });
        if learned != self.beside.learned || conflicts != self.beside.conflicts {
            self.beside.learned.clone_from(&learned);
            let before: HashSet<Remark> = std::mem::replace(&mut self.beside.conflicts, conflicts.clone()).into_iter().collect();
            self.change(|status| {
                status.learned = learned;
                status.remarks.retain(|remark| !before.contains(remark));
                status.remarks.extend(conflicts);
            });
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Status)) {
        let mut status = Status::clone(&self.status.borrow());
        change(&mut status);
        self.publish(status);
    }

    fn publish(&mut self, status: Status) {
        self.metrics.status(&status);
        self.status.send_replace(Arc::new(status));
        let Some(path) = &self.wanted.textfile else { return };
        let outcome = tokio::task::block_in_place(|| exporter::write_textfile(path, &self.metrics));
        let failure = outcome.err().map(|error| format!("{error:#}"));
        if let Some(failure) = failure.as_ref().filter(|failure| self.textfile.as_ref() != Some(failure)) {
            tracing::warn!("{failure}");
        }
        self.textfile = failure;
    }
}

fn about(started: Moment, namespace: &str, orders: &Orders) -> About {
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        namespace: namespace.to_owned(),
        started,
        mode: orders.mode,
        state: orders.state.clone(),
        quirks: orders.quirks.into(),
        layout: orders.layout.into(),
        scope: orders.scope.into(),
        hooks: orders.hooks.into(),
        strict: orders.strict,
    }
}
