//! A cleaned segment on its way to the disk: batches back to back, one empty batch for each hole.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::PartitionId;
use sunseo_proto::batch::{self, BatchHeader};

use crate::disk::{Context as _, SharedFile, write_all};
use crate::index::GrowingIndex;
use crate::sealed;
use crate::segment::{Files, Name, PARTITIONS, Segment, directory_of, name_of_facts};
use crate::{LogError, SealedFacts};

/// What an error names that may have cost names which others count on.
pub(crate) const SYNC_NAMES: &str = "cannot sync directory after cleaning";
/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// A finished segment that can take the place of others; on the disk, with its name.
#[derive(Debug)]
#[must_use = "nothing is cleaned before it was switched"]
pub struct Replacement {
    pub(crate) id: PartitionId,
    /// What it replaces, oldest first.
    pub(crate) old: Vec<SealedFacts>,
    pub(crate) by: SealedFacts,
}

impl Replacement {
    /// The partition.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Bytes that it saves.
    #[must_use]
    pub fn removed_bytes(&self) -> u64 {
        let old: u64 = self.old.iter().map(|facts| facts.bytes).sum();
        old.saturating_sub(self.by.bytes)
    }

    /// What it is made of.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.old.len()
    }
}

/// Holes that were passed and are not written.
#[derive(Clone, Copy, Debug)]
struct Hole {
    leader_epoch: i32,
}

#[derive(Debug)]
pub(crate) struct Writer {
    id: PartitionId,
    files: Arc<Files>,
    segment: Arc<Segment>,
    file: SharedFile,
    old: Vec<SealedFacts>,
    buffer: Vec<u8>,
    /// Bytes before the buffer.
    written: u64,
    /// Offset that the next batch must have.
    next: i64,
    hole: Option<Hole>,
    max_timestamp_ms: i64,
    index: GrowingIndex,
    /// Whether anything differs from what was read.
    changed: bool,
}

impl Writer {
    /// Begins the segment that replaces `old`.
    pub(crate) fn begin(
        id: PartitionId,
        files: &Arc<Files>,
        old: &[SealedFacts],
        generation: u32,
    ) -> Result<Self, LogError> {
        let base = old.first().map_or(0, |facts| facts.base_offset);
        let segment = Segment::named(id, (base, generation));
        let file = files.disk.create(&segment.path).context("cannot create segment", &segment.path)?;
        Ok(Self {
            id,
            files: files.clone(),
            segment,
            file,
            old: old.to_vec(),
            buffer: Vec::with_capacity(WRITE_BYTES),
            written: 0,
            next: base,
            hole: None,
            max_timestamp_ms: i64::MIN,
            index: GrowingIndex::default(),
            changed: old.len() > 1,
        })
    }

    /// A batch that stays, as it was or with fewer records.
    pub(crate) fn keep(
        &mut self,
        header: &BatchHeader,
        bytes: &Bytes,
        is_changed: bool,
    ) -> Result<(), LogError> {
        self.changed |= is_changed;
        self.fill(header.base_offset)?;
        self.put(header, bytes)
    }

    /// A batch that goes.
    pub(crate) fn drop(&mut self, header: &BatchHeader) {
        // a hole between the same neighbours is what it was
        let is_gap = header.record_count == 0 && header.producer_id == batch::NO_PRODUCER;
        self.changed |= !is_gap || self.hole.is_some();
        self.hole.get_or_insert(Hole { leader_epoch: header.leader_epoch });
    }

    /// Writes what stands for the offsets up to `to`.
    fn fill(&mut self, to: i64) -> Result<(), LogError> {
        let Some(Hole { leader_epoch }) = self.hole.take() else { return Ok(()) };
        while self.next < to {
            let delta = i32::try_from(to - self.next - 1).unwrap_or(i32::MAX);
            let bytes = batch::gap(self.next, delta, leader_epoch);
            let header = BatchHeader::parse(&bytes).map_err(|error| self.wrong(&error))?;
            self.put(&header, &bytes)?;
        }
        Ok(())
    }

    fn put(&mut self, header: &BatchHeader, bytes: &Bytes) -> Result<(), LogError> {
        if header.base_offset != self.next {
            return Err(self.wrong(&format!("offset {} follows {}", header.base_offset, self.next)));
        }
        let at = self.written + self.buffer.len() as u64;
        self.index.note(header.base_offset, at, header.max_timestamp, self.files.index_interval_bytes);
        self.max_timestamp_ms = self.max_timestamp_ms.max(header.max_timestamp);
        self.next = header.next_offset();
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        write_all(self.file.as_ref(), &self.buffer, self.written)
            .context("cannot write", &self.segment.path)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes the segment and its names durable; `None` when it would be the same as before.
    pub(crate) fn finish(mut self) -> Result<Option<Replacement>, LogError> {
        let end = self.old.last().map_or(self.next, |facts| facts.end_offset);
        self.fill(end)?;
        if self.next != end {
            return Err(self.wrong(&format!("it ends at offset {}, not at {end}", self.next)));
        }
        if !self.changed {
            self.discard();
            return Ok(None);
        }
        self.flush()?;
        self.file.sync_data().context("cannot sync", &self.segment.path)?;
        let disk = self.files.disk.as_ref();
        sealed::write_new(disk, &self.segment.index_path, &self.index.seal())?;
        // a young partition's own name may be in the journal only
        for directory in [directory_of(self.id).as_path(), Path::new(PARTITIONS)] {
            disk.sync_dir(directory).context(SYNC_NAMES, directory)?;
        }
        let by = SealedFacts {
            base_offset: self.segment.base,
            end_offset: end,
            bytes: self.written,
            max_timestamp_ms: self.max_timestamp_ms,
            generation: self.segment.generation,
        };
        Ok(Some(Replacement { id: self.id, old: self.old, by }))
    }

    /// Removes what was written.
    pub(crate) fn discard(&self) {
        self.segment.remove(&self.files);
    }

    fn wrong(&self, what: &dyn std::fmt::Display) -> LogError {
        LogError::Corrupt { path: self.segment.path.clone(), what: format!("cleaning was given up: {what}") }
    }
}

/// Removes the files of a replacement that cannot be used any more.
pub(crate) fn discard(files: &Files, replacement: &Replacement) {
    Segment::named(replacement.id, name_of_facts(&replacement.by)).remove(files);
}

/// The names of what is replaced.
pub(crate) fn names(old: &[SealedFacts]) -> Vec<Name> {
    old.iter().map(name_of_facts).collect()
}
