//! When tasks crash: a function of a seed, so that a failure can be seen again.

/// What happens to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    None,
    /// In the middle of it.
    Inside,
    /// When it is processed but not committed.
    BeforeCommit,
}

/// A sequence of crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPlan {
    state: u64,
    percent: u8,
}

impl CrashPlan {
    /// No crash.
    #[must_use]
    pub fn never() -> Self {
        Self { state: 0, percent: 0 }
    }

    /// About `percent` of the batches crash, at most 90; which ones follows from the seed.
    #[must_use]
    pub fn seeded(seed: u64, percent: u8) -> Self {
        Self { state: seed, percent: percent.min(90) }
    }

    pub(super) fn next(&mut self) -> Crash {
        if self.percent == 0 {
            return Crash::None;
        }
        // SplitMix64: a fixed function, not a source of randomness.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        match (z % 100 < u64::from(self.percent), z & (1 << 40) == 0) {
            (false, _) => Crash::None,
            (true, true) => Crash::Inside,
            (true, false) => Crash::BeforeCommit,
        }
    }
}
