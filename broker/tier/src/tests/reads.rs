use std::sync::atomic::Ordering;

use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use sunseo_proto::ErrorCode;
use sunseo_proto::batch::{self, BatchHeader};

use crate::Tier;
use crate::segment::BLOCK_BYTES;
use crate::testing::{TIERED, World, partition};
use crate::tests::offload::{EVICT, assert_read_back};

/// One segment of about 3.4 MB in chunks of 1 MiB, evicted.
async fn offloaded() -> (World, Tier) {
    let mut world = World::new();
    world.host.add(partition(1, 0), "orders", TIERED);
    world.host.fill_segment(partition(1, 0), 300, 1_100);
    let tier = world.start().await;
    tier.flush(EVICT).await.unwrap();
    (world, tier)
}

#[tokio::test]
async fn every_offset_is_found_and_whole_batches_come_back() {
    let (world, tier) = offloaded().await;
    let truth = world.host.state().partitions[&partition(1, 0)].truth.clone();
    for (header, bytes) in truth.iter().step_by(7) {
        for offset in [header.base_offset, header.last_offset()] {
            for max_bytes in [0, 30_000] {
                let read = tier.read(partition(1, 0), offset, max_bytes).await.unwrap().unwrap();
                assert!(read.starts_with(bytes));
                assert!(read.len() <= max_bytes.max(bytes.len()));
                assert!(batch::batches(read).all(|b| b.is_ok()));
            }
        }
    }
    assert_eq!(tier.read(partition(1, 0), 3_000, 1).await, Ok(None));
    assert_eq!(tier.read(partition(1, 1), 0, 1).await, Ok(None));
    tier.shutdown().await;
}

#[tokio::test]
async fn a_sequential_reader_fetches_each_byte_once() {
    let (world, tier) = offloaded().await;
    assert_read_back(&world, &tier, partition(1, 0), 0).await;
    let status = tier.status("").await.unwrap();
    let ratio = status.bytes_fetched as f64 / status.bytes_read_back as f64;
    assert!(ratio <= 1.1, "{} fetched for {}", status.bytes_fetched, status.bytes_read_back);
    tier.shutdown().await;
}

#[tokio::test]
async fn readers_at_the_same_place_share_one_fetch() {
    let (world, tier) = offloaded().await;
    let before = world.gets.load(Ordering::SeqCst);
    let readers: Vec<_> = (0..16)
        .map(|n| {
            let tier = tier.clone();
            // every other batch: none begins where another ended, so none is taken for a sequential reader
            tokio::spawn(async move { tier.read(partition(1, 0), n * 20, 1_000).await.unwrap().unwrap() })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(world.gets.load(Ordering::SeqCst) - before, 2, "the footer and one chunk");
    tier.shutdown().await;
}

#[tokio::test]
async fn a_batch_larger_than_a_chunk_comes_back_whole() {
    let mut world = World::new();
    let id = partition(1, 0);
    world.host.add(id, "orders", TIERED);
    world.host.fill_segment(id, 2, 3 * BLOCK_BYTES / 10);
    let tier = world.start().await;
    tier.flush(EVICT).await.unwrap();
    let read = tier.read(id, 15, 100).await.unwrap().unwrap();
    assert_eq!(BatchHeader::parse(&read).unwrap().base_offset, 10);
    assert!(batch::validate(&read).is_ok());
    tier.shutdown().await;
}

#[tokio::test]
async fn a_damaged_object_is_never_given_out() {
    let (world, tier) = offloaded().await;
    let name = world.names("sunseo/seg").await.remove(0);
    let object = world.object(&name).await;
    let damage = async |at: usize| {
        let mut broken = object.to_vec();
        broken[at] ^= 1;
        world.store.put(&Path::from(name.as_str()), Bytes::from(broken).into()).await.unwrap();
    };
    damage(BLOCK_BYTES + 77).await;
    assert!(tier.read(partition(1, 0), 0, 1_000).await.is_ok(), "the first block is whole");
    let error = tier.read(partition(1, 0), 1_500, 1_000).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::CorruptLog, "{error}");
    let report = tier.verify("orders").await.unwrap();
    assert_eq!((report.objects, report.problems.len()), (1, 1));
    assert_eq!(report.problems[0].field.as_deref(), Some(name.as_str()));
    damage(object.len() - 20).await;
    assert_eq!(tier.verify("").await.unwrap().problems.len(), 1, "the footer is checked too");
    world.store.delete(&Path::from(name.as_str())).await.unwrap();
    assert_eq!(tier.verify("").await.unwrap().problems.len(), 1, "a missing object is a finding");
    tier.shutdown().await;
}

#[tokio::test]
async fn a_time_is_found_within_one_index_interval() {
    let (_world, tier) = offloaded().await;
    let id = partition(1, 0);
    let start = crate::testing::NOW_MS;
    for wanted in [0, 1, 777, 2_999] {
        let found = tier.offset_for_time(id, start + wanted).await.unwrap().unwrap();
        assert!(found <= wanted && wanted - found < 200, "{wanted}: {found}");
    }
    assert_eq!(tier.offset_for_time(id, start + 3_000).await, Ok(None));
    tier.shutdown().await;
}
