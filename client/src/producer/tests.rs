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
    let undelivered = producer.flush().await.expect_err("one record is too large");
    assert_eq!((undelivered.records(), undelivered.unknown(), undelivered.partitions.len()), (1, 0, 1));
    assert_eq!(undelivered.partitions[0].first_error.code, ErrorCode::BatchTooLarge);
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

#[tokio::test(start_paused = true)]
async fn a_partition_that_forgets_its_producers_again_and_again_loses_and_repeats_nothing() {
    for seed in 0..60 {
        let (fake, client) = fake(seed, Faults { lose_answer: 15, refuse: 15, ..Faults::default() });
        let producer = client.producer(small_batches()).expect("valid");
        let mut acks = Vec::new();
        for n in 0..120 {
            acks.push((n, producer.send_to("orders", Some(0), record(n)).await.expect("queued")));
            if n % 30 == 0 {
                // as after a long silence; what comes next meets a partition that knows nobody
                tokio::time::sleep(Duration::from_secs(20)).await;
                fake.broker().partition("orders", 0).forget_producers();
            }
            if n % 5 == 0 {
                tokio::time::sleep(Duration::from_millis(13)).await;
            }
        }
        let undelivered = producer.close().await.err().map_or(0, |undelivered| undelivered.records());
        let log = numbers(&fake, 0);
        let mut failed = 0;
        for (n, ack) in acks {
            match ack.await {
                Ok(place) if place.offset >= 0 => {
                    assert_eq!(log[place.offset as usize], n, "seed {seed}: the offset is another record's");
                }
                Ok(_) => {}
                Err(error) => {
                    assert!(
                        error.message.contains("unknown") || error.message.contains("order"),
                        "seed {seed}: {error}"
                    );
                    failed += 1;
                }
            }
        }
        assert_eq!(undelivered, failed, "seed {seed}");
        assert!(log.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: {log:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_deleted_and_made_again_smaller_takes_records_again() {
    let (fake, client) = fake(5, Faults::default());
    let producer = client.producer(small_batches()).expect("valid");
    for n in 0..30 {
        let mut record = record(n);
        record.key = Some(n.to_string().into());
        producer.send("orders", record).await.expect("queued").await.expect("lands");
    }
    fake.remove_topic("orders");
    let gone = producer.send_to("orders", Some(2), record(0)).await.expect("queued").await;
    assert_eq!(gone.map_err(|error| error.code), Err(ErrorCode::UnknownTopic));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = producer.send("orders", record(0)).await.map(drop);
    assert_eq!(refused.map_err(|error| error.code), Err(ErrorCode::UnknownTopic), "told at once by now");
    fake.make_topic("orders", 1, 0);
    let undelivered = producer.flush().await.expect_err("one was refused");
    assert_eq!(undelivered.partitions[0].first_error.code, ErrorCode::UnknownTopic);
    for n in 0..30 {
        let mut record = record(n);
        record.key = Some(n.to_string().into());
        drop(producer.send("orders", record).await.expect("queued"));
    }
    producer.close().await.expect("all delivered");
    assert_eq!(numbers(&fake, 0), (0..30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_refuses_at_once_or_after_the_longest_wait() {
    let (fake, client) = fake(7, Faults { refuse: 100, ..Faults::default() });
    let config = ProducerConfig { buffer_bytes: 300, max_block: Duration::from_secs(3), ..small_batches() };
    let producer = client.producer(config).expect("valid");
    let unknown = producer.try_send("orders", None, &record(0)).map(drop);
    assert_eq!(unknown.map_err(|error| error.code), Err(ErrorCode::Unavailable));
    producer.prepare("orders").await.expect("it exists");
    let mut queued = 0;
    let refusal = loop {
        match producer.try_send("orders", Some(1), &record(queued)) {
            Ok(_) => queued += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refusal.code, ErrorCode::Overloaded);
    assert!(refusal.message.contains("300 bytes"), "{refusal}");
    let before = tokio::time::Instant::now();
    let late = producer.send_to("orders", Some(1), record(99)).await.map(drop);
    assert_eq!(late.map_err(|error| error.code), Err(ErrorCode::Overloaded));
    assert_eq!(before.elapsed().as_secs(), 3);
    fake.calm();
    producer.close().await.expect("all delivered");
    assert_eq!(numbers(&fake, 1), (0..queued).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn closing_is_bounded_and_tells_what_is_missing() {
    let (fake, client) = fake(7, Faults { refuse: 100, ..Faults::default() });
    let producer = client.producer(small_batches()).expect("valid");
    let mut acks = Vec::new();
    for n in 0..10 {
        acks.push(producer.send_to("orders", Some(n % 2), record(n as usize)).await.expect("queued"));
    }
    let before = tokio::time::Instant::now();
    let undelivered = producer.close_within(Duration::from_secs(2)).await.expect_err("nothing lands");
    assert_eq!(before.elapsed().as_secs(), 2);
    let told: Vec<_> = undelivered.partitions.iter().map(|p| (p.partition, p.records)).collect();
    assert_eq!(told, [(0, 5), (1, 5)]);
    for ack in acks {
        assert!(ack.await.is_err());
    }
    fake.calm();
    assert_eq!(producer.buffered_bytes(), 0);
    assert_eq!(fake.len("orders"), 0);
}

#[tokio::test(start_paused = true)]
async fn no_answer_at_all_fails_a_record_at_its_time() {
    let (_fake, client) = fake(7, Faults { lose_answer: 100, ..Faults::default() });
    let config = ProducerConfig { delivery_timeout: Duration::from_secs(5), ..small_batches() };
    let producer = client.producer(config).expect("valid");
    let before = tokio::time::Instant::now();
    for n in 0..40 {
        drop(producer.send_to("orders", Some(0), record(n)).await.expect("queued"));
    }
    let undelivered = producer.flush().await.expect_err("no answers");
    assert!(before.elapsed() <= Duration::from_secs(7), "{:?}", before.elapsed());
    assert_eq!(undelivered.records(), 40);
    assert!(undelivered.unknown() > 0, "{undelivered}");
}

#[tokio::test(start_paused = true)]
async fn records_without_a_key_leave_out_a_partition_that_takes_none_and_reach_all_others_evenly() {
    let (fake, client) = fake(7, Faults::default());
    fake.broker().broken.push(("orders".to_owned(), 1, ErrorCode::DiskFull));
    let producer = client.producer(small_batches()).expect("valid");
    let mut acks = Vec::new();
    for n in 0..400 {
        let record = Record { key: None, ..record(n) };
        acks.push(producer.send("orders", record).await.expect("queued"));
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let counts: Vec<usize> =
        (0..3).map(|partition| acks.iter().filter(|ack| ack.partition() == partition).count()).collect();
    assert!(counts[1] < 20, "{counts:?}");
    assert!(counts[0] > 120 && counts[2] > 120, "{counts:?}");
    fake.broker().broken.clear();
    producer.close().await.expect("all delivered");
}

#[tokio::test(start_paused = true)]
async fn while_many_requests_have_no_answer_old_batches_go_on_filling_and_full_ones_go() {
    let (fake, client) = fake(1, Faults::default());
    fake.make_topic("many", 40, 0);
    fake.broker().append_time = Duration::from_secs(20);
    let producer = client.producer(small_batches()).expect("valid");
    for partition in 0..20 {
        drop(producer.send_to("many", Some(partition), record(0)).await.expect("queued"));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(fake.broker().produced, 2, "every batch was old enough");
    for n in 0..5 {
        drop(producer.send_to("many", Some(30), record(n)).await.expect("queued"));
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(fake.broker().produced, 3, "a full batch does not wait");
    producer.flush().await.expect("delivered");
    assert_eq!(fake.len("many"), 25);
    assert!(fake.broker().produced < 12, "what waited went together: {} requests", fake.broker().produced);
}
