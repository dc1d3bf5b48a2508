use std::sync::Arc;

use super::*;
use crate::LogError;
use crate::faulty::Faults;
use crate::segment::PARTITIONS;

fn two_partitions(disk: &FaultyDisk) -> Store {
    let mut store = fresh(disk, PartitionConfig::default());
    store.create(id(1), PartitionConfig::default()).expect("new");
    put(&mut store, plain(&["first"], 1));
    store.append(id(1), plain(&["other"], 1), 1, 10).expect("news");
    store.sync();
    store
}

#[test]
fn when_the_journal_fails_everything_stops_and_reads_go_on() {
    for seed in 0..10 {
        let disk = FaultyDisk::new(seed);
        let mut store = two_partitions(&disk);
        put(&mut store, plain(&["unknown"], 1));
        disk.set_faults(Faults { fail_sync_of: Some("journal"), ..Faults::default() });
        let outcome = store.sync();
        assert!(outcome.durable.is_empty());
        assert_eq!(outcome.failed.iter().map(|failure| failure.id).collect::<Vec<_>>(), [id(0), id(1)]);
        disk.set_faults(Faults::default());
        assert!(matches!(try_put(&mut store, plain(&["x"], 1)), Err(Refusal::Failed { .. })));
        assert!(matches!(store.append(id(1), plain(&["x"], 1), 1, 1), Err(Refusal::Failed { .. })));
        assert!(matches!(store.create(id(2), PartitionConfig::default()), Err(LogError::Failed { .. })));
        assert!(store.sync().durable.is_empty(), "a later success is no success");
        assert_eq!(values(&store), ["first"]);
        disk.power_cut();
        drop(store);
        let (mut store, _) = open(&disk);
        let read = values(&store);
        assert!(read == ["first"] || read == ["first", "unknown"], "seed {seed}: {read:?}");
        put(&mut store, plain(&["again"], 1));
        assert!(store.sync().failed.is_empty());
    }
}

#[test]
fn when_a_segment_fails_its_partition_stops_and_the_others_go_on() {
    let disk = FaultyDisk::new(1);
    let mut store = two_partitions(&disk);
    put(&mut store, large(20_000, 1));
    store.append(id(1), plain(&["more"], 1), 1, 10).expect("news");
    let segment = format!("{}", id(0));
    let segment: &'static str = segment.leak();
    disk.set_faults(Faults { fail_sync_of: Some(segment), ..Faults::default() });
    let outcome = store.sync();
    assert_eq!(outcome.durable, [(id(1), 2)]);
    assert_eq!(outcome.failed.len(), 1);
    assert_eq!(outcome.failed[0].id, id(0));
    assert!(matches!(try_put(&mut store, plain(&["x"], 1)), Err(Refusal::Failed { .. })));
    assert!(store.facts(id(0)).expect("there").failed.is_some());
    assert_eq!(values(&store), ["first"]);
    store.append(id(1), plain(&["and more"], 1), 1, 10).expect("news");
    assert_eq!(store.sync().durable, [(id(1), 3)]);
    disk.power_cut();
    drop(store);
    let (store, recovered) = open(&disk);
    assert_eq!((recovered[0].end, recovered[1].end), (1, 3));
    assert_eq!(values(&store), ["first"]);
}

/// Three partitions whose parts go straight to their segments because together they are large, beside one whose part is journaled.
#[test]
fn of_partitions_that_are_synced_together_only_the_one_that_fails_stops() {
    for (seed, background) in (0..).zip([Background::Steps(usize::MAX), Background::Threads]) {
        let disk = FaultyDisk::new(seed);
        let config = StoreConfig { background, ..small() };
        let (mut store, _) = Store::open(Arc::new(disk.clone()), config, 1).expect("opens");
        for n in 0..4 {
            store.create(id(n), PartitionConfig::default()).expect("new");
        }
        store.sync();
        for n in 0..3 {
            store.append(id(n), large(3_000, b'a'), 1, 10).expect("news");
        }
        store.append(id(3), plain(&["small"], 1), 1, 10).expect("news");
        let segment: &'static str = format!("{}/", id(1)).leak();
        disk.set_faults(Faults { fail_sync_of: Some(segment), ..Faults::default() });
        let outcome = store.sync();
        assert_eq!(outcome.durable, [(id(0), 1), (id(2), 1), (id(3), 1)]);
        assert_eq!(outcome.failed.iter().map(|failure| failure.id).collect::<Vec<_>>(), [id(1)]);
        disk.set_faults(Faults::default());
        store.append(id(2), plain(&["more"], 1), 1, 10).expect("news");
        assert_eq!(store.sync().durable, [(id(2), 2)]);
        disk.power_cut();
        drop(store);
        let (store, recovered) = open(&disk);
        assert_eq!(recovered.iter().map(|found| found.end).collect::<Vec<_>>(), [1, 0, 2, 1]);
        assert_eq!(read_all(&store.reader(id(2)).expect("there")).len(), 2);
    }
}

/// Two new partitions whose names are synced for the same commit: when it is not known whether the first one's directory has its name, a
/// sync for the second one that succeeds says nothing.
#[test]
fn when_names_of_partitions_cannot_be_synced_everything_stops() {
    let disk = FaultyDisk::new(3);
    let (mut store, _) = open(&disk);
    for n in 0..2 {
        store.create(id(n), PartitionConfig::default()).expect("new");
        store.append(id(n), large(9_000, b'a'), 1, 10).expect("news");
    }
    disk.set_faults(Faults { fail_sync_of_names_in: Some(PARTITIONS), ..Faults::default() });
    let outcome = store.sync();
    assert_eq!(outcome.durable, []);
    assert_eq!(outcome.failed.iter().map(|failure| failure.id).collect::<Vec<_>>(), [id(0), id(1)]);
}

/// What goes straight to segments leaves next to nothing in the journal, but recovery reads it all the same.
#[test]
fn large_commits_make_a_checkpoint_due_as_well() {
    let disk = FaultyDisk::new(4);
    let config = StoreConfig { checkpoint_journal_bytes: 256 << 10, ..small() };
    let (mut store, _) = Store::open(Arc::new(disk.clone()), config, 1).expect("opens");
    store.create(id(0), PartitionConfig::default()).expect("new");
    store.sync();
    let frame_of_checkpoint = || crate::checkpoint::read(&disk).expect("readable").frame;
    let before = frame_of_checkpoint();
    for n in 0..30 {
        put(&mut store, large(40_000, n));
        assert_eq!(store.sync().failed, []);
    }
    assert!(frame_of_checkpoint() > before, "30 frames are 120 KiB, what they speak of is 1.2 MB");
}

/// The pages of a failed sync are lost, so what a checkpoint could not sync must still be in the journal when the power goes, however
/// many checkpoints came after.
#[test]
fn what_a_checkpoint_could_not_sync_stays_in_the_journal() {
    for seed in 0..10 {
        let disk = FaultyDisk::new(seed);
        let mut store = two_partitions(&disk);
        store.maintain(100_000);
        put(&mut store, plain(&["second"], 1));
        store.sync();
        let segment: &'static str = format!("{}/", id(0)).leak();
        disk.set_faults(Faults { fail_sync_of: Some(segment), ..Faults::default() });
        let outcome = store.maintain(200_000);
        assert_eq!(outcome.failed.iter().map(|failure| failure.id).collect::<Vec<_>>(), [id(0)]);
        disk.set_faults(Faults::default());
        for n in 0..40 {
            store.append(id(1), large(6_000, n), 1, 10).expect("news");
            assert_eq!(store.sync().failed, []);
            store.maintain(300_000 + i64::from(n) * 40_000);
        }
        assert_eq!(values(&store), ["first", "second"], "reads go on");
        disk.power_cut();
        drop(store);
        let (store, recovered) = open(&disk);
        assert_eq!((recovered[0].end, recovered[1].end), (2, 41), "seed {seed}");
        assert_eq!(values(&store), ["first", "second"], "seed {seed}");
        assert!(recovered.iter().all(|partition| partition.quarantined.is_none()));
    }
}

/// The same while the checkpoint is taken a step at a time, and appends go on between its steps.
#[test]
fn a_sync_that_fails_in_the_background_stops_its_partition_and_frees_no_journal() {
    for seed in 0..10 {
        let disk = FaultyDisk::new(seed);
        let config = StoreConfig { background: Background::Steps(1), ..small() };
        let (mut store, _) = Store::open(Arc::new(disk.clone()), config, 1).expect("opens");
        for n in 0..2 {
            store.create(id(n), PartitionConfig::default()).expect("new");
            store.append(id(n), plain(&["first"], 1), 1, 10).expect("news");
        }
        store.sync();
        (0..20).for_each(|_| drop(store.maintain(100_000)));
        put(&mut store, plain(&["second"], 1));
        store.sync();
        let segment: &'static str = format!("{}/", id(0)).leak();
        disk.set_faults(Faults { fail_sync_of: Some(segment), ..Faults::default() });
        let mut failed = store.maintain(200_000).failed;
        for n in 0..40 {
            store.append(id(1), large(6_000, n), 1, 10).expect("news");
            failed.extend(store.sync().failed);
            if !failed.is_empty() {
                disk.set_faults(Faults::default());
            }
        }
        assert_eq!(failed.iter().map(|failure| failure.id).collect::<Vec<_>>(), [id(0)], "seed {seed}");
        assert_eq!(values(&store), ["first", "second"], "reads go on");
        disk.power_cut();
        drop(store);
        let (store, recovered) = open(&disk);
        assert_eq!((recovered[0].end, recovered[1].end), (2, 41), "seed {seed}");
        assert_eq!(values(&store), ["first", "second"], "seed {seed}");
        assert!(recovered.iter().all(|partition| partition.quarantined.is_none()));
    }
}

#[test]
fn a_segment_that_cannot_be_written_after_the_journal_fails_its_partition() {
    let disk = FaultyDisk::new(2);
    let mut store = two_partitions(&disk);
    put(&mut store, plain(&["journaled"], 1));
    disk.set_faults(Faults { fail_write_to: Some(".log"), ..Faults::default() });
    let outcome = store.sync();
    assert_eq!((outcome.durable.len(), outcome.failed.len()), (0, 1));
    assert_eq!(values(&store), ["first"]);
    disk.power_cut();
    drop(store);
    assert_eq!(values(&open(&disk).0), ["first", "journaled"], "the journal has it");
}

#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
    let disk = FaultyDisk::new(3);
    let config = StoreConfig { disk_headroom_bytes: 100_000, ..small() };
    let (mut store, _) = Store::open(Arc::new(disk.clone()), config, 1).expect("opens");
    let limits = PartitionConfig {
        segment_bytes: 30_000,
        retention_bytes: Some(60_000),
        ..PartitionConfig::default()
    };
    store.create(id(0), limits).expect("new");
    store.sync();
    disk.set_faults(Faults { capacity_bytes: Some(disk.used_bytes() + 400_000), ..Faults::default() });
    let mut appended = 0;
    let refusal = loop {
        match store.append(id(0), numbered(1, 0, appended, &["x".repeat(5_000).as_str()]), 1, 10) {
            Ok(_) => appended += 1,
            Err(refusal) => break refusal,
        }
        assert!(store.sync().failed.is_empty());
        assert!(appended < 100, "it is full at some point");
    };
    assert_eq!(refusal, Refusal::DiskFull { headroom: 100_000 });
    assert!(appended > 20);
    let facts = store.facts(id(0)).expect("there");
    assert_eq!((facts.end, facts.failed), (i64::from(appended), None), "nothing was appended");
    let repeated = store.append(id(0), numbered(1, 0, appended - 1, &["x".repeat(5_000).as_str()]), 1, 10);
    assert!(matches!(repeated, Ok(Outcome::Duplicate { .. })), "an answer that was lost is still given");
    store.maintain(10);
    let next = numbered(1, 0, appended, &["x"]);
    assert!(matches!(store.append(id(0), next, 1, 10), Ok(Outcome::Appended { .. })), "retention made room");
    assert!(store.sync().failed.is_empty());
    disk.power_cut();
    drop(store);
    let (store, recovered) = open(&disk);
    assert_eq!(recovered[0].end, i64::from(appended) + 1);
    assert!(store.facts(id(0)).expect("there").log_start > 0);
}

#[test]
fn a_disk_that_fills_up_below_the_headroom_refuses_too() {
    for room in (0..120_000).step_by(7_001) {
        let disk = FaultyDisk::new(4);
        let mut store = fresh(&disk, PartitionConfig { segment_bytes: 20_000, ..PartitionConfig::default() });
        disk.set_faults(Faults { capacity_bytes: Some(disk.used_bytes() + room), ..Faults::default() });
        let mut appended = 0;
        while appended < 100 && try_put(&mut store, large(3_000, 1)).is_ok() {
            appended += 1;
            assert!(store.sync().failed.is_empty(), "room {room}: what was taken has its room");
        }
        assert!(matches!(try_put(&mut store, large(3_000, 1)), Err(Refusal::DiskFull { .. })), "room {room}");
        disk.set_faults(Faults::default());
        assert!(try_put(&mut store, large(3_000, 1)).is_ok());
        assert_eq!(store.sync().durable, [(id(0), appended + 1)], "room {room}");
        disk.power_cut();
        drop(store);
        assert_eq!(open(&disk).1[0].end, appended + 1, "room {room}");
    }
}

#[test]
fn what_frees_a_full_disk_can_still_be_noted() {
    let disk = FaultyDisk::new(5);
    // no checkpoint gives a journal file back meanwhile
    let config = StoreConfig { checkpoint_journal_bytes: 1 << 20, ..small() };
    let (mut store, _) = Store::open(Arc::new(disk.clone()), config, 1).expect("opens");
    store.create(id(0), PartitionConfig::default()).expect("new");
    put(&mut store, plain(&["x"], 1));
    store.sync();
    // less than a journal file
    disk.set_faults(Faults { capacity_bytes: Some(disk.used_bytes() + 30_000), ..Faults::default() });
    let mut appended = 1;
    while appended < 100 && try_put(&mut store, plain(&["x"], 1)).is_ok() {
        appended += 1;
        assert!(store.sync().failed.is_empty());
    }
    assert!((10..100).contains(&appended), "{appended}: the journal has its present file and the next one");
    for log_start in 1..=3 {
        store.set_log_start(id(0), log_start).expect("alive");
        assert!(store.sync().failed.is_empty(), "{log_start}");
    }
    disk.set_faults(Faults::default());
    assert_eq!(put(&mut store, plain(&["x"], 1)), appended);
    assert!(store.sync().failed.is_empty());
}

/// The open says nothing of it: what a file system takes past the page cache shows with the first write.
#[test]
fn a_file_system_that_refuses_to_write_past_the_page_cache_is_written_through_it() {
    let disk = FaultyDisk::new(1);
    disk.set_faults(Faults { refuse_page_writes: true, ..Faults::default() });
    let mut store = fresh(&disk, PartitionConfig::default());
    for n in 0..40 {
        put(&mut store, large(3_000, n));
        assert!(store.sync().failed.is_empty(), "the journal goes on");
    }
    assert_eq!(disk.page_writes_refused(), 1, "it is asked once, over several journal files");
    let before = values(&store);
    disk.power_cut();
    let (store, _) = open(&disk);
    assert_eq!(values(&store), before, "what was acknowledged is durable");
}
