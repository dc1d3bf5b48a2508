//! How many databases of this process are open.
//!
//! RocksDB's globals end with the process. A database that is still closing then, on whatever thread held it last, meets destroyed locks
//! and aborts a process whose work was done. So whoever ends a process waits until none is open.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

static DATABASES: Open = Open::new();

/// A count that can be waited for.
#[derive(Debug)]
struct Open {
    count: Mutex<usize>,
    none: Condvar,
}

impl Open {
    const fn new() -> Self {
        Self { count: Mutex::new(0), none: Condvar::new() }
    }

    fn mark(&'static self) -> Mark {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Mark(self)
    }

    fn wait(&self, longest: Duration) -> bool {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.none.wait_timeout_while(count, longest, |count| *count > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

/// Counts one database until it is dropped; it must be dropped after the database.
#[derive(Debug)]
pub(crate) struct Mark(&'static Open);

impl Mark {
    pub(crate) fn new() -> Self {
        DATABASES.mark()
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.none.notify_all();
    }
}

/// Waits until every engine of this process has closed its database; blocks the thread. False when `longest` was not enough: somebody
/// still holds an engine.
#[must_use]
pub fn wait_until_closed(longest: Duration) -> bool {
    DATABASES.wait(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_when_the_last_one_closes() {
        static OPEN: Open = Open::new();
        assert!(OPEN.wait(Duration::ZERO), "none was opened");
        let (first, second) = (OPEN.mark(), OPEN.mark());
        assert!(!OPEN.wait(Duration::ZERO));
        drop(first);
        assert!(!OPEN.wait(Duration::ZERO));
        let waiting = std::thread::spawn(|| OPEN.wait(Duration::from_secs(60)));
        drop(second);
        assert!(waiting.join().unwrap());
    }
}
