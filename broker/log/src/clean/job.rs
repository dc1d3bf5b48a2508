//! One run over a partition, a step at a time: first the newest offset of each key in the dirty part, then the segments anew.
//!
//! The caller takes steps on whatever thread, hands each [`Replacement`] to [`crate::Store::switch_cleaned`] before the next step,
//! and the end to [`crate::Store::finish_clean`]. What a job that was dropped has begun to write is removed by the next start;
//! [`CleanJob::discard`] does it at once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::PartitionId;
use sunseo_proto::batch::{self, BatchHeader};

use crate::clean::AbortedData;
use crate::clean::filter::{Filter, Kept, Rules};
use crate::clean::map::OffsetMap;
use crate::clean::write::{Replacement, Writer};
use crate::disk::Context as _;
use crate::segment::Files;
use crate::view::Shown;
use crate::{Compaction, LogError, SealedFacts};

/// Bytes that a step reads.
const STEP_BYTES: u64 = 4 << 20;

/// What a step did.
#[derive(Debug)]
pub enum CleanStep {
    /// Read so many bytes; there is more to do.
    More { read_bytes: u64 },
    /// A segment is finished: switch it before the next step.
    Replace(Replacement),
    /// That was all.
    Done(Finished),
}

/// What a whole run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Below it there is one record of each key.
    pub(crate) through: i64,
    pub(crate) horizon_ms: Option<i64>,
    pub(crate) now_ms: i64,
    /// Bytes that were removed.
    pub removed_bytes: u64,
    /// Bytes that were read, twice where they were dirty.
    pub read_bytes: u64,
}

/// Where a walk over segments stands.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    segment: usize,
    at: usize,
}

#[derive(Debug)]
enum Phase {
    Map(Place),
    Write { group: usize, place: Place },
    Done,
}

/// What a run begins with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) id: PartitionId,
    pub(crate) files: Arc<Files>,
    /// All segments that may be cleaned, oldest first.
    pub(crate) segments: Vec<Shown>,
    /// Where the dirty part begins.
    pub(crate) through: i64,
    pub(crate) compaction: Compaction,
    pub(crate) segment_bytes: u64,
    pub(crate) map_bytes: usize,
    pub(crate) generation: u32,
    pub(crate) last_offsets: BTreeMap<i64, i64>,
    pub(crate) aborted: Arc<dyn AbortedData>,
    pub(crate) now_ms: i64,
    /// Room that must stay free.
    pub(crate) headroom_bytes: u64,
}

/// A run under way.
#[derive(Debug)]
pub struct CleanJob {
    start: Start,
    map: OffsetMap,
    filter: Filter,
    /// Offset up to which the map knows.
    end: i64,
    groups: Vec<Range<usize>>,
    writer: Option<Writer>,
    phase: Phase,
    removed_bytes: u64,
    read_bytes: u64,
}

impl CleanJob {
    pub(crate) fn new(start: Start) -> Self {
        let first_dirty = start.segments.iter().position(|shown| shown.end > start.through);
        let place = Place { segment: first_dirty.unwrap_or(start.segments.len()), at: 0 };
        Self {
            map: OffsetMap::new(start.map_bytes),
            filter: Filter::default(),
            end: start.through,
            groups: Vec::new(),
            writer: None,
            phase: Phase::Map(place),
            removed_bytes: 0,
            read_bytes: 0,
            start,
        }
    }

    /// The partition.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.start.id
    }

    /// Goes on. Reads a bounded number of bytes, or one batch.
    ///
    /// # Errors
    /// What the disk says, and damage; the run is then over and nothing of the partition has changed by this step.
    pub fn step(&mut self) -> Result<CleanStep, LogError> {
        match self.phase {
            Phase::Map(place) => self.map_step(place),
            Phase::Write { group, place } => self.write_step(group, place),
            Phase::Done => Ok(CleanStep::Done(Finished {
                through: self.end,
                horizon_ms: self.filter.horizon_ms,
                now_ms: self.start.now_ms,
                removed_bytes: self.removed_bytes,
                read_bytes: self.read_bytes,
            })),
        }
    }

    /// Ends a run that failed, and removes what it was writing.
    pub fn discard(mut self) {
        if let Some(writer) = self.writer.take() {
            writer.discard();
        }
    }

    fn map_step(&mut self, mut place: Place) -> Result<CleanStep, LogError> {
        let mut read_bytes = 0;
        while let Some(shown) = self.start.segments.get(place.segment).cloned() {
            let data = self.data(&shown)?;
            while let Some((header, bytes)) = next_batch(&shown, &data, place.at)? {
                if self.map.is_full() {
                    self.begin_writing();
                    return Ok(CleanStep::More { read_bytes });
                }
                place.at += bytes.len();
                read_bytes += bytes.len() as u64;
                if header.base_offset >= self.end {
                    self.note(&shown, &header, &bytes)?;
                    self.end = header.next_offset();
                }
                if read_bytes >= STEP_BYTES {
                    self.read_bytes += read_bytes;
                    self.phase = Phase::Map(place);
                    return Ok(CleanStep::More { read_bytes });
                }
            }
            place = Place { segment: place.segment + 1, at: 0 };
        }
        self.read_bytes += read_bytes;
        self.begin_writing();
        Ok(CleanStep::More { read_bytes })
    }

    /// Puts the keys of a batch into the map; aborted ones cover nothing.
    fn note(&mut self, shown: &Shown, header: &BatchHeader, bytes: &Bytes) -> Result<(), LogError> {
        let producer_id = header.producer_id;
        let is_aborted =
            header.is_transactional() && self.start.aborted.is_aborted(producer_id, header.base_offset);
        if header.is_control() || is_aborted {
            return Ok(());
        }
        for record in batch::records(bytes).map_err(|error| damaged(shown, &error))? {
            if let Some(key) = &record.key {
                self.map.note(key, record.offset);
            }
        }
        Ok(())
    }

    fn begin_writing(&mut self) {
        let (segments, end) = (&mut self.start.segments, self.end);
        segments.retain(|shown| shown.segment.base < end);
        let facts: Vec<SealedFacts> = segments.iter().map(Shown::facts).collect();
        self.groups = super::plan::groups(&facts, self.start.segment_bytes);
        self.phase = self.group(0);
    }

    fn group(&self, group: usize) -> Phase {
        match self.groups.get(group) {
            Some(range) => Phase::Write { group, place: Place { segment: range.start, at: 0 } },
            None => Phase::Done,
        }
    }

    fn write_step(&mut self, group: usize, mut place: Place) -> Result<CleanStep, LogError> {
        let range = self.groups[group].clone();
        if self.writer.is_none() {
            self.writer = Some(self.begin_group(&range)?);
        }
        let mut read_bytes = 0;
        while place.segment < range.end {
            let shown = self.start.segments[place.segment].clone();
            let data = self.data(&shown)?;
            while let Some((header, bytes)) = next_batch(&shown, &data, place.at)? {
                place.at += bytes.len();
                read_bytes += bytes.len() as u64;
                self.filter_batch(&shown, &header, &bytes)?;
                if read_bytes >= STEP_BYTES {
                    self.read_bytes += read_bytes;
                    self.phase = Phase::Write { group, place };
                    return Ok(CleanStep::More { read_bytes });
                }
            }
            place = Place { segment: place.segment + 1, at: 0 };
        }
        self.read_bytes += read_bytes;
        self.phase = self.group(group + 1);
        let finished = match self.writer.take() {
            Some(writer) => writer.finish()?,
            None => None,
        };
        match finished {
            Some(replacement) => {
                self.removed_bytes += replacement.removed_bytes();
                Ok(CleanStep::Replace(replacement))
            }
            None => Ok(CleanStep::More { read_bytes }),
        }
    }

    fn begin_group(&self, range: &Range<usize>) -> Result<Writer, LogError> {
        let old: Vec<SealedFacts> = self.start.segments[range.clone()].iter().map(Shown::facts).collect();
        let bytes: u64 = old.iter().map(|facts| facts.bytes).sum();
        let disk = &self.start.files.disk;
        if disk.free_bytes().is_ok_and(|free| free < self.start.headroom_bytes.saturating_add(bytes)) {
            return Err(LogError::DiskFull);
        }
        Writer::begin(self.start.id, &self.start.files, &old, self.start.generation)
    }

    fn filter_batch(&mut self, shown: &Shown, header: &BatchHeader, bytes: &Bytes) -> Result<(), LogError> {
        let rules = Rules {
            map: &self.map,
            end: self.end,
            now_ms: self.start.now_ms,
            delete_retention_ms: self.start.compaction.delete_retention_ms,
            last_offsets: &self.start.last_offsets,
            aborted: self.start.aborted.as_ref(),
        };
        let kept = self.filter.batch(&rules, header, bytes).map_err(|error| damaged(shown, &error))?;
        let Some(writer) = &mut self.writer else { return Ok(()) };
        match kept {
            Kept::Whole => writer.keep(header, bytes, false),
            Kept::Rebuilt(bytes) => {
                let header = BatchHeader::parse(&bytes).map_err(|error| damaged(shown, &error))?;
                writer.keep(&header, &bytes, true)
            }
            Kept::Nothing => {
                writer.drop(header);
                Ok(())
            }
        }
    }

    fn data(&self, shown: &Shown) -> Result<Bytes, LogError> {
        let path = &shown.segment.path;
        let bytes = shown.segment.map(&self.start.files).context("cannot map", path)?;
        match (bytes.len() as u64) < shown.bytes {
            true => Err(damaged(shown, &format!("{} bytes are left of {}", bytes.len(), shown.bytes))),
            false => Ok(bytes.slice(..shown.bytes as usize)),
        }
    }
}

/// The batch at byte `at`, checked.
fn next_batch(shown: &Shown, data: &Bytes, at: usize) -> Result<Option<(BatchHeader, Bytes)>, LogError> {
    match batch::batches(data.slice(at..)).next() {
        None => Ok(None),
        Some(Ok(found)) => Ok(Some(found)),
        Some(Err(error)) => Err(damaged(shown, &format!("byte {at}: {error}"))),
    }
}

fn damaged(shown: &Shown, what: &dyn std::fmt::Display) -> LogError {
    let what = format!("it cannot be cleaned: {what}");
    LogError::Corrupt { path: shown.segment.path.clone(), what }
}
