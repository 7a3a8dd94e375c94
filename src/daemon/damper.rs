//! How long to wait before repairing again, when somebody keeps undoing our repairs.
//!
//! A single flush is repaired at once. Two writers that each put back what the other one changed would go on for ever and as fast as they
//! can; so each repair that follows closely on the last one waits twice as long, until there is peace for a while.

use std::time::{Duration, Instant};

/// The first repair waits for nothing.
const FIRST: Duration = Duration::from_millis(100);
/// No repair waits longer.
const LONGEST: Duration = Duration::from_secs(10);
/// A repair within this time after the end of the last pause belongs to the same fight.
const PEACE: Duration = Duration::from_secs(3);
/// From this pause on it is worth an alarm.
const ALARM: Duration = Duration::from_secs(1);

/// Remembers the last repairs.
#[derive(Debug, Clone, Default)]
pub struct Damper {
    last: Option<Instant>,
    pause: Duration,
}

impl Damper {
    /// How long to wait before a repair that is due `now`; zero outside of a fight.
    pub fn pause(&self, now: Instant) -> Duration {
        match self.last {
            Some(last) if now.duration_since(last) < PEACE + self.pause => self.pause,
            _ => Duration::ZERO,
        }
    }

    /// Takes in that rules were repaired at `now`; true when this is a fight that somebody should know of.
    pub fn repaired(&mut self, now: Instant) -> bool {
        let fighting = self.last.is_some_and(|last| now.duration_since(last) < PEACE + self.pause);
        self.pause = if fighting { LONGEST.min(FIRST.max(self.pause * 2)) } else { Duration::ZERO };
        self.last = Some(now);
        self.pause >= ALARM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_repair_never_waits_and_a_fight_slows_down_to_the_limit() {
        let mut now = Instant::now();
        let mut damper = Damper::default();
        let mut pauses = Vec::new();
        let mut alarms = 0;
        for _ in 0..12 {
            let pause = damper.pause(now);
            pauses.push(pause.as_millis());
            now += pause + Duration::from_millis(50);
            alarms += usize::from(damper.repaired(now));
        }
        assert_eq!(pauses, [0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        assert_eq!(alarms, 7);
        assert_eq!(damper.pause(now + Duration::from_secs(14)), Duration::ZERO, "peace");
    }

    #[test]
    fn repairs_far_apart_are_no_fight() {
        let mut now = Instant::now();
        let mut damper = Damper::default();
        for _ in 0..10 {
            assert_eq!(damper.pause(now), Duration::ZERO);
            assert!(!damper.repaired(now));
            now += Duration::from_secs(5);
        }
    }
}
