use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;
use proptest::prelude::*;
use sunseo_proto::batch::{BatchBuilder, Compression};

use super::*;
use crate::testing::partition;

const DAY_MS: i64 = 86_400_000;

fn definition() -> Definition {
    Definition::parse(
        br#"{"table": "message", "topic": "T", "key": "id", "time_column": "at", "columns": [
            {"name": "id", "type": "string"},
            {"name": "at", "type": "timestamp_millis", "optional": true},
            {"name": "n", "type": "int64"},
            {"name": "x", "type": "float64", "optional": true},
            {"name": "group", "type": "bool", "optional": true}]}"#,
    )
    .unwrap()
}

fn source(from: i64) -> CutSource {
    CutSource { partition: partition(9, 2), incarnation: 1, from }
}

fn record(n: i64) -> Record {
    let day = n % 3;
    let value = format!(
        r#"{{"id": "d{n}", "at": {}, "n": {n}, "x": {}.5, "group": true, "more": {{"n": {n}}}}}"#,
        day * DAY_MS,
        n
    );
    Record::new("k", value, day * DAY_MS)
}

fn batches(records: &[Record], per_batch: usize) -> Bytes {
    let mut out = Vec::new();
    for (at, chunk) in records.chunks(per_batch).enumerate() {
        let mut builder = BatchBuilder::new(Compression::Zstd);
        chunk.iter().for_each(|record| builder.push(record));
        let mut bytes = builder.build().to_vec();
        batch::stamp(&mut bytes, (at * per_batch) as i64, 1);
        out.extend_from_slice(&bytes);
    }
    Bytes::from(out)
}

fn cut(batches: Bytes, from: i64, to: i64) -> CutObjects {
    let mut builder = CutBuilder::new(definition(), source(from), CutLimits::exactly(to));
    builder.push(batches).unwrap();
    assert_eq!(builder.next_offset(), to);
    builder.finish().unwrap()
}

fn rows(object: &CutObject) -> Vec<(i64, String, i64)> {
    let reader = SerializedFileReader::new(object.bytes.clone()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    rows.map(|row| (row.get_long(6).unwrap(), row.get_string(0).unwrap().clone(), row.get_long(2).unwrap()))
        .collect()
}

#[test]
fn each_record_is_in_one_row_of_the_file_of_its_day() {
    let records: Vec<Record> = (0..100).map(record).collect();
    let objects = cut(batches(&records, 7), 3, 95);
    let names: Vec<_> = objects.files.iter().map(|f| f.file.object.as_str()).collect();
    let range = "2-00000000000000000003-00000000000000000095.parquet";
    assert_eq!(names, ["01", "02", "03"].map(|d| format!("tab/message/dt=1970-01-{d}/{range}")));
    let mut seen = Vec::new();
    for (day, object) in objects.files.iter().enumerate() {
        for (offset, id, n) in rows(object) {
            assert_eq!((id, n % 3), (format!("d{offset}"), day as i64));
            seen.push(n);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (3..95).collect::<Vec<i64>>());
    assert_eq!(objects.files.iter().map(|f| f.file.rows).sum::<u64>(), 92);
    assert_eq!(objects.bad, None);
}

#[test]
fn the_file_has_what_engines_look_for() {
    let records: Vec<Record> = (0..1_000).map(record).collect();
    let objects = cut(batches(&records, 100), 0, 1_000);
    let reader = SerializedFileReader::new(objects.files[1].bytes.clone()).unwrap();
    let metadata = reader.metadata();
    let columns: Vec<_> =
        metadata.file_metadata().schema_descr().columns().iter().map(|c| c.name().to_owned()).collect();
    assert_eq!(columns, ["id", "at", "n", "x", "group", "_partition", "_offset", "_extra"]);
    let at = metadata.file_metadata().schema_descr().column(1);
    assert_eq!(
        format!("{:?}", at.logical_type_ref().unwrap()),
        "Timestamp(TimestampType { is_adjusted_to_u_t_c: true, unit: MICROS })"
    );
    let group = metadata.row_group(0);
    for column in group.columns() {
        assert!(column.statistics().is_some(), "{} has statistics", column.column_path());
        assert!(column.column_index_offset().is_some(), "{} has a page index", column.column_path());
        assert!(matches!(column.compression(), parquet::basic::Compression::ZSTD(_)));
    }
    assert!(group.column(0).bloom_filter_offset().is_some());
    assert!(group.column(2).bloom_filter_offset().is_none());
    let row = reader.get_row_iter(None).unwrap().next().unwrap().unwrap();
    assert_eq!(row.get_timestamp_micros(1).unwrap(), DAY_MS * 1_000);
    assert_eq!((row.get_int(5).unwrap(), row.get_long(6).unwrap()), (2, 1));
    assert_eq!(row.get_string(7).unwrap(), r#"{"more":{"n": 1}}"#);
    assert!(objects.files.iter().map(|f| f.bytes.len()).sum::<usize>() < 40_000, "small files stay small");
}

#[test]
fn what_does_not_fit_goes_to_bad_with_its_offset_and_reason() {
    let mut records: Vec<Record> = (0..5).map(record).collect();
    records[1].value = Some(Bytes::from_static(b"{\"id\": 5, \"n\": 1}"));
    records[3].value = Some(Bytes::from_static(b"\xff\xfe"));
    records[4].value = None;
    let objects = cut(batches(&records, 2), 0, 5);
    assert_eq!(objects.files.iter().map(|f| f.file.rows).sum::<u64>(), 2);
    let bad = objects.bad.unwrap();
    assert_eq!(bad.file.rows, 3);
    assert_eq!(bad.file.object, "bad/message/2-00000000000000000000-00000000000000000005.ndjson");
    let lines: Vec<serde_json::Value> = bad
        .bytes
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(lines.iter().map(|l| l["offset"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 3, 4]);
    assert!(lines[0]["reason"].as_str().unwrap().contains("column id"), "{}", lines[0]);
    assert_eq!(lines[0]["value"], "{\"id\": 5, \"n\": 1}");
    assert_eq!(lines[1]["value_hex"], "fffe");
    assert_eq!(lines[2]["key_hex"], "6b");
}

#[test]
fn a_new_cut_ends_at_its_limits() {
    let records: Vec<Record> = (0..100).map(record).collect();
    let filled = |limits: CutLimits| {
        let mut builder = CutBuilder::new(definition(), source(0), limits);
        builder.push(batches(&records, 9)).unwrap();
        (builder.next_offset(), builder.is_full())
    };
    assert_eq!(filled(CutLimits { end: 100, records: 30, bytes: usize::MAX }), (30, true));
    assert_eq!(filled(CutLimits { end: 12, records: 30, bytes: usize::MAX }), (12, true));
    assert_eq!(filled(CutLimits { end: 100, records: 300, bytes: 1 }), (1, true));
    assert_eq!(filled(CutLimits { end: 200, records: 300, bytes: usize::MAX }), (100, false));
    let days: Vec<Record> = (0..100)
        .map(|n| Record {
            timestamp_ms: n * DAY_MS,
            value: Some("{\"id\": \"\", \"n\": 1}".into()),
            ..record(n)
        })
        .collect();
    let mut builder =
        CutBuilder::new(definition(), source(0), CutLimits { end: 100, records: 300, bytes: usize::MAX });
    builder.push(batches(&days, 10)).unwrap();
    assert_eq!((builder.next_offset(), builder.is_full()), (DATES_MAX as i64, true));
}

#[test]
fn a_gap_in_the_log_is_refused() {
    let records: Vec<Record> = (0..20).map(record).collect();
    let mut builder = CutBuilder::new(definition(), source(0), CutLimits::exactly(20));
    let all = batches(&records, 10);
    let first = batch::BatchHeader::parse(&all).unwrap().total_bytes;
    assert_eq!(builder.push(all.slice(first..)).unwrap_err().code, ErrorCode::CorruptLog);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// However the log was batched and read, the same range gives the same bytes.
    #[test]
    fn the_bytes_are_a_function_of_the_range(per_batch in 1_usize..40, pieces in 1_usize..6, from in 0_i64..30, length in 1_i64..60) {
        let records: Vec<Record> = (0..100).map(|n| if n % 11 == 0 { Record::new("k", "no", n) } else { record(n) }).collect();
        let to = from + length;
        let expected = cut(batches(&records, 10), from, to);
        let mut builder = CutBuilder::new(definition(), source(from), CutLimits::exactly(to));
        let all: Vec<Bytes> = batch::batches(batches(&records, per_batch)).map(|b| b.unwrap().1).collect();
        for piece in all.chunks(all.len().div_ceil(pieces)) {
            builder.push(Bytes::from(piece.concat())).unwrap();
        }
        prop_assert_eq!(builder.finish().unwrap(), expected);
    }
}
