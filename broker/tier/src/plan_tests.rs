use super::*;
use crate::host::TierTopicConfig;
use crate::manifest::Manifest;
use crate::record::{SegmentObject, TierRecord};
use crate::testing::{TIERED, partition};

const NOW: i64 = 1_000_000;
const AT: PlanFacts = PlanFacts { now_ms: NOW, orphan_age_ms: 1_000, evict_all: false, keep_from: i64::MAX };

/// Segments of 10 records and 100 bytes; segment n has its newest record at time n.
fn segment(n: i64) -> SealedSegment {
    SealedSegment { base_offset: n * 10, end_offset: n * 10 + 10, bytes: 100, max_timestamp_ms: n }
}

fn facts(segments: std::ops::Range<i64>, config: TierTopicConfig) -> PartitionFacts {
    PartitionFacts {
        id: partition(1, 0),
        topic: "orders".to_owned(),
        config,
        leader_epoch: 4,
        log_start: 0,
        local_start: segments.start * 10,
        high_watermark: segments.end * 10 + 5,
        last_stable: segments.end * 10 + 5,
        local_bytes: (segments.end - segments.start) as u64 * 100 + 50,
        sealed: segments.map(segment).collect(),
    }
}

fn key(n: i64, at_ms: i64) -> SegmentKey {
    let segment = segment(n);
    SegmentKey {
        partition: partition(1, 0).into(),
        topic: "orders".to_owned(),
        base_offset: segment.base_offset,
        end_offset: segment.end_offset,
        object: format!("object {n}"),
        at_ms,
    }
}

fn offloaded(segments: std::ops::Range<i64>, intents: &[SegmentKey]) -> Manifest {
    let mut manifest = Manifest::default();
    for n in segments {
        manifest.apply(&TierRecord::Intent(key(n, 0)));
        manifest.apply(&TierRecord::Committed(SegmentObject {
            key: key(n, 0),
            data_bytes: 100,
            tail_bytes: 9,
            max_timestamp_ms: n,
            first_epoch: 1,
            last_epoch: 1,
        }));
    }
    for intent in intents {
        manifest.apply(&TierRecord::Intent(intent.clone()));
    }
    manifest
}

fn planned(facts: &PartitionFacts, manifest: &Manifest, at: PlanFacts) -> PartitionPlan {
    plan(facts, manifest.partition(facts.id), at)
}

fn bases(plan: &PartitionPlan) -> Vec<i64> {
    plan.uploads.iter().map(|u| u.segment.base_offset).collect()
}

#[test]
fn what_is_sealed_durable_and_not_committed_is_uploaded_oldest_first() {
    let mut facts = facts(0..4, TIERED);
    assert_eq!(bases(&planned(&facts, &offloaded(0..2, &[]), AT)), [20, 30]);
    assert_eq!(planned(&facts, &offloaded(0..2, &[]), AT).pending_bytes, 200);
    facts.high_watermark = 39;
    assert_eq!(
        bases(&planned(&facts, &offloaded(0..2, &[]), AT)),
        [20],
        "the last is not yet committed everywhere"
    );
    facts.config.tiered = false;
    assert!(bases(&planned(&facts, &offloaded(0..2, &[]), AT)).is_empty());
}

#[test]
fn an_announced_name_is_used_again_and_never_swept_meanwhile() {
    let announced = key(2, 0);
    let plan = planned(&facts(0..3, TIERED), &offloaded(0..2, std::slice::from_ref(&announced)), AT);
    assert_eq!(plan.uploads[0].announced.as_ref(), Some(&announced));
    assert!(plan.abandon.is_empty());
}

#[test]
fn an_announcement_nobody_needs_is_swept_when_it_is_old() {
    let (old, young) = (key(0, NOW - 1_000), key(1, NOW - 999));
    let young = SegmentKey { object: "young".to_owned(), end_offset: 15, ..young };
    let manifest = offloaded(0..2, &[SegmentKey { object: "old".to_owned(), ..old.clone() }, young]);
    let abandoned: Vec<_> = planned(&facts(2..3, TIERED), &manifest, AT).abandon;
    assert_eq!(abandoned.iter().map(|k| k.object.as_str()).collect::<Vec<_>>(), ["old"]);
}

#[test]
fn only_committed_segments_are_evicted_by_bytes_age_or_request() {
    let none = planned(&facts(0..4, TIERED), &offloaded(0..2, &[]), AT);
    assert_eq!(none.evict_before, None, "without a limit everything stays");
    let bytes = TierTopicConfig { local_retention_bytes: Some(300), ..TIERED };
    assert_eq!(
        planned(&facts(0..4, bytes), &offloaded(0..4, &[]), AT).evict_before,
        Some(20),
        "450 bytes, 300 may stay"
    );
    assert_eq!(planned(&facts(0..4, bytes), &offloaded(0..1, &[]), AT).evict_before, Some(10));
    assert_eq!(planned(&facts(0..4, bytes), &offloaded(0..0, &[]), AT).evict_before, None);
    let age = TierTopicConfig { local_retention_ms: Some(NOW - 2), ..TIERED };
    assert_eq!(
        planned(&facts(0..4, age), &offloaded(0..4, &[]), AT).evict_before,
        Some(20),
        "older than time 2"
    );
    let all = PlanFacts { evict_all: true, ..AT };
    assert_eq!(planned(&facts(0..4, TIERED), &offloaded(0..3, &[]), all).evict_before, Some(30));
}

#[test]
fn retention_counts_every_record_once_and_waits_for_the_archive() {
    // 4 segments in the store, 2 of them also local, and 50 bytes active: 450 bytes
    let bytes = TierTopicConfig { retention_bytes: Some(300), ..TIERED };
    let plan = planned(&facts(2..4, bytes), &offloaded(0..4, &[]), AT);
    assert_eq!((plan.remove_through, plan.log_start), (Some(10), Some(10)));
    let age = TierTopicConfig { retention_ms: Some(NOW - 2), ..TIERED };
    assert_eq!(planned(&facts(2..4, age), &offloaded(0..4, &[]), AT).remove_through, Some(20));
    let unarchived = PlanFacts { keep_from: 19, ..AT };
    assert_eq!(planned(&facts(2..4, age), &offloaded(0..4, &[]), unarchived).remove_through, Some(10));
}

#[test]
fn a_raised_log_start_removes_and_an_interrupted_removal_is_finished() {
    let mut raised = facts(2..4, TIERED);
    raised.log_start = 25;
    assert_eq!(planned(&raised, &offloaded(0..4, &[]), AT).remove_through, Some(20));
    let mut manifest = offloaded(0..4, &[]);
    manifest.apply(&TierRecord::Removed { partition: partition(1, 0).into(), through: 20, at_ms: 0 });
    let plan = planned(&facts(2..4, TIERED), &manifest, AT);
    assert_eq!((plan.remove_through, plan.log_start), (None, Some(20)));
}

#[test]
fn objects_are_deleted_after_their_delay() {
    let mut manifest = offloaded(0..2, &[]);
    manifest.apply(&TierRecord::Removed { partition: partition(1, 0).into(), through: 10, at_ms: 500 });
    assert!(deletions(&manifest, 999, 500, 10).is_empty());
    assert_eq!(deletions(&manifest, 1_000, 500, 10), ["object 0"]);
}

#[test]
fn names_sort_by_offset_and_carry_the_epoch() {
    let name = segment_object_name("c", partition(1, 2), &segment(3), 4, 5);
    assert!(name.starts_with(
        "c/seg/00000000000000000000000000000001/2/00000000000000000030-00000000000000000040-e0000000004-"
    ));
    assert_eq!(
        manifest_object_name("c", partition(1, 2), 4, 17),
        "c/man/00000000000000000000000000000001/2/0000000004-0000000017"
    );
}
