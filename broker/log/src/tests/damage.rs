use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::LogError;
use crate::inspect::verify_disk;
use crate::segment::{index_path, log_path};

/// Bytes of the batch with "one".
const FIRST_BYTES: u64 = 72;

/// Two partitions with three batches each in the first segment.
fn prepared(disk: &FaultyDisk) -> Store {
    let mut store = fresh(disk, PartitionConfig::default());
    store.create(id(1), PartitionConfig::default()).expect("new");
    for value in ["one", "two", "three"] {
        put(&mut store, plain(&[value], 1));
        store.append(id(1), plain(&[value], 1), 1, 1).expect("news");
        store.sync();
    }
    store
}

#[test]
fn damage_below_the_durable_frontier_quarantines_and_cuts_nothing() {
    let disk = FaultyDisk::new(1);
    let mut store = prepared(&disk);
    store.maintain(100_000);
    disk.kill();
    drop(store);
    let second_batch = FIRST_BYTES + 70;
    disk.flip_bit(&log_path(id(0), 0), second_batch).expect("there");
    let found: Vec<Recovered> = (0..2)
        .map(|_| {
            let (mut store, recovered) = open(&disk);
            assert_eq!(values(&store), ["one"], "readable up to the damage");
            let refused = try_put(&mut store, plain(&["x"], 1));
            assert!(matches!(refused, Err(Refusal::Failed { .. })), "{refused:?}");
            assert!(store.append(id(1), plain(&["four"], 1), 1, 1).is_ok(), "the other one goes on");
            let file = store.disk().open(&log_path(id(0), 0)).expect("there");
            assert!(file.bytes().expect("readable") >= 3 * FIRST_BYTES, "nothing was cut");
            recovered[0].clone()
        })
        .collect();
    assert!(found[0].quarantined.as_deref().is_some_and(|why| why.contains("damaged")), "{found:?}");
    assert_eq!((found[0].end, found[0].truncated_bytes), (1, 0));
    assert_eq!(found[0], found[1], "the second start says the same");
    let problems = verify_disk(&disk).expect("readable").problems;
    assert!(problems.iter().any(|problem| problem.contains("quarantined")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("damaged at byte 72")), "{problems:?}");
}

#[test]
fn damage_in_a_part_that_only_a_note_speaks_of_is_found() {
    let disk = FaultyDisk::new(2);
    let mut store = prepared(&disk);
    put(&mut store, large(20_000, 1));
    store.sync();
    disk.power_cut();
    drop(store);
    disk.flip_bit(&log_path(id(0), 0), 5_000).expect("there");
    let (store, recovered) = open(&disk);
    assert!(recovered[0].quarantined.is_some() && recovered[1].quarantined.is_none());
    assert_eq!(values(&store), ["one", "two", "three"]);
}

#[test]
fn a_missing_or_short_sealed_segment_quarantines() {
    for short in [false, true] {
        let disk = FaultyDisk::new(3);
        let mut store = prepared(&disk);
        store.seal(id(0)).expect("there");
        put(&mut store, plain(&["four"], 1));
        store.close().expect("closes");
        match short {
            true => {
                crate::Disk::open(&disk, &log_path(id(0), 0)).expect("there").set_bytes(100).expect("cut")
            }
            false => crate::Disk::remove(&disk, &log_path(id(0), 0)).expect("there"),
        }
        let (store, recovered) = open(&disk);
        assert!(recovered[0].quarantined.is_some(), "short: {short}");
        let reader = store.reader(id(0)).expect("there");
        assert!(reader.read(0, 100, 100).is_err());
        assert_eq!(reader.read(3, 100, 100).expect("undamaged").len(), 73);
    }
}

#[test]
fn a_bad_frame_with_good_ones_behind_it_is_damage_of_the_journal() {
    let disk = FaultyDisk::new(4);
    let store = prepared(&disk);
    disk.power_cut();
    drop(store);
    // frames: creation of 0; creation of 1 with the first appends; second; third
    let journal = journal_in_use(&disk);
    disk.flip_bit(&journal, 4096 * 3 + 100).expect("there");
    assert!(verify_disk(&disk).expect("readable").problems.iter().any(|p| p.contains("journal")));
    let (store, recovered) = open(&disk);
    assert!(recovered.iter().all(|partition| partition.quarantined.is_some()), "{recovered:?}");
    assert_eq!(recovered[0].end, 1);
    assert_eq!(values(&store), ["one"]);
    drop(store);
    assert_eq!(open(&disk).1, recovered, "the second start says the same");
}

#[test]
fn a_bad_last_frame_is_a_torn_tail() {
    let disk = FaultyDisk::new(5);
    let store = prepared(&disk);
    disk.power_cut();
    drop(store);
    disk.flip_bit(&journal_in_use(&disk), 4096 * 4 + 100).expect("there");
    let (store, recovered) = open(&disk);
    assert!(recovered.iter().all(|partition| partition.quarantined.is_none()), "{recovered:?}");
    assert_eq!(values(&store), ["one", "two"]);
}

fn journal_in_use(disk: &FaultyDisk) -> PathBuf {
    let first = disk.files().into_iter().find(|path| path.starts_with("journal"));
    first.expect("a journal")
}

#[test]
fn a_damaged_checkpoint_is_refused_or_costs_one_partition() {
    let disk = FaultyDisk::new(6);
    prepared(&disk).close().expect("closes");
    let checkpoint = PathBuf::from("checkpoint");
    let length = crate::Disk::open(&disk, &checkpoint).expect("there").bytes().expect("readable");
    disk.flip_bit(&checkpoint, length - 20).expect("there");
    let (store, recovered) = open(&disk);
    assert!(recovered[0].quarantined.is_none() && recovered[1].quarantined.is_some());
    assert_eq!(values(&store), ["one", "two", "three"]);
    drop(store);
    disk.flip_bit(&checkpoint, 20).expect("there");
    let refused = Store::open(Arc::new(disk.clone()), small(), 1);
    assert!(matches!(refused, Err(LogError::Damaged { .. })));
    crate::Disk::remove(&disk, &checkpoint).expect("there");
    let refused = Store::open(Arc::new(disk.clone()), small(), 1);
    assert!(matches!(refused, Err(LogError::Corrupt { .. })), "a lost checkpoint does not empty the disk");
}

#[test]
fn an_index_that_is_missing_or_damaged_is_built_again() {
    let disk = FaultyDisk::new(7);
    let mut store = fresh(&disk, PartitionConfig { segment_bytes: 4_000, ..PartitionConfig::default() });
    for n in 0..100 {
        put(&mut store, plain(&[&format!("value {n}")], n));
        store.sync();
    }
    store.close().expect("closes");
    let sealed = log_path(id(0), 0);
    assert!(disk.files().contains(&sealed));
    disk.flip_bit(&index_path(id(0), 0), 30).expect("there");
    let second =
        disk.files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "index")).nth(1);
    crate::Disk::remove(&disk, &second.expect("more than one")).expect("there");
    let (store, _) = open(&disk);
    let reader = store.reader(id(0)).expect("there");
    for offset in 0..100 {
        let bytes = reader.read(offset, 1, i64::MAX).expect("readable");
        assert_eq!(batch::validate(&bytes).expect("one batch").base_offset, offset);
        let found = reader.find_by_time(offset).expect("readable").expect("there");
        assert_eq!((found.offset, found.timestamp_ms), (offset, offset));
    }
}

#[test]
fn damage_in_a_sealed_segment_is_not_handed_out() {
    let disk = FaultyDisk::new(8);
    let mut store = prepared(&disk);
    store.seal(id(0)).expect("there");
    store.sync();
    disk.flip_bit(&log_path(id(0), 0), FIRST_BYTES + 70).expect("there");
    let reader = store.reader(id(0)).expect("there");
    assert_eq!(reader.read(0, 72, 100).expect("undamaged").len(), 72);
    assert!(matches!(reader.read(1, 72, 100), Err(LogError::Corrupt { .. })));
}

#[test]
fn a_sound_directory_has_no_problems() {
    let disk = FaultyDisk::new(9);
    let mut store = prepared(&disk);
    store.seal(id(0)).expect("there");
    put(&mut store, large(20_000, 1));
    store.sync();
    let report = verify_disk(&disk).expect("readable");
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!((report.partitions, report.segments, report.records), (2, 3, 7));
    store.close().expect("closes");
    let report = verify_disk(&disk).expect("readable");
    assert_eq!((report.problems, report.batches, report.journal_frames), (Vec::new(), 7, 5));
}
