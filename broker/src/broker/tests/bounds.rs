//! What one client may do to the others: memory, quotas, connections.

use std::time::{Duration, Instant};

use futures::stream;
use sunseo_proto::batch::{BatchBuilder, Compression};
use sunseo_proto::error::ErrorCode;
use sunseo_proto::v1::broker_client::BrokerClient;
use sunseo_proto::{Record, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::metadata::MetadataValue;

use super::support::*;
use super::wire::Wire;
use crate::{BrokerHandle, CLIENT_ID_HEADER};

async fn set_quota(handle: &BrokerHandle, quota: v1::Quota) {
    handle.set_quota(v1::SetQuotaRequest { quota: Some(quota) }).await.unwrap();
}

fn from_client<T>(client: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(CLIENT_ID_HEADER, MetadataValue::from_static(client));
    request
}

fn of_bytes(bytes: usize) -> v1::ProduceRequest {
    v1::ProduceRequest {
        partitions: vec![part("orders", 0, batch_of([vec![7; bytes]]))],
        ..Default::default()
    }
}

/// Sends requests one after the other on one stream; how long each answer says to wait, and how long all took.
async fn throttles(
    wire: &Wire,
    client: &'static str,
    requests: Vec<v1::ProduceRequest>,
) -> (Vec<u32>, Duration) {
    let begun = Instant::now();
    let answers = wire.broker().produce(from_client(client, stream::iter(requests))).await.unwrap();
    let mut answers = answers.into_inner();
    let mut waits = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!((&answer.error, &answer.results[0].error), (&None, &None));
        waits.push(answer.throttle_ms);
    }
    (waits, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_its_quota_a_client_is_told_and_its_stream_is_held() {
    let world = World::new(91);
    let wire = Wire::start(&world).await;
    create(&wire.handle, "orders", &[]).await;
    let rate = |produce_bytes_per_second| v1::Quota {
        client: "greedy".into(),
        produce_bytes_per_second: Some(produce_bytes_per_second),
        ..Default::default()
    };
    set_quota(&wire.handle, rate(100_000)).await;
    let requests = || vec![of_bytes(60_000), of_bytes(60_000), of_bytes(1_000)];
    let (waits, took) = throttles(&wire, "greedy", requests()).await;
    assert_eq!(waits[0], 0, "one second's worth is free: {waits:?}");
    assert!((100..300).contains(&waits[1]), "20 kB over, at 100 kB/s: {waits:?}");
    assert!(took >= Duration::from_millis(waits[1].into()), "the third was read only then: {took:?}");
    let (waits, _) = throttles(&wire, "modest", requests()).await;
    assert_eq!(waits, [0, 0, 0], "others have no bound");
    // altered while it runs
    set_quota(&wire.handle, rate(100_000_000)).await;
    let (waits, _) = throttles(&wire, "greedy", requests()).await;
    // a debt of seconds became one of milliseconds
    assert!(waits.iter().all(|wait| *wait < 20), "{waits:?}");
    wire.handle.delete_quota(v1::DeleteQuotaRequest { client: "greedy".into() }).await.unwrap();
    assert_eq!(wire.handle.list_quotas(v1::ListQuotasRequest {}).await.unwrap().quotas, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetched_bytes_and_requests_have_quotas_too_and_they_survive_a_restart() {
    let world = World::new(92);
    {
        let broker = world.start().await;
        let handle = broker.handle();
        create(&handle, "orders", &[]).await;
        produce(&handle, "orders", 0, batch_of([vec![7; 150_000]])).await;
        let default = v1::Quota { fetch_bytes_per_second: Some(100_000), ..Default::default() };
        set_quota(&handle, default).await;
        let slow = v1::Quota { client: "slow".into(), requests_per_second: Some(5), ..Default::default() };
        set_quota(&handle, slow).await;
        broker.shutdown().await.unwrap();
    }
    let wire = Wire::start(&world).await;
    let fetch = || v1::FetchRequest { max_bytes: 1 << 20, ..fetch_request(vec![asked("orders", 0, 0)], 0) };
    let answers =
        wire.broker().fetch(from_client("anybody", stream::iter([fetch(), fetch()]))).await.unwrap();
    let mut answers = answers.into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert!((400..=600).contains(&first.throttle_ms), "50 kB over: {}", first.throttle_ms);
    assert!(!first.results[0].batches.is_empty(), "nothing is refused");
    let begun = Instant::now();
    for _ in 0..8 {
        let request = from_client("slow", v1::MetadataRequest::default());
        wire.broker().metadata(request).await.unwrap();
    }
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}: calls are answered later", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_or_a_client_that_cannot_be_is_refused() {
    let world = World::new(93);
    let wire = Wire::start(&world).await;
    let set = async |client: &str, rate| {
        let quota = v1::Quota { client: client.to_owned(), requests_per_second: rate, ..Default::default() };
        wire.handle.set_quota(v1::SetQuotaRequest { quota: Some(quota) }).await.map_err(|error| error.code)
    };
    let invalid = Err(ErrorCode::InvalidArgument);
    assert_eq!(set("a", Some(0)).await.map(drop), invalid);
    assert_eq!(set("a", None).await.map(drop), invalid);
    assert_eq!(set("a b", Some(1)).await.map(drop), invalid);
    assert_eq!(set("__default", Some(1)).await.map(drop), invalid);
    let unknown = wire.handle.delete_quota(v1::DeleteQuotaRequest { client: "a".into() }).await;
    assert_eq!(unknown.map_err(|error| error.code), Err(ErrorCode::InvalidArgument));
    let put = v1::PutDefinitionRequest { kind: "quota".into(), name: "a".into(), ..Default::default() };
    let by_hand = wire.handle.put_definition(put).await;
    assert_eq!(by_hand.map(|_| ()).map_err(|error| error.code), invalid, "only by its own request");
    let status =
        wire.broker().metadata(from_client("a b", v1::MetadataRequest::default())).await.unwrap_err();
    assert_eq!(sunseo_proto::Error::from(status).code, ErrorCode::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_memory_wait_and_all_of_it_comes_back() {
    let mut world = World::new(94);
    let limits = &mut world.config.limits;
    limits.memory_bytes_max = 2 * limits.message_bytes_max;
    let limit = limits.memory_bytes_max;
    let wire = Wire::start(&world).await;
    create(&wire.handle, "orders", &[("max_batch_bytes", "16777216")]).await;
    // somebody holds nearly everything
    let held = wire.handle.budget().reserve(limit - (1 << 20)).await;
    let sending = tokio::spawn({
        let mut broker = wire.broker();
        async move {
            let requests = stream::iter((0..3).map(|_| of_bytes(4 << 20)));
            let mut answers = broker.produce(requests).await.unwrap().into_inner();
            let mut count = 0;
            while let Some(answer) = answers.message().await.unwrap() {
                assert_eq!(answer.results[0].error, None);
                count += 1;
            }
            count
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(offset_at(&wire.handle, "orders", 0, -1).await, 0, "not read before it has room");
    drop(held);
    assert_eq!(sending.await.unwrap(), 3);
    eventually("everything is given back", || wire.handle.budget().free_bytes() == limit).await;
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}

#[tokio::test]
async fn what_a_part_of_the_server_reads_counts_as_long_as_it_holds_it() {
    let world = World::new(95);
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    produce(&handle, "orders", 0, batch_of([vec![7; 100_000]])).await;
    let limit = handle.budget().free_bytes();
    let answer = handle.fetch(fetch_request(vec![asked("orders", 0, 0)], 0)).await.unwrap();
    let bytes = answer.results[0].batches.len();
    assert!(bytes > 100_000);
    let part = answer.results[0].batches.slice(..10);
    drop(answer);
    assert_eq!(handle.budget().free_bytes(), limit - bytes, "a part of it holds all of it");
    drop(part);
    assert_eq!(handle.budget().free_bytes(), limit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_its_answers_lying_is_cut_off_and_costs_nothing_more() {
    let mut world = World::new(96);
    world.config.limits.answer_wait_ms_max = 400;
    let wire = Wire::start(&world).await;
    create(&wire.handle, "orders", &[("max_batch_bytes", "16777216")]).await;
    for _ in 0..4 {
        produce(&wire.handle, "orders", 0, batch_of([vec![7; 8 << 20]])).await;
    }
    let limit = wire.handle.budget().free_bytes();
    let (requests, stream) = mpsc::channel(4);
    let fetch = v1::FetchRequest {
        max_bytes: 32 << 20,
        ..fetch_request(vec![v1::FetchPartition { max_bytes: 32 << 20, ..asked("orders", 0, 0) }], 0)
    };
    requests.send(fetch).await.unwrap();
    let mut answers = wire.broker().fetch(ReceiverStream::new(stream)).await.unwrap().into_inner();
    let counted = || limit - wire.handle.budget().free_bytes();
    eventually("the answer is counted", || counted() > 0).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(counted() > 20 << 20, "as long as most of it has not left: {}", counted());
    // nobody reads it; the client's window is far smaller than the answer
    eventually("its memory comes back", || wire.handle.budget().free_bytes() == limit).await;
    let end = answers.message().await.map(|answer| answer.map(|answer| answer.results.len()));
    assert!(end.is_err(), "the connection is gone: {end:?}");
    // another client on a connection of its own is not concerned
    let fetched = wire.handle.fetch(fetch_request(vec![asked("orders", 0, 0)], 0)).await.unwrap();
    assert_eq!(fetched.results[0].error, None);
    drop(requests);
}

fn tiny(records: usize) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    let record = Record { timestamp_ms: NOW_MS, ..Record::default() };
    (0..records).for_each(|_| builder.push(&record));
    builder.build()
}

#[tokio::test]
async fn a_batch_of_too_many_records_is_refused_in_both_forms() {
    let mut world = World::new(97);
    world.config.limits.batch_records_max = 1_000;
    let broker = world.start().await;
    let handle = broker.handle();
    create(&handle, "orders", &[]).await;
    assert_eq!(produce(&handle, "orders", 0, tiny(1_000)).await.error, None);
    assert_eq!(code(&produce(&handle, "orders", 0, tiny(1_001)).await.error), Some(ErrorCode::BatchTooLarge));
    let list = v1::RecordList { records: vec![v1::Record::default(); 1_001] };
    let plain = v1::ProducePartition { topic: "orders".into(), records: Some(list), ..Default::default() };
    let request = v1::ProduceRequest { partitions: vec![plain], ..Default::default() };
    let result = handle.produce(request).await.unwrap().results.remove(0);
    assert_eq!(code(&result.error), Some(ErrorCode::BatchTooLarge));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_records_are_handed_out_in_parts_that_fit_into_memory() {
    let world = World::new(98);
    let wire = Wire::start(&world).await;
    create(&wire.handle, "orders", &[]).await;
    let records = 800_000;
    assert_eq!(produce(&wire.handle, "orders", 0, tiny(records)).await.error, None);
    let mut broker: BrokerClient<_> = wire.broker();
    let (mut at, mut answers) = (0, 0);
    while at < records as i64 {
        let request = v1::FetchRequest { as_records: true, ..fetch_request(vec![asked("orders", 0, at)], 0) };
        let answer = broker.fetch(stream::iter([request])).await.unwrap().into_inner().message().await;
        let result = answer.unwrap().unwrap().results.remove(0);
        assert_eq!(result.error, None);
        assert_eq!(result.records.first().map(|record| record.offset), Some(at));
        at = result.records.last().expect("at least one").offset + 1;
        answers += 1;
    }
    assert!(answers > 1, "as values they take more than one message may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_more_plain_records_than_may_be_is_cut_off_before_it_is_decoded() {
    let mut world = World::new(99);
    world.config.limits.batch_records_max = 1_000;
    let wire = Wire::start(&world).await;
    create(&wire.handle, "orders", &[]).await;
    let request = |records: usize| {
        let list = v1::RecordList { records: vec![v1::Record::default(); records] };
        let part = v1::ProducePartition { topic: "orders".into(), records: Some(list), ..Default::default() };
        // each of its partitions has few enough
        v1::ProduceRequest { partitions: vec![part; 2], ..Default::default() }
    };
    let (requests, stream) = mpsc::channel(1);
    requests.send(request(500)).await.unwrap();
    let mut answers = wire.broker().produce(ReceiverStream::new(stream)).await.unwrap().into_inner();
    let good = answers.message().await.unwrap().unwrap();
    assert!(good.results.iter().all(|result| result.error.is_none()), "{good:?}");
    requests.send(request(501)).await.unwrap();
    let error = sunseo_proto::Error::from(answers.message().await.unwrap_err());
    assert_eq!(error.code, ErrorCode::BatchTooLarge, "{error}");
}
