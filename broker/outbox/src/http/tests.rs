//! Each refusal has its status, and says how to go on.

use serde_json::{Value, json};
use sunseo_client::testing::{Faults, MemoryTransport};
use sunseo_proto::ErrorCode;

use super::{Answer, Push};
use crate::testing::{App, broker, event_ids, header, start};
use crate::{Outbox, http};

fn fake() -> MemoryTransport {
    broker(1, Faults::default())
}

fn event(sequence: i64) -> Value {
    json!({ "sequence": sequence, "id": format!("e{sequence}"), "aggregate_type": "delivery", "aggregate_id": "d", "type": "PLACED", "payload": { "n": sequence } })
}

async fn push(outbox: &Outbox, epoch: Option<i32>, events: Value) -> Answer {
    let body = events.to_string();
    let push =
        Push { content_type: "application/json", epoch, traceparent: Some("00-1"), body: body.as_bytes() };
    http::push(outbox, "app", "s", push).await
}

#[tokio::test]
async fn a_push_needs_no_ceremony() {
    let fake = fake();
    let outbox = start(&fake).await;
    let answer = push(&outbox, None, json!([event(1), event(2)])).await;
    assert_eq!((answer.status, &answer.body["accepted_through"]), (200, &json!(2)));
    let record = &fake.all("delivery")[0];
    assert_eq!(
        (header(record, "traceparent"), record.value.as_deref()),
        ("00-1".to_owned(), Some(&br#"{"n":1}"#[..]))
    );
    let lines = format!("{}\n{}\n", event(2), event(3));
    let push = Push { content_type: "application/x-ndjson", body: lines.as_bytes(), ..Push::default() };
    let answer = http::push(&outbox, "app", "s", push).await;
    assert_eq!(
        (answer.status, &answer.body["accepted_through"], &answer.body["duplicates"]),
        (200, &json!(3), &json!(1))
    );
    let state = http::state(&outbox, "app", "s").await;
    assert_eq!((state.status, &state.body["accepted_through"]), (200, &json!(3)));
}

#[tokio::test]
async fn each_refusal_has_its_status() {
    let fake = fake();
    let outbox = start(&fake).await;
    assert_eq!(http::state(&outbox, "app", "s").await.status, 404);
    assert_eq!(push(&outbox, Some(0), json!([event(1)])).await.status, 404);
    let old = http::open(&outbox, "app", "s").await.body["epoch"].as_i64().unwrap() as i32;
    let new = http::open(&outbox, "app", "s").await.body["epoch"].as_i64().unwrap() as i32;
    assert_eq!(push(&outbox, Some(new), json!([event(1)])).await.status, 200);
    let fenced = push(&outbox, Some(old), json!([event(2)])).await;
    assert_eq!((fenced.status, &fenced.body["error"]["code"]), (403, &json!("PRODUCER_FENCED")));
    let gap = push(&outbox, Some(new), json!([event(4)])).await;
    assert_eq!(
        (gap.status, &gap.body["expected"], &gap.body["accepted_through"]),
        (409, &json!(2), &json!(1))
    );
    let mut other = event(1);
    other["payload"] = json!("other");
    assert_eq!(push(&outbox, Some(new), json!([other])).await.status, 422);
    assert_eq!(push(&outbox, Some(new), json!([1])).await.status, 400);
    let many: Vec<_> = (0..10_001).map(event).collect();
    assert_eq!(push(&outbox, Some(new), json!(many)).await.status, 413);
    assert_eq!(http::open(&outbox, "a/b", "s").await.status, 400);
    outbox.shutdown().await;
    let stopped = push(&outbox, Some(new), json!([event(2)])).await;
    assert_eq!((stopped.status, stopped.retry_after_s), (503, Some(1)));
    assert_eq!(event_ids(&fake, "delivery"), ["e1"]);
}

#[test]
fn what_may_come_again_says_so() {
    for &code in ErrorCode::ALL {
        let status = http::status_of(code);
        assert!((400..=599).contains(&status));
        if code.retryable() {
            assert!(matches!(status, 429 | 503), "{code}: {status}");
        }
    }
}

#[tokio::test]
async fn sources_over_http() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    app.insert("outbox_0", "a", "k");
    let body = json!({ "name": "orders", "kind": "sqlite", "url": app.path(), "tables": ["outbox_*"], "partitions": 2 });
    let added = http::add(&outbox, body.to_string().as_bytes()).await;
    assert_eq!((added.status, &added.body["definition"]["partitions"]), (200, &json!(2)), "{added:?}");
    assert_eq!(http::add(&outbox, body.to_string().as_bytes()).await.status, 409);
    assert_eq!(http::add(&outbox, b"{}").await.status, 400);
    while http::describe(&outbox, "orders").await.body["shards"][0]["position"] != 1 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!(http::pause(&outbox, "orders").await.body["state"], "paused");
    assert_eq!(http::resume(&outbox, "orders").await.body["state"], "running");
    let shard = http::describe(&outbox, "orders").await.body["shards"][0].clone();
    assert_eq!(
        (&shard["shard"], &shard["position"], &shard["error"]),
        (&json!("outbox_0"), &json!(1), &Value::Null)
    );
    let found = http::verify(&outbox, "orders").await.body;
    assert_eq!((&found["rows"], &found["published"], &found["missing"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(http::list(&outbox).await.body.as_array().unwrap().len(), 1);
    assert_eq!(http::remove(&outbox, "orders").await.status, 200);
    assert_eq!(http::describe(&outbox, "orders").await.status, 404);
    assert_eq!(push(&outbox, None, json!([event(1)])).await.status, 200);
    assert_eq!(http::list(&outbox).await.body[0]["definition"]["kind"], "ingest");
}
