//! A partition with `fsync: false` over losses of power: records may be lost, and nothing else. Who was told how a transaction ended
//! finds it so for every record that is left, and no reader waits for an end that was told.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_proto::batch::{Ending, end_marker};

use super::*;
use crate::faulty::Faults;

const PRODUCERS: i64 = 3;

/// Producer and epoch.
type Transaction = (i64, i16);

fn lazy() -> PartitionConfig {
    PartitionConfig { segment_bytes: 6_000, fsync: false, ..PartitionConfig::default() }
}

struct World {
    rng: StdRng,
    disk: FaultyDisk,
    store: Store,
    now_ms: i64,
    /// Epoch and next sequence of each producer.
    producers: BTreeMap<i64, (i16, i32)>,
    /// What the coordinator has decided.
    endings: BTreeMap<Transaction, Ending>,
    /// Ends whose markers were appended and not answered, then those that were.
    marked: Vec<Transaction>,
    /// Ends whose markers the disk did not take.
    refused: Vec<Transaction>,
    answered: BTreeSet<Transaction>,
    /// The log start that was asked for, and the one that was answered.
    log_start: (i64, i64),
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = FaultyDisk::new(seed);
        let store = fresh(&disk, lazy());
        let producers = (0..PRODUCERS).map(|producer| (producer, (0, 0))).collect();
        let (rng, endings) = (StdRng::seed_from_u64(seed), BTreeMap::new());
        let (marked, refused, answered) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self {
            rng,
            disk,
            store,
            now_ms: 10,
            producers,
            endings,
            marked,
            refused,
            answered,
            log_start: (0, 0),
        }
    }

    /// Whether the log has it.
    fn append(&mut self, append: Append) -> bool {
        self.store.append(id(0), append, 1, self.now_ms).is_ok()
    }

    /// A batch whose value names its transaction.
    fn write(&mut self, producer: i64) {
        let (epoch, sequence) = self.producers[&producer];
        let size = if self.rng.random_range(0..6) == 0 { 5_000 } else { 30 };
        let value = format!("{producer}:{epoch}:{}", "v".repeat(size));
        let mut builder =
            BatchBuilder::new(Compression::None).producer(producer, epoch, sequence).transactional();
        builder.push(&Record::new("k", value.into_bytes(), 1));
        if self.append(append_of(builder.build())) {
            self.producers.insert(producer, (epoch, sequence + 1));
        }
    }

    /// Ends the producer's transaction as the coordinator has decided, or decides now.
    fn end(&mut self, producer: i64, ending: Ending) {
        let (epoch, sequence) = self.producers[&producer];
        if sequence > 0 {
            let ending = *self.endings.entry((producer, epoch)).or_insert(ending);
            match self.append(append_of(end_marker(producer, epoch + 1, ending, 1, 1))) {
                true => self.marked.push((producer, epoch)),
                false => self.refused.push((producer, epoch)),
            }
            self.producers.insert(producer, (epoch + 1, 0));
        }
    }

    fn synced(&mut self) {
        // what failed is reported once
        if self.store.facts(id(0)).expect("there").failed.is_none() {
            self.answered.extend(self.marked.drain(..));
            self.log_start.1 = self.log_start.0;
        }
    }

    fn sync(&mut self) {
        self.store.sync();
        self.synced();
    }

    /// Deletes records from the front.
    fn delete(&mut self) {
        let end = self.store.facts(id(0)).expect("there").durable_end;
        let offset = self.rng.random_range(end / 2..=end);
        if self.store.set_log_start(id(0), offset).is_ok() {
            self.log_start.0 = self.log_start.0.max(offset);
        }
    }

    fn step(&mut self) {
        self.now_ms += 100;
        let producer = self.rng.random_range(0..PRODUCERS);
        match self.rng.random_range(0..16) {
            0..=5 => self.write(producer),
            6..=9 => {
                let ending = if self.rng.random_range(0..2) == 0 { Ending::Commit } else { Ending::Abort };
                self.end(producer, ending);
            }
            10 => drop(self.store.seal(id(0))),
            11 => {
                self.store.maintain(self.now_ms + 60_000);
                self.synced();
            }
            12 => self.delete(),
            _ => self.sync(),
        }
    }

    fn crash(&mut self, seed: u64) {
        match self.rng.random_range(0..4) {
            0 => self.disk.kill(),
            _ => self.disk.power_cut(),
        }
        while self.rng.random_range(0..2) == 0 {
            let after = self.rng.random_range(1..50);
            self.disk.set_faults(Faults { stop_after_operations: Some(after), ..Faults::default() });
            drop(Store::open(Arc::new(self.disk.clone()), small(), self.now_ms));
            self.disk.power_cut();
        }
        let (store, recovered) = open(&self.disk);
        assert_eq!(recovered[0].quarantined, None, "seed {seed}");
        self.store = store;
        let (log_start, end) = (recovered[0].log_start, recovered[0].end);
        assert!(log_start <= end, "seed {seed}: the log begins at {log_start} and ends at {end}");
        assert!(log_start >= self.log_start.1, "seed {seed}: what was deleted is back");
        self.log_start = (log_start, log_start);
    }

    /// The coordinator goes on: what it has not told the end of is ended, the rest it believes to be over.
    fn resume(&mut self) {
        let marked = std::mem::take(&mut self.marked).into_iter();
        for (producer, epoch) in marked.chain(std::mem::take(&mut self.refused)) {
            let ending = self.endings[&(producer, epoch)];
            self.append(append_of(end_marker(producer, epoch + 1, ending, 1, 1)));
            self.answered.insert((producer, epoch));
        }
        (0..PRODUCERS).for_each(|producer| self.end(producer, Ending::Abort));
        self.sync();
    }

    fn check(&self, seed: u64) {
        let reader = self.store.reader(id(0)).expect("there");
        assert_eq!(
            reader.last_stable(),
            reader.end(),
            "seed {seed}: somebody waits for an end that was told"
        );
        let aborted = reader.aborted(0, i64::MAX).expect("readable");
        for (offset, value) in read_all(&reader) {
            let text = String::from_utf8_lossy(&value).into_owned();
            let mut parts = text.split(':');
            let (Some(producer), Some(epoch), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let of: Transaction = (producer.parse().expect("a number"), epoch.parse().expect("a number"));
            let is_void = aborted.iter().any(|range| range.holds(of.0, offset));
            assert!(self.answered.contains(&of), "seed {seed}: every transaction was ended");
            assert_eq!(is_void, self.endings[&of] == Ending::Abort, "seed {seed}: {of:?} at offset {offset}");
        }
    }
}

#[test]
fn what_was_told_of_a_transaction_stays_true_of_the_records_that_are_left() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..3 {
            if world.rng.random_range(0..3) > 0 {
                let after = world.rng.random_range(10..200);
                world.disk.set_faults(Faults { stop_after_operations: Some(after), ..Faults::default() });
            }
            for _ in 0..60 {
                world.step();
            }
            world.crash(seed);
            world.resume();
            world.check(seed);
        }
    }
}

#[test]
fn records_behind_a_log_start_that_power_left_without_them_can_be_read() {
    let mut lost = 0;
    for seed in 0..30 {
        let disk = FaultyDisk::new(seed);
        let mut store = fresh(&disk, lazy());
        for _ in 0..10 {
            put(&mut store, plain(&["old"], 1));
        }
        store.sync();
        store.set_log_start(id(0), 8).expect("within");
        store.sync();
        disk.power_cut();
        let (mut store, recovered) = open(&disk);
        let end = recovered[0].end;
        assert_eq!((recovered[0].log_start, recovered[0].quarantined.as_deref()), (8, None), "seed {seed}");
        assert_eq!(put(&mut store, plain(&["new"], 2)), end, "seed {seed}");
        store.sync();
        assert_eq!(values(&store).last().map(String::as_str), Some("new"), "seed {seed}");
        lost += usize::from(end == 8);
        drop(store);
        disk.kill();
        let (store, _) = open(&disk);
        assert_eq!(values(&store).last().map(String::as_str), Some("new"), "seed {seed}: once more");
    }
    assert!(lost > 0, "power took the tail of some");
}

/// An index is written while the sync of what it speaks of fails, the power goes, batches of the same size and of other times stand in
/// their place, and the power goes again.
#[test]
fn an_index_never_outlives_the_batches_it_speaks_of() {
    let mut lost = 0;
    for seed in 0..60 {
        let disk = FaultyDisk::new(seed);
        let mut store = fresh(&disk, PartitionConfig { segment_bytes: 1 << 20, ..lazy() });
        let append = |store: &mut Store, first_ms: i64| {
            for ms in first_ms..first_ms + 30 {
                put(store, plain(&[&"v".repeat(300)], ms));
            }
            store.sync();
            store.maintain(first_ms * 1_000);
        };
        append(&mut store, 1_000);
        disk.set_faults(Faults { fail_sync_of: Some(".log"), ..Faults::default() });
        append(&mut store, 2_000);
        drop(store);
        disk.power_cut();
        let (mut store, recovered) = open(&disk);
        lost += 60 - recovered[0].end;
        append(&mut store, 5_000);
        drop(store);
        disk.power_cut();
        let (store, recovered) = open(&disk);
        assert_eq!(recovered[0].quarantined, None, "seed {seed}");
        let reader = store.reader(id(0)).expect("there");
        let times: Vec<(i64, i64)> =
            (0..reader.end()).map(|offset| (offset, time_at(&reader, offset))).collect();
        for wanted in 900..5_040 {
            let first = times.iter().find(|(_, ms)| *ms >= wanted).map(|(offset, _)| *offset);
            let found = reader.find_by_time(wanted).expect("readable").map(|found| found.offset);
            assert_eq!(found, first, "seed {seed}: the first record from {wanted} ms on");
        }
    }
    assert!(lost > 0, "power took what was not synced");
}

fn time_at(reader: &Reader, offset: i64) -> i64 {
    let bytes = reader.read(offset, 1, i64::MAX).expect("readable");
    batch::validate(&bytes).expect("whole").max_timestamp
}
