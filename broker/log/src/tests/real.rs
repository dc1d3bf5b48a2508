use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::{Disk, LogError, RealDisk, inspect};

fn open_real(dir: &Path) -> (Store, Vec<Recovered>) {
    let disk = RealDisk::new(dir).expect("created");
    Store::open(Arc::new(disk), small(), 1).expect("the directory opens")
}

#[test]
fn a_real_directory_is_written_read_killed_and_opened() {
    let dir = tempfile::tempdir().expect("a place");
    let (mut store, _) = open_real(dir.path());
    store
        .create(id(0), PartitionConfig { segment_bytes: 20_000, ..PartitionConfig::default() })
        .expect("new");
    for n in 0..50 {
        put(&mut store, numbered(5, 0, n, &[&format!("value {n}")]));
        if n % 10 == 0 {
            put(&mut store, large(9_000, n as u8));
        }
        assert!(store.sync().failed.is_empty());
    }
    let second = Store::open(Arc::new(RealDisk::new(dir.path()).expect("there")), small(), 1);
    assert!(matches!(second, Err(LogError::Locked(_))));
    let reader = store.reader(id(0)).expect("there");
    let before = read_all(&reader);
    let held = reader.read(0, 1 << 20, 99).expect("readable");
    let copy = held.to_vec();
    drop(store);
    let (mut store, recovered) = open_real(dir.path());
    assert_eq!((recovered[0].end, recovered[0].quarantined.as_deref()), (55, None));
    assert_eq!(read_all(&store.reader(id(0)).expect("there")), before);
    assert!(matches!(try_put(&mut store, numbered(5, 0, 49, &["value 49"])), Ok(Outcome::Duplicate { .. })));
    store.set_log_start(id(0), 50).expect("within");
    store.maintain(100);
    assert_eq!(held, copy, "a mapping outlives its file");
    store.close().expect("closes");
    let (store, _) = open_real(dir.path());
    assert!(store.was_clean());
    let report = inspect::verify(dir.path()).expect("readable");
    assert_eq!(report.problems, Vec::<String>::new());
    let mut segments = Vec::new();
    inspect::dump(dir.path(), &mut |segment| segments.push(segment)).expect("readable");
    assert_eq!(segments.last().map(|segment| segment.end_offset), Some(55));
    assert!(segments.iter().all(|segment| segment.problems.is_empty()));
}

/// Files under a directory that this process has open or mapped, removed ones too.
#[cfg(target_os = "linux")]
fn files_in_use(dir: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").expect("linux").flatten();
    let open = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let open = open.filter(|target| target.starts_with(dir.join("partitions"))).count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("linux");
    let under = dir.join("partitions").to_string_lossy().into_owned();
    open + maps.lines().filter(|line| line.contains(&under)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_deleted_partition_gives_its_room_back() {
    let dir = tempfile::tempdir().expect("a place");
    let (mut store, _) = open_real(dir.path());
    for life in 0..20 {
        store.create(id(life), PartitionConfig::default()).expect("new");
        for n in 0..3 {
            store.append(id(life), plain(&["value"], n), 1, 10).expect("news");
            store.sync();
            assert!(store.seal(id(life)).expect("there"));
            store.sync();
        }
        store.append(id(life), plain(&["not yet synced to its segment"], 9), 1, 10).expect("news");
        store.sync();
        read_all(&store.reader(id(life)).expect("there"));
        assert!(files_in_use(dir.path()) > 0);
        store.delete(id(life)).expect("there");
        store.sync();
        store.maintain(100);
        assert_eq!(files_in_use(dir.path()), 0, "life {life}");
    }
}

#[test]
fn a_real_disk_does_what_the_port_says() {
    let dir = tempfile::tempdir().expect("a place");
    let disk = RealDisk::new(dir.path()).expect("created");
    disk.create_dir(Path::new("a/b")).expect("created");
    let file = disk.create(Path::new("a/b/c")).expect("created");
    file.preallocate(10_000).expect("room");
    assert_eq!(file.bytes().expect("readable"), 10_000);
    file.preallocate(10).expect("never shrinks");
    crate::disk::write_all(file.as_ref(), b"hello", 9_998).expect("written");
    file.sync_data().expect("synced");
    assert_eq!(file.bytes().expect("readable"), 10_003);
    assert_eq!(disk.map(Path::new("a/b/c")).expect("mapped")[9_998..], *b"hello");
    disk.rename(Path::new("a/b/c"), Path::new("a/b/d")).expect("renamed");
    disk.sync_dir(Path::new("a/b")).expect("synced");
    let names = disk.list(Path::new("a/b")).expect("readable");
    assert_eq!(names, [crate::disk::Entry { name: "d".into(), is_dir: false, bytes: 10_003 }]);
    assert!(disk.list(Path::new("missing")).expect("empty").is_empty());
    assert!(disk.free_bytes().expect("known") > 0);
    disk.remove_dir(Path::new("a")).expect("removed");
    disk.remove_dir(Path::new("a")).expect("missing is success");
    assert!(RealDisk::existing(dir.path().join("a")).is_err());
}

#[test]
fn a_sealed_file_is_the_old_or_the_new_one() {
    let path = Path::new("properties");
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let kind = sunseo_proto::envelope::kind::META_PROPERTIES;
        assert_eq!(crate::sealed::read(&disk, path, kind, 1).expect("readable"), None);
        crate::sealed::write(&disk, path, kind, 1, b"old").expect("written");
        let faults = crate::faulty::Faults { stop_after_operations: Some(seed % 6), ..Default::default() };
        disk.set_faults(faults);
        let written = crate::sealed::write(&disk, path, kind, 1, b"new").is_ok();
        disk.power_cut();
        let (_, found) = crate::sealed::read(&disk, path, kind, 1).expect("undamaged").expect("there");
        assert!(found == "new" || (!written && found == "old"), "seed {seed}: {found:?}");
    }
}

/// Frames large enough for the thread that writes them, segments that roll, and checkpoints in the background all the time.
#[test]
fn with_its_threads_a_store_finds_everything_again() {
    let dir = tempfile::tempdir().expect("a place");
    let config = || StoreConfig {
        journal_file_bytes: 4 << 20,
        checkpoint_journal_bytes: 2 << 20,
        disk_headroom_bytes: 0,
        ..StoreConfig::default()
    };
    assert_eq!(config().background, Background::Threads);
    let disk = || Arc::new(RealDisk::new(dir.path()).expect("there"));
    let (mut store, _) = Store::open(disk(), config(), 1).expect("opens");
    let limits = PartitionConfig { segment_bytes: 700_000, ..PartitionConfig::default() };
    (0..4).for_each(|n| store.create(id(n), limits).expect("new"));
    for round in 0..40_u8 {
        for n in 0..4 {
            let bytes = if round % 4 == 0 { 150 } else { 90_000 };
            store.append(id(n), large(bytes, round), 1, i64::from(round)).expect("news");
        }
        let outcome = store.sync();
        assert!(outcome.failed.is_empty() && outcome.durable.len() == 4, "{outcome:?}");
        let newest = read_all(&store.reader(id(1)).expect("there"));
        assert_eq!(newest.last().map(|(offset, value)| (*offset, value[0])), Some((round.into(), round)));
    }
    assert!(store.sealed(id(0)).expect("there").len() > 2);
    drop(store);
    let (store, recovered) = Store::open(disk(), config(), 1).expect("opens again at once");
    assert!(!store.was_clean());
    assert!(recovered.iter().all(|found| found.end == 40 && found.quarantined.is_none()), "{recovered:?}");
    for n in 0..4 {
        let read = read_all(&store.reader(id(n)).expect("there"));
        assert!(read.iter().all(|(offset, value)| value[0] == *offset as u8));
    }
    store.close().expect("closes");
    assert_eq!(inspect::verify(dir.path()).expect("readable").problems, Vec::<String>::new());
}
