//! What a measurement has counted so far: for its report, and for a terminal while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::histogram::Histogram;
use super::produce::micros;

/// How often a terminal is told.
const REFRESH: Duration = Duration::from_millis(250);

/// Records and times of one measurement. Nothing counts before [`begin`](Self::begin).
#[derive(Debug)]
pub struct Counted {
    records: AtomicU64,
    record_bytes: usize,
    times: Mutex<Histogram>,
    from: OnceLock<Instant>,
}

impl Counted {
    pub fn new(record_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            records: AtomicU64::new(0),
            record_bytes,
            times: Mutex::new(Histogram::default()),
            from: OnceLock::new(),
        })
    }

    /// The warm-up is over.
    pub fn begin(&self) {
        // only the first call counts
        let _ = self.from.set(Instant::now());
    }

    /// Whether what happened at this moment is measured.
    pub fn measures(&self, at: Instant) -> bool {
        self.from.get().is_some_and(|from| at >= *from)
    }

    pub fn add(&self, records: u64) {
        if self.from.get().is_some() {
            self.records.fetch_add(records, Ordering::Relaxed);
        }
    }

    /// Times, each of something that the caller knows to be measured.
    pub fn time(&self, times: impl IntoIterator<Item = Duration>) {
        let mut all = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.into_iter().for_each(|time| all.record(micros(time)));
    }

    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub fn times(&self) -> Histogram {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Seconds since the warm-up.
    pub fn seconds(&self) -> f64 {
        self.from.get().map_or(0.0, |from| from.elapsed().as_secs_f64())
    }

    fn line(&self) -> String {
        let (seconds, records) = (self.seconds(), self.records() as f64);
        if seconds <= 0.0 {
            return "warming up".to_owned();
        }
        let rate = records / seconds;
        let megabytes = rate * self.record_bytes as f64 / 1e6;
        let mut line = format!("{rate:.0} records/s  {megabytes:.1} MB/s");
        let times = self.times();
        if times.count() > 0 {
            let ms = |share| times.quantile(share) as f64 / 1e3;
            line += &format!("  p50 {:.1} ms  p99 {:.1} ms", ms(0.5), ms(0.99));
        }
        line
    }

    /// Keeps the line of a terminal up to date as long as the answer is held.
    pub fn show(self: &Arc<Self>, bar: &ProgressBar) -> Option<AbortOnDropHandle<()>> {
        if bar.is_hidden() {
            return None;
        }
        let (counted, bar) = (Arc::clone(self), bar.clone());
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                bar.set_message(counted.line());
                tokio::time::sleep(REFRESH).await;
            }
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_counts_before_the_warm_up_is_over() {
        let counted = Counted::new(100);
        counted.add(5);
        assert_eq!((counted.records(), counted.measures(Instant::now())), (0, false));
        assert_eq!(counted.line(), "warming up");
        counted.begin();
        counted.add(7);
        counted.time([Duration::from_millis(3)]);
        assert_eq!((counted.records(), counted.measures(Instant::now())), (7, true));
        std::thread::scope(|_| while counted.seconds() == 0.0 {});
        assert!(counted.line().ends_with("p50 3.0 ms  p99 3.0 ms"), "{}", counted.line());
    }
}
