//! The JSON form of pushes and sources, for an HTTP server: request in, status and JSON out.
//!
//! | status | meaning |
//! |---|---|
//! | 200 | every event is durable |
//! | 400 | the request does not read; nothing after `accepted_through` was appended |
//! | 403 | a newer epoch of this shard was opened |
//! | 404 | no such source or shard |
//! | 409 | a sequence is missing; `expected` names it |
//! | 413 | too many events or bytes |
//! | 422 | the same sequence came before with other content |
//! | 429, 503 | nothing after `accepted_through` was appended: come back after `retry_after_s` |
//!
//! Every answer to a push that reads tells `accepted_through`, also a refusal: the longest valid prefix is durable.

mod events;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};

use crate::Outbox;
use crate::config::INGEST_BYTES_MAX;
use crate::definition;

/// Seconds after which a refused push may come again.
const RETRY_AFTER_S: u32 = 1;

/// Bytes of a body; JSON is longer than what it says.
pub const BODY_BYTES_MAX: usize = 2 * INGEST_BYTES_MAX;

/// A push as it came over HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Push<'a> {
    /// `application/json` (an array of events, or one event) or `application/x-ndjson`; with `cloudevents` in it the same.
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

/// The status of an error.
#[must_use]
pub fn status_of(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::InvalidArgument | ErrorCode::CorruptBatch => 400,
        ErrorCode::ProducerFenced | ErrorCode::Unauthorized => 403,
        ErrorCode::UnknownSource | ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => 404,
        ErrorCode::SequenceGap | ErrorCode::AlreadyExists | ErrorCode::SourceDiverged => 409,
        ErrorCode::BatchTooLarge => 413,
        ErrorCode::SequenceConflict | ErrorCode::SourceUnreadable => 422,
        ErrorCode::Overloaded => 429,
        ErrorCode::Unsupported => 501,
        _ if code.retryable() => 503,
        ErrorCode::PartitionFailed => 503,
        _ => 500,
    }
}

fn error_json(error: &Error) -> Value {
    json!({
        "code": error.code.as_str(),
        "message": error.message,
        "retryable": error.retryable(),
        "field": error.field.as_deref().unwrap_or_default(),
    })
}

fn wire_error(error: &Option<v1::Error>) -> Value {
    error.clone().map_or(Value::Null, |error| error_json(&error.into()))
}

fn answer(result: Result<Value>) -> Answer {
    match result {
        Ok(body) => Answer { status: 200, body, retry_after_s: None },
        Err(error) => refusal(&error, json!({ "error": error_json(&error) })),
    }
}

fn refusal(error: &Error, body: Value) -> Answer {
    let status = status_of(error.code);
    let retry_after_s = matches!(status, 429 | 503).then_some(RETRY_AFTER_S);
    Answer { status, body, retry_after_s }
}

/// `POST /v1/sources/{source}/shards/{shard}/events`.
pub async fn push(outbox: &Outbox, source: &str, shard: &str, push: Push<'_>) -> Answer {
    let parsed = match parse(&push) {
        Ok(parsed) => parsed,
        Err(error) => return answer(Err(error)),
    };
    if push.epoch.is_none() {
        // a pusher that does not care for epochs need not open its shard
        match outbox.state(source, shard).await {
            Err(error) if error.code == ErrorCode::UnknownSource => {
                if let Err(error) = outbox.open(source, shard).await {
                    return answer(Err(error));
                }
            }
            Err(error) => return answer(Err(error)),
            Ok(_) => {}
        }
    }
    let response = outbox.submit_as((source, shard), push.epoch, parsed).await.await;
    let body = json!({
        "accepted_through": response.accepted_through,
        "duplicates": response.duplicates,
        "expected": (response.expected > 0).then_some(response.expected),
        "error": wire_error(&response.error),
    });
    match response.error.map(Error::from) {
        None => Answer { status: 200, body, retry_after_s: None },
        Some(error) => refusal(&error, body),
    }
}

pub(crate) fn parse(push: &Push<'_>) -> Result<Vec<v1::OutboxEvent>> {
    if push.body.len() > BODY_BYTES_MAX {
        let message = format!(
            "the body has {} bytes, the limit is {BODY_BYTES_MAX}: send less at a time",
            push.body.len()
        );
        return Err(Error::new(ErrorCode::BatchTooLarge, message));
    }
    let ndjson = push.content_type.contains("ndjson");
    let mut parsed = if ndjson { events::ndjson(push.body) } else { events::json(push.body) }?;
    if let Some(traceparent) = push.traceparent {
        for event in &mut parsed {
            if !event.headers.iter().any(|header| header.key == "traceparent") {
                let value = Some(traceparent.to_owned().into());
                event.headers.push(v1::Header { key: "traceparent".to_owned(), value });
            }
        }
    }
    Ok(parsed)
}

fn state_json(state: v1::IngestStateResponse) -> Value {
    json!({ "epoch": state.epoch, "accepted_through": state.accepted_through })
}

/// `POST /v1/sources/{source}/shards/{shard}/open`.
pub async fn open(outbox: &Outbox, source: &str, shard: &str) -> Answer {
    answer(outbox.open(source, shard).await.map(state_json))
}

/// `GET /v1/sources/{source}/shards/{shard}/state`.
pub async fn state(outbox: &Outbox, source: &str, shard: &str) -> Answer {
    answer(outbox.state(source, shard).await.map(state_json))
}

/// `GET /v1/sources`.
pub async fn list(outbox: &Outbox) -> Answer {
    let sources: Vec<_> = outbox.list().await.iter().map(source_json).collect();
    answer(Ok(json!(sources)))
}

/// `POST /v1/sources` with a definition.
pub async fn add(outbox: &Outbox, body: &[u8]) -> Answer {
    match definition::from_json(body) {
        Ok(definition) => source(outbox.add(definition).await),
        Err(error) => answer(Err(error)),
    }
}

/// `GET /v1/sources/{source}`.
pub async fn describe(outbox: &Outbox, name: &str) -> Answer {
    source(outbox.describe(name).await)
}

/// `POST /v1/sources/{source}/pause`.
pub async fn pause(outbox: &Outbox, name: &str) -> Answer {
    source(outbox.pause(name).await)
}

/// `POST /v1/sources/{source}/resume`.
pub async fn resume(outbox: &Outbox, name: &str) -> Answer {
    source(outbox.resume(name).await)
}

/// `DELETE /v1/sources/{source}`.
pub async fn remove(outbox: &Outbox, name: &str) -> Answer {
    source(outbox.remove(name).await)
}

/// `POST /v1/sources/{source}/verify`.
pub async fn verify(outbox: &Outbox, name: &str) -> Answer {
    answer(outbox.verify(name).await.map(|found| {
        let problems: Vec<_> = found.problems.into_iter().map(|error| error_json(&error.into())).collect();
        json!({
            "rows": found.rows,
            "published": found.published,
            "missing": found.missing,
            "duplicated": found.duplicated,
            "out_of_order": found.out_of_order,
            "problems": problems,
        })
    }))
}

fn source(result: Result<v1::SourceStatus>) -> Answer {
    answer(result.map(|source| source_json(&source)))
}

/// A source as JSON; also for whoever prints one.
#[must_use]
pub fn source_json(source: &v1::SourceStatus) -> Value {
    let shards = source.shards.iter().map(|shard| {
        json!({
            "shard": shard.shard,
            "state": shard.state,
            "position": shard.position,
            "rows_published": shard.rows_published,
            "rows_quarantined": shard.rows_quarantined,
            "duplicates_dropped": shard.duplicates_dropped,
            "last_row_timestamp_ms": shard.last_row_timestamp_ms,
            "error": wire_error(&shard.error),
        })
    });
    json!({
        "definition": source.definition.as_ref().map(definition::to_json),
        "state": source.state,
        "error": wire_error(&source.error),
        "shards": shards.collect::<Vec<_>>(),
    })
}
