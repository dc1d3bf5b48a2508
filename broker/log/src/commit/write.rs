//! Batches and changes of one partition, into the frame and into segments.

use std::sync::Arc;

use sunseo_proto::PartitionId;
use sunseo_proto::batch::{HEADER_BYTES, stamp};

use super::{Run, Way, Written, shown_active};
use crate::disk::{Context as _, write_all};
use crate::entry::{Ended, Entry, FrameBuilder};
use crate::partition::{Partition, Pending};
use crate::segment::Segment;
use crate::{LogError, SealedFacts};

/// From this size on a batch is written to its segment from where it lies, smaller ones are gathered.
const GATHER_BYTES: usize = 64 << 10;

pub(super) fn write_run_of(
    partition: &mut Partition,
    run: &Run,
    frame: &FrameBuilder,
) -> Result<(), LogError> {
    partition.mark_dirty(&run.segment);
    let path = &run.segment.path;
    let file = run.segment.file(partition.files()).context("cannot open", path)?;
    write_all(file.as_ref(), frame.data(run.range.clone()), run.at).context("cannot write", path)
}

/// Puts batches and changes into the frame.
pub(super) fn prepare_journaled(
    partition: &Partition,
    pending: &[Pending],
    frame: &mut FrameBuilder,
) -> Vec<Run> {
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

/// Writes batches to their segments and syncs each that is sealed. What was written to the last one is not synced.
pub(super) fn write_now(
    partition: &mut Partition,
    pending: &[Pending],
    way: Way,
    frame: &mut FrameBuilder,
    scratch: &mut Vec<u8>,
) -> Result<Option<Written>, LogError> {
    let id = partition.id();
    let mut segment = shown_active(partition);
    let mut written: Option<Written> = None;
    let mut run: Vec<&Pending> = Vec::new();
    for change in pending {
        if let Pending::Batch { header, at, .. } = change {
            let (bytes, end) = (at + header.total_bytes as u64, header.next_offset());
            written = Some(Written { segment: segment.clone(), bytes, end });
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
            written = None;
        }
        add_entry(id, change, frame);
    }
    write_run(partition, &segment, &run, scratch)?;
    Ok(written)
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
