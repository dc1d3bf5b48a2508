//! The files of aborted ranges against the log: each range ends with the marker of an aborted transaction of its producer and begins with
//! a batch of it, and between the first and the last marker of a file no other transaction was aborted.
//!
//! A range may speak of segments that are not on this disk, or of batches that the cleaner took: then nothing contradicts it.

use std::collections::BTreeMap;

use sunseo_proto::PartitionId;
use sunseo_proto::batch::Ending;

use super::{BatchDump, SegmentDump};
use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::runs::{read_run, run_path};
use crate::transactions::{AbortedRange, Run};

/// What the files of one partition say.
#[derive(Debug, Default)]
struct Files {
    runs: Vec<Run>,
    by_first: BTreeMap<i64, AbortedRange>,
    by_last: BTreeMap<i64, AbortedRange>,
}

/// The files of all partitions.
#[derive(Debug)]
pub(super) struct Aborted(BTreeMap<PartitionId, Files>);

impl Aborted {
    /// Reads every file that the checkpoint names.
    pub(super) fn read(disk: &dyn Disk, checkpoint: &Checkpoint, problems: &mut Vec<String>) -> Self {
        let mut found = BTreeMap::new();
        for (id, state) in &checkpoint.partitions {
            let Ok(state) = state else { continue };
            let files: &mut Files = found.entry(*id).or_default();
            for run in state.transactions.all_runs() {
                match read_run(disk, *id, *run) {
                    Ok(ranges) => files.take(*id, *run, &ranges, problems),
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
        Self(found)
    }

    /// Ranges in all files.
    pub(super) fn ranges(&self) -> u64 {
        self.0.values().map(|files| files.by_last.len() as u64).sum()
    }

    /// What of a segment's part of the log the files contradict.
    pub(super) fn check(&self, segment: &SegmentDump, problems: &mut Vec<String>) {
        let Some(files) = self.0.get(&segment.id) else { return };
        let offsets = segment.base_offset..segment.end_offset;
        let ends = files.by_last.range(offsets.clone()).filter(|(last, range)| {
            !holds_or_lost(segment, **last, |batch| {
                is_abort(batch) && batch.last_offset == **last && batch.producer_id == range.producer_id
            })
        });
        problems.extend(ends.map(|(_, range)| files.contradiction(segment.id, range, "no marker ends it")));
        let begins = files.by_first.range(offsets).filter(|(first, range)| {
            !holds_or_lost(segment, **first, |batch| {
                batch.transactional
                    && batch.marker.is_none()
                    && batch.base_offset == **first
                    && batch.producer_id == range.producer_id
            })
        });
        problems
            .extend(begins.map(|(_, range)| files.contradiction(segment.id, range, "no batch begins it")));
        let unknown =
            segment.batches.iter().filter(|batch| is_abort(batch) && files.misses(batch.last_offset));
        problems.extend(unknown.map(|batch| {
            let path = files.path(segment.id, batch.last_offset);
            let (producer_id, offset) = (batch.producer_id, batch.last_offset);
            format!("{path}: the transaction of producer {producer_id} that was aborted at offset {offset} is missing")
        }));
    }
}

impl Files {
    fn take(&mut self, id: PartitionId, run: Run, ranges: &[AbortedRange], problems: &mut Vec<String>) {
        self.runs.push(run);
        let ends = |range: Option<&AbortedRange>| range.map(|range| range.last_offset);
        let spans =
            (ends(ranges.first()), ends(ranges.last())) == (Some(run.first_marker), Some(run.last_marker));
        if !spans || !ranges.is_sorted_by(|a, b| a.last_offset < b.last_offset) {
            let (path, Run { first_marker, last_marker, .. }) = (run_path(id, run.first_marker), run);
            let path = path.display();
            problems.push(format!("{path}: its ranges do not rise from {first_marker} to {last_marker}"));
        }
        self.by_first.extend(ranges.iter().map(|range| (range.first_offset, *range)));
        self.by_last.extend(ranges.iter().map(|range| (range.last_offset, *range)));
    }

    /// Whether a file must speak of a marker and does not.
    fn misses(&self, marker: i64) -> bool {
        let is_within = |run: &Run| (run.first_marker..=run.last_marker).contains(&marker);
        self.runs.iter().any(is_within) && !self.by_last.contains_key(&marker)
    }

    /// The file that speaks of a marker.
    fn path(&self, id: PartitionId, marker: i64) -> String {
        let run = self.runs.iter().rfind(|run| run.first_marker <= marker);
        run_path(id, run.map_or(marker, |run| run.first_marker)).display().to_string()
    }

    fn contradiction(&self, id: PartitionId, range: &AbortedRange, what: &str) -> String {
        let AbortedRange { producer_id, first_offset, last_offset } = *range;
        let path = self.path(id, last_offset);
        format!(
            "{path}: producer {producer_id} from offset {first_offset} to {last_offset}: {what} in the log"
        )
    }
}

fn is_abort(batch: &BatchDump) -> bool {
    batch.marker == Some(Ending::Abort)
}

/// Whether the batch at an offset is as it should be, or was taken by the cleaner.
fn holds_or_lost(segment: &SegmentDump, offset: i64, is_right: impl Fn(&BatchDump) -> bool) -> bool {
    let at = segment.batches.partition_point(|batch| batch.last_offset < offset);
    segment
        .batches
        .get(at)
        .is_some_and(|batch| is_right(batch) || (segment.generation > 0 && batch.records == 0))
}
