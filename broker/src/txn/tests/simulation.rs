//! Producers, partitions and a group under one coordinator whose log is faulty and whose node dies between any two steps; partitions
//! join one by one and fail, appends and ends come late and twice, answers get lost. What must hold: every transaction has one
//! outcome, the same in every partition and in the group; what its producer was told is that outcome; nothing stays open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_proto::batch::{self, BatchBuilder, BatchHeader, Compression, Ending};
use sunseo_proto::clock::ManualClock;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{PartitionId, Record, TopicId, v1};

use crate::TransactionConfig;
use crate::memory_log::{Fault, MemoryLog};
use crate::txn::outcome::{Marker, Outcomes};
use crate::txn::{Identity, Registry, Transactions};

const PRODUCERS: usize = 3;
const PARTITIONS: i32 = 5;
/// Stands for the group among the partitions.
const GROUP: i32 = PARTITIONS;

/// A place that holds data of transactions: a partition, or the group.
#[derive(Debug, Default)]
struct Place {
    open: BTreeMap<i64, i16>,
    /// Values of each transaction.
    values: BTreeMap<Identity, BTreeSet<u32>>,
    outcomes: BTreeMap<Identity, Ending>,
    /// Until the restart.
    failed: bool,
}

impl Place {
    fn take(&mut self, of: Identity, value: u32) {
        let open = *self.open.entry(of.producer_id).or_insert(of.epoch);
        assert_eq!(open, of.epoch, "a batch among those of another transaction");
        assert!(!self.outcomes.contains_key(&of), "a batch after the end of its transaction");
        self.values.entry(of).or_default().insert(value);
    }

    fn mark(&mut self, marker: Marker) {
        let Identity { producer_id, epoch } = marker.identity;
        if let Some(open) = self.open.get(&producer_id).copied().filter(|open| *open < epoch) {
            self.open.remove(&producer_id);
            self.outcomes.insert(Identity { producer_id, epoch: open }, marker.ending);
        }
    }
}

/// All places; calls fail before or after they take effect, and all calls to a place that failed.
#[derive(Debug)]
struct World(Mutex<(StdRng, Vec<Place>)>);

impl World {
    fn mark(&self, place: usize, marker: Marker) -> Result<()> {
        let mut world = self.0.lock().unwrap();
        let fault = world.0.random_range(0..8);
        if world.1[place].failed {
            return Err(Error::new(ErrorCode::PartitionFailed, "scripted"));
        }
        if fault != 0 {
            world.1[place].mark(marker);
        }
        match fault {
            0 | 1 => Err(Error::new(ErrorCode::Unavailable, "scripted")),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Outcomes for World {
    async fn mark(&self, ids: &[PartitionId], marker: Marker) -> Vec<Result<()>> {
        tokio::task::yield_now().await;
        ids.iter().map(|id| World::mark(self, id.partition as usize, marker)).collect()
    }

    async fn settle(&self, _: &str, marker: Marker) -> Result<()> {
        tokio::task::yield_now().await;
        World::mark(self, GROUP as usize, marker)
    }
}

fn id(partition: i32) -> PartitionId {
    PartitionId { topic_id: TopicId(uuid::Uuid::from_u128(5)), partition }
}

fn header(of: Identity) -> BatchHeader {
    let mut builder =
        BatchBuilder::new(Compression::None).producer(of.producer_id, of.epoch, 0).transactional();
    builder.push(&Record::new("k", "v", 1));
    batch::validate(&builder.build()).unwrap()
}

/// Something that is on its way.
#[derive(Clone, Debug)]
enum Late {
    Append { of: Identity, place: i32, value: u32 },
    End(v1::EndTransactionRequest),
}

#[derive(Debug, Default)]
struct Producer {
    identity: Option<Identity>,
    /// Values that were acknowledged, with their places; an append without an answer dooms it.
    sent: BTreeMap<u32, i32>,
    doomed: bool,
    begun: bool,
}

struct Sim {
    seed: u64,
    rng: StdRng,
    log: Arc<MemoryLog>,
    world: Arc<World>,
    registry: Arc<Registry>,
    transactions: Transactions,
    producers: Vec<Producer>,
    late: Vec<Late>,
    /// What producers were told of their transactions, with what was acknowledged in them.
    told: BTreeMap<Identity, (Ending, BTreeMap<u32, i32>)>,
    next_value: u32,
    next_producer: i64,
    failures_told: usize,
}

async fn open(
    log: &Arc<MemoryLog>,
    world: &Arc<World>,
    snapshot_records: u64,
) -> (Arc<Registry>, Transactions) {
    let registry = Arc::new(Registry::default());
    let config = TransactionConfig { snapshot_records, ..TransactionConfig::default() };
    let clock = Arc::new(ManualClock::new(1_000));
    let outcomes: Arc<dyn Outcomes> = world.clone();
    let started = Transactions::start(log.clone(), Arc::clone(&registry), outcomes, config, clock).await;
    (registry, started.expect("starts"))
}

impl Sim {
    async fn new(seed: u64) -> Self {
        let places = (0..=GROUP).map(|_| Place::default()).collect();
        let world = Arc::new(World(Mutex::new((StdRng::seed_from_u64(!seed), places))));
        let log = Arc::new(MemoryLog::default());
        let (registry, transactions) = open(&log, &world, 4 + seed % 30).await;
        Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            log,
            world,
            registry,
            transactions,
            producers: (0..PRODUCERS).map(|_| Producer::default()).collect(),
            late: Vec::new(),
            told: BTreeMap::new(),
            next_value: 0,
            next_producer: 100,
            failures_told: 0,
        }
    }

    async fn restart(&mut self) {
        self.transactions.stop().await;
        self.log.crash();
        // what was on its way to the former node never arrives
        if self.rng.random_bool(0.5) {
            self.late.retain(|late| matches!(late, Late::End(_)));
        }
        self.world.0.lock().unwrap().1.iter_mut().for_each(|place| place.failed = false);
        (self.registry, self.transactions) = open(&self.log, &self.world, 4 + self.seed % 30).await;
    }

    fn spare(&mut self) -> i64 {
        self.next_producer += 1;
        self.next_producer
    }

    async fn init(&mut self, index: usize) {
        for _ in 0..50 {
            let spare = self.spare();
            let told = self.transactions.init(&format!("p{index}"), 60_000, spare).await;
            match told {
                Ok(told) => {
                    let epoch = i16::try_from(told.producer_epoch).unwrap();
                    let identity = Some(Identity { producer_id: told.producer_id, epoch });
                    self.producers[index] = Producer { identity, ..Producer::default() };
                    return;
                }
                Err(error) => assert!(error.retryable(), "seed {}: {error}", self.seed),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("seed {}: no identity", self.seed);
    }

    /// The partition joins and takes the value, at once or late.
    async fn append(&mut self, index: usize) {
        let Some(of) = self.producers[index].identity.filter(|_| !self.producers[index].doomed) else {
            return;
        };
        let place = self.rng.random_range(0..=GROUP);
        self.next_value += 1;
        let value = self.next_value;
        self.producers[index].begun = true;
        let joined = self.join(index, of, place).await;
        let is_late = self.rng.random_bool(0.15);
        if is_late {
            self.late.push(Late::Append { of, place, value });
        }
        let landed = joined.is_ok() && !is_late && self.land(of, place, value);
        let answer_lost = self.rng.random_bool(0.1);
        let producer = &mut self.producers[index];
        match landed && !answer_lost {
            true => drop(producer.sent.insert(value, place)),
            false => producer.doomed = true,
        }
    }

    async fn join(&mut self, index: usize, of: Identity, place: i32) -> Result<()> {
        let name = format!("p{index}");
        match place {
            GROUP => self.transactions.join(&name, of, vec![], vec!["g".to_owned()]).await,
            place => {
                // others with it, of which nothing may come
                let more = (0..PARTITIONS).filter(|_| self.rng.random_bool(0.2)).map(id);
                let partitions = std::iter::once(id(place)).chain(more).collect();
                self.transactions.join(&name, of, partitions, vec![]).await
            }
        }
    }

    /// What the log's thread, or the group's task, does.
    fn land(&self, of: Identity, place: i32, value: u32) -> bool {
        let permitted = match place {
            GROUP => self.registry.check_group(of, "g"),
            place => self.registry.check(&header(of), id(place)),
        };
        let place = &mut self.world.0.lock().unwrap().1[place as usize];
        let lands = permitted.is_ok() && !place.failed;
        if lands {
            place.take(of, value);
        }
        lands
    }

    async fn end(&mut self, index: usize) {
        let Some(of) = self.producers[index].identity.filter(|_| self.producers[index].begun) else { return };
        let commit = !self.producers[index].doomed && self.rng.random_bool(0.7);
        let request = v1::EndTransactionRequest {
            transactional_id: format!("p{index}"),
            producer_id: of.producer_id,
            producer_epoch: of.epoch.into(),
            commit,
        };
        if self.rng.random_bool(0.3) {
            self.late.push(Late::End(request.clone()));
        }
        for attempt in 0..60 {
            if attempt > 0 && self.rng.random_bool(0.2) {
                self.restart().await;
            }
            let spare = self.spare();
            let ended = self.transactions.end(request.clone(), spare).await;
            if self.rng.random_bool(0.2) {
                // the answer is lost: the same again
                continue;
            }
            match ended {
                Ok(told) => {
                    let ending = if commit { Ending::Commit } else { Ending::Abort };
                    let sent = std::mem::take(&mut self.producers[index].sent);
                    self.told.insert(of, (ending, sent));
                    let epoch = i16::try_from(told.producer_epoch).unwrap();
                    let identity = Some(Identity { producer_id: told.producer_id, epoch });
                    self.producers[index] = Producer { identity, ..Producer::default() };
                    return;
                }
                // as clients do
                Err(error) if error.retryable() => tokio::time::sleep(Duration::from_millis(50)).await,
                // ended for good, though a place does not show it
                Err(error) if error.code == ErrorCode::PartitionFailed => {
                    let ending = if commit { Ending::Commit } else { Ending::Abort };
                    let sent = std::mem::take(&mut self.producers[index].sent);
                    self.told.insert(of, (ending, sent));
                    self.failures_told += 1;
                    return self.init(index).await;
                }
                // aborted by its time-out, or nothing of it had arrived
                Err(_) => return self.init(index).await,
            }
        }
        panic!("seed {}: no end", self.seed);
    }

    async fn arrive(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.late.len());
        match self.late[at].clone() {
            Late::Append { of, place, value } => {
                self.late.remove(at);
                self.land(of, place, value);
            }
            Late::End(request) => {
                // may come once more
                if self.rng.random_bool(0.5) {
                    self.late.remove(at);
                }
                let spare = self.spare();
                // nobody waits for the answer
                let _ = self.transactions.end(request, spare).await;
            }
        }
    }

    async fn step(&mut self) {
        if self.rng.random_bool(0.06) {
            let fault = *[Fault::Refused, Fault::AnswerLost, Fault::Late].choose(&mut self.rng).unwrap();
            self.log.script([fault]);
        }
        let index = self.rng.random_range(0..PRODUCERS);
        if self.producers[index].identity.is_none() {
            return self.init(index).await;
        }
        match self.rng.random_range(0..40) {
            0..22 => self.append(index).await,
            22..30 => self.end(index).await,
            30..34 => self.arrive().await,
            34 => self.restart().await,
            35 => self.init(index).await,
            36 => tokio::time::sleep(Duration::from_secs(45)).await,
            // not the group: it is as sound as the coordinator's own log
            38 if self.rng.random_bool(0.3) => {
                let place = self.rng.random_range(0..PARTITIONS);
                self.world.0.lock().unwrap().1[place as usize].failed = true;
            }
            // an operator
            37 => drop(self.transactions.abort(&format!("p{index}")).await),
            _ => tokio::task::yield_now().await,
        }
    }

    async fn calm(&mut self) {
        self.restart().await;
        for index in 0..PRODUCERS {
            self.init(index).await;
        }
        while !self.late.is_empty() {
            self.arrive().await;
        }
        for index in 0..PRODUCERS {
            self.init(index).await;
        }
        // what is owed since the restart is not waited for
        tokio::time::sleep(Duration::from_secs(30)).await;
    }

    fn check(&self) {
        let world = self.world.0.lock().unwrap();
        let seed = self.seed;
        let mut outcomes: BTreeMap<Identity, Ending> = BTreeMap::new();
        for (n, place) in world.1.iter().enumerate() {
            assert!(place.open.is_empty(), "seed {seed}: {:?} hang in place {n}", place.open);
            for of in place.values.keys() {
                let ending = place.outcomes[of];
                let first = *outcomes.entry(*of).or_insert(ending);
                assert_eq!(first, ending, "seed {seed}: {of:?} has two outcomes");
            }
        }
        for (of, (ending, sent)) in &self.told {
            if let Some(found) = outcomes.get(of) {
                assert_eq!(found, ending, "seed {seed}: {of:?} is not what its producer was told");
            }
            for (value, place) in sent {
                let there = &world.1[*place as usize].values[of];
                assert!(there.contains(value), "seed {seed}: {value} of {of:?} is lost");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_transaction_has_one_outcome_everywhere_and_its_producer_knows_it() {
    let (mut committed, mut aborted, mut failures) = (0, 0, 0);
    for seed in 0..120 {
        let mut sim = Sim::new(seed).await;
        for _ in 0..150 {
            sim.step().await;
        }
        sim.calm().await;
        sim.check();
        committed += sim.told.values().filter(|(ending, _)| *ending == Ending::Commit).count();
        failures += sim.failures_told;
        aborted += sim.told.values().filter(|(ending, _)| *ending == Ending::Abort).count();
    }
    assert!(
        committed > 500 && aborted > 200 && failures > 20,
        "{committed}, {aborted} and {failures}: the scenario is meant to have all"
    );
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_silent_for_long_is_forgotten() {
    let places = (0..=GROUP).map(|_| Place::default()).collect();
    let world = Arc::new(World(Mutex::new((StdRng::seed_from_u64(1), places))));
    let log = Arc::new(MemoryLog::default());
    let (registry, clock) = (Arc::new(Registry::default()), Arc::new(ManualClock::new(1_000)));
    let config = TransactionConfig::default();
    let expiry_ms = config.id_expiry_ms;
    let started =
        Transactions::start(log.clone(), Arc::clone(&registry), world.clone(), config, clock.clone());
    let transactions = started.await.expect("starts");
    transactions.init("bills", 0, 7).await.expect("new");
    clock.advance(expiry_ms);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(transactions.describe("bills").await.is_ok(), "not longer than that");
    clock.advance(1);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let gone = transactions.describe("bills").await.map(drop).map_err(|error| error.code);
    assert_eq!(gone, Err(ErrorCode::UnknownTransactionalId));
    let of = Identity { producer_id: 7, epoch: 0 };
    let refused = registry.check(&header(of), id(0)).map_err(|error| error.code);
    assert_eq!(refused, Err(ErrorCode::ProducerFenced));
    transactions.stop().await;
    let (_, transactions) = open(&log, &world, 100).await;
    assert!(transactions.describe("bills").await.is_err(), "after a restart as well");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_refuses_is_not_asked_without_a_pause() {
    let places = (0..=GROUP).map(|_| Place::default()).collect();
    let world = Arc::new(World(Mutex::new((StdRng::seed_from_u64(1), places))));
    let log = Arc::new(MemoryLog::default());
    let (_, transactions) = open(&log, &world, 1_000).await;
    let of = Identity { producer_id: 7, epoch: 0 };
    transactions.init("bills", 60_000, of.producer_id).await.expect("new");
    transactions.join("bills", of, vec![id(0)], vec![]).await.expect("joins");
    let before = log.appends();
    // as when a disk is full: the decision is stored, that everybody has it is not
    log.script(std::iter::once(Fault::None).chain(std::iter::repeat_n(Fault::Refused, 10_000)));
    let request = v1::EndTransactionRequest {
        transactional_id: "bills".to_owned(),
        producer_id: of.producer_id,
        producer_epoch: of.epoch.into(),
        commit: true,
    };
    // whether it is answered meanwhile is another matter
    let _ = tokio::time::timeout(Duration::from_secs(10), transactions.end(request, 900)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = log.appends() - before;
    assert!((10..200).contains(&asked), "{asked} appends in 10 to 20 s");
    log.crash();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (summary, _) = transactions.describe("bills").await.expect("known");
    assert_eq!(summary.state, "complete_commit");
}
