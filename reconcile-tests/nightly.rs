//! How often something is tried: a few times in `make test`, many times in `make nightly`.

use proptest::test_runner::TestRunner;

/// `many` when the nightly target asks, else `few`.
pub fn times<N>(few: N, many: N) -> N {
    if std::env::var_os("BRIDGEWARD_NIGHTLY").is_some_and(|value| !value.is_empty()) { many } else { few }
}

/// What makes random values outside of a law: the same every time unless a seed is given, as for the laws.
pub fn runner() -> TestRunner {
    // The default one takes the seed.
    if std::env::var_os("PROPTEST_RNG_SEED").is_some() { TestRunner::default() } else { TestRunner::deterministic() }
}

/// Numbers for choices: the same every time unless a seed is given (`PROPTEST_RNG_SEED`, as for the laws).
pub struct Dice(u64);

impl Dice {
    /// Dice for one test.
    pub fn new() -> Self {
        let seed = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        Self(seed | 1)
    }

    /// A number below `end` (xorshift64).
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
