//! Group commit: everything that is pending becomes durable, then visible.
//!
//! Three ways for a partition's batches, chosen anew at each sync:
//! - journaled (few bytes): into the frame that all partitions share, which goes past the page cache; beside it they are written to
//!   the segment through the page cache, which the next checkpoint syncs in the background;
//! - direct (many bytes): into the segment, which is synced at once; the frame only notes how far;
//! - lazy (`fsync: false`): into the segment; synced in the background as it grows, and to its end when it is sealed. The frame notes how
//!   transactions end, because whoever was told of an end must find it after a loss of power, for as much of the records as is left.
//!
//! What readers see changes only after the frame is durable. A partition whose disk fails stops; when the journal fails, all stop.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use sunseo_proto::PartitionId;
use sunseo_proto::batch::{HEADER_BYTES, stamp};

use crate::config::Background;
use crate::disk::{Context as _, write_all};
use crate::entry::{Ended, Entry, FrameBuilder};
use crate::partition::{Partition, Pending};
use crate::segment::{PARTITIONS, Segment, directory_of};
use crate::writer::{FrameWriter, OVERLAP_BYTES};
use crate::{LogError, SealedFacts, Store, SyncFailure, SyncOutcome};

/// From this size on a batch is written to its segment from where it lies, smaller ones are gathered.
const GATHER_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Journaled,
    Direct,
    Lazy,
}

/// Journaled batches that belong back to back into a segment.
#[derive(Debug)]
struct Run {
    segment: Arc<Segment>,
    at: u64,
    /// Where they are in the frame.
    range: Range<usize>,
}

/// A partition whose part of the frame is written.
#[derive(Debug)]
struct Prepared {
    id: PartitionId,
    pending: Vec<Pending>,
    runs: Vec<Run>,
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

fn write_run_of(partition: &mut Partition, run: &Run, frame: &FrameBuilder) -> Result<(), LogError> {
    partition.mark_dirty(&run.segment);
    let path = &run.segment.path;
    let file = run.segment.file(partition.files()).context("cannot open", path)?;
    write_all(file.as_ref(), frame.data(run.range.clone()), run.at).context("cannot write", path)
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
        let mut group = Vec::with_capacity(touched.len());
        frame_mut(&mut self.frame).clear();
        for &id in &touched {
            match self.prepare(id) {
                Ok(Some(prepared)) => group.push(prepared),
                Ok(None) => {}
                Err(error) => self.fail_partition(id, &error.to_string().into()),
            }
            if self.frame.bytes() as u64 >= self.config.frame_bytes() {
                self.commit_group(std::mem::take(&mut group));
            }
        }
        self.commit_group(group);
        self.dirty_segments =
            (self.dirty_segments + self.dirty_segments_of(&touched)).saturating_sub(dirty_before);
        self.has_many_aborted |= self.any_has_many_aborted(&touched);
    }

    fn prepare(&mut self, id: PartitionId) -> Result<Option<Prepared>, LogError> {
        let Some(partition) = self.partitions.get_mut(&id) else { return Ok(None) };
        let pending = std::mem::take(&mut partition.pending);
        let bytes = std::mem::take(&mut partition.pending_bytes);
        if pending.is_empty() {
            return Ok(None);
        }
        if !matches!(pending.last(), Some(Pending::Delete)) {
            partition.alive()?;
        }
        let way = match partition.state.config.fsync {
            false => Way::Lazy,
            true if bytes >= self.config.direct_bytes() => Way::Direct,
            true => Way::Journaled,
        };
        let frame = frame_mut(&mut self.frame);
        let runs = match way {
            Way::Journaled => prepare_journaled(partition, &pending, frame),
            Way::Direct | Way::Lazy => {
                let seals = pending.iter().any(|change| matches!(change, Pending::Seal { .. }));
                if (partition.names_dirty || partition.names_syncing) && (way == Way::Direct || seals) {
                    sync_names(partition)?;
                }
                write_now(partition, &pending, way, frame, &mut self.scratch)?;
                if way == Way::Lazy
                    && let Some(task) = partition.sync_ahead(bytes)
                {
                    self.syncer.submit(task);
                }
                Vec::new()
            }
        };
        Ok(Some(Prepared { id, pending, runs, failed: None }))
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

/// Makes the names on the way to a partition's files durable.
fn sync_names(partition: &mut Partition) -> Result<(), LogError> {
    for directory in [directory_of(partition.id()).as_path(), Path::new(PARTITIONS)] {
        partition.files().disk.sync_dir(directory).context("cannot sync directory", directory)?;
    }
    partition.names_dirty = false;
    Ok(())
}

/// Puts batches and changes into the frame.
fn prepare_journaled(partition: &Partition, pending: &[Pending], frame: &mut FrameBuilder) -> Vec<Run> {
    let id = partition.id();
    let mut segment = shown_active(partition);
    let mut runs: Vec<Run> = Vec::new();
    let mut is_open = false;
    for change in pending {
        let Pending::Batch { header, at, bytes } = change else {
            is_open = false;
            add_entry(id, change, frame);
            if let Pending::Seal { next, .. } = change {
                segment = next.clone();
            }
            continue;
        };
        if !is_open {
            frame.begin_data(id, segment.base, *at);
        }
        let range = frame.extend_data(bytes);
        stamp(frame.data_mut(range.clone()), header.base_offset, header.leader_epoch);
        match runs.last_mut() {
            Some(run) if is_open => run.range.end = range.end,
            _ => runs.push(Run { segment: segment.clone(), at: *at, range }),
        }
        is_open = true;
    }
    runs
}

fn shown_active(partition: &Partition) -> Arc<Segment> {
    let view = partition.shared.look();
    // a view is never empty
    view.segments.last().map_or_else(|| partition.active.clone(), |shown| shown.segment.clone())
}

fn add_entry(id: PartitionId, change: &Pending, frame: &mut FrameBuilder) {
    match change {
        Pending::Note(entry) | Pending::Drop { entry, .. } => frame.add(id, entry),
        Pending::Seal { .. } => frame.add(id, &Entry::Seal),
        Pending::Restore(facts) => frame.add(id, &Entry::Restore(*facts)),
        Pending::Replace { from, to, by } => frame.add(id, &Entry::Replace { from: *from, to: *to, by: *by }),
        Pending::Delete => frame.add(id, &Entry::Delete),
        Pending::Batch { .. } => {}
    }
}

/// Writes batches to their segments; syncs each that is sealed, and the last one unless that may wait.
fn write_now(
    partition: &mut Partition,
    pending: &[Pending],
    way: Way,
    frame: &mut FrameBuilder,
    scratch: &mut Vec<u8>,
) -> Result<(), LogError> {
    let id = partition.id();
    let mut segment = shown_active(partition);
    let mut frontier: Option<(u64, i64)> = None;
    let mut run: Vec<&Pending> = Vec::new();
    for change in pending {
        if let Pending::Batch { header, at, .. } = change {
            frontier = Some((at + header.total_bytes as u64, header.next_offset()));
            run.push(change);
            if let Some(ended) = Ended::of(header).filter(|_| way == Way::Lazy) {
                frame.add(id, &Entry::Ended(ended));
            }
            continue;
        }
        if let Pending::Seal { facts, next } = change {
            write_run(partition, &segment, &std::mem::take(&mut run), scratch)?;
            partition.sync_segment(&segment)?;
            frame.add(id, &frontier_entry(facts));
            segment = next.clone();
            frontier = None;
        }
        add_entry(id, change, frame);
    }
    write_run(partition, &segment, &run, scratch)?;
    if let Some((bytes, end)) = frontier.filter(|_| way == Way::Direct) {
        partition.sync_segment(&segment)?;
        frame.add(id, &Entry::Frontier { base: segment.base, bytes, end });
    }
    Ok(())
}

fn frontier_entry(facts: &SealedFacts) -> Entry {
    Entry::Frontier { base: facts.base_offset, bytes: facts.bytes, end: facts.end_offset }
}

/// Writes batches that stand back to back.
fn write_run(
    partition: &mut Partition,
    segment: &Arc<Segment>,
    run: &[&Pending],
    scratch: &mut Vec<u8>,
) -> Result<(), LogError> {
    if run.is_empty() {
        return Ok(());
    }
    partition.mark_dirty(segment);
    let path = &segment.path;
    let file = segment.file(partition.files()).context("cannot open", path)?;
    scratch.clear();
    let mut start = 0;
    let flush = |scratch: &mut Vec<u8>, start: u64| {
        let written = write_all(file.as_ref(), scratch, start).context("cannot write", path);
        scratch.clear();
        written
    };
    for change in run {
        let Pending::Batch { header, at, bytes } = change else { continue };
        if scratch.is_empty() {
            start = *at;
        }
        let gathered = scratch.len();
        let part = if bytes.len() < GATHER_BYTES { bytes.len() } else { HEADER_BYTES };
        scratch.extend_from_slice(&bytes[..part]);
        stamp(&mut scratch[gathered..], header.base_offset, header.leader_epoch);
        if part < bytes.len() || scratch.len() >= GATHER_BYTES * 4 {
            flush(scratch, start)?;
        }
        if part < bytes.len() {
            write_all(file.as_ref(), &bytes[part..], at + part as u64).context("cannot write", path)?;
        }
    }
    flush(scratch, start)
}

/// The frame is durable and the segments have its batches: readers see everything. Returns whether the partition is gone.
fn show(partition: &mut Partition, prepared: Prepared) -> Result<bool, LogError> {
    if let Some(error) = prepared.failed {
        return Err(error);
    }
    let mut unseen: Option<(u64, i64, i64)> = None;
    let mut segment = shown_active(partition);
    let interval = partition.files().index_interval_bytes;
    for change in prepared.pending {
        match change {
            Pending::Batch { header, at, .. } => {
                segment.note(header.base_offset, at, header.max_timestamp, interval);
                if header.is_transactional() {
                    partition.shared.change().transactions.record(&header);
                }
                let newest = unseen.map_or(i64::MIN, |(_, _, newest)| newest).max(header.max_timestamp);
                unseen = Some((at + header.total_bytes as u64, header.next_offset(), newest));
                continue;
            }
            Pending::Seal { facts, next } => {
                unseen = None;
                finish_segment(partition, &segment, &facts)?;
                show_sealed(partition, &facts, &next);
                segment = next;
            }
            Pending::Drop { log_start, bases, .. } => show_dropped(partition, log_start, &bases),
            Pending::Restore(facts) => show_restored(partition, &facts),
            Pending::Replace { from, to, by } => crate::clean::switch::show(partition, from, to, &by),
            Pending::Note(_) => {}
            Pending::Delete => {
                partition.shared.change().deleted = true;
                return Ok(true);
            }
        }
    }
    if let (Some((bytes, end, newest)), Some(last)) = (unseen, partition.shared.change().segments.last_mut())
    {
        (last.bytes, last.end) = (bytes, end);
        last.max_timestamp_ms = last.max_timestamp_ms.max(newest);
    }
    Ok(false)
}

/// Cuts the reserved room off. The next checkpoint syncs it and writes its index; until then the journal has what it holds, or it was
/// synced before its note was written.
fn finish_segment(
    partition: &mut Partition,
    segment: &Arc<Segment>,
    facts: &SealedFacts,
) -> Result<(), LogError> {
    partition.mark_dirty(segment);
    let file = segment.file(partition.files()).context("cannot open", &segment.path)?;
    file.set_bytes(facts.bytes).context("cannot cut", &segment.path)?;
    partition.names_dirty = true;
    partition.unindexed.push(segment.clone());
    Ok(())
}

fn show_sealed(partition: &Partition, facts: &SealedFacts, next: &Arc<Segment>) {
    let mut view = partition.shared.change();
    if let Some(last) = view.segments.last_mut() {
        *last = crate::view::Shown::sealed(last.segment.clone(), facts);
    }
    let empty = crate::state::Active::empty(facts.end_offset);
    view.segments.push(crate::view::Shown::active(next.clone(), &empty));
}

fn show_dropped(partition: &mut Partition, log_start: i64, bases: &[i64]) {
    let mut view = partition.shared.change();
    view.log_start = view.log_start.max(log_start);
    view.transactions.trim_below(log_start);
    let gone = view.segments.iter().take_while(|shown| bases.contains(&shown.segment.base)).count();
    let gone: Vec<Arc<Segment>> = view.segments.drain(..gone).map(|shown| shown.segment).collect();
    drop(view);
    partition.doomed.extend(gone);
}

fn show_restored(partition: &Partition, facts: &SealedFacts) {
    let segment = Segment::new(partition.id(), facts.base_offset);
    partition.shared.change().segments.insert(0, crate::view::Shown::sealed(segment, facts));
}
