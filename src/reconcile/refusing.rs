//! Objects that a tool will not take: set aside, and tried again less and less often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::report::Held;
use crate::compile::ObjectRules;
use crate::plan::desire::Refused;

/// A refused object is tried again after this time even if nothing of it changed, since what it lacked may be there now; then after twice as long each
/// time, because a trial shuts its guest for a moment.
const FIRST_RETRIAL: Duration = Duration::from_mins(1);
/// But never later than this.
const LAST_RETRIAL: Duration = Duration::from_mins(15);

/// What is known about an object that a tool would not take.
#[derive(Debug, Clone)]
pub(super) struct Refusing {
    /// Which of its rules.
    pub level: Refused,
    /// Whether the current pass leaves it alone.
    pub rests: bool,
    /// As it is reported.
    pub held: Held,
    /// The fresh rules that were refused: other ones get a new chance.
    rules: Option<Arc<ObjectRules>>,
    since: Instant,
    pause: Duration,
}

impl Refusing {
    /// A first refusal, or one more after `before`.
    pub fn new(level: Refused, rules: Option<Arc<ObjectRules>>, held: Held, before: Option<Self>) -> Self {
        let (pause, held) = match before {
            None => (FIRST_RETRIAL, held),
            // The first refusal names the fresh rule at fault; a later one of older rules must not hide it.
            Some(before) if before.rests => (before.pause, before.held),
            Some(before) => (LAST_RETRIAL.min(before.pause * 2), held),
        };
        Self { level, rests: true, held, rules, since: Instant::now(), pause }
    }

    /// Decides at the begin of a pass whether it leaves the object alone. False when there is nothing left of the refusal, because the rules are others now.
    pub fn counts(&mut self, fresh: Option<&Arc<ObjectRules>>) -> bool {
        self.rests = self.since.elapsed() < self.pause;
        fresh == self.rules.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Object;
    use crate::plan::desire::Keeping;

    fn refusal(words: &str, before: Option<Refusing>) -> Refusing {
        let object = Object::Network("lab".into());
        let held = Held { object, keeping: Keeping::Closed, code: "tool-refused".into(), message: words.into(), place: None };
        Refusing::new(Refused::Fresh, None, held, before)
    }

    #[test]
    fn each_trial_that_fails_makes_the_next_one_later_up_to_a_limit() {
        let mut refusing = refusal("first", None);
        assert_eq!(refusing.pause, FIRST_RETRIAL);
        for minutes in [2, 4, 8, 15, 15] {
            refusing.rests = false;
            refusing = refusal("again", Some(refusing));
            assert_eq!((refusing.pause, &*refusing.held.message), (Duration::from_mins(minutes), "again"));
        }
    }

    #[test]
    fn of_two_refusals_in_one_pass_the_first_is_told() {
        let second = refusal("second", Some(refusal("first", None)));
        assert_eq!((second.pause, &*second.held.message), (FIRST_RETRIAL, "first"));
    }

    #[test]
    fn other_rules_get_a_new_chance() {
        let mut refusing = refusal("first", None);
        assert!(refusing.counts(None) && refusing.rests);
        assert!(!refusing.counts(Some(&Arc::default())));
    }
}
