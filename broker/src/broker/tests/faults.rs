//! Disks that are full, that fail, and that lose power under a whole node.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_log::faulty::Faults;
use sunseo_proto::error::ErrorCode;
use sunseo_proto::v1;

use super::support::*;
use crate::BrokerHandle;

#[tokio::test]
async fn a_full_disk_refuses_appends_serves_reads_and_recovers() {
    let world = World::new(31);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    produce(&handle, "orders", 0, batch_of(["before"])).await;
    let capacity_bytes = Some(world.disk.used_bytes() + (96 << 10));
    world.disk.set_faults(Faults { capacity_bytes, ..Faults::default() });
    let mut acknowledged = vec!["before".to_owned()];
    let mut refused = None;
    for n in 0..200 {
        let value = format!("{n:0>2000}");
        let result = produce(&handle, "orders", 0, batch_of([&value])).await;
        match code(&result.error) {
            None => acknowledged.push(value),
            Some(code) => {
                refused = Some(code);
                break;
            }
        }
    }
    assert_eq!(refused, Some(ErrorCode::DiskFull));
    assert_eq!(read(&handle, "orders", 0).await, acknowledged);
    world.disk.set_faults(Faults::default());
    assert_eq!(produce(&handle, "orders", 0, batch_of(["after"])).await.error, None);
    acknowledged.push("after".to_owned());
    assert_eq!(read(&handle, "orders", 0).await, acknowledged);
    drop(broker);
    let broker = world.start().await;
    assert_eq!(read(&broker.handle(), "orders", 0).await, acknowledged);
}

/// A world whose headroom holds a few journal files, as a server's does.
fn with_headroom(seed: u64) -> World {
    let mut world = World::new(seed);
    world.store.disk_headroom_bytes = 4 * world.store.journal_file_bytes;
    world
}

/// Appends until the disk takes no more.
async fn fill_the_disk(world: &World, handle: &BrokerHandle, topic: &str) {
    let capacity_bytes = Some(world.disk.used_bytes() + world.store.disk_headroom_bytes + (8 << 20));
    world.disk.set_faults(Faults { capacity_bytes, ..Faults::default() });
    for _ in 0..300 {
        let result = produce(handle, topic, 0, batch_of([vec![7; 100_000]])).await;
        if code(&result.error) == Some(ErrorCode::DiskFull) {
            return;
        }
    }
    panic!("the disk is never full");
}

#[tokio::test]
async fn on_a_full_disk_a_node_starts_and_room_can_be_made() {
    let world = with_headroom(34);
    let broker = world.start().await;
    create(&broker.handle(), "orders", &[("segment_bytes", "10000")]).await;
    fill_the_disk(&world, &broker.handle(), "orders").await;
    drop(broker);
    let mut world = world;
    world.config.maintenance_interval_ms = 20;
    let broker = world.start().await;
    let handle = broker.handle();
    let request = v1::DeleteTopicRequest { name: "orders".into() };
    handle.delete_topic(request).await.expect("what frees the disk is still noted");
    create(&handle, "fresh", &[]).await;
    for _ in 0..500 {
        let result = produce(&handle, "fresh", 0, batch_of([vec![7; 100_000]])).await;
        if result.error.is_none() {
            return;
        }
        assert_eq!(code(&result.error), Some(ErrorCode::DiskFull));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the deleted topic's room is not given back");
}

#[tokio::test]
async fn on_a_full_disk_records_are_read_and_deleted_and_appends_go_on_by_themselves() {
    let mut world = with_headroom(36);
    world.config.maintenance_interval_ms = 20;
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("segment_bytes", "200000")]).await;
    fill_the_disk(&world, &handle, "orders").await;
    let end = offset_at(&handle, "orders", 0, -1).await;
    assert_eq!(read_from(&handle, "orders", 0, end - 3).await.len(), 3, "reads go on");
    let partitions = vec![v1::DeleteRecordsPartition { partition: 0, before_offset: end - 3 }];
    let request = v1::DeleteRecordsRequest { topic: "orders".into(), partitions, ..Default::default() };
    let deleted = handle.delete_records(request).await.unwrap().results.remove(0);
    assert_eq!((deleted.error, deleted.log_start_offset), (None, end - 3));
    for _ in 0..500 {
        let result = produce(&handle, "orders", 0, batch_of([vec![7; 100_000]])).await;
        if result.error.is_none() {
            assert_eq!(result.base_offset, end);
            return;
        }
        assert_eq!(code(&result.error), Some(ErrorCode::DiskFull));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the deleted records' room is not given back");
}

#[tokio::test]
async fn on_a_full_disk_the_tier_makes_room() {
    let world = with_headroom(35);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("tiered", "true"), ("segment_bytes", "10000")]).await;
    fill_the_disk(&world, &handle, "orders").await;
    let request = v1::TierFlushRequest { topic: "orders".into(), seal: true, evict: true };
    let report = handle.tier_flush(request).await.expect("the tier's records still fit");
    assert!(report.segments_evicted > 3, "{report:?}");
}

/// A source that repeats everything it has no answer for: whatever happens, each of its positions is there once and in order.
#[tokio::test]
async fn a_source_that_repeats_itself_after_each_power_cut_leaves_no_gap_and_no_double() {
    for seed in 100..110 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(seed);
        let broker = world.start().await;
        create(&broker.handle(), "orders", &[("segment_bytes", "20000")]).await;
        drop(broker);
        let mut confirmed = 0;
        for _ in 0..5 {
            let broker = world.start().await;
            let handle = broker.handle();
            let source = named_producer(&handle, "outbox").await;
            let cut_at = world.disk.operations() + rng.random_range(0..60);
            world.disk.set_faults(Faults { stop_after_operations: Some(cut_at), ..Faults::default() });
            let mut next = confirmed + 1;
            for _ in 0..20 {
                let last = next + rng.random_range(0..4);
                let result = produce(&handle, "orders", 0, positioned(source, next, last)).await;
                match code(&result.error) {
                    None => (confirmed, next) = (last, last + 1),
                    Some(ErrorCode::PartialDuplicate) => next = result.accepted_through + 1,
                    Some(_) => break,
                }
            }
            drop(broker);
            world.disk.power_cut();
        }
        let broker = world.start().await;
        let found = read(&broker.handle(), "orders", 0).await;
        let expected: Vec<String> = (1..=found.len()).map(|position| position.to_string()).collect();
        assert_eq!(found, expected, "seed {seed}");
        assert!(found.len() as i64 >= confirmed, "seed {seed}: {confirmed} were confirmed");
    }
}

#[tokio::test]
async fn a_failed_sync_stops_the_partition_and_not_the_server() {
    let world = World::new(32);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    assert_eq!(produce(&handle, "orders", 0, batch_of(["safe"])).await.error, None);
    world.disk.set_faults(Faults { fail_sync_of: Some(""), ..Faults::default() });
    let lost = produce(&handle, "orders", 0, batch_of(["lost"])).await;
    assert_eq!(code(&lost.error), Some(ErrorCode::PartitionFailed));
    world.disk.set_faults(Faults::default());
    let later = produce(&handle, "orders", 0, batch_of(["later"])).await;
    assert_eq!(code(&later.error), Some(ErrorCode::PartitionFailed), "a sync that failed is not tried again");
    assert_eq!(read(&handle, "orders", 0).await, ["safe"]);
    let described = handle.describe_topic(v1::DescribeTopicRequest { name: "orders".into() }).await.unwrap();
    assert_ne!(described.partitions[0].failed, "");
    drop(broker);
    world.disk.power_cut();
    let broker = world.start().await;
    let handle = broker.handle();
    let values = read(&handle, "orders", 0).await;
    assert!(values == ["safe"] || values == ["safe", "lost"], "{values:?}");
    assert_eq!(produce(&handle, "orders", 0, batch_of(["again"])).await.error, None);
}

#[tokio::test]
async fn a_change_that_upkeep_failed_to_make_durable_is_not_confirmed() {
    let world = World::new(36);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    produce(&handle, "orders", 0, batch_of(["safe"])).await;
    let id = broker.node.metadata.image().topic("orders").unwrap().partition(0).unwrap();
    let log = broker.node.log.clone();
    world.disk.set_faults(Faults { fail_sync_of: Some("journal"), ..Faults::default() });
    // both are taken from the queue together: the upkeep's sync is the one that fails
    let (go, held) = std::sync::mpsc::channel::<()>();
    let (_, sealed, _, ()) = futures::join!(
        log.call(move |_| held.recv()),
        log.commit(Some(id), move |owner| Ok(owner.store().seal(id)?)),
        log.call(crate::log_thread::Owner::maintain),
        async move { go.send(()).unwrap() },
    );
    assert_eq!(sealed.map_err(|error| error.code), Err(ErrorCode::PartitionFailed));
}

#[tokio::test]
async fn a_crash_loses_nothing_that_was_acknowledged() {
    let world = World::new(33);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    let producer = named_producer(&handle, "app").await;
    let source = named_producer(&handle, "outbox").await;
    for n in 0..20 {
        assert_eq!(produce(&handle, "orders", 0, sequenced(producer, n, &n.to_string())).await.error, None);
    }
    produce(&handle, "orders", 1, positioned(source, 1, 9)).await;
    drop(broker);
    drop(handle);
    world.disk.kill();
    let broker = world.start().await;
    let handle = broker.handle();
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(read(&handle, "orders", 0).await, expected);
    let again = produce(&handle, "orders", 0, sequenced(producer, 19, "19")).await;
    assert_eq!((again.error, again.duplicate, again.base_offset), (None, true, 19));
    let again = produce(&handle, "orders", 1, positioned(source, 5, 9)).await;
    assert_eq!((again.error, again.duplicate), (None, true));
    assert_eq!(named_producer(&handle, "app").await, (producer.0, producer.1 + 1));
    let fenced = produce(&handle, "orders", 1, sequenced(producer, 0, "x")).await;
    assert_eq!(code(&fenced.error), Some(ErrorCode::ProducerFenced));
    let fetched = handle.fetch(fetch_request(vec![asked("orders", 0, 0)], 0)).await.unwrap();
    assert_eq!(fetched.results[0].leader_epoch, 2, "each start is an epoch");
    let metadata = handle.metadata(v1::MetadataRequest { topics: vec!["orders".into()] }).await.unwrap();
    assert_eq!(metadata.topics[0].partitions[0].leader_epoch, 2);
}

/// What the producers know: values that were acknowledged, in order, and those whose fate is unknown.
#[derive(Debug, Default)]
struct Truth {
    /// By partition: value and whether it must be there.
    sent: BTreeMap<i32, Vec<(String, bool)>>,
    next: u64,
}

impl Truth {
    async fn produce_some(
        &mut self,
        handle: &BrokerHandle,
        rng: &mut StdRng,
        cut_after: usize,
        disk: &sunseo_log::faulty::FaultyDisk,
    ) {
        let mut pending = Vec::new();
        for at in 0..cut_after + 5 {
            if at == cut_after {
                let stop = disk.operations() + rng.random_range(0..12);
                disk.set_faults(Faults { stop_after_operations: Some(stop), ..Faults::default() });
            }
            let partition = rng.random_range(0..2);
            let value = format!("{}-{}", self.next, "x".repeat(rng.random_range(0..3_000)));
            self.next += 1;
            let request = produce_request(vec![part("orders", partition, batch_of([&value]))]);
            pending.push((partition, value, handle.produce(request)));
            if rng.random_range(0..3) == 0 {
                self.settle(&mut pending).await;
            }
        }
        self.settle(&mut pending).await;
    }

    async fn settle(
        &mut self,
        pending: &mut Vec<(
            i32,
            String,
            futures::future::BoxFuture<'static, sunseo_proto::error::Result<v1::ProduceResponse>>,
        )>,
    ) {
        for (partition, value, answer) in pending.drain(..) {
            let acknowledged = answer.await.is_ok_and(|response| response.results[0].error.is_none());
            self.sent.entry(partition).or_default().push((value, acknowledged));
        }
    }

    /// Everything acknowledged is there once and in order, and nothing is there that was never sent.
    async fn check(&mut self, handle: &BrokerHandle, seed: u64) {
        for (partition, sent) in &mut self.sent {
            let found = read(handle, "orders", *partition).await;
            let mut rest = found.iter().peekable();
            for (value, must) in &mut *sent {
                if rest.peek() == Some(&&*value) {
                    rest.next();
                    // from now on it must stay
                    *must = true;
                } else {
                    assert!(
                        !*must,
                        "seed {seed}: {} of partition {partition} is lost",
                        &value[..value.len().min(20)]
                    );
                }
            }
            assert_eq!(rest.next(), None, "seed {seed}: partition {partition} holds what nobody sent");
            sent.retain(|(_, must)| *must);
        }
    }
}

#[tokio::test]
async fn whatever_the_power_cut_leaves_the_node_finds_everything_it_acknowledged() {
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(seed);
        let broker = world.start().await;
        create(&broker.handle(), "orders", &[("segment_bytes", "20000")]).await;
        drop(broker);
        let mut truth = Truth::default();
        let mut epochs = Vec::new();
        for _ in 0..6 {
            let broker = world.start().await;
            let handle = broker.handle();
            truth.check(&handle, seed).await;
            epochs.push(named_producer(&handle, "task").await.1);
            let cut_after = rng.random_range(0..30);
            truth.produce_some(&handle, &mut rng, cut_after, &world.disk).await;
            drop(broker);
            world.disk.power_cut();
        }
        let broker = world.start().await;
        truth.check(&broker.handle(), seed).await;
        assert!(epochs.is_sorted_by(|a, b| a < b), "seed {seed}: epochs of a name rise: {epochs:?}");
    }
}
