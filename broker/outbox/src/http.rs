//! The JSON form of pushes and sources, for an HTTP server: request in, status and JSON out.
//!
//! | status | meaning |
//! |---|---|
//! | 200 | every event is durable |
//! | 403 | a newer epoch of this shard was opened |
//! | 409 | a sequence is missing; `expected` names it |
//! | 413 | too many events or bytes |
//! | 422 | the same sequence came before with other content |
//! | 429, 503 | nothing was appended: come back after `retry_after_s` |

use serde_json::Value;

use crate::Outbox;

/// A push as it came over HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Push<'a> {
    /// `application/json` (an array of events, or one) or `application/x-ndjson`.
    pub content_type: &'a str,
    /// Header `sunseo-epoch`; without it the current epoch is meant, and a shard that is new is opened.
    pub epoch: Option<i32>,
    /// Header `traceparent`, given to events that have none.
    pub traceparent: Option<&'a str>,
    pub body: &'a [u8],
}

/// What to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    /// For the header `Retry-After`.
    pub retry_after_s: Option<u32>,
}

/// `POST /v1/sources/{source}/shards/{shard}/events`.
pub async fn push(outbox: &Outbox, source: &str, shard: &str, push: Push<'_>) -> Answer {
    let _ = (outbox, source, shard, push);
    Answer { status: 503, body: Value::Null, retry_after_s: Some(1) }
}

/// `POST /v1/sources/{source}/shards/{shard}/open`.
pub async fn open(outbox: &Outbox, source: &str, shard: &str) -> Answer {
    push(outbox, source, shard, Push::default()).await
}

/// `GET /v1/sources/{source}/shards/{shard}/state`.
pub async fn state(outbox: &Outbox, source: &str, shard: &str) -> Answer {
    push(outbox, source, shard, Push::default()).await
}

/// `GET /v1/sources`.
pub async fn list(outbox: &Outbox) -> Answer {
    push(outbox, "", "", Push::default()).await
}

/// `POST /v1/sources` with a definition.
pub async fn add(outbox: &Outbox, body: &[u8]) -> Answer {
    push(outbox, "", "", Push { body, ..Push::default() }).await
}

/// `GET /v1/sources/{source}`.
pub async fn describe(outbox: &Outbox, source: &str) -> Answer {
    push(outbox, source, "", Push::default()).await
}

/// `POST /v1/sources/{source}/pause`.
pub async fn pause(outbox: &Outbox, source: &str) -> Answer {
    describe(outbox, source).await
}

/// `POST /v1/sources/{source}/resume`.
pub async fn resume(outbox: &Outbox, source: &str) -> Answer {
    describe(outbox, source).await
}

/// `DELETE /v1/sources/{source}`.
pub async fn remove(outbox: &Outbox, source: &str) -> Answer {
    describe(outbox, source).await
}

/// `POST /v1/sources/{source}/verify`.
pub async fn verify(outbox: &Outbox, source: &str) -> Answer {
    describe(outbox, source).await
}
