//! Produce and fetch in process.

use std::time::Duration;

use futures::future::join_all;
use sunseo_proto::batch;
use sunseo_proto::error::ErrorCode;
use sunseo_proto::{Record, v1};
use tokio::time::{Instant, timeout};

use super::support::*;

#[tokio::test]
async fn what_was_acknowledged_is_read_back_in_order() {
    let world = World::new(1);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    let first = produce(&handle, "orders", 0, batch_of(["a", "b"])).await;
    assert_eq!((first.error, first.base_offset, first.last_offset), (None, 0, 1));
    let second = produce(&handle, "orders", 0, batch_of(["c"])).await;
    assert_eq!((second.base_offset, second.last_offset, second.duplicate), (2, 2, false));
    assert_eq!(read(&handle, "orders", 0).await, ["a", "b", "c"]);
    assert_eq!(read(&handle, "orders", 1).await, Vec::<String>::new());
    assert_eq!(read_from(&handle, "orders", 0, 1).await, [(1, "b".to_owned()), (2, "c".to_owned())]);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn requests_take_effect_in_the_order_of_the_calls_and_answers_follow_their_partitions() {
    let world = World::new(2);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    let values: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let answers: Vec<_> = values
        .iter()
        .map(|value| {
            let good = |partition| part("orders", partition, batch_of([value]));
            let parts = vec![
                good(1),
                part("nowhere", 0, batch_of([value])),
                good(0),
                part("orders", 7, batch_of([value])),
            ];
            handle.produce(produce_request(parts))
        })
        .collect();
    for (n, answer) in join_all(answers).await.into_iter().enumerate() {
        let results = answer.unwrap().results;
        let codes: Vec<_> = results.iter().map(|result| code(&result.error)).collect();
        assert_eq!(codes, [None, Some(ErrorCode::UnknownTopic), None, Some(ErrorCode::UnknownPartition)]);
        assert_eq!((results[0].base_offset, results[2].base_offset), (n as i64, n as i64));
        assert_eq!(results[1].base_offset, -1);
        assert_eq!(results[3].error.as_ref().unwrap().field, "partitions[3].partition");
    }
    assert_eq!(read(&handle, "orders", 0).await, values);
    assert_eq!(read(&handle, "orders", 1).await, values);
}

#[tokio::test]
async fn callers_that_send_more_than_fits_wait_in_line_and_keep_their_order() {
    let mut world = World::new(3);
    world.config.limits.internal_produce_bytes_in_flight_max = 2_000;
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    let values: Vec<String> = (0..100).map(|n| format!("{n:0>1000}")).collect();
    let send = |value: &String| handle.produce(produce_request(vec![part("orders", 0, batch_of([value]))]));
    for answer in join_all(values.iter().map(send)).await {
        assert_eq!(answer.unwrap().results[0].error, None);
    }
    assert_eq!(read(&handle, "orders", 0).await, values);
}

#[tokio::test]
async fn a_repeat_is_answered_and_not_appended() {
    let world = World::new(4);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    let producer = named_producer(&handle, "").await;
    for (sequence, value) in [(0, "a"), (1, "b")] {
        assert_eq!(produce(&handle, "orders", 0, sequenced(producer, sequence, value)).await.error, None);
    }
    let again = produce(&handle, "orders", 0, sequenced(producer, 0, "a")).await;
    assert_eq!((again.error, again.duplicate, again.base_offset), (None, true, 0));
    let gap = produce(&handle, "orders", 0, sequenced(producer, 9, "x")).await;
    assert_eq!(code(&gap.error), Some(ErrorCode::SequenceGap));

    let source = named_producer(&handle, "outbox").await;
    assert_eq!(produce(&handle, "orders", 1, positioned(source, 1, 5)).await.error, None);
    let again = produce(&handle, "orders", 1, positioned(source, 2, 5)).await;
    assert_eq!((again.error, again.duplicate), (None, true));
    let overlap = produce(&handle, "orders", 1, positioned(source, 4, 8)).await;
    assert_eq!((code(&overlap.error), overlap.accepted_through), (Some(ErrorCode::PartialDuplicate), 5));
    assert_eq!(read(&handle, "orders", 0).await, ["a", "b"]);
    assert_eq!(read(&handle, "orders", 1).await, ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_newer_instance_of_a_named_producer_fences_the_older_one_in_every_partition() {
    let world = World::new(5);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    let old = named_producer(&handle, "task-1").await;
    assert_eq!(produce(&handle, "orders", 0, positioned(old, 1, 1)).await.error, None);
    let new = named_producer(&handle, "task-1").await;
    assert_eq!(new, (old.0, old.1 + 1));
    for partition in 0..2 {
        let late = produce(&handle, "orders", partition, positioned(old, 2, 2)).await;
        assert_eq!(code(&late.error), Some(ErrorCode::ProducerFenced), "partition {partition}");
    }
    assert_eq!(produce(&handle, "orders", 0, positioned(new, 2, 2)).await.error, None);
    assert_eq!(read(&handle, "orders", 0).await, ["1", "2"]);
}

#[tokio::test]
async fn when_a_new_epoch_is_given_nothing_of_the_older_one_is_still_under_way() {
    let world = World::new(6);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "tasks", &[]).await;
    for round in 0..20 {
        let old = named_producer(&handle, "task").await;
        let send = |n: i64| {
            let position = round * 100 + n;
            handle.produce(produce_request(vec![part("tasks", 0, positioned(old, position, position))]))
        };
        let pending: Vec<_> = (1..40).map(send).collect();
        named_producer(&handle, "task").await;
        let seen = offset_at(&handle, "tasks", 0, -1).await;
        join_all(pending).await;
        assert_eq!(offset_at(&handle, "tasks", 0, -1).await, seen, "round {round}");
    }
}

#[tokio::test]
async fn plain_records_go_in_and_out_without_the_batch_codec() {
    let world = World::new(7);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    let header = v1::Header { key: "trace".into(), value: Some("1".into()) };
    let record = v1::Record {
        key: Some("k".into()),
        value: Some("v".into()),
        headers: vec![header],
        timestamp_ms: NOW_MS,
        offset: 0,
    };
    let tombstone =
        v1::Record { key: Some("k".into()), offset: 1, timestamp_ms: NOW_MS, ..Default::default() };
    let list = v1::RecordList { records: vec![record.clone(), tombstone.clone()] };
    let plain = v1::ProducePartition { topic: "orders".into(), records: Some(list), ..Default::default() };
    let result = handle.produce(produce_request(vec![plain])).await.unwrap().results.pop().unwrap();
    assert_eq!((result.error, result.last_offset), (None, 1));
    let source = named_producer(&handle, "outbox").await;
    produce(&handle, "orders", 0, positioned(source, 1, 1)).await;
    let request = v1::FetchRequest { as_records: true, ..fetch_request(vec![asked("orders", 0, 0)], 0) };
    let read = handle.fetch(request.clone()).await.unwrap().results.pop().unwrap();
    assert_eq!(read.records[..2], [record, tombstone]);
    assert_eq!(read.records[2].headers, [], "the position is the server's own");
    let from_the_middle = v1::FetchRequest { partitions: vec![asked("orders", 0, 1)], ..request };
    let offsets: Vec<i64> =
        handle.fetch(from_the_middle).await.unwrap().results[0].records.iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [1, 2]);
}

#[tokio::test]
async fn a_fetch_waits_until_there_is_enough_and_no_longer_than_it_said() {
    let world = World::new(8);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    let both = || vec![asked("orders", 0, 0), asked("orders", 1, 0)];
    let waiting = tokio::spawn(handle.fetch(fetch_request(both(), 30_000)));
    tokio::task::yield_now().await;
    produce(&handle, "orders", 1, batch_of(["wake up"])).await;
    let woken = timeout(Duration::from_secs(10), waiting).await.expect("is woken").unwrap().unwrap();
    assert!(woken.results[0].batches.is_empty() && !woken.results[1].batches.is_empty());

    let bytes = batch_of(["x"]).len() as u32;
    let patient =
        v1::FetchRequest { min_bytes: 3 * bytes, ..fetch_request(vec![asked("orders", 0, 0)], 30_000) };
    let waiting = tokio::spawn(handle.fetch(patient));
    for value in ["a", "b", "c"] {
        tokio::task::yield_now().await;
        produce(&handle, "orders", 0, batch_of([value])).await;
    }
    let woken = timeout(Duration::from_secs(10), waiting).await.expect("is woken").unwrap().unwrap();
    assert_eq!(batch::batches(woken.results[0].batches.clone()).count(), 3);

    let started = Instant::now();
    let nothing = handle.fetch(fetch_request(vec![asked("orders", 0, 3)], 50)).await.unwrap();
    assert!(nothing.results[0].batches.is_empty() && nothing.results[0].high_watermark == 3);
    assert!(started.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_fetch_does_not_wait_for_more_while_there_is_more() {
    let world = World::new(15);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[("segment_bytes", "4096")]).await;
    let one = batch_of([[b'x'; 1000]]).len() as u32;
    for partition in 0..2 {
        for _ in 0..10 {
            produce(&handle, "orders", partition, batch_of([[b'x'; 1000]])).await;
        }
    }
    // the first segment has three batches; one batch of the second partition does not fit beside them
    let across_segments = vec![asked("orders", 0, 0)];
    let over_the_budget = vec![asked("orders", 0, 0), asked("orders", 1, 0)];
    for (partitions, max_bytes, expect) in [(across_segments, 8 << 20, 3), (over_the_budget, 4 * one - 1, 3)]
    {
        let request = fetch_request(partitions, 30_000);
        let request = v1::FetchRequest { min_bytes: 4 * one - 1, max_bytes, ..request };
        let answer = timeout(Duration::from_secs(10), handle.fetch(request)).await;
        let answer = answer.expect("is answered at once").unwrap();
        assert_eq!(batch::batches(answer.results[0].batches.clone()).count(), expect);
    }
}

#[tokio::test]
async fn a_fetch_that_waits_hears_of_the_end_of_the_topic_and_of_the_node() {
    let world = World::new(9);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    create(&handle, "gone", &[]).await;
    let waits_for_topic = tokio::spawn(handle.fetch(fetch_request(vec![asked("gone", 0, 0)], 60_000)));
    let waits_for_node = tokio::spawn(handle.fetch(fetch_request(vec![asked("orders", 0, 0)], 60_000)));
    tokio::task::yield_now().await;
    handle.delete_topic(v1::DeleteTopicRequest { name: "gone".into() }).await.unwrap();
    let answer = timeout(Duration::from_secs(10), waits_for_topic).await.expect("is woken").unwrap().unwrap();
    assert_eq!(code(&answer.results[0].error), Some(ErrorCode::UnknownTopic));
    broker.shutdown().await.unwrap();
    let answer = timeout(Duration::from_secs(10), waits_for_node).await.expect("is woken").unwrap();
    assert_eq!(answer.unwrap_err().code, ErrorCode::Unavailable);
    let late = handle.produce(produce_request(vec![part("orders", 0, batch_of(["x"]))])).await;
    assert_eq!(late.unwrap_err().code, ErrorCode::Unavailable);
}

#[tokio::test]
async fn budgets_hold_and_every_fetch_makes_progress() {
    let world = World::new(10);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    for partition in 0..2 {
        for _ in 0..5 {
            produce(&handle, "orders", partition, batch_of([[b'x'; 1000]])).await;
        }
    }
    let one = batch_of([[b'x'; 1000]]).len();
    let both = || vec![asked("orders", 0, 0), asked("orders", 1, 0)];
    let sizes = |response: v1::FetchResponse| -> Vec<usize> {
        // which of them is read first is another one from fetch to fetch
        let mut sizes: Vec<usize> = response.results.iter().map(|result| result.batches.len()).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes
    };
    let limited =
        |max_bytes: usize| v1::FetchRequest { max_bytes: max_bytes as u32, ..fetch_request(both(), 0) };
    assert_eq!(sizes(handle.fetch(limited(1)).await.unwrap()), [one, 0], "at least one batch");
    assert_eq!(sizes(handle.fetch(limited(3 * one)).await.unwrap()), [3 * one, 0]);
    assert_eq!(sizes(handle.fetch(limited(7 * one)).await.unwrap()), [5 * one, 2 * one]);
    let small = |partition| v1::FetchPartition { max_bytes: 2 * one as u32, ..asked("orders", partition, 0) };
    let response = handle.fetch(fetch_request(vec![small(0), small(1)], 0)).await.unwrap();
    assert_eq!(sizes(response), [2 * one, 2 * one]);
}

#[tokio::test]
async fn a_fetch_is_refused_partition_by_partition() {
    let world = World::new(11);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    produce(&handle, "orders", 0, batch_of(["a"])).await;
    let epoch = |current_leader_epoch| v1::FetchPartition { current_leader_epoch, ..asked("orders", 0, 0) };
    let request = fetch_request(
        vec![
            asked("orders", 0, 0),
            asked("orders", 0, 2),
            asked("orders", 0, -1),
            asked("orders", 9, 0),
            asked("nowhere", 0, 0),
            epoch(0),
            epoch(1),
            epoch(2),
        ],
        1_000,
    );
    let results = handle.fetch(request).await.unwrap().results;
    let codes: Vec<_> = results.iter().map(|result| code(&result.error)).collect();
    use ErrorCode::{FencedLeaderEpoch, NotLeader, OffsetOutOfRange, UnknownPartition, UnknownTopic};
    let expected = [
        None,
        Some(OffsetOutOfRange),
        Some(OffsetOutOfRange),
        Some(UnknownPartition),
        Some(UnknownTopic),
        Some(FencedLeaderEpoch),
        None,
        Some(NotLeader),
    ];
    assert_eq!(codes, expected);
    assert_eq!((results[1].log_start_offset, results[1].high_watermark), (0, 1));
    assert_eq!((results[0].leader_epoch, results[0].high_watermark), (1, 1));
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let world = World::new(12);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    for n in 0..50 {
        let mut builder = batch::BatchBuilder::new(batch::Compression::Zstd);
        for m in 0..4 {
            builder.push(&Record::new("k", "v", NOW_MS + n * 100 + m * 10));
        }
        produce(&handle, "orders", 0, builder.build()).await;
    }
    assert_eq!(offset_at(&handle, "orders", 0, -2).await, 0);
    assert_eq!(offset_at(&handle, "orders", 0, -1).await, 200);
    for (after_ms, offset) in [(0, 0), (1, 1), (100, 4), (115, 6), (131, 8), (4_930, 199), (4_931, -1)] {
        assert_eq!(offset_at(&handle, "orders", 0, NOW_MS + after_ms).await, offset, "{after_ms}");
    }
}

#[tokio::test]
async fn the_servers_own_topics_can_be_read_and_not_written() {
    let world = World::new(13);
    let broker = world.start().await;
    let handle = broker.handle();
    let refused = produce(&handle, "__metadata", 0, batch_of(["x"])).await;
    assert_eq!(code(&refused.error), Some(ErrorCode::Unauthorized));
    let read = handle.fetch(fetch_request(vec![asked("__metadata", 0, 0)], 0)).await.unwrap();
    assert_eq!(read.results[0].error, None);
    assert!(!read.results[0].batches.is_empty());
}

#[tokio::test]
async fn a_topic_is_described_with_the_facts_of_its_partitions() {
    let world = World::new(14);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    produce(&handle, "orders", 1, batch_of(["a", "b"])).await;
    let response = handle.describe_topic(v1::DescribeTopicRequest { name: "orders".into() }).await.unwrap();
    let described = &response.partitions[1];
    assert_eq!(described.partition, 1);
    assert_eq!((described.log_start_offset, described.high_watermark, described.log_end_offset), (0, 2, 2));
    assert_eq!((described.leader_epoch, described.failed.as_str()), (1, ""));
    assert!(described.local_bytes > 0 && described.segments > 0);
}

#[tokio::test]
async fn no_partition_starves_behind_those_that_stand_before_it() {
    let world = World::new(59);
    let broker = world.start().await;
    let handle = broker.handle();
    let request = v1::CreateTopicRequest { name: "wide".to_owned(), partitions: 8, ..Default::default() };
    handle.create_topic(request).await.unwrap();
    for partition in 0..8 {
        produce(&handle, "wide", partition, batch_of([vec![b'v'; 1_000]])).await;
    }
    // room for two of the eight, and nobody reads on: everything is always there
    let mut served = [0; 8];
    for _ in 0..200 {
        let partitions = (0..8).map(|partition| asked("wide", partition, 0)).collect();
        let request = v1::FetchRequest { max_bytes: 2_300, omit_empty: true, ..fetch_request(partitions, 0) };
        let results = handle.fetch(request).await.unwrap().results;
        assert_eq!(
            results.iter().map(|result| result.partition).collect::<Vec<_>>(),
            (0..8).collect::<Vec<_>>()
        );
        let full = results.iter().filter(|result| !result.batches.is_empty());
        full.for_each(|result| served[result.partition as usize] += 1);
    }
    assert!(served.iter().all(|times| *times >= 20), "{served:?}");
}

#[tokio::test]
async fn partitions_without_news_are_left_out_when_asked() {
    let world = World::new(60);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    produce(&handle, "orders", 0, batch_of(["a"])).await;
    let ask = |offsets: [i64; 2]| {
        let partitions = vec![asked("orders", 0, offsets[0]), asked("orders", 1, offsets[1])];
        v1::FetchRequest { omit_empty: true, ..fetch_request(partitions, 0) }
    };
    let numbers =
        |response: v1::FetchResponse| response.results.iter().map(|r| r.partition).collect::<Vec<_>>();
    assert_eq!(numbers(handle.fetch(ask([0, 0])).await.unwrap()), [0]);
    assert_eq!(numbers(handle.fetch(ask([1, 0])).await.unwrap()), [] as [i32; 0]);
    assert_eq!(numbers(handle.fetch(ask([1, 7])).await.unwrap()), [1], "an error is news");
}
