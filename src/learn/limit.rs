//! How much of one guest is listened to: a bucket of tokens, with the time as a value.

use std::time::Duration;

/// Lets through bursts up to its size and, over a long time, no more than its rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Tokens that it holds at most.
    size: f64,
    /// Tokens a second.
    rate: f64,
    tokens: f64,
    last: Duration,
}

impl Bucket {
    /// A full one. `rate` is in tokens a second.
    pub fn full(size: u32, rate: f64) -> Self {
        Self { size: f64::from(size), rate, tokens: f64::from(size), last: Duration::ZERO }
    }

    /// Takes a token if there is one. `now` is the time since any fixed moment; a clock that is set back brings nothing, and goes on from there.
    pub fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.tokens = self.size.min(self.rate.mul_add(passed, self.tokens));
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut bucket = Bucket::full(50, 10.0);
        let burst = (0..1000).filter(|_| bucket.take(Duration::from_secs(1000))).count();
        assert_eq!(burst, 50);
        let later = (0..10_000).filter(|step| bucket.take(Duration::from_secs(1000) + Duration::from_millis(*step))).count();
        assert!((99..=101).contains(&later), "{later}");
    }

    #[test]
    fn a_clock_that_is_set_back_brings_nothing_and_goes_on() {
        let mut bucket = Bucket::full(1, 1.0);
        assert!(bucket.take(Duration::from_secs(1000)));
        assert!(!bucket.take(Duration::from_secs(10)));
        assert!(bucket.take(Duration::from_secs(11)));
        assert!(!bucket.take(Duration::from_secs(11)));
    }
}
