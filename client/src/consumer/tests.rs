//! Scenarios over the fake broker, alone and in a group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sunseo_proto::batch::{BatchBuilder, Compression};
use sunseo_proto::position::PositionRange;
use sunseo_proto::{ErrorCode, Header, Record};

use super::{ConsumedRecord, Consumer, ConsumerConfig, OutOfRangePolicy, StartFrom, Subscription};
use crate::client::Client;
use crate::testing::{Faults, MemoryTransport};

const WAIT: Duration = Duration::from_secs(1);

pub(super) fn fake(seed: u64, faults: Faults, partitions: i32) -> (MemoryTransport, Client) {
    let fake = MemoryTransport::new(seed, faults).with_topics(&[("orders", partitions)]);
    (fake.clone(), fake.client())
}

/// Appends batches of ten records whose value and timestamp are their offset.
pub(super) fn fill(fake: &MemoryTransport, partition: usize, batches: i64) {
    let mut broker = fake.broker();
    let partition = broker.partition("orders", partition);
    for _ in 0..batches {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        for n in 0..10 {
            let offset = partition.end + n;
            builder.push(&Record::new("key", offset.to_string(), offset));
        }
        assert_eq!(partition.append(&builder.build(), usize::MAX).error, None);
    }
}

pub(super) fn offsets(records: &[ConsumedRecord]) -> Vec<i64> {
    records.iter().map(|consumed| consumed.record.offset).collect()
}

pub(super) async fn read(consumer: &mut Consumer, count: usize) -> Vec<ConsumedRecord> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(consumer.poll(WAIT).await.expect("readable"));
    }
    all
}

pub(super) fn small(mut config: ConsumerConfig) -> ConsumerConfig {
    (config.partition_fetch_bytes, config.prefetch_bytes, config.max_poll_records) = (400, 2000, 7);
    config
}

#[tokio::test(start_paused = true)]
async fn every_record_is_read_once_and_in_order_though_answers_get_lost() {
    for seed in 0..40 {
        let (fake, client) = fake(seed, Faults { lose_answer: 20, ..Faults::default() }, 3);
        (0..3).for_each(|partition| fill(&fake, partition, 10));
        let mut consumer = client.consumer(small(ConsumerConfig::topics(["orders"]))).await.expect("starts");
        let mut read_back: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for consumed in read(&mut consumer, 300).await {
            assert_eq!(consumed.record.value.as_deref(), Some(consumed.record.offset.to_string().as_bytes()));
            read_back.entry(consumed.partition).or_default().push(consumed.record.offset);
        }
        for (partition, offsets) in read_back {
            assert_eq!(offsets, (0..100).collect::<Vec<_>>(), "seed {seed} partition {partition}");
        }
        assert_eq!(consumer.poll(WAIT).await, Ok(Vec::new()));
        assert_eq!((consumer.position("orders", 1), consumer.lag("orders", 1)), (Some(100), Some(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_begins_where_it_is_told() {
    let (fake, client) = fake(1, Faults::default(), 1);
    fill(&fake, 0, 10);
    let cases = [
        (StartFrom::Start, 0),
        (StartFrom::Offset(37), 37),
        (StartFrom::LastN(5), 95),
        (StartFrom::LastN(1000), 0),
        (StartFrom::Timestamp(64), 64),
        (StartFrom::Timestamp(5000), 100),
        (StartFrom::End, 100),
    ];
    for (from, first) in cases {
        let config = ConsumerConfig::partitions([("orders", 0)]).from(from);
        let mut consumer = client.consumer(config).await.expect("starts");
        let records = consumer.poll(WAIT).await.expect("readable");
        let expected = (first < 100).then_some(first);
        assert_eq!(records.first().map(|c| c.record.offset), expected, "{from:?}");
    }
    let unknown = client.consumer(ConsumerConfig::topics(["riders"])).await;
    assert_eq!(unknown.map(drop).map_err(|error| error.code), Err(ErrorCode::UnknownTopic));
}

#[tokio::test(start_paused = true)]
async fn seek_pause_and_resume_move_what_is_handed_out() {
    let (fake, client) = fake(1, Faults::default(), 2);
    (0..2).for_each(|partition| fill(&fake, partition, 3));
    let mut consumer = client.consumer(ConsumerConfig::topics(["orders"])).await.expect("starts");
    read(&mut consumer, 60).await;
    consumer.seek("orders", 0, 25).expect("assigned");
    consumer.seek("orders", 1, 28).expect("assigned");
    consumer.pause("orders", 1).expect("assigned");
    assert_eq!(offsets(&read(&mut consumer, 5).await), [25, 26, 27, 28, 29]);
    assert_eq!(consumer.poll(WAIT).await, Ok(Vec::new()));
    consumer.resume("orders", 1).expect("assigned");
    assert_eq!(offsets(&read(&mut consumer, 2).await), [28, 29]);
    assert_eq!(consumer.seek("orders", 9, 0).map_err(|e| e.code), Err(ErrorCode::InvalidArgument));
    assert_eq!(consumer.commit().await.map_err(|e| e.code), Err(ErrorCode::Unsupported));
}

#[tokio::test(start_paused = true)]
async fn a_lost_position_is_an_error_that_names_the_choices_or_follows_the_policy() {
    let (fake, client) = fake(1, Faults::default(), 1);
    fill(&fake, 0, 10);
    fake.broker().partition("orders", 0).start = 50;
    let config = |policy| {
        let mut config = ConsumerConfig::partitions([("orders", 0)]).from(StartFrom::Offset(3));
        config.on_out_of_range = policy;
        config
    };
    let mut strict = client.consumer(config(OutOfRangePolicy::Error)).await.expect("starts");
    let error = strict.poll(WAIT).await.expect_err("offset 3 is gone");
    assert_eq!(error.code, ErrorCode::OffsetOutOfRange);
    assert!(error.message.contains("offset 3") && error.message.contains("50 to 100"), "{error}");
    strict.seek("orders", 0, 98).expect("assigned");
    assert_eq!(offsets(&read(&mut strict, 2).await), [98, 99]);

    let mut lenient = client.consumer(config(OutOfRangePolicy::Start)).await.expect("starts");
    assert_eq!(offsets(&read(&mut lenient, 50).await), (50..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_is_told_after_the_records_before_it() {
    let (fake, client) = fake(1, Faults::default(), 1);
    fill(&fake, 0, 2);
    {
        let mut broker = fake.broker();
        let batch = &mut broker.partition("orders", 0).batches[1];
        let mut bytes = batch.to_vec();
        *bytes.last_mut().expect("bytes") ^= 1;
        *batch = bytes.into();
    }
    let mut consumer = client.consumer(ConsumerConfig::topics(["orders"])).await.expect("starts");
    assert_eq!(read(&mut consumer, 10).await.len(), 10);
    let error = consumer.poll(WAIT).await.expect_err("damaged");
    assert_eq!(error.code, ErrorCode::CorruptBatch);
    assert!(error.message.contains("offset 10"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn headers_of_the_server_are_not_handed_out() {
    let (fake, client) = fake(1, Faults::default(), 1);
    let mut record = Record::new("key", "value", 0);
    record.headers.push(Header::new("trace", "t"));
    let range = PositionRange::new(4, 4).expect("valid");
    let mut builder = BatchBuilder::new(Compression::None).producer(1, 0, -1).position(range);
    builder.push(&record);
    fake.broker().partition("orders", 0).append(&builder.build(), usize::MAX);
    let mut consumer = client.consumer(ConsumerConfig::topics(["orders"])).await.expect("starts");
    assert_eq!(read(&mut consumer, 1).await[0].record.headers, record.headers);
}

pub(super) fn member(instance: &str) -> ConsumerConfig {
    let mut config = small(ConsumerConfig::group("g", ["orders"]));
    if let Subscription::Group { instance_id, .. } = &mut config.subscription {
        *instance_id = instance.to_owned();
    }
    config
}

#[tokio::test(start_paused = true)]
async fn a_partition_changes_hands_without_loss_or_repeat() {
    let (fake, client) = fake(1, Faults::default(), 2);
    (0..2).for_each(|partition| fill(&fake, partition, 10));
    fake.broker().groups.target("a", [("orders", 0), ("orders", 1)]);
    let mut a = client.consumer(member("a")).await.expect("starts");
    let mut all = read(&mut a, 60).await;

    fake.broker().groups.target("a", [("orders", 0)]);
    fake.broker().groups.target("b", [("orders", 1)]);
    let mut b = client.consumer(member("b")).await.expect("starts");
    assert_eq!(b.poll(WAIT).await, Ok(Vec::new()), "a still holds partition 1, for it has not polled");
    assert_eq!(b.assignment(), []);
    while all.len() < 200 {
        all.extend(a.poll(WAIT).await.expect("readable"));
        all.extend(b.poll(WAIT).await.expect("readable"));
    }
    assert_eq!(b.assignment(), [(Arc::from("orders"), 1)]);
    let mut seen: Vec<_> = all.iter().map(|c| (c.partition, c.record.offset)).collect();
    let in_order = seen.clone();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 200);
    for partition in 0..2 {
        let offsets = in_order.iter().filter(|(p, _)| *p == partition).map(|(_, offset)| *offset);
        assert!(offsets.is_sorted(), "partition {partition}");
    }
    a.close().await.expect("commits");
    b.close().await.expect("commits");
    assert_eq!(fake.broker().groups.holders(), []);
    assert!(fake.broker().groups.offsets.values().all(|offset| *offset == 100));
}

#[tokio::test(start_paused = true)]
async fn a_member_goes_on_from_the_last_commit() {
    let (fake, client) = fake(1, Faults::default(), 1);
    fill(&fake, 0, 10);
    fake.broker().groups.target("a", [("orders", 0)]);
    let mut a = client.consumer(member("a").manual_commit()).await.expect("starts");
    read(&mut a, 20).await;
    a.commit_offsets(&[("orders".to_owned(), 0, 15)]).await.expect("commits");
    let refused = a.commit_offsets(&[("orders".to_owned(), 5, 15)]).await;
    assert_eq!(refused.map_err(|error| error.code), Err(ErrorCode::FencedMember));
    a.close().await.expect("leaves");
    let mut again = client.consumer(member("a").manual_commit()).await.expect("starts");
    assert_eq!(read(&mut again, 1).await[0].record.offset, 15);
}

#[tokio::test(start_paused = true)]
async fn an_expelled_member_joins_again_and_repeats_only_what_was_not_committed() {
    let (fake, client) = fake(1, Faults::default(), 1);
    fill(&fake, 0, 10);
    fake.broker().groups.target("a", [("orders", 0)]);
    let mut a = client.consumer(member("a").manual_commit()).await.expect("starts");
    let before = read(&mut a, 21).await.len() as i64;
    a.commit().await.expect("commits");
    read(&mut a, 7).await;
    fake.broker().groups.expel("a");
    // until the next heartbeat says so, it reads on
    let mut offsets = Vec::new();
    while !offsets.contains(&before) {
        offsets.extend(a.poll(WAIT).await.expect("readable").into_iter().map(|c| c.record.offset));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    a.commit().await.expect("a member again");
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_about_the_time_of_owning_in_which_it_was_asked_for() {
    for seed in 0..20 {
        let (fake, client) = fake(seed, Faults::default(), 1);
        fill(&fake, 0, 10);
        fake.broker().groups.target("a", [("orders", 0)]);
        let mut config = member("a").manual_commit();
        config.session_timeout = WAIT;
        let mut a = client.consumer(config).await.expect("starts");
        read(&mut a, 20).await;
        fake.broker().faults = Faults { lose_request: 100, ..Faults::default() };
        let commit = a.commit_async().expect("taken");
        // no answer for a whole session; another member has it, and goes on
        tokio::time::sleep(5 * WAIT).await;
        assert_eq!(a.assignment(), []);
        {
            let mut broker = fake.broker();
            broker.groups.expel("a");
            broker.groups.offsets.insert(("orders".to_owned(), 0), 50);
            broker.faults = Faults::default();
        }
        let outcome = commit.await.map_err(|error| error.code);
        assert_eq!(outcome, Err(ErrorCode::FencedMember), "seed {seed}");
        assert_eq!(read(&mut a, 1).await[0].record.offset, 50, "seed {seed}");
        assert_eq!(fake.broker().groups.offsets[&("orders".to_owned(), 0)], 50);
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_poll_leaves_and_comes_back() {
    let (fake, client) = fake(1, Faults::default(), 1);
    fill(&fake, 0, 10);
    fake.broker().groups.target("a", [("orders", 0)]);
    let mut config = member("a");
    config.max_poll_interval = Duration::from_secs(5);
    let mut a = client.consumer(config).await.expect("starts");
    read(&mut a, 7).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(fake.broker().groups.holders(), []);
    assert!(!read(&mut a, 1).await.is_empty());
}

#[test]
fn a_wait_that_is_over_wakes_nobody_while_the_partition_is_not_wanted() {
    use super::book::Book;
    let (mut book, config) = (Book::default(), ConsumerConfig::partitions([("orders", 0)]));
    let (key, now) = (super::key("orders", 0), tokio::time::Instant::now());
    book.assign(key.clone(), 0);
    let asked = book.ask(&config, now).expect("something to ask for");
    book.release(asked.reserved);
    let refused = Err(crate::Error::new(ErrorCode::Unavailable, "scripted"));
    let at = now + WAIT;
    book.take(&asked.tickets[0], refused, OutOfRangePolicy::Error, |_| at);
    assert_eq!(book.wake_at(), Some(at));
    book.pause(&key, true).expect("assigned");
    assert!(book.ask(&config, at).is_none());
    assert_eq!(book.wake_at(), None, "or the fetcher would look again and again");
    book.pause(&key, false).expect("assigned");
    assert!(book.ask(&config, at).is_some());
}
