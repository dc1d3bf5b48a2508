//! Samples in, what grows out. Pure.
//!
//! The first third is warm-up. Of the other two the medians are compared: whatever grows without bound is larger in the last one by a third
//! of itself or more, whatever only breathes is not.

use super::sample::{NAMES, Sample};

/// What a value may be larger in the last third than in the second, in percent of that.
const PERCENT: u64 = 15;
/// And beyond that, as [`NAMES`]: what is small may be larger by what comes and goes at once.
const SLACK: [u64; NAMES.len()] = [8 << 10, 8, 2 << 10, 16, 4, 8, 4, 8, 8];

/// One value's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    pub what: &'static str,
    pub second_third: u64,
    pub last_third: u64,
    /// More than it may be.
    pub grows: bool,
}

/// How each value changed from the second to the last third; nothing when there are fewer than three samples.
#[must_use]
pub fn growth(samples: &[Sample]) -> Vec<Growth> {
    let third = samples.len() / 3;
    if third == 0 {
        return Vec::new();
    }
    let (second, last) =
        (&samples[samples.len() - 2 * third..samples.len() - third], &samples[samples.len() - third..]);
    let compare = |at: usize| {
        let (second_third, last_third) = (median(second, at), median(last, at));
        let most = second_third + second_third * PERCENT / 100 + SLACK[at];
        Growth { what: NAMES[at], second_third, last_third, grows: last_third > most }
    };
    (0..NAMES.len()).map(compare).collect()
}

fn median(samples: &[Sample], at: usize) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(|sample| sample.values[at]).collect();
    values.sort_unstable();
    values[values.len() / 2]
}
