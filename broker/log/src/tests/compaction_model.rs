//! Compaction over drawn lives: keys, tombstones, producers, rolls, runs that are cut short anywhere, kills and power cuts. The model is
//! the list of everything that was appended; a read of the log must be a part of it in order, with its offsets, that holds the
//! newest record of each key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::compaction::{COMPACTION, compacted, record, records_of};
use super::*;
use crate::clean::{CleanJob, CleanStep, NothingAborted};
use crate::faulty::Faults;
use crate::inspect;

const KEYS: u32 = 12;

struct Life {
    seed: u64,
    rng: StdRng,
    disk: FaultyDisk,
    store: Store,
    /// Everything that was appended, by offset.
    sent: Vec<Record>,
    durable: usize,
    /// A run under way.
    job: Option<CleanJob>,
    /// Tombstones that were seen to be gone may be; their horizon is at least this long after the run that met them.
    now_ms: i64,
    sequence: i32,
    position: i64,
    last_numbered: Option<(Append, usize)>,
    last_positioned: Option<(Append, usize)>,
    switched: u32,
}

impl Life {
    fn new(seed: u64) -> Self {
        let disk = FaultyDisk::new(seed);
        let fsync = !seed.is_multiple_of(5);
        let store = fresh(&disk, PartitionConfig { segment_bytes: 900, fsync, ..compacted() });
        Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            disk,
            store,
            sent: Vec::new(),
            durable: 0,
            job: None,
            now_ms: 10,
            sequence: 0,
            position: 0,
            last_numbered: None,
            last_positioned: None,
            switched: 0,
        }
    }

    fn draw(&mut self) -> Record {
        let key = format!("k{}", self.rng.random_range(0..KEYS));
        let value = match self.rng.random_range(0..4) {
            0 => None,
            _ => Some("v".repeat(self.rng.random_range(1..60))),
        };
        record(&key, value.as_deref())
    }

    fn append(&mut self) {
        let codec = Compression::ALL[self.rng.random_range(0..Compression::ALL.len())];
        let builder = BatchBuilder::new(codec);
        let kind = self.rng.random_range(0..3);
        let first = self.position + self.rng.random_range(1..4);
        let mut builder = match kind {
            0 => builder,
            1 => builder.producer(50, 0, self.sequence),
            _ => builder.producer(60, 0, -1).position(PositionRange::new(first, first).expect("rising")),
        };
        let base = self.sent.len();
        let count = self.rng.random_range(1..4);
        let mut records = Vec::new();
        for n in 0..count {
            let drawn = self.draw();
            builder.push(&drawn);
            records.push(Record { offset: (base + n) as i64, ..drawn });
        }
        let append = append_of(builder.build());
        let Ok(outcome) = self.store.append(id(0), append.clone(), 1, self.now_ms) else { return };
        let last_offset = (base + count - 1) as i64;
        let expected = Outcome::Appended { base_offset: base as i64, last_offset };
        assert_eq!(outcome, expected, "seed {}", self.seed);
        self.sent.extend(records);
        let end = self.sent.len();
        match kind {
            1 => {
                self.sequence += count as i32;
                self.last_numbered = Some((append, end));
            }
            2 => {
                self.position = first;
                self.last_positioned = Some((append, end));
            }
            _ => {}
        }
    }

    fn sync(&mut self) {
        let outcome = self.store.sync();
        self.acknowledge(&outcome);
    }

    fn acknowledge(&mut self, outcome: &crate::SyncOutcome) {
        if let Some((_, end)) = outcome.durable.last() {
            self.durable = *end as usize;
        }
    }

    /// One step of the cleaner; a run begins when none is under way.
    fn clean_step(&mut self) {
        if self.job.is_none() {
            let (limit, now_ms) = (self.durable as i64, self.now_ms);
            let began = self.store.begin_clean(id(0), limit, now_ms, Arc::new(NothingAborted));
            self.job = began.ok().flatten();
        }
        let Some(job) = &mut self.job else { return };
        match job.step() {
            Ok(CleanStep::More { .. }) => {}
            Ok(CleanStep::Replace(replacement)) => {
                if !self.store.switch_cleaned(&replacement).unwrap_or(false) {
                    self.job = None;
                }
                self.switched += 1;
                if self.rng.random_range(0..2) == 0 {
                    self.sync();
                }
            }
            Ok(CleanStep::Done(finished)) => {
                // refused once the disk has stopped
                let _ = self.store.finish_clean(id(0), finished);
                self.job = None;
            }
            Err(_) => self.job = None,
        }
    }

    fn step(&mut self) {
        self.now_ms += 40;
        match self.rng.random_range(0..16) {
            0 => drop(self.store.seal(id(0))),
            1 => {
                let outcome = self.store.maintain(self.now_ms);
                self.acknowledge(&outcome);
            }
            2..=4 => self.sync(),
            5..=8 => self.clean_step(),
            9 if self.rng.random_range(0..8) == 0 => self.job = None,
            _ => self.append(),
        }
    }

    fn crash(&mut self) {
        let durable_mode = self.store.facts(id(0)).expect("there").config.fsync;
        // without fsync a power cut may take what was acknowledged
        if !durable_mode || self.rng.random_range(0..3) == 0 {
            self.disk.kill()
        } else {
            self.disk.power_cut()
        }
        self.job = None;
        if self.rng.random_range(0..2) == 0 {
            let after = self.rng.random_range(1..40);
            self.disk.set_faults(Faults { stop_after_operations: Some(after), ..Faults::default() });
            drop(Store::open(Arc::new(self.disk.clone()), small(), self.now_ms));
            if durable_mode { self.disk.power_cut() } else { self.disk.kill() }
        }
        let (store, recovered) = open(&self.disk);
        assert_eq!(recovered[0].quarantined, None, "seed {}", self.seed);
        drop(std::mem::replace(&mut self.store, store));
        let end = self.store.facts(id(0)).expect("there").end as usize;
        assert!(end >= self.durable && end <= self.sent.len(), "seed {}: {end}", self.seed);
        self.sent.truncate(end);
        self.durable = end;
        self.check_producers();
        self.check();
        let problems = inspect::verify_disk(&self.disk).expect("reads").problems;
        assert_eq!(problems, [""; 0], "seed {}", self.seed);
    }

    /// A batch that is repeated is known exactly when it is in the log, cleaned or not, and the next one is news.
    fn check_producers(&mut self) {
        let producers = &self.store.partition(id(0)).expect("there").state.producers;
        for (append, end) in [&self.last_numbered, &self.last_positioned].into_iter().flatten() {
            let found = producers.check(&append.header, append.position);
            let is_duplicate = matches!(found, Ok(Some(Outcome::Duplicate { .. })));
            assert_eq!(is_duplicate, *end <= self.durable, "seed {}: {found:?}", self.seed);
        }
        self.position = producers.last_position(60).unwrap_or(0);
        let follows = |sequence: i32| {
            matches!(producers.check(&numbered(50, 0, sequence, &["x"]).header, None), Ok(None))
        };
        self.sequence = (0..10_000).find(|n| follows(*n)).expect("one of them follows");
        (self.last_numbered, self.last_positioned) = (None, None);
    }

    fn check(&self) {
        let seed = self.seed;
        let read = records_of(&self.store);
        let mut last = -1;
        for record in &read {
            assert!(record.offset > last, "seed {seed}: {} after {last}", record.offset);
            last = record.offset;
            let mut sent = self.sent[record.offset as usize].clone();
            let mut found = record.clone();
            // a position may have moved to the first record that is left
            (sent.headers, found.headers) = (Vec::new(), Vec::new());
            assert_eq!(found, sent, "seed {seed}, offset {}", record.offset);
        }
        let there: BTreeSet<i64> = read.iter().map(|record| record.offset).collect();
        let mut newest: BTreeMap<&[u8], &Record> = BTreeMap::new();
        for record in &self.sent[..self.durable] {
            newest.insert(record.key.as_deref().expect("set"), record);
        }
        for record in newest.values() {
            // a tombstone may be gone, and then nothing of its key is left
            let is_there = there.contains(&record.offset);
            let of_key = || read.iter().filter(|r| r.key == record.key).count();
            let gone =
                record.value.is_none() && of_key() == 0 && self.now_ms > COMPACTION.delete_retention_ms;
            assert!(is_there || gone, "seed {seed}: the newest of {:?} at {}", record.key, record.offset);
        }
    }

    /// Runs until nothing is dirty, then everything below the active segment is there once.
    fn settle(&mut self) {
        self.disk.set_faults(Faults::default());
        self.job = None;
        self.store.seal(id(0)).expect("alive");
        self.sync();
        self.now_ms += 100_000;
        for _ in 0..3 {
            let runs = self.store.facts(id(0)).expect("there").cleaned.runs;
            while self.store.facts(id(0)).expect("there").cleaned.runs == runs && !self.sent.is_empty() {
                self.clean_step();
            }
            self.sync();
            self.now_ms += 100_000;
        }
        self.check();
        let read = records_of(&self.store);
        let keys: BTreeSet<_> = read.iter().map(|record| record.key.clone()).collect();
        assert_eq!(keys.len(), read.len(), "seed {}: each key once", self.seed);
        assert!(read.iter().all(|record| record.value.is_some()), "seed {}: no tombstone is left", self.seed);
    }
}

fn run(seed: u64) -> u32 {
    let mut life = Life::new(seed);
    for _ in 0..3 {
        let after = life.rng.random_range(20..200);
        let short_io_permille = if life.rng.random_range(0..2) == 0 { 0 } else { 100 };
        life.disk.set_faults(Faults {
            stop_after_operations: Some(after),
            short_io_permille,
            ..Faults::default()
        });
        for _ in 0..120 {
            life.step();
        }
        life.crash();
    }
    for _ in 0..60 {
        life.step();
    }
    life.sync();
    life.check();
    life.settle();
    life.switched
}

#[test]
fn a_cleaned_log_is_the_log_without_what_was_covered_whenever_the_power_goes() {
    let switched: u32 = (0..150).map(run).sum();
    assert!(switched > 1_000, "the lives have cleaned: {switched}");
}
