//! Chance.

use std::time::{SystemTime, UNIX_EPOCH};

/// Chance for the tests that strike at random: another each time, and said, so that a run can be told from another.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Seeded by the clock, or by `SEED`.
    #[must_use]
    pub fn new() -> Self {
        let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        Self(given.unwrap_or_else(clock))
    }

    /// What it was seeded by, at first.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0
    }

    /// A number below `bound`: splitmix64.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self::new()
    }
}
