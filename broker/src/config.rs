//! Settings of a broker, each with its unit and its bound. [`BrokerConfig::new`] gives what is right for a server; the
//! caller changes what it wants, and [`crate::Broker::start`] refuses what cannot work.

mod ranges;

use std::path::PathBuf;

use sunseo_proto::error::{Error, Result};
use sunseo_proto::v1;
use sunseo_tier::TierConfig;

pub use crate::metadata::config::default_topic_config;

/// Everything a node is started with.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Directory of the node; created when it is missing, locked while the node runs.
    pub data_dir: PathBuf,
    /// Number of this node in its cluster. Written into the directory at the first start; another one is refused later.
    pub node_id: i32,
    /// Where offloaded segments and archive tables go: `file:///path` or `s3://bucket/prefix`. `None` takes `object-store` inside
    /// the data directory.
    pub object_store_url: Option<String>,
    /// Partitions of a topic whose creation names no number.
    pub default_partitions: i32,
    /// Settings of a topic as far as its creation names none; a later change of these changes no topic.
    pub topic_defaults: v1::TopicConfig,
    /// Metadata commands after which the whole state is written anew and what lies before it is dropped.
    pub metadata_snapshot_commands: u64,
    pub limits: Limits,
    pub groups: GroupConfig,
    pub transactions: TransactionConfig,
    pub tier: TierConfig,
    /// Time between two rounds of retention, segment roll by age and checkpoints.
    pub maintenance_interval_ms: u64,
}

/// What one node accepts, so that no request and no number of them can exhaust it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Partitions of the node, internal ones included.
    pub partitions_max: usize,
    /// Bytes that requests from the network, and the answers to them and to the parts of the server, take together.
    pub memory_bytes_max: usize,
    /// Bytes of produce requests from the network that wait for the disk.
    pub produce_bytes_in_flight_max: usize,
    /// Bytes of produce requests of parts of the server itself (outbox, engine) that wait for the disk.
    pub internal_produce_bytes_in_flight_max: usize,
    /// Bytes of produce requests of one stream that wait for the disk, and of fetch answers of one stream that wait for the client.
    pub stream_bytes_in_flight_max: usize,
    /// Produce requests of one stream that are not answered yet.
    pub produce_requests_in_flight_max: usize,
    /// Fetch requests of one stream that are not answered yet.
    pub fetch_requests_in_flight_max: usize,
    /// Bytes of one gRPC message, either way. A fetch response stays below it.
    pub message_bytes_max: usize,
    /// Bytes of record batches in one fetch response.
    pub fetch_response_bytes_max: usize,
    /// Longest wait of one fetch.
    pub fetch_wait_ms_max: u32,
    /// Time after which a connection is closed whose client does not take a fetch answer that is ready.
    pub answer_wait_ms_max: u64,
    /// Records of one batch that is produced.
    pub batch_records_max: usize,
    /// Partitions of one produce or fetch request.
    pub request_partitions_max: usize,
    /// Bytes of record batches that share one disk write.
    pub commit_group_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            partitions_max: 10_000,
            memory_bytes_max: 1 << 30,
            produce_bytes_in_flight_max: 64 << 20,
            internal_produce_bytes_in_flight_max: 256 << 20,
            stream_bytes_in_flight_max: 72 << 20,
            produce_requests_in_flight_max: 256,
            fetch_requests_in_flight_max: 256,
            message_bytes_max: 68 << 20,
            fetch_response_bytes_max: 64 << 20,
            fetch_wait_ms_max: 60_000,
            answer_wait_ms_max: 60_000,
            batch_records_max: 1 << 20,
            request_partitions_max: 10_000,
            commit_group_bytes_max: 32 << 20,
        }
    }
}

/// Consumer groups.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Session time-out of a member that names none.
    pub session_timeout_ms: u32,
    /// Shortest and longest session time-out a member may ask for.
    pub session_timeout_ms_min: u32,
    pub session_timeout_ms_max: u32,
    /// Time between two heartbeats of a member that has what it should have; a third of the session when that is shorter.
    pub heartbeat_interval_ms: u32,
    /// The same while partitions change hands.
    pub rebalance_heartbeat_interval_ms: u32,
    /// Groups of one of the partitions of `__offsets`.
    pub groups_max: usize,
    /// Members of one group.
    pub members_max: usize,
    /// Time without members and without commits after which a group and its offsets are forgotten; -1 keeps them for ever. Offsets of
    /// a deleted topic go at once.
    pub offsets_retention_ms: i64,
    /// Records of an offsets partition after which its state is written anew and what lies before it is dropped.
    pub snapshot_records: u64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            session_timeout_ms_min: 1_000,
            session_timeout_ms_max: 1_800_000,
            heartbeat_interval_ms: 3_000,
            rebalance_heartbeat_interval_ms: 300,
            groups_max: 10_000,
            members_max: 1_000,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            snapshot_records: 100_000,
        }
    }
}

/// Transactions.
#[derive(Clone, Debug)]
pub struct TransactionConfig {
    /// Time after which an open transaction is aborted, of a producer that names none.
    pub timeout_ms: u32,
    /// Longest time a producer may ask for: so long readers of committed records wait for one that is gone.
    pub timeout_ms_max: u32,
    /// Silence after which a transactional id is forgotten.
    pub id_expiry_ms: i64,
    /// Transactional ids of one of the partitions of `__transactions`.
    pub ids_max: usize,
    /// Partitions of one transaction.
    pub partitions_max: usize,
    /// Records of a partition of `__transactions` after which its state is written anew and what lies before it is dropped.
    pub snapshot_records: u64,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            timeout_ms: 60_000,
            timeout_ms_max: 900_000,
            id_expiry_ms: 7 * 24 * 3_600_000,
            ids_max: 25_000,
            partitions_max: 10_000,
            snapshot_records: 100_000,
        }
    }
}

impl BrokerConfig {
    /// Refuses what cannot work; the rest is checked by the parts it is for.
    pub(crate) fn check(&self) -> Result<()> {
        if self.node_id < 0 {
            return Err(Error::invalid("node_id", format!("node_id is {}: use 0 or more", self.node_id)));
        }
        self.limits.check()?;
        self.groups.check()?;
        self.transactions.check()
    }

    /// A server's settings for a directory.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            node_id: 1,
            object_store_url: None,
            default_partitions: 8,
            topic_defaults: default_topic_config(),
            metadata_snapshot_commands: 1_000,
            limits: Limits::default(),
            groups: GroupConfig::default(),
            transactions: TransactionConfig::default(),
            tier: TierConfig::default(),
            maintenance_interval_ms: 1_000,
        }
    }
}
