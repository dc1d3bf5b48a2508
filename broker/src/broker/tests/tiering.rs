//! Segments that go to the object store and come back.

use bytes::Bytes;
use sunseo_proto::batch::{BatchBuilder, Compression};
use sunseo_proto::error::ErrorCode;
use sunseo_proto::{Record, v1};

use super::support::*;
use crate::BrokerHandle;
use crate::metadata::internal_topics::TIER;

async fn flush(handle: &BrokerHandle, evict: bool) -> v1::TierFlushResponse {
    let request = v1::TierFlushRequest { topic: "orders".into(), seal: true, evict };
    handle.tier_flush(request).await.unwrap()
}

async fn describe(handle: &BrokerHandle) -> v1::PartitionDescription {
    let request = v1::DescribeTopicRequest { name: "orders".into() };
    handle.describe_topic(request).await.unwrap().partitions.remove(0)
}

async fn fill(handle: &BrokerHandle, rounds: std::ops::Range<i64>) {
    for n in rounds {
        let values: Vec<String> = (0..5).map(|m| format!("{n}-{m}-{}", "v".repeat(100))).collect();
        assert_eq!(produce(handle, "orders", 0, batch_of(&values)).await.error, None);
    }
}

#[tokio::test]
async fn a_time_is_found_while_its_segment_leaves_the_disk() {
    let world = World::new(57);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("tiered", "true"), ("segment_bytes", "4096")]).await;
    for round in 0..15 {
        // each round has a time of its own
        let at = NOW_MS + 1_000 * round;
        let mut builder = BatchBuilder::new(Compression::None);
        (0..40).for_each(|_| builder.push(&Record::new("key", vec![b'v'; 100], at)));
        let first = produce(&handle, "orders", 0, builder.build()).await.base_offset;
        let flushed = tokio::spawn({
            let handle = handle.clone();
            async move { flush(&handle, true).await }
        });
        while !flushed.is_finished() {
            assert_eq!(offset_at(&handle, "orders", 0, at).await, first, "round {round}");
            // what is in the tier's memory is found without a wait
            tokio::task::yield_now().await;
        }
        assert!(flushed.await.unwrap().segments_evicted > 0);
    }
}

#[tokio::test]
async fn what_is_offloaded_and_evicted_is_read_back_the_same() {
    let world = World::new(51);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("tiered", "true"), ("segment_bytes", "4096")]).await;
    fill(&handle, 0..40).await;
    let before = bytes_from(&handle, "orders", 0, 0).await;
    let report = flush(&handle, true).await;
    assert!(report.segments_evicted > 3, "{report:?}");
    let described = describe(&handle).await;
    assert_eq!((described.log_start_offset, described.local_start_offset), (0, 200));
    assert!(described.offloaded_bytes > 0);
    fill(&handle, 40..44).await;
    let after = bytes_from(&handle, "orders", 0, 0).await;
    assert_eq!(after[..before.len()], before[..], "cold bytes are those that were written");
    assert_eq!(read_from(&handle, "orders", 0, 117).await.len(), 220 - 117);
    assert_eq!(offset_at(&handle, "orders", 0, NOW_MS).await, 0);

    // a crash forgets nothing of it
    drop(broker);
    drop(handle);
    world.disk.power_cut();
    let broker = world.start().await;
    let handle = broker.handle();
    assert_eq!(bytes_from(&handle, "orders", 0, 0).await[..before.len()], before[..]);
    let status = handle.tier_status(v1::TierStatusRequest { topic: "orders".into() }).await.unwrap();
    assert_eq!((status.partitions[0].offloaded_from, status.partitions[0].offloaded_to), (0, 200));
    assert!(status.reachable && status.bytes_read_back > 0, "{status:?}");
    let verified = handle.tier_verify(v1::TierVerifyRequest { topic: "orders".into() }).await.unwrap();
    assert_eq!((verified.objects, verified.problems.len()), (u64::from(report.segments_evicted), 0));

    let request = v1::TierRestoreRequest { topic: "orders".into(), partition: -1 };
    let restored = handle.tier_restore(request).await.unwrap();
    assert_eq!(restored.segments, report.segments_evicted);
    assert_eq!(describe(&handle).await.local_start_offset, 0);
    assert_eq!(bytes_from(&handle, "orders", 0, 0).await[..before.len()], before[..]);
}

#[tokio::test]
async fn the_tiers_own_topic_does_not_grow_and_forgets_nothing() {
    let mut world = World::new(59);
    (world.config.tier.summary_records, world.config.tier.summary_part_bytes) = (10, 1_000);
    let (mut begins, mut written) = (Vec::new(), Bytes::new());
    for life in 0..4 {
        let broker = world.start().await;
        let handle = broker.handle();
        if life == 0 {
            create(&handle, "orders", &[("tiered", "true"), ("segment_bytes", "4096")]).await;
        }
        assert_eq!(bytes_from(&handle, "orders", 0, 0).await, written, "life {life}");
        for round in 0..4 {
            fill(&handle, round * 8..round * 8 + 8).await;
            assert!(flush(&handle, true).await.segments_evicted > 0);
        }
        written = bytes_from(&handle, "orders", 0, 0).await;
        let verified = handle.tier_verify(v1::TierVerifyRequest { topic: "orders".into() }).await.unwrap();
        assert!(verified.objects >= 8 && verified.problems.is_empty(), "{verified:?}");
        let records = broker.node.log.partitions().get(TIER.partition(0)).unwrap();
        let (begin, end) = (records.reader.log_start(), records.readable_end().unwrap());
        // each segment is a fact; a part has one at least
        let facts = i64::try_from(verified.objects).unwrap() + 3;
        assert!(
            end - begin <= facts + facts.max(10) + 2,
            "life {life}: records {begin}..{end} for {facts} facts"
        );
        begins.push(begin);
        drop((broker, handle, records));
        world.disk.power_cut();
    }
    assert!(begins.is_sorted() && begins[0] > 0 && begins[3] > begins[0], "{begins:?}");
}

#[tokio::test]
async fn one_fetch_reads_hot_and_cold_partitions_together() {
    let world = World::new(52);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("tiered", "true"), ("segment_bytes", "4096")]).await;
    create(&handle, "hot", &[]).await;
    fill(&handle, 0..10).await;
    flush(&handle, true).await;
    produce(&handle, "hot", 0, batch_of(["a"])).await;
    produce(&handle, "hot", 1, batch_of(["b"])).await;
    let partitions = vec![asked("hot", 0, 0), asked("orders", 0, 0), asked("hot", 1, 0), asked("hot", 1, 1)];
    let mut cold_came = false;
    for _ in 0..1_000 {
        let results = handle.fetch(fetch_request(partitions.clone(), 0)).await.unwrap().results;
        assert!(results.iter().all(|result| result.error.is_none()));
        let there: Vec<bool> = results.iter().map(|result| !result.batches.is_empty()).collect();
        cold_came = there[1];
        assert_eq!(there, [true, cold_came, true, false]);
        if cold_came {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(cold_came);
}

#[tokio::test]
async fn a_slow_object_costs_its_own_partition_and_nobody_else() {
    let world = World::new(58);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("tiered", "true"), ("segment_bytes", "4096")]).await;
    create(&handle, "fast", &[]).await;
    fill(&handle, 0..10).await;
    flush(&handle, true).await;
    let slow = std::time::Duration::from_secs(2);
    broker.node.reads.slow_store(slow);
    // partition 1 of "fast" is one that its reader has paused: it has records, and is not asked for
    produce(&handle, "fast", 1, batch_of(["paused"])).await;
    let begun = tokio::time::Instant::now();
    let mut fast_answers = 0;
    let cold = loop {
        produce(&handle, "fast", 0, batch_of([format!("{fast_answers}")])).await;
        let partitions = vec![asked("orders", 0, 0), asked("fast", 0, fast_answers)];
        let mut results = handle.fetch(fetch_request(partitions, 10_000)).await.unwrap().results;
        let (fast, cold) = (results.pop().unwrap(), results.pop().unwrap());
        assert!(!fast.batches.is_empty(), "round {fast_answers}");
        fast_answers += 1;
        if !cold.batches.is_empty() {
            break cold;
        }
        assert_eq!(broker.node.reads.cold().len(), 1, "one read goes on, however often it is asked for");
    };
    assert!(begun.elapsed() >= slow);
    assert!(fast_answers > 3, "only {fast_answers} answers while the object was read");
    assert_eq!(cold.error, None);
    assert_eq!(broker.node.reads.cold().len(), 0, "taken");
    // who asks for nothing else waits for it
    let next = batches_end(&cold.batches);
    let alone = handle.fetch(fetch_request(vec![asked("orders", 0, next)], 0)).await.unwrap();
    assert!(!alone.results[0].batches.is_empty());
}

fn batches_end(batches: &bytes::Bytes) -> i64 {
    sunseo_proto::batch::batches(batches.clone()).last().unwrap().unwrap().0.next_offset()
}

#[tokio::test]
async fn a_store_that_is_gone_fails_cold_reads_and_nothing_else() {
    let world = World::new(53);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("tiered", "true"), ("segment_bytes", "4096")]).await;
    fill(&handle, 0..10).await;
    flush(&handle, true).await;
    std::fs::remove_dir_all(world.config.object_store_url.as_ref().unwrap()).unwrap();
    let cold =
        handle.fetch(fetch_request(vec![asked("orders", 0, 0)], 1_000)).await.unwrap().results.remove(0);
    assert!(matches!(code(&cold.error), Some(ErrorCode::ObjectStore | ErrorCode::CorruptLog)), "{cold:?}");
    assert_eq!(produce(&handle, "orders", 0, batch_of(["hot"])).await.error, None);
    assert_eq!(read_from(&handle, "orders", 0, 50).await, [(50, "hot".to_owned())]);
}

#[tokio::test]
async fn a_deleted_topic_leaves_the_store_as_well() {
    let world = World::new(54);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("tiered", "true"), ("segment_bytes", "4096")]).await;
    fill(&handle, 0..10).await;
    flush(&handle, false).await;
    handle.delete_topic(v1::DeleteTopicRequest { name: "orders".into() }).await.unwrap();
    let status = handle.tier_status(v1::TierStatusRequest::default()).await.unwrap();
    assert_eq!(status.partitions, []);
    let unknown = handle.tier_status(v1::TierStatusRequest { topic: "orders".into() }).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownTopic);
}

#[tokio::test]
async fn trace_headers_come_out_as_they_went_in_from_the_disk_and_from_the_object_store() {
    let world = World::new(58);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("tiered", "true"), ("segment_bytes", "4096")]).await;
    let headers = [
        ("traceparent", Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        ("tracestate", Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")),
        // not even well-formed ones are touched, nor repeated ones joined
        ("traceparent", Some("not a trace")),
        ("baggage", None),
    ];
    let header = |(key, value): &(&str, Option<&'static str>)| v1::Header {
        key: (*key).to_owned(),
        value: value.map(|value| bytes::Bytes::from_static(value.as_bytes())),
    };
    let headers: Vec<v1::Header> = headers.iter().map(header).collect();
    for n in 0..40 {
        let value = Some(format!("{n:0>200}").into());
        let record =
            v1::Record { key: Some("k".into()), value, headers: headers.clone(), ..Default::default() };
        let list = v1::RecordList { records: vec![record] };
        let part = v1::ProducePartition { topic: "orders".into(), records: Some(list), ..Default::default() };
        assert_eq!(handle.produce(produce_request(vec![part])).await.unwrap().results[0].error, None);
    }
    let read = async || {
        let request = v1::FetchRequest { as_records: true, ..fetch_request(vec![asked("orders", 0, 0)], 0) };
        let mut result = handle.fetch(request).await.unwrap().results.remove(0);
        assert!(result.records.iter().all(|record| record.headers == headers), "{result:?}");
        std::mem::take(&mut result.records).len()
    };
    assert!(read().await > 0);
    assert!(flush(&handle, true).await.segments_evicted > 0);
    assert!(describe(&handle).await.local_start_offset > 0, "read back from the store");
    assert!(read().await > 0);
}
