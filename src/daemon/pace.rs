//! When: waiting for bursts to end, for moments, and in steady ticks.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// A burst of changes is waited out, but not longer than this.
const SETTLE_LIMIT: Duration = Duration::from_millis(500);

/// Waits until a bell has been quiet for so long.
pub(super) async fn settle(bell: &Notify, quiet: Duration) {
    let limit = Instant::now() + SETTLE_LIMIT.max(quiet);
    while Instant::now() < limit {
        if tokio::time::timeout(quiet, bell.notified()).await.is_err() {
            return;
        }
    }
}

/// Waits for a moment, for ever if there is none.
pub(super) async fn reach(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Ticks, the first one after a full period; one that comes late moves all further ones.
pub(super) fn ticks(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
