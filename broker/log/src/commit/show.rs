//! What readers of one partition see, changed after everything it speaks of is durable.

use std::sync::Arc;

use super::{Prepared, shown_active};
use crate::disk::Context as _;
use crate::partition::{Partition, Pending};
use crate::segment::Segment;
use crate::state::Active;
use crate::view::Shown;
use crate::{LogError, SealedFacts};

/// The frame is durable and the segments have its batches: readers see everything. Returns whether the partition is gone.
pub(super) fn show(partition: &mut Partition, prepared: Prepared) -> Result<bool, LogError> {
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
        *last = Shown::sealed(last.segment.clone(), facts);
    }
    let empty = Active::empty(facts.end_offset);
    view.segments.push(Shown::active(next.clone(), &empty));
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
    partition.shared.change().segments.insert(0, Shown::sealed(segment, facts));
}
