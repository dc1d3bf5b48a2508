//! Idempotent, batching producer.
//!
//! Records go into one open batch per partition ([`crate::batcher`]); a task sends closed batches, several partitions in
//! one request, and settles the acknowledgement that all records of a batch share.
//!
//! Invariants: an acknowledged record is in the log exactly once; records of one partition are in the order in which `send`
//! returned, also when batches are sent again. A record whose fate is unknown at its delivery time-out fails with an error
//! that says so. No refusal ends the producer: what the broker forgot, or what came to a topic that was deleted and made again, fails
//! record by record at the worst, and the next record is sent as if nothing had happened.
//! Not here: beginning and ending transactions ([`crate::transaction`]); a producer without an id; weaker acknowledgements (a record is
//! acknowledged when it is as durable as its topic's `durability` says, never earlier).

pub(crate) mod ack;
pub mod config;
pub(crate) mod lane;
#[cfg(test)]
mod lane_tests;
mod sender;
#[cfg(test)]
mod tests;
mod undelivered;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use ack::{Ack, RecordPlace};
pub use config::ProducerConfig;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sunseo_proto::error::Result;
use sunseo_proto::record::RESERVED_HEADER_PREFIX;
use sunseo_proto::{Error, ErrorCode, Record, v1};
use tokio::sync::Notify;
use tokio::time::Instant;
pub use undelivered::{Undelivered, UndeliveredPartition};

use self::config::MAX_RECORD_BYTES;
use self::lane::Identity;
use self::sender::Sender;
use self::undelivered::Failures;
use crate::batcher::{Batcher, BatcherConfig, Pushed};
use crate::metadata::SharedMetadata;
use crate::retry::{draw, repeat};
use crate::transport::SharedTransport;

/// How long [`Producer::close_within`] waits for its task to fail what is left.
const ABORT_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a record beside its key, value and headers, at most.
const RECORD_OVERHEAD_BYTES: usize = 24;

/// Bytes that a record counts for in batches and buffers.
pub(crate) fn record_bytes(record: &Record) -> usize {
    let field = |field: &Option<bytes::Bytes>| field.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = record.headers.iter().map(|h| 4 + h.key.len() + field(&h.value)).sum();
    RECORD_OVERHEAD_BYTES + field(&record.key) + field(&record.value) + headers
}

/// Queues a request now; the future has one answer per partition. `Err` there: the outcome is unknown.
pub(crate) fn produce(
    transport: &SharedTransport,
    partitions: Vec<v1::ProducePartition>,
    timeout: Duration,
) -> BoxFuture<'static, Vec<Result<v1::ProduceResult>>> {
    produce_in(transport, "", partitions, timeout)
}

/// As [`produce`], for batches that belong to a transaction.
pub(crate) fn produce_in(
    transport: &SharedTransport,
    transactional_id: &str,
    partitions: Vec<v1::ProducePartition>,
    timeout: Duration,
) -> BoxFuture<'static, Vec<Result<v1::ProduceResult>>> {
    let count = partitions.len();
    let transactional_id = transactional_id.to_owned();
    let request = v1::ProduceRequest { partitions, transactional_id, ..Default::default() };
    let answer = transport.produce(request);
    async move {
        let answer = match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(crate::mux::timed_out("produce", timeout)),
        };
        match answer {
            Err(error) => vec![Err(error); count],
            Ok(v1::ProduceResponse { error: Some(error), .. }) => {
                vec![Ok(v1::ProduceResult { error: Some(error), ..Default::default() }); count]
            }
            Ok(v1::ProduceResponse { results, .. }) if results.len() == count => {
                results.into_iter().map(Ok).collect()
            }
            Ok(v1::ProduceResponse { results, .. }) => {
                let message =
                    format!("produce of {count} partitions has {} results: update the server", results.len());
                vec![Err(Error::internal(message)); count]
            }
        }
    }
    .boxed()
}

#[derive(Debug)]
pub(crate) struct State {
    batcher: Batcher,
    closed: bool,
    /// What is not settled yet fails now.
    aborted: bool,
    /// What failed since the last flush.
    failures: Failures,
    /// Of a transactional producer, once it has begun one.
    transaction: Option<Bound>,
}

/// The transaction that records belong to.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    /// Counts the transactions of this producer, from 1.
    pub(crate) number: u64,
    pub(crate) identity: Identity,
    /// Why it can only be aborted.
    pub(crate) doomed: Option<Error>,
}

/// What `send` and the task share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The task has something to look at.
    work: Notify,
    /// Batches have settled: there is room, and flushes may be over.
    settled: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends records. Share it by reference or in an `Arc`. When it is dropped, its task goes on until everything that was sent
/// has its outcome; [`close`](Self::close) waits for that.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    metadata: SharedMetadata,
    config: ProducerConfig,
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Producer {
    pub(crate) fn start(
        transport: SharedTransport,
        metadata: SharedMetadata,
        config: ProducerConfig,
    ) -> Result<Self> {
        Self::start_as(transport, metadata, config, None)
    }

    /// With a transactional id, what is sent belongs to the transaction that [`begin`](Self::begin) named last.
    pub(crate) fn start_as(
        transport: SharedTransport,
        metadata: SharedMetadata,
        config: ProducerConfig,
        transactional_id: Option<Arc<str>>,
    ) -> Result<Self> {
        config.validate()?;
        let batcher = Batcher::new(BatcherConfig {
            compression: config.compression,
            batch_bytes: config.batch_bytes,
            linger: Duration::from_millis(config.linger_ms),
            buffer_bytes: config.buffer_bytes,
        });
        let failures = Failures::default();
        let state = State { batcher, closed: false, aborted: false, failures, transaction: None };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), work: Notify::new(), settled: Notify::new() });
        let sender =
            Sender::new(Arc::clone(&shared), transport, metadata.clone(), config.clone(), transactional_id);
        tokio::spawn(sender.run());
        Ok(Self { shared, metadata, config })
    }

    /// Queues a record for the partition of its key (for one without a key, a partition that changes with every batch). Returns
    /// when it is queued, which waits while the buffer is full, at most `max_block`; the [`Ack`] resolves when it is durable.
    ///
    /// # Errors
    /// Unknown topic, record too large, reserved header, producer closed; `OVERLOADED` when the buffer stayed full for `max_block`.
    pub fn send<'a>(
        &'a self,
        topic: &'a str,
        record: Record,
    ) -> impl Future<Output = Result<Ack>> + Send + 'a {
        // its future, not one around it, which would move the record once more
        self.send_to(topic, None, record)
    }

    /// [`send`](Self::send) with a partition of one's own choice.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `UNKNOWN_PARTITION`.
    pub async fn send_to(&self, topic: &str, partition: Option<i32>, record: Record) -> Result<Ack> {
        check(&record)?;
        match self.push(topic, partition, &record)? {
            Pushed::Queued { ack, .. } => Ok(ack),
            // boxed: rare, and a large future
            other => self.wait_and_push(other, topic, partition, record).boxed().await,
        }
    }

    /// Queues a record or refuses it, at once: for callers that must not wait. The record stays the caller's.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to); `OVERLOADED` when the buffer is full, and `UNAVAILABLE` while the number of the topic's
    /// partitions is not known: [`prepare`](Self::prepare) learns it.
    pub fn try_send(&self, topic: &str, partition: Option<i32>, record: &Record) -> Result<Ack> {
        check(record)?;
        match self.push(topic, partition, record)? {
            Pushed::Queued { ack, .. } => Ok(ack),
            Pushed::Full => Err(self.full(None)),
            Pushed::UnknownPartition(count) => Err(unknown_partition(topic, partition, count)),
            Pushed::UnknownTopic => {
                let message = format!(
                    "the partitions of topic {topic:?} are not known yet: await prepare({topic:?}) first"
                );
                Err(Error::new(ErrorCode::Unavailable, message))
            }
        }
    }

    /// Learns how many partitions a topic has, so that [`try_send`](Self::try_send) can place records.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, or what the broker says for `max_block`.
    pub async fn prepare(&self, topic: &str) -> Result<()> {
        self.learn(topic).await
    }

    fn full(&self, waited: Option<Duration>) -> Error {
        let limit = self.config.buffer_bytes;
        let since = waited.map_or_else(String::new, |time| format!(" for {time:?}"));
        let message = format!(
            "the producer's buffer of {limit} bytes is full{since}: send slower, raise buffer_bytes, or find out why nothing is \
             acknowledged"
        );
        Error::new(ErrorCode::Overloaded, message)
    }

    fn push(&self, topic: &str, partition: Option<i32>, record: &Record) -> Result<Pushed> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Error::new(ErrorCode::Unavailable, "the producer is closed: open a new one"));
        }
        if let Some(error) = state.transaction.as_ref().and_then(|transaction| transaction.doomed.as_ref()) {
            return Err(error.clone());
        }
        let pushed = state.batcher.push(topic, partition, record, Instant::now);
        drop(state);
        if matches!(pushed, Pushed::Queued { wake: true, .. }) {
            self.shared.work.notify_one();
        }
        Ok(pushed)
    }

    async fn wait_and_push(
        &self,
        mut obstacle: Pushed,
        topic: &str,
        partition: Option<i32>,
        record: Record,
    ) -> Result<Ack> {
        let deadline = Instant::now() + self.config.max_block;
        let mut asked_again = false;
        loop {
            match obstacle {
                Pushed::Queued { ack, .. } => return Ok(ack),
                Pushed::UnknownTopic => self.learn(topic).await?,
                Pushed::UnknownPartition(count) if asked_again => {
                    return Err(unknown_partition(topic, partition, count));
                }
                Pushed::UnknownPartition(_) => {
                    asked_again = true;
                    self.metadata.refresh(topic).await?;
                    self.learn(topic).await?;
                }
                Pushed::Full => {
                    let waiting = self.push_when_settled(topic, partition, &record);
                    obstacle = match tokio::time::timeout_at(deadline, waiting).await {
                        Ok(pushed) => pushed?,
                        Err(_) => return Err(self.full(Some(self.config.max_block))),
                    };
                    continue;
                }
            }
            obstacle = self.push(topic, partition, &record)?;
        }
    }

    /// Tries again after the next batch has settled, unless there is room already.
    async fn push_when_settled(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: &Record,
    ) -> Result<Pushed> {
        let mut settled = std::pin::pin!(self.shared.settled.notified());
        settled.as_mut().enable();
        match self.push(topic, partition, record)? {
            Pushed::Full => settled.await,
            other => return Ok(other),
        }
        self.push(topic, partition, record)
    }

    /// Learns the partitions of a topic, repeating while the broker cannot be reached.
    async fn learn(&self, topic: &str) -> Result<()> {
        let policy = self.config.retry.until(self.config.max_block);
        let partitions = repeat(policy, || self.metadata.partitions(topic)).await?;
        let sticky = (draw() * f64::from(partitions)) as usize;
        self.shared.lock().batcher.learn(topic, partitions, sticky);
        Ok(())
    }

    /// Sends what is queued without lingering and waits until everything sent before this call has its outcome, which is no
    /// longer than the delivery time-out and a second.
    ///
    /// # Errors
    /// What was not delivered since the last flush.
    pub async fn flush(&self) -> Result<(), Undelivered> {
        let through = self.shared.lock().batcher.flush();
        self.shared.work.notify_one();
        self.settled_through(through).await;
        self.shared.lock().failures.take()
    }

    async fn settled_through(&self, through: u64) {
        loop {
            let mut settled = std::pin::pin!(self.shared.settled.notified());
            settled.as_mut().enable();
            if self.shared.lock().batcher.oldest().is_none_or(|oldest| oldest >= through) {
                return;
            }
            settled.await;
        }
    }

    /// Refuses further records and flushes.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(&self) -> Result<(), Undelivered> {
        self.end();
        self.flush().await
    }

    /// [`close`](Self::close), but what has no outcome after `timeout` fails: what was in flight may have landed, the rest has not.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close_within(&self, timeout: Duration) -> Result<(), Undelivered> {
        self.end();
        let through = self.shared.lock().batcher.flush();
        if tokio::time::timeout(timeout, self.settled_through(through)).await.is_err() {
            self.shared.lock().aborted = true;
            self.shared.work.notify_one();
            // the task only has to look; if it does not, its runtime is ending
            let _ = tokio::time::timeout(ABORT_WAIT, self.settled_through(through)).await;
        }
        self.shared.lock().failures.take()
    }

    /// Records from now on belong to this transaction. Everything that was sent before has its outcome.
    pub(crate) fn begin(&self, number: u64, identity: Identity) {
        let mut state = self.shared.lock();
        state.failures = Failures::default();
        state.transaction = Some(Bound { number, identity, doomed: None });
    }

    /// Fails what has no outcome, and everything that is sent until the next transaction. Returns when nothing is left.
    pub(crate) async fn doom(&self, error: Error) {
        if let Some(transaction) = &mut self.shared.lock().transaction {
            transaction.doomed.get_or_insert(error);
        }
        // its failures are what was asked for
        let _ = self.flush().await;
    }

    /// Why the open transaction cannot be committed.
    pub(crate) fn doomed(&self) -> Option<Error> {
        self.shared.lock().transaction.as_ref().and_then(|transaction| transaction.doomed.clone())
    }

    /// Bytes of records that are queued or in flight.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.shared.lock().batcher.buffered_bytes()
    }

    fn end(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.batcher.flush();
        drop(state);
        self.shared.work.notify_one();
    }
}

fn check(record: &Record) -> Result<()> {
    let bytes = record_bytes(record);
    if bytes > MAX_RECORD_BYTES {
        let message = format!(
            "record has {bytes} bytes, the limit is {MAX_RECORD_BYTES}: store it elsewhere and send its address"
        );
        return Err(Error::new(ErrorCode::BatchTooLarge, message).at("record"));
    }
    match record.headers.iter().find(|header| header.key.starts_with(RESERVED_HEADER_PREFIX)) {
        None => Ok(()),
        Some(header) => {
            let message = format!(
                "header {:?} begins with {RESERVED_HEADER_PREFIX:?}, which is the server's: rename it",
                header.key
            );
            Err(Error::invalid("record.headers", message))
        }
    }
}

fn unknown_partition(topic: &str, partition: Option<i32>, count: i32) -> Error {
    let partition = partition.unwrap_or_default();
    let message = format!("topic {topic:?} has no partition {partition}: it has 0 to {}", count - 1);
    Error::new(ErrorCode::UnknownPartition, message).at("partition")
}
