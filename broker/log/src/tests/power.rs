//! The disk stops at any operation, then the process is killed or the power goes; the store opens and is checked against what was
//! acknowledged. The workload has small and large appends, rolls, checkpoints, evictions, and both kinds of producers. In two of three
//! seeds a checkpoint takes several syncs, so that appends, rolls and evictions come in between its steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{
    Append, Background, BatchBuilder, Compression, FaultyDisk, Outcome, PartitionConfig, PartitionId,
    PositionRange, Record, Recovered, Store, StoreConfig, append_of, id, numbered, read_all, small,
};
use crate::RestoredSegment;
use crate::faulty::Faults;

const PARTITIONS: i32 = 4;
/// Positions of the positioned producer are its offsets times this.
const STRIDE: i64 = 3;

/// What one partition must hold: values by offset, appended in this order.
#[derive(Clone, Debug, Default)]
struct Expected {
    /// Value of each offset that was ever given out since the last crash, acknowledged or not.
    sent: Vec<Vec<u8>>,
    acknowledged: i64,
    log_start: i64,
    sequence: i32,
    position: i64,
    /// The last batches of both producers with the offset after them.
    last_numbered: Option<(Append, i64)>,
    last_positioned: Option<(Append, i64)>,
}

struct Workload {
    rng: StdRng,
    store: Store,
    expected: BTreeMap<PartitionId, Expected>,
    /// Copies of segments, by the offset after them.
    archive: BTreeMap<(PartitionId, i64), RestoredSegment>,
    now_ms: i64,
    serial: u32,
}

fn partition_config(n: i32) -> PartitionConfig {
    PartitionConfig { segment_bytes: 6_000 + 30_000 * (n % 2) as u64, ..PartitionConfig::default() }
}

impl Workload {
    fn batch(&mut self, id: PartitionId) -> (Append, Vec<u8>) {
        let size = match self.rng.random_range(0..8) {
            0 => self.rng.random_range(8_000..14_000),
            1 => self.rng.random_range(1_000..4_000),
            _ => self.rng.random_range(8..200),
        };
        self.serial += 1;
        let mut value = vec![0; size];
        value[..4].copy_from_slice(&self.serial.to_be_bytes());
        self.rng.fill(&mut value[4..]);
        let expected = &self.expected[&id];
        let builder = match self.rng.random_range(0..3) {
            0 => BatchBuilder::new(Compression::None),
            1 => BatchBuilder::new(Compression::None).producer(50, 0, expected.sequence),
            _ => {
                let first = expected.position + self.rng.random_range(1..STRIDE);
                let range = PositionRange::new(first, first).expect("rising");
                BatchBuilder::new(Compression::None).producer(60, 0, -1).position(range)
            }
        };
        let mut builder = builder;
        builder.push(&Record::new("k", value.clone(), self.now_ms));
        (append_of(builder.build()), value)
    }

    fn append(&mut self, id: PartitionId) {
        let (append, value) = self.batch(id);
        let before = self.expected[&id].sent.len() as i64;
        let Ok(outcome) = self.store.append(id, append.clone(), 1, self.now_ms) else { return };
        assert_eq!(
            outcome,
            Outcome::Appended { base_offset: before, last_offset: before },
            "offsets are dense"
        );
        let expected = self.expected.get_mut(&id).expect("known");
        expected.sent.push(value);
        if append.header.is_positioned() {
            expected.position = append.position.expect("positioned").last;
            expected.last_positioned = Some((append, before + 1));
        } else if append.header.is_sequenced() {
            expected.sequence += 1;
            expected.last_numbered = Some((append, before + 1));
        }
    }

    fn acknowledge(&mut self, outcome: &crate::SyncOutcome) {
        for (id, end) in &outcome.durable {
            let expected = self.expected.get_mut(id).expect("known");
            assert!(*end >= expected.acknowledged && *end <= expected.sent.len() as i64);
            expected.acknowledged = *end;
        }
    }

    /// Lets go of some sealed segments, of which the object store has a copy.
    fn evict(&mut self, id: PartitionId) {
        for facts in self.store.sealed(id).expect("there") {
            let key = (id, facts.end_offset);
            if !self.archive.contains_key(&key)
                && let Ok(data) = self.store.segment_data(id, facts.base_offset)
            {
                self.archive.insert(key, RestoredSegment { segment: facts, data });
            }
        }
        let before = self.rng.random_range(0..=self.expected[&id].acknowledged);
        let copied = self.archive.keys().filter(|(of, _)| *of == id).map(|(_, end)| *end).max().unwrap_or(0);
        // refused once the disk has stopped
        let _ = self.store.evict_local(id, before.min(copied));
    }

    fn restore(&mut self, id: PartitionId) {
        let start = self.store.partition(id).expect("there").state.local_start();
        if let Some(copy) = self.archive.get(&(id, start)).cloned() {
            // refused below the log start, and once the disk has stopped
            let _ = self.store.restore_segment(id, &copy);
        }
    }

    fn step(&mut self) {
        self.now_ms += 50;
        let id = id(self.rng.random_range(0..PARTITIONS));
        match self.rng.random_range(0..20) {
            0 => {
                let outcome = self.store.maintain(self.now_ms);
                self.acknowledge(&outcome);
            }
            1 => drop(self.store.seal(id)),
            2 => {
                let end = self.expected[&id].acknowledged;
                if end > 0 {
                    let offset = self.rng.random_range(0..end);
                    if self.store.set_log_start(id, offset).is_ok() {
                        let expected = self.expected.get_mut(&id).expect("known");
                        expected.log_start = expected.log_start.max(offset);
                    }
                }
            }
            3 => self.evict(id),
            4 => self.restore(id),
            5..=9 => {
                let outcome = self.store.sync();
                self.acknowledge(&outcome);
            }
            _ => self.append(id),
        }
    }

    /// Compares a store that was opened after a crash, and makes what it holds the new truth.
    fn check(&mut self, seed: u64) {
        for (id, expected) in &mut self.expected {
            let facts = self.store.facts(*id).expect("created before the crash");
            assert_eq!(facts.failed, None, "seed {seed}, {id}");
            assert!(
                facts.end >= expected.acknowledged && facts.end <= expected.sent.len() as i64,
                "seed {seed}, {id}: {} acknowledged, {} sent, {} found",
                expected.acknowledged,
                expected.sent.len(),
                facts.end
            );
            assert!(
                facts.log_start <= expected.log_start,
                "seed {seed}: nothing removed that was not asked for"
            );
            expected.log_start = facts.log_start;
            for (offset, value) in read_all(&self.store.reader(*id).expect("there")) {
                assert_eq!(value, expected.sent[offset as usize], "seed {seed}, {id}, offset {offset}");
            }
            expected.sent.truncate(facts.end as usize);
            expected.acknowledged = facts.end;
        }
        for n in 0..PARTITIONS {
            self.check_producers(id(n), seed);
        }
    }

    /// A batch that is repeated is a duplicate exactly when it is in the log.
    fn check_producers(&mut self, id: PartitionId, seed: u64) {
        let expected = self.expected[&id].clone();
        for last in [expected.last_numbered, expected.last_positioned].into_iter().flatten() {
            let (append, end) = last;
            let is_there = end <= expected.acknowledged;
            let producers = &self.store.partition(id).expect("there").state.producers;
            let found = producers.check(&append.header, append.position);
            let is_duplicate = matches!(found, Ok(Some(Outcome::Duplicate { .. })));
            assert_eq!(is_duplicate, is_there, "seed {seed}, {id}: {found:?}");
        }
        let producers = &self.store.partition(id).expect("there").state.producers;
        let expected = self.expected.get_mut(&id).expect("known");
        expected.position = producers.last_position(60).unwrap_or(0);
        // a numbered producer goes on where the log ends
        let (last_numbered, last_positioned) =
            (expected.last_numbered.take(), expected.last_positioned.take());
        if let Some((append, end)) = last_numbered {
            let sequence = append.header.base_sequence;
            expected.sequence = if end <= expected.acknowledged { sequence + 1 } else { expected.sequence };
            if end > expected.acknowledged {
                expected.sequence = next_sequence(&self.store, id);
            }
        }
        drop(last_positioned);
    }
}

/// The sequence that the partition would take.
fn next_sequence(store: &Store, id: PartitionId) -> i32 {
    let producers = &store.partition(id).expect("there").state.producers;
    let probe = |sequence: i32| {
        let append = numbered(50, 0, sequence, &["x"]);
        matches!(producers.check(&append.header, None), Ok(None))
    };
    (0..10_000).find(|n| probe(*n)).expect("one of them follows")
}

/// How much of a checkpoint is done with each sync.
fn config(seed: u64) -> StoreConfig {
    let each_sync = [usize::MAX, 1, 3][(seed % 3) as usize];
    StoreConfig { background: Background::Steps(each_sync), ..small() }
}

fn open(disk: &FaultyDisk, seed: u64) -> (Store, Vec<Recovered>) {
    Store::open(Arc::new(disk.clone()), config(seed), 1).expect("the directory opens")
}

fn run(seed: u64) {
    let disk = FaultyDisk::new(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut store, _) = open(&disk, seed);
    for n in 0..PARTITIONS {
        store.create(id(n), partition_config(n)).expect("new");
    }
    store.sync();
    let expected = (0..PARTITIONS).map(|n| (id(n), Expected::default())).collect();
    let mut workload = Workload {
        rng: StdRng::seed_from_u64(seed ^ 1),
        store,
        expected,
        archive: BTreeMap::new(),
        now_ms: 10,
        serial: 0,
    };
    for crash in 0..3 {
        let after = rng.random_range(1..120);
        let short_io_permille = if rng.random_range(0..2) == 0 { 0 } else { 100 };
        disk.set_faults(Faults {
            stop_after_operations: Some(after),
            short_io_permille,
            ..Faults::default()
        });
        for _ in 0..60 {
            workload.step();
        }
        if rng.random_range(0..3) == 0 {
            disk.kill()
        } else {
            disk.power_cut()
        }
        // recovery itself is interrupted as well
        if rng.random_range(0..2) == 0 {
            let after = rng.random_range(1..60);
            disk.set_faults(Faults { stop_after_operations: Some(after), ..Faults::default() });
            drop(Store::open(Arc::new(disk.clone()), config(seed), workload.now_ms));
            disk.power_cut();
        }
        let (store, recovered) = open(&disk, seed);
        for partition in &recovered {
            assert_eq!(partition.quarantined, None, "seed {seed}, crash {crash}: {partition:?}");
        }
        drop(std::mem::replace(&mut workload.store, store));
        workload.check(seed);
        check_opens_the_same(&disk, &mut workload, seed);
    }
}

/// Opening once more finds the same.
fn check_opens_the_same(disk: &FaultyDisk, workload: &mut Workload, seed: u64) {
    let before: Vec<_> =
        workload.store.partitions().iter().map(|id| workload.store.facts(*id).ok()).collect();
    let states: Vec<_> = workload.store.partitions.values().map(|p| p.state.clone()).collect();
    disk.power_cut();
    let (store, _) = open(disk, seed);
    let after: Vec<_> = store.partitions().iter().map(|id| store.facts(*id).ok()).collect();
    assert_eq!(before, after, "seed {seed}");
    for (before, after) in states.iter().zip(store.partitions.values()) {
        assert_eq!(before.producers, after.state.producers, "seed {seed}");
        assert_eq!(before.epochs, after.state.epochs, "seed {seed}");
    }
    drop(std::mem::replace(&mut workload.store, store));
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_that_was_acknowledged() {
    // three crashes each
    (0..340).for_each(run);
}
