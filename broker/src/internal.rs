//! The seam between the folds (metadata, groups, tier) and the partitions that hold their records.
//!
//! A fold sees an internal partition as a list of values: it appends some, and at a start it reads them all back. It never sees a
//! batch, a journal or a disk. Tests of the folds put an implementation in memory here.
//!
//! Who does what at a start: [`InternalLog::ensure`] of `__metadata` by the metadata, which then folds it; after that the node compares
//! its disk with the image and ensures or removes partitions until they agree; from then on the metadata's applier calls
//! `ensure` and `remove` for each change, after its command is durable.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sunseo_log::Compaction;
use sunseo_proto::error::Result;
use sunseo_proto::{PartitionId, v1};

use crate::metadata::config::{COMPACT, COMPACT_DELETE, dirty_permille};

/// A shared internal log.
pub(crate) type SharedInternalLog = Arc<dyn InternalLog>;

/// What a partition needs to know of its topic. `None` means "without limit".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionSettings {
    pub(crate) topic: Arc<str>,
    pub(crate) retention_ms: Option<i64>,
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_ms: i64,
    pub(crate) max_batch_bytes: usize,
    /// Whether acknowledged means on disk, or only in the page cache.
    pub(crate) fsync: bool,
    pub(crate) tiered: bool,
    pub(crate) local_retention_bytes: Option<u64>,
    pub(crate) local_retention_ms: Option<i64>,
    /// Whether old segments go by age and size.
    pub(crate) deletes: bool,
    pub(crate) compaction: Option<Compaction>,
}

impl PartitionSettings {
    /// From the wire form, in which -1 stands for "without limit".
    pub(crate) fn new(topic: impl Into<Arc<str>>, config: &v1::TopicConfig) -> Self {
        let limit = |value: i64| u64::try_from(value).ok();
        Self {
            topic: topic.into(),
            retention_ms: Some(config.retention_ms).filter(|ms| *ms >= 0),
            retention_bytes: limit(config.retention_bytes),
            segment_bytes: limit(config.segment_bytes).unwrap_or(u64::MAX),
            segment_ms: if config.segment_ms < 0 { i64::MAX } else { config.segment_ms },
            max_batch_bytes: usize::try_from(config.max_batch_bytes).unwrap_or(usize::MAX),
            fsync: config.durability != "replicated",
            tiered: config.tiered,
            local_retention_bytes: limit(config.local_retention_bytes),
            local_retention_ms: Some(config.local_retention_ms).filter(|ms| *ms >= 0),
            deletes: config.cleanup != COMPACT,
            compaction: [COMPACT, COMPACT_DELETE].contains(&config.cleanup.as_str()).then(|| Compaction {
                delete_retention_ms: config.delete_retention_ms,
                min_lag_ms: config.min_compaction_lag_ms,
                // checked when it was set
                min_dirty_permille: dirty_permille(&config.min_dirty_ratio).unwrap_or(500),
            }),
        }
    }
}

/// Internal partitions as the folds above them see them: append values, read them all back.
#[async_trait]
pub(crate) trait InternalLog: Debug + Send + Sync {
    /// Appends one batch whose records have these values (at least one); returns the offset of the last one when all are
    /// durable and below the high watermark. After an error the outcome is unknown. Appends of one caller that are awaited one
    /// after the other keep their order.
    async fn append(&self, id: PartitionId, values: Vec<Bytes>) -> Result<i64>;

    /// Committed records from an offset on, in order, some at a time; empty at the end.
    async fn read(&self, id: PartitionId, from: i64) -> Result<Vec<(i64, Bytes)>>;

    /// Raises the log start: what lies below was folded into a later snapshot.
    async fn trim(&self, id: PartitionId, before: i64) -> Result<()>;

    /// First offset that can be read.
    async fn start(&self, id: PartitionId) -> Result<i64>;

    /// Creates or opens a partition of this node, or gives it new settings. Repeating it is success.
    async fn ensure(&self, id: PartitionId, settings: PartitionSettings) -> Result<()>;

    /// Removes a partition of this node with its data. One that is not there is success.
    async fn remove(&self, id: PartitionId) -> Result<()>;
}
