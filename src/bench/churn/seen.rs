//! What the members of a group were handed: which records, and how late the latest of them was.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug)]
pub struct Seen {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By partition and offset.
    offsets: Vec<Vec<bool>>,
    distinct: u64,
    repeated: u64,
    latest: Duration,
}

impl Seen {
    pub fn new(partitions: i32) -> Self {
        let offsets = vec![Vec::new(); usize::try_from(partitions).unwrap_or(0)];
        Self { inner: Mutex::new(Inner { offsets, ..Inner::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records, each with its place and its delay since it was due. One that comes again is not late: it came before.
    pub fn note(&self, records: impl IntoIterator<Item = (i32, i64, Duration)>) {
        let mut inner = self.lock();
        let Inner { offsets, distinct, repeated, latest } = &mut *inner;
        for (partition, offset, delay) in records {
            let (Ok(partition), Ok(offset)) = (usize::try_from(partition), usize::try_from(offset)) else {
                continue;
            };
            let Some(seen) = offsets.get_mut(partition) else { continue };
            if seen.len() <= offset {
                seen.resize(offset + 1, false);
            }
            if std::mem::replace(&mut seen[offset], true) {
                *repeated += 1;
            } else {
                *distinct += 1;
                *latest = (*latest).max(delay);
            }
        }
    }

    pub fn distinct(&self) -> u64 {
        self.lock().distinct
    }

    pub fn repeated(&self) -> u64 {
        self.lock().repeated
    }

    /// The longest delay since the last call.
    pub fn take_latest(&self) -> Duration {
        std::mem::take(&mut self.lock().latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_once_and_the_longest_delay_is_kept() {
        let (seen, ms) = (Seen::new(2), Duration::from_millis);
        seen.note([(0, 0, ms(5)), (1, 0, ms(9)), (0, 3, ms(2))]);
        seen.note([(1, 0, ms(700)), (7, 0, ms(800))]);
        assert_eq!((seen.distinct(), seen.repeated()), (3, 1));
        assert_eq!((seen.take_latest(), seen.take_latest()), (ms(9), Duration::ZERO));
    }
}
