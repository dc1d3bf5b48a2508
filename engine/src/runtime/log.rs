//! The task log of one task: append a commit, read what is there.
//!
//! Invariant: after [`TaskLog::begin`] nobody else can append to the partition (earlier incarnations are fenced by its epoch), so
//! this side knows every offset by counting, also when the answer to an append was lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sunseo_client::admin::OffsetQuery;
use sunseo_client::{Client, PositionedProducer};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record, v1};

use super::entry::{Entry, entries, position};
use super::retry::again;
use crate::runtime::fetched::records_from;

/// Most bytes of a batch in a task log; its topic is made with this.
pub(crate) const LOG_BATCH_BYTES_MAX: usize = 8 << 20;
/// Bytes of a commit from which it is cut into chunks. The rest of a batch is room for header and envelope.
pub(crate) const PIECE_BYTES_MAX: usize = LOG_BATCH_BYTES_MAX / 2;
/// Bytes that are read at once.
const READ_BYTES: u32 = 4 << 20;

const _: () = assert!(PIECE_BYTES_MAX + (64 << 10) <= LOG_BATCH_BYTES_MAX);

/// Where a task log is.
#[derive(Clone, Debug)]
pub(crate) struct LogPlace {
    pub topic: Arc<str>,
    pub partition: i32,
}

/// An open task log.
#[derive(Debug)]
pub(crate) struct TaskLog {
    producer: PositionedProducer,
    place: LogPlace,
    /// Records this incarnation has appended.
    sequence: i64,
    /// Offset of the next record.
    end: i64,
    piece_bytes: usize,
}

/// What an append covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub first_offset: i64,
    pub next_offset: i64,
}

impl TaskLog {
    /// Starts an incarnation: its first record fences all earlier ones and marks where the log ends for them.
    ///
    /// # Errors
    /// `PRODUCER_FENCED` when a later incarnation is there, or what the broker says.
    pub(crate) async fn begin(
        client: &Client,
        producer: PositionedProducer,
        place: LogPlace,
    ) -> Result<Self> {
        let epoch = producer.epoch();
        let record = record(&Entry::Begin { epoch });
        let appended =
            producer.append(&place.topic, place.partition, vec![(position(epoch, 0), record)]).await?;
        let end = match appended.base_offset {
            offset if offset >= 0 => offset + 1,
            // it landed, but the answer that said where was lost
            _ => {
                let end = || client.admin_offset(&place);
                again(end).await?
            }
        };
        Ok(Self { producer, place, sequence: 1, end, piece_bytes: PIECE_BYTES_MAX })
    }

    #[cfg(test)]
    pub(crate) fn with_piece_bytes(mut self, piece_bytes: usize) -> Self {
        self.piece_bytes = piece_bytes;
        self
    }

    /// Offset after everything that is in the log.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// Appends a commit; the future ends when it is durable. One at a time.
    ///
    /// # Errors
    /// `BATCH_TOO_LARGE` for a commit over all bounds; the future fails with `PRODUCER_FENCED` when another incarnation has begun.
    pub(crate) fn append(
        &mut self,
        number: i64,
        body: Vec<u8>,
    ) -> Result<(Span, BoxFuture<'static, Result<()>>)> {
        let epoch = self.producer.epoch();
        let entries = entries(epoch, number, Bytes::from(body), self.piece_bytes)?;
        let first_offset = self.end;
        let records: Vec<(i64, Record)> = entries
            .iter()
            .zip(self.sequence..)
            .map(|(entry, n)| (position(epoch, n), record(entry)))
            .collect();
        self.sequence += records.len() as i64;
        self.end += records.len() as i64;
        let (producer, place) = (self.producer.clone(), self.place.clone());
        let append = async move { producer.append(&place.topic, place.partition, records).await.map(drop) };
        Ok((Span { first_offset, next_offset: self.end }, append.boxed()))
    }
}

fn record(entry: &Entry) -> Record {
    Record { value: Some(entry.encode()), ..Record::default() }
}

trait AdminOffset {
    async fn admin_offset(&self, place: &LogPlace) -> Result<i64>;
}

impl AdminOffset for Client {
    async fn admin_offset(&self, place: &LogPlace) -> Result<i64> {
        let end = self.admin().offset(&place.topic, place.partition, OffsetQuery::End).await?;
        end.ok_or_else(|| Error::internal(format!("task log {} has no end", place.topic)))
    }
}

/// Reads a task log from `from` up to `to`, and hands each entry with its offset to `each`.
///
/// # Errors
/// What the broker says and cannot be tried again, `CORRUPT_LOG` for a record that is no entry, or what `each` says.
pub(crate) async fn read(
    client: &Client,
    place: &LogPlace,
    (mut from, to): (i64, i64),
    mut each: impl FnMut(i64, Entry) -> Result<()>,
) -> Result<()> {
    while from < to {
        let result = again(|| fetch(client, place, from)).await?;
        let (records, next) = records_from(result.batches, &[], from)?;
        if next == from {
            let message = format!(
                "task log {}-{} ends at offset {from}, offset {to} was there before: restore its partition",
                place.topic, place.partition
            );
            return Err(Error::new(ErrorCode::CorruptLog, message));
        }
        for record in records.into_iter().filter(|record| record.offset < to) {
            let value = record.value.unwrap_or_default();
            each(record.offset, Entry::decode(&value)?)?;
        }
        from = next;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn fetch(client: &Client, place: &LogPlace, fetch_offset: i64) -> Result<v1::FetchResult> {
    let asked = v1::FetchPartition {
        topic: place.topic.to_string(),
        partition: place.partition,
        fetch_offset,
        max_bytes: READ_BYTES,
        current_leader_epoch: -1,
        ..Default::default()
    };
    let request = v1::FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: READ_BYTES,
        partitions: vec![asked],
        ..Default::default()
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), client.transport().fetch(request)).await;
    let answer =
        answer.map_err(|_| Error::new(ErrorCode::TimedOut, "no answer to a fetch of a task log"))??;
    if let Some(error) = answer.error {
        return Err(error.into());
    }
    let result = answer.results.into_iter().next();
    let result = result.ok_or_else(|| Error::new(ErrorCode::Unavailable, "an empty answer to a fetch"))?;
    match result.error {
        Some(error) => Err(error.into()),
        None => Ok(result),
    }
}
