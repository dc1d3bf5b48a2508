//! Streams, commits in order, listeners, topics that come and grow, and partitions that hold back nobody.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use sunseo_proto::ErrorCode;

use super::tests::{fake, fill, member, offsets, read, small};
use super::{AssignedPartition, Consumer, ConsumerConfig, RebalanceListener, StartFrom};
use crate::testing::Faults;

const WAIT: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_stream_hands_out_one_by_one_and_a_commit_in_it_writes_no_more_than_that() {
    let (fake, client) = fake(1, Faults::default(), 1);
    fill(&fake, 0, 10);
    fake.broker().groups.target("a", [("orders", 0)]);
    let mut a = client.consumer(member("a").manual_commit()).await.expect("starts");
    {
        let mut stream = a.stream();
        for expected in 0..5 {
            let record = stream.next().await.expect("no end").expect("readable");
            assert_eq!(record.record.offset, expected);
            assert_eq!(a.position("orders", 0), Some(expected + 1));
        }
        a.commit().await.expect("a member");
        assert_eq!(fake.broker().groups.offsets[&("orders".to_owned(), 0)], 5);
        a.seek("orders", 0, 42).expect("assigned");
        assert_eq!(stream.next().await.expect("no end").expect("readable").record.offset, 42);
        a.pause("orders", 0).expect("assigned");
        assert!(tokio::time::timeout(WAIT * 5, stream.next()).await.is_err(), "paused");
        a.resume("orders", 0).expect("assigned");
        assert_eq!(stream.next().await.expect("no end").expect("readable").record.offset, 43);
    }
    assert_eq!(
        offsets(&read(&mut a, 2).await)[..2],
        [44, 45],
        "what the stream did not hand out is still there"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_while_it_waits_leaves_the_group_in_time() {
    let (fake, client) = fake(1, Faults::default(), 1);
    fake.broker().groups.target("a", [("orders", 0)]);
    let mut config = member("a");
    config.max_poll_interval = Duration::from_secs(5);
    let a = client.consumer(config).await.expect("starts");
    let mut stream = a.stream();
    assert!(tokio::time::timeout(Duration::from_secs(60), stream.next()).await.is_err());
    assert_eq!(fake.broker().groups.holders(), [("a".to_owned(), vec![0])], "who waits is there");
    drop(stream);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(fake.broker().groups.holders(), []);
}

#[tokio::test(start_paused = true)]
async fn batches_are_of_one_partition_each_and_all_partitions_have_their_turn() {
    let (fake, client) = fake(1, Faults::default(), 3);
    (0..3).for_each(|partition| fill(&fake, partition, 3));
    let consumer = client.consumer(small(ConsumerConfig::topics(["orders"]))).await.expect("starts");
    let mut next = [0; 3];
    let mut batches = consumer.batches();
    while next.iter().sum::<i64>() < 90 {
        let batch = batches.next().await.expect("no end").expect("readable");
        assert!(batch.records.len() <= 7);
        for record in batch.records {
            assert_eq!(record.offset, next[batch.partition as usize]);
            next[batch.partition as usize] += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn commits_are_written_in_the_order_in_which_they_were_asked_for() {
    let (fake, client) = fake(1, Faults::default(), 1);
    fill(&fake, 0, 10);
    fake.broker().groups.target("a", [("orders", 0)]);
    let mut a = client.consumer(member("a").manual_commit()).await.expect("starts");
    let mut handles = Vec::new();
    for _ in 0..5 {
        a.poll(WAIT).await.expect("readable");
        handles.push(a.commit_async().expect("room"));
    }
    let position = a.position("orders", 0).expect("assigned");
    a.commit_offsets(&[("orders".to_owned(), 0, position - 1)]).await.expect("a member");
    assert_eq!(fake.broker().groups.offsets[&("orders".to_owned(), 0)], position - 1, "the last one counts");
    for handle in handles {
        handle.await.expect("written");
    }
    let committed =
        a.committed(&[("orders".to_owned(), 0), ("orders".to_owned(), 7)]).await.expect("answers");
    assert_eq!(committed[0].as_ref().map(|committed| committed.offset), Some(position - 1));
    assert_eq!(committed[1], None);
    // what is still waiting is written before the group is left
    drop(a.commit_async().expect("room"));
    a.close().await.expect("leaves");
    assert_eq!(fake.broker().groups.offsets[&("orders".to_owned(), 0)], position);
}

/// Notes what it is told, and commits what is taken away.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn note(&self, what: &str, partitions: &[AssignedPartition]) {
        let numbers: Vec<i32> = partitions.iter().map(|(_, partition)| *partition).collect();
        self.0.lock().expect("no panics").push(format!("{what} {numbers:?}"));
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panics"))
    }
}

#[async_trait]
impl RebalanceListener for Notes {
    async fn assigned(&self, consumer: &Consumer, partitions: &[AssignedPartition]) {
        self.note("assigned", partitions);
        for (topic, partition) in partitions {
            let position = consumer.position(topic, *partition).expect("assigned");
            if position == 0 {
                consumer.seek(topic, *partition, 1).expect("assigned");
            }
        }
    }

    async fn revoked(&self, consumer: &Consumer, partitions: &[AssignedPartition]) {
        self.note("revoked", partitions);
        consumer.commit().await.expect("still a member");
    }

    async fn lost(&self, consumer: &Consumer, partitions: &[AssignedPartition]) {
        self.note("lost", partitions);
        assert_eq!(consumer.commit().await, Ok(()), "nothing is left to commit");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_is_told_before_the_records_and_may_commit_what_is_taken_away() {
    let (fake, client) = fake(1, Faults::default(), 2);
    (0..2).for_each(|partition| fill(&fake, partition, 3));
    fake.broker().groups.target("a", [("orders", 0), ("orders", 1)]);
    let mut a = client.consumer(member("a").manual_commit()).await.expect("starts");
    let notes = Arc::new(Notes::default());
    a.set_listener(Arc::clone(&notes) as Arc<dyn RebalanceListener>);
    let first = read(&mut a, 1).await;
    assert_eq!(first[0].record.offset, 1, "the listener has moved it");
    assert_eq!(notes.take(), ["assigned [0, 1]"]);
    read(&mut a, 58 - first.len()).await;
    fake.broker().groups.target("a", [("orders", 0)]);
    while fake.broker().groups.holders()[0].1 != [0] {
        a.poll(WAIT).await.expect("readable");
    }
    assert_eq!(notes.take(), ["revoked [1]"]);
    assert_eq!(fake.broker().groups.offsets[&("orders".to_owned(), 1)], 30);
    fake.broker().groups.expel("a");
    while notes.0.lock().expect("no panics").len() < 2 {
        a.poll(WAIT).await.expect("readable");
    }
    assert_eq!(notes.take(), ["lost [0]", "assigned [0]"]);
}

#[tokio::test(start_paused = true)]
async fn offsets_are_found_and_gone_to_by_place() {
    let (fake, client) = fake(1, Faults::default(), 2);
    (0..2).for_each(|partition| fill(&fake, partition, 10));
    fake.broker().partition("orders", 1).start = 20;
    let mut consumer = client.consumer(ConsumerConfig::topics(["orders"])).await.expect("starts");
    let both = [("orders".to_owned(), 0), ("orders".to_owned(), 1)];
    assert_eq!(consumer.beginning_offsets(&both).await, Ok(vec![0, 20]));
    assert_eq!(consumer.end_offsets(&both).await, Ok(vec![100, 100]));
    let times = [("orders".to_owned(), 1, 64), ("orders".to_owned(), 0, 3), ("orders".to_owned(), 0, 5000)];
    assert_eq!(consumer.offsets_for_times(&times).await, Ok(vec![Some(64), Some(3), None]));
    let unknown = consumer.end_offsets(&[("riders".to_owned(), 0)]).await;
    assert_eq!(unknown.map_err(|error| error.code), Err(ErrorCode::UnknownTopic));
    for (place, offset) in [
        (StartFrom::Start, 0),
        (StartFrom::End, 100),
        (StartFrom::Timestamp(64), 64),
        (StartFrom::LastN(3), 97),
        (StartFrom::Offset(12), 12),
    ] {
        consumer.seek_to("orders", 0, place).await.expect("assigned");
        assert_eq!(consumer.position("orders", 0), Some(offset), "{place:?}");
    }
    consumer.pause("orders", 1).expect("assigned");
    assert_eq!(offsets(&read(&mut consumer, 1).await)[0], 12);
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_and_topics_that_fit_a_pattern_are_read_from_their_start() {
    let (fake, client) = fake(1, Faults::default(), 1);
    fill(&fake, 0, 1);
    fake.make_topic("riders", 1, 0);
    let config = ConsumerConfig::topics(["ord*"]).from(StartFrom::End);
    let mut consumer = client.consumer(config).await.expect("starts");
    assert_eq!(consumer.poll(WAIT).await, Ok(Vec::new()), "it begins at the end");
    fake.make_topic("orders", 2, 0);
    fill(&fake, 1, 1);
    assert_eq!(offsets(&read(&mut consumer, 10).await), (0..10).collect::<Vec<_>>());
    fake.make_topic("orders-eu", 1, 0);
    tokio::time::sleep(Duration::from_secs(6)).await;
    consumer.poll(WAIT).await.expect("readable");
    let names: Vec<String> = consumer.assignment().iter().map(|(topic, n)| format!("{topic}-{n}")).collect();
    assert_eq!(names, ["orders-0", "orders-1", "orders-eu-0"]);
    fake.remove_topic("orders-eu");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(consumer.assignment().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_group_hears_of_topics_that_begin_to_fit_its_pattern() {
    let (fake, client) = fake(1, Faults::default(), 1);
    fake.broker().groups.target("a", [("meals", 0)]);
    let mut config = ConsumerConfig::group("g", ["m*s"]).instance("a");
    config.metadata_interval = Duration::from_secs(2);
    let mut a = client.consumer(config).await.expect("starts");
    assert_eq!(a.poll(WAIT).await, Ok(Vec::new()));
    assert_eq!(fake.broker().groups.holders(), [], "there is nothing to join for");
    fake.make_topic("meals", 1, 0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fake.broker().groups.holders(), [("a".to_owned(), vec![0])]);
    a.close().await.expect("leaves");
}

#[tokio::test(start_paused = true)]
async fn paused_partitions_with_full_buffers_hold_nobody_back() {
    let (fake, client) = fake(1, Faults::default(), 9);
    (0..9).for_each(|partition| fill(&fake, partition, 100));
    let mut consumer = client.consumer(small(ConsumerConfig::topics(["orders"]))).await.expect("starts");
    // everything is fetched ahead that may be, and then not wanted
    tokio::time::sleep(Duration::from_secs(5)).await;
    for partition in 0..8 {
        consumer.pause("orders", partition).expect("assigned");
    }
    let before = tokio::time::Instant::now();
    let records = read(&mut consumer, 1000).await;
    assert!(records.iter().all(|record| record.partition == 8));
    assert_eq!(offsets(&records), (0..1000).collect::<Vec<_>>());
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
}
