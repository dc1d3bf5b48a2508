//! Group commit: everything that is pending becomes durable, then visible.
//!
//! Three ways for a partition's batches, chosen anew at each sync:
//! - journaled (few bytes): into the frame that all partitions share, which goes past the page cache; beside it they are written to
//!   the segment through the page cache, which the next checkpoint syncs in the background;
//! - direct (many bytes, of one partition or of several together): into the segments, which are synced at once; the frame only notes how
//!   far;
//! - lazy (`fsync: false`): into the segment; synced in the background as it grows, and to its end when it is sealed. The frame notes how
//!   transactions end, because whoever was told of an end must find it after a loss of power, for as much of the records as is left.
//!
//! What readers see changes only after the frame is durable. A partition whose disk fails stops; when the journal fails, all stop.

mod show;
mod way;
mod write;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use sunseo_proto::PartitionId;

use self::show::show;
use self::way::{Part, Way};
use self::write::{prepare_journaled, write_now, write_run_of};
use crate::config::Background;
use crate::disk::Context as _;
use crate::entry::{Entry, FrameBuilder};
use crate::partition::{Partition, Pending};
use crate::pool::Syncing;
use crate::segment::{PARTITIONS, Segment, directory_of};
use crate::writer::{FrameWriter, OVERLAP_BYTES};
use crate::{LogError, Store, SyncFailure, SyncOutcome};

/// Journaled batches that belong back to back into a segment.
#[derive(Debug)]
struct Run {
    segment: Arc<Segment>,
    at: u64,
    /// Where they are in the frame.
    range: Range<usize>,
}

/// What a segment holds beyond what is synced, up to these bytes and this end.
#[derive(Debug)]
struct Written {
    segment: Arc<Segment>,
    bytes: u64,
    end: i64,
}

/// A partition whose part of the frame is written.
#[derive(Debug)]
struct Prepared {
    id: PartitionId,
    pending: Vec<Pending>,
    runs: Vec<Run>,
    /// What was written to its active segment.
    written: Option<Written>,
    /// Why its segment could not be written.
    failed: Option<LogError>,
}

/// Nobody else has the frame but while it is written.
fn frame_mut(frame: &mut Arc<FrameBuilder>) -> &mut FrameBuilder {
    if Arc::get_mut(frame).is_none() {
        *frame = Arc::default();
    }
    Arc::get_mut(frame).unwrap_or_else(|| unreachable!("a new one has one owner"))
}

/// The segment that is appended to as readers see it, and so before anything that is pending.
fn shown_active(partition: &Partition) -> Arc<Segment> {
    let view = partition.shared.look();
    // a view is never empty
    view.segments.last().map_or_else(|| partition.active.clone(), |shown| shown.segment.clone())
}

/// Whether what is written now counts as durable, and the names on the way to it are not.
fn needs_names(partition: &Partition, way: Way) -> bool {
    let seals = || partition.pending.iter().any(|change| matches!(change, Pending::Seal { .. }));
    let counts = way == Way::Direct || (way == Way::Lazy && seals());
    counts && (partition.names_dirty || partition.names_syncing) && partition.failed.is_none()
}

impl Store {
    /// One group commit: makes everything durable that was done since the last one, and shows it to readers.
    pub fn sync(&mut self) -> SyncOutcome {
        self.commit();
        self.poll_checkpoint();
        let dirty = self.dirty_segments;
        let is_beyond = |store: &Self, times: usize| {
            let bytes = store.config.checkpoint_journal_bytes.saturating_mul(times as u64);
            store.journal.bytes_since_checkpoint() >= bytes
                || dirty >= store.config.open_files_max.saturating_mul(times)
        };
        if self.running.is_some() && is_beyond(self, 2) {
            // appends are faster than the checkpoint: what recovery must read stays bounded
            self.finish_checkpoint();
        }
        if (is_beyond(self, 1) || self.has_many_aborted) && self.failed.is_none() {
            self.try_checkpoint();
        }
        self.take_outcome()
    }

    fn dirty_segments_of(&self, ids: &BTreeSet<PartitionId>) -> usize {
        ids.iter().filter_map(|id| self.partitions.get(id)).map(|partition| partition.dirty.len()).sum()
    }

    /// Whether one of these has more aborted ranges in memory than it should: the next checkpoint writes them out.
    fn any_has_many_aborted(&self, ids: &BTreeSet<PartitionId>) -> bool {
        let max = self.config.aborted_ranges_max.saturating_mul(2);
        let mut found = ids.iter().filter_map(|id| self.partitions.get(id));
        found.any(|p| p.failed.is_none() && p.state.transactions.recent_len() > max)
    }

    /// What was done since the last time it was asked for.
    pub(crate) fn take_outcome(&mut self) -> SyncOutcome {
        let mut outcome = std::mem::take(&mut self.carried);
        outcome.durable.sort_unstable();
        // of several ends of one partition the last is the highest
        outcome.durable.reverse();
        outcome.durable.dedup_by_key(|(id, _)| *id);
        outcome.durable.reverse();
        outcome
    }

    /// [`Store::sync`] without its report, which is kept for the next one.
    pub(crate) fn commit(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        self.pending_bytes = 0;
        self.ask_for_free_bytes_again();
        if let Some(reason) = self.failed.clone() {
            touched.iter().for_each(|id| self.fail_partition(*id, &reason));
            return;
        }
        // only these change: a node of many partitions does not look at all of them after each sync
        let dirty_before = self.dirty_segments_of(&touched);
        frame_mut(&mut self.frame).clear();
        let (direct, others) = self.ways(&touched);
        let mut group = self.prepare_direct(&direct);
        for (id, way) in others {
            group.extend(self.prepare(id, way));
            if self.frame.bytes() as u64 >= self.config.frame_bytes() {
                self.commit_group(std::mem::take(&mut group));
            }
        }
        self.commit_group(group);
        self.dirty_segments =
            (self.dirty_segments + self.dirty_segments_of(&touched)).saturating_sub(dirty_before);
        self.has_many_aborted |= self.any_has_many_aborted(&touched);
    }

    /// Which way the batches of each partition take: the direct ones, and the others.
    fn ways(&self, touched: &BTreeSet<PartitionId>) -> (Vec<PartitionId>, Vec<(PartitionId, Way)>) {
        let touched = touched.iter().filter_map(|id| self.partitions.get(id));
        let parts: Vec<Part> = touched
            .map(|p| Part { id: p.id(), bytes: p.pending_bytes, fsync: p.state.config.fsync })
            .collect();
        way::choose(&parts, self.config.direct_bytes())
    }

    /// Writes the batches of these partitions to their segments; each is synced while the next ones are written, but for those that
    /// are sealed.
    fn prepare_direct(&mut self, ids: &[PartitionId]) -> Vec<Prepared> {
        let (mut group, mut begun) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
        for &id in ids {
            let Some(mut prepared) = self.prepare(id, Way::Direct) else { continue };
            begun.push(prepared.written.take().map(|written| (self.begin_sync(&written.segment), written)));
            group.push(prepared);
        }
        let frame = frame_mut(&mut self.frame);
        for (prepared, begun) in group.iter_mut().zip(begun) {
            let Some((syncing, Written { segment, bytes, end })) = begun else { continue };
            let result = syncing.wait().context("cannot sync", &segment.path);
            if let Some(partition) = self.partitions.get_mut(&prepared.id).filter(|_| result.is_ok()) {
                partition.mark_synced(&segment);
                frame.add(prepared.id, &Entry::Frontier { base: segment.base, bytes, end });
            }
            prepared.failed = result.err();
        }
        group
    }

    fn begin_sync(&mut self, segment: &Arc<Segment>) -> Syncing {
        match segment.file(&self.files) {
            Ok(file) => self.pool.begin(file),
            Err(error) => Syncing::Over(Err(error)),
        }
    }

    fn prepare(&mut self, id: PartitionId, way: Way) -> Option<Prepared> {
        match self.try_prepare(id, way) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.fail_partition(id, &error.to_string().into());
                None
            }
        }
    }

    /// Makes the names on the way to a partition's files durable. When nobody knows whether its directory has one, everything stops, as
    /// after a checkpoint that failed so: a later success would be no success.
    fn sync_names(&mut self, id: PartitionId) -> Result<(), LogError> {
        let sync =
            |directory: &Path| self.disk.sync_dir(directory).context("cannot sync directory", directory);
        sync(&directory_of(id))?;
        // a checkpoint that has the partition synced the name of its directory
        let is_new = self.partitions.get(&id).is_some_and(|partition| partition.created_after.is_some());
        if is_new && let Err(error) = sync(Path::new(PARTITIONS)) {
            self.fail_all(&error.to_string().into());
            return Err(error);
        }
        if let Some(partition) = self.partitions.get_mut(&id) {
            (partition.names_dirty, partition.names_syncing) = (false, false);
        }
        Ok(())
    }

    fn try_prepare(&mut self, id: PartitionId, way: Way) -> Result<Option<Prepared>, LogError> {
        if self.partitions.get(&id).is_some_and(|partition| needs_names(partition, way)) {
            self.sync_names(id)?;
        }
        let Some(partition) = self.partitions.get_mut(&id) else { return Ok(None) };
        let pending = std::mem::take(&mut partition.pending);
        let bytes = std::mem::take(&mut partition.pending_bytes);
        if pending.is_empty() {
            return Ok(None);
        }
        if !matches!(pending.last(), Some(Pending::Delete)) {
            partition.alive()?;
        }
        let frame = frame_mut(&mut self.frame);
        let (mut runs, mut written) = (Vec::new(), None);
        match way {
            Way::Journaled => runs = prepare_journaled(partition, &pending, frame),
            Way::Direct | Way::Lazy => {
                if way == Way::Direct {
                    self.journal.count_direct(bytes);
                }
                written = write_now(partition, &pending, way, frame, &mut self.scratch)?;
                if way == Way::Lazy
                    && let Some(task) = partition.sync_ahead(bytes)
                {
                    self.syncer.submit(task);
                }
            }
        }
        Ok(Some(Prepared { id, pending, runs, written, failed: None }))
    }

    fn commit_group(&mut self, mut group: Vec<Prepared>) {
        if let Err(error) = self.write_frame(&mut group) {
            self.fail_all(&format!("the journal failed: {error}").into());
        }
        for prepared in group {
            let id = prepared.id;
            if let Some(reason) = self.failed.clone() {
                self.fail_partition(id, &reason);
                continue;
            }
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            let before = partition.shared.look().end();
            match show(partition, prepared) {
                Ok(false) => {}
                Ok(true) => {
                    self.partitions.remove(&id);
                    self.doomed.insert(id);
                    continue;
                }
                Err(error) => self.fail_partition(id, &error.to_string().into()),
            }
            let after = self.partitions.get(&id).map_or(before, |partition| partition.shared.look().end());
            if after > before {
                self.carried.durable.push((id, after));
            }
        }
        frame_mut(&mut self.frame).clear();
    }

    /// Makes the frame durable and writes its batches to their segments, both at the same time when there is enough to write. It does not
    /// matter which is there first: what a segment has beyond the journal is cut off by recovery, what it lacks is written again.
    fn write_frame(&mut self, group: &mut [Prepared]) -> Result<(), LogError> {
        if self.frame.is_empty() || self.failed.is_some() {
            return Ok(());
        }
        let write = self.journal.place(frame_mut(&mut self.frame), self.now_ms)?;
        let write = match &self.writer {
            Some(writer) if self.frame.bytes() >= OVERLAP_BYTES => match writer.begin(write, &self.frame) {
                Ok(()) => {
                    self.write_segments(group);
                    return self.writer.as_ref().map_or(Ok(()), FrameWriter::wait);
                }
                Err(write) => write,
            },
            _ => write,
        };
        // a simulation sees both orders
        let is_simulated = matches!(self.config.background, Background::Steps(_));
        if is_simulated && self.journal.last_frame().is_multiple_of(2) {
            self.write_segments(group);
        }
        write.perform(self.frame.pages())?;
        self.write_segments(group);
        Ok(())
    }

    /// Writes journaled batches to their segments, through the page cache. An error is kept for its partition.
    fn write_segments(&mut self, group: &mut [Prepared]) {
        for prepared in group {
            let Some(partition) = self.partitions.get_mut(&prepared.id) else { continue };
            let runs = std::mem::take(&mut prepared.runs);
            let write = |run: &Run| write_run_of(partition, run, &self.frame);
            if let Err(error) = runs.iter().try_for_each(write) {
                prepared.failed = Some(error);
            }
        }
    }

    pub(crate) fn fail_partition(&mut self, id: PartitionId, reason: &Arc<str>) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if partition.fail(reason) {
            self.failures += 1;
            self.carried.failed.push(SyncFailure { id, reason: reason.clone() });
        }
    }

    pub(crate) fn fail_all(&mut self, reason: &Arc<str>) {
        self.failed = Some(reason.clone());
        for id in self.partitions() {
            self.fail_partition(id, reason);
        }
    }
}
