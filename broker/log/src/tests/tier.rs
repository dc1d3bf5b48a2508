use super::*;
use crate::{LogError, RestoredSegment, SealedFacts};

fn tiered() -> PartitionConfig {
    let (retention_ms, retention_bytes) = (Some(1), Some(1));
    PartitionConfig { own_retention: false, retention_ms, retention_bytes, ..PartitionConfig::default() }
}

/// Three sealed segments of three batches each, and two batches in the active one.
fn prepared(disk: &FaultyDisk) -> Store {
    let mut store = fresh(disk, tiered());
    for n in 0..11 {
        put(&mut store, plain(&[&format!("value {n}")], n));
        if n % 3 == 2 {
            assert!(store.seal(id(0)).expect("there"));
        }
    }
    store.sync();
    store
}

fn bounds(store: &Store) -> Vec<(i64, i64)> {
    let sealed = store.sealed(id(0)).expect("there");
    sealed.iter().map(|facts| (facts.base_offset, facts.end_offset)).collect()
}

fn take(store: &Store, facts: SealedFacts) -> RestoredSegment {
    let data = store.segment_data(id(0), facts.base_offset).expect("there");
    assert_eq!(data.len() as u64, facts.bytes);
    RestoredSegment { segment: facts, data }
}

#[test]
fn sealed_segments_are_listed_with_their_facts() {
    let disk = FaultyDisk::new(1);
    let mut store = prepared(&disk);
    assert_eq!(bounds(&store), [(0, 3), (3, 6), (6, 9)]);
    let facts = store.sealed(id(0)).expect("there");
    assert_eq!(facts[1].max_timestamp_ms, 5);
    for facts in &facts {
        let path = crate::segment::log_path(id(0), facts.base_offset);
        let file = store.disk().open(&path).expect("there");
        assert_eq!(file.bytes().expect("readable"), facts.bytes, "reserved room was given back");
    }
    let data = store.segment_data(id(0), 3).expect("there");
    let offsets: Vec<i64> = batch::batches(data).map(|step| step.expect("valid").0.base_offset).collect();
    assert_eq!(offsets, [3, 4, 5]);
    assert!(store.segment_data(id(0), 9).is_err(), "the active one is not sealed");
    store.maintain(1_000_000_000);
    assert_eq!(bounds(&store)[..3], [(0, 3), (3, 6), (6, 9)], "the tier decides what goes");
    disk.power_cut();
    drop(store);
    let (store, _) = open(&disk);
    assert_eq!(store.sealed(id(0)).expect("there")[..3], facts[..]);
}

#[test]
fn an_empty_active_segment_is_not_sealed() {
    let mut store = fresh(&FaultyDisk::new(2), tiered());
    assert!(!store.seal(id(0)).expect("there"));
    put(&mut store, plain(&["x"], 1));
    assert!(store.seal(id(0)).expect("there"));
    assert!(!store.seal(id(0)).expect("there"));
    store.sync();
    assert_eq!(bounds(&store), [(0, 1)]);
}

#[test]
fn evicted_segments_leave_the_disk_but_not_the_log() {
    for crash in [false, true] {
        let disk = FaultyDisk::new(3);
        let mut store = prepared(&disk);
        assert_eq!(store.evict_local(id(0), 7).expect("there"), 2);
        store.sync();
        match crash {
            true => {
                disk.power_cut();
                store = open(&disk).0;
            }
            false => drop(store.maintain(20)),
        }
        let facts = store.facts(id(0)).expect("there");
        assert_eq!((facts.log_start, facts.local_start, facts.segments), (0, 6, 2));
        let reader = store.reader(id(0)).expect("there");
        assert!(matches!(reader.read(5, 1, 99), Err(LogError::NotLocal { local_start: 6, .. })));
        assert_eq!(read_all(&reader).len(), 5);
        assert!(!disk.files().contains(&crate::segment::log_path(id(0), 0)));
    }
}

#[test]
fn an_evicted_segment_comes_back_byte_for_byte() {
    for seed in 0..10 {
        let disk = FaultyDisk::new(seed);
        let mut store = prepared(&disk);
        let copies: Vec<RestoredSegment> =
            store.sealed(id(0)).expect("there").into_iter().map(|facts| take(&store, facts)).collect();
        let everything = read_all(&store.reader(id(0)).expect("there"));
        store.evict_local(id(0), 9).expect("there");
        store.sync();
        let refused = store.restore_segment(id(0), &copies[1]);
        assert!(matches!(refused, Err(LogError::Restore { .. })), "not next to what is there: {refused:?}");
        for n in [2, 1, 1, 0] {
            store.restore_segment(id(0), &copies[n]).expect("fits, or is there");
        }
        store.sync();
        assert_eq!(read_all(&store.reader(id(0)).expect("there")), everything);
        assert_eq!(bounds(&store), [(0, 3), (3, 6), (6, 9)]);
        assert_eq!(store.segment_data(id(0), 3).expect("there"), copies[1].data);
        // once more, now within one sync
        store.evict_local(id(0), 6).expect("there");
        store.restore_segment(id(0), &copies[1]).expect("fits");
        store.sync();
        disk.power_cut();
        let (store, recovered) = open(&disk);
        assert_eq!((recovered[0].local_start, recovered[0].quarantined.as_deref()), (3, None), "seed {seed}");
        assert_eq!(read_all(&store.reader(id(0)).expect("there")), everything[3..]);
    }
}

#[test]
fn a_segment_that_is_not_what_its_facts_say_is_refused() {
    let disk = FaultyDisk::new(4);
    let mut store = prepared(&disk);
    let copy = take(&store, store.sealed(id(0)).expect("there")[2]);
    store.evict_local(id(0), 9).expect("there");
    store.sync();
    let mut broken = copy.data.to_vec();
    broken[70] ^= 1;
    let mut wrong = copy.segment;
    wrong.base_offset -= 1;
    for bad in [
        RestoredSegment { segment: copy.segment, data: broken.into() },
        RestoredSegment { segment: wrong, data: copy.data.clone() },
        RestoredSegment { segment: copy.segment, data: copy.data.slice(..72) },
    ] {
        let refused = store.restore_segment(id(0), &bad);
        assert!(matches!(refused, Err(LogError::Restore { .. })), "{refused:?}");
    }
    store.set_log_start(id(0), 9).expect("within");
    assert!(
        matches!(store.restore_segment(id(0), &copy), Err(LogError::Restore { .. })),
        "below the log start"
    );
}

#[test]
fn bytes_that_are_held_stay_when_their_segment_goes() {
    let disk = FaultyDisk::new(5);
    let mut store = prepared(&disk);
    let reader = store.reader(id(0)).expect("there");
    let held = reader.read(0, 1 << 20, 99).expect("readable");
    let copy = held.to_vec();
    store.set_log_start(id(0), 9).expect("within");
    store.maintain(20);
    assert_eq!(bounds(&store), []);
    assert_eq!(held, copy);
}

#[test]
fn old_and_excess_segments_go_by_the_log_s_own_retention() {
    let disk = FaultyDisk::new(6);
    let config = PartitionConfig { own_retention: true, retention_ms: Some(100), ..tiered() };
    let config = PartitionConfig { retention_bytes: None, segment_ms: 50, ..config };
    let mut store = prepared(&disk);
    store.configure(id(0), config).expect("there");
    store.maintain(59);
    assert_eq!(bounds(&store).len(), 3, "the active one is not old enough");
    store.maintain(60);
    assert_eq!(bounds(&store).len(), 4, "rolled by age");
    store.maintain(106);
    assert_eq!(bounds(&store), [(6, 9), (9, 11)]);
    assert_eq!(store.facts(id(0)).expect("there").log_start, 6);
    store.maintain(1_000);
    assert_eq!((bounds(&store), store.facts(id(0)).expect("there").log_start), (Vec::new(), 11));
    assert_eq!(put(&mut store, plain(&["x"], 1)), 11);
    store.sync();
    disk.power_cut();
    drop(store);
    let (store, recovered) = open(&disk);
    assert_eq!((recovered[0].log_start, recovered[0].local_start, recovered[0].end), (11, 11, 12));
    assert_eq!(store.epochs(id(0)).expect("there"), [(1, 11)]);
}
