//! When a refused request is sent again: attempt, error and elapsed time in, decision out.
//!
//! Pure: the caller draws the random number and does the waiting. An error that is not retryable is given up at once.

use std::time::Duration;

use sunseo_proto::Error;

/// How attempts are spaced and when they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Wait before the second attempt; doubles with every further one.
    pub initial: Duration,
    /// Longest wait between two attempts.
    pub max: Duration,
    /// Time since the first attempt after which no other is made; `None` never gives up.
    pub deadline: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { initial: Duration::from_millis(20), max: Duration::from_secs(1), deadline: None }
    }
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send the same request again after this wait.
    RetryAfter(Duration),
    /// Hand the error to the caller.
    GiveUp,
}

impl RetryPolicy {
    /// The same policy with an end.
    #[must_use]
    pub fn until(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// What follows the failure of attempt number `attempt` (from 1), `elapsed` after the first one began.
    /// `random` is drawn evenly from `0.0..1.0`; it takes away up to half of the wait, so that many clients that failed
    /// together do not come back together.
    #[must_use]
    pub fn decide(&self, attempt: u32, error: &Error, elapsed: Duration, random: f64) -> Decision {
        if !error.retryable() {
            return Decision::GiveUp;
        }
        let wait = self.backoff(attempt, random);
        match self.deadline {
            Some(deadline) if elapsed + wait >= deadline => Decision::GiveUp,
            _ => Decision::RetryAfter(wait),
        }
    }

    /// The wait after attempt number `attempt` (from 1).
    #[must_use]
    pub fn backoff(&self, attempt: u32, random: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        let full = self.initial.saturating_mul(1 << doublings).min(self.max);
        full.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
    }
}

/// Makes attempts until one succeeds or the policy gives up.
pub(crate) async fn repeat<T, F: Future<Output = sunseo_proto::error::Result<T>>>(
    policy: RetryPolicy,
    mut attempt_once: impl FnMut() -> F,
) -> sunseo_proto::error::Result<T> {
    let (start, mut attempt) = (tokio::time::Instant::now(), 0);
    loop {
        let error = match attempt_once().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        attempt += 1;
        match policy.decide(attempt, &error, start.elapsed(), draw()) {
            Decision::RetryAfter(wait) => tokio::time::sleep(wait).await,
            Decision::GiveUp => return Err(error),
        }
    }
}

/// A random number for [`RetryPolicy`].
pub(crate) fn draw() -> f64 {
    use rand::RngExt as _;
    rand::rng().random::<f64>()
}

#[cfg(test)]
mod tests {
    use sunseo_proto::ErrorCode;

    use super::*;

    fn error(code: ErrorCode) -> Error {
        Error::new(code, "scripted")
    }

    #[test]
    fn waits_double_up_to_the_maximum_and_jitter_takes_at_most_half() {
        let policy = RetryPolicy {
            initial: Duration::from_millis(10),
            max: Duration::from_millis(50),
            deadline: None,
        };
        let waits: Vec<_> = (1..=5).map(|attempt| policy.backoff(attempt, 0.0).as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 50, 50]);
        assert_eq!(policy.backoff(u32::MAX, 1.0).as_millis(), 25);
    }

    #[test]
    fn only_retryable_errors_are_tried_again_and_only_until_the_deadline() {
        let policy = RetryPolicy::default().until(Duration::from_secs(2));
        let now = Duration::ZERO;
        assert_eq!(policy.decide(1, &error(ErrorCode::ProducerFenced), now, 0.0), Decision::GiveUp);
        let retry = Decision::RetryAfter(Duration::from_millis(20));
        assert_eq!(policy.decide(1, &error(ErrorCode::DiskFull), now, 0.0), retry);
        let late = Duration::from_millis(1990);
        assert_eq!(policy.decide(1, &error(ErrorCode::DiskFull), late, 0.0), Decision::GiveUp);
    }
}
