//! SIGKILL at any moment: what was acknowledged is there, once and in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_client::{Client, ConsumerConfig, NewTopic, ProducerConfig, Record};

use crate::harness::Node;

const PRODUCERS: u64 = 3;
const KILLS: usize = 5;

/// Sends numbered records until it is told to stop; how many were acknowledged, which is all of them.
async fn produce(client: Client, producer: u64, stop: Arc<AtomicBool>) -> u64 {
    let sender = client.producer(ProducerConfig::default()).unwrap();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut acks = Vec::new();
        for _ in 0..200 {
            let record = Record::new(format!("p{producer}"), format!("{sent}"), 1);
            acks.push(sender.send("t", record).await.unwrap());
            sent += 1;
        }
        for ack in acks {
            ack.await.unwrap();
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_again_and_again_loses_nothing_and_repeats_nothing() {
    let seed = 20_261_124;
    let mut random = StdRng::seed_from_u64(seed);
    let mut node = Node::start();
    let client = node.client().await;
    client.admin().create_topic(NewTopic::new("t", 4)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|number| tokio::spawn(produce(client.clone(), number, Arc::clone(&stop))))
        .collect();
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.random_range(200..900))).await;
        // blocks this worker only: the producers run on the other
        tokio::task::block_in_place(|| {
            node.kill();
            node.restart();
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = HashMap::new();
    for (number, producer) in (0..PRODUCERS).zip(producers) {
        acknowledged.insert(format!("p{number}"), producer.await.unwrap());
    }
    let mut next: HashMap<String, u64> = HashMap::new();
    let mut consumer = node.client().await.consumer(ConsumerConfig::topics(["t"])).await.unwrap();
    let total: u64 = acknowledged.values().sum();
    let mut read = 0;
    while read < total {
        let records = consumer.poll(Duration::from_secs(10)).await.unwrap();
        assert!(!records.is_empty(), "seed {seed}: {read} of {total} records are there");
        for consumed in records {
            let key = String::from_utf8(consumed.record.key.unwrap().to_vec()).unwrap();
            let value: u64 = std::str::from_utf8(&consumed.record.value.unwrap()).unwrap().parse().unwrap();
            let expected = next.entry(key.clone()).or_default();
            assert_eq!(value, *expected, "seed {seed}: key {key} in partition {}", consumed.partition);
            *expected += 1;
            read += 1;
        }
    }
    assert_eq!(next, acknowledged, "seed {seed}");
    let more = consumer.poll(Duration::from_millis(500)).await.unwrap();
    assert!(more.is_empty(), "seed {seed}: {} records more than were sent", more.len());
}

#[test]
fn groups_and_topics_survive_a_kill() {
    let mut node = Node::start();
    node.run(&["topic", "create", "t", "-p", "1", "-c", "retention_ms=12345678"]).ok();
    node.run_with(&["produce", "t"], b"0\n1\n2\n").ok();
    assert_eq!(node.run(&["consume", "t", "-g", "g", "-n", "2", "-f", "%v "]).ok().text(), "0 1 ");
    node.kill();
    node.restart();
    assert_eq!(
        node.run(&["topic", "describe", "t", "--json"]).ok().json()["config"]["retention_ms"],
        12_345_678
    );
    assert_eq!(node.run(&["consume", "t", "-g", "g", "-n", "1", "-f", "%v "]).ok().text(), "2 ");
}
