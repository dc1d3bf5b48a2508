//! Records in and out over HTTP, in the form of the command line's ndjson.
//!
//! POST appends a list, one object, or lines of objects; each record goes to the partition it names, else to that of its key; those without
//! a key go to one partition together, and the requests take turns. A repeat is appended again: who needs more uses gRPC. GET reads one partition from an offset.
//!
//! Both hold memory of the node's budget while they are worked on, and count against the quota of the client that the
//! `sunseo-client-id` header names: over it, the answer comes later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use sunseo_broker::{CLIENT_ID_HEADER, Use};
use sunseo_client::admin::OffsetQuery;
use sunseo_proto::partitioner::partition_of;
use sunseo_proto::{Error, ErrorCode, Header, Record, v1};

use super::{Gateway, Parts, Refused, Shared};
use crate::json;

/// Records of one request, and of one answer.
const RECORDS_MAX: usize = 10_000;

/// Records of an answer to a request that names no number.
const RECORDS_DEFAULT: usize = 100;

/// Longest wait for records that are not there yet.
const WAIT_MS_MAX: u32 = 30_000;

/// Memory of JSON while it is worked on, as a multiple of its text.
const EXPANSION: usize = 16;

pub fn routes() -> Router<Arc<Gateway>> {
    Router::new().route("/v1/topics/{topic}/records", post(produce).get(consume))
}

async fn produce(
    State(gateway): Shared,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let parts = gateway.parts()?;
    let expected = expected_bytes(&headers, parts.body_bytes_max)?;
    let _reserved = parts.broker.budget().reserve(expected * EXPANSION).await;
    let body = axum::body::to_bytes(body, expected).await.map_err(|_| too_large(parts.body_bytes_max))?;
    throttle(parts, &headers, Use::Produce, body.len()).await?;
    let partitions = parts.client.partitions(&topic).await?;
    let records = parse(&body, is_lines(&headers))?;
    let without_key = next_partition(partitions);
    let mut by_partition: BTreeMap<i32, Vec<(usize, v1::Record)>> = BTreeMap::new();
    for (at, (partition, record)) in records.into_iter().enumerate() {
        let partition = match (partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of(key, partitions),
            (None, None) => without_key,
        };
        by_partition.entry(partition).or_default().push((at, wire(record)));
    }
    let places: Vec<(i32, Vec<usize>)> = by_partition
        .iter()
        .map(|(partition, records)| (*partition, records.iter().map(|(at, _)| *at).collect()))
        .collect();
    let part = |(partition, records): (i32, Vec<(usize, v1::Record)>)| v1::ProducePartition {
        topic: topic.clone(),
        partition,
        records: Some(v1::RecordList { records: records.into_iter().map(|(_, record)| record).collect() }),
        ..Default::default()
    };
    let request =
        v1::ProduceRequest { partitions: by_partition.into_iter().map(part).collect(), ..Default::default() };
    let answer = parts.client.transport().produce(request).await?;
    Ok(produced(&places, answer.results))
}

/// Where each record is. The status is 200 when all are in; else that of the first refusal, and each record says its own.
fn produced(places: &[(i32, Vec<usize>)], results: Vec<v1::ProduceResult>) -> Response {
    let count = places.iter().map(|(_, records)| records.len()).sum();
    let mut records = vec![Value::Null; count];
    let mut first: Option<Error> = None;
    for ((partition, at), result) in places.iter().zip(results) {
        let error = result.error.map(Error::from);
        for (offset, at) in (result.base_offset..).zip(at) {
            records[*at] = match &error {
                None => json!({"partition": partition, "offset": offset}),
                Some(error) => json!({"partition": partition, "error": json::refusal(error)}),
            };
        }
        first = first.or(error);
    }
    let Some(error) = first else { return Json(json!({"records": records})).into_response() };
    let status =
        StatusCode::from_u16(json::http_status(error.code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut body = json::refusal(&error);
    body["records"] = records.into();
    (status, Json(body)).into_response()
}

/// What the body will have, as far as its sender says.
fn expected_bytes(headers: &HeaderMap, max: usize) -> Result<usize, Refused> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match length.and_then(|length| length.parse::<usize>().ok()) {
        Some(length) if length > max => Err(too_large(max)),
        Some(length) => Ok(length),
        None => Ok(max),
    }
}

fn too_large(max: usize) -> Refused {
    let message = format!(
        "the body is larger than {max} bytes: send fewer records, or raise listen.http_body_bytes_max"
    );
    Refused(Error::new(ErrorCode::BatchTooLarge, message).at("body"))
}

fn is_lines(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.contains("ndjson") || kind.contains("jsonl")
}

/// The records of a body, each with the partition it names.
///
/// # Errors
/// The first that is none, with its place.
pub fn parse(body: &[u8], lines: bool) -> Result<Vec<(Option<i32>, Record)>, Refused> {
    let refused = |at: usize, what: String| {
        Refused(Error::invalid(format!("records[{at}]"), format!("record {at} {what}")))
    };
    let mut records = Vec::new();
    let mut add = |at: usize, record: Result<(Option<i32>, Record), String>| {
        if at >= RECORDS_MAX {
            let message = format!("the request has more than {RECORDS_MAX} records: send several requests");
            return Err(Refused(Error::new(ErrorCode::BatchTooLarge, message).at("records")));
        }
        records.push(record.map_err(|what| refused(at, what))?);
        Ok(())
    };
    if lines {
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        lines.enumerate().try_for_each(|(at, line)| add(at, json::record::parse(line)))?;
    } else {
        match serde_json::from_slice(body) {
            Ok(Value::Array(items)) => {
                items
                    .into_iter()
                    .enumerate()
                    .try_for_each(|(at, item)| add(at, json::record::from_value(item)))?;
            }
            Ok(item) => add(0, json::record::from_value(item))?,
            Err(error) => {
                let message = format!(
                    "the body is not JSON: {error}: send a list of records, or lines with content-type application/x-ndjson"
                );
                return Err(Refused(Error::invalid("body", message)));
            }
        }
    }
    if records.is_empty() {
        return Err(Refused(Error::invalid("body", "there is no record: send at least one")));
    }
    Ok(records)
}

/// The partition of records without a key: the requests take turns.
fn next_partition(partitions: i32) -> i32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed) % partitions.max(1).unsigned_abs();
    i32::try_from(next).unwrap_or(0)
}

fn wire(record: Record) -> v1::Record {
    let headers =
        record.headers.into_iter().map(|header| v1::Header { key: header.key, value: header.value });
    v1::Record {
        key: record.key,
        value: record.value,
        headers: headers.collect(),
        timestamp_ms: record.timestamp_ms,
        offset: 0,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    partition: i32,
    /// A number, `start` or `end`.
    offset: Option<String>,
    max: Option<usize>,
    #[serde(default)]
    wait_ms: u32,
}

async fn consume(
    State(gateway): Shared,
    Path(topic): Path<String>,
    headers: HeaderMap,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refused> {
    let parts = gateway.parts()?;
    let Query(wanted) = query?;
    let max = wanted.max.unwrap_or(RECORDS_DEFAULT);
    if !(1..=RECORDS_MAX).contains(&max) {
        return Err(Refused(Error::invalid("max", format!("max is {max}: use 1 to {RECORDS_MAX}"))));
    }
    let from = from(parts, &topic, &wanted).await?;
    let _reserved = parts.broker.budget().reserve(parts.body_bytes_max).await;
    let bytes = u32::try_from(parts.body_bytes_max / 2).unwrap_or(u32::MAX);
    let part = v1::FetchPartition {
        topic: topic.clone(),
        partition: wanted.partition,
        fetch_offset: from,
        max_bytes: bytes,
        current_leader_epoch: -1,
        ..Default::default()
    };
    let request = v1::FetchRequest {
        max_wait_ms: wanted.wait_ms.min(WAIT_MS_MAX),
        min_bytes: 1,
        max_bytes: bytes,
        partitions: vec![part],
        as_records: true,
        isolation: v1::Isolation::ReadCommitted.into(),
        ..Default::default()
    };
    let answer = parts.client.transport().fetch(request).await?;
    let Some(mut result) = answer.results.into_iter().next() else {
        return Err(Refused(Error::internal("an answer without a result")));
    };
    if let Some(error) = result.error.take() {
        return Err(Refused(error.into()));
    }
    let end = result.next_offset.max(result.records.last().map_or(from, |record| record.offset + 1));
    let next = result.records.get(max).map_or(end, |record| record.offset);
    result.records.truncate(max);
    let used = result.records.iter().map(|r| r.value.as_ref().map_or(0, Bytes::len)).sum();
    throttle(parts, &headers, Use::Fetch, used).await?;
    let shown = |record: v1::Record| json::record::shown(&topic, wanted.partition, &plain(record));
    let records: Vec<Value> = result.records.into_iter().map(shown).collect();
    let body = json!({
        "topic": topic,
        "partition": wanted.partition,
        "records": records,
        "next_offset": next,
        "high_watermark": result.high_watermark,
        "log_start_offset": result.log_start_offset,
    });
    Ok(Json(body).into_response())
}

async fn from(parts: &Parts, topic: &str, wanted: &Wanted) -> Result<i64, Refused> {
    let at = match wanted.offset.as_deref() {
        None | Some("start") => OffsetQuery::Start,
        Some("end") => OffsetQuery::End,
        Some(text) => {
            return text.parse().map_err(|_| {
                let message = format!("offset {text:?} is no place: use a number, start or end");
                Refused(Error::invalid("offset", message))
            });
        }
    };
    Ok(parts.client.admin().offset(topic, wanted.partition, at).await?.unwrap_or(0))
}

fn plain(record: v1::Record) -> Record {
    let headers = record.headers.into_iter().map(|header| Header { key: header.key, value: header.value });
    Record {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key,
        value: record.value,
        headers: headers.collect(),
    }
}

/// Waits as the client's quota asks.
async fn throttle(parts: &Parts, headers: &HeaderMap, used: Use, bytes: usize) -> Result<(), Refused> {
    let Some(client) = headers.get(CLIENT_ID_HEADER) else { return Ok(()) };
    let client = client.to_str().map_err(|_| {
        Refused(Error::invalid(CLIENT_ID_HEADER, "the client id is not text: use a-z A-Z 0-9 . _ -"))
    })?;
    let wait_ms = parts.broker.throttle_ms(client, used, bytes as u64)?;
    tokio::time::sleep(Duration::from_millis(wait_ms.into())).await;
    Ok(())
}
