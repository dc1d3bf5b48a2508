//! The partitions of this node as everybody may see them, and who waits for more of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use sunseo_proto::PartitionId;
use tokio::sync::oneshot;

use crate::partition::Partition;
use crate::waiters::{WaiterId, Waiters};

/// How a waiting fetch is woken.
type Wake = oneshot::Sender<()>;

/// Shared by the log's thread, which changes it, and all readers.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    by_id: RwLock<HashMap<PartitionId, Arc<Partition>>>,
    waiters: Mutex<Waiters<Wake>>,
    /// The log's thread has ended: nothing is committed any more.
    closed: AtomicBool,
}

impl Partitions {
    pub(crate) fn get(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn insert(&self, partition: Arc<Partition>) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.insert(partition.id, partition);
        count(by_id.len());
    }

    pub(crate) fn remove(&self, id: PartitionId) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.remove(&id);
        count(by_id.len());
        drop(by_id);
        wake(self.waiters().forget(id));
    }

    pub(crate) fn committed(&self, id: PartitionId, bytes: u64) {
        wake(self.waiters().committed(id, bytes));
    }

    pub(crate) fn changed(&self, id: PartitionId) {
        wake(self.waiters().changed(id));
    }

    /// Everyone who waits is woken, to hear that the node is stopping.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let all: Vec<PartitionId> =
            self.by_id.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        all.into_iter().for_each(|id| self.changed(id));
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// What [`Partitions::wait`] compares with: to be taken before the log is read.
    pub(crate) fn committed_bytes(&self, ids: &[PartitionId]) -> Vec<(PartitionId, u64)> {
        let waiters = self.waiters();
        ids.iter().map(|id| (*id, waiters.committed_bytes(*id))).collect()
    }

    /// Returns when `missing` bytes more than `seen` are committed. Dropping the future ends the wait.
    pub(crate) async fn wait(&self, seen: &[(PartitionId, u64)], missing: u64) {
        let (wake, woken) = oneshot::channel();
        let registered = self.waiters().register(seen, missing, wake);
        let Ok(waiter) = registered else { return };
        let _leave = Leave { partitions: self, waiter };
        if self.is_closed() {
            return;
        }
        // either woken, or the node is going away
        let _ = woken.await;
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters<Wake>> {
        // nothing panics while it holds the lock
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Leave<'a> {
    partitions: &'a Partitions,
    waiter: WaiterId,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.partitions.waiters().remove(self.waiter);
    }
}

fn wake(woken: Vec<Wake>) {
    for wake in woken {
        // a fetch that has just timed out is not there any more
        let _ = wake.send(());
    }
}

fn count(partitions: usize) {
    metrics::gauge!("sunseo_partitions").set(partitions as f64);
}
