//! Chance that can be repeated.
#![allow(clippy::print_stderr, reason = "the seed is needed to see a failure again")]

use std::time::Duration;

/// SplitMix64: the same moments for the same seed.
pub struct Random(u64);

impl Random {
    /// From the seed `DAYKEEP_CRASH_SEED`, which is printed; streams of one seed have nothing in common.
    pub fn seeded(stream: u64) -> Self {
        let seed = std::env::var("DAYKEEP_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 = seed.unwrap_or(20_261_121);
        eprintln!("DAYKEEP_CRASH_SEED={seed} (stream {stream})");
        Self(seed.wrapping_mul(31).wrapping_add(stream))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to below `limit`.
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below a usize")]
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn is_even(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    /// A moment in a time.
    pub fn part_of(&mut self, time: Duration) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a moment need not be exact")]
        let part = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        time.mul_f64(part)
    }
}
