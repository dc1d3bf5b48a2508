//! Reads partitions by hand or as a member of a group.

pub mod config;

use std::sync::Arc;
use std::time::Duration;

pub use config::{ConsumerConfig, OutOfRangePolicy, StartFrom, Subscription};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record};

use crate::metadata::SharedMetadata;
use crate::transport::SharedTransport;

/// A record and where it came from; its offset is in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    pub topic: Arc<str>,
    pub partition: i32,
    pub record: Record,
}

/// Reads records in order per partition.
#[derive(Debug)]
pub struct Consumer {
    _transport: SharedTransport,
}

fn later() -> Error {
    Error::new(ErrorCode::Unsupported, "this build has no consumer yet")
}

impl Consumer {
    pub(crate) async fn start(
        transport: SharedTransport,
        _metadata: SharedMetadata,
        config: ConsumerConfig,
    ) -> Result<Self> {
        config.validate()?;
        Ok(Self { _transport: transport })
    }

    /// The next records, in order per partition; empty when none came within `max_wait`.
    ///
    /// # Errors
    /// A partition that cannot be read on, after the records before it were handed out.
    pub async fn poll(&mut self, _max_wait: Duration) -> Result<Vec<ConsumedRecord>> {
        Err(later())
    }

    /// Commits the positions: everything handed out so far counts as processed.
    ///
    /// # Errors
    /// Not in a group, or what the broker says.
    pub async fn commit(&self) -> Result<()> {
        Err(later())
    }

    /// Commits explicit offsets (topic, partition, next offset to read).
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_offsets(&self, _offsets: &[(String, i32, i64)]) -> Result<()> {
        Err(later())
    }

    /// Next offset that `poll` hands out.
    #[must_use]
    pub fn position(&self, _topic: &str, _partition: i32) -> Option<i64> {
        None
    }

    /// Goes on at another offset.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn seek(&mut self, _topic: &str, _partition: i32, _offset: i64) -> Result<()> {
        Err(later())
    }

    /// Hands out nothing of this partition until [`resume`](Self::resume).
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn pause(&mut self, _topic: &str, _partition: i32) -> Result<()> {
        Err(later())
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn resume(&mut self, _topic: &str, _partition: i32) -> Result<()> {
        Err(later())
    }

    /// What is read now.
    #[must_use]
    pub fn assignment(&self) -> Vec<(Arc<str>, i32)> {
        Vec::new()
    }

    /// Records between the position and the high watermark, `None` until the first fetch of the partition.
    #[must_use]
    pub fn lag(&self, _topic: &str, _partition: i32) -> Option<i64> {
        None
    }

    /// Why nothing comes at the moment, when the broker cannot be reached or refuses for now.
    #[must_use]
    pub fn trouble(&self) -> Option<Error> {
        None
    }

    /// Commits (with automatic commits) and leaves the group.
    ///
    /// # Errors
    /// The commit's.
    pub async fn close(self) -> Result<()> {
        Ok(())
    }
}
