//! Sealed segments: what the tier asks of a store. All of it is planned here and takes effect with the next sync.

use bytes::Bytes;
use sunseo_proto::PartitionId;
use sunseo_proto::batch;

use crate::disk::Context as _;
use crate::entry::Entry;
use crate::index::GrowingIndex;
use crate::partition::Pending;
use crate::sealed;
use crate::segment::{Segment, directory_of};
use crate::{LogError, RestoredSegment, SealedFacts, Store};

impl Store {
    /// Sealed segments, oldest first; all of them are on the disk.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn sealed(&self, id: PartitionId) -> Result<Vec<SealedFacts>, LogError> {
        let view = self.partition(id)?.shared.look();
        Ok(view.segments.iter().filter(|shown| shown.sealed).map(crate::view::Shown::facts).collect())
    }

    /// Closes the active segment if it holds records, with the next [`Store::sync`]. Returns whether it does.
    ///
    /// # Errors
    /// For an unknown or failed partition.
    pub fn seal(&mut self, id: PartitionId) -> Result<bool, LogError> {
        let rolled = self.partition_mut(id)?.roll()?;
        if rolled {
            self.touched.insert(id);
        }
        Ok(rolled)
    }

    /// The record batches of the sealed segment that begins at `base_offset`, mapped.
    ///
    /// # Errors
    /// For an unknown partition or segment.
    pub fn segment_data(&self, id: PartitionId, base_offset: i64) -> Result<Bytes, LogError> {
        let partition = self.partition(id)?;
        let Some(shown) = partition.shown_sealed(base_offset) else {
            let (start, end) = (self.facts(id)?.local_start, self.facts(id)?.end);
            return Err(LogError::OutOfRange { id, offset: base_offset, start, end });
        };
        let path = &shown.segment.path;
        let bytes = shown.segment.map(&self.files).context("cannot map", path)?;
        if (bytes.len() as u64) < shown.bytes {
            let what = format!("{} bytes are left of {}", bytes.len(), shown.bytes);
            return Err(LogError::Corrupt { path: path.clone(), what });
        }
        Ok(bytes.slice(..shown.bytes as usize))
    }

    /// Removes sealed segments that end at or below `before_offset`, with the next [`Store::sync`]; the log start stays. Returns how
    /// many.
    ///
    /// # Errors
    /// For an unknown or failed partition.
    pub fn evict_local(&mut self, id: PartitionId, before_offset: i64) -> Result<u32, LogError> {
        let partition = self.partition_mut(id)?;
        let bases = partition.state.evict(before_offset);
        let count = u32::try_from(bases.len()).unwrap_or(u32::MAX);
        if count > 0 {
            partition.drop_segments(Entry::Evict { before: before_offset }, bases);
            self.touched.insert(id);
        }
        Ok(count)
    }

    /// Raises the log start and removes the segments below it, with the next [`Store::sync`]; lower than it is, is success and
    /// changes nothing.
    ///
    /// # Errors
    /// For an unknown or failed partition, and above the durable end.
    pub fn set_log_start(&mut self, id: PartitionId, offset: i64) -> Result<(), LogError> {
        let partition = self.partition_mut(id)?;
        let (start, end) = (partition.state.log_start, partition.shared.look().end());
        if offset > end {
            return Err(LogError::OutOfRange { id, offset, start, end });
        }
        if offset <= start {
            return Ok(());
        }
        let bases = partition.state.set_log_start(offset);
        partition.drop_segments(Entry::LogStart(offset), bases);
        self.touched.insert(id);
        Ok(())
    }

    /// Puts a sealed segment back that ends exactly at the local start, with the next [`Store::sync`]; one that is there already is
    /// success.
    ///
    /// # Errors
    /// When it does not fit, or what the disk says.
    pub fn restore_segment(&mut self, id: PartitionId, restored: &RestoredSegment) -> Result<(), LogError> {
        let facts = restored.segment;
        let partition = self.partition_mut(id)?;
        let refuse = |what| Err(LogError::Restore { id, base: facts.base_offset, what });
        if partition.state.sealed.iter().any(|there| there.base_offset == facts.base_offset) {
            return Ok(());
        }
        if facts.end_offset != partition.state.local_start() {
            return refuse("it does not end where the local log starts");
        }
        if facts.end_offset <= partition.state.log_start {
            return refuse("it lies below the log start");
        }
        let must_wait = !partition.doomed.is_empty()
            || partition.pending.iter().any(|change| matches!(change, Pending::Drop { .. }));
        let index = match index_of(restored, self.config.index_interval_bytes) {
            Ok(index) => index,
            Err(what) => return refuse(what),
        };
        if self.disk.free_bytes().is_ok_and(|free| free < self.config.disk_headroom_bytes + facts.bytes) {
            return Err(LogError::DiskFull);
        }
        // a file of the same name may still wait for its removal
        if must_wait {
            self.checkpoint()?;
        }
        let segment = Segment::new(id, facts.base_offset);
        sealed::write_new(self.disk.as_ref(), &segment.path, &restored.data)?;
        sealed::write_new(self.disk.as_ref(), &segment.index_path, &index.seal())?;
        let directory = directory_of(id);
        self.disk.sync_dir(&directory).context("cannot sync directory", &directory)?;
        let partition = self.partition_mut(id)?;
        partition.state.restore(facts);
        partition.changed = true;
        partition.pending.push(Pending::Restore(facts));
        self.touched.insert(id);
        Ok(())
    }
}

/// The index of a segment on its way back, if its batches are what its facts say.
fn index_of(restored: &RestoredSegment, interval_bytes: u64) -> Result<GrowingIndex, &'static str> {
    let facts = &restored.segment;
    let mut index = GrowingIndex::default();
    let (mut at, mut next) = (0, facts.base_offset);
    for batch in batch::batches(restored.data.clone()) {
        let (header, bytes) = batch.map_err(|_| "a batch of it is damaged")?;
        if header.base_offset != next {
            return Err("its offsets are not dense");
        }
        index.note(next, at, header.max_timestamp, interval_bytes);
        at += bytes.len() as u64;
        next = header.next_offset();
    }
    if (at, next) != (facts.bytes, facts.end_offset) {
        return Err("its batches are not what its facts say");
    }
    Ok(index)
}
