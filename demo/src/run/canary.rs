//! End-to-end latency: from the commit of an event to the count that shows it.
//!
//! Canary orders come from a shop outside every district and are cancelled at once, so the count of cancelled deliveries
//! outside is the number of canaries that have come through, and only grows. Commit number n and the moment at which a query
//! first answers n belong together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sunseo_client::Client;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::event::{DistrictStatus, OrderStep, Reason, Status, Transaction};
use crate::regions::OUTSIDE;
use crate::topics::{COUNTS_STORE, PIPELINE};

/// Time between two queries: the resolution of the figures, and a bound on their cost.
const EVERY: Duration = Duration::from_millis(5);
/// While the node is away.
const AWAY: Duration = Duration::from_millis(50);

/// Whether the step, once committed, adds a canary to the count.
#[must_use]
pub fn is_canary(step: &OrderStep) -> bool {
    step.transaction != Transaction::RollBack
        && step.event.status == Status::Cancelled
        && step.event.reason == Some(Reason::Canary)
}

/// Moments of canaries, one side of the measurement each.
#[derive(Clone, Debug, Default)]
pub struct Moments(Arc<Mutex<Vec<Instant>>>);

impl Moments {
    fn lock(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, now.
    pub fn note(&self) {
        self.lock().push(Instant::now());
    }

    fn note_up_to(&self, count: usize) {
        let mut moments = self.lock();
        let now = Instant::now();
        while moments.len() < count {
            moments.push(now);
        }
    }
}

/// Watches the count until it is aborted.
pub async fn watch_count(client: Client, visible: Moments, seen: watch::Sender<u64>) {
    let key = DistrictStatus { district: OUTSIDE.to_owned(), status: Status::Cancelled };
    // a struct of text and a unit enum always has a JSON form
    let key_json = serde_json::to_string(&key).unwrap_or_default();
    let Ok(query) = client.query() else { return };
    loop {
        let pause = match query.get(PIPELINE, COUNTS_STORE, &key_json).await {
            Ok(answer) => {
                let count = answer.entry.and_then(|entry| entry.value_json.parse::<u64>().ok()).unwrap_or(0);
                visible.note_up_to(usize::try_from(count).unwrap_or(usize::MAX).min(COUNT_MAX));
                seen.send_if_modified(|seen| {
                    let more = *seen < count;
                    *seen = count.max(*seen);
                    more
                });
                EVERY
            }
            Err(_) => AWAY,
        };
        tokio::time::sleep(pause).await;
    }
}

/// A count beyond all canaries is wrong, and the comparison will say so; memory is not given for it.
const COUNT_MAX: usize = 1 << 20;

/// From commit to count, in milliseconds, sorted.
#[must_use]
pub fn latencies_ms(committed: &Moments, visible: &Moments) -> Vec<f64> {
    let (committed, visible) = (committed.lock(), visible.lock());
    let mut latencies: Vec<f64> = committed
        .iter()
        .zip(visible.iter())
        .map(|(committed, visible)| visible.saturating_duration_since(*committed).as_secs_f64() * 1_000.0)
        .collect();
    latencies.sort_by(f64::total_cmp);
    latencies
}

/// The value below which this part of sorted values lies (nearest rank); `None` of nothing.
#[must_use]
pub fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    let rank = (part * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(100.0));
        assert_eq!(percentile(&values, 0.99), Some(198.0));
        assert_eq!(percentile(&values, 1.0), Some(200.0));
        assert_eq!(percentile(&[7.0], 0.01), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[tokio::test(start_paused = true)]
    async fn commits_and_counts_belong_together_by_their_number() {
        let (committed, visible) = (Moments::default(), Moments::default());
        committed.note();
        tokio::time::advance(Duration::from_millis(10)).await;
        committed.note();
        tokio::time::advance(Duration::from_millis(20)).await;
        visible.note_up_to(1);
        tokio::time::advance(Duration::from_millis(5)).await;
        committed.note();
        visible.note_up_to(2);
        let latencies = latencies_ms(&committed, &visible);
        assert_eq!(latencies, [25.0, 30.0], "the third has not come through");
    }
}
