//! Scenarios of the cleaner: what stays, when tombstones go, what readers see meanwhile, what a start finds.

use std::sync::Arc;

use sunseo_proto::batch::Ending;

use super::*;
use crate::clean::{AbortedData, CleanStep, NothingAborted};
use crate::{Compaction, SealedFacts, inspect};

pub(super) const COMPACTION: Compaction =
    Compaction { delete_retention_ms: 1_000, min_lag_ms: 0, min_dirty_permille: 500 };

pub(super) fn compacted() -> PartitionConfig {
    PartitionConfig {
        segment_bytes: 2_000,
        own_retention: false,
        compaction: Some(COMPACTION),
        ..PartitionConfig::default()
    }
}

/// A batch of records with these keys and values; no value is a tombstone.
pub(super) fn keyed(codec: Compression, records: &[(&str, Option<&str>)]) -> Append {
    let mut builder = BatchBuilder::new(codec);
    records.iter().for_each(|(key, value)| builder.push(&record(key, *value)));
    append_of(builder.build())
}

pub(super) fn record(key: &str, value: Option<&str>) -> Record {
    let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    Record { key: Some(Bytes::copy_from_slice(key.as_bytes())), value, timestamp_ms: 5, ..Record::default() }
}

/// A whole run, switched and synced.
pub(super) fn clean(store: &mut Store, now_ms: i64) {
    clean_with(store, now_ms, Arc::new(NothingAborted));
}

fn clean_with(store: &mut Store, now_ms: i64, aborted: Arc<dyn AbortedData>) {
    let limit = store.facts(id(0)).expect("there").durable_end;
    let Some(mut job) = store.begin_clean(id(0), limit, now_ms, aborted).expect("alive") else { return };
    loop {
        match job.step().expect("the disk is well") {
            CleanStep::More { .. } => {}
            CleanStep::Replace(replacement) => {
                assert!(store.switch_cleaned(&replacement).expect("alive"), "nothing else changed");
                store.sync();
            }
            CleanStep::Done(finished) => {
                store.finish_clean(id(0), finished).expect("alive");
                store.sync();
                return;
            }
        }
    }
}

/// What a reader sees, as "offset key=value".
pub(super) fn seen(store: &Store) -> Vec<String> {
    let records = records_of(store);
    let text = |bytes: &Option<Bytes>| {
        bytes.as_ref().map_or("-".into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    records.iter().map(|r| format!("{} {}={}", r.offset, text(&r.key), text(&r.value))).collect()
}

/// Every record, read batch by batch; checks that ranges of offsets follow one another.
pub(super) fn records_of(store: &Store) -> Vec<Record> {
    let reader = store.reader(id(0)).expect("there");
    let mut from = reader.log_start();
    let mut records = Vec::new();
    while from < reader.end() {
        let bytes = reader.read(from, 700, i64::MAX).expect("readable");
        assert!(!bytes.is_empty(), "at least one batch below the end, at {from}");
        for step in batch::batches(bytes) {
            let (header, bytes) = step.expect("valid");
            assert!(header.base_offset <= from, "no gap at {from}");
            records.extend(batch::records(&bytes).expect("decodes").into_iter().filter(|r| r.offset >= from));
            from = header.next_offset();
        }
    }
    records
}

fn headers(store: &Store) -> Vec<batch::BatchHeader> {
    let reader = store.reader(id(0)).expect("there");
    let (mut from, mut found) = (reader.log_start(), Vec::new());
    while from < reader.end() {
        for step in batch::batches(reader.read(from, 1 << 20, i64::MAX).expect("readable")) {
            let header = step.expect("valid").0;
            from = header.next_offset();
            found.push(header);
        }
    }
    found
}

fn sealed(store: &Store) -> Vec<(i64, i64)> {
    let sealed: Vec<SealedFacts> = store.sealed(id(0)).expect("there");
    sealed.iter().map(|facts| (facts.base_offset, facts.end_offset)).collect()
}

fn put_and_seal(store: &mut Store, append: Append) {
    put(store, append);
    store.seal(id(0)).expect("alive");
    store.sync();
}

#[test]
fn the_newest_of_each_key_stays_in_every_codec_and_offsets_stay() {
    for codec in Compression::ALL {
        let disk = FaultyDisk::new(1);
        let mut store = fresh(&disk, compacted());
        put_and_seal(&mut store, keyed(codec, &[("a", Some("1")), ("b", Some("2")), ("a", Some("3"))]));
        put_and_seal(&mut store, keyed(codec, &[("c", Some("4")), ("b", Some("5"))]));
        put(&mut store, keyed(codec, &[("c", Some("6"))]));
        store.sync();
        clean(&mut store, 100);
        // the active segment is not looked at, so c=4 stays
        let expected = ["2 a=3", "3 c=4", "4 b=5", "5 c=6"];
        assert_eq!(seen(&store), expected, "{codec:?}");
        assert_eq!(sealed(&store), [(0, 5)], "small neighbours became one");
        assert_eq!(headers(&store)[0].compression(), codec);
        drop(store);
        disk.power_cut();
        let (store, recovered) = open(&disk);
        assert_eq!(recovered[0].quarantined, None);
        assert_eq!(seen(&store), expected, "{codec:?}");
        assert_eq!(inspect::verify_disk(&disk).expect("reads").problems, [""; 0]);
    }
}

#[test]
fn whole_batches_that_went_leave_one_range_of_offsets() {
    let disk = FaultyDisk::new(2);
    let mut store = fresh(&disk, compacted());
    for n in 0..9 {
        put(&mut store, keyed(Compression::None, &[("a", Some(&n.to_string()))]));
    }
    put_and_seal(&mut store, keyed(Compression::None, &[("b", Some("9"))]));
    put_and_seal(&mut store, keyed(Compression::None, &[("a", Some("10"))]));
    clean(&mut store, 100);
    let shape: Vec<(i64, i64, i32)> =
        headers(&store).iter().map(|h| (h.base_offset, h.last_offset(), h.record_count)).collect();
    assert_eq!(shape, [(0, 8, 0), (9, 9, 1), (10, 10, 1)]);
    let reader = store.reader(id(0)).expect("there");
    for offset in 0..9 {
        let bytes = reader.read(offset, 1, i64::MAX).expect("offsets of the range can be asked for");
        assert_eq!(batch::BatchHeader::parse(&bytes).expect("valid").next_offset(), 9);
    }
    let found = reader.find_by_time(0).expect("reads").expect("there");
    assert_eq!(found.offset, 9, "a range has no time");
    // what went before joins what goes now
    put_and_seal(&mut store, keyed(Compression::None, &[("b", Some("11")), ("a", Some("12"))]));
    clean(&mut store, 100);
    let shape: Vec<(i64, i64)> = headers(&store).iter().map(|h| (h.base_offset, h.last_offset())).collect();
    assert_eq!(shape, [(0, 10), (11, 12)]);
}

#[test]
fn tombstones_stay_for_their_retention_after_they_were_first_met() {
    let disk = FaultyDisk::new(3);
    let mut store = fresh(&disk, compacted());
    put_and_seal(&mut store, keyed(Compression::Lz4, &[("a", Some("1")), ("b", Some("2"))]));
    put_and_seal(&mut store, keyed(Compression::Lz4, &[("a", None)]));
    clean(&mut store, 10_000);
    assert_eq!(seen(&store), ["1 b=2", "2 a=-"], "however old the record is");
    let dirt = |store: &Store, now_ms| store.dirt(id(0), 3, now_ms).expect("there").expect("compacted");
    assert!(!dirt(&store, 10_999).due);
    clean(&mut store, 10_999);
    assert_eq!(seen(&store), ["1 b=2", "2 a=-"], "a second run does not begin the time anew");
    drop(store);
    disk.power_cut();
    let mut store = open(&disk).0;
    assert!(dirt(&store, 11_000).due, "the time is known after a start");
    clean(&mut store, 11_000);
    assert_eq!(seen(&store), ["1 b=2"]);
    assert!(!dirt(&store, i64::MAX).due);
}

#[test]
fn the_last_batch_of_a_producer_stays_without_its_records() {
    let disk = FaultyDisk::new(4);
    let mut store = fresh(&disk, compacted());
    for sequence in 0..3 {
        put(&mut store, numbered(7, 0, sequence, &["old"]));
    }
    for first in [5, 8, 10] {
        put(&mut store, positioned(9, 0, first, first));
    }
    put_and_seal(&mut store, plain(&["new"], 5));
    put_and_seal(&mut store, keyed(Compression::None, &[("x", Some("1"))]));
    clean(&mut store, 100);
    let shape: Vec<(i64, i64, i64, i32)> = headers(&store)
        .iter()
        .map(|h| (h.base_offset, h.last_offset(), h.producer_id, h.record_count))
        .collect();
    assert_eq!(
        shape,
        [(0, 1, -1, 0), (2, 2, 7, 0), (3, 4, -1, 0), (5, 5, 9, 0), (6, 6, -1, 1), (7, 7, -1, 1)]
    );
    drop(store);
    disk.power_cut();
    let mut store = open(&disk).0;
    let repeat = Outcome::Duplicate { base_offset: 2, last_offset: 2 };
    assert_eq!(try_put(&mut store, numbered(7, 0, 2, &["old"])), Ok(repeat));
    let repeat = Outcome::Duplicate { base_offset: -1, last_offset: 5 };
    assert_eq!(try_put(&mut store, positioned(9, 0, 8, 10)), Ok(repeat));
    assert_eq!(put(&mut store, numbered(7, 0, 3, &["next"])), 8);
    assert_eq!(put(&mut store, positioned(9, 0, 11, 11)), 9);
}

/// One producer's transaction is known as aborted.
#[derive(Debug)]
struct Aborted(i64);

impl AbortedData for Aborted {
    fn is_aborted(&self, producer_id: i64, _base_offset: i64) -> bool {
        producer_id == self.0
    }
}

fn transactional(producer: i64, epoch: i16, key: &str, value: &str) -> Append {
    let mut builder = BatchBuilder::new(Compression::None).producer(producer, epoch, 0).transactional();
    builder.push(&record(key, Some(value)));
    append_of(builder.build())
}

#[test]
fn markers_stay_while_there_is_data_and_aborted_data_covers_nothing() {
    let disk = FaultyDisk::new(5);
    let mut store = fresh(&disk, compacted());
    put(&mut store, keyed(Compression::None, &[("a", Some("1"))]));
    // committed by 7, aborted by 8
    put(&mut store, transactional(7, 0, "b", "2"));
    put(&mut store, transactional(8, 0, "a", "3"));
    put(&mut store, append_of(batch::end_marker(7, 1, Ending::Commit, 1, 5)));
    put(&mut store, append_of(batch::end_marker(8, 1, Ending::Abort, 1, 5)));
    // both go on, so nothing here is the last of a producer
    put(&mut store, transactional(7, 1, "c", "5"));
    put_and_seal(&mut store, transactional(8, 1, "d", "6"));
    let aborted = Arc::new(Aborted(8));
    clean_with(&mut store, 100, aborted.clone());
    let data = |store: &Store| -> Vec<i64> {
        headers(store).iter().filter(|h| h.record_count > 0).map(|h| h.base_offset).collect()
    };
    assert_eq!(data(&store), [0, 1, 3, 4, 5], "the aborted a=3 is gone and did not cover a=1");
    put_and_seal(&mut store, keyed(Compression::None, &[("b", Some("7"))]));
    clean_with(&mut store, 1_100, aborted.clone());
    assert_eq!(data(&store), [0, 3, 5, 7], "the abort marker's time is over, the commit marker's has begun");
    clean_with(&mut store, 2_099, aborted.clone());
    assert_eq!(data(&store), [0, 3, 5, 7]);
    clean_with(&mut store, 2_100, aborted);
    assert_eq!(data(&store), [0, 5, 7]);
}

#[test]
fn a_reader_goes_on_over_the_switch_and_old_files_go_after_the_checkpoint() {
    let disk = FaultyDisk::new(6);
    let mut store = fresh(&disk, compacted());
    for n in 0..4 {
        let value = n.to_string();
        put_and_seal(&mut store, keyed(Compression::None, &[("a", Some(&value)), ("b", Some(&value))]));
    }
    let reader = store.reader(id(0)).expect("there");
    let held = reader.read(0, 1 << 20, i64::MAX).expect("reads");
    clean(&mut store, 100);
    assert_eq!(batch::records(&held).expect("whole").len(), 2, "who holds the old bytes keeps them");
    let logs = |disk: &FaultyDisk| -> Vec<String> {
        let files = disk.files();
        let names = files.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        names.filter(|name| name.ends_with(".log")).collect()
    };
    assert_eq!(logs(&disk).len(), 6, "four old, the new one, the active one");
    assert_eq!(inspect::verify_disk(&disk).expect("reads").problems, [""; 0], "only one of both counts");
    let bytes = reader.read(0, 1 << 20, i64::MAX).expect("the same handle sees the new segment");
    assert_eq!(batch::BatchHeader::parse(&bytes).expect("valid").next_offset(), 6);
    store.maintain(60_000);
    assert_eq!(logs(&disk).len(), 2);
    assert_eq!(seen(&store), ["6 a=3", "7 b=3"]);
    assert_eq!(inspect::verify_disk(&disk).expect("reads").problems, [""; 0]);
}

#[test]
fn a_small_map_takes_several_runs() {
    let disk = FaultyDisk::new(7);
    let config = StoreConfig { cleaner_map_bytes: 200, ..small() };
    let (mut store, _) = Store::open(Arc::new(disk.clone()), config, 1).expect("opens");
    store.create(id(0), compacted()).expect("new");
    for round in 0..2 {
        for n in 0..10 {
            let (key, value) = (format!("k{n}"), format!("{round}"));
            put(&mut store, keyed(Compression::None, &[(&key, Some(&value))]));
        }
        store.seal(id(0)).expect("alive");
        store.sync();
    }
    let mut runs = 0;
    while store.dirt(id(0), 20, 100).expect("there").expect("compacted").dirty_bytes > 0 {
        let before = store.facts(id(0)).expect("there").cleaned.through;
        clean(&mut store, 100);
        assert!(store.facts(id(0)).expect("there").cleaned.through > before);
        runs += 1;
    }
    assert!(runs >= 5, "{runs} runs");
    let expected: Vec<String> = (0..10).map(|n| format!("{} k{n}=1", n + 10)).collect();
    assert_eq!(seen(&store), expected);
}

#[test]
fn a_replacement_is_void_when_its_segments_went_or_compaction_ended() {
    let disk = FaultyDisk::new(8);
    let mut store = fresh(&disk, PartitionConfig { own_retention: true, ..compacted() });
    let replacement = |store: &mut Store| {
        let mut job =
            store.begin_clean(id(0), 100, 100, Arc::new(NothingAborted)).expect("alive").expect("dirty");
        loop {
            if let CleanStep::Replace(replacement) = job.step().expect("well") {
                return replacement;
            }
        }
    };
    for n in 0..3 {
        put_and_seal(&mut store, keyed(Compression::None, &[("a", Some(&n.to_string()))]));
    }
    let late = replacement(&mut store);
    store.set_log_start(id(0), 1).expect("alive");
    assert!(!store.switch_cleaned(&late).expect("alive"));
    store.sync();
    assert_eq!(seen(&store), ["1 a=1", "2 a=2"]);
    let late = replacement(&mut store);
    store.configure(id(0), PartitionConfig { compaction: None, ..compacted() }).expect("alive");
    assert!(!store.switch_cleaned(&late).expect("alive"));
    store.sync();
    assert_eq!(seen(&store), ["1 a=1", "2 a=2"]);
    store.maintain(60_000);
    let left = disk.files().iter().filter(|path| path.to_string_lossy().contains(".000")).count();
    assert_eq!(left, 0, "nothing is left of what was not used");
}

#[test]
fn compact_and_delete_together_lose_old_segments_too() {
    let disk = FaultyDisk::new(9);
    let config = PartitionConfig { own_retention: true, retention_ms: Some(1_000), ..compacted() };
    let mut store = fresh(&disk, config);
    put_and_seal(&mut store, keyed(Compression::None, &[("a", Some("1")), ("b", Some("1"))]));
    put_and_seal(&mut store, keyed(Compression::None, &[("a", Some("2"))]));
    clean(&mut store, 100);
    assert_eq!(seen(&store), ["1 b=1", "2 a=2"]);
    store.maintain(900);
    assert_eq!(seen(&store), ["1 b=1", "2 a=2"]);
    store.maintain(5_000);
    assert_eq!(seen(&store), [""; 0]);
    assert_eq!(store.facts(id(0)).expect("there").log_start, 3);
}

#[test]
fn a_full_disk_or_a_damaged_segment_stops_a_run_and_nothing_else() {
    let disk = FaultyDisk::new(10);
    let mut store = fresh(&disk, compacted());
    put_and_seal(&mut store, keyed(Compression::None, &[("a", Some("1"))]));
    put_and_seal(&mut store, keyed(Compression::None, &[("a", Some("2"))]));
    let path = crate::segment::log_path(id(0), 0);
    disk.flip_bit(&path, 65).expect("there");
    let mut job = store.begin_clean(id(0), 2, 100, Arc::new(NothingAborted)).expect("alive").expect("dirty");
    let error = loop {
        match job.step() {
            Ok(step) => assert!(matches!(step, CleanStep::More { .. })),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("cannot be cleaned"), "{error}");
    drop(job);
    assert_eq!(store.facts(id(0)).expect("there").failed, None);
    let disk = FaultyDisk::new(10);
    let mut store = fresh(&disk, compacted());
    put_and_seal(&mut store, keyed(Compression::None, &[("a", Some("1"))]));
    put_and_seal(&mut store, keyed(Compression::None, &[("a", Some("2"))]));
    let used = disk.used_bytes();
    disk.set_faults(crate::faulty::Faults { capacity_bytes: Some(used), ..Default::default() });
    let mut job = store.begin_clean(id(0), 2, 100, Arc::new(NothingAborted)).expect("alive").expect("dirty");
    let error = loop {
        match job.step() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(crate::partition::is_full(&error), "{error}");
    drop(job);
    disk.set_faults(crate::faulty::Faults::default());
    clean(&mut store, 100);
    assert_eq!(seen(&store), ["1 a=2"]);
}

#[test]
fn what_the_object_store_has_too_is_not_cleaned() {
    let disk = FaultyDisk::new(11);
    let mut store = fresh(&disk, compacted());
    put_and_seal(&mut store, keyed(Compression::None, &[("a", Some("1"))]));
    put_and_seal(&mut store, keyed(Compression::None, &[("a", None)]));
    store.evict_local(id(0), 1).expect("alive");
    store.sync();
    assert_eq!(store.dirt(id(0), 2, 100).expect("there"), None);
    assert!(store.begin_clean(id(0), 2, 100, Arc::new(NothingAborted)).expect("alive").is_none());
}

#[test]
fn a_directory_that_does_not_sync_stops_the_partition() {
    let disk = FaultyDisk::new(12);
    let mut store = fresh(&disk, compacted());
    put_and_seal(&mut store, keyed(Compression::None, &[("a", Some("1"))]));
    put_and_seal(&mut store, keyed(Compression::None, &[("a", Some("2"))]));
    let mut job = store.begin_clean(id(0), 2, 100, Arc::new(NothingAborted)).expect("alive").expect("dirty");
    disk.set_faults(crate::faulty::Faults { fail_sync_of: Some("partitions"), ..Default::default() });
    let error = loop {
        match job.step() {
            Ok(step) => assert!(matches!(step, CleanStep::More { .. })),
            Err(error) => break error,
        }
    };
    store.abandon_clean(id(0), &error);
    // the segment itself was what failed here: nothing of the partition is in doubt
    let is_of_names = error.to_string().contains("directory");
    assert_eq!(store.facts(id(0)).expect("there").failed.is_some(), is_of_names, "{error}");
    assert_eq!(seen(&store), ["0 a=1", "1 a=2"]);
}
