//! Transactions on a whole node: what readers of committed records see, who is refused, what survives.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_proto::batch::{self, BatchBuilder, Compression};
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{Record, v1};

use super::support::*;
use crate::{Broker, BrokerHandle};

/// One instance of a transactional producer.
#[derive(Clone, Debug)]
pub(super) struct Producer {
    id: String,
    producer_id: i64,
    epoch: i32,
    /// Next sequence of each partition.
    sequences: [i32; 2],
}

impl Producer {
    pub(super) async fn init(handle: &BrokerHandle, id: &str) -> Self {
        Self::init_with(handle, id, 0).await
    }

    async fn init_with(handle: &BrokerHandle, id: &str, transaction_timeout_ms: u32) -> Self {
        let request = v1::InitProducerRequest {
            transactional_id: id.to_owned(),
            transaction_timeout_ms,
            ..Default::default()
        };
        let told = handle.init_producer(request).await.unwrap();
        let (producer_id, epoch) = (told.producer_id, told.producer_epoch);
        Self { id: id.to_owned(), producer_id, epoch, sequences: [0; 2] }
    }

    fn request(&self, topic: &str, partition: i32, values: &[&str]) -> v1::ProduceRequest {
        let (epoch, sequence) = (i16::try_from(self.epoch).unwrap(), self.sequences[partition as usize]);
        let mut builder =
            BatchBuilder::new(Compression::None).producer(self.producer_id, epoch, sequence).transactional();
        values.iter().for_each(|value| builder.push(&Record::new("key", (*value).to_owned(), NOW_MS)));
        let transactional_id = self.id.clone();
        v1::ProduceRequest {
            transactional_id,
            ..produce_request(vec![part(topic, partition, builder.build())])
        }
    }

    pub(super) async fn send(
        &mut self,
        handle: &BrokerHandle,
        partition: i32,
        values: &[&str],
    ) -> Result<i64> {
        let request = self.request("orders", partition, values);
        let result = handle.produce(request).await?.results.pop().unwrap();
        match result.error {
            Some(error) => Err(error.into()),
            None => {
                self.sequences[partition as usize] += values.len() as i32;
                Ok(result.base_offset)
            }
        }
    }

    fn end_request(&self, commit: bool) -> v1::EndTransactionRequest {
        v1::EndTransactionRequest {
            transactional_id: self.id.clone(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            commit,
        }
    }

    pub(super) async fn end(&mut self, handle: &BrokerHandle, commit: bool) -> Result<()> {
        let told = handle.end_transaction(self.end_request(commit)).await?;
        (self.producer_id, self.epoch, self.sequences) = (told.producer_id, told.producer_epoch, [0; 2]);
        Ok(())
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    result.unwrap_err().code
}

fn committed(partition: i32, from: i64, max_wait_ms: u32) -> v1::FetchRequest {
    let request = fetch_request(vec![asked("orders", partition, from)], max_wait_ms);
    v1::FetchRequest { isolation: v1::Isolation::ReadCommitted.into(), ..request }
}

/// What a client of committed records sees of a partition, with the filter that clients apply.
pub(super) async fn read_committed(handle: &BrokerHandle, partition: i32) -> Vec<String> {
    let (mut from, mut values) = (0, Vec::new());
    loop {
        let result = handle.fetch(committed(partition, from, 0)).await.unwrap().results.pop().unwrap();
        assert_eq!(result.error, None);
        if result.batches.is_empty() {
            assert_eq!(from, result.last_stable_offset);
            return values;
        }
        for next in batch::batches(result.batches) {
            let (header, bytes) = next.unwrap();
            from = header.next_offset();
            assert!(from <= result.last_stable_offset);
            let is_aborted = result.aborted.iter().any(|range| {
                range.producer_id == header.producer_id
                    && (range.first_offset..=range.last_offset).contains(&header.base_offset)
            });
            if header.is_control() || (header.is_transactional() && is_aborted) {
                continue;
            }
            let records = batch::records(&bytes).unwrap();
            values.extend(records.into_iter().map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()));
        }
        assert_eq!(from, result.next_offset);
    }
}

/// The same in the plain form, filtered by the server.
async fn read_plain(handle: &BrokerHandle, partition: i32) -> Vec<String> {
    let (mut from, mut values) = (0, Vec::new());
    loop {
        let request = v1::FetchRequest { as_records: true, max_bytes: 300, ..committed(partition, from, 0) };
        let result = handle.fetch(request).await.unwrap().results.pop().unwrap();
        assert_eq!(result.error, None);
        let text = |r: v1::Record| String::from_utf8(r.value.unwrap().to_vec()).unwrap();
        values.extend(result.records.into_iter().map(text));
        if result.next_offset == from {
            return values;
        }
        from = result.next_offset;
    }
}

pub(super) async fn started(seed: u64) -> (World, Broker, BrokerHandle) {
    let world = World::new(seed);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    (world, broker, handle)
}

async fn stable(handle: &BrokerHandle, partition: i32) -> (i64, i64) {
    let asked = v1::ListOffsetsPartition {
        topic: "orders".into(),
        partition,
        timestamp_ms: -1,
        ..Default::default()
    };
    let of = async |isolation: v1::Isolation| {
        let request = v1::ListOffsetsRequest { partitions: vec![asked.clone()], isolation: isolation.into() };
        handle.list_offsets(request).await.unwrap().results[0].offset
    };
    (of(v1::Isolation::ReadCommitted).await, of(v1::Isolation::ReadUncommitted).await)
}

#[tokio::test]
async fn a_transaction_over_two_partitions_appears_at_once_or_not_at_all() {
    let (_world, _broker, handle) = started(1).await;
    let mut producer = Producer::init(&handle, "bills").await;
    produce(&handle, "orders", 0, batch_of(["before"])).await;
    producer.send(&handle, 0, &["a", "b"]).await.unwrap();
    producer.send(&handle, 1, &["c"]).await.unwrap();
    produce(&handle, "orders", 0, batch_of(["between"])).await;
    assert_eq!(read_committed(&handle, 0).await, ["before"], "order is kept: nothing beyond the open one");
    assert_eq!(read_committed(&handle, 1).await, [] as [&str; 0]);
    assert_eq!(stable(&handle, 0).await, (1, 4));
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.fetch(committed(0, 1, 30_000)).await.unwrap().results.pop().unwrap().batches }
    });
    producer.end(&handle, true).await.unwrap();
    let woken = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("woken by the marker");
    assert!(!woken.unwrap().is_empty());
    assert_eq!(read_committed(&handle, 0).await, ["before", "a", "b", "between"]);
    assert_eq!(read_committed(&handle, 1).await, ["c"]);
    producer.send(&handle, 0, &["void"]).await.unwrap();
    producer.send(&handle, 0, &["void too"]).await.unwrap();
    produce(&handle, "orders", 0, batch_of(["after"])).await;
    producer.end(&handle, false).await.unwrap();
    assert_eq!(read_committed(&handle, 0).await, ["before", "a", "b", "between", "after"]);
    assert_eq!(read_plain(&handle, 0).await, ["before", "a", "b", "between", "after"]);
    assert_eq!(read(&handle, "orders", 1).await.first().map(String::as_str), Some("c"));
    producer.send(&handle, 1, &["d"]).await.unwrap();
    producer.end(&handle, true).await.unwrap();
    assert_eq!(read_plain(&handle, 1).await, ["c", "d"]);
}

#[tokio::test]
async fn an_end_may_be_repeated_and_one_that_is_late_touches_nothing() {
    let (_world, _broker, handle) = started(2).await;
    let mut producer = Producer::init(&handle, "bills").await;
    producer.send(&handle, 0, &["a"]).await.unwrap();
    let first = producer.clone();
    producer.end(&handle, true).await.unwrap();
    let again = handle.end_transaction(first.end_request(true)).await.unwrap();
    assert_eq!((again.producer_id, again.producer_epoch), (producer.producer_id, producer.epoch));
    let other = handle.end_transaction(first.end_request(false)).await;
    assert_eq!(refused(other), ErrorCode::TransactionState, "it was committed");
    producer.send(&handle, 0, &["b"]).await.unwrap();
    // the first transaction's, once more, while the next one is open
    let late = handle.end_transaction(first.end_request(true)).await;
    assert!(late.is_err(), "{late:?}");
    assert_eq!(read_committed(&handle, 0).await, ["a"], "the open one is as it was");
    producer.end(&handle, false).await.unwrap();
    assert_eq!(read_committed(&handle, 0).await, ["a"]);
}

#[tokio::test]
async fn what_is_late_opens_no_transaction_that_nobody_ends() {
    let (_world, _broker, handle) = started(3).await;
    let mut producer = Producer::init(&handle, "bills").await;
    let late = producer.request("orders", 0, &["late"]);
    // nothing has arrived when the producer gives up
    producer.end(&handle, false).await.unwrap();
    let result = handle.produce(late).await.unwrap().results.pop().unwrap();
    assert!(result.error.is_some());
    producer.send(&handle, 0, &["a"]).await.unwrap();
    let late = producer.request("orders", 1, &["late"]);
    producer.end(&handle, true).await.unwrap();
    let result = handle.produce(late).await.unwrap().results.pop().unwrap();
    assert_eq!(code(&result.error), Some(ErrorCode::TransactionState));
    produce(&handle, "orders", 1, batch_of(["free"])).await;
    assert_eq!(read_committed(&handle, 1).await, ["free"], "nothing hangs");
}

#[tokio::test]
async fn a_new_instance_fences_the_former_one_and_takes_its_transaction_back() {
    let (_world, _broker, handle) = started(4).await;
    let mut zombie = Producer::init(&handle, "bills").await;
    zombie.send(&handle, 0, &["void"]).await.unwrap();
    let mut producer = Producer::init(&handle, "bills").await;
    assert_eq!(refused(zombie.send(&handle, 0, &["zombie"]).await), ErrorCode::ProducerFenced);
    assert_eq!(refused(zombie.clone().end(&handle, true).await), ErrorCode::ProducerFenced);
    assert_eq!(refused(zombie.clone().end(&handle, false).await), ErrorCode::ProducerFenced);
    producer.send(&handle, 0, &["a"]).await.unwrap();
    assert_eq!(refused(zombie.end(&handle, true).await), ErrorCode::ProducerFenced);
    producer.end(&handle, true).await.unwrap();
    assert_eq!(read_committed(&handle, 0).await, ["a"]);
    // its id is for transactions only
    let plain = sequenced((producer.producer_id, i16::try_from(producer.epoch).unwrap()), 0, "plain");
    let result = produce(&handle, "orders", 0, plain).await;
    assert_eq!(code(&result.error), Some(ErrorCode::TransactionState));
}

#[tokio::test]
async fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_goes_on() {
    let (_world, _broker, handle) = started(5).await;
    let mut producer = Producer::init_with(&handle, "bills", 50).await;
    producer.send(&handle, 0, &["void"]).await.unwrap();
    for _ in 0..100 {
        if stable(&handle, 0).await.0 > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(refused(producer.send(&handle, 0, &["more"]).await), ErrorCode::TransactionAborted);
    assert_eq!(refused(producer.end(&handle, true).await), ErrorCode::TransactionAborted);
    producer.end(&handle, false).await.unwrap();
    let mut producer = Producer::init(&handle, "bills").await;
    producer.send(&handle, 0, &["a"]).await.unwrap();
    producer.end(&handle, true).await.unwrap();
    assert_eq!(read_committed(&handle, 0).await, ["a"]);
}

#[tokio::test]
async fn an_operator_lists_describes_and_aborts() {
    let (_world, _broker, handle) = started(6).await;
    let mut producer = Producer::init(&handle, "bills").await;
    producer.send(&handle, 1, &["void"]).await.unwrap();
    let listed = async |states: &[&str]| {
        let states = states.iter().map(|state| (*state).to_owned()).collect();
        handle.list_transactions(v1::ListTransactionsRequest { states }).await
    };
    assert_eq!(listed(&["ongoing"]).await.unwrap().transactions.len(), 1);
    assert_eq!(listed(&["empty"]).await.unwrap().transactions, []);
    assert_eq!(refused(listed(&["lost"]).await), ErrorCode::InvalidArgument);
    let request = v1::DescribeTransactionRequest { transactional_id: "bills".into() };
    let described = handle.describe_transaction(request).await.unwrap();
    let partition = described.partitions[0].partition.clone().unwrap();
    assert_eq!((partition.topic.as_str(), partition.partition), ("orders", 1));
    assert_eq!((described.partitions[0].last_stable_offset, described.partitions[0].high_watermark), (0, 1));
    let abort = || v1::AbortTransactionRequest { transactional_id: "bills".into() };
    handle.abort_transaction(abort()).await.unwrap();
    handle.abort_transaction(abort()).await.unwrap();
    assert_eq!(refused(producer.end(&handle, true).await), ErrorCode::TransactionAborted);
    producer.end(&handle, false).await.unwrap();
    assert_eq!(read_committed(&handle, 1).await, [] as [&str; 0]);
    let unknown = v1::AbortTransactionRequest { transactional_id: "nobody".into() };
    assert_eq!(refused(handle.abort_transaction(unknown).await), ErrorCode::UnknownTransactionalId);
}

#[tokio::test]
async fn a_topic_that_is_deleted_keeps_no_transaction_from_its_end() {
    let (_world, _broker, handle) = started(7).await;
    create(&handle, "gone", &[]).await;
    let mut producer = Producer::init(&handle, "bills").await;
    let request = producer.request("gone", 0, &["void"]);
    assert_eq!(handle.produce(request).await.unwrap().results[0].error, None);
    producer.send(&handle, 0, &["a"]).await.unwrap();
    handle.delete_topic(v1::DeleteTopicRequest { name: "gone".into() }).await.unwrap();
    create(&handle, "gone", &[]).await;
    producer.end(&handle, true).await.unwrap();
    assert_eq!(read_committed(&handle, 0).await, ["a"]);
    assert_eq!(read(&handle, "gone", 0).await, [] as [&str; 0], "the new topic has no marker of the old one");
}

fn member(epoch: i32) -> v1::GroupHeartbeatRequest {
    v1::GroupHeartbeatRequest {
        group: "g".into(),
        member_id: "m".into(),
        member_epoch: epoch,
        topics: vec!["orders".into()],
        ..Default::default()
    }
}

async fn offset_of_group(handle: &BrokerHandle, require_stable: bool) -> Result<i64> {
    let partitions = vec![v1::TopicPartition { topic: "orders".into(), partition: 0 }];
    let request = v1::FetchOffsetsRequest { group: "g".into(), partitions, require_stable };
    Ok(handle.fetch_offsets(request).await?.offsets[0].offset)
}

#[tokio::test]
async fn offsets_move_with_the_commit_and_a_member_that_lost_them_is_refused() {
    let (world, broker, handle) = started(8).await;
    produce(&handle, "orders", 0, batch_of((0..10).map(|n| n.to_string()))).await;
    let joined = handle.group_heartbeat(member(0)).await.unwrap();
    let mut producer = Producer::init(&handle, "bills").await;
    let send = async |handle: &BrokerHandle, producer: &Producer, epoch: i32, offset: i64| -> Result<()> {
        let commit = v1::OffsetCommit { topic: "orders".into(), partition: 0, offset, ..Default::default() };
        let request = v1::SendOffsetsRequest {
            transactional_id: producer.id.clone(),
            producer_id: producer.producer_id,
            producer_epoch: producer.epoch,
            group: "g".into(),
            member_id: "m".into(),
            member_epoch: epoch,
            offsets: vec![commit],
        };
        let answer = handle.send_offsets(request).await?;
        answer.results.into_iter().find_map(|result| result.error).map_or(Ok(()), |error| Err(error.into()))
    };
    send(&handle, &producer, joined.member_epoch, 5).await.unwrap();
    assert_eq!(offset_of_group(&handle, false).await, Ok(-1));
    assert_eq!(refused(offset_of_group(&handle, true).await), ErrorCode::UnstableOffsets);
    producer.end(&handle, false).await.unwrap();
    assert_eq!(offset_of_group(&handle, true).await, Ok(-1));
    send(&handle, &producer, joined.member_epoch, 6).await.unwrap();
    // over a crash: the offsets are kept, and so is the transaction
    drop(broker);
    world.disk.power_cut();
    let broker = world.start().await;
    let handle = broker.handle();
    assert_eq!(refused(offset_of_group(&handle, true).await), ErrorCode::UnstableOffsets);
    producer.end(&handle, true).await.unwrap();
    assert_eq!(offset_of_group(&handle, true).await, Ok(6));
    let stale = send(&handle, &producer, joined.member_epoch + 7, 9).await;
    assert_eq!(refused(stale), ErrorCode::FencedMember);
    producer.end(&handle, false).await.unwrap();
    handle.group_heartbeat(member(-1)).await.unwrap();
    let left = send(&handle, &producer, joined.member_epoch, 9).await;
    assert_eq!(refused(left), ErrorCode::UnknownMember);
    producer.end(&handle, false).await.unwrap();
    assert_eq!(offset_of_group(&handle, true).await, Ok(6));
    // a group whose offsets are not decided is not deleted, or its commit would find none
    let joined = handle.group_heartbeat(member(0)).await.unwrap();
    send(&handle, &producer, joined.member_epoch, 7).await.unwrap();
    handle.group_heartbeat(member(-1)).await.unwrap();
    let delete = v1::DeleteGroupRequest { group: "g".into() };
    assert_eq!(refused(handle.delete_group(delete.clone()).await), ErrorCode::GroupNotEmpty);
    producer.end(&handle, true).await.unwrap();
    assert_eq!(offset_of_group(&handle, true).await, Ok(7));
    handle.delete_group(delete).await.unwrap();
}

#[tokio::test]
async fn what_only_the_object_store_has_is_filtered_as_well() {
    let world = World::new(9);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("tiered", "true"), ("segment_bytes", "4096")]).await;
    let mut producer = Producer::init(&handle, "bills").await;
    let mut expected = Vec::new();
    let filler = "v".repeat(300);
    for round in 0..40 {
        let value = format!("{round}-{filler}");
        producer.send(&handle, 0, &[&value]).await.unwrap();
        let commit = round % 3 > 0;
        producer.end(&handle, commit).await.unwrap();
        expected.extend(commit.then_some(value));
    }
    // one that is open reaches into segments that are offloaded
    producer.send(&handle, 0, &["open"]).await.unwrap();
    let plain: Vec<String> = (0..20).map(|n| format!("plain {n} {filler}")).collect();
    for value in &plain {
        produce(&handle, "orders", 0, batch_of([value])).await;
    }
    let request = v1::TierFlushRequest { topic: "orders".into(), seal: true, evict: true };
    assert!(handle.tier_flush(request).await.unwrap().segments_evicted > 0);
    assert_eq!(read_committed(&handle, 0).await, expected);
    assert_eq!(read_plain(&handle, 0).await, expected);
    producer.end(&handle, false).await.unwrap();
    expected.extend(plain);
    assert_eq!(read_committed(&handle, 0).await, expected);
    drop(broker);
    let broker = world.start().await;
    assert_eq!(read_committed(&broker.handle(), 0).await, expected);
}

/// A transaction as the test knows it.
#[derive(Clone, Debug, Default)]
struct Open {
    values: BTreeSet<String>,
    /// An append had no answer: some of it may be there.
    unsure: bool,
}

struct Load {
    world: World,
    broker: Option<Broker>,
    rng: StdRng,
    producers: Vec<(Producer, Option<Open>)>,
    committed: BTreeSet<String>,
    serial: u32,
    seed: u64,
}

impl Load {
    fn handle(&self) -> BrokerHandle {
        self.broker.as_ref().unwrap().handle()
    }

    async fn crash(&mut self) {
        self.broker = None;
        if self.rng.random_range(0..2) == 0 {
            self.world.disk.power_cut()
        } else {
            self.world.disk.kill()
        }
        self.broker = Some(self.world.start().await);
    }

    async fn send(&mut self, index: usize) {
        let handle = self.handle();
        self.serial += 1;
        let value = self.serial.to_string();
        let partition = self.rng.random_range(0..2);
        let (producer, open) = &mut self.producers[index];
        let open = open.get_or_insert_default();
        if open.unsure {
            return;
        }
        match producer.send(&handle, partition, &[&value]).await {
            Ok(_) => drop(open.values.insert(value)),
            Err(error) => {
                assert_ne!(error.code, ErrorCode::ProducerFenced, "seed {}: {error}", self.seed);
                open.unsure = true;
            }
        }
    }

    /// The answer may be lost, and the node may die before or after the request: the same request is sent again until it is answered.
    async fn end(&mut self, index: usize) {
        let Some(open) = self.producers[index].1.take() else { return };
        let commit = !open.unsure && !open.values.is_empty() && self.rng.random_range(0..3) > 0;
        let request = self.producers[index].0.end_request(commit);
        let trouble = self.rng.random_range(0..6);
        if trouble < 2 {
            let handle = self.handle();
            let asked = tokio::spawn(async move { handle.end_transaction(request).await });
            if trouble == 1 {
                for _ in 0..self.rng.random_range(0..200) {
                    tokio::task::yield_now().await;
                }
            } else {
                let _ = asked.await;
            }
            self.crash().await;
        }
        let handle = self.handle();
        let producer = &mut self.producers[index].0;
        producer
            .end(&handle, commit)
            .await
            .unwrap_or_else(|error: Error| panic!("seed {}: {error}", self.seed));
        if commit {
            self.committed.extend(open.values);
        }
    }

    async fn check(&self) {
        let handle = self.handle();
        for partition in 0..2 {
            let all = read_uncommitted(&handle, partition).await;
            let seen = read_committed(&handle, partition).await;
            let open = |value: &String| {
                self.producers.iter().any(|(_, open)| {
                    open.as_ref().is_some_and(|open| open.values.contains(value) || open.unsure)
                })
            };
            // up to the first value that is not decided
            let expected: Vec<String> = all
                .iter()
                .take_while(|value| !open(value))
                .filter(|value| self.committed.contains(*value))
                .cloned()
                .collect();
            let is_prefix = seen.len() >= expected.len() && seen[..expected.len()] == expected[..];
            assert!(is_prefix, "seed {}: {seen:?} instead of {expected:?}", self.seed);
            assert!(seen.iter().all(|value| self.committed.contains(value)), "seed {}: {seen:?}", self.seed);
            assert_eq!(read_plain(&handle, partition).await, seen, "seed {}", self.seed);
        }
    }
}

async fn read_uncommitted(handle: &BrokerHandle, partition: i32) -> Vec<String> {
    let bytes = bytes_from(handle, "orders", partition, 0).await;
    let batches = batch::batches(bytes).map(|next| next.unwrap()).filter(|(header, _)| !header.is_control());
    let records = batches.flat_map(|(_, bytes)| batch::records(&bytes).unwrap());
    records.map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn readers_of_committed_records_see_the_committed_transactions_in_order_whatever_crashes() {
    for seed in 100..112 {
        let (world, broker, handle) = started(seed).await;
        let mut producers = Vec::new();
        for n in 0..3 {
            producers.push((Producer::init(&handle, &format!("p{n}")).await, None));
        }
        let rng = StdRng::seed_from_u64(seed);
        let committed = BTreeSet::new();
        let mut load = Load { world, broker: Some(broker), rng, producers, committed, serial: 0, seed };
        for _ in 0..60 {
            let index = load.rng.random_range(0..3);
            match load.rng.random_range(0..12) {
                0..7 => load.send(index).await,
                7..10 => load.end(index).await,
                10 => {
                    load.crash().await;
                    load.check().await;
                }
                _ => {
                    // another instance takes over
                    let handle = load.handle();
                    let id = load.producers[index].0.id.clone();
                    load.producers[index] = (Producer::init(&handle, &id).await, None);
                }
            }
        }
        for index in 0..3 {
            load.end(index).await;
        }
        load.check().await;
        let handle = load.handle();
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for partition in 0..2 {
            let (stable, end) = stable(&handle, partition).await;
            assert_eq!(stable, end, "seed {seed}: nothing hangs");
            seen.extend(read_committed(&handle, partition).await);
        }
        assert_eq!(seen, load.committed, "seed {seed}");
    }
}
