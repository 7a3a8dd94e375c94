//! What systemd is told: that the rules are in place, how things are in a line, and that the loop goes on.
//!
//! Readiness is a promise to whatever is ordered after us, the guests: it is told after the first pass that read the state and saw its rules in the kernel, not
//! before. The watchdog is fed by the loop and by the steps of a pass, never by a timer of its own, which would go on while the loop hangs.

use sd_notify::NotifyState;

use super::history::Ended;
use crate::diagnostic::several;

/// What systemd knows of us.
#[derive(Debug, Default)]
pub struct Systemd {
    ready: bool,
    told: String,
}

impl Systemd {
    /// Tells that a reload begins; the next pass ends it.
    pub fn reload(&self) {
        if self.ready {
            let now = NotifyState::monotonic_usec_now().ok();
            let states: Vec<NotifyState> = std::iter::once(NotifyState::Reloading).chain(now).collect();
            tell(&states);
        }
    }

    /// Tells what came of a pass.
    pub fn pass(&mut self, ended: &Ended<'_>) {
        let words = words(ended);
        if self.told != words {
            tell(&[NotifyState::Status(&words)]);
            self.told = words;
        }
        let verified = ended.outcome.as_ref().is_ok_and(|report| report.verified);
        if !self.ready && verified && ended.unreadable.is_none() {
            self.ready = true;
        }
        if self.ready {
            // Again after every pass: it ends a reload, and otherwise means nothing.
            tell(&[NotifyState::Ready]);
        }
    }
}

/// Tells that we stop.
pub fn stop() {
    tell(&[NotifyState::Stopping]);
}

/// Tells that the loop goes on.
pub fn beat() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// What `systemctl status` shows.
fn words(ended: &Ended<'_>) -> String {
    match (ended.unreadable, ended.outcome) {
        (Some(reason), _) => format!("the last state stays in force: {reason}"),
        (None, Err(failure)) => failure.to_string().lines().next().unwrap_or_default().to_owned(),
        (None, Ok(report)) => {
            let sound = several(report.objects, "object");
            match (report.held.len(), report.stuck.len()) {
                (0, 0) => format!("{sound} in force"),
                (held, 0) => format!("{sound} in force, {held} held"),
                (held, stuck) => format!("{sound}, {held} held, {} not staying as written", several(stuck, "rule")),
            }
        }
    }
}

/// Without systemd there is nobody to tell.
fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
