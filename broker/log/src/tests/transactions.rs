//! Transactions over crashes: the last stable offset and the aborted ranges are those of a model over the batches that are there,
//! whatever was lost, evicted, trimmed or written out.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_proto::batch::{BatchHeader, Ending, end_marker};

use super::*;
use crate::AbortedRange;
use crate::faulty::Faults;

const PRODUCERS: i64 = 4;

fn transactional(producer: i64, epoch: i16, sequence: i32, value: &str) -> Append {
    let mut builder =
        BatchBuilder::new(Compression::None).producer(producer, epoch, sequence).transactional();
    builder.push(&Record::new("k", value.as_bytes().to_vec(), 1));
    append_of(builder.build())
}

fn marker(producer: i64, epoch: i16, ending: Ending) -> Append {
    append_of(end_marker(producer, epoch, ending, 1, 1))
}

fn tiny() -> StoreConfig {
    StoreConfig { aborted_ranges_max: 3, ..small() }
}

fn open_tiny(disk: &FaultyDisk) -> (Store, Vec<Recovered>) {
    Store::open(Arc::new(disk.clone()), tiny(), 1).expect("the directory opens")
}

/// The same fold, written down naively over every batch there ever was.
fn model(sent: &[BatchHeader], end: i64, log_start: i64) -> (i64, Vec<AbortedRange>) {
    let mut open: BTreeMap<i64, (i16, i64)> = BTreeMap::new();
    let mut aborted = Vec::new();
    for header in sent.iter().filter(|header| header.base_offset < end && header.is_transactional()) {
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        if !header.is_control() {
            open.entry(producer_id).or_insert((epoch, header.base_offset));
        } else if let Some((_, first_offset)) = open.remove(&producer_id)
            && header.is_abort()
        {
            aborted.push(AbortedRange { producer_id, first_offset, last_offset: header.last_offset() });
        }
    }
    let stable = open.values().map(|(_, first)| *first).min().unwrap_or(end);
    (stable, aborted.into_iter().filter(|range| range.last_offset >= log_start).collect())
}

struct World {
    rng: StdRng,
    disk: FaultyDisk,
    store: Store,
    /// Every batch that was appended, by base offset.
    sent: Vec<BatchHeader>,
    /// Epoch and next sequence of each producer, as the coordinator would know them.
    producers: BTreeMap<i64, (i16, i32)>,
    acknowledged: i64,
    now_ms: i64,
}

impl World {
    fn append(&mut self, append: Append) -> bool {
        let mut header = append.header;
        match self.store.append(id(0), append, 1, self.now_ms) {
            Ok(Outcome::Appended { base_offset, .. }) => {
                header.base_offset = base_offset;
                self.sent.push(header);
                true
            }
            _ => false,
        }
    }

    fn step(&mut self, seed: u64) {
        self.now_ms += 100;
        let producer = self.rng.random_range(0..PRODUCERS);
        let (epoch, sequence) = self.producers[&producer];
        match self.rng.random_range(0..20) {
            0..=6 => {
                let size = if self.rng.random_range(0..6) == 0 { 9_000 } else { 40 };
                let value = "v".repeat(size);
                if self.append(transactional(producer, epoch, sequence, &value)) {
                    self.producers.insert(producer, (epoch, sequence + 1));
                }
            }
            7 => drop(self.append(plain(&["between"], self.now_ms))),
            8..=12 => {
                let ending = if self.rng.random_range(0..3) == 0 { Ending::Commit } else { Ending::Abort };
                let open = sequence > 0;
                let took = self.append(marker(producer, epoch + 1, ending));
                assert!(!took || open, "seed {seed}: a marker without a transaction was appended");
                if took {
                    self.producers.insert(producer, (epoch + 1, 0));
                    assert!(!self.append(marker(producer, epoch + 1, Ending::Abort)), "seed {seed}: twice");
                }
            }
            13 => drop(self.store.seal(id(0))),
            14 => {
                let offset = self.rng.random_range(0..=self.acknowledged);
                if self.rng.random_range(0..2) == 0 {
                    // refused once the disk has stopped
                    let _ = self.store.evict_local(id(0), offset);
                } else if self.rng.random_range(0..3) == 0 {
                    let _ = self.store.set_log_start(id(0), offset);
                }
            }
            15 => self.took(|store, now_ms| store.maintain(now_ms + 60_000)),
            _ => self.took(|store, _| store.sync()),
        }
    }

    fn took(&mut self, sync: impl Fn(&mut Store, i64) -> crate::SyncOutcome) {
        let outcome = sync(&mut self.store, self.now_ms);
        for (_, end) in outcome.durable {
            self.acknowledged = end;
        }
    }

    fn check(&self, seed: u64) {
        let facts = self.store.facts(id(0)).expect("there");
        let reader = self.store.reader(id(0)).expect("there");
        if facts.failed.is_some() {
            return;
        }
        let (stable, aborted) = model(&self.sent, facts.durable_end, facts.log_start);
        assert_eq!(facts.last_stable, stable, "seed {seed}: last stable offset");
        assert_eq!(reader.last_stable(), stable);
        let found = reader.aborted(0, i64::MAX).expect("readable");
        let found: Vec<_> = found.into_iter().filter(|range| range.last_offset >= facts.log_start).collect();
        assert_eq!(found, aborted, "seed {seed}: aborted ranges");
        for range in &aborted {
            let touching = reader.aborted(range.last_offset, range.last_offset + 1).expect("readable");
            assert!(touching.contains(range), "seed {seed}: {range:?} is not found at its end");
        }
    }

    fn crash(&mut self, seed: u64) {
        if self.rng.random_range(0..3) == 0 {
            self.disk.kill()
        } else {
            self.disk.power_cut()
        }
        if self.rng.random_range(0..3) == 0 {
            let after = self.rng.random_range(1..50);
            self.disk.set_faults(Faults { stop_after_operations: Some(after), ..Faults::default() });
            drop(Store::open(Arc::new(self.disk.clone()), tiny(), self.now_ms));
            self.disk.power_cut();
        }
        let (store, recovered) = open_tiny(&self.disk);
        assert_eq!(recovered[0].quarantined, None, "seed {seed}");
        self.store = store;
        let end = recovered[0].end;
        assert!(end >= self.acknowledged, "seed {seed}: lost what was acknowledged");
        self.sent.retain(|header| header.base_offset < end);
        self.acknowledged = end;
        for producer in 0..PRODUCERS {
            let mine = self.sent.iter().filter(|header| header.producer_id == producer);
            let next = mine.fold((0, 0), |_, header| match header.is_control() {
                true => (header.producer_epoch, 0),
                false => (header.producer_epoch, header.base_sequence + 1),
            });
            self.producers.insert(producer, next);
        }
    }
}

#[test]
fn after_any_crash_the_transactions_are_those_of_the_batches_that_are_there() {
    for seed in 0..250 {
        let disk = FaultyDisk::new(seed);
        let (mut store, _) = open_tiny(&disk);
        let config = PartitionConfig { segment_bytes: 4_000, ..PartitionConfig::default() };
        store.create(id(0), config).expect("new");
        store.sync();
        let rng = StdRng::seed_from_u64(seed);
        let producers = (0..PRODUCERS).map(|producer| (producer, (0, 0))).collect();
        let sent = Vec::new();
        let mut world = World { rng, disk, store, sent, producers, acknowledged: 0, now_ms: 10 };
        for _ in 0..3 {
            let after = world.rng.random_range(20..300);
            let faults = Faults { stop_after_operations: Some(after), ..Faults::default() };
            if world.rng.random_range(0..3) > 0 {
                world.disk.set_faults(faults);
            }
            for _ in 0..80 {
                world.step(seed);
                world.check(seed);
            }
            world.crash(seed);
            world.check(seed);
        }
    }
}

#[test]
fn aborted_ranges_of_evicted_segments_stay_and_go_with_the_log_start() {
    let disk = FaultyDisk::new(1);
    let (mut store, _) = open_tiny(&disk);
    store.create(id(0), PartitionConfig::default()).expect("new");
    for epoch in 0..10 {
        put(&mut store, transactional(1, epoch, 0, "v"));
        put(&mut store, marker(1, epoch + 1, Ending::Abort));
        store.sync();
    }
    store.seal(id(0)).expect("alive");
    store.sync();
    store.evict_local(id(0), 20).expect("alive");
    store.close().expect("closes");
    let files = |disk: &FaultyDisk| {
        let names = crate::Disk::list(disk, &crate::segment::directory_of(id(0))).expect("there");
        names.into_iter().filter(|entry| entry.name.ends_with(crate::runs::RUN_SUFFIX)).count()
    };
    let (mut store, _) = open_tiny(&disk);
    let reader = store.reader(id(0)).expect("there");
    assert_eq!((reader.local_start(), reader.log_start()), (20, 0), "nothing of it is on this disk");
    assert!(files(&disk) > 0, "more than fit in memory");
    let found = reader.aborted(5, 8).expect("readable");
    let range = |first_offset| AbortedRange { producer_id: 1, first_offset, last_offset: first_offset + 1 };
    assert_eq!(found, [range(4), range(6)]);
    assert_eq!(reader.aborted_in_memory(5, 8), None, "the disk must be asked");
    store.set_log_start(id(0), 20).expect("alive");
    store.sync();
    store.maintain(100_000);
    assert_eq!((reader.aborted(0, 100).expect("readable"), files(&disk)), (vec![], 0));
}

#[test]
fn a_producer_of_a_former_transaction_is_fenced_by_its_marker() {
    let disk = FaultyDisk::new(2);
    let mut store = fresh(&disk, PartitionConfig::default());
    put(&mut store, transactional(1, 0, 0, "a"));
    put(&mut store, marker(1, 1, Ending::Commit));
    let fenced = try_put(&mut store, transactional(1, 0, 1, "late"));
    assert!(matches!(fenced, Err(Refusal::ProducerFenced { found: 0, current: 1, .. })), "{fenced:?}");
    let hole = try_put(&mut store, transactional(1, 1, 3, "b"));
    assert!(matches!(hole, Err(Refusal::SequenceGap { expected: 0, .. })), "{hole:?}");
    put(&mut store, transactional(1, 1, 0, "b"));
    let repeated = try_put(&mut store, transactional(1, 1, 0, "b"));
    assert!(matches!(repeated, Ok(Outcome::Duplicate { base_offset: 2, .. })), "{repeated:?}");
}

/// A partition that stops while a checkpoint is put together keeps the section it had: without one, the next start would take its
/// directory for a leftover.
#[test]
fn a_partition_whose_aborted_ranges_cannot_be_written_out_is_still_there_afterwards() {
    let disk = FaultyDisk::new(1);
    let (mut store, _) = open_tiny(&disk);
    store.create(id(0), PartitionConfig::default()).expect("new");
    store.sync();
    // its creation is in a checkpoint, and in no journal any more
    store.maintain(100_000);
    for producer in 0..5 {
        put(&mut store, transactional(producer, 0, 0, "void"));
        put(&mut store, marker(producer, 1, Ending::Abort));
    }
    store.sync();
    disk.set_faults(Faults { fail_sync_of: Some(crate::runs::RUN_SUFFIX), ..Faults::default() });
    let outcome = store.maintain(200_000);
    assert_eq!(outcome.failed.iter().map(|failure| failure.id).collect::<Vec<_>>(), [id(0)]);
    disk.set_faults(Faults::default());
    store.maintain(300_000);
    drop(store);
    let (store, recovered) = open_tiny(&disk);
    assert_eq!(recovered.iter().map(|found| (found.id, found.end)).collect::<Vec<_>>(), [(id(0), 10)]);
    assert_eq!(store.reader(id(0)).expect("there").aborted(0, i64::MAX).expect("readable").len(), 5);
}

#[test]
fn a_file_of_aborted_ranges_that_the_log_contradicts_is_found() {
    let verify = |disk: &FaultyDisk| crate::inspect::verify_disk(disk).expect("readable");
    let run = AbortedRange { producer_id: 1, first_offset: 0, last_offset: 1 };
    let others = [
        AbortedRange { producer_id: 2, ..run },
        AbortedRange { first_offset: 1, ..run },
        AbortedRange { last_offset: 2, ..run },
    ];
    for wrong in std::iter::once(None).chain(others.map(Some)) {
        let disk = FaultyDisk::new(1);
        let (mut store, _) = open_tiny(&disk);
        store.create(id(0), PartitionConfig::default()).expect("new");
        for epoch in 0..5 {
            put(&mut store, transactional(1, epoch, 0, "v"));
            put(&mut store, marker(1, epoch + 1, if epoch == 1 { Ending::Commit } else { Ending::Abort }));
        }
        store.close().expect("closes");
        let sound = verify(&disk);
        assert_eq!((sound.aborted_ranges, sound.problems), (4, vec![]));
        let Some(wrong) = wrong else { continue };
        let path = crate::runs::run_path(id(0), 1);
        let kind = sunseo_proto::envelope::kind::ABORTED_RUN;
        let (_, payload) = crate::sealed::read(&disk, &path, kind, 1).expect("readable").expect("there");
        let mut ranges = crate::transactions::decode_run(payload).expect("decodes");
        assert_eq!(ranges[0], run);
        ranges[0] = wrong;
        let mut payload = Vec::new();
        ranges.iter().for_each(|range| range.encode(&mut payload));
        crate::sealed::write(&disk, &path, kind, 1, &payload).expect("written");
        let problems = verify(&disk).problems;
        assert!(
            !problems.is_empty() && problems.iter().all(|p| p.contains(".aborted")),
            "{wrong:?}: {problems:?}"
        );
    }
}

#[test]
fn a_dump_names_markers() {
    let dir = tempfile::tempdir().expect("a place");
    let disk = crate::RealDisk::new(dir.path()).expect("created");
    let (mut store, _) = Store::open(Arc::new(disk), tiny(), 1).expect("opens");
    store.create(id(0), PartitionConfig::default()).expect("new");
    put(&mut store, plain(&["plain"], 1));
    for (epoch, ending) in [(0, Ending::Commit), (1, Ending::Abort)] {
        put(&mut store, transactional(7, epoch, 0, "v"));
        put(&mut store, marker(7, epoch + 1, ending));
    }
    store.close().expect("closes");
    let mut found = Vec::new();
    let mut each = |segment: crate::inspect::SegmentDump| {
        let what = |batch: &crate::inspect::BatchDump| {
            (batch.transactional, batch.marker, batch.producer_id, batch.producer_epoch)
        };
        found.extend(segment.batches.iter().map(what));
    };
    crate::inspect::dump(dir.path(), &mut each).expect("readable");
    let expect = [
        (false, None, -1, -1),
        (true, None, 7, 0),
        (true, Some(Ending::Commit), 7, 1),
        (true, None, 7, 1),
        (true, Some(Ending::Abort), 7, 2),
    ];
    assert_eq!(found, expect);
}
