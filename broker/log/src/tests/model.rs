//! The store against a model that is three numbers and a list, over drawn sequences of everything a store does.

use proptest::prelude::*;

use super::*;
use crate::{RestoredSegment, SealedFacts};

#[derive(Clone, Debug)]
enum Step {
    Append { bytes: usize, records: usize },
    Sync,
    Seal,
    Maintain,
    LogStart { percent: u8 },
    Evict { percent: u8 },
    Restore,
    Epoch,
    Kill,
    PowerCut,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..400_usize, 1..4_usize).prop_map(|(bytes, records)| Step::Append { bytes, records }),
        1 => (3_000..12_000_usize, 1..3_usize).prop_map(|(bytes, records)| Step::Append { bytes, records }),
        4 => Just(Step::Sync),
        1 => Just(Step::Seal),
        1 => Just(Step::Maintain),
        1 => (0..=100_u8).prop_map(|percent| Step::LogStart { percent }),
        1 => (0..=100_u8).prop_map(|percent| Step::Evict { percent }),
        2 => Just(Step::Restore),
        1 => Just(Step::Epoch),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerCut),
        1 => Just(Step::Close),
    ]
}

/// What a partition is, planned or durable.
#[derive(Clone, Debug, Default, PartialEq)]
struct Truth {
    values: Vec<Vec<u8>>,
    log_start: i64,
    local_start: i64,
    epochs: Vec<(i32, i64)>,
}

struct Model {
    disk: FaultyDisk,
    store: Store,
    planned: Truth,
    durable: Truth,
    /// Every sealed segment there ever was: what the tier would have.
    archive: Vec<RestoredSegment>,
    now_ms: i64,
    serial: u8,
}

impl Model {
    fn new(seed: u64) -> Self {
        let disk = FaultyDisk::new(seed);
        let config =
            PartitionConfig { segment_bytes: 3_000, own_retention: false, ..PartitionConfig::default() };
        let store = fresh(&disk, config);
        let (planned, durable) = (Truth::default(), Truth::default());
        Self { disk, store, planned, durable, archive: Vec::new(), now_ms: 0, serial: 0 }
    }

    fn apply(&mut self, step: &Step) {
        self.now_ms += 7_000;
        match *step {
            Step::Append { bytes, records } => self.append(bytes, records),
            Step::Sync => self.commit(Store::sync),
            Step::Maintain => {
                let now_ms = self.now_ms;
                self.commit(|store| store.maintain(now_ms));
            }
            Step::Seal => drop(self.store.seal(id(0)).expect("alive")),
            Step::Epoch => {
                let epoch = self.planned.epochs.last().map_or(0, |(epoch, _)| *epoch) + 1;
                self.store.begin_epoch(id(0), epoch).expect("alive");
                self.begin_epoch(epoch);
            }
            Step::LogStart { percent } => {
                let end = self.durable.values.len() as i64;
                let offset = end * i64::from(percent) / 100;
                self.store.set_log_start(id(0), offset).expect("alive");
                self.raise_log_start(offset);
            }
            Step::Evict { percent } => self.evict(percent),
            Step::Restore => self.restore(),
            Step::Kill => self.crash(FaultyDisk::kill),
            Step::PowerCut => self.crash(FaultyDisk::power_cut),
            Step::Close => {
                let unlocked = FaultyDisk::new(0);
                let (other, _) = open(&unlocked);
                std::mem::replace(&mut self.store, other).close().expect("closes");
                self.durable = self.planned.clone();
                self.store = open(&self.disk).0;
                assert!(self.store.was_clean());
            }
        }
        self.check();
    }

    fn append(&mut self, bytes: usize, records: usize) {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..records {
            self.serial = self.serial.wrapping_add(1);
            let value = vec![self.serial; bytes];
            builder.push(&Record::new("k", value.clone(), self.now_ms));
            self.planned.values.push(value);
        }
        let epoch = self.planned.epochs.last().map_or(1, |(epoch, _)| *epoch);
        let base = (self.planned.values.len() - records) as i64;
        let last_offset = base + records as i64 - 1;
        let outcome = self.store.append(id(0), append_of(builder.build()), epoch, self.now_ms);
        assert_eq!(outcome, Ok(Outcome::Appended { base_offset: base, last_offset }));
        if self.planned.epochs.is_empty() {
            self.planned.epochs.push((epoch, base));
        }
    }

    fn begin_epoch(&mut self, epoch: i32) {
        let end = self.planned.values.len() as i64;
        self.planned.epochs.retain(|(_, start)| *start < end);
        self.planned.epochs.push((epoch, end));
    }

    fn raise_log_start(&mut self, offset: i64) {
        if offset <= self.planned.log_start {
            return;
        }
        self.planned.log_start = offset;
        let holder = self.planned.epochs.iter().rposition(|(_, start)| *start <= offset).unwrap_or(0);
        self.planned.epochs.drain(..holder);
        if let Some((_, start)) = self.planned.epochs.first_mut() {
            *start = (*start).max(offset);
        }
        self.drop_below(offset);
    }

    /// Segments that end at or below an offset go.
    fn drop_below(&mut self, offset: i64) {
        let sealed = &self.store.partition(id(0)).expect("there").state.sealed;
        let active = self.store.partition(id(0)).expect("there").state.active.base;
        self.planned.local_start = sealed.first().map_or(active, |first| first.base_offset);
        assert!(sealed.iter().all(|facts| facts.end_offset > offset), "all that may go went");
    }

    fn evict(&mut self, percent: u8) {
        let before = self.planned.values.len() as i64 * i64::from(percent) / 100;
        let state = &self.store.partition(id(0)).expect("there").state;
        let expect = state.sealed.iter().filter(|facts| facts.end_offset <= before).count();
        let count = self.store.evict_local(id(0), before).expect("alive");
        assert_eq!(count as usize, expect);
        if count > 0 {
            self.drop_below(before);
        }
    }

    fn restore(&mut self) {
        // a restore may commit what is planned; do it before, so that the model knows when
        self.commit(Store::sync);
        let start = self.planned.local_start;
        let copy = self.archive.iter().find(|copy| copy.segment.end_offset == start).cloned();
        let Some(copy) = copy.filter(|copy| copy.segment.end_offset > self.planned.log_start) else { return };
        self.store.restore_segment(id(0), &copy).expect("fits");
        self.planned.local_start = copy.segment.base_offset;
        self.commit(Store::sync);
    }

    fn commit(&mut self, sync: impl Fn(&mut Store) -> crate::SyncOutcome) {
        let before = self.durable.values.len();
        let outcome = sync(&mut self.store);
        self.durable = self.planned.clone();
        let end = self.durable.values.len();
        let expect = if end > before { vec![(id(0), end as i64)] } else { Vec::new() };
        assert_eq!((outcome.durable, outcome.failed.len()), (expect, 0));
        for facts in self.store.sealed(id(0)).expect("there") {
            if !self.archive.iter().any(|copy| copy.segment.base_offset == facts.base_offset) {
                let data = self.store.segment_data(id(0), facts.base_offset).expect("sealed");
                self.archive.push(RestoredSegment { segment: facts, data });
            }
        }
    }

    fn crash(&mut self, how: impl Fn(&FaultyDisk)) {
        how(&self.disk);
        let (store, recovered) = open(&self.disk);
        assert_eq!(recovered[0].quarantined, None);
        self.store = store;
        self.planned = self.durable.clone();
    }

    fn check(&self) {
        let facts = self.store.facts(id(0)).expect("there");
        let truth = &self.durable;
        assert_eq!(
            (facts.durable_end, facts.end),
            (truth.values.len() as i64, self.planned.values.len() as i64)
        );
        assert_eq!(facts.log_start, truth.log_start);
        let sealed: Vec<SealedFacts> = self.store.sealed(id(0)).expect("there");
        assert!(sealed.windows(2).all(|pair| pair[0].end_offset == pair[1].base_offset));
        assert!(sealed.iter().all(|facts| facts.bytes <= 3_000 || facts.end_offset - facts.base_offset <= 3));
        let local = facts.local_start.max(facts.log_start);
        assert!(facts.local_start <= truth.local_start || facts.local_start == facts.durable_end);
        let read = read_all(&self.store.reader(id(0)).expect("there"));
        assert_eq!(read.len() as i64, facts.durable_end - local);
        for (offset, value) in read {
            assert_eq!(value, truth.values[offset as usize], "offset {offset}");
        }
        assert_eq!(self.store.epochs(id(0)).expect("there"), self.planned.epochs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_what_its_model_is(seed: u64, steps in prop::collection::vec(step(), 1..80)) {
        let mut model = Model::new(seed);
        steps.iter().for_each(|step| model.apply(step));
    }
}
