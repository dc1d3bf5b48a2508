//! The clients of a soak. They repeat what fails and count what they got done; whether it was right is not asked.
//!
//! Rate: about two appends that wait for the disk in a simulated second, so that a day takes minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_client::{Client, ConsumerConfig, NewTopic, ProducerConfig, Record, Result, TransactionalConfig};
use sunseo_proto::clock::Clock as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::sim::clock::SkewedClock;

/// Keeps records for ten minutes.
const KEPT: &str = "kept";
/// Keeps the newest record of each of its keys.
const LATEST: &str = "latest";
const KEYS: u32 = 500;
const PARTITIONS: i32 = 4;
/// Bytes of a record.
const BYTES: usize = 2_000;

const WORK: usize = 5;
/// What is counted.
const COUNTED: [&str; WORK] = [
    "records sent",
    "keyed records sent",
    "transactions ended",
    "records polled by groups",
    "topics made and deleted",
];

/// What was done, as [`COUNTED`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress(pub [u64; WORK]);

impl Progress {
    /// Of what nothing was done.
    pub(super) fn stalled(&self) -> Option<&'static str> {
        let at = self.0.iter().position(|done| *done == 0)?;
        Some(COUNTED[at])
    }
}

/// What every client has.
#[derive(Clone, Debug)]
struct Hand {
    client: Client,
    clock: Arc<SkewedClock>,
    counters: Arc<[AtomicU64; WORK]>,
}

impl Hand {
    fn count(&self, at: usize, done: usize) {
        self.counters[at].fetch_add(done as u64, Ordering::Relaxed);
    }

    /// Bytes that no compression makes smaller.
    fn record(&self, key: String, rng: &mut StdRng) -> Record {
        let value: Vec<u8> = (0..BYTES).map(|_| rng.random_range(0..=u8::MAX)).collect();
        Record::new(key, value, self.clock.now_ms())
    }

    fn keyed(&self, rng: &mut StdRng) -> Record {
        let key = format!("key-{}", rng.random_range(0..KEYS));
        self.record(key, rng)
    }
}

/// The running clients; they end with it.
#[derive(Debug)]
pub(super) struct Life {
    counters: Arc<[AtomicU64; WORK]>,
    _tasks: JoinSet<()>,
}

impl Life {
    pub(super) async fn begin(client: &Client, clock: Arc<SkewedClock>, rng: &mut StdRng) -> Result<Self> {
        let kept = NewTopic::new(KEPT, PARTITIONS)
            .with("retention_ms", 600_000)
            .with("segment_ms", 120_000)
            .with("segment_bytes", 256 << 10);
        let latest = NewTopic::new(LATEST, PARTITIONS)
            .with("cleanup", "compact")
            .with("segment_ms", 120_000)
            .with("segment_bytes", 64 << 10)
            .with("min_dirty_ratio", "0.3")
            .with("delete_retention_ms", 300_000);
        client.admin().create_topic(kept).await?;
        client.admin().create_topic(latest).await?;
        let (counters, mut tasks) = (Arc::default(), JoinSet::new());
        let hand = Hand { client: client.clone(), clock, counters: Arc::clone(&counters) };
        let mut seeded = || StdRng::seed_from_u64(rng.random_range(0..u64::MAX));
        tasks.spawn(send(hand.clone(), seeded()));
        tasks.spawn(update(hand.clone(), seeded()));
        tasks.spawn(transact(hand.clone(), seeded()));
        for number in 0..3 {
            tasks.spawn(take_part(hand.clone(), seeded(), number));
        }
        tasks.spawn(make_topics(hand.clone(), seeded()));
        Ok(Self { counters, _tasks: tasks })
    }

    /// What was done since it was last asked.
    pub(super) fn take_progress(&self) -> Progress {
        Progress(std::array::from_fn(|at| self.counters[at].swap(0, Ordering::Relaxed)))
    }
}

async fn pause(rng: &mut StdRng, ms: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(ms))).await;
}

/// Producers that live for some minutes and send to the topic that forgets.
async fn send(hand: Hand, mut rng: StdRng) {
    loop {
        let Ok(producer) = hand.client.producer(ProducerConfig::default()) else { return };
        let until = Instant::now() + Duration::from_secs(rng.random_range(60..600));
        while Instant::now() < until {
            let mut acks = Vec::new();
            for _ in 0..rng.random_range(1..6) {
                let record = hand.record(String::new(), &mut rng);
                let partition = rng.random_range(0..PARTITIONS);
                acks.extend(producer.send_to(KEPT, Some(partition), record).await.ok());
            }
            let done = futures::future::join_all(acks).await;
            hand.count(0, done.iter().filter(|done| done.is_ok()).count());
            pause(&mut rng, 1_000..4_000).await;
        }
        // what it could not deliver is not asked for
        let _ = producer.close().await;
    }
}

/// A few keys that get new values, or are deleted.
async fn update(hand: Hand, mut rng: StdRng) {
    let Ok(producer) = hand.client.producer(ProducerConfig::default()) else { return };
    loop {
        let mut record = hand.keyed(&mut rng);
        if rng.random_range(0..4) == 0 {
            record.value = None;
        }
        if let Ok(ack) = producer.send(LATEST, record).await {
            hand.count(1, usize::from(ack.await.is_ok()));
        }
        pause(&mut rng, 1_000..4_000).await;
    }
}

/// Transactional names that are used for some minutes and never again.
async fn transact(hand: Hand, mut rng: StdRng) {
    for number in 0.. {
        let name = format!("name-{number}");
        let Ok(mut producer) = hand.client.transactional(&name, TransactionalConfig::default()).await else {
            pause(&mut rng, 100..1_000).await;
            continue;
        };
        for _ in 0..rng.random_range(5..60) {
            let commit = rng.random_range(0..4) > 0;
            if transaction(&hand, &mut producer, commit, &mut rng).await.is_ok() {
                hand.count(2, 1);
            } else if producer.abort().await.is_err() {
                break;
            }
            pause(&mut rng, 4_000..12_000).await;
        }
    }
}

async fn transaction(
    hand: &Hand,
    producer: &mut sunseo_client::TransactionalProducer,
    commit: bool,
    rng: &mut StdRng,
) -> Result<()> {
    producer.begin()?;
    for topic in [KEPT, LATEST] {
        drop(producer.send(topic, hand.keyed(rng)).await?);
    }
    if commit { producer.commit().await } else { producer.abort().await }
}

/// Groups that have members for some minutes and then nobody.
async fn take_part(hand: Hand, mut rng: StdRng, who: u32) {
    for number in 0.. {
        let mut config = ConsumerConfig::group(format!("group-{who}-{number}"), [KEPT]);
        config.on_out_of_range = sunseo_client::OutOfRangePolicy::Start;
        config.fetch_wait = Duration::from_secs(20);
        config.auto_commit = Some(Duration::from_secs(30));
        let Ok(mut consumer) = hand.client.consumer(config).await else {
            pause(&mut rng, 100..1_000).await;
            continue;
        };
        let until = Instant::now() + Duration::from_secs(rng.random_range(60..900));
        while Instant::now() < until {
            let Ok(records) = consumer.poll(Duration::from_secs(20)).await else { break };
            hand.count(3, records.len());
        }
        if rng.random_range(0..2) == 0 {
            // who leaves without a word is missed after its session
            let _ = consumer.close().await;
        }
        if rng.random_range(0..4) == 0 {
            let _ = hand.client.admin().delete_group(&format!("group-{who}-{number}")).await;
        }
    }
}

/// Topics of new names that get some records and go.
async fn make_topics(hand: Hand, mut rng: StdRng) {
    let mut number = 0_u64;
    loop {
        number += 1;
        let name = format!("passing-{number}");
        let Ok(producer) = hand.client.producer(ProducerConfig::default()) else { return };
        let topic = NewTopic::new(&name, 3).if_not_exists();
        while hand.client.admin().create_topic(topic.clone()).await.is_err() {
            pause(&mut rng, 100..1_000).await;
        }
        for _ in 0..10 {
            if let Ok(ack) = producer.send(&name, hand.record(String::new(), &mut rng)).await {
                let _ = ack.await;
            }
        }
        pause(&mut rng, 10_000..120_000).await;
        // a node that is away is asked again
        while hand.client.admin().delete_topic(&name).await.is_err_and(|error| error.retryable()) {
            pause(&mut rng, 100..1_000).await;
        }
        hand.count(4, 1);
    }
}
