//! The writer's side of cleaning: where a run begins, and the moment at which readers see a new segment instead of old ones.

use std::path::Path;
use std::sync::Arc;

use sunseo_proto::PartitionId;

use crate::clean::job::Start;
use crate::clean::{AbortedData, CleanJob, Cleaned, Dirt, Finished, Replacement, plan, write};
use crate::entry::Entry;
use crate::partition::{Partition, Pending};
use crate::segment::{PARTITIONS, Segment, name_of_facts};
use crate::view::Shown;
use crate::{Compaction, LogError, SealedFacts, Store};

/// The part of the headroom that stays for others: cleaning takes room first and gives more back.
const HEADROOM_PART: u64 = 2;

impl Store {
    /// How dirty a partition is; nothing at or above `limit` may be touched. `None` when it is not compacted, or when its oldest records
    /// are not on this disk.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn dirt(&self, id: PartitionId, limit: i64, now_ms: i64) -> Result<Option<Dirt>, LogError> {
        let partition = self.partition(id)?;
        let Some(compaction) = compaction_of(partition) else { return Ok(None) };
        let sealed: Vec<SealedFacts> = shown_sealed(partition).iter().map(Shown::facts).collect();
        Ok(Some(plan::dirt(&compaction, &sealed, &partition.state.cleaned, limit, now_ms)))
    }

    /// Begins a run over what [`Store::dirt`] says, whether it is due or not; `None` when there is nothing to clean. `aborted` knows
    /// the transactions below `limit`.
    ///
    /// # Errors
    /// For an unknown or failed partition.
    pub fn begin_clean(
        &mut self,
        id: PartitionId,
        limit: i64,
        now_ms: i64,
        aborted: Arc<dyn AbortedData>,
    ) -> Result<Option<CleanJob>, LogError> {
        let (map_bytes, headroom_bytes) = (self.config.cleaner_map_bytes, self.config.disk_headroom_bytes);
        let files = self.files.clone();
        let partition = self.partition_mut(id)?;
        let Some(compaction) = compaction_of(partition) else { return Ok(None) };
        let mut segments = shown_sealed(partition);
        let facts: Vec<SealedFacts> = segments.iter().map(Shown::facts).collect();
        let dirt = plan::dirt(&compaction, &facts, &partition.state.cleaned, limit, now_ms);
        segments.retain(|shown| shown.end <= dirt.cleanable_end);
        let Some(first) = segments.first() else { return Ok(None) };
        let through = partition.state.cleaned.through.max(first.segment.base);
        partition.generation += 1;
        Ok(Some(CleanJob::new(Start {
            id,
            files,
            through: through.min(dirt.cleanable_end),
            segments,
            compaction,
            segment_bytes: partition.state.config.segment_bytes,
            map_bytes,
            generation: partition.generation,
            last_offsets: partition.state.producers.last_offsets(),
            aborted,
            now_ms,
            headroom_bytes: headroom_bytes / HEADROOM_PART,
        })))
    }

    /// Puts a cleaned segment in the place of what it was made of, with the next [`Store::sync`]. `false` when that is not there any
    /// more, or compaction was switched off: the run is then over.
    ///
    /// # Errors
    /// For an unknown or failed partition.
    pub fn switch_cleaned(&mut self, replacement: &Replacement) -> Result<bool, LogError> {
        let id = replacement.id;
        match self.plan_switch(replacement) {
            Ok(true) => {
                self.touched.insert(id);
                Ok(true)
            }
            other => {
                write::discard(&self.files, replacement);
                other
            }
        }
    }

    fn plan_switch(&mut self, replacement: &Replacement) -> Result<bool, LogError> {
        let partition = self.partition_mut(replacement.id)?;
        let (Some(first), Some(last)) = (replacement.old.first(), replacement.old.last()) else {
            return Ok(false);
        };
        let (from, to) = (first.base_offset, last.end_offset);
        let there: Vec<SealedFacts> = partition
            .state
            .sealed
            .iter()
            .filter(|facts| facts.base_offset >= from && facts.end_offset <= to)
            .copied()
            .collect();
        let is_same = write::names(&there) == write::names(&replacement.old);
        if !is_same || compaction_of(partition).is_none() {
            return Ok(false);
        }
        let by = replacement.by;
        if partition.state.replace(from, to, &[by]).is_none() {
            return Ok(false);
        }
        partition.pending.push(Pending::Replace { from, to, by });
        partition.changed = true;
        Ok(true)
    }

    /// A run ended with an error. Most mean nothing to the partition; but when names in its directory could not be made durable, nobody
    /// knows which are, so it stops as after any failed sync.
    pub fn abandon_clean(&mut self, id: PartitionId, error: &LogError) {
        let LogError::Io { doing: write::SYNC_NAMES, path, .. } = error else { return };
        let reason: Arc<str> = error.to_string().into();
        match path == Path::new(PARTITIONS) {
            true => self.fail_all(&reason),
            false => self.fail_partition(id, &reason),
        }
    }

    /// Notes the end of a run whose segments were all switched, with the next [`Store::sync`].
    ///
    /// # Errors
    /// For an unknown or failed partition.
    pub fn finish_clean(&mut self, id: PartitionId, finished: Finished) -> Result<(), LogError> {
        let partition = self.partition_mut(id)?;
        let before = partition.state.cleaned;
        let cleaned = Cleaned {
            through: before.through.max(finished.through),
            at_ms: finished.now_ms,
            horizon_ms: finished.horizon_ms,
            runs: before.runs + 1,
            removed_bytes: before.removed_bytes + finished.removed_bytes,
        };
        partition.state.cleaned = cleaned;
        partition.pending.push(Pending::Note(Entry::Cleaned(cleaned)));
        partition.changed = true;
        self.touched.insert(id);
        Ok(())
    }
}

fn shown_sealed(partition: &Partition) -> Vec<Shown> {
    partition.shared.look().segments.iter().filter(|shown| shown.sealed).cloned().collect()
}

/// `None` when it is not to be cleaned. Older records that only the object store has could come back when a tombstone goes.
fn compaction_of(partition: &Partition) -> Option<Compaction> {
    let state = &partition.state;
    state.config.compaction.filter(|_| state.local_start() <= state.log_start)
}

/// Readers see the new segment from here on; the old files go after the next checkpoint.
pub(crate) fn show(partition: &mut Partition, from: i64, to: i64, by: &SealedFacts) {
    let segment = Segment::named(partition.id(), name_of_facts(by));
    let mut view = partition.shared.change();
    let is_old = |shown: &Shown| shown.sealed && shown.segment.base >= from && shown.end <= to;
    let Some(first) = view.segments.iter().position(is_old) else { return };
    let count = view.segments[first..].iter().take_while(|shown| is_old(shown)).count();
    let old: Vec<Shown> = view.segments.splice(first..first + count, [Shown::sealed(segment, by)]).collect();
    drop(view);
    partition.doomed.extend(old.into_iter().map(|shown| shown.segment));
}
