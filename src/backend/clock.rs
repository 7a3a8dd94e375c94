//! The time of day, for what is written down with an end.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970; a clock that stands before that says 0.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
