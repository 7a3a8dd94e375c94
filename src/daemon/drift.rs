//! Drift that announces itself: somebody committed nf_tables rules, a burst of it settles, and what it changed is put back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Daemon;
use super::journal::Cause;
use super::pace::settle;
use crate::backend::Kernel;
use crate::backend::generation::{Generation, Writer};
use crate::monitor::{Monitor, News};

/// A burst of rule changes, such as the restart of a firewall service, is over after so much silence.
const RULES_QUIET: Duration = Duration::from_millis(50);

impl<K: Kernel> Daemon<K> {
    /// Without a monitor, drift is seen at the next poll; why there is none is said once.
    pub(super) fn listen_to_rules(&self) -> Option<Monitor> {
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
    pub(super) async fn hear(&mut self) {
        let heard = Instant::now();
        settle(&self.rules, RULES_QUIET).await;
        let Some(monitor) = &self.monitor else { return };
        let News { generations, overflow } = monitor.take();
        let news: Vec<Generation> = generations.into_iter().filter(|generation| self.is_news(generation.id)).collect();
        if news.is_empty() && !overflow {
            return;
        }
        self.heard.get_or_insert(heard);
        self.writers.extend(news.into_iter().filter_map(|generation| generation.writer));
        let pause = self.damper.pause(std::time::Instant::now());
        if !pause.is_zero() && self.repair_due.is_none() {
            self.publisher.back_off();
        }
        self.repair_due.get_or_insert(Instant::now() + pause);
    }

    /// Repairs what others changed.
    pub(super) async fn repair(&mut self) {
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
}
