use std::sync::Arc;

use super::*;
use crate::LogError;

#[test]
fn nothing_is_visible_before_the_sync_and_everything_after() {
    let disk = FaultyDisk::new(1);
    let mut store = fresh(&disk, PartitionConfig::default());
    let reader = store.reader(id(0)).expect("there");
    assert_eq!(put(&mut store, plain(&["a", "b"], 1)), 0);
    assert_eq!(put(&mut store, plain(&["c"], 1)), 2);
    assert_eq!((reader.end(), store.facts(id(0)).expect("there").end), (0, 3));
    let outcome = store.sync();
    assert_eq!(outcome.durable, [(id(0), 3)]);
    assert!(outcome.failed.is_empty());
    assert_eq!(values(&store), ["a", "b", "c"]);
    assert_eq!(store.sync(), crate::SyncOutcome::default(), "nothing to do");
}

#[test]
fn a_store_closed_in_order_opens_as_it_was() {
    let disk = FaultyDisk::new(2);
    let mut store = fresh(&disk, PartitionConfig::default());
    put(&mut store, plain(&["a"], 1));
    store.begin_epoch(id(0), 4).expect("there");
    store.append(id(0), plain(&["b"], 1), 4, 10).expect("news");
    store.close().expect("closes");
    let (store, recovered) = open(&disk);
    assert!(store.was_clean());
    assert_eq!(recovered.len(), 1);
    assert_eq!((recovered[0].end, recovered[0].leader_epoch, recovered[0].truncated_bytes), (2, 4, 0));
    assert_eq!(values(&store), ["a", "b"]);
    assert_eq!(store.epochs(id(0)).expect("there"), [(1, 0), (4, 1)]);
    drop(store);
    assert!(!open(&disk).0.was_clean(), "the marker counts once");
}

#[test]
fn what_was_synced_survives_and_what_was_not_is_gone() {
    for seed in 0..20 {
        let disk = FaultyDisk::new(seed);
        let mut store = fresh(&disk, PartitionConfig::default());
        put(&mut store, plain(&["small"], 1));
        store.sync();
        put(&mut store, large(20_000, b'x'));
        store.sync();
        put(&mut store, plain(&["after"], 1));
        store.sync();
        put(&mut store, plain(&["never synced"], 1));
        disk.power_cut();
        drop(store);
        let (mut store, recovered) = open(&disk);
        assert_eq!((recovered[0].end, recovered[0].quarantined.as_deref()), (3, None), "seed {seed}");
        let read = values(&store);
        assert_eq!((read[0].as_str(), read[1].len(), read[2].as_str()), ("small", 20_000, "after"));
        assert_eq!(put(&mut store, plain(&["goes on"], 1)), 3, "seed {seed}");
        store.sync();
        assert_eq!(values(&store)[3], "goes on");
    }
}

#[test]
fn the_directory_has_one_owner() {
    let disk = FaultyDisk::new(3);
    let (store, _) = open(&disk);
    let second = Store::open(Arc::new(disk.clone()), small(), 1);
    assert!(matches!(second, Err(LogError::Locked(_))));
    drop(store);
    open(&disk);
}

#[test]
fn base_offset_and_epoch_are_stamped_and_nothing_else() {
    let disk = FaultyDisk::new(4);
    let mut store = fresh(&disk, PartitionConfig::default());
    for append in [plain(&["a"], 7), large(70_000, 1), large(9_000, 2)] {
        let sent = append.bytes.clone();
        let base = put(&mut store, append);
        store.sync();
        let reader = store.reader(id(0)).expect("there");
        let read = reader.read(base, 1, i64::MAX).expect("readable");
        assert_eq!(read[16..], sent[16..]);
        let header = batch::validate(&read).expect("valid");
        assert_eq!((header.base_offset, header.leader_epoch), (base, 1));
    }
}

#[test]
fn producers_are_remembered_over_a_power_cut() {
    for clean in [false, true] {
        let disk = FaultyDisk::new(5);
        let mut store = fresh(&disk, PartitionConfig::default());
        put(&mut store, numbered(9, 0, 0, &["a", "b"]));
        put(&mut store, positioned(11, 2, 5, 8));
        store.sync();
        let mut lost = positioned(11, 2, 9, 9);
        match clean {
            true => drop(store.close().expect("closes")),
            false => {
                put(&mut store, lost.clone());
                disk.power_cut();
                drop(store);
            }
        }
        let (mut store, _) = open(&disk);
        let again = Outcome::Duplicate { base_offset: 0, last_offset: 1 };
        assert_eq!(try_put(&mut store, numbered(9, 0, 0, &["a", "b"])), Ok(again));
        let again = Outcome::Duplicate { base_offset: -1, last_offset: 2 };
        assert_eq!(try_put(&mut store, positioned(11, 2, 5, 8)), Ok(again));
        assert_eq!(store.last_position(id(0), 11).expect("there"), Some(8));
        lost.header.base_offset = 0;
        assert_eq!(put(&mut store, lost), 3, "what was lost is news");
        assert!(matches!(
            try_put(&mut store, numbered(9, 0, 5, &["x"])),
            Err(Refusal::SequenceGap { expected: 2, .. })
        ));
    }
}

#[test]
fn a_deleted_partition_is_gone_and_its_id_can_be_used_again() {
    let disk = FaultyDisk::new(6);
    let mut store = fresh(&disk, PartitionConfig::default());
    put(&mut store, plain(&["old"], 1));
    store.sync();
    let reader = store.reader(id(0)).expect("there");
    store.delete(id(0)).expect("there");
    store.sync();
    assert!(matches!(reader.read(0, 1, 9), Err(LogError::UnknownPartition(_))));
    assert!(matches!(store.facts(id(0)), Err(LogError::UnknownPartition(_))));
    store.create(id(0), PartitionConfig::default()).expect("new");
    put(&mut store, plain(&["new"], 1));
    store.sync();
    assert_eq!(values(&store), ["new"]);
    disk.power_cut();
    drop(store);
    let (mut store, recovered) = open(&disk);
    assert_eq!((recovered.len(), recovered[0].end), (1, 1));
    assert_eq!(values(&store), ["new"]);
    store.delete(id(0)).expect("there");
    store.sync();
    disk.power_cut();
    drop(store);
    let (store, recovered) = open(&disk);
    assert!(recovered.is_empty() && store.partitions().is_empty());
    assert!(disk.files().iter().all(|path| !path.starts_with("partitions")), "{:?}", disk.files());
}

#[test]
fn settings_are_stored_with_the_partition() {
    let disk = FaultyDisk::new(7);
    let mut store = fresh(&disk, PartitionConfig::default());
    let changed =
        PartitionConfig { retention_bytes: Some(5), max_batch_bytes: 100, ..PartitionConfig::default() };
    store.configure(id(0), changed).expect("there");
    store.sync();
    disk.power_cut();
    drop(store);
    let (mut store, recovered) = open(&disk);
    assert_eq!(recovered[0].config, changed);
    let refused = try_put(&mut store, large(200, 1));
    assert!(matches!(refused, Err(Refusal::BatchTooLarge { limit: 100, .. })), "{refused:?}");
}

#[test]
fn a_lazy_partition_survives_a_kill_and_may_lose_its_tail_with_the_power() {
    let lazy = PartitionConfig { fsync: false, segment_bytes: 2_000, ..PartitionConfig::default() };
    for seed in 0..30 {
        let disk = FaultyDisk::new(seed);
        let mut store = fresh(&disk, lazy);
        let put_some = |store: &mut Store, from: i32, to: i32| {
            for n in from..to {
                put(store, numbered(3, 0, n, &[&format!("value {n}")]));
                assert_eq!(store.sync().durable, [(id(0), i64::from(n) + 1)]);
            }
        };
        put_some(&mut store, 0, 60);
        disk.kill();
        drop(store);
        let (mut store, recovered) = open(&disk);
        assert_eq!((recovered[0].end, recovered[0].quarantined.as_deref()), (60, None), "seed {seed}");
        put_some(&mut store, 60, 100);
        disk.power_cut();
        drop(store);
        let (mut store, recovered) = open(&disk);
        assert_eq!(recovered[0].quarantined.as_deref(), None, "seed {seed}");
        let end = recovered[0].end;
        assert!((60..=100).contains(&end), "seed {seed}: what an earlier start found is on the disk");
        let expect: Vec<String> = (0..end).map(|n| format!("value {n}")).collect();
        assert_eq!(values(&store), expect, "seed {seed}");
        put_some(&mut store, end as i32, end as i32 + 3);
    }
}

#[test]
fn what_a_lazy_partition_holds_is_durable_once_it_is_asked_to_be() {
    for seed in 0..10 {
        let disk = FaultyDisk::new(seed);
        let mut store = fresh(&disk, PartitionConfig { fsync: false, ..PartitionConfig::default() });
        put(&mut store, plain(&["a"], 1));
        store.sync();
        store.configure(id(0), PartitionConfig::default()).expect("there");
        put(&mut store, plain(&["b"], 1));
        store.sync();
        disk.power_cut();
        drop(store);
        assert_eq!(values(&open(&disk).0), ["a", "b"], "seed {seed}");
    }
}

#[test]
fn many_appends_go_through_many_journal_files_which_are_used_again() {
    let disk = FaultyDisk::new(8);
    let mut store = fresh(&disk, PartitionConfig::default());
    for n in 0..200 {
        put(&mut store, large(5_000, n as u8));
        store.sync();
    }
    let journals = disk.files().iter().filter(|path| path.starts_with("journal")).count();
    assert!(journals <= 6, "{journals} files: {:?}", disk.files());
    disk.power_cut();
    drop(store);
    let (store, recovered) = open(&disk);
    assert_eq!(recovered[0].end, 200);
    let read = read_all(&store.reader(id(0)).expect("there"));
    assert!(read.iter().all(|(offset, value)| value[0] == *offset as u8));
}

#[test]
fn producers_beyond_the_bound_are_forgotten_but_not_positioned_ones() {
    let disk = FaultyDisk::new(9);
    let config = StoreConfig { producers_max: 16, ..small() };
    let (mut store, _) = Store::open(Arc::new(disk.clone()), config, 1).expect("opens");
    store.create(id(0), PartitionConfig::default()).expect("new");
    put(&mut store, positioned(1, 0, 1, 1));
    for producer in 100..200 {
        put(&mut store, numbered(producer, 0, 0, &["x"]));
    }
    store.sync();
    assert!(matches!(try_put(&mut store, positioned(1, 0, 1, 1)), Ok(Outcome::Duplicate { .. })));
    assert!(matches!(try_put(&mut store, numbered(199, 0, 0, &["x"])), Ok(Outcome::Duplicate { .. })));
    assert_eq!(put(&mut store, numbered(100, 0, 0, &["x"])), 101, "forgotten");
    store.maintain(i64::MAX);
    assert_eq!(put(&mut store, numbered(199, 0, 0, &["x"])), 102, "silent for too long");
    assert!(matches!(try_put(&mut store, positioned(1, 0, 1, 1)), Ok(Outcome::Duplicate { .. })));
}

#[test]
fn bytes_whose_note_was_lost_are_cut_off() {
    let disk = FaultyDisk::new(10);
    let mut store = fresh(&disk, PartitionConfig::default());
    put(&mut store, plain(&["kept"], 1));
    store.sync();
    put(&mut store, large(20_000, 1));
    let faults = crate::faulty::Faults { fail_write_to: Some("journal"), ..Default::default() };
    disk.set_faults(faults);
    assert_eq!(store.sync().failed.len(), 1);
    disk.kill();
    drop(store);
    let (mut store, recovered) = open(&disk);
    assert_eq!((recovered[0].end, recovered[0].quarantined.as_deref()), (1, None));
    assert!(recovered[0].truncated_bytes > 20_000, "{recovered:?}");
    let file = store.disk().open(&crate::segment::log_path(id(0), 0)).expect("there");
    assert_eq!(file.bytes().expect("readable"), 73);
    assert_eq!(put(&mut store, plain(&["next"], 1)), 1);
    store.sync();
    assert_eq!(values(&store), ["kept", "next"]);
}
