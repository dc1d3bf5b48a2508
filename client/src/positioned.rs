//! A named producer whose records say where they stand in their source.

use std::time::Duration;

use sunseo_proto::batch::Compression;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record};

use crate::retry::RetryPolicy;
use crate::transport::SharedTransport;

/// How a positioned producer batches and how long it tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionedConfig {
    pub compression: Compression,
    /// Uncompressed bytes at which a batch is closed; a larger record travels alone.
    pub batch_bytes: usize,
    /// Longest wait for one answer; then the outcome is unknown and the same batch is sent again.
    pub request_timeout: Duration,
    /// Spacing of repeated attempts; without a deadline it tries for ever.
    pub retry: RetryPolicy,
}

impl Default for PositionedConfig {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            batch_bytes: 512 << 10,
            request_timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
        }
    }
}

/// Records for one partition, with their positions: not negative, strictly rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionAppend {
    pub topic: String,
    pub partition: i32,
    pub records: Vec<(i64, Record)>,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Records appended by this call.
    pub appended: u64,
    /// Records the partition already held, also those of an attempt of this call whose answer was lost.
    pub dropped: u64,
    /// Offset of the first record appended by this call, -1 when none was.
    pub base_offset: i64,
}

/// Appends with positions. Clones share identity and order.
#[derive(Clone, Debug)]
pub struct PositionedProducer {
    _transport: SharedTransport,
    producer_id: i64,
    epoch: i32,
}

impl PositionedProducer {
    pub(crate) async fn open(
        transport: SharedTransport,
        name: &str,
        config: PositionedConfig,
    ) -> Result<Self> {
        let request = sunseo_proto::v1::InitProducerRequest { name: name.to_owned() };
        let answer = transport.init_producer(request).await?;
        Self::with_epoch(transport, name, (answer.producer_id, answer.producer_epoch), config)
    }

    pub(crate) fn with_epoch(
        transport: SharedTransport,
        _name: &str,
        (producer_id, epoch): (i64, i32),
        _config: PositionedConfig,
    ) -> Result<Self> {
        Ok(Self { _transport: transport, producer_id, epoch })
    }

    /// Stable for the name.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        self.producer_id
    }

    /// Fences every lower epoch of the name.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Appends records to one partition, each at most once. Positions must be strictly rising.
    ///
    /// # Errors
    /// `PRODUCER_FENCED` is final; others as in [`append_many`](Self::append_many).
    pub async fn append(&self, topic: &str, partition: i32, records: Vec<(i64, Record)>) -> Result<Appended> {
        let part = PartitionAppend { topic: topic.to_owned(), partition, records };
        let mut results = self.append_many(vec![part]).await;
        results.pop().unwrap_or_else(|| Err(Error::internal("append_many returns one result per partition")))
    }

    /// Appends to several partitions, one result per entry and in their order. Entries of the same partition are appended in order.
    pub async fn append_many(&self, parts: Vec<PartitionAppend>) -> Vec<Result<Appended>> {
        let refusal = || Err(Error::new(ErrorCode::Unsupported, "this build has no positioned producer yet"));
        parts.iter().map(|_| refusal()).collect()
    }
}
