//! Fuzz targets of the tier's records, objects and definitions. For tests only (feature `testing`).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use sunseo_proto::fuzz::{SMALL, Seal, Target};
use sunseo_proto::{PartitionId, Record, TopicId};

use crate::archive::Definition;
use crate::archive::ledger::{ArchiveCut, ArchiveDone, ArchiveFile, ArchiveOpened};
use crate::archive::row::RowReader;
use crate::fold::Fold;
use crate::manifest::Manifest;
use crate::record::{SegmentKey, SegmentObject, TierRecord};
use crate::segment::{IndexEntry, OBJECT_MAGIC, SegmentFooter};
use crate::summary;

/// Small, so that a summary has several parts.
const SUMMARY_PART_BYTES: usize = 300;

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    target("tier_records", Seal::Envelopes, records, record_samples),
    target("tier_footer", Seal::Footer { magic: OBJECT_MAGIC }, footer, footer_samples),
    target("archive_definition", Seal::None, definition, definition_samples),
    target("archive_row", Seal::None, row, row_samples),
];

const fn target(name: &'static str, seal: Seal, run: fn(&[u8]), samples: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, samples, seal, memory_bytes_max: SMALL }
}

fn records(bytes: &[u8]) {
    let Ok(records) = TierRecord::decode_all(Bytes::copy_from_slice(bytes)) else { return };
    let mut fold = Fold::starting_at(0);
    for record in records {
        assert_eq!(TierRecord::decode(&record.encode()).as_ref(), Ok(&record));
        fold.apply(fold.next(), record);
    }
    let manifest = fold.manifest();
    let mut summed_up = Fold::starting_at(fold.next());
    for part in summary::parts(manifest, fold.next(), SUMMARY_PART_BYTES) {
        summed_up.apply(part.offset(), TierRecord::Summary(part));
    }
    assert!(summed_up.summary().is_some() && summed_up.manifest() == manifest, "a summary is the same");
    for (id, partition) in manifest.partitions() {
        let exported = TierRecord::decode_all(manifest.export(*id)).expect("just written");
        let mut again = Manifest::default();
        exported.iter().for_each(|record| again.apply(record));
        let again = again.partition(*id).map(|found| found.segments().cloned().collect::<Vec<_>>());
        // facts are taken as they are, so changed ones add up to what no records come to
        if fold.summary().is_none() {
            assert_eq!(again.unwrap_or_default(), partition.segments().cloned().collect::<Vec<_>>());
        }
        let _ = (partition.bytes(), partition.covers(0, partition.offloaded_to()));
    }
}

fn record_samples() -> Vec<Vec<u8>> {
    let id = PartitionId { topic_id: TopicId(uuid::Uuid::from_u128(7)), partition: 3 };
    let key = |base: i64| SegmentKey {
        partition: id.into(),
        topic: "orders".into(),
        base_offset: base,
        end_offset: base + 10,
        object: format!("orders/3/{base}"),
        at_ms: 5,
    };
    let object = |base| SegmentObject {
        key: key(base),
        data_bytes: 100,
        tail_bytes: 80,
        max_timestamp_ms: 9,
        first_epoch: 1,
        last_epoch: 2,
    };
    let (table, topic) = ("orders".to_owned(), "orders".to_owned());
    let cut = ArchiveCut {
        table: table.clone(),
        partition: id.into(),
        from: 0,
        to: 5,
        definition: "{}".into(),
        writer_version: 1,
        at_ms: 6,
    };
    let file = ArchiveFile { object: "orders/a.parquet".into(), rows: 5, bytes: 100, checksum: 9 };
    let done = ArchiveDone {
        table: table.clone(),
        partition: id.into(),
        from: 0,
        to: 5,
        files: vec![file],
        bad: None,
        at_ms: 7,
    };
    let segments = [
        TierRecord::Intent(key(0)),
        TierRecord::Committed(object(0)),
        TierRecord::Intent(key(10)),
        TierRecord::Committed(object(10)),
        TierRecord::Intent(key(20)),
        TierRecord::Abandoned { key: key(20), at_ms: 8 },
        TierRecord::Removed { partition: id.into(), through: 10, at_ms: 9 },
        TierRecord::Deleted { objects: vec!["orders/3/0".into()] },
    ];
    let archive = [
        TierRecord::ArchiveOpened(ArchiveOpened { table, partition: id.into(), topic, from: 0, at_ms: 5 }),
        TierRecord::ArchiveCut(cut),
        TierRecord::ArchiveDone(done),
        TierRecord::TopicRemoved { topic_id: id.topic_id, at_ms: 10 },
    ];
    // without the last one: it takes away what there is to sum up
    let both = [&segments[..], &archive[..3]].concat();
    let samples = [&segments[..], &archive[..], &with_summary(both)];
    samples.map(|all| all.iter().flat_map(TierRecord::encode).collect()).into()
}

fn with_summary(mut records: Vec<TierRecord>) -> Vec<TierRecord> {
    let mut manifest = Manifest::default();
    records.iter().for_each(|record| manifest.apply(record));
    let parts = summary::parts(&manifest, records.len() as i64, SUMMARY_PART_BYTES);
    records.extend(parts.into_iter().map(TierRecord::Summary));
    records
}

fn footer(bytes: &[u8]) {
    let Ok(footer) = SegmentFooter::decode(&Bytes::copy_from_slice(bytes)) else { return };
    assert_eq!(SegmentFooter::decode(&footer.encode()).as_ref(), Ok(&footer));
    let _ = footer.check(0, b"other bytes");
    for offset in [i64::MIN, 0, 1, footer.base_offset, footer.end_offset, i64::MAX] {
        assert!(footer.position_before(offset) <= footer.data_bytes, "a place beyond the data");
    }
}

fn footer_samples() -> Vec<Vec<u8>> {
    let entry = |n: u64| IndexEntry { offset: n as i64 * 9, max_timestamp_ms: 5, position: n * 70_000 };
    let footer = SegmentFooter {
        base_offset: 0,
        end_offset: 40,
        data_bytes: 300_000,
        max_timestamp_ms: 5,
        first_epoch: 1,
        last_epoch: 1,
        index: (0..4).map(entry).collect(),
        block_checksums: vec![3],
    };
    vec![footer.encode().to_vec()]
}

fn definition(body: &[u8]) {
    let topic = Definition::topic_of(body);
    if let Ok(definition) = Definition::parse(body) {
        assert_eq!(topic.as_ref(), Some(&definition.topic));
        // what it reads with, too
        let _ = RowReader::new(&definition).read(&Record::new("k", r#"{"id":"a","at":1}"#, 1));
    }
}

const DEFINITION: &str = r#"{"table":"t","topic":"T","time_column":"at","key":"id","from":"start","columns":[{"name":"id","type":"string"},{"name":"at","type":"timestamp_millis","path":"/times/done"},{"name":"n","type":"int64","optional":true},{"name":"x","type":"float64","optional":true},{"name":"ok","type":"bool","optional":true},{"name":"more","type":"json","path":"/a~1b/c","optional":true}]}"#;

fn definition_samples() -> Vec<Vec<u8>> {
    vec![DEFINITION.into()]
}

fn row(value: &[u8]) {
    let definition = Definition::parse(DEFINITION.as_bytes()).expect("an example");
    let record = Record::new("k", Bytes::copy_from_slice(value), 1_700_000_000_000);
    if let Ok(row) = RowReader::new(&definition).read(&record) {
        assert_eq!(row.cells.len(), definition.columns.len());
        assert_eq!(row.date.len(), "2023-11-14".len());
        if let Some(extra) = row.extra {
            // half of a surrogate pair may stand in an escape of JSON, and in no text: values are kept as they came
            let read = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(&extra);
            read.expect("what is left over is an object");
        }
    }
}

fn row_samples() -> Vec<Vec<u8>> {
    let full = r#"{"id":"o-1","times":{"done":1700000000000,"more":[1,2]},"n":-5,"x":1.5e3,"ok":true,"a/b":{"c":{"d":null}},"left":{"over":1.10}}"#;
    vec![full.into(), r#"{"id":"","times":{"done":0}}"#.into()]
}
