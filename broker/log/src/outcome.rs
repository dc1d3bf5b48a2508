//! What goes into a store and what it answers, as values.

use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::batch::BatchHeader;
use sunseo_proto::position::PositionRange;
use sunseo_proto::{Error, ErrorCode, PartitionId};

use crate::PartitionConfig;
use crate::clean::Cleaned;

/// A batch that was validated: `header` is of `bytes`, and `position` is what `bytes` carry.
#[derive(Clone, Debug)]
pub struct Append {
    pub header: BatchHeader,
    pub position: Option<PositionRange>,
    pub bytes: Bytes,
}

/// A batch was taken, or was there already. Neither is durable before [`crate::Store::sync`] reports an end above `last_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Appended {
        base_offset: i64,
        last_offset: i64,
    },
    /// The log has it. `base_offset` is -1 when it is not known any more (positioned batches); `last_offset` is then that of the
    /// producer's newest record.
    Duplicate {
        base_offset: i64,
        last_offset: i64,
    },
}

impl Outcome {
    /// The offset that must be durable before the batch may be acknowledged.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        match *self {
            Self::Appended { last_offset, .. } | Self::Duplicate { last_offset, .. } => last_offset,
        }
    }
}

/// A batch was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("partition {0} does not exist on this disk")]
    UnknownPartition(PartitionId),
    #[error(
        "producer {producer_id} sent sequence {found}, {expected} follows the last one: a batch before it is missing"
    )]
    SequenceGap { producer_id: i64, found: i32, expected: i32 },
    #[error(
        "producer {producer_id} has epoch {found}, the partition knows {current}: a newer instance took over"
    )]
    ProducerFenced { producer_id: i64, found: i16, current: i16 },
    #[error(
        "producer {producer_id} sends epoch {found} while its transaction of epoch {open} is open here: end that one first"
    )]
    TransactionOpen { producer_id: i64, found: i16, open: i16 },
    #[error(
        "producer {producer_id}: the log holds its positions up to {accepted_through}: send what is above"
    )]
    PartialDuplicate { producer_id: i64, accepted_through: i64 },
    #[error(
        "producer {producer_id} may be one whose position this partition let go of after a long silence, and could not tell its repeats from news: open it under a new name, and begin after what it has sent"
    )]
    ProducerRetired { producer_id: i64 },
    #[error(
        "{limit} positioned producers have written to this partition lately, no more can be remembered: use fewer names, or raise positioned_producers_max"
    )]
    TooManyProducers { limit: usize },
    #[error(
        "batch has {bytes} bytes, the topic takes {limit}: send smaller batches or raise max_batch_bytes"
    )]
    BatchTooLarge { bytes: usize, limit: usize },
    #[error("disk has under {headroom} bytes left: free some, or shorten retention; nothing was appended")]
    DiskFull { headroom: u64 },
    #[error(
        "partition {id} accepts no more records since {reason}; what is durable can be read; mend the disk and restart"
    )]
    Failed { id: PartitionId, reason: Arc<str> },
}

impl Refusal {
    /// The stable code of the refusal.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownPartition(_) => ErrorCode::UnknownPartition,
            Self::SequenceGap { .. } => ErrorCode::SequenceGap,
            Self::ProducerFenced { .. } => ErrorCode::ProducerFenced,
            Self::TransactionOpen { .. } => ErrorCode::TransactionState,
            Self::PartialDuplicate { .. } => ErrorCode::PartialDuplicate,
            Self::ProducerRetired { .. } => ErrorCode::ProducerRetired,
            Self::TooManyProducers { .. } => ErrorCode::TooManyProducers,
            Self::BatchTooLarge { .. } => ErrorCode::BatchTooLarge,
            Self::DiskFull { .. } => ErrorCode::DiskFull,
            Self::Failed { .. } => ErrorCode::PartitionFailed,
        }
    }

    /// The last position the log holds of the producer, of a [`Refusal::PartialDuplicate`].
    #[must_use]
    pub fn accepted_through(&self) -> Option<i64> {
        match self {
            Self::PartialDuplicate { accepted_through, .. } => Some(*accepted_through),
            _ => None,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

/// What one group commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncOutcome {
    /// Partitions whose durable end rose, with the new end. In the order of their ids.
    pub durable: Vec<(PartitionId, i64)>,
    /// Partitions that stopped. What was appended since the last sync has an unknown outcome.
    pub failed: Vec<SyncFailure>,
}

/// Why a partition stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncFailure {
    pub id: PartitionId,
    pub reason: Arc<str>,
}

/// A partition that [`crate::Store::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub id: PartitionId,
    pub config: PartitionConfig,
    pub log_start: i64,
    pub local_start: i64,
    /// Offset after the last record; all of it is durable.
    pub end: i64,
    /// The newest epoch, -1 when there was none.
    pub leader_epoch: i32,
    /// Bytes behind the durable frontier that were cut off.
    pub truncated_bytes: u64,
    /// Why it is quarantined: bytes that were durable are damaged or missing. It can be read up to the damage and accepts nothing.
    pub quarantined: Option<Arc<str>>,
}

/// A sealed segment. Durable: by itself, or until the next checkpoint by the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedFacts {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset after the last record.
    pub end_offset: i64,
    /// Bytes of record batches.
    pub bytes: u64,
    /// Newest record timestamp, milliseconds since the Unix epoch.
    pub max_timestamp_ms: i64,
    /// Which writing of this range it is: 0 as it was appended, higher when the cleaner has written it anew.
    pub generation: u32,
}

/// A segment on its way back: its batches back to back, checksums verified by the caller.
#[derive(Clone, Debug)]
pub struct RestoredSegment {
    pub segment: SealedFacts,
    pub data: Bytes,
}

/// What is known of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFacts {
    pub config: PartitionConfig,
    /// First offset of the log, on this disk or not.
    pub log_start: i64,
    /// First offset on this disk.
    pub local_start: i64,
    /// Offset after the last record that was appended.
    pub end: i64,
    /// Offset after the last record that is durable; readers see up to here.
    pub durable_end: i64,
    /// First offset of the oldest transaction that is not decided, the durable end when there is none.
    pub last_stable: i64,
    /// Bytes on this disk, the active segment included.
    pub bytes: u64,
    /// Segments on this disk, the active one included.
    pub segments: usize,
    /// The newest epoch and its first offset.
    pub leader_epoch: Option<(i32, i64)>,
    /// Why it accepts no more records.
    pub failed: Option<Arc<str>>,
    /// How far the cleaner has come; nothing for a partition that was never compacted.
    pub cleaned: Cleaned,
}
