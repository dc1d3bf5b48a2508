//! Writes notes to the topic [`TOPIC`] and reads them back.
//!
//! One task writes for all shards: notes that wait together share a batch. The writer is a positioned producer of its own; its
//! position is its epoch and a counter, so that a late write of an earlier process can neither follow nor displace a
//! newer one.
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
        Ok((Self { notes }, ledger, write(producer, first + 1, queue)))
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

async fn write(producer: PositionedProducer, mut position: i64, mut queue: mpsc::Receiver<Note>) {
    let mut notes = Vec::new();
    while queue.recv_many(&mut notes, BATCH_NOTES_MAX).await > 0 {
        let records = (position..)
            .zip(&notes)
            .map(|(position, note)| (position, Record::new(note.key.clone(), note.value.clone(), 0)));
        let written = producer.append(TOPIC, 0, records.collect()).await.map(drop);
        if let Err(error) = &written {
            tracing::error!(%error, notes = notes.len(), "progress of the outbox could not be written down");
        }
        position += notes.len() as i64;
        for note in notes.drain(..) {
            // a shard that no longer waits has gone
            let _ = note.written.send(written.clone());
        }
    }
}
