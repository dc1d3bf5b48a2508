//! Readers of one partition.

use bytes::Bytes;
use sunseo_proto::PartitionId;

use crate::LogError;

/// A record's place and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    pub offset: i64,
    pub timestamp_ms: i64,
}

/// A shared handle. Sees what is durable; calls block on the disk. Stays usable after the partition was deleted, with an error.
#[derive(Clone, Debug)]
pub struct Reader {
    id: PartitionId,
}

impl Reader {
    /// The partition.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Whole record batches beginning with the one that holds `from`, which may begin below it: at most `max_bytes` but at least one
    /// batch, none that reaches `until_offset` or beyond. Empty when there is nothing. Ends early where a segment ends.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] below the log start or above the durable end, [`LogError::NotLocal`] for what only the object store
    /// has, [`LogError::Corrupt`] when bytes on the disk are damaged.
    pub fn read(&self, from: i64, max_bytes: usize, until_offset: i64) -> Result<Bytes, LogError> {
        let _ = (max_bytes, until_offset);
        Err(LogError::OutOfRange { id: self.id, offset: from, start: 0, end: 0 })
    }

    /// The first record on this disk, in offset order, whose timestamp is at or after `timestamp_ms`.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn find_by_time(&self, timestamp_ms: i64) -> Result<Option<TimedOffset>, LogError> {
        let _ = timestamp_ms;
        Ok(None)
    }

    /// First offset of the log, on this disk or not.
    #[must_use]
    pub fn log_start(&self) -> i64 {
        0
    }

    /// First offset on this disk.
    #[must_use]
    pub fn local_start(&self) -> i64 {
        0
    }

    /// Offset after the last durable record.
    #[must_use]
    pub fn end(&self) -> i64 {
        0
    }
}
