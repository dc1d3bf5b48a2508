//! The inputs of one task: fetches ahead, and hands out records in the order of their timestamps.
//!
//! Invariant: records of a partition come in order and none is skipped. At most the configured bytes are buffered (and one batch
//! more for each partition); a partition that has its share is not asked for.

use std::collections::VecDeque;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sunseo_client::SharedTransport;
use sunseo_client::retry::RetryPolicy;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record, v1};

use super::commit::InputOffset;
use super::fetched::records_from;
use crate::task::{InputRecord, SourceIndex};
use crate::time::{Head, choose_next};

/// Longest wait of a fetch for something to come.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// The same while there are records to process: meanwhile other partitions may run out of theirs.
const BUSY_WAIT: Duration = Duration::from_millis(10);
/// What a record costs in memory beside its bytes.
const RECORD_BYTES: usize = 128;

/// One partition of one source.
#[derive(Debug)]
pub(crate) struct Input {
    pub source: SourceIndex,
    pub topic: String,
    pub partition: i32,
    /// The next record to hand out.
    pub next_offset: i64,
    fetch_offset: i64,
    high_watermark: i64,
    buffer: VecDeque<Record>,
    buffer_bytes: usize,
}

impl Input {
    pub(crate) fn new(source: SourceIndex, topic: String, partition: i32, next_offset: i64) -> Self {
        Self {
            source,
            topic,
            partition,
            next_offset,
            fetch_offset: next_offset,
            // not known yet; larger than the offset, so that nobody takes the task for idle
            high_watermark: i64::MAX,
            buffer: VecDeque::new(),
            buffer_bytes: 0,
        }
    }

    fn lag(&self) -> Option<i64> {
        (self.high_watermark != i64::MAX).then(|| (self.high_watermark - self.next_offset).max(0))
    }
}

/// All inputs of a task, with the fetch that is on its way.
pub(crate) struct Inputs {
    transport: SharedTransport,
    inputs: Vec<Input>,
    /// Bytes each partition may buffer.
    share_bytes: usize,
    request_timeout: Duration,
    in_flight: Option<BoxFuture<'static, Result<v1::FetchResponse>>>,
    /// Fetches that failed in a row.
    failures: u32,
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

impl Inputs {
    pub(crate) fn new(
        transport: SharedTransport,
        inputs: Vec<Input>,
        buffer_bytes: usize,
        request_timeout: Duration,
    ) -> Self {
        let share_bytes = (buffer_bytes / inputs.len().max(1)).max(1);
        Self { transport, inputs, share_bytes, request_timeout, in_flight: None, failures: 0 }
    }

    /// Whether a record can be handed out. An input that is known to have more, or of which nothing is known yet, holds the
    /// others back until its records are here, so that a table is not behind the stream that is joined with it.
    pub(crate) fn is_ready(&self) -> bool {
        let settled = |input: &Input| !input.buffer.is_empty() || input.lag() == Some(0);
        self.inputs.iter().any(|input| !input.buffer.is_empty()) && self.inputs.iter().all(settled)
    }

    /// Whether everything that is in the inputs was handed out, as far as the last fetch tells. While fetches fail it is not
    /// known.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.failures == 0 && self.inputs.iter().all(|input| input.lag() == Some(0))
    }

    /// Records not yet handed out, as far as it is known.
    pub(crate) fn lag(&self) -> i64 {
        self.inputs.iter().filter_map(Input::lag).sum()
    }

    /// How far each input is handed out.
    pub(crate) fn offsets(&self) -> Vec<InputOffset> {
        let offset = |input: &Input| InputOffset {
            topic: input.topic.clone(),
            partition: input.partition,
            next_offset: input.next_offset,
        };
        self.inputs.iter().map(offset).collect()
    }

    /// Moves up to `most` records to `out`, smallest timestamp first.
    pub(crate) fn take(&mut self, most: usize, out: &mut Vec<InputRecord>) {
        for _ in 0..most {
            if !self.is_ready() {
                break;
            }
            let heads = self.inputs.iter().enumerate().filter_map(|(input, source)| {
                source.buffer.front().map(|record| Head { timestamp_ms: record.timestamp_ms, input })
            });
            let Some(index) = choose_next(heads) else { break };
            let input = &mut self.inputs[index];
            let Some(record) = input.buffer.pop_front() else { break };
            input.buffer_bytes = input.buffer_bytes.saturating_sub(cost(&record));
            input.next_offset = record.offset + 1;
            out.push(InputRecord::new(input.source, input.partition, record));
        }
        self.skip_what_holds_no_records();
    }

    /// Takes back what was handed out last, the last one first.
    pub(crate) fn put_back(&mut self, records: impl Iterator<Item = InputRecord>) {
        for InputRecord { source, offset, timestamp_ms, key, value, headers, .. } in records {
            let Some(input) = self.inputs.iter_mut().find(|input| input.source == source) else { continue };
            let record = Record { offset, timestamp_ms, key, value, headers };
            input.next_offset = offset;
            input.buffer_bytes += cost(&record);
            input.buffer.push_front(record);
        }
    }

    /// Offsets without records (control batches) are passed once everything before them is handed out.
    fn skip_what_holds_no_records(&mut self) {
        for input in self.inputs.iter_mut().filter(|input| input.buffer.is_empty()) {
            input.next_offset = input.fetch_offset;
        }
    }

    /// Ends when records have come, or a fetch has ended without any. Loses nothing when it is dropped.
    ///
    /// # Errors
    /// A partition that cannot be read on.
    pub(crate) async fn fetch(&mut self) -> Result<()> {
        if self.in_flight.is_none() {
            self.in_flight =
                ask(&self.transport, &self.inputs, self.share_bytes, self.request_timeout, self.failures);
        }
        let Some(in_flight) = self.in_flight.as_mut() else {
            // every partition has its share: the task takes records first
            return std::future::pending().await;
        };
        let answer = in_flight.await;
        self.in_flight = None;
        match answer.and_then(|answer| self.learn(answer)) {
            Ok(()) => {
                self.failures = 0;
                Ok(())
            }
            Err(error) if error.retryable() => {
                if self.failures == 0 {
                    tracing::warn!(%error, "fetch refused for now, trying again");
                }
                self.failures += 1;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn learn(&mut self, answer: v1::FetchResponse) -> Result<()> {
        if let Some(error) = answer.error {
            return Err(error.into());
        }
        let mut refused = None;
        for result in answer.results {
            let of_result =
                |input: &&mut Input| input.topic == result.topic && input.partition == result.partition;
            let Some(input) = self.inputs.iter_mut().find(of_result) else { continue };
            match result.error.map(Error::from) {
                Some(error) if error.retryable() => refused = Some(error),
                Some(error) => return Err(explain(input, error)),
                None => {
                    let (records, next) = records_from(result.batches, &result.aborted, input.fetch_offset)?;
                    // the end as far as it may be read
                    input.high_watermark = result.last_stable_offset;
                    input.fetch_offset = next;
                    input.buffer_bytes += records.iter().map(cost).sum::<usize>();
                    input.buffer.extend(records);
                }
            }
        }
        self.skip_what_holds_no_records();
        refused.map_or(Ok(()), Err)
    }
}

fn explain(input: &Input, error: Error) -> Error {
    let what = format!("input {}-{} at offset {}", input.topic, input.partition, input.fetch_offset);
    let remedy = match error.code {
        ErrorCode::OffsetOutOfRange => {
            ": retention has removed what was not read yet, or the topic was made anew; reset the pipeline to read what is there"
        }
        _ => "",
    };
    Error { message: format!("{what}: {}{remedy}", error.message), ..error }
}

fn cost(record: &Record) -> usize {
    let bytes = |field: &Option<bytes::Bytes>| field.as_ref().map_or(0, bytes::Bytes::len);
    RECORD_BYTES + bytes(&record.key) + bytes(&record.value)
}

/// A fetch of every partition that has room; `None` when none has.
fn ask(
    transport: &SharedTransport,
    inputs: &[Input],
    share_bytes: usize,
    request_timeout: Duration,
    failures: u32,
) -> Option<BoxFuture<'static, Result<v1::FetchResponse>>> {
    let room = |input: &Input| share_bytes.saturating_sub(input.buffer_bytes);
    // a partition is asked again when a good part of its share is free, not for every record
    let partitions: Vec<_> = inputs
        .iter()
        .filter(|input| room(input) >= share_bytes / 2)
        .map(|input| v1::FetchPartition {
            topic: input.topic.clone(),
            partition: input.partition,
            fetch_offset: input.fetch_offset,
            max_bytes: u32::try_from(room(input)).unwrap_or(u32::MAX),
            current_leader_epoch: -1,
            ..Default::default()
        })
        .collect();
    if partitions.is_empty() {
        return None;
    }
    let wait = if inputs.iter().all(|input| input.buffer.is_empty()) { FETCH_WAIT } else { BUSY_WAIT };
    let max_bytes = partitions.iter().map(|partition| partition.max_bytes).fold(0, u32::saturating_add);
    let request = v1::FetchRequest {
        max_wait_ms: wait.as_millis() as u32,
        min_bytes: 1,
        max_bytes,
        partitions,
        // what may be taken back must not be in a store
        isolation: v1::Isolation::ReadCommitted.into(),
        ..Default::default()
    };
    let answer = (failures == 0).then(|| transport.fetch(request.clone()));
    let transport = std::sync::Arc::clone(transport);
    let fetch = async move {
        let answer = match answer {
            Some(answer) => answer,
            None => {
                tokio::time::sleep(RetryPolicy::default().backoff(failures, 0.0)).await;
                transport.fetch(request)
            }
        };
        let timed_out = |_| Error::new(ErrorCode::TimedOut, "no answer to a fetch in time");
        tokio::time::timeout(request_timeout + FETCH_WAIT, answer).await.map_err(timed_out)?
    };
    Some(fetch.boxed())
}
