//! Where metadata commands are ordered and kept. [`MetadataLog`] is the seam behind which more voters come; today one local
//! voter commits by appending to `__metadata`.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use sunseo_proto::PartitionId;
use sunseo_proto::error::Result;

use super::internal_topics::{METADATA, system_config};
use crate::internal::{PartitionSettings, SharedInternalLog};

/// Ordered, committed commands.
#[async_trait]
pub(crate) trait MetadataLog: Debug + Send + Sync + 'static {
    /// Makes the log ready to be read.
    async fn open(&self) -> Result<()>;

    /// Commits one command and returns its index. After an error the outcome is unknown: the command may be committed, now or a
    /// little later, and reading tells.
    async fn propose(&self, command: Bytes) -> Result<i64>;

    /// Committed commands from an index on, some at a time, with their indexes; empty at the end.
    async fn read(&self, from: i64) -> Result<Vec<(i64, Bytes)>>;

    /// First index that is kept.
    async fn start(&self) -> Result<i64>;

    /// Drops what lies below a snapshot.
    async fn trim(&self, before: i64) -> Result<()>;
}

/// One voter: a command is committed when it is durable in the partition of this node.
#[derive(Clone, Debug)]
pub(crate) struct LocalMetadataLog {
    log: SharedInternalLog,
}

const PARTITION: PartitionId = METADATA.partition(0);

impl LocalMetadataLog {
    pub(crate) fn new(log: SharedInternalLog) -> Self {
        Self { log }
    }
}

#[async_trait]
impl MetadataLog for LocalMetadataLog {
    async fn open(&self) -> Result<()> {
        self.log.ensure(PARTITION, PartitionSettings::new(METADATA.name, &system_config())).await
    }

    async fn propose(&self, command: Bytes) -> Result<i64> {
        self.log.append(PARTITION, vec![command]).await
    }

    async fn read(&self, from: i64) -> Result<Vec<(i64, Bytes)>> {
        self.log.read(PARTITION, from).await
    }

    async fn start(&self) -> Result<i64> {
        self.log.start(PARTITION).await
    }

    async fn trim(&self, before: i64) -> Result<()> {
        self.log.trim(PARTITION, before).await
    }
}
