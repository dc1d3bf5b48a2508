//! Idempotent, batching producer.

pub mod config;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use config::ProducerConfig;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record};

use crate::metadata::SharedMetadata;
use crate::transport::SharedTransport;

/// Where a record landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    pub topic: Arc<str>,
    pub partition: i32,
    /// -1 when the record is durable but a repeated batch's offsets are no longer known to the broker.
    pub offset: i64,
}

/// The acknowledgement of one record, to be awaited. Dropping it does not take the record back.
#[derive(Debug)]
pub struct Ack {
    _later: (),
}

impl Future for Ack {
    type Output = Result<RecordPlace>;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Err(Error::new(ErrorCode::Unsupported, "this build has no producer yet")))
    }
}

/// Sends records. Share it by reference or in an `Arc`.
#[derive(Debug)]
pub struct Producer {
    _transport: SharedTransport,
}

impl Producer {
    pub(crate) fn start(
        transport: SharedTransport,
        _metadata: SharedMetadata,
        config: ProducerConfig,
    ) -> Result<Self> {
        config.validate()?;
        Ok(Self { _transport: transport })
    }

    /// Queues a record for the partition of its key (sticky when it has none). Returns when it is queued, which waits while the
    /// buffer is full; the [`Ack`] resolves when it is durable.
    ///
    /// # Errors
    /// Unknown topic, record too large, reserved header, producer closed or fenced.
    pub async fn send(&self, topic: &str, record: Record) -> Result<Ack> {
        self.send_to(topic, None, record).await
    }

    /// [`send`](Self::send) with a partition of one's own choice.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_to(&self, _topic: &str, _partition: Option<i32>, _record: Record) -> Result<Ack> {
        Ok(Ack { _later: () })
    }

    /// Waits until everything sent before is acknowledged or has failed.
    ///
    /// # Errors
    /// The first failure since the last flush.
    pub async fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Flushes and ends.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(self) -> Result<()> {
        self.flush().await
    }
}
