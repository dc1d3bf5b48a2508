//! A compacted topic from its creation to a reader, over a restart.

use std::collections::BTreeMap;

use bytes::Bytes;
use sunseo_proto::batch::{BatchBuilder, Compression};
use sunseo_proto::error::{Error, ErrorCode};
use sunseo_proto::{Record, v1};

use super::support::{NOW_MS, World, bytes_from, code, create, part, produce, produce_request, sequenced};
use crate::{Broker, BrokerHandle, cleaner};

fn prices(round: u32) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    for item in 0..5 {
        builder.push(&Record::new(format!("item-{item}"), format!("{round}"), NOW_MS));
    }
    builder.build()
}

async fn clean(world: &World, broker: &Broker) -> u32 {
    cleaner::pass(&broker.node.log, world.clock.clone()).await.unwrap()
}

/// The newest value of each key with its offset, and the number of records.
async fn table(handle: &BrokerHandle) -> (BTreeMap<String, (i64, String)>, usize) {
    let bytes = bytes_from(handle, "prices", 0, 0).await;
    let (mut newest, mut count) = (BTreeMap::new(), 0);
    for batch in sunseo_proto::batch::batches(bytes) {
        for record in sunseo_proto::batch::records(&batch.unwrap().1).unwrap() {
            let text = |bytes: Option<Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            newest.insert(text(record.key), (record.offset, text(record.value)));
            count += 1;
        }
    }
    (newest, count)
}

async fn described(handle: &BrokerHandle) -> v1::PartitionDescription {
    let request = v1::DescribeTopicRequest { name: "prices".to_owned() };
    handle.describe_topic(request).await.unwrap().partitions.remove(0)
}

#[tokio::test]
async fn a_compacted_topic_holds_the_newest_of_each_key() {
    let world = World::new(60);
    let broker = world.start().await;
    let handle = broker.handle();
    let config = [("cleanup", "compact"), ("segment_bytes", "1024"), ("min_dirty_ratio", "0.1")];
    create(&handle, "prices", &config).await;
    for round in 0..60 {
        assert_eq!(produce(&handle, "prices", 0, prices(round)).await.error, None);
    }
    let before = described(&handle).await;
    assert!(before.dirty_permille == 1_000 && before.dirty_bytes > 4_000 && before.compacted_ms == 0);
    let (expected, all) = table(&handle).await;
    assert_eq!(all, 300);
    assert_eq!(clean(&world, &broker).await, 1);
    let (found, left) = table(&handle).await;
    assert_eq!(found, expected, "values and offsets stay");
    assert!(left < 60, "{left} of 300 records are left");
    let after = described(&handle).await;
    assert_eq!((after.dirty_bytes, after.compacted_ms, after.log_start_offset), (0, NOW_MS, 0));
    assert!(after.compacted_bytes > 4_000 && after.local_bytes < before.local_bytes);
    assert_eq!(clean(&world, &broker).await, 0, "nothing is dirty");
    drop((broker, handle));
    world.disk.power_cut();
    let broker = world.start().await;
    let handle = broker.handle();
    assert_eq!(table(&handle).await, (expected, left));
    assert_eq!(produce(&handle, "prices", 0, prices(60)).await.base_offset, 300);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn records_without_a_key_are_refused_in_both_forms() {
    let world = World::new(61);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "prices", &[("cleanup", "compact,delete")]).await;
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&Record::new("a", "1", NOW_MS));
    builder.push(&Record { value: Some("2".into()), timestamp_ms: NOW_MS, ..Record::default() });
    let refused = produce(&handle, "prices", 0, builder.build()).await;
    assert_eq!(code(&refused.error), Some(ErrorCode::KeyRequired));
    let record = v1::Record { value: Some("x".into()), ..Default::default() };
    let records = v1::RecordList { records: vec![record] };
    let plain =
        v1::ProducePartition { batch: None, records: Some(records), ..part("prices", 0, Bytes::new()) };
    let refused = handle.produce(produce_request(vec![plain])).await.unwrap().results.pop().unwrap();
    let error = refused.error.map(Error::from).unwrap();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::KeyRequired, Some("partitions[0].records")));
    assert!(error.message.contains("record 0 has no key"), "{error}");
}

#[tokio::test]
async fn cleanup_can_be_changed_and_not_joined_with_tiering() {
    let world = World::new(62);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "prices", &[("segment_bytes", "1024")]).await;
    let alter = |key: &str, value: &str| {
        let config = [(key.to_owned(), value.to_owned())].into();
        let request = v1::AlterTopicRequest { name: "prices".to_owned(), config, ..Default::default() };
        let handle = handle.clone();
        async move { handle.alter_topic(request).await }
    };
    // a producer whose records all go is still known
    assert_eq!(produce(&handle, "prices", 0, sequenced((7, 0), 0, "first")).await.base_offset, 0);
    for round in 0..60 {
        produce(&handle, "prices", 0, prices(round)).await;
    }
    let last = sequenced((8, 0), 0, "last");
    produce(&handle, "prices", 0, last).await;
    assert_eq!(clean(&world, &broker).await, 0);
    alter("cleanup", "compact").await.unwrap();
    assert_eq!(clean(&world, &broker).await, 1);
    let repeated = produce(&handle, "prices", 0, sequenced((7, 0), 0, "first")).await;
    assert!(repeated.duplicate && repeated.base_offset == 0);
    assert_eq!(produce(&handle, "prices", 0, sequenced((7, 0), 1, "second")).await.base_offset, 302);
    let refused = alter("tiered", "true").await.unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("config.cleanup"));
    alter("cleanup", "delete").await.unwrap();
    let described = described(&handle).await;
    assert_eq!((described.dirty_bytes, described.compacted_ms), (0, NOW_MS));
}
