//! The memory that requests and their answers may take together: one number for the node.
//!
//! Invariants: who waits is served in order, and a small request does not overtake a large one; what is larger than the whole budget
//! takes all of it and so runs alone. What must not wait (a part of the server that reads its own log, whose buffers have bounds
//! of their own) is counted all the same: it leaves less to the others, and for a while less than nothing.
//!
//! Not here: memory that does not grow with requests (stores of the engine, caches, the log's buffers).

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// The budget. Shared by everything that takes requests in or makes answers.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    free: Arc<Semaphore>,
    /// Bytes that were taken beyond the limit: what is given back pays for them first.
    debt: Mutex<usize>,
}

/// Bytes that are taken; given back when it is dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        metrics::gauge!("sunseo_memory_limit_bytes").set(limit as f64);
        Arc::new(Self { limit, free: Arc::new(Semaphore::new(limit)), debt: Mutex::new(0) })
    }

    /// Waits in line until there is room.
    pub async fn reserve(self: &Arc<Self>, bytes: usize) -> Reserved {
        if let Some(reserved) = self.try_reserve(bytes) {
            return reserved;
        }
        metrics::counter!("sunseo_memory_waits_total").increment(1);
        let bytes = bytes.min(self.limit);
        // never closed; limits are checked to fit 32 bits
        if let Ok(permit) = self.free.acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX)).await {
            permit.forget();
        }
        self.taken(bytes)
    }

    /// `None` when there is no room, or somebody waits already.
    pub fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        let bytes = bytes.min(self.limit);
        self.free.try_acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX)).ok()?.forget();
        Some(self.taken(bytes))
    }

    /// Counts bytes without waiting.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: usize) -> Reserved {
        let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        *debt += bytes - self.free.forget_permits(bytes);
        drop(debt);
        self.taken(bytes)
    }

    fn taken(self: &Arc<Self>, bytes: usize) -> Reserved {
        metrics::gauge!("sunseo_memory_reserved_bytes").increment(bytes as f64);
        Reserved { budget: Arc::clone(self), bytes }
    }

    fn give_back(&self, bytes: usize) {
        metrics::gauge!("sunseo_memory_reserved_bytes").decrement(bytes as f64);
        let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = bytes.min(*debt);
        *debt -= paid;
        self.free.add_permits(bytes - paid);
    }

    /// Bytes that nobody has; 0 also when more is taken than there is.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.free.available_permits()
    }
}

impl Reserved {
    /// Gives back what is not needed, or counts what is needed more, without waiting for it.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            // the one that is let go of has no bytes any more
            self.bytes += std::mem::take(&mut self.budget.take(bytes - self.bytes).bytes);
            return;
        }
        let surplus = self.bytes - bytes;
        self.bytes = bytes;
        self.budget.give_back(surplus);
    }

    /// A part of it as a reservation of its own; at most what there is.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: Arc::clone(&self.budget), bytes }
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_served_in_order_and_what_is_too_large_runs_alone() {
        let budget = Budget::new(100);
        let first = budget.reserve(60).await;
        let large = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.reserve(1_000).await }
        });
        tokio::task::yield_now().await;
        assert!(budget.try_reserve(10).is_none(), "nobody overtakes");
        drop(first);
        let large = large.await.unwrap();
        assert_eq!((large.bytes(), budget.free_bytes()), (100, 0));
        drop(large);
        assert_eq!(budget.free_bytes(), 100);
    }

    #[tokio::test]
    async fn what_does_not_wait_leaves_less_to_the_others() {
        let budget = Budget::new(100);
        let (a, mut b) = (budget.take(70), budget.take(80));
        assert_eq!(budget.free_bytes(), 0);
        drop(a);
        assert_eq!(budget.free_bytes(), 20);
        let part = b.split(50);
        b.set(10);
        assert_eq!((b.bytes(), budget.free_bytes()), (10, 40));
        b.set(60);
        assert_eq!((b.bytes(), budget.free_bytes()), (60, 0));
        drop((part, b));
        assert_eq!(budget.free_bytes(), 100);
        let waits = tokio::time::timeout(Duration::from_millis(10), budget.reserve(100)).await;
        assert!(waits.is_ok());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_takes_nothing() {
        let budget = Budget::new(10);
        let held = budget.reserve(10).await;
        let waits = tokio::time::timeout(Duration::from_millis(10), budget.reserve(5)).await;
        assert!(waits.is_err());
        drop(held);
        assert_eq!(budget.free_bytes(), 10);
    }
}
