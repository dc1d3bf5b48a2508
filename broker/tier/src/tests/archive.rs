use std::collections::BTreeMap;

use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;
use sunseo_proto::{ErrorCode, PartitionId};

use crate::host::{ArchiveSource, TierTopicConfig};
use crate::report::FlushRequest;
use crate::testing::{Fault, NOW_MS, TIERED, World, partition, topic};
use crate::tests::offload::{EVICT, SEAL};

const BODY: &str = r#"{"table": "summary", "topic": "S", "key": "id", "columns": [
    {"name": "id", "type": "string"}, {"name": "n", "type": "int64"}]}"#;

fn define(world: &World, body: &str) {
    let source = ArchiveSource { name: "summary".into(), version: 1, body: Bytes::from(body.to_owned()) };
    world.host.state().archives = vec![source];
}

fn append(world: &World, id: PartitionId, numbers: std::ops::Range<i64>) {
    let values: Vec<String> =
        numbers.map(|n| format!(r#"{{"id": "p{}-{n}", "n": {n}}}"#, id.partition)).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    world.host.append_values(id, &values);
}

/// Every row of the table: (partition, offset) -> id; twice the same place is a failure.
async fn rows(world: &World) -> BTreeMap<(i32, i64), String> {
    let mut rows = BTreeMap::new();
    for name in world.names("tab/summary").await {
        let reader = SerializedFileReader::new(world.object(&name).await).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let place = (row.get_int(2).unwrap(), row.get_long(3).unwrap());
            assert_eq!(
                rows.insert(place, row.get_string(0).unwrap().clone()),
                None,
                "{place:?} is there twice"
            );
        }
    }
    rows
}

fn expected(partitions: i32, records: i64) -> BTreeMap<(i32, i64), String> {
    (0..partitions).flat_map(|p| (0..records).map(move |n| ((p, n), format!("p{p}-{n}")))).collect()
}

#[tokio::test]
async fn every_record_becomes_one_row_and_the_status_counts_them() {
    let mut world = World::new();
    define(&world, BODY);
    for p in 0..2 {
        world.host.add(partition(1, p), "S", TIERED);
        append(&world, partition(1, p), 0..30);
    }
    let tier = world.start().await;
    assert_eq!(tier.status("S").await.unwrap().archives[0].lag, 60);
    let report = tier.flush(EVICT).await.unwrap();
    assert_eq!((report.archive_files, report.archive_rows), (2, 60));
    append(&world, partition(1, 0), 30..40);
    append(&world, partition(1, 1), 30..40);
    world.host.append_values(partition(1, 1), &["no json"]);
    // what was archived is no longer local, what comes next is
    let report = tier.flush(SEAL).await.unwrap();
    assert_eq!((report.archive_files, report.archive_rows), (2, 20));
    assert_eq!(rows(&world).await, expected(2, 40));
    let status = tier.status("S").await.unwrap();
    let archive = &status.archives[0];
    assert_eq!((archive.table.as_str(), archive.files, archive.rows), ("summary", 4, 80));
    assert_eq!((archive.bad_rows, archive.lag), (1, 0));
    assert_eq!(world.names("bad").await.len(), 1);
    assert_eq!(tier.flush(SEAL).await.unwrap().archive_files, 0, "nothing new, no file");
    let report = tier.verify("S").await.unwrap();
    assert_eq!((report.objects, report.problems), (5 + 4, Vec::new()));
    tier.shutdown().await;
}

#[tokio::test]
async fn a_table_defined_late_reads_the_past_from_the_store() {
    let mut world = World::new();
    let id = partition(1, 0);
    world.host.add(id, "S", TIERED);
    append(&world, id, 0..50);
    let tier = world.start().await;
    tier.flush(EVICT).await.unwrap();
    assert!(world.host.state().partitions[&id].sealed.is_empty());
    define(&world, BODY);
    tier.flush(SEAL).await.unwrap();
    assert_eq!(rows(&world).await, expected(1, 50));
    tier.shutdown().await;
}

#[tokio::test]
async fn without_a_flush_rows_and_age_decide() {
    let mut world = World::new();
    world.config.archive_rows = 20;
    define(&world, BODY);
    let id = partition(1, 0);
    world.host.add(id, "S", TierTopicConfig::default());
    append(&world, id, 0..45);
    // no flush: the pass that the start makes
    let tier = world.start().await;
    let settled = async |want: usize| {
        while world.names("tab").await.len() < want {
            tokio::task::yield_now().await;
        }
    };
    settled(2).await;
    world.clock.advance(world.config.archive_age_ms);
    tier.wake();
    settled(3).await;
    // the third file is there; its record follows in the same pass
    tier.flush(FlushRequest { topic: "other".into(), ..SEAL }).await.unwrap();
    assert_eq!(rows(&world).await, expected(1, 45));
    assert_eq!(tier.status("").await.unwrap().archives[0].lag, 0);
    tier.shutdown().await;
}

#[tokio::test]
async fn rows_are_exactly_once_whatever_step_fails() {
    for kind in [Fault::Lost, Fault::Unanswered] {
        for restart in [true, false] {
            let mut steps = 0;
            loop {
                let mut world = World::new();
                world.config.archive_rows = 20;
                define(&world, BODY);
                world.host.add(partition(1, 0), "S", TierTopicConfig::default());
                append(&world, partition(1, 0), 0..50);
                world.faults.after(steps, kind);
                let mut tier = world.start().await;
                let _ = tier.flush(SEAL).await;
                let struck = world.faults.struck();
                // more arrives before the repair, so a cut that is not kept would come out different
                append(&world, partition(1, 0), 50..60);
                world.faults.heal();
                if restart {
                    tier.shutdown().await;
                    define(
                        &world,
                        &BODY.replace("\"n\", \"type\": \"int64\"", "\"n\", \"type\": \"float64\""),
                    );
                    tier = world.start().await;
                }
                tier.flush(SEAL).await.unwrap();
                assert_eq!(rows(&world).await, expected(1, 60), "step {steps} {kind:?} restart {restart}");
                assert_eq!(tier.status("").await.unwrap().archives[0].rows, 60);
                assert_eq!(tier.verify("").await.unwrap().problems, []);
                tier.shutdown().await;
                if !struck {
                    break;
                }
                steps += 1;
            }
            assert!(steps > 8, "the ends hit the work: {steps}");
        }
    }
}

#[tokio::test]
async fn retention_waits_for_the_archive() {
    let mut world = World::new();
    let id = partition(1, 0);
    world.host.add(id, "S", TierTopicConfig { retention_ms: Some(1), ..TIERED });
    append(&world, id, 0..10);
    define(&world, r#"{"table": "summary", "topic": "S"}"#);
    world.clock.set(NOW_MS + 1_000);
    let tier = world.start().await;
    let error = tier.flush(SEAL).await.unwrap_err();
    assert!(error.message.contains("archive definition summary"), "{error}");
    assert_eq!(world.host.state().partitions[&id].log_start, 0, "a broken definition keeps its records");
    define(&world, BODY);
    tier.flush(SEAL).await.unwrap();
    assert_eq!(world.host.state().partitions[&id].log_start, 10);
    assert_eq!(rows(&world).await, expected(1, 10));
    tier.shutdown().await;
}

#[tokio::test]
async fn a_topic_made_again_never_overwrites_its_former_life() {
    let mut world = World::new();
    define(&world, BODY);
    world.host.add(partition(1, 0), "S", TierTopicConfig::default());
    append(&world, partition(1, 0), 0..10);
    let tier = world.start().await;
    tier.flush(SEAL).await.unwrap();
    tier.remove_topic(topic(1)).await.unwrap();
    world.host.state().partitions.clear();
    world.host.add(partition(2, 0), "S", TierTopicConfig::default());
    append(&world, partition(2, 0), 0..10);
    tier.flush(SEAL).await.unwrap();
    let names = world.names("tab").await;
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].ends_with("-i2.parquet"), "{names:?}");
    tier.shutdown().await;
}

#[tokio::test]
async fn a_file_of_another_cluster_is_not_overwritten_and_a_torn_one_is() {
    let mut world = World::new();
    define(&world, BODY);
    world.host.add(partition(1, 0), "S", TierTopicConfig::default());
    append(&world, partition(1, 0), 0..10);
    let tier = world.start().await;
    tier.flush(SEAL).await.unwrap();
    let name = world.names("tab").await.remove(0);
    let ours = world.object(&name).await;
    tier.shutdown().await;

    let mut other = World::over(std::sync::Arc::clone(&world.store));
    define(&other, BODY);
    other.host.add(partition(7, 0), "S", TierTopicConfig::default());
    append(&other, partition(7, 0), 0..10);
    let tier = other.start().await;
    assert_eq!(tier.flush(SEAL).await.unwrap_err().code, ErrorCode::AlreadyExists);
    assert_eq!(world.object(&name).await, ours);
    other.store.put(&Path::from(name.as_str()), ours.slice(..ours.len() / 2).into()).await.unwrap();
    tier.flush(SEAL).await.unwrap();
    assert_eq!(rows(&other).await, expected(1, 10));
    tier.shutdown().await;
}
