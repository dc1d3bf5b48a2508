//! A shard's way into the log: positioned records to the partitions of their topics.
//!
//! Invariant: a record's partition depends on its key and on a *pinned* number of partitions. A pin is written down, in a note
//! whose position is below every record that uses it, before the first such record is sent ([`crate::position`]). A pin changes
//! only while nothing above that position can have been sent with the former one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sunseo_client::{PartitionAppend, PositionedProducer, Record};
use sunseo_proto::error::Result;
use sunseo_proto::partitioner::partition_of;
use sunseo_proto::{Error, ErrorCode};

use crate::position::SHARD_TOPICS_MAX;
use crate::topics::Topics;

/// A record with its place in the source.
#[derive(Clone, Debug)]
pub struct Item {
    pub position: i64,
    pub topic: String,
    pub record: Record,
}

/// What an append did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Records the partitions already had.
    pub dropped: u64,
    /// The lowest position that may be missing, and why.
    pub failed: Option<(i64, Error)>,
    /// Topics that are gone, or have fewer partitions than they had.
    pub unknown: BTreeSet<String>,
}

/// Appends for one shard.
#[derive(Debug)]
pub struct Appender {
    pub producer: PositionedProducer,
    topics: Arc<Topics>,
    /// Partitions that a topic made on the way gets.
    partitions: i32,
    pins: BTreeMap<String, i32>,
    batch_bytes_max: HashMap<String, usize>,
    /// Nothing above it was ever sent.
    sent_through: i64,
}

impl Appender {
    pub fn new(
        producer: PositionedProducer,
        topics: Arc<Topics>,
        partitions: i32,
        pins: BTreeMap<String, i32>,
    ) -> Self {
        Self { producer, topics, partitions, pins, batch_bytes_max: HashMap::new(), sent_through: 0 }
    }

    /// The pins, for the next note.
    pub fn pins(&self) -> &BTreeMap<String, i32> {
        &self.pins
    }

    /// An earlier process may have sent up to here.
    pub fn sent_through(&mut self, position: i64) {
        self.sent_through = self.sent_through.max(position);
    }

    /// Learns about a topic and makes it if need be. True when its pin changed, so that a note with the position `durable` must
    /// be written before anything is sent to it.
    pub async fn pin(&mut self, name: &str, durable: i64) -> Result<bool> {
        if !self.pins.contains_key(name) && self.pins.len() >= SHARD_TOPICS_MAX {
            let message = format!(
                "topic {name:?} would be the shard's {}th, the limit is {SHARD_TOPICS_MAX}: choose a topic template that makes fewer",
                SHARD_TOPICS_MAX + 1
            );
            return Err(Error::invalid("topic", message));
        }
        let topic = self.topics.get(name, self.partitions).await?;
        self.batch_bytes_max.insert(name.to_owned(), topic.batch_bytes_max);
        let settled = durable >= self.sent_through;
        match self.pins.get_mut(name) {
            // an old answer may still be smaller than the pin; topics do not shrink
            Some(pin) if topic.partitions <= *pin || !settled => return Ok(false),
            Some(pin) => *pin = topic.partitions,
            None => drop(self.pins.insert(name.to_owned(), topic.partitions)),
        }
        Ok(true)
    }

    /// A topic was deleted, perhaps made again: what was known of it no longer holds.
    pub fn unpin(&mut self, name: &str) {
        self.topics.forget(name);
        self.pins.remove(name);
    }

    /// Refuses a record that no batch of its topic can hold.
    pub fn check_size(&self, topic: &str, record: &Record) -> Result<()> {
        let limit = self.batch_bytes_max.get(topic).copied().unwrap_or(usize::MAX);
        let bytes = batch_bytes(record);
        if bytes <= limit {
            return Ok(());
        }
        let message = format!(
            "the record has {bytes} bytes and topic {topic:?} takes batches of {limit}: raise the topic's max_batch_bytes"
        );
        Err(Error::new(ErrorCode::BatchTooLarge, message))
    }

    /// Appends records of pinned topics, in rising positions.
    pub async fn append(&mut self, items: Vec<Item>) -> Outcome {
        self.sent_through(items.last().map_or(0, |item| item.position));
        let mut parts: BTreeMap<(String, i32), Vec<(i64, Record)>> = BTreeMap::new();
        for Item { position, topic, record } in items {
            let partitions = self.pins.get(&topic).copied().unwrap_or(1);
            // only dead letters may be without a key
            let partition = record.key.as_deref().map_or(0, |key| partition_of(key, partitions));
            parts.entry((topic, partition)).or_default().push((position, record));
        }
        let mut first = Vec::with_capacity(parts.len());
        let appends = parts.into_iter().map(|((topic, partition), records)| {
            first.push((records.first().map_or(0, |(position, _)| *position), topic.clone()));
            PartitionAppend { topic, partition, records }
        });
        let results = self.producer.append_many(appends.collect()).await;
        let mut outcome = Outcome::default();
        for (result, (position, topic)) in results.into_iter().zip(first) {
            match result {
                Ok(appended) => outcome.dropped += appended.dropped,
                Err(error) => {
                    if matches!(error.code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition) {
                        outcome.unknown.insert(topic);
                    }
                    if outcome.failed.as_ref().is_none_or(|(lowest, _)| position < *lowest) {
                        outcome.failed = Some((position, error));
                    }
                }
            }
        }
        outcome
    }
}

/// Bytes of a batch that holds only this record, at most.
fn batch_bytes(record: &Record) -> usize {
    const BATCH_AND_POSITION: usize = 128;
    const RECORD: usize = 48;
    let field = |field: &Option<bytes::Bytes>| field.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = record.headers.iter().map(|h| 12 + h.key.len() + field(&h.value)).sum();
    BATCH_AND_POSITION + RECORD + field(&record.key) + field(&record.value) + headers
}
