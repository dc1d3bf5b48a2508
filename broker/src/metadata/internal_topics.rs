//! The topics in which the node keeps its own state. Their identities are constants, because they must be found before any
//! metadata is read.

use std::sync::Arc;

use sunseo_proto::{PartitionId, TopicId, v1};
use uuid::Uuid;

/// Bytes of one record batch of a system topic: a snapshot of the metadata is one record.
pub(crate) const SYSTEM_BATCH_BYTES_MAX: i64 = 64 << 20;

/// A topic of the node itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemTopic {
    pub(crate) name: &'static str,
    pub(crate) id: TopicId,
    pub(crate) partitions: i32,
}

/// Commands of the cluster's metadata.
pub(crate) const METADATA: SystemTopic = SystemTopic::new("__metadata", 1, 1);
/// Consumer groups; a group's partition is the hash of its name, so this number can never change.
pub(crate) const OFFSETS: SystemTopic = SystemTopic::new("__offsets", 2, 8);
/// What the tier has offloaded and archived.
pub(crate) const TIER: SystemTopic = SystemTopic::new("__tier", 3, 1);

/// Transactions; an id's partition is the hash of it, so this number can never change.
pub(crate) const TRANSACTIONS: SystemTopic = SystemTopic::new("__transactions", 4, 4);

/// All of them.
pub(crate) const SYSTEM_TOPICS: [SystemTopic; 4] = [METADATA, OFFSETS, TIER, TRANSACTIONS];

impl SystemTopic {
    const fn new(name: &'static str, number: u128, partitions: i32) -> Self {
        // version and variant zero: no random identity can be the same
        Self { name, id: TopicId(Uuid::from_u128(number)), partitions }
    }

    /// One of its partitions.
    pub(crate) const fn partition(self, partition: i32) -> PartitionId {
        PartitionId { topic_id: self.id, partition }
    }

    pub(crate) fn shared_name(self) -> Arc<str> {
        Arc::from(self.name)
    }
}

/// Settings of every system topic: kept for ever, never offloaded, always on disk before an answer.
pub(crate) fn system_config() -> v1::TopicConfig {
    v1::TopicConfig {
        retention_ms: -1,
        retention_bytes: -1,
        segment_bytes: 64 << 20,
        segment_ms: 7 * 24 * 3_600_000,
        max_batch_bytes: SYSTEM_BATCH_BYTES_MAX,
        durability: super::config::FSYNC.to_owned(),
        tiered: false,
        local_retention_bytes: -1,
        local_retention_ms: -1,
        ..super::config::default_topic_config()
    }
}
