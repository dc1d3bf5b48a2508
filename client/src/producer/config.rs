//! What a producer can be told, and the limits of each value.

use std::time::Duration;

use sunseo_proto::Error;
use sunseo_proto::batch::Compression;
use sunseo_proto::error::Result;

use crate::retry::RetryPolicy;

/// Batches in flight per partition that a broker can still tell apart: it remembers this many per producer.
pub const MAX_IN_FLIGHT: usize = 5;

/// Largest key, value and headers of one record together.
pub const MAX_RECORD_BYTES: usize = 32 << 20;

/// Bytes of batches in one produce request, unless its only batch is larger.
pub const MAX_REQUEST_BYTES: usize = 8 << 20;

/// Largest `batch_bytes`.
pub const MAX_BATCH_BYTES: usize = 32 << 20;

/// How a producer batches and how long it tries.
///
/// There is no setting for acknowledgements: a record is acknowledged when it is as durable as its topic says (`durability =
/// "fsync"`, the default, or `"replicated"`), which other systems call `acks=all`. A weaker acknowledgement would be faster by
/// nothing: batches are pipelined, so nobody waits for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerConfig {
    /// Applied to each batch; none by default.
    pub compression: Compression,
    /// Milliseconds that a batch waits for more records; 0 sends as soon as the producer's task is free. While two requests have no answer
    /// a batch that is not full waits on for one of them.
    pub linger_ms: u64,
    /// Uncompressed bytes at which a batch is closed; a larger record travels alone.
    pub batch_bytes: usize,
    /// Batches sent and not yet answered, per partition: 1 to [`MAX_IN_FLIGHT`]. The order per partition is kept with any value.
    pub max_in_flight: usize,
    /// Bytes of records that are accepted and not yet acknowledged; beyond it `send` waits.
    pub buffer_bytes: usize,
    /// Longest wait of `send` for room in the buffer, or for the number of a topic's partitions.
    pub max_block: Duration,
    /// Time from `send` after which a record that cannot be delivered fails; a second later at most, when an answer is being waited for.
    pub delivery_timeout: Duration,
    /// Longest wait for one answer, shorter when records in the request fail before; then the outcome is unknown and the same batch is sent again.
    pub request_timeout: Duration,
    /// Spacing of repeated attempts; its deadline is not used, `delivery_timeout` is.
    pub retry: RetryPolicy,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            linger_ms: 5,
            batch_bytes: 256 << 10,
            max_in_flight: MAX_IN_FLIGHT,
            buffer_bytes: 64 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
        }
    }
}

impl ProducerConfig {
    /// # Errors
    /// `INVALID_ARGUMENT` that names the field, its value and its range.
    pub fn validate(&self) -> Result<()> {
        let range = |field: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(field, format!("{field} is {value}: use a value from {least} to {most}")))
        };
        range("batch_bytes", self.batch_bytes, 1, MAX_BATCH_BYTES)?;
        range("max_in_flight", self.max_in_flight, 1, MAX_IN_FLIGHT)?;
        range("buffer_bytes", self.buffer_bytes, self.batch_bytes, usize::MAX)?;
        range("linger_ms", usize::try_from(self.linger_ms).unwrap_or(usize::MAX), 0, 3_600_000)
    }
}
