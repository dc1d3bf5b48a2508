//! Whole partitions, batch by batch, and attempts that are repeated.

use std::time::Duration;

use bytes::Bytes;
use sunseo_client::Client;
use sunseo_client::admin::OffsetQuery;
use sunseo_client::retry::{Decision, RetryPolicy};
use sunseo_proto::batch::{BatchHeader, batches};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};

/// Bytes of one answer.
const FETCH_BYTES: u32 = 8 << 20;
/// Time without an answer after which reading fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// Makes attempts until one succeeds or the policy gives up.
pub(crate) async fn repeat<T, F: Future<Output = Result<T>>>(
    policy: RetryPolicy,
    mut attempt_once: impl FnMut() -> F,
) -> Result<T> {
    let (start, mut attempt) = (tokio::time::Instant::now(), 0);
    loop {
        let error = match attempt_once().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        attempt += 1;
        // few callers, one per source: they need no jitter to keep apart
        match policy.decide(attempt, &error, start.elapsed(), 0.0) {
            Decision::RetryAfter(wait) => tokio::time::sleep(wait).await,
            Decision::GiveUp => return Err(error),
        }
    }
}

/// Calls `each` with every batch from the log start up to the offset `end`, and returns the log start.
pub(crate) async fn read_partition(
    client: &Client,
    topic: &str,
    partition: i32,
    end: i64,
    mut each: impl FnMut(&BatchHeader, &Bytes) -> Result<()>,
) -> Result<i64> {
    let retry = RetryPolicy::default().until(DEADLINE);
    let admin = client.admin();
    let start = repeat(retry, || admin.offset(topic, partition, OffsetQuery::Start)).await?.unwrap_or(0);
    let mut next = start;
    while next < end {
        let result = repeat(retry, || fetch(client, topic, partition, next)).await?;
        if result.batches.is_empty() {
            let message = format!(
                "topic {topic} partition {partition} has no batch at offset {next} below its end {end}"
            );
            return Err(Error::new(ErrorCode::CorruptLog, message));
        }
        for found in batches(result.batches) {
            let (header, bytes) = found.map_err(|error| {
                let message =
                    format!("topic {topic} partition {partition} does not read at offset {next}: {error}");
                Error::new(ErrorCode::CorruptLog, message)
            })?;
            if header.next_offset() > next && next < end {
                each(&header, &bytes)?;
                next = header.next_offset();
            }
        }
    }
    Ok(start)
}

async fn fetch(client: &Client, topic: &str, partition: i32, offset: i64) -> Result<v1::FetchResult> {
    let asked = v1::FetchPartition {
        topic: topic.to_owned(),
        partition,
        fetch_offset: offset,
        max_bytes: FETCH_BYTES,
        current_leader_epoch: -1,
        ..Default::default()
    };
    let request = v1::FetchRequest {
        max_wait_ms: 1_000,
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        partitions: vec![asked],
        ..v1::FetchRequest::default()
    };
    let answer = client.transport().fetch(request).await?;
    if let Some(error) = answer.error {
        return Err(error.into());
    }
    let missing = || Error::internal("the broker's answer to a fetch has no partition");
    let result = answer.results.into_iter().next().ok_or_else(missing)?;
    match result.error.clone() {
        Some(error) => Err(error.into()),
        None => Ok(result),
    }
}
