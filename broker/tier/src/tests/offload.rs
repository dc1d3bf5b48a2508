use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use sunseo_proto::ErrorCode;

use crate::host::TierTopicConfig;
use crate::record::TierRecord;
use crate::report::FlushRequest;
use crate::testing::{Fault, NOW_MS, TIERED, World, partition, topic};
use crate::{ObjectStoreHandle, Tier};

pub const SEAL: FlushRequest = FlushRequest { topic: String::new(), seal: true, evict: false };
pub const EVICT: FlushRequest = FlushRequest { topic: String::new(), seal: true, evict: true };

/// Reads a partition from the store alone and compares it with what was appended.
pub async fn assert_read_back(world: &World, tier: &Tier, id: sunseo_proto::PartitionId, from: i64) {
    let truth: Vec<u8> = {
        let state = world.host.state();
        state.partitions[&id]
            .truth
            .iter()
            .filter(|(h, _)| h.base_offset >= from)
            .flat_map(|(_, b)| b.to_vec())
            .collect()
    };
    let mut read = Vec::new();
    let mut offset = from;
    while let Some(bytes) = tier.read(id, offset, 50_000).await.unwrap() {
        assert!(!bytes.is_empty());
        offset = sunseo_proto::batch::batches(bytes.clone()).last().unwrap().unwrap().0.next_offset();
        read.extend_from_slice(&bytes);
    }
    assert!(read == truth, "{} bytes were read, {} were appended", read.len(), truth.len());
}

#[tokio::test]
async fn sealed_segments_go_to_the_store_and_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let store = ObjectStoreHandle::from_url(folder.path().to_str().unwrap()).unwrap();
    let mut world = World::over(Arc::clone(store.raw()));
    let id = partition(1, 0);
    world.host.add(id, "orders", TIERED);
    for _ in 0..3 {
        world.host.fill_segment(id, 40, 900);
    }
    world.host.fill_segment(id, 200, 1_100);
    let tier = world.start().await;
    let report = tier.flush(EVICT).await.unwrap();
    assert_eq!((report.segments_offloaded, report.segments_evicted), (4, 4));
    assert!(world.host.state().partitions[&id].sealed.is_empty());
    assert_read_back(&world, &tier, id, 0).await;
    assert_eq!(world.names("sunseo/seg").await.len(), 4);
    assert_eq!(world.names("sunseo/man").await.len(), 1, "one manifest, the newest");
    assert!(world.names("sunseo/probe").await.is_empty());
    let status = tier.status("orders").await.unwrap();
    assert!(status.reachable && status.last_error.is_empty(), "{}", status.last_error);
    assert_eq!((status.partitions[0].segments, status.partitions[0].pending_bytes), (4, 0));
    assert_eq!((status.partitions[0].offloaded_from, status.partitions[0].offloaded_to), (0, 3_200));
    let report = tier.verify("").await.unwrap();
    assert_eq!((report.objects, report.problems), (4, Vec::new()));
    tier.shutdown().await;
}

#[tokio::test]
async fn a_large_segment_goes_in_parts() {
    let mut world = World::new();
    world.config.multipart_from_bytes = 300_000;
    world.config.part_bytes = 100_000;
    let id = partition(1, 0);
    world.host.add(id, "orders", TIERED);
    world.host.fill_segment(id, 60, 1_000);
    let tier = world.start().await;
    tier.flush(EVICT).await.unwrap();
    assert_read_back(&world, &tier, id, 0).await;
    tier.shutdown().await;
}

#[tokio::test]
async fn a_store_that_is_down_loses_nothing_and_says_so() {
    let mut world = World::new();
    let id = partition(1, 0);
    world.host.add(id, "orders", TierTopicConfig { local_retention_bytes: Some(0), ..TIERED });
    world.host.fill_segment(id, 5, 100);
    world.faults.after(0, Fault::Lost);
    let tier = world.start().await;
    let error = tier.flush(SEAL).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ObjectStore, "{error}");
    let status = tier.status("").await.unwrap();
    assert!(!status.reachable && status.last_error.contains("injected"), "{status:?}");
    assert!(status.partitions[0].pending_bytes > 0);
    assert_eq!(world.host.state().partitions[&id].sealed.len(), 1, "the local copy stays");
    world.faults.heal();
    let report = tier.flush(SEAL).await.unwrap();
    assert_eq!((report.segments_offloaded, report.segments_evicted), (1, 1));
    let status = tier.status("").await.unwrap();
    assert!(status.reachable && status.last_error.is_empty());
    tier.shutdown().await;
}

#[tokio::test]
async fn damaged_local_data_is_not_uploaded() {
    let mut world = World::new();
    let id = partition(1, 0);
    world.host.add(id, "orders", TIERED);
    world.host.fill_segment(id, 5, 100);
    world.host.fill_segment(id, 5, 100);
    {
        let mut state = world.host.state();
        let (_, data) = &mut state.partitions.get_mut(&id).unwrap().sealed[1];
        let mut broken = data.to_vec();
        broken[500] ^= 4;
        *data = Bytes::from(broken);
    }
    let tier = world.start().await;
    assert_eq!(tier.flush(EVICT).await.unwrap_err().code, ErrorCode::CorruptLog);
    assert_eq!(tier.offloaded(id), Some(0..50), "the one before it went through");
    assert_eq!(
        world.host.state().partitions[&id].sealed.len(),
        1,
        "the damaged one stays where it can be looked at"
    );
    tier.shutdown().await;
}

#[tokio::test]
async fn retention_removes_records_then_objects() {
    let mut world = World::new();
    let id = partition(1, 0);
    // shorter than what separates the two segments, so that the second one stays young enough
    world.config.delete_delay_ms = 10;
    world.host.add(id, "orders", TierTopicConfig { retention_ms: Some(1_000_000), ..TIERED });
    world.host.fill_segment(id, 5, 100);
    world.host.fill_segment(id, 5, 100);
    let tier = world.start().await;
    tier.flush(EVICT).await.unwrap();
    world.clock.set(NOW_MS + 50 + 1_000_000);
    tier.flush(SEAL).await.unwrap();
    assert_eq!(world.host.state().partitions[&id].log_start, 50);
    assert_eq!(tier.read(id, 10, 1_000).await, Ok(None));
    assert_eq!(world.names("sunseo/seg").await.len(), 2, "readers get time");
    world.clock.advance(world.config.delete_delay_ms);
    tier.flush(SEAL).await.unwrap();
    assert_eq!(world.names("sunseo/seg").await.len(), 1);
    assert_read_back(&world, &tier, id, 50).await;
    tier.shutdown().await;
}

#[tokio::test]
async fn a_deleted_topic_takes_its_objects_with_it() {
    let mut world = World::new();
    for number in [1, 2] {
        world.host.add(partition(number, 0), &format!("t{number}"), TIERED);
        world.host.fill_segment(partition(number, 0), 5, 100);
    }
    let tier = world.start().await;
    tier.flush(SEAL).await.unwrap();
    // one is told, the other was deleted while the tier did not look
    tier.remove_topic(topic(1)).await.unwrap();
    {
        let mut state = world.host.state();
        state.partitions.clear();
        state.deleted.insert(topic(2));
    }
    tier.flush(SEAL).await.unwrap();
    assert_eq!(tier.read(partition(1, 0), 0, 1_000).await, Ok(None));
    world.clock.advance(world.config.delete_delay_ms);
    tier.flush(SEAL).await.unwrap();
    assert!(world.names("sunseo/seg").await.is_empty());
    tier.shutdown().await;
}

#[tokio::test]
async fn restored_segments_are_local_again() {
    let mut world = World::new();
    let id = partition(1, 0);
    world.host.add(id, "orders", TIERED);
    for _ in 0..3 {
        world.host.fill_segment(id, 5, 100);
    }
    let tier = world.start().await;
    tier.flush(EVICT).await.unwrap();
    let report = tier.restore("orders", None).await.unwrap();
    assert_eq!(report.segments, 3);
    {
        let state = world.host.state();
        let local: Vec<u8> =
            state.partitions[&id].sealed.iter().flat_map(|(_, data)| data.to_vec()).collect();
        let truth: Vec<u8> =
            state.partitions[&id].truth.iter().flat_map(|(_, batch)| batch.to_vec()).collect();
        assert!(local == truth);
    }
    assert_eq!(tier.restore("ordres", None).await.unwrap_err().code, ErrorCode::UnknownTopic);
    tier.shutdown().await;
}

#[tokio::test]
async fn a_stranger_under_our_name_is_left_alone_and_another_name_is_taken() {
    let mut world = World::new();
    let id = partition(1, 0);
    world.host.add(id, "orders", TIERED);
    world.host.fill_segment(id, 5, 100);
    world.faults.after(5, Fault::Lost);
    let tier = world.start().await;
    // find the announced name, whatever the step at which the world ended
    let _ = tier.flush(SEAL).await;
    tier.shutdown().await;
    world.faults.heal();
    let records: Vec<Bytes> = world.host.state().records.clone();
    let announced = records.iter().find_map(|r| match TierRecord::decode(r).unwrap() {
        TierRecord::Intent(key) => Some(key.object),
        _ => None,
    });
    let announced = announced.expect("the upload was announced before the fault");
    let path = Path::from(announced.as_str());
    world.store.put(&path, "half of an object".into()).await.unwrap();
    let tier = world.start().await;
    assert_eq!(tier.flush(SEAL).await.unwrap_err().code, ErrorCode::ObjectStore);
    tier.flush(EVICT).await.unwrap();
    assert_read_back(&world, &tier, id, 0).await;
    world.clock.advance(world.config.delete_delay_ms);
    tier.flush(SEAL).await.unwrap();
    let names = world.names("sunseo/seg").await;
    assert_eq!(names.len(), 1, "the torn object was swept");
    assert!(!names.contains(&announced));
    tier.shutdown().await;
}

#[test]
fn urls_are_read_or_refused_with_the_remedy() {
    let open = |url: &str| ObjectStoreHandle::from_url(url);
    let s3 = open("s3://bucket/a/b/?endpoint=http://127.0.0.1:9000&region=kr-1&style=path").unwrap();
    assert_eq!(s3.name(), "s3://bucket/a/b");
    for url in ["", "gs://bucket", "s3:///prefix", "s3://bucket?endpont=x", "file://host/path"] {
        let error = open(url).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{url}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().join("deep/er").display());
    assert!(open(&url).is_ok());
    assert!(folder.path().join("deep/er").is_dir());
}
