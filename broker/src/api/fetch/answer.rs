//! One partition's part of an answer: what was read, what of it was taken back, and its form as plain records.

use bytes::Bytes;
use sunseo_log::AbortedRange;
use sunseo_proto::batch::{self, BatchError, BatchHeader};
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::v1;

use crate::api::check::plain;
use crate::reads::Wanted;

/// One partition's answer while it is being made.
pub(super) struct Answer {
    pub(super) result: v1::FetchResult,
    /// What there is to read, if there is anything.
    pub(super) wanted: Option<Wanted>,
    pub(super) fetch_offset: i64,
}

impl Answer {
    /// Nothing is in it yet.
    pub(super) fn is_open(&self) -> bool {
        self.result.batches.is_empty() && self.result.error.is_none()
    }
}

/// What was read so far, and the room for more.
pub(super) struct Portion {
    pub(super) bytes: usize,
    pub(super) left: usize,
    pub(super) full: bool,
}

impl Portion {
    /// Puts bytes into an answer; whether they had room.
    pub(super) fn take(&mut self, answer: &mut Answer, read: Result<Bytes>) -> bool {
        match read {
            // a batch that is larger than the room left waits for the next request
            Ok(read) if self.bytes > 0 && read.len() > self.left => {
                (self.left, self.full) = (0, true);
                return false;
            }
            Ok(read) => {
                // a read ends early at the end of a segment and where its bytes are used up
                let until = answer.wanted.as_ref().map(|wanted| wanted.until);
                let end = end_of(&read);
                self.full |= end < until;
                answer.result.next_offset = end.unwrap_or(answer.fetch_offset);
                self.bytes += read.len();
                self.left = self.left.saturating_sub(read.len());
                answer.result.batches = read;
            }
            Err(error) => answer.result.error = Some(error.into()),
        }
        true
    }
}

/// Offset after the last of the batches; `None` when there is none.
fn end_of(batches: &Bytes) -> Option<i64> {
    let (mut at, mut end) = (0, None);
    while let Some(rest) = batches.get(at..)
        && let Ok(header) = BatchHeader::parse(rest)
    {
        end = Some(header.next_offset());
        at += header.total_bytes;
    }
    end
}

/// Names the aborted transactions in what was read.
pub(super) async fn find_aborted(answers: &mut [Answer]) {
    for answer in answers.iter_mut().filter(|answer| !answer.result.batches.is_empty()) {
        let Some(Wanted { partition, .. }) = &answer.wanted else { continue };
        // the first batch may begin below the offset
        let first = BatchHeader::parse(&answer.result.batches).map_or(answer.fetch_offset, |h| h.base_offset);
        let until = answer.result.next_offset;
        let found = match partition.reader.aborted_in_memory(first, until) {
            Some(found) => Ok(found),
            None => {
                let reader = partition.reader.clone();
                let task =
                    tokio::task::spawn_blocking(move || reader.aborted(first, until).map_err(Error::from));
                task.await.unwrap_or_else(|error| {
                    Err(Error::internal(format!("a look for aborted transactions: {error}")))
                })
            }
        };
        match found {
            Ok(found) => answer.result.aborted = found.into_iter().map(wire).collect(),
            Err(error) => {
                // what cannot be told from what was taken back must not be handed out
                (answer.result.batches, answer.result.next_offset) = (Bytes::new(), answer.fetch_offset);
                answer.result.error = Some(error.into());
            }
        }
    }
}

fn wire(range: AbortedRange) -> v1::AbortedTransaction {
    let AbortedRange { producer_id, first_offset, last_offset } = range;
    v1::AbortedTransaction { producer_id, first_offset, last_offset }
}

/// Whether a batch holds nothing for readers of plain records.
fn is_void(header: &BatchHeader, aborted: &[v1::AbortedTransaction]) -> bool {
    let holds = |range: &v1::AbortedTransaction| {
        range.producer_id == header.producer_id
            && (range.first_offset..=range.last_offset).contains(&header.base_offset)
    };
    header.is_control() || (header.is_transactional() && aborted.iter().any(holds))
}

/// Batches to plain records, from the offset that was asked for, at least one in all and never more than fit into a message, in bytes of
/// the message and of the memory that it takes here.
pub(super) fn as_records(answer: &mut Answer, left: &mut usize) {
    let batches = std::mem::take(&mut answer.result.batches);
    let aborted = std::mem::take(&mut answer.result.aborted);
    for batch in batch::batches(batches) {
        let added = match batch {
            Ok((header, _)) if is_void(&header, &aborted) => Ok(false),
            Ok((_, batch)) => add_records(answer, &batch, left),
            Err(error) => Err(error),
        };
        match added {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => {
                answer.result.error = Some(Error::new(ErrorCode::CorruptLog, error.to_string()).into());
                return;
            }
        }
    }
}

/// Adds the records of a batch; whether no more fit.
fn add_records(
    answer: &mut Answer,
    batch: &Bytes,
    left: &mut usize,
) -> std::result::Result<bool, BatchError> {
    // one at a time: a batch of many small records is many times as large as values
    for record in batch::iterate(batch)? {
        let record = record?;
        if record.offset < answer.fetch_offset {
            continue;
        }
        let record = plain(record);
        let bytes = prost::Message::encoded_len(&record) + size_of::<v1::Record>();
        if bytes > *left {
            (*left, answer.result.next_offset) = (0, record.offset);
            return Ok(true);
        }
        *left -= bytes;
        answer.result.records.push(record);
    }
    Ok(false)
}
