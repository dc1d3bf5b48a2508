//! Scenarios over a broker that loses, delays and refuses.

use std::time::Duration;

use sunseo_proto::{ErrorCode, Record};

use super::{Ack, ProducerConfig};
use crate::client::Client;
use crate::testing::{Faults, MemoryTransport};

const PARTITIONS: i32 = 3;

fn fake(seed: u64, faults: Faults) -> (MemoryTransport, Client) {
    let fake = MemoryTransport::new(seed, faults).with_topics(&[("orders", PARTITIONS)]);
    (fake.clone(), fake.client())
}

fn small_batches() -> ProducerConfig {
    ProducerConfig { batch_bytes: 120, linger_ms: 1, ..ProducerConfig::default() }
}

/// Record `n` of a partition says so in its value.
fn record(n: usize) -> Record {
    Record::new("key", n.to_string(), 0)
}

fn numbers(fake: &MemoryTransport, partition: i32) -> Vec<usize> {
    let text = |r: Record| String::from_utf8(r.value.expect("value").to_vec()).expect("utf-8");
    fake.partition_records("orders", partition as usize)
        .into_iter()
        .map(|r| text(r).parse().expect("number"))
        .collect()
}

async fn send(client: &Client, config: ProducerConfig, per_partition: usize) -> Vec<(i32, usize, Ack)> {
    let producer = client.producer(config).expect("valid");
    let mut acks = Vec::new();
    for n in 0..per_partition {
        for partition in 0..PARTITIONS {
            // refused when not even the topic could be asked for in time; then it must not land
            if let Ok(ack) = producer.send_to("orders", Some(partition), record(n)).await {
                acks.push((partition, n, ack));
            }
        }
    }
    let _ = producer.close().await;
    acks
}

#[tokio::test(start_paused = true)]
async fn every_record_lands_once_and_in_order_whatever_gets_lost() {
    for seed in 0..150 {
        let (fake, client) = fake(seed, Faults::each(10));
        let config = ProducerConfig { delivery_timeout: Duration::from_secs(100_000), ..small_batches() };
        let acks = send(&client, config, 60).await;
        for partition in 0..PARTITIONS {
            assert_eq!(
                numbers(&fake, partition),
                (0..60).collect::<Vec<_>>(),
                "seed {seed} partition {partition}"
            );
        }
        for (partition, n, ack) in acks {
            let place = ack.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!((place.partition, place.offset), (partition, n as i64), "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_short_delivery_timeout_a_record_fails_but_never_lands_twice_and_the_acknowledged_are_in_order()
 {
    let mut failed = 0;
    for seed in 0..400 {
        // mostly unknown outcomes, or mostly refusals with a few late arrivals among them
        let faults = match seed % 2 {
            0 => Faults { lose_request: 25, lose_answer: 25, late: 15, refuse: 25 },
            _ => Faults { late: 8, refuse: 70, ..Faults::default() },
        };
        let (fake, client) = fake(seed, faults);
        let config = ProducerConfig { delivery_timeout: Duration::from_millis(60), ..small_batches() };
        let acks = send(&client, config, 60).await;
        let logs: Vec<_> = (0..PARTITIONS).map(|partition| numbers(&fake, partition)).collect();
        for log in &logs {
            let mut once = log.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), log.len(), "seed {seed}: a record landed twice in {log:?}");
        }
        let mut last = vec![-1; PARTITIONS as usize];
        for (partition, n, ack) in acks {
            let Ok(place) = ack.await else {
                failed += 1;
                continue;
            };
            let (log, last) = (&logs[partition as usize], &mut last[partition as usize]);
            assert_eq!(log[place.offset as usize], n, "seed {seed}: the offset is another record's");
            assert!(place.offset > *last, "seed {seed}: {n} is out of order");
            *last = place.offset;
        }
    }
    assert!(failed > 0, "the scenario is meant to let some records fail");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_the_broker_will_never_take_fails_alone() {
    let (fake, client) = fake(1, Faults::default());
    fake.broker().max_batch_bytes = 400;
    let producer = client
        .producer(ProducerConfig { batch_bytes: 200, linger_ms: 0, ..Default::default() })
        .expect("valid");
    let mut acks = Vec::new();
    for n in 0..20 {
        let mut record = record(n);
        if n == 10 {
            record.value = Some(vec![b'x'; 1000].into());
        }
        acks.push(producer.send_to("orders", Some(0), record).await.expect("queued"));
    }
    assert_eq!(producer.flush().await.map_err(|e| e.code), Err(ErrorCode::BatchTooLarge));
    producer.flush().await.expect("the failure was told once");
    for (n, ack) in acks.into_iter().enumerate() {
        assert_eq!(ack.await.is_ok(), n != 10, "record {n}");
    }
    assert_eq!(numbers(&fake, 0), (0..20).filter(|n| *n != 10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_is_refused_with_its_remedy() {
    let (_fake, client) = fake(1, Faults::default());
    let producer = client.producer(ProducerConfig::default()).expect("valid");
    let code = |result: crate::Result<Ack>| result.map(drop).map_err(|error| error.code);
    assert_eq!(code(producer.send("riders", record(1)).await), Err(ErrorCode::UnknownTopic));
    assert_eq!(code(producer.send_to("orders", Some(3), record(1)).await), Err(ErrorCode::UnknownPartition));
    let mut reserved = record(1);
    reserved.headers.push(sunseo_proto::Header::new("sunseo.position", "x"));
    assert_eq!(code(producer.send("orders", reserved).await), Err(ErrorCode::InvalidArgument));
    producer.close().await.expect("nothing failed");
    assert_eq!(code(producer.send("orders", record(1)).await), Err(ErrorCode::Unavailable));
    assert!(client.producer(ProducerConfig { max_in_flight: 6, ..Default::default() }).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_makes_send_wait_and_a_dropped_producer_still_delivers() {
    let (fake, client) = fake(7, Faults::each(10));
    let config = ProducerConfig { buffer_bytes: 300, ..small_batches() };
    let producer = client.producer(config).expect("valid");
    let mut acks = Vec::new();
    for n in 0..100 {
        acks.push(producer.send_to("orders", Some(1), record(n)).await.expect("queued"));
        assert!(producer.buffered_bytes() <= 300);
    }
    drop(producer);
    for ack in acks {
        ack.await.expect("delivered");
    }
    assert_eq!(numbers(&fake, 1), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_grew_is_found() {
    let (fake, client) = fake(3, Faults::default());
    let producer = client.producer(small_batches()).expect("valid");
    producer.send("orders", record(0)).await.expect("queued").await.expect("lands");
    fake.make_topic("orders", PARTITIONS as usize + 1, 0);
    let ack = producer.send_to("orders", Some(PARTITIONS), record(1)).await.expect("queued");
    assert_eq!(ack.await.expect("lands").offset, 0);
}
