//! Counts of times in buckets that grow with the time: exact below 128 us, within 1.6 % above.
//!
//! After Gil Tene's HdrHistogram: 64 buckets for every doubling. Nothing is lost at the upper end.

/// Buckets of one doubling.
const STEPS: u64 = 64;

/// Values below have a bucket each.
const EXACT: u64 = 2 * STEPS;

/// Bits of a value that its bucket keeps, beside the leading one.
const STEP_BITS: u32 = STEPS.ilog2();

/// Microseconds, counted.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

fn bucket(micros: u64) -> usize {
    if micros < EXACT {
        return micros as usize;
    }
    let shift = micros.ilog2() - STEP_BITS;
    (u64::from(shift) * STEPS + (micros >> shift)) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let steps = bucket % STEPS + STEPS;
    // the last bucket ends where the numbers do
    ((u128::from(steps + 1) << shift) - 1).min(u64::MAX.into()) as u64
}

impl Histogram {
    pub fn record(&mut self, micros: u64) {
        let bucket = bucket(micros);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(micros);
    }

    pub fn count(&self) -> u64 {
        self.total
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that this share of the counted ones does not exceed; 0 when nothing was counted.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(bucket).min(self.max);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket_and_the_bucket_is_narrow(micros: u64) {
            let bucket = bucket(micros);
            prop_assert!(micros <= upper(bucket));
            prop_assert!(bucket == 0 || micros > upper(bucket - 1));
            prop_assert!(upper(bucket) - micros <= micros / 64);
        }

        #[test]
        fn quantiles_are_within_two_percent_of_the_exact_ones(
            mut values in proptest::collection::vec(0u64..10_000_000, 1..500), share in 0.0f64..=1.0,
        ) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.record(value));
            values.sort_unstable();
            let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            let found = histogram.quantile(share);
            prop_assert!(found >= exact && found - exact <= exact / 50 + 1, "{found} for {exact}");
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.quantile(1.0), histogram.max());
        }
    }

    #[test]
    fn nothing_counted_is_zero() {
        assert_eq!(Histogram::default().quantile(0.99), 0);
    }
}
