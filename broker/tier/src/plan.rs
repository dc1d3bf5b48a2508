//! Facts to decisions: what of a partition is uploaded, evicted, removed. Pure; the shell acts.

use sunseo_proto::PartitionId;

use crate::host::{PartitionFacts, SealedSegment};
use crate::manifest::{Manifest, PartitionManifest};
use crate::record::SegmentKey;

/// What to do for one partition, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionPlan {
    /// Oldest first; must be committed in this order.
    pub uploads: Vec<Upload>,
    /// Announced uploads that nobody will finish.
    pub abandon: Vec<SegmentKey>,
    /// Record as removed everything that ends at or below.
    pub remove_through: Option<i64>,
    /// Raise the log start.
    pub log_start: Option<i64>,
    /// Local copies that end at or below may go.
    pub evict_before: Option<i64>,
    /// Bytes of sealed segments that are not committed.
    pub pending_bytes: u64,
}

/// One segment to upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pub segment: SealedSegment,
    /// Its earlier announcement, whose name is used again: the object's bytes are the same.
    pub announced: Option<SegmentKey>,
}

/// What the decisions depend on besides the partition.
#[derive(Clone, Copy, Debug)]
pub struct PlanFacts {
    pub now_ms: i64,
    pub orphan_age_ms: i64,
    /// Evict whatever is committed, for a flush.
    pub evict_all: bool,
    /// Records from here on are not yet archived and must not be removed; `i64::MAX` without an archive.
    pub keep_from: i64,
}

/// Decides for one partition.
#[must_use]
pub fn plan(facts: &PartitionFacts, manifest: Option<&PartitionManifest>, at: PlanFacts) -> PartitionPlan {
    let empty = PartitionManifest::default();
    let manifest = manifest.unwrap_or(&empty);
    let uploads = if facts.config.tiered { uploads(facts, manifest) } else { Vec::new() };
    let pending_bytes = uploads.iter().map(|u| u.segment.bytes).sum();
    let abandon = manifest
        .intents()
        .filter(|key| at.now_ms.saturating_sub(key.at_ms) >= at.orphan_age_ms)
        .filter(|key| !uploads.iter().any(|u| u.announced.as_ref() == Some(*key)))
        .cloned()
        .collect();
    let remove_through = remove_through(facts, manifest, at);
    let gone = remove_through.unwrap_or(manifest.removed_to()).max(manifest.removed_to());
    PartitionPlan {
        uploads,
        abandon,
        remove_through,
        log_start: (gone > facts.log_start).then_some(gone),
        evict_before: evict_before(facts, manifest, at),
        pending_bytes,
    }
}

fn uploads(facts: &PartitionFacts, manifest: &PartitionManifest) -> Vec<Upload> {
    let wanted = facts.sealed.iter().filter(|segment| {
        segment.end_offset > manifest.offloaded_to()
            && segment.end_offset <= facts.high_watermark
            && segment.end_offset > facts.log_start
    });
    let announced = |segment: &SealedSegment| {
        let range = (segment.base_offset, segment.end_offset);
        manifest.intents().find(|key| (key.base_offset, key.end_offset) == range).cloned()
    };
    wanted.map(|segment| Upload { segment: *segment, announced: announced(segment) }).collect()
}

/// Removal goes by whole committed segments from the oldest on: below the log start, too old, or too many bytes altogether.
fn remove_through(facts: &PartitionFacts, manifest: &PartitionManifest, at: PlanFacts) -> Option<i64> {
    let only_local = facts.local_bytes.saturating_sub(local_committed_bytes(facts, manifest));
    let mut total: u64 = manifest.segments().map(|s| s.data_bytes).sum::<u64>() + only_local;
    let mut through = None;
    for segment in manifest.segments() {
        let below_start = segment.key.end_offset <= facts.log_start;
        let expired = facts
            .config
            .retention_ms
            .is_some_and(|limit| segment.max_timestamp_ms < at.now_ms.saturating_sub(limit));
        let surplus = facts
            .config
            .retention_bytes
            .is_some_and(|limit| total.saturating_sub(segment.data_bytes) >= limit);
        let archived = segment.key.end_offset <= at.keep_from;
        if !(below_start || ((expired || surplus) && archived)) {
            break;
        }
        total -= segment.data_bytes;
        through = Some(segment.key.end_offset);
    }
    through
}

fn local_committed_bytes(facts: &PartitionFacts, manifest: &PartitionManifest) -> u64 {
    let committed = facts.sealed.iter().filter(|s| manifest.covers(s.base_offset, s.end_offset));
    committed.map(|s| s.bytes).sum()
}

/// Eviction goes by whole committed segments from the oldest local one on.
fn evict_before(facts: &PartitionFacts, manifest: &PartitionManifest, at: PlanFacts) -> Option<i64> {
    let config = &facts.config;
    if !config.tiered {
        return None;
    }
    let mut kept_bytes = facts.local_bytes;
    let mut before = None;
    for segment in &facts.sealed {
        if !manifest.covers(segment.base_offset, segment.end_offset) {
            break;
        }
        let surplus = config.local_retention_bytes.is_some_and(|limit| kept_bytes > limit);
        let expired = config
            .local_retention_ms
            .is_some_and(|limit| segment.max_timestamp_ms < at.now_ms.saturating_sub(limit));
        if !(surplus || expired || at.evict_all) {
            break;
        }
        kept_bytes = kept_bytes.saturating_sub(segment.bytes);
        before = Some(segment.end_offset);
    }
    before
}

/// Objects whose readers have had time to finish.
#[must_use]
pub fn deletions(manifest: &Manifest, now_ms: i64, delay_ms: i64, limit: usize) -> Vec<String> {
    let ripe = manifest.doomed().iter().filter(|(_, since_ms)| now_ms.saturating_sub(**since_ms) >= delay_ms);
    ripe.map(|(object, _)| object.clone()).take(limit).collect()
}

/// Name of a segment's object.
#[must_use]
pub fn segment_object_name(
    cluster: &str,
    id: PartitionId,
    segment: &SealedSegment,
    epoch: i32,
    unique: u128,
) -> String {
    let unique = uuid::Builder::from_random_bytes(unique.to_be_bytes()).into_uuid();
    format!(
        "{cluster}/seg/{}/{}/{:020}-{:020}-e{epoch:010}-{unique}",
        id.topic_id, id.partition, segment.base_offset, segment.end_offset
    )
}

/// Name of a partition's exported manifest.
#[must_use]
pub fn manifest_object_name(cluster: &str, id: PartitionId, epoch: i32, sequence: u64) -> String {
    format!("{cluster}/man/{}/{}/{epoch:010}-{sequence:010}", id.topic_id, id.partition)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
