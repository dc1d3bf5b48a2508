//! What a partition remembers of transactions: which are undecided, and which ranges were aborted. Pure; a fold over the batches of
//! the log, so that it is right after any recovery that found the right batches.
//!
//! - A transaction is open in a partition from the first transactional batch of its producer to a marker (a control batch) with a
//!   higher producer epoch. Every transaction has its own epoch (KIP-890), so a marker that comes late or twice ends nothing.
//! - The last stable offset is the first offset of the oldest open transaction, or the end. Readers of committed records see nothing
//!   at or above it, and leave out the aborted ranges below it.
//!
//! Bounds: open transactions are as many as producers have one open here. Of aborted ranges the newest
//! [`aborted_ranges_max`](crate::StoreConfig::aborted_ranges_max) stay in memory; older ones are written at a checkpoint as a *run*, a
//! small file beside the segments, and only its place is remembered. A run belongs to the log and not to a segment: it stays when
//! segments are evicted or compacted, and goes when the log start has passed its last marker.
//!
//! Not here: who may have a transaction (the coordinator), the files ([`crate::runs`]).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut as _, Bytes};
use sunseo_proto::batch::BatchHeader;
use sunseo_proto::envelope::EnvelopeError;

use crate::Refusal;
use crate::codec::Decoder;

/// Transactional batches of a producer from the first to the last offset are void. The last one is that of the marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedRange {
    pub producer_id: i64,
    pub first_offset: i64,
    pub last_offset: i64,
}

impl AbortedRange {
    /// Whether the batch of this producer at this offset is void.
    #[must_use]
    pub fn holds(&self, producer_id: i64, base_offset: i64) -> bool {
        self.producer_id == producer_id && (self.first_offset..=self.last_offset).contains(&base_offset)
    }

    /// Whether it holds anything of the offsets `from` to `until`, the latter not included.
    fn touches(&self, from: i64, until: i64) -> bool {
        self.last_offset >= from && self.first_offset < until
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_i64(self.producer_id);
        out.put_i64(self.first_offset);
        out.put_i64(self.last_offset);
    }

    fn decode(from: &mut Decoder) -> Result<Self, EnvelopeError> {
        Ok(Self { producer_id: from.i64()?, first_offset: from.i64()?, last_offset: from.i64()? })
    }
}

/// Aborted ranges that were written out, by rising last offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Last offset of its first range; the file has its name from it.
    pub(crate) first_marker: i64,
    pub(crate) last_marker: i64,
    /// The lowest first offset in it.
    pub(crate) lowest: i64,
    pub(crate) count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    epoch: i16,
    first_offset: i64,
}

/// What a batch of a transaction is to the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    News,
    /// A marker of a transaction that is not open here, or not any more.
    Ended,
}

/// All transactions of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    /// By producer.
    open: BTreeMap<i64, Open>,
    /// First offsets of the open ones.
    firsts: BTreeSet<i64>,
    /// By rising last offset.
    recent: Vec<AbortedRange>,
    /// Oldest first.
    runs: Vec<Run>,
    /// Names of runs that the log start has passed; their files go after the next checkpoint.
    passed: Vec<i64>,
}

impl Transactions {
    /// What a batch is, that is neither a repeat nor fenced.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Standing, Refusal> {
        let (producer_id, found) = (header.producer_id, header.producer_epoch);
        if !header.is_transactional() {
            return Ok(Standing::News);
        }
        match self.open.get(&producer_id) {
            open if header.is_control() => match open.is_some_and(|open| open.epoch < found) {
                true => Ok(Standing::News),
                false => Ok(Standing::Ended),
            },
            Some(open) if open.epoch != found => {
                Err(Refusal::TransactionOpen { producer_id, found, open: open.epoch })
            }
            Some(_) => Ok(Standing::News),
            // the first batch of a transaction here: one before it that was lost would be a hole
            None if header.base_sequence != 0 => {
                Err(Refusal::SequenceGap { producer_id, found: header.base_sequence, expected: 0 })
            }
            None => Ok(Standing::News),
        }
    }

    /// Takes a batch in that is in the log; `header` has its base offset.
    pub(crate) fn record(&mut self, header: &BatchHeader) {
        if !header.is_transactional() {
            return;
        }
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        if !header.is_control() {
            let first_offset = header.base_offset;
            self.open.entry(producer_id).or_insert_with(|| {
                self.firsts.insert(first_offset);
                Open { epoch, first_offset }
            });
            return;
        }
        let Some(open) = self.open.get(&producer_id).copied().filter(|open| open.epoch < epoch) else {
            return;
        };
        self.open.remove(&producer_id);
        self.firsts.remove(&open.first_offset);
        if header.is_abort() {
            let (first_offset, last_offset) = (open.first_offset, header.last_offset());
            self.recent.push(AbortedRange { producer_id, first_offset, last_offset });
        }
    }

    /// First offset of the oldest open transaction.
    pub(crate) fn first_undecided(&self) -> Option<i64> {
        self.firsts.first().copied()
    }

    pub(crate) fn is_open(&self, producer_id: i64) -> bool {
        self.open.contains_key(&producer_id)
    }

    /// The ranges in memory that touch these offsets.
    pub(crate) fn recent(&self, from: i64, until: i64) -> Vec<AbortedRange> {
        select(&self.recent, from, until)
    }

    /// The runs that may touch these offsets.
    pub(crate) fn runs(&self, from: i64, until: i64) -> Vec<Run> {
        let after = self.runs.partition_point(|run| run.last_marker < from);
        self.runs[after..].iter().filter(|run| run.lowest < until).copied().collect()
    }

    pub(crate) fn all_runs(&self) -> &[Run] {
        &self.runs
    }

    /// Lets go of what lies below the log start.
    pub(crate) fn trim_below(&mut self, log_start: i64) {
        let gone = self.recent.partition_point(|range| range.last_offset < log_start);
        self.recent.drain(..gone);
        let gone = self.runs.partition_point(|run| run.last_marker < log_start);
        self.passed.extend(self.runs.drain(..gone).map(|run| run.first_marker));
    }

    /// Names of runs whose files are not needed any more.
    pub(crate) fn take_passed(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.passed)
    }

    pub(crate) fn recent_len(&self) -> usize {
        self.recent.len()
    }

    /// The run of everything in memory with its content, when that is more than `max`.
    pub(crate) fn overflow(&self, max: usize) -> Option<(Run, Vec<u8>)> {
        let (first, last) = (self.recent.first()?, self.recent.last()?);
        if self.recent.len() <= max {
            return None;
        }
        let run = Run {
            first_marker: first.last_offset,
            last_marker: last.last_offset,
            lowest: self.recent.iter().map(|range| range.first_offset).min().unwrap_or(first.first_offset),
            count: u32::try_from(self.recent.len()).unwrap_or(u32::MAX),
        };
        let mut payload = Vec::with_capacity(self.recent.len() * 24);
        self.recent.iter().for_each(|range| range.encode(&mut payload));
        Some((run, payload))
    }

    /// The oldest ranges in memory are in a run now.
    pub(crate) fn written(&mut self, run: Run) {
        self.recent.drain(..(run.count as usize).min(self.recent.len()));
        self.runs.push(run);
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.open.len() as u32);
        for (producer_id, open) in &self.open {
            out.put_i64(*producer_id);
            out.put_i16(open.epoch);
            out.put_i64(open.first_offset);
        }
        out.put_u32(self.recent.len() as u32);
        self.recent.iter().for_each(|range| range.encode(out));
        out.put_u32(self.runs.len() as u32);
        for run in &self.runs {
            out.put_i64(run.first_marker);
            out.put_i64(run.last_marker);
            out.put_i64(run.lowest);
            out.put_u32(run.count);
        }
    }

    pub(crate) fn decode(from: &mut Decoder) -> Result<Self, EnvelopeError> {
        let mut found = Self::default();
        for _ in 0..from.u32()? {
            let producer_id = from.i64()?;
            let open = Open { epoch: from.i16()?, first_offset: from.i64()? };
            found.firsts.insert(open.first_offset);
            found.open.insert(producer_id, open);
        }
        for _ in 0..from.u32()? {
            found.recent.push(AbortedRange::decode(from)?);
        }
        for _ in 0..from.u32()? {
            found.runs.push(Run {
                first_marker: from.i64()?,
                last_marker: from.i64()?,
                lowest: from.i64()?,
                count: from.u32()?,
            });
        }
        Ok(found)
    }
}

/// Of ranges by rising last offset those that touch these offsets.
pub(crate) fn select(ranges: &[AbortedRange], from: i64, until: i64) -> Vec<AbortedRange> {
    let after = ranges.partition_point(|range| range.last_offset < from);
    ranges[after..].iter().filter(|range| range.touches(from, until)).copied().collect()
}

/// Reads the content of a run.
pub(crate) fn decode_run(payload: Bytes) -> Result<Vec<AbortedRange>, EnvelopeError> {
    let from = &mut Decoder::new(payload);
    let mut ranges = Vec::new();
    while !from.is_empty() {
        ranges.push(AbortedRange::decode(from)?);
    }
    Ok(ranges)
}

#[cfg(test)]
#[path = "transactions_tests.rs"]
mod tests;
