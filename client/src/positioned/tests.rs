//! Scenarios over a broker that loses, delays and refuses, with a source that crashes and repeats itself.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_proto::{ErrorCode, Record};

use super::{Appended, PartitionAppend, PositionedConfig};
use crate::client::Client;
use crate::testing::{Faults, MemoryTransport};

fn fake(seed: u64, faults: Faults) -> (MemoryTransport, Client) {
    let fake = MemoryTransport::new(seed, faults).with_topics(&[("orders", 3)]);
    (fake.clone(), fake.client())
}

fn config() -> PositionedConfig {
    PositionedConfig { batch_bytes: 150, ..PositionedConfig::default() }
}

/// Positions 0, 3, 6, .. so that they have gaps; the value is the position.
fn source(positions: std::ops::Range<i64>) -> Vec<(i64, Record)> {
    positions.map(|p| (p * 3, Record::new("key", (p * 3).to_string(), 0))).collect()
}

fn values(fake: &MemoryTransport, partition: usize) -> Vec<i64> {
    let text = |r: Record| String::from_utf8(r.value.expect("value").to_vec()).expect("utf-8");
    fake.partition_records("orders", partition)
        .into_iter()
        .map(|r| text(r).parse().expect("number"))
        .collect()
}

fn everywhere(positions: std::ops::Range<i64>) -> Vec<PartitionAppend> {
    let part =
        |partition| PartitionAppend { topic: "orders".into(), partition, records: source(positions.clone()) };
    (0..3).map(part).collect()
}

async fn reopen(client: &Client) -> super::PositionedProducer {
    loop {
        if let Ok(producer) = client.positioned_with("source", config()).await {
            return producer;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_repeats_itself_lands_each_record_once_and_in_order() {
    for seed in 0..150 {
        let (fake, client) = fake(seed, Faults::each(10));
        let mut rng = StdRng::seed_from_u64(seed);
        let mut producer = reopen(&client).await;
        let mut from = 0;
        while from < 60 {
            let to = rng.random_range(from..=60);
            for result in producer.append_many(everywhere(from..to)).await {
                result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            }
            from = to;
            if rng.random_range(0..3) == 0 {
                // a crash: the source starts again from an older position, under a new epoch
                producer = reopen(&client).await;
                from = rng.random_range(0..=from);
            }
        }
        for partition in 0..3 {
            let expected: Vec<_> = (0..60).map(|p| p * 3).collect();
            assert_eq!(values(&fake, partition), expected, "seed {seed} partition {partition}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_appends_to_a_partition_take_turns() {
    for seed in 0..50 {
        let (fake, client) = fake(seed, Faults::each(10));
        let producer = reopen(&client).await;
        let calls = (0..6).map(|n| {
            let producer = producer.clone();
            async move { producer.append("orders", 0, source(n * 10..(n + 1) * 10)).await }
        });
        for result in futures::future::join_all(calls).await {
            result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        assert_eq!(values(&fake, 0), (0..60).map(|p| p * 3).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_partition_holds_is_dropped_and_counted() {
    let (_fake, client) = fake(1, Faults::default());
    let producer = client.positioned("source").await.expect("opens");
    let first = producer.append("orders", 0, source(0..4)).await;
    assert_eq!(first, Ok(Appended { appended: 4, dropped: 0, base_offset: 0 }));
    let overlapping = producer.append("orders", 0, source(2..7)).await;
    assert_eq!(overlapping, Ok(Appended { appended: 3, dropped: 2, base_offset: 4 }));
    let repeated = producer.append("orders", 0, source(0..7)).await;
    assert_eq!(repeated, Ok(Appended { appended: 0, dropped: 7, base_offset: -1 }));
    assert_eq!(producer.append("orders", 0, Vec::new()).await.map(|a| a.appended), Ok(0));
}

#[tokio::test(start_paused = true)]
async fn an_older_epoch_is_fenced_and_the_same_epoch_can_be_resumed() {
    let (_fake, client) = fake(1, Faults::default());
    let old = client.positioned("source").await.expect("opens");
    old.append("orders", 0, source(0..1)).await.expect("lands");
    let new = client.positioned("source").await.expect("opens");
    assert_eq!((new.producer_id(), new.epoch()), (old.producer_id(), old.epoch() + 1));
    new.append("orders", 0, source(1..2)).await.expect("lands");
    assert_eq!(
        old.append("orders", 0, source(2..3)).await.map_err(|e| e.code),
        Err(ErrorCode::ProducerFenced)
    );
    let resumed = client.positioned_at("source", new.producer_id(), new.epoch(), config()).expect("valid");
    resumed.append("orders", 0, source(2..3)).await.expect("lands");
    assert!(client.positioned_at("source", 1, 40_000, config()).is_err());
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_per_partition() {
    let (fake, client) = fake(1, Faults::default());
    let producer = client.positioned("source").await.expect("opens");
    let mut parts = everywhere(0..3);
    parts[1].partition = 9;
    parts[2].records.reverse();
    let results = producer.append_many(parts).await;
    let codes: Vec<_> =
        results.into_iter().map(|result| result.map(|a| a.appended).map_err(|e| e.code)).collect();
    assert_eq!(codes, [Ok(3), Err(ErrorCode::UnknownPartition), Err(ErrorCode::InvalidArgument)]);
    assert_eq!(values(&fake, 2), Vec::<i64>::new());
}
