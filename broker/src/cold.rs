//! Reads of the object store that outlive the fetch that asked for them.
//!
//! A fetch starts them, waits a moment, and answers without those that take longer: they go on by themselves, and the next fetch from the
//! same offset finds them running or done. So a slow object costs the partition it belongs to and nobody else, and is never read in vain.
//!
//! Bounds: [`COLD_BYTES_MAX`] bytes that were asked for and not taken, forgotten after [`COLD_KEPT`]. What is forgotten is read again.
//! Not here: the cache of objects, and how many are read at once (the tier).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use sunseo_proto::PartitionId;
use sunseo_proto::error::Result;
use tokio::time::Instant;

use crate::reads::{Reads, Wanted};

/// Bytes that were asked for and that no fetch has taken.
const COLD_BYTES_MAX: usize = 64 << 20;

/// How long bytes are kept for the fetch that takes them.
const COLD_KEPT: Duration = Duration::from_secs(30);

/// A read that is running or done.
pub(crate) type ColdRead = Shared<BoxFuture<'static, Result<Bytes>>>;

/// Partition and offset.
type Key = (PartitionId, i64);

#[derive(Debug)]
struct Entry {
    read: ColdRead,
    bytes: usize,
    asked: Instant,
}

/// The reads of a node; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColdReads(Arc<Mutex<HashMap<Key, Entry>>>);

fn key(wanted: &Wanted) -> Key {
    (wanted.partition.id, wanted.offset)
}

impl ColdReads {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The read of these bytes, started now unless it runs already.
    pub(crate) fn start(&self, reads: &Reads, wanted: &Wanted) -> ColdRead {
        let now = Instant::now();
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(&key(wanted)) {
            entry.asked = now;
            return entry.read.clone();
        }
        make_room(&mut entries, wanted.max_bytes, now);
        let (reads, asked) = (reads.clone(), wanted.clone());
        let read = async move { reads.read_cold(&asked).await }.boxed().shared();
        entries.insert(key(wanted), Entry { read: read.clone(), bytes: wanted.max_bytes, asked: now });
        tokio::spawn(read.clone());
        read
    }

    /// A fetch has taken them.
    pub(crate) fn taken(&self, wanted: &Wanted) {
        self.lock().remove(&key(wanted));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}

fn make_room(entries: &mut HashMap<Key, Entry>, bytes: usize, now: Instant) {
    entries.retain(|_, entry| entry.read.peek().is_none() || now - entry.asked < COLD_KEPT);
    let mut used: usize = entries.values().map(|entry| entry.bytes).sum();
    while used + bytes > COLD_BYTES_MAX
        && let Some((&oldest, _)) = entries.iter().min_by_key(|(_, entry)| entry.asked)
    {
        used -= entries.remove(&oldest).map_or(0, |entry| entry.bytes);
    }
}
