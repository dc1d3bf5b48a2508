use proptest::prelude::*;

use super::*;
use crate::testing::records::{any_record, any_segment_record, committed, fold, key};
use crate::testing::{partition, topic};

fn upload(base: i64, end: i64, object: &str) -> [TierRecord; 2] {
    [TierRecord::Intent(key(base, end, object)), committed(key(base, end, object))]
}

fn doomed(manifest: &Manifest) -> Vec<&str> {
    manifest.doomed().keys().map(String::as_str).collect()
}

#[test]
fn an_upload_is_found_by_offset_once_it_is_committed() {
    let [intent, commit] = upload(0, 10, "a");
    let manifest = fold(std::slice::from_ref(&intent));
    let waiting = manifest.partition(partition(1, 0)).unwrap();
    assert!(waiting.find(5).is_none());
    assert_eq!(waiting.intents().count(), 1);
    let manifest = fold(&[intent, commit]);
    let there = manifest.partition(partition(1, 0)).unwrap();
    assert_eq!(there.find(9).map(|s| s.key.object.as_str()), Some("a"));
    assert!(there.find(10).is_none());
    assert_eq!((there.intents().count(), there.offloaded_to(), there.bytes()), (0, 10, 110));
}

#[test]
fn of_two_commits_for_one_range_the_first_counts_and_the_other_is_deleted() {
    let manifest = fold(&[upload(0, 10, "a"), upload(0, 10, "b"), upload(10, 20, "c")].concat());
    let there = manifest.partition(partition(1, 0)).unwrap();
    let objects: Vec<_> = there.segments().map(|s| s.key.object.as_str()).collect();
    assert_eq!(objects, ["a", "c"]);
    assert_eq!(doomed(&manifest), ["b"]);
}

#[test]
fn a_commit_after_its_abandonment_is_nothing() {
    let [intent, commit] = upload(0, 10, "a");
    let abandoned = TierRecord::Abandoned { key: key(0, 10, "a"), at_ms: 9 };
    let deleted = TierRecord::Deleted { objects: vec!["a".to_owned()] };
    let manifest = fold(&[intent, abandoned, deleted, commit]);
    assert!(manifest.partition(partition(1, 0)).unwrap().find(5).is_none());
    assert!(doomed(&manifest).is_empty());
}

#[test]
fn removal_dooms_whole_segments_and_hides_what_is_below() {
    let mut records = [upload(0, 10, "a"), upload(10, 20, "b")].concat();
    records.push(TierRecord::Removed { partition: partition(1, 0).into(), through: 12, at_ms: 9 });
    let manifest = fold(&records);
    let there = manifest.partition(partition(1, 0)).unwrap();
    assert_eq!(doomed(&manifest), ["a"]);
    assert!(there.find(11).is_none() && there.find(12).is_some());
    assert!(there.covers(12, 20) && !there.covers(11, 20) && !there.covers(12, 21));
}

#[test]
fn a_removed_topic_takes_everything_with_it_and_late_records_too() {
    let mut records = upload(0, 10, "a").to_vec();
    records.push(TierRecord::Intent(key(10, 20, "b")));
    records.push(TierRecord::TopicRemoved { topic_id: topic(1), at_ms: 9 });
    records.push(committed(key(10, 20, "b")));
    records.push(TierRecord::Intent(key(20, 30, "c")));
    let manifest = fold(&records);
    assert!(manifest.partition(partition(1, 0)).is_none());
    assert_eq!(doomed(&manifest), ["a", "b", "c"]);
}

/// Without announcements under a name that was given up: nobody takes one twice.
fn with_new_names(mut records: Vec<TierRecord>) -> Vec<TierRecord> {
    let mut given_up = BTreeSet::new();
    records.retain(|record| match record {
        TierRecord::Intent(key) => !given_up.contains(&key.object),
        TierRecord::Abandoned { key, .. } => {
            given_up.insert(key.object.clone());
            true
        }
        _ => true,
    });
    records
}

proptest! {
    /// A record whose append was repeated because its outcome was not known counts once.
    #[test]
    fn a_repetition_changes_nothing(records in prop::collection::vec(any_record(), 0..80)) {
        let mut manifest = Manifest::default();
        for record in &records {
            manifest.apply(record);
            let once = manifest.clone();
            manifest.apply(record);
            prop_assert_eq!(&once, &manifest);
        }
    }

    /// Whatever the order of the records: an object that readers are sent to is never one that will be deleted, every intent
    /// has one fate, and the exported copy folds to the same segments.
    #[test]
    fn the_fold_keeps_its_promises(records in prop::collection::vec(any_segment_record(partition(1, 0)), 0..60)) {
        let manifest = fold(&with_new_names(records));
        let Some(there) = manifest.partition(partition(1, 0)) else { return Ok(()) };
        for segment in there.segments() {
            prop_assert!(!manifest.doomed().contains_key(&segment.key.object));
        }
        for offset in 0..12 {
            if let Some(segment) = there.find(offset) {
                prop_assert!((segment.key.base_offset..segment.key.end_offset).contains(&offset));
                prop_assert!(offset >= there.removed_to());
            }
        }
        let mut copy = Manifest::default();
        for record in TierRecord::decode_all(manifest.export(partition(1, 0))).unwrap() {
            copy.apply(&record);
        }
        if let Some(copied) = copy.partition(partition(1, 0)) {
            prop_assert!(copied.segments().eq(there.segments()));
            prop_assert_eq!(copied.removed_to(), there.removed_to());
        } else {
            prop_assert_eq!(there.segments().count(), 0);
        }
    }
}
