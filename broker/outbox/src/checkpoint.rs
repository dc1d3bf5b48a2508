//! Writes notes to the topic [`TOPIC`] and reads them back.
//!
//! One task writes for all shards: notes that wait together share a batch. The writer is a positioned producer of its own; its
//! position is its epoch and a counter, so that a late write of an earlier process can neither follow nor displace a
//! newer one.
//!
//! What the notes add up to is written down again now and then, one note for each shard; what lies before that is deleted. So the topic
//! and the time that a start reads it for do not grow with the life of the server.
//!
//! Not here: what a note says ([`crate::position`]).

use std::time::Duration;

use bytes::Bytes;
use sunseo_client::admin::OffsetQuery;
use sunseo_client::retry::RetryPolicy;
use sunseo_client::{Client, NewTopic, PositionedConfig, PositionedProducer, Record};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, batch};
use tokio::sync::{mpsc, oneshot};

use crate::names::shard_key;
use crate::position::{Checkpoint, Ledger};
use crate::read::{read_partition, repeat};

/// The internal topic of the notes; it has one partition.
pub const TOPIC: &str = "__outbox";
/// Notes of one batch.
const BATCH_NOTES_MAX: usize = 512;
/// Notes that wait for the writer; beyond it shards wait.
const QUEUE_NOTES_MAX: usize = 1_024;
/// Notes after which their sum is written down anew.
const SNAPSHOT_NOTES: u64 = 20_000;
/// Notes of one batch of a snapshot: each may hold a whole window.
const SNAPSHOT_BATCH_NOTES: usize = 64;
/// How long one batch of notes is tried before its shards are told.
const DEADLINE: Duration = Duration::from_secs(30);
/// Positions of one epoch of the writer.
const EPOCH_SHIFT: u32 = 40;

struct Note {
    key: String,
    value: Bytes,
    written: oneshot::Sender<Result<()>>,
}

/// The door to the writer. Clones share it.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    notes: mpsc::Sender<Note>,
}

impl Checkpoints {
    /// Makes the topic if need be, takes over as its only writer and reads what is there. The returned future is the writer.
    pub async fn open(client: &Client) -> Result<(Self, Ledger, impl Future<Output = ()> + Send + use<>)> {
        let retry = RetryPolicy::default().until(DEADLINE);
        repeat(retry, || async {
            let topic = NewTopic::new(TOPIC, 1).if_not_exists().internal();
            client.admin().create_topic(topic).await
        })
        .await?;
        let config = PositionedConfig { retry, ..PositionedConfig::default() };
        let producer = repeat(retry, || client.positioned_with("outbox-checkpoints", config.clone())).await?;
        let first = i64::from(producer.epoch()) << EPOCH_SHIFT;
        // fences earlier writers, so that nothing of theirs can arrive after the read below
        let opening = Record::new("", Checkpoint::default().seal(), 0);
        producer.append(TOPIC, 0, vec![(first, opening)]).await?;
        let ledger = read(client).await?;
        let (notes, queue) = mpsc::channel(QUEUE_NOTES_MAX);
        let writer = Writer {
            client: client.clone(),
            producer,
            position: first + 1,
            ledger: ledger.clone(),
            notes_since: SNAPSHOT_NOTES,
            snapshot_notes: SNAPSHOT_NOTES,
        };
        Ok((Self { notes }, ledger, writer.write(queue)))
    }

    /// Returns when the note is durable.
    pub async fn write(&self, source: &str, shard: &str, checkpoint: &Checkpoint) -> Result<()> {
        let (written, done) = oneshot::channel();
        let note = Note { key: shard_key(source, shard), value: checkpoint.seal(), written };
        self.notes.send(note).await.map_err(|_| stopping())?;
        done.await.map_err(|_| stopping())?
    }
}

pub(crate) fn stopping() -> Error {
    Error::new(ErrorCode::Unavailable, "the outbox is stopping: try again when the server is back")
}

async fn read(client: &Client) -> Result<Ledger> {
    let retry = RetryPolicy::default().until(DEADLINE);
    let end = repeat(retry, || async { client.admin().offset(TOPIC, 0, OffsetQuery::End).await }).await?;
    let mut ledger = Ledger::default();
    read_partition(client, TOPIC, 0, end.unwrap_or(0), |_, bytes| {
        for record in batch::records(bytes).map_err(|error| corrupt(-1, &error))? {
            let key = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let value = record.value.unwrap_or_default();
            let note = Checkpoint::open(&value).map_err(|error| corrupt(record.offset, &error))?;
            ledger.apply(&key, note);
        }
        Ok(())
    })
    .await?;
    Ok(ledger)
}

fn corrupt(offset: i64, error: &dyn std::error::Error) -> Error {
    let message = format!(
        "topic {TOPIC} does not read at offset {offset}: {error}; check the data directory with `sunseo log verify`"
    );
    Error::new(ErrorCode::CorruptLog, message)
}

/// The only writer of the topic.
struct Writer {
    client: Client,
    producer: PositionedProducer,
    /// Of the next note.
    position: i64,
    /// What the notes add up to that were written.
    ledger: Ledger,
    /// Notes since the last snapshot; the first one is due with the first note after a start.
    notes_since: u64,
    snapshot_notes: u64,
}

impl Writer {
    async fn write(mut self, mut queue: mpsc::Receiver<Note>) {
        let mut notes = Vec::new();
        while queue.recv_many(&mut notes, BATCH_NOTES_MAX).await > 0 {
            let records = notes.iter().map(|note| (note.key.clone(), note.value.clone())).collect();
            let written = self.append(records).await.map(drop);
            match &written {
                Ok(()) => notes.iter().for_each(|note| self.add(note)),
                Err(error) => {
                    tracing::error!(%error, notes = notes.len(), "progress of the outbox could not be written down");
                }
            }
            let is_written = written.is_ok();
            for note in notes.drain(..) {
                // a shard that no longer waits has gone
                let _ = note.written.send(written.clone());
            }
            if is_written && self.notes_since >= self.snapshot_notes {
                self.snapshot().await;
            }
        }
    }

    /// Returns where they begin, when it is sure.
    async fn append(&mut self, records: Vec<(String, Bytes)>) -> Result<Option<i64>> {
        let count = records.len() as i64;
        let records = (self.position..).zip(records);
        let records = records.map(|(position, (key, value))| (position, Record::new(key, value, 0)));
        // a position is never used for two notes, whatever becomes of the first
        self.position += count;
        let appended = self.producer.append(TOPIC, 0, records.collect()).await?;
        // of what an attempt appended whose answer was lost the place is not known
        Ok(Some(appended.base_offset).filter(|offset| appended.dropped == 0 && *offset >= 0))
    }

    fn add(&mut self, note: &Note) {
        self.notes_since += 1;
        // it was sealed here
        if let Ok(checkpoint) = Checkpoint::open(&note.value) {
            self.ledger.apply(&note.key, checkpoint);
        }
    }

    /// Writes down what the notes add up to, then deletes what lies before. Notes whose outcome is not known are not in it: their
    /// shards were told so, and did not go by them.
    async fn snapshot(&mut self) {
        self.notes_since = 0;
        let notes = self.ledger.snapshot();
        let mut begin: Option<Option<i64>> = None;
        for part in notes.chunks(SNAPSHOT_BATCH_NOTES) {
            let records = part.iter().map(|(key, checkpoint)| (key.clone(), checkpoint.seal())).collect();
            match self.append(records).await {
                Ok(place) => drop(begin.get_or_insert(place)),
                Err(error) => return tracing::warn!(%error, "the outbox's notes were not summed up"),
            }
        }
        let Some(before) = begin.flatten().filter(|offset| *offset > 0) else { return };
        if let Err(error) = self.client.admin().delete_records(TOPIC, [(0, Some(before))]).await {
            tracing::debug!(%error, "the outbox's older notes stay for now");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Events;
    use crate::testing;

    fn note(position: i64) -> Checkpoint {
        let events = Events { first: position + 1, checksums: vec![position as u32, 9] };
        Checkpoint { position, events: Some(events), ..Checkpoint::default() }
    }

    /// Ends with the writer's queue.
    async fn live(fake: &sunseo_client::testing::MemoryTransport, notes: std::ops::Range<i64>) -> Ledger {
        let (checkpoints, ledger, writer) = Checkpoints::open(&fake.client()).await.expect("opens");
        let write = async move {
            for position in notes {
                checkpoints.write("orders", "a", &note(position)).await.expect("written");
                checkpoints.write("orders", "b", &note(position * 2)).await.expect("written");
            }
        };
        futures::join!(write, writer);
        ledger
    }

    #[tokio::test]
    async fn lives_with_snapshots_between_add_up_to_the_same() {
        let fake = testing::broker(5, testing::faults());
        let mut expected = Ledger::default();
        for life in 0..4 {
            let found = live(&fake, life * 10..life * 10 + 10).await;
            let windows = |ledger: &Ledger| -> Vec<_> {
                ledger
                    .shards
                    .iter()
                    .map(|(k, s)| (k.clone(), s.checkpoint.position, s.window.clone()))
                    .collect()
            };
            assert_eq!(windows(&found), windows(&expected), "life {life}");
            for position in life * 10..life * 10 + 10 {
                expected.apply("orders/a", note(position));
                expected.apply("orders/b", note(position * 2));
            }
        }
        // an opening, 20 notes and one snapshot of at most two notes in each life
        assert!(fake.records(TOPIC)[0].len() <= 4 * 23, "snapshots are rare");
    }
}
