//! Start, stop and start again.

use std::sync::Arc;

use sunseo_proto::clock::SystemClock;
use sunseo_proto::error::ErrorCode;
use sunseo_proto::v1;

use super::support::*;
use crate::{Broker, BrokerConfig};

#[tokio::test]
async fn a_second_node_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let broker = Broker::start(BrokerConfig::new(directory.path()), clock.clone()).await.unwrap();
    let second = Broker::start(BrokerConfig::new(directory.path()), clock.clone()).await.unwrap_err();
    assert_eq!(second.code, ErrorCode::Unavailable);
    assert!(second.message.contains("in use"), "{second}");
    broker.shutdown().await.unwrap();
    let other = BrokerConfig { node_id: 2, ..BrokerConfig::new(directory.path()) };
    let refused = Broker::start(other, clock.clone()).await.unwrap_err();
    assert_eq!((refused.code, refused.field.as_deref()), (ErrorCode::InvalidArgument, Some("node_id")));
    Broker::start(BrokerConfig::new(directory.path()), clock).await.unwrap();
}

#[tokio::test]
async fn on_a_real_disk_a_node_comes_back_with_everything() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let broker = Broker::start(BrokerConfig::new(directory.path()), clock.clone()).await.unwrap();
    create(&broker.handle(), "orders", &[]).await;
    let mut expected: Vec<String> = Vec::new();
    broker.shutdown().await.unwrap();
    for round in 0..4 {
        let broker = Broker::start(BrokerConfig::new(directory.path()), clock.clone()).await.unwrap();
        let handle = broker.handle();
        assert_eq!(read(&handle, "orders", 0).await, expected);
        let value = format!("round {round}");
        assert_eq!(produce(&handle, "orders", 0, batch_of([&value])).await.error, None);
        expected.push(value);
        if round % 2 == 0 { broker.shutdown().await.unwrap() } else { drop(broker) }
    }
}

#[tokio::test]
async fn what_a_crash_cut_short_is_brought_to_what_the_metadata_say() {
    let world = World::new(42);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "kept", &[]).await;
    create(&handle, "gone", &[]).await;
    produce(&handle, "kept", 0, batch_of(["a"])).await;
    handle.delete_topic(v1::DeleteTopicRequest { name: "gone".into() }).await.unwrap();
    create(&handle, "gone", &[]).await;
    broker.shutdown().await.unwrap();
    let broker = world.start().await;
    let handle = broker.handle();
    assert_eq!(read(&handle, "kept", 0).await, ["a"]);
    assert_eq!(read(&handle, "gone", 0).await, Vec::<String>::new(), "a new topic with an old name is empty");
    let alter = v1::AlterTopicRequest { name: "kept".into(), partitions: 3, ..Default::default() };
    handle.alter_topic(alter).await.unwrap();
    assert_eq!(produce(&handle, "kept", 2, batch_of(["b"])).await.error, None);
    assert_eq!(read(&handle, "kept", 2).await, ["b"]);
}

#[tokio::test]
async fn retention_removes_what_is_old_and_readers_are_told_where_the_log_begins() {
    let mut world = World::new(43);
    world.config.maintenance_interval_ms = 20;
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "short", &[("retention_ms", "1000"), ("segment_bytes", "1024")]).await;
    for n in 0..10 {
        produce(&handle, "short", 0, batch_of([format!("{n:0>600}")])).await;
    }
    world.clock.advance(5_000);
    let mut start = 0;
    for _ in 0..500 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        start = offset_at(&handle, "short", 0, -2).await;
        if start > 0 {
            break;
        }
    }
    assert!(start > 0, "retention has removed nothing");
    let below = handle.fetch(fetch_request(vec![asked("short", 0, 0)], 0)).await.unwrap().results.remove(0);
    assert_eq!(code(&below.error), Some(ErrorCode::OffsetOutOfRange));
    assert_eq!(below.log_start_offset, start);
}

#[tokio::test]
async fn groups_and_their_offsets_survive_a_crash() {
    let world = World::new(44);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    produce(&handle, "orders", 0, batch_of(["a", "b", "c"])).await;
    let commit = v1::CommitOffsetsRequest {
        group: "readers".into(),
        offsets: vec![v1::OffsetCommit {
            topic: "orders".into(),
            partition: 0,
            offset: 2,
            ..Default::default()
        }],
        member_epoch: -1,
        ..Default::default()
    };
    let committed = handle.commit_offsets(commit).await.unwrap();
    assert!(committed.results.iter().all(|result| result.error.is_none()), "{committed:?}");
    drop(broker);
    let broker = world.start().await;
    let groups = broker.handle().list_groups(v1::ListGroupsRequest {}).await.unwrap();
    assert_eq!(groups.groups.len(), 1, "{groups:?}");
}

#[tokio::test]
async fn a_limit_that_cannot_work_is_named() {
    let mut world = World::new(45);
    world.config.limits.message_bytes_max = 1 << 20;
    let refused = world.try_start().await.unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("limits.message_bytes_max"), "{refused}");
}
