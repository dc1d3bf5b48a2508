//! Where in a segment to start, from its index; an index that is missing or damaged is built from the segment.

use std::sync::{Arc, PoisonError};

use crate::LogError;
use crate::disk::Context as _;
use crate::index::{GrowingIndex, SparseIndex};
use crate::segment::{Files, Segment};
use crate::view::Shown;
use crate::walk::Walk;

/// The byte to start at to find `offset`.
pub(crate) fn offset(shown: &Shown, files: &Arc<Files>, offset: i64) -> Result<u64, LogError> {
    with_index(shown, files, |index| index.find_offset(offset))
}

/// The byte to start at to find the first batch with a timestamp at or after `timestamp_ms`.
pub(crate) fn time(shown: &Shown, files: &Arc<Files>, timestamp_ms: i64) -> Result<u64, LogError> {
    with_index(shown, files, |index| index.find_time(timestamp_ms))
}

fn with_index<T>(
    shown: &Shown,
    files: &Arc<Files>,
    find: impl FnOnce(&SparseIndex) -> T,
) -> Result<T, LogError> {
    let segment = &shown.segment;
    if let Some(index) = segment.index.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
        return Ok(find(index));
    }
    // who looked before it was sealed finds the index of more than was seen
    let segment_bytes = if shown.sealed { shown.bytes } else { u64::MAX };
    let index = match load(segment, files, segment_bytes) {
        Some(index) => index,
        None => SparseIndex::Growing(build(segment, files, shown.bytes)?),
    };
    let found = find(&index);
    if shown.sealed {
        segment.set_index(Some(index));
    }
    Ok(found)
}

/// The sealed index beside the segment, if it is right.
fn load(segment: &Segment, files: &Files, segment_bytes: u64) -> Option<SparseIndex> {
    let bytes = files.disk.map(&segment.index_path).ok()?;
    SparseIndex::open(&bytes, segment_bytes)
}

/// The index from the segment's batches.
pub(crate) fn build(
    segment: &Arc<Segment>,
    files: &Files,
    segment_bytes: u64,
) -> Result<GrowingIndex, LogError> {
    let file = segment.file(files).context("cannot open", &segment.path)?;
    let mut walk = Walk::new(file.as_ref(), 0, segment_bytes, Some(segment.base));
    let mut index = GrowingIndex::default();
    while let Some(step) = walk.next() {
        let walked = step.map_err(|stop| LogError::Corrupt {
            path: segment.path.clone(),
            what: format!("cannot build the index: {stop}"),
        })?;
        let header = walked.header;
        index.note(header.base_offset, walked.at, header.max_timestamp, files.index_interval_bytes);
    }
    Ok(index)
}
