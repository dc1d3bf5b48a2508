//! What the tier needs from the broker, as a port, and the facts it gets through it.
//!
//! The tier never touches a partition's log itself: it asks the partition's owner. Tests put a small in-memory host here.
//!
//! Rules for an implementation:
//! - `append_record` answers only when the record is durable; records come back from `read_records` in the order they were
//!   appended, at offsets without a gap. An error means "not known", and what was appended may even come after it: the tier
//!   repeats the same record, its fold ignores repetitions.
//! - For a topic with `tiered` set, the log's own retention must be off: the tier decides what leaves the local disk
//!   ([`TierHost::evict_local`]) and what leaves altogether ([`TierHost::set_log_start`]).
//! - Facts may be a moment old; everything done because of them is checked again by the owner.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sunseo_proto::error::Result;
use sunseo_proto::{PartitionId, TopicId};

/// A shared host.
pub type SharedTierHost = Arc<dyn TierHost>;

/// A topic's settings that the tier goes by. `None` means "without limit".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierTopicConfig {
    /// Whether sealed segments go to the object store at all.
    pub tiered: bool,
    /// Bytes of offloaded segments that stay on the local disk.
    pub local_retention_bytes: Option<u64>,
    /// How long offloaded segments stay on the local disk, by their newest record.
    pub local_retention_ms: Option<i64>,
    /// Bytes kept altogether, local or not, per partition.
    pub retention_bytes: Option<u64>,
    /// How long records are kept altogether, by the newest record of their segment.
    pub retention_ms: Option<i64>,
}

/// A sealed, fsynced segment on the local disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset after the last record.
    pub end_offset: i64,
    /// Bytes of record batches.
    pub bytes: u64,
    /// Newest record timestamp, milliseconds since the Unix epoch.
    pub max_timestamp_ms: i64,
}

/// What is known of one partition that this node leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFacts {
    pub id: PartitionId,
    /// Name of the topic.
    pub topic: String,
    pub config: TierTopicConfig,
    pub leader_epoch: i32,
    /// First offset that can be read at all.
    pub log_start: i64,
    /// First offset on the local disk.
    pub local_start: i64,
    /// Records below it are committed on every in-sync replica.
    pub high_watermark: i64,
    /// Below it every transaction is decided: what is archived ends there.
    pub last_stable: i64,
    /// Bytes on the local disk, the active segment included.
    pub local_bytes: u64,
    /// Oldest first; the active segment is not among them.
    pub sealed: Vec<SealedSegment>,
}

/// A definition of kind "archive" from the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSource {
    pub name: String,
    /// Counts the changes of the definition, from 1.
    pub version: i64,
    /// JSON, UTF-8; see `archive::definition`.
    pub body: Bytes,
}

/// One stored tier record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset in the internal topic.
    pub offset: i64,
    pub value: Bytes,
}

/// A segment on its way back to the local disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredSegment {
    pub segment: SealedSegment,
    /// Record batches back to back, checksums verified.
    pub data: Bytes,
}

/// The broker as the tier sees it.
#[async_trait]
pub trait TierHost: Debug + Send + Sync + 'static {
    /// Every partition that this node leads and that is tiered or archived; others may be among them and are left alone.
    async fn partitions(&self) -> Result<Vec<PartitionFacts>>;

    /// `false` only when the cluster's metadata says that the topic was deleted, never for "not known yet".
    async fn topic_exists(&self, topic_id: TopicId) -> Result<bool>;

    /// The archive definitions as they are now.
    async fn archives(&self) -> Result<Vec<ArchiveSource>>;

    /// The record batches of the sealed segment that begins at `base_offset`.
    async fn segment_data(&self, id: PartitionId, base_offset: i64) -> Result<Bytes>;

    /// Appends one record to the internal topic `__tier`; returns its offset when it is durable.
    async fn append_record(&self, record: Bytes) -> Result<i64>;

    /// First offset of `__tier`.
    async fn records_start(&self) -> Result<i64>;

    /// Records of `__tier` from an offset on, not below its first one, some at a time; empty at the end.
    async fn read_records(&self, from_offset: i64) -> Result<Vec<StoredRecord>>;

    /// Deletes the records of `__tier` below an offset; durable when it returns. Repeating it is success.
    async fn trim_records(&self, before_offset: i64) -> Result<()>;

    /// Closes the active segment of a partition if it holds records.
    async fn seal(&self, id: PartitionId) -> Result<()>;

    /// Removes local sealed segments that end at or below `before_offset`; the log start stays. Returns how many.
    async fn evict_local(&self, id: PartitionId, before_offset: i64) -> Result<u32>;

    /// Raises the log start; lower than it is, is success and changes nothing.
    async fn set_log_start(&self, id: PartitionId, offset: i64) -> Result<()>;

    /// Puts a segment back that ends exactly where the local log starts; what is there already is success.
    async fn restore_segment(&self, id: PartitionId, segment: RestoredSegment) -> Result<()>;

    /// Whole record batches below the high watermark beginning with the one that holds `from_offset`, local or not (so it may call
    /// [`crate::Tier::read`]), about `max_bytes`, at least one batch; empty at the high watermark.
    async fn read(&self, id: PartitionId, from_offset: i64, max_bytes: usize) -> Result<Bytes>;
}
