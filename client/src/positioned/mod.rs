//! A named producer whose records say where they stand in their source.
//!
//! Whoever repeats itself after a crash (outbox reader, ingest, the engine's forwarder) appends with positions: the
//! partition drops what it already holds, so each record lands once, in the order of positions, however often it is sent.
//!
//! Invariants: one batch per partition is in flight at a time, over all clones and calls; batches of several partitions
//! share a request. `PRODUCER_FENCED` is final. A topic is meant by its name: a source goes on into a topic that was made again, which has
//! none of its positions, while a plain producer or consumer stays with the topic it began with.
//! Not here: batching over calls. Bring as much per call as there is.

mod lane;
mod run;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sunseo_proto::batch::Compression;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, Record, v1};

use self::lane::{Cut, Lane};
use crate::producer::config::MAX_BATCH_BYTES;
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
    inner: Arc<Inner>,
}

/// Held while an append to a partition runs; waits are first come, first served.
type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Debug)]
struct Inner {
    transport: SharedTransport,
    name: String,
    config: PositionedConfig,
    cut: Cut,
    /// One per partition this producer has appended to, so bounded by the partitions of the cluster.
    turns: Mutex<HashMap<(String, i32), Turn>>,
}

impl PositionedProducer {
    pub(crate) async fn open(
        transport: SharedTransport,
        name: &str,
        config: PositionedConfig,
    ) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::invalid(
                "name",
                "a positioned producer needs a name: it finds its positions again by it",
            ));
        }
        let answer = transport
            .init_producer(v1::InitProducerRequest { name: name.to_owned(), ..Default::default() })
            .await?;
        Self::with_epoch(transport, name, (answer.producer_id, answer.producer_epoch), config)
    }

    pub(crate) fn with_epoch(
        transport: SharedTransport,
        name: &str,
        (producer_id, epoch): (i64, i32),
        config: PositionedConfig,
    ) -> Result<Self> {
        let Some(epoch) = i16::try_from(epoch).ok().filter(|&epoch| epoch >= 0 && producer_id >= 0) else {
            let message = format!(
                "producer {name:?} has id {producer_id} and epoch {epoch}, a batch carries epochs 0 to {}: use another name",
                i16::MAX
            );
            return Err(Error::invalid("epoch", message));
        };
        if !(1..=MAX_BATCH_BYTES).contains(&config.batch_bytes) {
            let message =
                format!("batch_bytes is {}: use a value from 1 to {MAX_BATCH_BYTES}", config.batch_bytes);
            return Err(Error::invalid("batch_bytes", message));
        }
        let (compression, batch_bytes) = (config.compression, config.batch_bytes);
        let cut = Cut { producer_id, epoch, compression, batch_bytes };
        let name = name.to_owned();
        Ok(Self { inner: Arc::new(Inner { transport, name, config, cut, turns: Mutex::default() }) })
    }

    /// The name it was opened with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Stable for the name.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        self.inner.cut.producer_id
    }

    /// Fences every lower epoch of the name.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        i32::from(self.inner.cut.epoch)
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

    /// Appends to several partitions, one result per entry and in their order; an entry without records is success. Entries
    /// of the same partition are appended in order, and an error of one is also the error of those after it.
    ///
    /// An error leaves open whether some of the entry's records landed: append the same again, what is there is dropped.
    /// Dropping the future ends the attempts but does not take back what was sent.
    pub async fn append_many(&self, parts: Vec<PartitionAppend>) -> Vec<Result<Appended>> {
        let mut results: Vec<Option<Result<Appended>>> = parts.iter().map(|_| None).collect();
        let mut lanes: HashMap<(String, i32), Lane> = HashMap::new();
        let mut refused: HashMap<(String, i32), Error> = HashMap::new();
        for (index, PartitionAppend { topic, partition, records }) in parts.into_iter().enumerate() {
            let key = (topic, partition);
            let checked = refused.get(&key).cloned().map_or_else(|| lane::check(&records), Err);
            if let Err(error) = checked {
                results[index] = Some(Err(error.clone()));
                refused.insert(key, error);
                continue;
            }
            let (topic, partition) = key.clone();
            lanes.entry(key).or_insert_with(|| Lane::new(topic, partition)).add(index, records);
        }
        let mut lanes: Vec<Lane> = lanes.into_values().collect();
        // every call takes its turns in this order, so that two calls never wait for each other
        lanes.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let mut turns = Vec::with_capacity(lanes.len());
        for lane in &lanes {
            turns.push(self.turn(lane).lock_owned().await);
        }
        run::run(&self.inner, lanes, &mut results).await;
        let lost = || Err(Error::internal("an append ended without a result"));
        results.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
    }

    fn turn(&self, lane: &Lane) -> Turn {
        let mut turns = self.inner.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry((lane.topic.clone(), lane.partition)).or_default())
    }
}
