//! A sign of life while a tool runs: it may take minutes, and a watchdog is to tell a slow tool, which has its own limit, from a daemon that is stuck.

use std::time::Duration;

/// Well below any time that a watchdog waits.
const EVERY: Duration = Duration::from_secs(10);

/// Waits for `work`; calls `beat` again and again meanwhile, and at its end.
pub(super) async fn while_waiting<T>(beat: fn(), work: impl Future<Output = T>) -> T {
    at_intervals(EVERY, beat, work).await
}

async fn at_intervals<T>(every: Duration, beat: fn(), work: impl Future<Output = T>) -> T {
    let mut work = Box::pin(work);
    loop {
        let done = tokio::time::timeout(every, &mut work).await;
        beat();
        if let Ok(done) = done {
            return done;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static BEATS: AtomicU32 = AtomicU32::new(0);

    #[tokio::test]
    async fn it_beats_while_the_work_takes_its_time() {
        let beat = || {
            BEATS.fetch_add(1, Ordering::Relaxed);
        };
        // Ends only after it was heard twice while it was still at it.
        let work = async {
            while BEATS.load(Ordering::Relaxed) < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            "done"
        };
        assert_eq!(at_intervals(Duration::from_millis(5), beat, work).await, "done");
        assert_eq!(BEATS.load(Ordering::Relaxed), 3, "and once at its end");
    }
}
