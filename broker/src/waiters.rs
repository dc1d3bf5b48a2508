//! Fetches that wait for more bytes. Pure: high watermarks in, waiters that have enough out.
//!
//! A partition counts the bytes that were ever committed under it. A fetch reads that counter *before* it reads the log, and names it
//! when it registers; what was committed in between is therefore never missed. Nobody polls.
//!
//! Not here: deadlines (the fetch's own timer ends its wait and removes it) and reading.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sunseo_proto::PartitionId;

/// Names a waiter while it waits.
pub(crate) type WaiterId = u64;

/// One fetch that waits; `T` is how it is woken.
#[derive(Debug)]
struct Waiter<T> {
    partitions: Vec<PartitionId>,
    /// Bytes that are still missing.
    missing: u64,
    wake: T,
}

#[derive(Debug, Default)]
struct Watched {
    committed_bytes: u64,
    waiters: Vec<WaiterId>,
}

/// Everyone who waits on this node.
#[derive(Debug)]
pub(crate) struct Waiters<T> {
    next_id: WaiterId,
    waiters: HashMap<WaiterId, Waiter<T>>,
    partitions: HashMap<PartitionId, Watched>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self { next_id: 0, waiters: HashMap::new(), partitions: HashMap::new() }
    }
}

impl<T> Waiters<T> {
    /// Bytes that were committed in a partition since this node started.
    pub(crate) fn committed_bytes(&self, id: PartitionId) -> u64 {
        self.partitions.get(&id).map_or(0, |watched| watched.committed_bytes)
    }

    /// Waits until `missing` bytes are committed beyond what `seen` says of the partitions. Gives `wake` back when they are there already.
    pub(crate) fn register(
        &mut self,
        seen: &[(PartitionId, u64)],
        missing: u64,
        wake: T,
    ) -> Result<WaiterId, T> {
        let since = |(id, bytes): &(PartitionId, u64)| self.committed_bytes(*id).saturating_sub(*bytes);
        let arrived: u64 = seen.iter().map(since).sum();
        if arrived >= missing {
            return Err(wake);
        }
        let waiter = self.next_id;
        self.next_id += 1;
        let partitions: Vec<PartitionId> = seen.iter().map(|(id, _)| *id).collect();
        for id in &partitions {
            self.partitions.entry(*id).or_default().waiters.push(waiter);
        }
        self.waiters.insert(waiter, Waiter { partitions, missing: missing - arrived, wake });
        Ok(waiter)
    }

    /// `bytes` more are committed in a partition: those who have enough now.
    pub(crate) fn committed(&mut self, id: PartitionId, bytes: u64) -> Vec<T> {
        let watched = self.partitions.entry(id).or_default();
        watched.committed_bytes += bytes;
        let waiting = watched.waiters.clone();
        let satisfied = waiting.into_iter().filter(|waiter| self.take_bytes(*waiter, bytes));
        satisfied.collect::<Vec<_>>().into_iter().filter_map(|waiter| self.remove(waiter)).collect()
    }

    /// A partition changed in another way (it failed, its log start moved, it is gone): everyone who waits for it looks again.
    pub(crate) fn changed(&mut self, id: PartitionId) -> Vec<T> {
        let waiting = self.partitions.get(&id).map(|watched| watched.waiters.clone()).unwrap_or_default();
        waiting.into_iter().filter_map(|waiter| self.remove(waiter)).collect()
    }

    /// A partition is gone for good.
    pub(crate) fn forget(&mut self, id: PartitionId) -> Vec<T> {
        let woken = self.changed(id);
        self.partitions.remove(&id);
        woken
    }

    /// Ends a wait; `None` when it has ended before.
    pub(crate) fn remove(&mut self, waiter: WaiterId) -> Option<T> {
        let gone = self.waiters.remove(&waiter)?;
        for id in gone.partitions {
            if let Entry::Occupied(mut watched) = self.partitions.entry(id) {
                watched.get_mut().waiters.retain(|other| *other != waiter);
            }
        }
        Some(gone.wake)
    }

    fn take_bytes(&mut self, waiter: WaiterId, bytes: u64) -> bool {
        let Some(waiting) = self.waiters.get_mut(&waiter) else { return false };
        waiting.missing = waiting.missing.saturating_sub(bytes);
        waiting.missing == 0
    }
}

#[cfg(test)]
mod tests {
    use sunseo_proto::TopicId;

    use super::*;

    fn partition(number: i32) -> PartitionId {
        PartitionId { topic_id: TopicId(uuid::Uuid::from_u128(1)), partition: number }
    }

    #[test]
    fn a_waiter_is_woken_once_when_its_partitions_together_have_enough() {
        let (a, b) = (partition(0), partition(1));
        let mut waiters = Waiters::default();
        waiters.register(&[(a, 0), (b, 0)], 10, "both").expect("nothing is there");
        waiters.register(&[(b, 0)], 1, "any of b").expect("nothing is there");
        assert_eq!(waiters.committed(a, 6), Vec::<&str>::new());
        assert_eq!(waiters.committed(b, 3), ["any of b"]);
        assert_eq!(waiters.committed(a, 1), ["both"]);
        assert_eq!(waiters.committed(a, 100), Vec::<&str>::new());
    }

    #[test]
    fn what_was_committed_between_the_read_and_the_wait_counts() {
        let a = partition(0);
        let mut waiters = Waiters::default();
        let seen = waiters.committed_bytes(a);
        waiters.committed(a, 5);
        assert_eq!(waiters.register(&[(a, seen)], 5, "late"), Err("late"));
        let id = waiters.register(&[(a, seen)], 7, "two more").expect("two are missing");
        assert_eq!(waiters.committed(a, 1), Vec::<&str>::new());
        assert_eq!(waiters.remove(id), Some("two more"));
        assert_eq!(waiters.committed(a, 1), Vec::<&str>::new(), "who left is not woken");
    }

    #[test]
    fn a_change_wakes_everyone_of_that_partition_and_nobody_else() {
        let (a, b) = (partition(0), partition(1));
        let mut waiters = Waiters::default();
        waiters.register(&[(a, 0), (b, 0)], 1, "a and b").expect("waits");
        waiters.register(&[(b, 0)], 1, "b").expect("waits");
        assert_eq!(waiters.changed(a), ["a and b"]);
        assert_eq!(waiters.forget(b), ["b"]);
        assert_eq!(waiters.remove(0), None);
    }
}
