//! What a consumer knows about its partitions: where it fetches, what is fetched, where it hands out. Pure.
//!
//! Invariants: records of a partition are handed out in order and once per assignment, unless a seek says otherwise; an
//! answer to a fetch that a seek or a revocation has overtaken is dropped. What is fetched and not handed out, together with what
//! is asked for, stays under `prefetch_bytes` plus [`CREDIT_BYTES_MIN`], or one batch, per partition; a paused partition keeps what it
//! has, at most two fetches' worth, and does not count. So no partition waits for room that another one holds: one that has nothing
//! may always be asked for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::batch;
use sunseo_proto::error::Result;
use sunseo_proto::record::RESERVED_HEADER_PREFIX;
use sunseo_proto::{Error, ErrorCode, Record, v1};
use tokio::time::Instant;

use super::ConsumedRecord;
use super::config::{ConsumerConfig, Isolation, OutOfRangePolicy};
use crate::producer::record_bytes;
use crate::transaction;

/// Bytes that a partition without records may be asked for, also when `prefetch_bytes` are used up.
pub(super) const CREDIT_BYTES_MIN: usize = 64 << 10;

/// Topic and partition number.
pub(super) type Key = (Arc<str>, i32);

/// Records of one batch.
#[derive(Debug)]
struct Chunk {
    records: std::vec::IntoIter<Record>,
    bytes: usize,
    /// Offset after the batch, records or not.
    next_offset: i64,
}

#[derive(Debug)]
struct Partition {
    /// Empty: whichever has the name.
    topic_id: Bytes,
    /// Tells answers of this assignment and position from older ones.
    generation: u64,
    /// Where the next fetch begins.
    fetch_offset: i64,
    /// What `poll` hands out next.
    position: i64,
    chunks: VecDeque<Chunk>,
    buffered_bytes: usize,
    in_flight: bool,
    paused: bool,
    /// Given up at the next poll; nothing is handed out.
    revoked: bool,
    not_before: Option<Instant>,
    failures: u32,
    /// Told by the next poll that has nothing else to tell.
    failed: Option<Error>,
    high_watermark: Option<i64>,
}

/// An answer for one partition with its batches decoded.
#[derive(Debug)]
pub(super) struct Fetched {
    result: v1::FetchResult,
    chunks: VecDeque<Chunk>,
    /// What is wrong with the first bad batch.
    broken: Option<Error>,
}

/// Decodes an answer to a fetch from `from`. Apart from [`Book`] because it is the work that takes time.
pub(super) fn decode(key: &Key, mut from: i64, mut result: v1::FetchResult, isolation: Isolation) -> Fetched {
    let (mut chunks, mut broken) = (VecDeque::new(), None);
    if isolation == Isolation::ReadCommitted {
        // the end as far as this reader is concerned
        result.high_watermark = result.last_stable_offset;
    }
    for next in batch::batches(std::mem::take(&mut result.batches)) {
        let next = next.and_then(|(header, bytes)| {
            let is_void = header.is_control() || transaction::is_aborted(&header, &result.aborted);
            chunk(&header, &bytes, from, is_void)
        });
        match next {
            Ok(Some(chunk)) => {
                from = chunk.next_offset;
                chunks.push_back(chunk);
            }
            Ok(None) => {}
            Err(error) => broken = Some(damaged(error, key, from)),
        }
        if broken.is_some() {
            break;
        }
    }
    Fetched { result, chunks, broken }
}

/// The records of a batch from an offset on, none when it is void; `None` when the whole batch lies below it.
fn chunk(
    header: &batch::BatchHeader,
    batch: &bytes::Bytes,
    from: i64,
    is_void: bool,
) -> Result<Option<Chunk>, batch::BatchError> {
    let next_offset = header.next_offset();
    if next_offset <= from {
        return Ok(None);
    }
    let mut records = if is_void { Vec::new() } else { batch::records(batch)? };
    records.retain(|record| record.offset >= from);
    records.iter_mut().for_each(strip);
    let bytes = batch.len().max(records.iter().map(record_bytes).sum());
    Ok(Some(Chunk { records: records.into_iter(), bytes, next_offset }))
}

/// What became of a partition's answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Nothing,
    Records,
    /// The position is not in the log and is to be set to the log start or end.
    Reset,
    /// Not now.
    Refused(Error),
}

/// Tells one partition's answer from those to earlier questions.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub key: Key,
    generation: u64,
    pub fetch_offset: i64,
}

/// A fetch to be sent.
#[derive(Debug)]
pub(super) struct Asked {
    pub request: v1::FetchRequest,
    pub tickets: Vec<Ticket>,
    /// Bytes set aside for the answer.
    pub reserved: usize,
}

/// The partitions of one consumer.
#[derive(Debug, Default)]
pub(super) struct Book {
    partitions: BTreeMap<Key, Partition>,
    next_generation: u64,
    reserved_bytes: usize,
    /// Taken out of the partitions for a stream, and not given to it yet: they are not handed out.
    handed: VecDeque<ConsumedRecord>,
    /// The partition after the one that was handed out last.
    turn: Option<Key>,
}

fn not_assigned(key: &Key) -> Error {
    let message = format!("partition {} of topic {:?} is not assigned to this consumer", key.1, key.0);
    Error::new(ErrorCode::InvalidArgument, message)
}

impl Book {
    /// Begins a partition at an offset, of whichever topic has the name.
    pub(super) fn assign(&mut self, key: Key, offset: i64) {
        self.assign_of(key, offset, Bytes::new());
    }

    /// Begins a partition of one topic at an offset: another topic that gets its name is not read by mistake.
    pub(super) fn assign_of(&mut self, key: Key, offset: i64, topic_id: Bytes) {
        self.revoke(&key);
        self.next_generation += 1;
        let partition = Partition {
            topic_id,
            generation: self.next_generation,
            fetch_offset: offset,
            position: offset,
            chunks: VecDeque::new(),
            buffered_bytes: 0,
            in_flight: false,
            paused: false,
            revoked: false,
            not_before: None,
            failures: 0,
            failed: None,
            high_watermark: None,
        };
        self.partitions.insert(key, partition);
    }

    /// Ends a partition; its position.
    pub(super) fn revoke(&mut self, key: &Key) {
        self.partitions.remove(key);
        self.handed.retain(|record| !is_of(record, key));
    }

    /// Stops handing out a partition that has to be given up.
    pub(super) fn stop(&mut self, key: &Key) {
        self.put_back(key);
        if let Some(partition) = self.partitions.get_mut(key) {
            partition.revoked = true;
        }
    }

    /// Puts what a stream has not been given yet back into its partition.
    fn put_back(&mut self, key: &Key) {
        let (back, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.handed).into_iter().partition(|record| is_of(record, key));
        self.handed = rest.into();
        let records: Vec<Record> = back.into_iter().map(|consumed| consumed.record).collect();
        if let (Some(partition), Some(first)) =
            (self.partitions.get_mut(key), records.first().map(|r| r.offset))
        {
            let next_offset = std::mem::replace(&mut partition.position, first);
            let bytes = records.iter().map(record_bytes).sum();
            partition.chunks.push_front(Chunk { records: records.into_iter(), bytes, next_offset });
            partition.buffered_bytes += bytes;
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.partitions.keys()
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.partitions.contains_key(key)
    }

    pub(super) fn position(&self, key: &Key) -> Option<i64> {
        let partition = self.partitions.get(key)?;
        let held_back = self.handed.iter().find(|record| is_of(record, key));
        Some(held_back.map_or(partition.position, |consumed| consumed.record.offset))
    }

    pub(super) fn positions(&self) -> Vec<(Key, i64)> {
        let mut positions: BTreeMap<&Key, i64> =
            self.partitions.iter().map(|(key, partition)| (key, partition.position)).collect();
        for ConsumedRecord { topic, partition, record } in self.handed.iter().rev() {
            if let Some(position) = positions.get_mut(&(Arc::clone(topic), *partition)) {
                *position = record.offset;
            }
        }
        positions.into_iter().map(|(key, position)| (key.clone(), position)).collect()
    }

    pub(super) fn lag(&self, key: &Key) -> Option<i64> {
        let high_watermark = self.partitions.get(key)?.high_watermark?;
        Some((high_watermark - self.position(key)?).max(0))
    }

    pub(super) fn pending(&self) -> bool {
        !self.handed.is_empty()
    }

    /// The next record for a stream, taken out of the partitions up to `most` at a time.
    pub(super) fn next_record(&mut self, most: usize) -> Result<Option<ConsumedRecord>> {
        if self.handed.is_empty() {
            self.handed = self.hand_out(most)?.into();
        }
        Ok(self.handed.pop_front())
    }

    /// The next records of one partition, partitions in turn.
    pub(super) fn next_batch(&mut self, most: usize) -> Result<Vec<ConsumedRecord>> {
        let Some(first) = self.next_record(most)? else { return Ok(Vec::new()) };
        let same =
            |record: &ConsumedRecord| (&record.topic, record.partition) == (&first.topic, first.partition);
        let more = self.handed.iter().position(|record| !same(record)).unwrap_or(self.handed.len());
        let mut records = Vec::with_capacity(more + 1);
        let more = self.handed.drain(..more);
        records.push(first);
        records.extend(more);
        Ok(records)
    }

    /// Goes on at another offset; what is fetched is dropped.
    pub(super) fn seek(&mut self, key: &Key, offset: i64) -> Result<()> {
        if offset < 0 {
            return Err(Error::invalid("offset", format!("offset is {offset}: offsets start at 0")));
        }
        let old = self.partitions.get(key).ok_or_else(|| not_assigned(key))?;
        let (paused, revoked, high_watermark) = (old.paused, old.revoked, old.high_watermark);
        let topic_id = self.partitions.get(key).map(|partition| partition.topic_id.clone());
        self.assign_of(key.clone(), offset, topic_id.unwrap_or_default());
        if let Some(new) = self.partitions.get_mut(key) {
            (new.paused, new.revoked, new.high_watermark) = (paused, revoked, high_watermark);
        }
        Ok(())
    }

    pub(super) fn pause(&mut self, key: &Key, paused: bool) -> Result<()> {
        let partition = self.partitions.get_mut(key).ok_or_else(|| not_assigned(key))?;
        partition.paused = paused;
        if paused {
            self.put_back(key);
        }
        Ok(())
    }

    /// The next fetch, for every partition that can take more.
    pub(super) fn ask(&mut self, config: &ConsumerConfig, now: Instant) -> Option<Asked> {
        // a wait that is over wakes nobody again, also where nothing is asked for now
        let waits = self.partitions.values_mut().map(|partition| &mut partition.not_before);
        waits.filter(|wait| wait.is_some_and(|at| at <= now)).for_each(|wait| *wait = None);
        let per_partition = config.partition_fetch_bytes as usize;
        let counted = self.partitions.values().filter(|partition| !partition.paused);
        let used = counted.map(|partition| partition.buffered_bytes).sum::<usize>() + self.reserved_bytes;
        let free = config.prefetch_bytes.saturating_sub(used);
        let credit_min = per_partition.min(CREDIT_BYTES_MIN);
        let scarce = free < credit_min;
        let (mut tickets, mut partitions) = (Vec::new(), Vec::new());
        for (key, partition) in &mut self.partitions {
            let waits = partition.not_before.is_some();
            let unwanted =
                partition.in_flight || partition.paused || partition.revoked || partition.failed.is_some();
            let enough = if scarce { 1 } else { 2 * per_partition };
            if waits || unwanted || partition.buffered_bytes >= enough {
                continue;
            }
            partition.in_flight = true;
            let (generation, fetch_offset) = (partition.generation, partition.fetch_offset);
            tickets.push(Ticket { key: key.clone(), generation, fetch_offset });
            partitions.push(v1::FetchPartition {
                topic: key.0.to_string(),
                partition: key.1,
                fetch_offset,
                max_bytes: config.partition_fetch_bytes,
                current_leader_epoch: -1,
                topic_id: partition.topic_id.clone(),
            });
        }
        if tickets.is_empty() {
            return None;
        }
        let count = tickets.len();
        // half of what is free at most: a request that waits for idle partitions must not leave nothing for the busy ones
        let share = (free / 2).max(credit_min).min(per_partition.saturating_mul(count));
        let share = if scarce { credit_min.saturating_mul(count) } else { share };
        let reserved = share.min(config.fetch_bytes as usize);
        self.reserved_bytes += reserved;
        let request = v1::FetchRequest {
            correlation_id: 0,
            max_wait_ms: u32::try_from(config.fetch_wait.as_millis()).unwrap_or(u32::MAX),
            min_bytes: config.min_bytes,
            max_bytes: reserved as u32,
            partitions,
            isolation: config.isolation.into(),
            omit_empty: true,
            ..Default::default()
        };
        Some(Asked { request, tickets, reserved })
    }

    /// The answer to a fetch has come, or none will.
    pub(super) fn release(&mut self, reserved: usize) {
        self.reserved_bytes -= reserved;
    }

    /// Takes the records of one partition, or what went wrong; `retry_at` says when to try again after so many refusals.
    pub(super) fn take(
        &mut self,
        ticket: &Ticket,
        answer: Result<Fetched>,
        on_out_of_range: OutOfRangePolicy,
        retry_at: impl FnOnce(u32) -> Instant,
    ) -> Taken {
        let Some(partition) = self.current(ticket) else { return Taken::Nothing };
        partition.in_flight = false;
        let error = match answer {
            Err(error) => error,
            Ok(Fetched {
                result: v1::FetchResult { error: Some(error), log_start_offset, high_watermark, .. },
                ..
            }) => {
                let error = Error::from(error);
                if error.code == ErrorCode::OffsetOutOfRange && on_out_of_range != OutOfRangePolicy::Error {
                    partition.in_flight = true;
                    return Taken::Reset;
                }
                explain(error, ticket, log_start_offset..high_watermark)
            }
            Ok(fetched) => {
                let bytes = partition.fill(fetched);
                let news = bytes > 0 || partition.failed.is_some();
                return if news { Taken::Records } else { Taken::Nothing };
            }
        };
        if !error.retryable() {
            partition.failed = Some(error);
            return Taken::Records;
        }
        partition.failures += 1;
        partition.not_before = Some(retry_at(partition.failures));
        Taken::Refused(error)
    }

    fn current(&mut self, ticket: &Ticket) -> Option<&mut Partition> {
        self.partitions.get_mut(&ticket.key).filter(|partition| partition.generation == ticket.generation)
    }

    /// The partition goes on at the offset that a reset has found, unless it was moved meanwhile.
    pub(super) fn reset(&mut self, ticket: &Ticket, offset: i64) {
        if self.current(ticket).is_some() {
            // it is assigned and the offset came from the broker
            let _ = self.seek(&ticket.key, offset.max(0));
        }
    }

    /// The offset of a reset could not be found: the partition is fetched again later.
    pub(super) fn later(&mut self, ticket: &Ticket, at: Instant) {
        if let Some(partition) = self.current(ticket) {
            (partition.in_flight, partition.not_before) = (false, Some(at));
        }
    }

    /// Ends a partition with an error, told by `poll`.
    pub(super) fn fail(&mut self, key: &Key, error: Error) {
        if let Some(partition) = self.partitions.get_mut(key) {
            partition.failed = Some(error);
        }
    }

    /// When a partition that was refused is asked for again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.partitions.values().filter_map(|partition| partition.not_before).min()
    }

    /// The next records, partitions in turn; an error only when there are no records.
    pub(super) fn hand_out(&mut self, most: usize) -> Result<Vec<ConsumedRecord>> {
        let mut records: Vec<ConsumedRecord> = std::mem::take(&mut self.handed).into();
        let turn: Key = match &self.turn {
            Some(turn) => turn.clone(),
            None => (Arc::from(""), i32::MIN),
        };
        let in_turn = self.partitions.range(turn.clone()..).chain(self.partitions.range(..turn));
        let wanted: Vec<Key> = in_turn.filter(|(_, p)| p.wanted()).map(|(key, _)| key.clone()).collect();
        for key in wanted {
            if records.len() >= most {
                self.turn = Some(key);
                return Ok(records);
            }
            let Some(partition) = self.partitions.get_mut(&key) else { continue };
            partition.hand_out(&key, most, &mut records);
        }
        self.turn = None;
        if records.is_empty() {
            let failed = self
                .partitions
                .values_mut()
                .filter(|p| !p.paused && !p.revoked)
                .find_map(|p| p.failed.clone());
            return failed.map_or(Ok(records), Err);
        }
        Ok(records)
    }
}

impl Partition {
    /// The bytes that are buffered by that.
    fn fill(&mut self, Fetched { result, chunks, broken }: Fetched) -> usize {
        (self.failures, self.failed) = (0, broken);
        self.high_watermark = Some(result.high_watermark);
        self.fetch_offset = chunks.back().map_or(self.fetch_offset, |chunk| chunk.next_offset);
        let bytes = chunks.iter().map(|chunk| chunk.bytes).sum();
        self.chunks.extend(chunks);
        self.buffered_bytes += bytes;
        bytes
    }

    fn wanted(&self) -> bool {
        !self.paused && !self.revoked && !self.chunks.is_empty()
    }

    /// Moves records out until there are `most`.
    fn hand_out(&mut self, key: &Key, most: usize, out: &mut Vec<ConsumedRecord>) {
        while let Some(chunk) = self.chunks.front_mut() {
            for record in chunk.records.by_ref().take(most - out.len()) {
                self.position = record.offset + 1;
                out.push(ConsumedRecord { topic: Arc::clone(&key.0), partition: key.1, record });
            }
            if chunk.records.len() > 0 {
                break;
            }
            // control batches and compacted ends have no records, but the position passes them
            self.position = chunk.next_offset;
            self.buffered_bytes -= chunk.bytes;
            self.chunks.pop_front();
        }
    }
}

fn is_of(consumed: &ConsumedRecord, (topic, partition): &Key) -> bool {
    (&consumed.topic, consumed.partition) == (topic, *partition)
}

fn strip(record: &mut Record) {
    record.headers.retain(|header| !header.key.starts_with(RESERVED_HEADER_PREFIX));
}

fn damaged(error: batch::BatchError, key: &Key, offset: i64) -> Error {
    let mut error = Error::from(error);
    error.message = format!(
        "topic {:?} partition {} cannot be read at offset {offset}: {}; seek beyond it to go on",
        key.0, key.1, error.message
    );
    error
}

fn explain(mut error: Error, ticket: &Ticket, log: std::ops::Range<i64>) -> Error {
    let Ticket { key: (topic, partition), fetch_offset: offset, .. } = ticket;
    if error.code == ErrorCode::OffsetOutOfRange {
        error.message = format!(
            "offset {offset} of topic {topic:?} partition {partition} is not in the log, which holds {} to {}: seek there, or let \
             on_out_of_range go on at the start or the end",
            log.start, log.end
        );
    } else {
        error.message = format!("topic {topic:?} partition {partition}: {}", error.message);
    }
    error
}
