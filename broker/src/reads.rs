//! Reads of partitions, wherever the bytes are: on the local disk or in the object store.
//!
//! What can block runs on the blocking pool; a read that finds nothing new touches no disk and no other thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use sunseo_log::LogError;
use sunseo_proto::batch::BatchHeader;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_tier::Tier;

use crate::cold::ColdReads;
use crate::partition::Partition;

/// One read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) partition: Arc<Partition>,
    pub(crate) offset: i64,
    /// Nothing at or above it is read.
    pub(crate) until: i64,
    pub(crate) max_bytes: usize,
}

/// Reads of this node; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    cold: ColdReads,
    /// Counts fetches.
    turns: Arc<AtomicU64>,
    /// How long the object store takes on top.
    #[cfg(test)]
    slow: Arc<std::sync::Mutex<std::time::Duration>>,
    tier: Arc<RwLock<Option<Tier>>>,
}

impl Reads {
    pub(crate) fn set_tier(&self, tier: Option<Tier>) {
        *self.tier.write().unwrap_or_else(PoisonError::into_inner) = tier;
    }

    pub(crate) fn tier(&self) -> Option<Tier> {
        self.tier.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads of the object store that are running or were not taken.
    pub(crate) fn cold(&self) -> &ColdReads {
        &self.cold
    }

    /// A number that is another one for every fetch and favours nobody: whatever shares the turns, the numbers it sees are spread evenly.
    pub(crate) fn next_turn(&self) -> u64 {
        // splitmix64
        let mut z =
            self.turns.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The object store answers only after this time.
    #[cfg(test)]
    pub(crate) fn slow_store(&self, time: std::time::Duration) {
        *self.slow.lock().unwrap() = time;
    }

    /// Whether the object store will be asked.
    pub(crate) fn is_cold(wanted: &Wanted) -> bool {
        wanted.offset < wanted.partition.reader.local_start()
    }

    /// Whole batches beginning with the one that holds the offset, about `max_bytes`, at least one; empty at `until`.
    pub(crate) async fn read(&self, wanted: &Wanted) -> Result<Bytes> {
        if wanted.offset >= wanted.until {
            return Ok(Bytes::new());
        }
        if !Self::is_cold(wanted) {
            match Self::read_local(vec![wanted.clone()], wanted.max_bytes).await?.pop() {
                // evicted just now
                Some(Err(LogError::NotLocal { .. })) => {}
                Some(read) => return read.map_err(Error::from),
                None => return Err(Error::internal("a read without a result")),
            }
        }
        self.read_cold(wanted).await
    }

    /// What only the object store has.
    pub(crate) async fn read_cold(&self, wanted: &Wanted) -> Result<Bytes> {
        #[cfg(test)]
        {
            let time = *self.slow.lock().unwrap();
            tokio::time::sleep(time).await;
        }
        let Wanted { partition, offset, max_bytes, .. } = wanted;
        let start = partition.reader.log_start();
        if *offset < start {
            return Err(out_of_range(partition, *offset, start, wanted.until));
        }
        if let Some(tier) = self.tier()
            && let Some(bytes) = Box::pin(tier.read(partition.id, *offset, *max_bytes)).await?
        {
            return Ok(below(bytes, wanted.until));
        }
        // put back just now, or the log start was raised
        let read = Self::read_local(vec![wanted.clone()], *max_bytes).await?.pop();
        read.unwrap_or_else(|| Err(LogError::UnknownPartition(partition.id))).map_err(Error::from)
    }

    /// Local reads, one after the other on one thread, until `total_bytes` are read. The first one that has anything gives
    /// at least one batch; those for which no room is left are empty.
    pub(crate) async fn read_local(
        wanted: Vec<Wanted>,
        total_bytes: usize,
    ) -> Result<Vec<std::result::Result<Bytes, LogError>>> {
        let read_all = move || {
            let (mut left, mut any) = (total_bytes, false);
            let read_one = |wanted: Wanted| {
                if any && left == 0 {
                    return Ok(Bytes::new());
                }
                let bytes =
                    wanted.partition.reader.read(wanted.offset, wanted.max_bytes.min(left), wanted.until)?;
                // the log gives at least one batch, which may be more than there is room for
                if any && bytes.len() > left {
                    left = 0;
                    return Ok(Bytes::new());
                }
                any |= !bytes.is_empty();
                left = left.saturating_sub(bytes.len());
                Ok(bytes)
            };
            wanted.into_iter().map(read_one).collect()
        };
        let task = tokio::task::spawn_blocking(read_all);
        task.await.map_err(|error| Error::internal(format!("a read of the log did not end well: {error}")))
    }
}

/// The batches that lie below an offset, which is the beginning of a batch: the object store knows no end.
pub(crate) fn below(bytes: Bytes, until: i64) -> Bytes {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..)
        && let Ok(header) = BatchHeader::parse(rest)
    {
        if header.base_offset >= until {
            return bytes.slice(..at);
        }
        at += header.total_bytes;
    }
    bytes
}

pub(crate) fn out_of_range(partition: &Partition, offset: i64, start: i64, end: i64) -> Error {
    let settings = partition.settings();
    let message = format!(
        "offset {offset} is outside of {}-{}, which has {start} to {end}: start again from the beginning or the end",
        settings.topic, partition.id.partition
    );
    Error::new(ErrorCode::OffsetOutOfRange, message).at("fetch_offset")
}
