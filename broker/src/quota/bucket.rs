//! A token bucket. Pure: amounts and times in, waiting times out.
//!
//! It holds at most what flows in during one second, and may be overdrawn: who asks gets what it asks for and is told how long to wait
//! until the bucket is even again. So a request is never cut, and over any time the rate holds but for one second's worth
//! and the last request.

/// Thousandths of a token: what flows in during a millisecond at a rate of one per second.
const PER_TOKEN: i64 = 1_000;

/// Time for which the bucket may save up.
const BURST_MS: i64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Tokens per second.
    rate: i64,
    /// In thousandths; below zero it is overdrawn.
    level: i64,
    at_ms: i64,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: u64, now_ms: i64) -> Self {
        let rate = i64::try_from(rate).unwrap_or(i64::MAX / PER_TOKEN).clamp(1, i64::MAX / PER_TOKEN);
        Self { rate, level: rate.saturating_mul(BURST_MS), at_ms: now_ms }
    }

    pub(crate) fn rate(&self) -> u64 {
        self.rate.unsigned_abs()
    }

    fn refill(&mut self, now_ms: i64) {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms).max(0);
        let full = self.rate.saturating_mul(BURST_MS);
        self.level = self.level.saturating_add(self.rate.saturating_mul(elapsed_ms)).min(full);
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// Takes an amount; milliseconds until the bucket is even again.
    pub(crate) fn take(&mut self, amount: u64, now_ms: i64) -> u64 {
        self.refill(now_ms);
        let amount = i64::try_from(amount).unwrap_or(i64::MAX).saturating_mul(PER_TOKEN);
        self.level = self.level.saturating_sub(amount);
        self.wait_ms()
    }

    /// Goes on with another rate: a debt stays one, in time.
    pub(crate) fn set_rate(&mut self, rate: u64, now_ms: i64) {
        self.refill(now_ms);
        let wait_ms = i64::try_from(self.wait_ms()).unwrap_or(i64::MAX);
        let fresh = Self::new(rate, now_ms);
        self.rate = fresh.rate;
        self.level = match wait_ms {
            0 => self.level.min(fresh.level),
            // what was too much at the former rate is not held against the new one for longer
            wait_ms => self.level.max(self.rate.saturating_mul(wait_ms).saturating_neg()),
        };
    }

    /// Whether it has saved up all it can: forgetting it changes nothing.
    pub(crate) fn is_full(&self, now_ms: i64) -> bool {
        let mut later = self.clone();
        later.refill(now_ms);
        later.level >= later.rate.saturating_mul(BURST_MS)
    }

    fn wait_ms(&self) -> u64 {
        match self.level {
            0.. => 0,
            debt => debt.unsigned_abs().div_ceil(self.rate.unsigned_abs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_is_saved_up_and_more_costs_time() {
        let mut bucket = Bucket::new(100, 0);
        assert_eq!(bucket.take(100, 0), 0, "one second's worth");
        assert_eq!(bucket.take(1, 0), 10);
        assert_eq!(bucket.take(0, 5), 5);
        assert_eq!(bucket.take(0, 10), 0);
        assert!(!bucket.is_full(500) && bucket.is_full(1_010));
        assert_eq!(bucket.take(250, 60_000), 1_500, "an hour of silence saves no more than a second");
        assert_eq!(bucket.take(0, 59_000), 1_500, "time does not go back");
    }

    #[test]
    fn a_new_rate_holds_at_once() {
        let mut bucket = Bucket::new(10, 0);
        assert_eq!(bucket.take(110, 0), 10_000);
        bucket.set_rate(1_000, 0);
        assert_eq!((bucket.rate(), bucket.take(0, 0)), (1_000, 100));
        let mut bucket = Bucket::new(1_000, 0);
        bucket.set_rate(10, 0);
        assert_eq!(bucket.take(10, 0), 0);
        assert_eq!(bucket.take(10, 0), 1_000);
        assert_eq!(Bucket::new(u64::MAX, 0).take(u64::MAX, i64::MAX), 1, "no overflow");
        assert_eq!(Bucket::new(0, 0).rate(), 1);
    }

    proptest! {
        /// Who waits as told never gets more than the rate, but for the first second and the last request.
        #[test]
        fn the_rate_holds_for_who_waits(rate in 1_u64..5_000, amounts in proptest::collection::vec(1_u64..20_000, 1..80)) {
            let (mut bucket, mut now_ms, mut taken) = (Bucket::new(rate, 0), 0_i64, 0_u64);
            for amount in amounts {
                let before = taken;
                prop_assert!(before * 1_000 <= rate * (now_ms.unsigned_abs() + 1_000), "{} at {} ms", before, now_ms);
                taken += amount;
                now_ms += i64::try_from(bucket.take(amount, now_ms)).unwrap();
            }
        }
    }
}
