use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{LogError, TimedOffset};

/// 60 batches of one to three records over several segments; timestamps are ten times the offsets.
fn prepared(disk: &FaultyDisk) -> Store {
    let mut store = fresh(disk, PartitionConfig { segment_bytes: 1_500, ..PartitionConfig::default() });
    let mut next = 0;
    for n in 0..60 {
        let count = n % 3 + 1;
        let mut builder = BatchBuilder::new(Compression::None);
        for offset in next..next + count {
            builder.push(&Record::new("k", format!("{offset}").into_bytes(), offset * 10));
        }
        put(&mut store, append_of(builder.build()));
        next += count;
        store.sync();
    }
    assert!(store.facts(id(0)).expect("there").segments > 3);
    store
}

#[test]
fn a_read_begins_with_the_batch_that_holds_the_offset() {
    let store = prepared(&FaultyDisk::new(1));
    let reader = store.reader(id(0)).expect("there");
    for from in 0..reader.end() {
        for max_bytes in [0, 1, 100, 500, 100_000] {
            let bytes = reader.read(from, max_bytes, i64::MAX).expect("readable");
            let headers: Vec<_> = batch::batches(bytes.clone()).map(|step| step.expect("valid").0).collect();
            assert!(headers[0].base_offset <= from && from < headers[0].next_offset());
            assert!(headers.windows(2).all(|pair| pair[0].next_offset() == pair[1].base_offset));
            assert!(headers.len() == 1 || bytes.len() <= max_bytes, "{} of {max_bytes}", bytes.len());
        }
    }
    assert_eq!(read_all(&reader).len() as i64, reader.end());
    assert!(reader.read(reader.end(), 100, i64::MAX).expect("the end").is_empty());
}

#[test]
fn a_read_stays_below_the_offset_it_is_given() {
    let store = prepared(&FaultyDisk::new(2));
    let reader = store.reader(id(0)).expect("there");
    // batches begin at 0, 1, 3, 6, 7, 9
    for (from, until, expect) in [(0, 3, 3), (0, 2, 1), (1, 2, 0), (0, 0, 0), (3, 5, 0), (3, 6, 6), (4, 7, 7)]
    {
        let bytes = reader.read(from, 10_000, until).expect("readable");
        let end = batch::batches(bytes).last().map_or(0, |step| step.expect("valid").0.next_offset());
        assert_eq!(end, expect, "from {from} until {until}");
    }
}

#[test]
fn offsets_outside_of_the_log_are_refused() {
    let mut store = prepared(&FaultyDisk::new(3));
    let reader = store.reader(id(0)).expect("there");
    assert!(matches!(reader.read(121, 1, 999), Err(LogError::OutOfRange { start: 0, end: 120, .. })));
    assert!(matches!(reader.read(-1, 1, 999), Err(LogError::OutOfRange { .. })));
    store.set_log_start(id(0), 50).expect("within");
    store.sync();
    assert!(matches!(reader.read(49, 1, 999), Err(LogError::OutOfRange { start: 50, .. })));
    assert_eq!(read_all(&reader)[0].0, 50);
    assert!(matches!(store.set_log_start(id(0), 121), Err(LogError::OutOfRange { .. })));
    store.set_log_start(id(0), 10).expect("lower is success");
    store.evict_local(id(0), 90).expect("there");
    store.sync();
    assert!(matches!(reader.read(50, 1, 999), Err(LogError::NotLocal { .. })));
}

#[test]
fn a_time_is_found_wherever_it_is() {
    for mut store in [prepared(&FaultyDisk::new(4)), prepared(&FaultyDisk::new(5))] {
        let reader = store.reader(id(0)).expect("there");
        for ms in 0..1190 {
            let offset = (ms + 9) / 10;
            let expect = TimedOffset { offset, timestamp_ms: offset * 10 };
            assert_eq!(reader.find_by_time(ms).expect("readable"), Some(expect), "{ms}");
        }
        assert_eq!(reader.find_by_time(1191).expect("readable"), None);
        store.set_log_start(id(0), 70).expect("within");
        store.sync();
        assert_eq!(reader.find_by_time(0).expect("readable").map(|found| found.offset), Some(70));
    }
}

#[test]
fn the_first_of_unordered_times_in_offset_order_is_found() {
    let mut store = fresh(&FaultyDisk::new(6), PartitionConfig::default());
    for ms in [50, 10, 90, 20, 95] {
        put(&mut store, plain(&["x"], ms));
    }
    store.sync();
    let reader = store.reader(id(0)).expect("there");
    let found = |ms| reader.find_by_time(ms).expect("readable").map(|found| found.offset);
    assert_eq!(
        [found(0), found(50), found(51), found(91), found(96)],
        [Some(0), Some(0), Some(2), Some(4), None]
    );
}

#[test]
fn a_batch_larger_than_any_buffer_is_read_whole() {
    let mut store = fresh(&FaultyDisk::new(7), PartitionConfig::default());
    put(&mut store, plain(&["small"], 1));
    put(&mut store, large(3 << 20, 1));
    put(&mut store, plain(&["small"], 9));
    store.sync();
    for _ in 0..2 {
        let reader = store.reader(id(0)).expect("there");
        assert!(reader.read(1, 10, i64::MAX).expect("readable").len() > 3 << 20);
        assert_eq!(reader.find_by_time(9).expect("readable").map(|found| found.offset), Some(2));
        assert_eq!(read_all(&reader).len(), 3);
        store.seal(id(0)).expect("there");
        store.sync();
    }
}

#[test]
fn readers_go_on_while_the_log_is_written_rolled_and_shortened() {
    let disk = FaultyDisk::new(8);
    let config = StoreConfig { open_files_max: 2, ..small() };
    let (mut store, _) = Store::open(Arc::new(disk), config, 1).expect("opens");
    let limits =
        PartitionConfig { segment_bytes: 1_000, retention_bytes: Some(5_000), ..PartitionConfig::default() };
    store.create(id(0), limits).expect("new");
    store.sync();
    let reader = store.reader(id(0)).expect("there");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut from = 0;
                while !(done.load(Ordering::Acquire) && from == reader.end()) {
                    match reader.read(from, 700, i64::MAX) {
                        Ok(bytes) => {
                            for step in batch::batches(bytes) {
                                let (header, bytes) = step.expect("valid");
                                assert_eq!(header.base_offset, from);
                                let value = batch::records(&bytes).expect("decodes").remove(0).value;
                                assert_eq!(value.expect("set"), from.to_string().as_bytes());
                                from = header.next_offset();
                            }
                        }
                        Err(LogError::OutOfRange { start, .. }) => from = start,
                        // the log start was raised between the look and the answer
                        Err(LogError::NotLocal { local_start, .. }) => from = local_start,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for n in 0..600 {
            put(&mut store, plain(&[&n.to_string()], n));
            store.sync();
            if n % 20 == 0 {
                store.maintain(n);
            }
        }
        done.store(true, Ordering::Release);
    });
    assert!(reader.log_start() > 0);
}

#[test]
fn what_is_trimmed_leaves_the_disk_long_before_its_segment_is_full() {
    let disk = FaultyDisk::new(1);
    let mut store = fresh(&disk, PartitionConfig::default());
    let (mut most, mut now_ms) = (0, 0);
    for _ in 0..30 {
        for value in 0..10 {
            put(&mut store, large(10_000, value));
        }
        store.sync();
        let end = store.reader(id(0)).expect("there").end();
        store.set_log_start(id(0), end - 1).expect("within");
        store.sync();
        // far enough for a checkpoint
        now_ms += 600_000;
        store.maintain(now_ms);
        most = most.max(disk.used_bytes());
    }
    assert!(most < 600_000, "{most} bytes for one live record of 10,000, 3,000,000 were written");
    assert_eq!(read_all(&store.reader(id(0)).expect("there")).len(), 1);
}
