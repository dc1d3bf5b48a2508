//! A topic from its creation to its end, and the next one of its name.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_log::faulty::Faults;
use sunseo_proto::batch::{BatchBuilder, Compression};
use sunseo_proto::error::ErrorCode;
use sunseo_proto::{PartitionId, Record, TopicId, v1};

use super::support::*;
use crate::internal::InternalLog as _;
use crate::local_log::LocalLog;
use crate::metadata::internal_topics::METADATA;
use crate::{Broker, BrokerHandle};

async fn delete(handle: &BrokerHandle, name: &str) {
    handle.delete_topic(v1::DeleteTopicRequest { name: name.to_owned() }).await.unwrap();
}

async fn alter(handle: &BrokerHandle, name: &str, config: &[(&str, &str)]) {
    let config: HashMap<String, String> =
        config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let request = v1::AlterTopicRequest { name: name.to_owned(), config, ..Default::default() };
    handle.alter_topic(request).await.unwrap();
}

async fn topic_id(handle: &BrokerHandle, name: &str) -> Bytes {
    let request = v1::MetadataRequest { topics: vec![name.to_owned()] };
    handle.metadata(request).await.unwrap().topics.remove(0).topic_id
}

async fn delete_records(
    handle: &BrokerHandle,
    partition: i32,
    before_offset: i64,
) -> v1::DeleteRecordsResult {
    let partitions = vec![v1::DeleteRecordsPartition { partition, before_offset }];
    let request = v1::DeleteRecordsRequest { topic: "orders".into(), partitions, ..Default::default() };
    handle.delete_records(request).await.unwrap().results.remove(0)
}

async fn commit(handle: &BrokerHandle, offset: i64, topic_id: Bytes) -> Option<ErrorCode> {
    let offset =
        v1::OffsetCommit { topic: "orders".into(), partition: 0, offset, topic_id, ..Default::default() };
    let request =
        v1::CommitOffsetsRequest { group: "readers".into(), offsets: vec![offset], ..Default::default() };
    code(&handle.commit_offsets(request).await.unwrap().results[0].error)
}

async fn committed(handle: &BrokerHandle) -> Vec<i64> {
    let request = v1::FetchOffsetsRequest { group: "readers".into(), ..Default::default() };
    let offsets = handle.fetch_offsets(request).await.unwrap().offsets;
    offsets.into_iter().map(|committed| committed.offset).filter(|offset| *offset >= 0).collect()
}

/// Topics whose partitions are on the disk, without the system's own.
fn on_disk(world: &World) -> BTreeSet<String> {
    let files = world.disk.files();
    let folders = files.iter().filter(|path| path.starts_with("partitions"));
    let names = folders.filter_map(|path| path.parent()?.file_name()?.to_str()?.rsplit_once('-'));
    names.map(|(topic, _)| topic.to_owned()).filter(|topic| !topic.starts_with("0000000000000000")).collect()
}

#[tokio::test]
async fn who_knows_the_former_topic_of_a_name_neither_reads_nor_writes_the_new_one() {
    let world = World::new(71);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    let former = topic_id(&handle, "orders").await;
    let producer = named_producer(&handle, "p").await;
    assert_eq!(produce(&handle, "orders", 0, sequenced(producer, 0, "old")).await.error, None);
    assert_eq!(commit(&handle, 1, former.clone()).await, None);
    delete(&handle, "orders").await;
    create(&handle, "orders", &[]).await;
    let current = topic_id(&handle, "orders").await;
    assert_ne!(former, current);

    let replaced = Some(ErrorCode::TopicReplaced);
    let send = async |topic_id: &Bytes, batch| {
        let part = v1::ProducePartition { topic_id: topic_id.clone(), ..part("orders", 0, batch) };
        handle.produce(produce_request(vec![part])).await.unwrap().results.remove(0)
    };
    let fetch = async |topic_id: &Bytes, offset| {
        let part = v1::FetchPartition { topic_id: topic_id.clone(), ..asked("orders", 0, offset) };
        // would wait for ever if the refusal did not end it
        handle.fetch(fetch_request(vec![part], 60_000)).await.unwrap().results.remove(0)
    };
    assert_eq!(code(&send(&former, batch_of(["stray"])).await.error), replaced);
    assert_eq!(code(&fetch(&former, 0).await.error), replaced);
    let list = v1::ListOffsetsPartition {
        topic: "orders".into(),
        timestamp_ms: -1,
        topic_id: former.clone(),
        ..Default::default()
    };
    let listed = handle
        .list_offsets(v1::ListOffsetsRequest { partitions: vec![list], ..Default::default() })
        .await
        .unwrap();
    assert_eq!(code(&listed.results[0].error), replaced);
    let records = v1::DeleteRecordsRequest {
        topic: "orders".into(),
        topic_id: former.clone(),
        partitions: vec![v1::DeleteRecordsPartition { partition: 0, before_offset: -1 }],
    };
    let refused = handle.delete_records(records).await.unwrap_err();
    assert_eq!(Some(refused.code), replaced);
    assert_eq!(commit(&handle, 1, former).await, replaced);

    // nothing of the former one is there: no record, no offset, no sequence
    assert_eq!(read(&handle, "orders", 0).await, Vec::<String>::new());
    assert_eq!(committed(&handle).await, Vec::<i64>::new());
    assert_eq!(send(&current, sequenced(producer, 0, "new")).await.error, None);
    let read_back = fetch(&current, 0).await;
    assert_eq!((read_back.error, read_back.high_watermark), (None, 1));
    assert_eq!(read(&handle, "orders", 0).await, ["new"]);
}

#[tokio::test]
async fn a_fetch_that_waits_does_not_go_on_with_the_next_topic_of_the_name() {
    let world = World::new(72);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    let topic_id = topic_id(&handle, "orders").await;
    let part = v1::FetchPartition { topic_id, ..asked("orders", 0, 0) };
    let waiting = tokio::spawn(handle.fetch(fetch_request(vec![part], 60_000)));
    tokio::task::yield_now().await;
    delete(&handle, "orders").await;
    create(&handle, "orders", &[]).await;
    produce(&handle, "orders", 0, batch_of(["of the new one"])).await;
    let result = waiting.await.unwrap().unwrap().results.remove(0);
    let code = code(&result.error).expect("refused");
    // the first when it looks between the two
    assert!(matches!(code, ErrorCode::UnknownTopic | ErrorCode::TopicReplaced), "{code}");
    assert!(result.batches.is_empty());
}

#[tokio::test]
async fn records_are_deleted_up_to_an_offset_and_stay_deleted() {
    let world = World::new(73);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("segment_bytes", "1024")]).await;
    for n in 0..40_i64 {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(&Record::new("key", vec![b'v'; 100], NOW_MS + n));
        produce(&handle, "orders", 0, builder.build()).await;
    }
    let segments = || {
        let files = world.disk.files().into_iter();
        files
            .filter(|path| path.starts_with("partitions") && path.extension().is_some_and(|s| s == "log"))
            .count()
    };
    let before = segments();
    let done = delete_records(&handle, 0, 25).await;
    assert_eq!((done.error, done.log_start_offset), (None, 25));
    let lower = delete_records(&handle, 0, 3).await;
    assert_eq!((lower.error, lower.log_start_offset), (None, 25), "the start never falls");
    assert_eq!(code(&delete_records(&handle, 0, 41).await.error), Some(ErrorCode::OffsetOutOfRange));
    assert_eq!(code(&delete_records(&handle, 0, -2).await.error), Some(ErrorCode::OffsetOutOfRange));
    assert_eq!(code(&delete_records(&handle, 9, 0).await.error), Some(ErrorCode::UnknownPartition));
    let below = handle.fetch(fetch_request(vec![asked("orders", 0, 24)], 0)).await.unwrap().results.remove(0);
    assert_eq!(code(&below.error), Some(ErrorCode::OffsetOutOfRange));
    assert_eq!(below.log_start_offset, 25);
    assert_eq!(read_from(&handle, "orders", 0, 25).await.len(), 15);
    assert_eq!(offset_at(&handle, "orders", 0, NOW_MS + 3).await, 25, "what is deleted is found by no time");
    drop(broker);
    world.disk.power_cut();
    let broker = world.start().await;
    let handle = broker.handle();
    assert_eq!(offset_at(&handle, "orders", 0, -2).await, 25);
    let all = delete_records(&handle, 0, -1).await;
    assert_eq!((all.error, all.log_start_offset), (None, 40));
    assert_eq!(offset_at(&handle, "orders", 0, NOW_MS).await, -1);
    assert_eq!(produce(&handle, "orders", 0, batch_of(["next"])).await.base_offset, 40);
    assert_eq!(read_from(&handle, "orders", 0, 40).await, [(40, "next".to_owned())]);
    broker.shutdown().await.unwrap();
    assert!(segments() + 5 < before, "the files are gone: {before}, then {}", segments());
}

#[tokio::test]
async fn the_objects_of_deleted_records_and_topics_go() {
    let mut world = World::new(74);
    world.config.tier.delete_delay_ms = 0;
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("tiered", "true"), ("segment_bytes", "4096")]).await;
    for n in 0..200 {
        produce(&handle, "orders", 0, batch_of([format!("{n:0>200}")])).await;
    }
    let flush = async || {
        let request = v1::TierFlushRequest { topic: String::new(), seal: true, evict: true };
        handle.tier_flush(request).await.unwrap()
    };
    assert!(flush().await.segments_evicted > 3);
    let objects = async || handle.tier_status(v1::TierStatusRequest::default()).await.unwrap().objects;
    let before = objects().await;
    let middle = delete_records(&handle, 0, 100).await;
    assert_eq!((middle.error, middle.log_start_offset), (None, 100));
    flush().await;
    let after = objects().await;
    assert!((1..before).contains(&after), "{before} objects, then {after}");
    assert_eq!(read_from(&handle, "orders", 0, 100).await.len(), 100, "what is kept is read back");
    let below = handle.fetch(fetch_request(vec![asked("orders", 0, 99)], 0)).await.unwrap().results.remove(0);
    assert_eq!(code(&below.error), Some(ErrorCode::OffsetOutOfRange));

    delete(&handle, "orders").await;
    create(&handle, "orders", &[("tiered", "true")]).await;
    flush().await;
    let status = handle.tier_status(v1::TierStatusRequest::default()).await.unwrap();
    assert_eq!(status.objects, 0, "{status:?}");
    assert_eq!(read(&handle, "orders", 0).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_was_acknowledged_before_durability_became_fsync_survives_a_power_cut_afterwards() {
    for seed in 0..12 {
        let world = World::new(seed);
        let broker = world.start().await;
        let handle = broker.handle();
        create(&handle, "orders", &[("durability", "replicated"), ("segment_bytes", "8192")]).await;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut confirmed = Vec::new();
        for n in 0..rng.random_range(1..60) {
            let value = format!("{n:0>300}");
            assert_eq!(produce(&handle, "orders", 0, batch_of([&value])).await.error, None);
            confirmed.push(value);
        }
        alter(&handle, "orders", &[("durability", "fsync")]).await;
        drop(broker);
        drop(handle);
        world.disk.power_cut();
        let broker = world.start().await;
        assert_eq!(read(&broker.handle(), "orders", 0).await, confirmed, "seed {seed}");
    }
}

#[tokio::test]
async fn settings_change_under_a_producer_that_goes_on() {
    let world = World::new(75);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("segment_bytes", "65536")]).await;
    let producing = tokio::spawn({
        let handle = handle.clone();
        async move {
            let mut sent = Vec::new();
            for n in 0..400 {
                let value = format!("{n:0>100}");
                assert_eq!(produce(&handle, "orders", 0, batch_of([&value])).await.error, None, "{n}");
                sent.push(value);
            }
            sent
        }
    });
    for round in 0..10 {
        let durability = if round % 2 == 0 { "replicated" } else { "fsync" };
        let segment_bytes = (4096 << (round % 4)).to_string();
        let settings =
            [("durability", durability), ("segment_bytes", &segment_bytes), ("max_batch_bytes", "4096")];
        alter(&handle, "orders", &settings).await;
        if round == 5 {
            let grow = v1::AlterTopicRequest { name: "orders".into(), partitions: 4, ..Default::default() };
            handle.alter_topic(grow).await.unwrap();
            assert_eq!(produce(&handle, "orders", 3, batch_of(["there"])).await.error, None);
        }
    }
    let sent = producing.await.unwrap();
    assert_eq!(read(&handle, "orders", 0).await, sent);
    let large = produce(&handle, "orders", 0, batch_of([vec![0; 5000]])).await;
    assert_eq!(code(&large.error), Some(ErrorCode::BatchTooLarge));
    let shrink = v1::AlterTopicRequest { name: "orders".into(), partitions: 3, ..Default::default() };
    assert_eq!(handle.alter_topic(shrink).await.unwrap_err().code, ErrorCode::InvalidArgument);
    drop(broker);
    world.disk.power_cut();
    let broker = world.start().await;
    assert_eq!(read(&broker.handle(), "orders", 0).await, sent, "the last settings say fsync");
}

/// Wherever a crash cuts through creations, growth and deletions: what the metadata say is on the disk, nothing else is, and a topic that
/// was not deleted has everything that was acknowledged.
#[tokio::test]
async fn a_crash_anywhere_in_the_life_of_topics_leaves_no_more_and_no_less_than_the_metadata_say() {
    for seed in 200..216 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(seed);
        let broker = world.start().await;
        create(&broker.handle(), "kept", &[]).await;
        drop(broker);
        let mut kept: Vec<String> = Vec::new();
        for round in 0..4 {
            let broker = world.start().await;
            let handle = broker.handle();
            let cut_at = world.disk.operations() + rng.random_range(0..80);
            world.disk.set_faults(Faults { stop_after_operations: Some(cut_at), ..Faults::default() });
            for n in 0..6 {
                let config = HashMap::new();
                let made = v1::CreateTopicRequest {
                    name: "brief".into(),
                    partitions: 2,
                    config,
                    ..Default::default()
                };
                // after the cut everything is refused, and that is the point
                let _ = handle.create_topic(made).await;
                let value = format!("{round}-{n}");
                if produce(&handle, "kept", 0, batch_of([&value])).await.error.is_none() {
                    kept.push(value);
                }
                let _ = produce(&handle, "brief", 1, batch_of(["x"])).await;
                let grow =
                    v1::AlterTopicRequest { name: "brief".into(), partitions: 3, ..Default::default() };
                let _ = handle.alter_topic(grow).await;
                let _ = handle.delete_topic(v1::DeleteTopicRequest { name: "brief".into() }).await;
            }
            drop(handle);
            drop(broker);
            if rng.random_bool(0.5) { world.disk.power_cut() } else { world.disk.kill() }
        }
        let broker = world.start().await;
        let handle = broker.handle();
        let found = read(&handle, "kept", 0).await;
        // a batch whose answer was lost may be there as well
        let mut rest = found.iter();
        assert!(
            kept.iter().all(|value| rest.any(|found| found == value)),
            "seed {seed}: {kept:?} in {found:?}"
        );
        let listed = handle.list_topics(v1::ListTopicsRequest::default()).await.unwrap().topics;
        broker.shutdown().await.unwrap();
        let ids = listed.iter().map(|topic| TopicId::from_slice(&topic.topic_id).unwrap().to_string());
        assert_eq!(on_disk(&world), ids.collect(), "seed {seed}");
    }
}

/// A partition that the metadata do not know.
async fn stray(broker: &Broker, world: &World, records: bool) -> PartitionId {
    let id = PartitionId { topic_id: TopicId::random(), partition: 0 };
    let log = LocalLog::new(broker.node.log.clone(), world.clock.clone());
    let settings = broker.node.metadata.image().topic("kept").unwrap().settings();
    log.ensure(id, settings).await.unwrap();
    if records {
        log.append(id, vec!["precious".into()]).await.unwrap();
    }
    id
}

#[tokio::test]
async fn data_that_the_metadata_do_not_know_are_kept_and_what_never_held_any_goes() {
    let world = World::new(76);
    let broker = world.start().await;
    create(&broker.handle(), "kept", &[("retention_ms", "1")]).await;
    let kept = topic_id(&broker.handle(), "kept").await;
    let (empty, full) = (stray(&broker, &world, false).await, stray(&broker, &world, true).await);
    broker.shutdown().await.unwrap();
    world.clock.advance(3_600_000);
    let expected =
        BTreeSet::from([full.topic_id.to_string(), TopicId::from_slice(&kept).unwrap().to_string()]);
    for _ in 0..2 {
        let broker = world.start().await;
        assert_eq!(produce(&broker.handle(), "kept", 0, batch_of(["a"])).await.error, None);
        broker.shutdown().await.unwrap();
        assert_eq!(on_disk(&world), expected, "{empty} is gone, {full} is there");
    }
}

#[tokio::test]
async fn a_node_whose_metadata_are_damaged_stays_down_and_removes_nothing() {
    let world = World::new(77);
    let broker = world.start().await;
    create(&broker.handle(), "orders", &[]).await;
    produce(&broker.handle(), "orders", 0, batch_of(["precious"])).await;
    broker.shutdown().await.unwrap();
    let metadata = METADATA.partition(0).to_string();
    let files = world.disk.files();
    let log = files.iter().find(|path| {
        path.to_string_lossy().contains(&metadata) && path.extension().is_some_and(|suffix| suffix == "log")
    });
    let log = log.expect("the metadata have a file").clone();
    let before = on_disk(&world);
    assert_eq!(before.len(), 1);
    world.disk.flip_bit(&log, 70).unwrap();
    for _ in 0..2 {
        world.try_start().await.expect_err("the metadata cannot be read");
        assert_eq!(on_disk(&world), before);
    }
}
