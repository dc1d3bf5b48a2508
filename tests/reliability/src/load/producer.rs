//! An application that sends, in its own order, and sometimes dies.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::{Ack, Client, Compression, Producer, ProducerConfig};
use tokio::task::JoinSet;

use super::{KEPT, LATEST, PLAIN, Shared, pause};
use crate::history::{Act, Fate, Sent};

pub(super) fn config(rng: &mut StdRng) -> ProducerConfig {
    ProducerConfig {
        compression: [Compression::None, Compression::Lz4, Compression::Zstd][rng.random_range(0..3)],
        linger_ms: [0, 5, 50][rng.random_range(0..3)],
        batch_bytes: [200, 4_000, 64_000][rng.random_range(0..3)],
        max_in_flight: rng.random_range(1..=5),
        delivery_timeout: Duration::from_secs([5, 20, 60][rng.random_range(0..3)]),
        request_timeout: Duration::from_secs([1, 5, 20][rng.random_range(0..3)]),
        ..ProducerConfig::default()
    }
}

/// Sends until the run stops; returns when every record has its outcome.
pub(super) async fn run(shared: Arc<Shared>, client: Client, mut rng: StdRng) {
    let mut outcomes = JoinSet::new();
    while !shared.stopped() {
        let process = shared.recorder.process();
        let Ok(producer) = client.producer(config(&mut rng)) else { return };
        // a producer that is dropped goes on with what it has: its successor is another process
        let life = rng.random_range(20..400);
        for _ in 0..life {
            if shared.stopped() {
                break;
            }
            if !send(&shared, &producer, process, &mut rng, &mut outcomes).await {
                break;
            }
            pause(&mut rng, 2..90).await;
        }
        if rng.random_range(0..2) == 0 || shared.stopped() {
            // the failures are in the outcomes
            let _ = producer.close().await;
        }
    }
    while outcomes.join_next().await.is_some() {}
}

/// One operation; whether the producer takes more.
async fn send(
    shared: &Arc<Shared>,
    producer: &Producer,
    process: u32,
    rng: &mut StdRng,
    outcomes: &mut JoinSet<()>,
) -> bool {
    let topic = [KEPT, LATEST, LATEST, PLAIN, PLAIN, PLAIN][rng.random_range(0..6)];
    let partition = rng.random_range(0..topic.partitions);
    let start = shared.recorder.now();
    let mut pending = Vec::new();
    let mut usable = true;
    for _ in 0..rng.random_range(1..5) {
        let (record, mut sent) = shared.record_for(rng, topic, partition, process);
        match producer.send_to(topic.name, Some(partition), record).await {
            Ok(ack) => pending.push((sent, Some(ack))),
            Err(_) => {
                // it was never queued
                (sent.fate, usable) = (Fate::Refused, false);
                pending.push((sent, None));
            }
        }
    }
    outcomes.spawn(settle(Arc::clone(shared), process, start, pending));
    usable
}

async fn settle(shared: Arc<Shared>, process: u32, start: u64, pending: Vec<(Sent, Option<Ack>)>) {
    let records = settled(pending).await;
    shared.recorder.done(process, start, Act::Send { txn: None, records });
}

/// What became of records that were queued, or were not.
pub(super) async fn settled(pending: Vec<(Sent, Option<Ack>)>) -> Vec<Sent> {
    let mut records = Vec::with_capacity(pending.len());
    for (mut sent, ack) in pending {
        if let Some(ack) = ack {
            sent.fate = match ack.await {
                Ok(place) => Fate::Acked(Some(place.offset).filter(|offset| *offset >= 0)),
                Err(_) => Fate::Unknown,
            };
        }
        records.push(sent);
    }
    records
}
