//! Records of the tier, made by hand and by lot.

use bytes::Bytes;
use proptest::prelude::*;
use sunseo_proto::PartitionId;

use super::{partition, topic};
use crate::archive::ledger::{ArchiveCut, ArchiveDone, ArchiveFile, ArchiveOpened};
use crate::manifest::Manifest;
use crate::record::{SegmentKey, SegmentObject, TierRecord};

pub fn key(base_offset: i64, end_offset: i64, object: &str) -> SegmentKey {
    key_in(partition(1, 0), base_offset, end_offset, object)
}

fn key_in(id: PartitionId, base_offset: i64, end_offset: i64, object: &str) -> SegmentKey {
    SegmentKey {
        partition: id.into(),
        topic: "orders".to_owned(),
        base_offset,
        end_offset,
        object: object.to_owned(),
        at_ms: 5,
    }
}

pub fn committed(key: SegmentKey) -> TierRecord {
    TierRecord::Committed(SegmentObject {
        key,
        data_bytes: 100,
        tail_bytes: 10,
        max_timestamp_ms: 0,
        first_epoch: 1,
        last_epoch: 1,
    })
}

/// What stored records come to when nothing is summed up.
pub fn fold(records: &[TierRecord]) -> Manifest {
    let mut manifest = Manifest::default();
    for record in records {
        let stored: Bytes = record.encode();
        manifest.apply(&TierRecord::decode(&stored).unwrap());
    }
    manifest
}

/// Of the segments of one partition.
pub fn any_segment_record(id: PartitionId) -> impl Strategy<Value = TierRecord> {
    let keys = (0_i64..8, 1_i64..4, 0_u8..6).prop_map(move |(base, length, name)| {
        let object = format!("{}-{}-o{base}-{length}-{name}", id.topic_id, id.partition);
        key_in(id, base, base + length, &object)
    });
    prop_oneof![
        4 => keys.clone().prop_map(TierRecord::Intent),
        6 => keys.clone().prop_map(committed),
        1 => keys.prop_map(|key| TierRecord::Abandoned { key, at_ms: 1 }),
        1 => (0_i64..8).prop_map(move |through| TierRecord::Removed { partition: id.into(), through, at_ms: 1 }),
    ]
}

/// Of every kind but a summary.
pub fn any_record() -> impl Strategy<Value = TierRecord> {
    let ids = prop_oneof![4 => Just(partition(1, 0)), 1 => Just(partition(1, 1)), 2 => Just(partition(2, 0))];
    let segments = ids.clone().prop_flat_map(any_segment_record);
    let deleted =
        (ids.clone(), 0_i64..8, 1_i64..4, 0_u8..6).prop_map(|(id, base, length, name)| TierRecord::Deleted {
            objects: vec![format!("{}-{}-o{base}-{length}-{name}", id.topic_id, id.partition)],
        });
    let removed = (1_u128..4, 0_i64..9).prop_map(|(n, at_ms)| {
        // topic 3 has nothing else: most runs keep what they have
        TierRecord::TopicRemoved { topic_id: topic(if n == 2 { 2 } else { 3 }), at_ms }
    });
    prop_oneof![12 => segments, 2 => deleted, 1 => removed, 8 => ids.prop_flat_map(any_archive_record)]
}

fn any_archive_record(id: PartitionId) -> impl Strategy<Value = TierRecord> {
    let table = prop_oneof![3 => Just("a".to_owned()), 1 => Just("b".to_owned())];
    // few ranges, so that cuts and files meet
    let range = (table, 0_i64..6, 1_i64..3, 0_i64..9);
    let opened = range.clone().prop_map(move |(table, from, _, at_ms)| {
        let topic = format!("topic {from}");
        TierRecord::ArchiveOpened(ArchiveOpened { table, partition: id.into(), topic, from: from / 3, at_ms })
    });
    let cut = range.clone().prop_map(move |(table, from, length, at_ms)| {
        let (definition, writer_version) = (format!("{{\"cut\":{from}}}"), 1);
        let (partition, to) = (id.into(), from + length);
        TierRecord::ArchiveCut(ArchiveCut { table, partition, from, to, definition, writer_version, at_ms })
    });
    let file = |rows: u64| ArchiveFile { object: format!("f{rows}"), rows, bytes: rows * 10, checksum: 9 };
    let done = (range, 0_u64..4, prop::option::of(1_u64..4)).prop_map(move |(range, files, bad)| {
        let (table, from, length, at_ms) = range;
        TierRecord::ArchiveDone(ArchiveDone {
            table,
            partition: id.into(),
            from,
            to: from + length,
            files: (0..files).map(file).collect(),
            bad: bad.map(file),
            at_ms,
        })
    });
    prop_oneof![2 => opened, 4 => cut, 4 => done]
}
