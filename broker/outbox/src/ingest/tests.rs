//! An application pushes, the broker misbehaves, the server is killed: every event once, in sequence.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_client::testing::{Faults, MemoryTransport};
use sunseo_client::{Client, PushConfig};
use sunseo_proto::{ErrorCode, v1};

use crate::testing::{broker, event_ids, faults, header, start, start_with};
use crate::{Outbox, OutboxConfig};

fn event(sequence: i64) -> v1::OutboxEvent {
    v1::OutboxEvent {
        sequence,
        id: format!("e{sequence:04}"),
        aggregate_type: "delivery".to_owned(),
        aggregate_id: format!("d{}", sequence % 7),
        r#type: "PLACED".to_owned(),
        payload: Some(sequence.to_string().into()),
        timestamp_ms: 1,
        headers: Vec::new(),
    }
}

fn events(range: std::ops::RangeInclusive<i64>) -> Vec<v1::OutboxEvent> {
    range.map(event).collect()
}

async fn push(outbox: &Outbox, epoch: i32, events: Vec<v1::OutboxEvent>) -> v1::IngestResponse {
    let (source, shard) = ("app".to_owned(), "s".to_owned());
    outbox.ingest(v1::IngestRequest { source, shard, epoch, events }).await
}

fn code(response: &v1::IngestResponse) -> &str {
    response.error.as_ref().map_or("", |error| error.code.as_str())
}

fn fake() -> MemoryTransport {
    broker(1, Faults::default())
}

async fn opened(fake: &MemoryTransport) -> (Outbox, i32) {
    let outbox = start(fake).await;
    let epoch = outbox.open("app", "s").await.unwrap().epoch;
    (outbox, epoch)
}

async fn accepted(outbox: &Outbox) -> i64 {
    outbox.state("app", "s").await.unwrap().accepted_through
}

/// Every event once, and those of a key in sequence.
fn check(fake: &MemoryTransport, through: i64, context: &str) {
    let expected: Vec<_> = (1..=through).map(|sequence| format!("e{sequence:04}")).collect();
    assert_eq!(event_ids(fake, "delivery"), expected, "{context}");
    for records in fake.records("delivery") {
        for key in 0..7 {
            let key = format!("d{key}");
            let of_key = records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
            let ids: Vec<_> = of_key.map(|record| header(record, "id")).collect();
            assert!(ids.is_sorted(), "{context}: {key}: {ids:?}");
        }
    }
}

#[tokio::test]
async fn the_rules_one_by_one() {
    let fake = fake();
    let (outbox, epoch) = opened(&fake).await;
    let first = push(&outbox, epoch, events(1..=3)).await;
    assert_eq!((first.accepted_through, first.duplicates, code(&first)), (3, 0, ""));
    let repeated = push(&outbox, epoch, events(2..=5)).await;
    assert_eq!((repeated.accepted_through, repeated.duplicates, code(&repeated)), (5, 2, ""));
    let gap = push(&outbox, epoch, events(8..=9)).await;
    assert_eq!((gap.accepted_through, gap.expected, code(&gap)), (5, 6, "SEQUENCE_GAP"));
    assert!(gap.error.unwrap().message.contains("expected is 6"));
    let other = v1::OutboxEvent { payload: Some("other".into()), ..event(4) };
    let conflict = push(&outbox, epoch, vec![other]).await;
    assert_eq!((conflict.accepted_through, code(&conflict)), (5, "SEQUENCE_CONFLICT"));
    let zero = push(&outbox, epoch, events(0..=0)).await;
    assert_eq!(code(&zero), "INVALID_ARGUMENT");
    let empty = push(&outbox, epoch, Vec::new()).await;
    assert_eq!((empty.accepted_through, code(&empty)), (5, ""));
    let traced = v1::Header { key: "traceparent".to_owned(), value: Some("00-2".into()) };
    let again = push(&outbox, epoch, vec![v1::OutboxEvent { headers: vec![traced], ..event(5) }]).await;
    assert_eq!((again.duplicates, code(&again)), (1, ""), "a repeat may carry another trace");
    check(&fake, 5, "rules");
    assert_eq!(header(&fake.all("delivery")[0], "type"), "PLACED");
}

#[tokio::test]
async fn the_longest_valid_prefix_commits() {
    let fake = fake();
    let (outbox, epoch) = opened(&fake).await;
    let mut batch = events(1..=4);
    batch[2].aggregate_id.clear();
    let response = push(&outbox, epoch, batch).await;
    assert_eq!((response.accepted_through, code(&response)), (2, "INVALID_ARGUMENT"));
    let message = response.error.unwrap().message;
    assert!(message.contains("event 3") && message.contains("aggregateid"), "{message}");
    let mut gap = events(3..=5);
    gap.remove(1);
    let response = push(&outbox, epoch, gap).await;
    assert_eq!((response.accepted_through, response.expected, code(&response)), (3, 4, "SEQUENCE_GAP"));
    let bad_topic = v1::OutboxEvent { aggregate_type: "a b".to_owned(), ..event(4) };
    assert_eq!(code(&push(&outbox, epoch, vec![bad_topic]).await), "INVALID_ARGUMENT");
    assert_eq!(
        push(&outbox, epoch, events(4..=4)).await.accepted_through,
        4,
        "what was refused can be mended"
    );
    check(&fake, 4, "prefix");
}

#[tokio::test]
async fn a_newer_epoch_fences_and_epochs_survive_a_restart() {
    let fake = fake();
    let (outbox, old) = opened(&fake).await;
    push(&outbox, old, events(1..=2)).await;
    let state = outbox.open("app", "s").await.unwrap();
    assert_eq!((state.epoch, state.accepted_through), (old + 1, 2));
    let fenced = push(&outbox, old, events(3..=3)).await;
    assert_eq!((fenced.accepted_through, code(&fenced)), (2, "PRODUCER_FENCED"));
    assert_eq!(code(&push(&outbox, state.epoch + 1, events(3..=3)).await), "INVALID_ARGUMENT");
    drop(outbox);
    let outbox = start(&fake).await;
    assert_eq!(outbox.state("app", "s").await.unwrap(), state);
    assert_eq!(code(&push(&outbox, old, events(3..=3)).await), "PRODUCER_FENCED");
    assert_eq!(push(&outbox, state.epoch, events(3..=3)).await.accepted_through, 3);
    check(&fake, 3, "epochs");
}

#[tokio::test]
async fn what_was_accepted_is_known_exactly_after_a_restart() {
    let fake = fake();
    let (outbox, epoch) = opened(&fake).await;
    for sequence in 1..=30 {
        assert_eq!(push(&outbox, epoch, events(sequence..=sequence)).await.accepted_through, sequence);
        if sequence % 10 == 0 {
            break;
        }
    }
    drop(outbox);
    let outbox = start(&fake).await;
    assert_eq!(accepted(&outbox).await, 10);
    assert_eq!(push(&outbox, epoch, events(5..=12)).await.duplicates, 6);
    let other = v1::OutboxEvent { payload: None, ..event(7) };
    assert_eq!(code(&push(&outbox, epoch, vec![other]).await), "SEQUENCE_CONFLICT", "checksums are kept");
    check(&fake, 12, "restart");
}

#[tokio::test]
async fn an_event_without_an_answer_must_come_again_as_it_was() {
    let fake = fake();
    let (outbox, epoch) = opened(&fake).await;
    push(&outbox, epoch, events(1..=7)).await;
    // one partition refuses for good, the others take their part
    let broken = fake.records("delivery").iter().position(|records| !records.is_empty()).unwrap() as i32;
    fake.broker().broken = vec![("delivery".to_owned(), broken, ErrorCode::PartitionFailed)];
    let failed = push(&outbox, epoch, events(8..=21)).await;
    assert_eq!(code(&failed), "PARTITION_FAILED");
    let through = failed.accepted_through;
    assert!((7..21).contains(&through), "{failed:?}");
    drop(outbox);
    fake.broker().broken.clear();
    // the topic grows meanwhile: what is sent again still goes where it was
    fake.make_topic("delivery", 11, 0);
    let outbox = start(&fake).await;
    assert_eq!(accepted(&outbox).await, through);
    let other = v1::OutboxEvent { payload: None, ..event(through + 1) };
    assert_eq!(code(&push(&outbox, epoch, vec![other]).await), "SEQUENCE_CONFLICT");
    let rest = push(&outbox, epoch, events(through + 1..=40)).await;
    assert_eq!((rest.accepted_through, code(&rest)), (40, ""));
    check(&fake, 40, "without an answer");
}

#[tokio::test]
async fn bounds_refuse_and_append_nothing() {
    let fake = fake();
    let config = OutboxConfig {
        ingest_bytes: crate::config::INGEST_BYTES_MAX,
        ingest_deadline: Duration::from_millis(300),
        ..OutboxConfig::default()
    };
    let outbox = start_with(&fake, config).await.unwrap();
    let epoch = outbox.open("app", "s").await.unwrap().epoch;
    push(&outbox, epoch, events(1..=1)).await;
    let many = push(&outbox, epoch, events(2..=10_002)).await;
    assert_eq!((many.accepted_through, code(&many)), (1, "BATCH_TOO_LARGE"));
    assert!(many.error.unwrap().message.contains("10000"));
    fake.make_topic("delivery", 3, 5_000);
    let large = |sequence, bytes| v1::OutboxEvent { payload: Some(vec![0; bytes].into()), ..event(sequence) };
    assert_eq!(code(&push(&outbox, epoch, vec![large(2, 17 << 20)]).await), "BATCH_TOO_LARGE");
    // the broker takes nothing for now
    fake.broker().broken = (0..3).map(|p| ("delivery".to_owned(), p, ErrorCode::DiskFull)).collect();
    let (first, second) = tokio::join!(
        push(&outbox, epoch, vec![large(2, 9 << 20)]),
        push(&outbox, epoch, vec![large(2, 9 << 20)])
    );
    let codes = [code(&first), code(&second)];
    assert_eq!(codes.iter().filter(|&&code| code == "OVERLOADED").count(), 1, "{codes:?}");
    fake.broker().broken.clear();
    assert_eq!(accepted(&outbox).await, 1);
}

#[tokio::test]
async fn a_push_gives_up_in_time_and_its_repeat_is_taken() {
    let fake = fake();
    let config = OutboxConfig { ingest_deadline: Duration::from_millis(200), ..OutboxConfig::default() };
    let outbox = start_with(&fake, config).await.unwrap();
    let epoch = outbox.open("app", "s").await.unwrap().epoch;
    push(&outbox, epoch, events(1..=1)).await;
    fake.broker().broken = (0..3).map(|p| ("delivery".to_owned(), p, ErrorCode::DiskFull)).collect();
    let refused = push(&outbox, epoch, events(2..=2)).await;
    assert_eq!((refused.accepted_through, code(&refused)), (1, "DISK_FULL"));
    assert!(refused.error.unwrap().retryable);
    fake.broker().broken.clear();
    assert_eq!(push(&outbox, epoch, events(2..=2)).await.accepted_through, 2);
    check(&fake, 2, "deadline");
}

#[tokio::test]
async fn pushes_ahead_of_their_answers_share_rounds() {
    let fake = fake();
    let (outbox, epoch) = opened(&fake).await;
    let mut answers = Vec::new();
    for n in 0..50 {
        let (source, shard) = ("app".to_owned(), "s".to_owned());
        let events = events(n * 4 + 1..=n * 4 + 4);
        answers.push(outbox.submit(v1::IngestRequest { source, shard, epoch, events }).await);
    }
    let answers = futures::future::join_all(answers).await;
    assert!(answers.iter().all(|answer| answer.error.is_none()));
    assert!(answers.is_sorted_by_key(|answer| answer.accepted_through));
    assert_eq!(accepted(&outbox).await, 200);
    check(&fake, 200, "pipelined");
    let produced = fake.broker().produced;
    assert!(produced < 60, "{produced} requests for 50 pushes");
}

#[tokio::test]
async fn shards_do_not_wait_for_each_other() {
    let fake = fake();
    let (outbox, epoch) = opened(&fake).await;
    fake.make_topic("stuck", 1, 0);
    fake.broker().broken = vec![("stuck".to_owned(), 0, ErrorCode::DiskFull)];
    let stuck = v1::OutboxEvent { aggregate_type: "stuck".to_owned(), ..event(1) };
    let other = outbox.open("app", "other").await.unwrap().epoch;
    let (source, shard) = ("app".to_owned(), "other".to_owned());
    let waits = outbox.submit(v1::IngestRequest { source, shard, epoch: other, events: vec![stuck] }).await;
    let waits = tokio::spawn(waits);
    assert_eq!(push(&outbox, epoch, events(1..=5)).await.accepted_through, 5);
    assert!(!waits.is_finished());
    fake.broker().broken.clear();
    assert_eq!(waits.await.unwrap().accepted_through, 1);
}

/// Pushes ahead, and after an error goes on where the server stands.
async fn pusher(fake: &MemoryTransport, seed: u64, through: i64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let config = OutboxConfig { ingest_deadline: Duration::from_millis(150), ..OutboxConfig::default() };
    let restart = || async {
        loop {
            if let Ok(outbox) = start_with(fake, config.clone()).await {
                return outbox;
            }
        }
    };
    let mut outbox = restart().await;
    let mut epoch = loop {
        if let Ok(state) = outbox.open("app", "s").await {
            break state.epoch;
        }
    };
    let mut known = 0;
    while known < through {
        let mut answers = Vec::new();
        let mut next = accepted(&outbox).await + 1;
        assert!(next > known, "seed {seed}: {known} was accepted, now {next} is expected");
        for _ in 0..rng.random_range(1..6) {
            let last = (next + rng.random_range(0..8)).min(through);
            let (source, shard) = ("app".to_owned(), "s".to_owned());
            let request = v1::IngestRequest { source, shard, epoch, events: events(next..=last) };
            answers.push(outbox.submit(request).await);
            next = last + 1;
        }
        let answers = futures::future::join_all(answers);
        match rng.random_range(0..5) {
            0 => {
                let patience = Duration::from_millis(rng.random_range(0..20));
                let heard = tokio::time::timeout(patience, answers).await.unwrap_or_default();
                known = heard.iter().map(|answer| answer.accepted_through).max().unwrap_or(0).max(known);
                drop(outbox);
                outbox = restart().await;
            }
            1 => {
                drop(answers);
                if let Ok(state) = outbox.open("app", "s").await {
                    epoch = state.epoch;
                    known = known.max(state.accepted_through);
                }
            }
            _ => {
                for answer in answers.await {
                    let code = code(&answer).to_owned();
                    assert!(
                        ["", "SEQUENCE_GAP", "UNAVAILABLE", "TIMED_OUT", "DISK_FULL", "PRODUCER_FENCED"]
                            .contains(&code.as_str()),
                        "seed {seed}: {answer:?}"
                    );
                    known = known.max(answer.accepted_through);
                    if code == "PRODUCER_FENCED" {
                        // an open whose answer was lost
                        epoch = loop {
                            if let Ok(state) = outbox.open("app", "s").await {
                                break state.epoch;
                            }
                        };
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_pushes_and_restarts_leave_every_event_once() {
    for seed in 0..10 {
        let fake = broker(seed, faults());
        pusher(&fake, seed, 120).await;
        fake.calm();
        check(&fake, 120, &format!("seed {seed}"));
        let outbox = start(&fake).await;
        assert_eq!(accepted(&outbox).await, 120, "seed {seed}");
    }
}

/// A server with only this service, on a runtime of its own, which ends with all its connections when it is dropped.
struct Server(Option<tokio::runtime::Runtime>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
    }
}

async fn serve(fake: &MemoryTransport, port: u16) -> (u16, Server) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (fake, (bound, port_of)) = (fake.clone(), tokio::sync::oneshot::channel());
    runtime.spawn(async move {
        let outbox = loop {
            if let Ok(outbox) = start_with(&fake, OutboxConfig::default()).await {
                break outbox;
            }
        };
        let listener = loop {
            match tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        bound.send(listener.local_addr().unwrap().port()).unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let service = crate::grpc::outbox_server(outbox);
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
    });
    (port_of.await.unwrap(), Server(Some(runtime)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_pushes_over_grpc_through_kills_of_the_server() {
    let fake = broker(5, Faults { lose_answer: 5, lose_request: 5, ..Faults::default() });
    let (port, mut server) = serve(&fake, 0).await;
    let client = Client::connect(format!("127.0.0.1:{port}")).await.unwrap();
    let mut pusher = loop {
        let config = PushConfig { window: 8, ..PushConfig::default() };
        if let Ok(pusher) = client.outbox().unwrap().open_with("app", "s", config).await {
            break pusher;
        }
    };
    for n in 0..60_i64 {
        pusher.push(events(n * 3 + 1..=n * 3 + 3)).await.unwrap();
        if n % 20 == 10 {
            drop(server);
            (_, server) = serve(&fake, port).await;
        }
    }
    assert_eq!(pusher.flush().await.unwrap(), 180);
    fake.calm();
    check(&fake, 180, "over gRPC");
    let sources = client.outbox().unwrap().sources().await.unwrap();
    assert_eq!(sources[0].shards[0].position, 180);
    assert_eq!(
        client.outbox().unwrap().verify_source("nobody").await.unwrap_err().code,
        ErrorCode::UnknownSource
    );
    drop(server);
}
