//! Drift that announces itself: somebody committed nf_tables rules, a burst of it settles, and what it changed is put back, at once or, in a
//! fight, after a pause.
//!
//! Which transactions are somebody else's is told by number first: what the last pass has verified is no news, whoever wrote it. Where there is no verified
//! pass our own commits are told by the process ids of the tools that we ran. By number comes first because it cannot be mistaken: a process id can be used again, and
//! in a process namespace the kernel's ids are not ours.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Daemon;
use super::journal::Cause;
use super::pace::settle;
use crate::backend::generation::Writer;
use crate::backend::{Kernel, namespace};
use crate::monitor::rules::{News, RuleMonitor, younger};
use crate::monitor::transaction::Transaction;
use crate::plan::ownership;
use crate::reconcile::report::Report;
use crate::ruleset::ChainId;

/// A burst of rule changes, such as the restart of a firewall service, is over after so much silence.
const RULES_QUIET: Duration = Duration::from_millis(50);
/// A libvirtd that binds a guest runs some sixty tools, one after another; it is done after so much silence.
const LIBVIRT_QUIET: Duration = Duration::from_millis(150);
/// It is not waited for longer, counted from the first change that is to be repaired.
pub(super) const LIBVIRT_LIMIT: Duration = Duration::from_secs(3);

impl<K: Kernel> Daemon<K> {
    /// Without a monitor, drift is seen at the next poll; why there is none is said once.
    pub(super) fn listen_to_rules(&self) -> Option<RuleMonitor> {
        if self.reconciler.generation().is_none() {
            tracing::info!(every = ?self.orders.poll, "the legacy tools do not announce changes of rules: looking for them");
            return None;
        }
        let monitor = RuleMonitor::new(Arc::clone(&self.rules));
        monitor
            .inspect_err(|error| tracing::warn!(%error, every = ?self.orders.poll, "cannot listen to rule changes: looking for them"))
            .ok()
    }

    /// Somebody wrote rules: lets a burst settle, and says when what it changed is to be repaired.
    pub(super) async fn hear(&mut self) {
        let heard = Instant::now();
        settle(&self.rules, RULES_QUIET).await;
        let first = *self.heard.get_or_insert(heard);
        self.give_way(first + LIBVIRT_LIMIT).await;
        if self.repair_due.is_none() {
            self.heard = None;
        }
    }

    /// Takes in what was heard; while a libvirtd is at work, waits for it, until this moment at most.
    ///
    /// `ebtables` of the nf_tables variant (1.8.9) fails where anybody commits anything between its look and its commit, and libvirt does not try again: a
    /// write of ours, of whatever family, could fail the start of somebody's guest.
    pub(super) async fn give_way(&mut self, limit: Instant) {
        let mut others = self.note_news();
        let at_work = others.iter().any(|writer| writer.command.starts_with("ebtables")) && namespace::libvirt_daemon().is_some();
        while at_work && !others.is_empty() && Instant::now() < limit {
            settle(&self.rules, LIBVIRT_QUIET).await;
            others = self.note_news();
        }
    }

    /// Takes in what was heard: when that is to be repaired, and by whom it was.
    fn note_news(&mut self) -> BTreeSet<Writer> {
        let Some(monitor) = &self.monitor else { return BTreeSet::new() };
        let News { transactions, overflow } = monitor.take();
        let now = std::time::Instant::now();
        // What was lost may have been anything, unless all of it has been seen.
        let mut due = (overflow && !self.is_verified()).then_some(now);
        let news: Vec<Transaction> = transactions.into_iter().filter(|transaction| self.is_news(transaction)).collect();
        let mut others = BTreeSet::new();
        let objects = &self.computed.compiled.objects;
        let wanted: LazyCell<HashSet<&ChainId>, _> =
            LazyCell::new(|| objects.values().flat_map(|rules| rules.blocks().map(|(chain, _)| chain)).collect());
        // A look that a chain of no concern gives rise to costs little; it does not wait.
        let concerns = |chain: &ChainId| ownership::is_common(&chain.chain) || wanted.contains(chain);
        for transaction in news {
            if let Some(writer) = &transaction.writer {
                self.reconciler.hear(&writer.command);
            }
            let moment = self.damper.touched(&transaction.touched, concerns, transaction.writer.as_ref(), now);
            due = Some(due.map_or(moment, |due| due.min(moment)));
            others.extend(transaction.writer);
        }
        self.writers.extend(others.iter().cloned());
        if let Some(due) = due {
            let due = self.damper.admit(due);
            if due > now && self.repair_due.is_none() {
                self.publisher.back_off();
            }
            let due = Instant::from_std(due);
            self.repair_due = Some(self.repair_due.map_or(due, |earlier| earlier.min(due)));
        }
        others
    }

    /// Repairs what others changed.
    pub(super) async fn repair(&mut self) {
        self.damper.passed(std::time::Instant::now());
        self.pass(Cause::Rules(BTreeSet::new())).await;
    }

    /// Whether the rules are those that the last pass verified.
    pub(super) fn is_verified(&self) -> bool {
        self.verified.is_some() && self.reconciler.generation() == self.verified
    }

    /// Whether somebody else made this transaction after the rules that we verified, in tables that we write.
    fn is_news(&self, transaction: &Transaction) -> bool {
        !transaction.touched.is_empty()
            && self.verified.is_none_or(|verified| younger(transaction.generation, verified))
            && !self.is_own(transaction)
    }

    fn is_own(&self, transaction: &Transaction) -> bool {
        transaction.writer.as_ref().is_some_and(|writer| self.own.contains(&writer.pid))
    }

    /// Everybody who wrote since the pass before this one, up to what this one verified: what was repaired was theirs. Besides `heard`, which woke us, these are the
    /// ones who wrote while we did.
    pub(super) fn culprits(&mut self, mut heard: BTreeSet<Writer>, report: Option<&Report>) -> BTreeSet<Writer> {
        // Elsewhere our own tools could not be told from others.
        if namespace::sees_kernel_ids() {
            self.own = self.reconciler.writers();
            if let Some((monitor, generation)) = self.monitor.as_ref().zip(report.and_then(|report| report.generation)) {
                let through = monitor.take_through(generation);
                heard.extend(
                    through
                        .into_iter()
                        .filter(|transaction| !self.is_own(transaction) && !transaction.touched.is_empty())
                        .filter_map(|transaction| transaction.writer),
                );
            }
        }
        heard
    }

    /// Takes in that drift was repaired; raises an alarm where somebody keeps undoing it.
    pub(super) fn note_repair(&mut self, writers: &BTreeSet<Writer>, report: &Report) {
        for chain in self.damper.repaired(&report.chains, writers, std::time::Instant::now()) {
            if let Some(fight) = self.damper.alarm(&chain) {
                tracing::error!(%chain, by = fight.by(), "somebody keeps undoing our rules in {chain}: {fight}");
            }
        }
        self.tell_fights();
    }

    /// Ends the fights that nobody goes on with.
    pub(super) fn make_peace(&mut self) {
        for chain in self.damper.forget(std::time::Instant::now()) {
            tracing::info!(%chain, "no longer: somebody keeps undoing our rules in {chain}");
            self.tell_fights();
        }
    }

    /// Publishes who keeps undoing our rules.
    pub(super) fn tell_fights(&mut self) {
        self.publisher.fights(self.damper.alarms().map(|(chain, fight)| fight.told(chain)).collect());
    }
}
