//! Reads what the node holds: topics from their start, counts by live queries.

use std::time::Duration;

use sunseo_client::admin::OffsetQuery;
use sunseo_client::{Client, ConsumedRecord, Consumer, ConsumerConfig};
use sunseo_proto::v1;
use tokio::time::Instant;

use crate::error::{DemoError, Result};
use crate::event::DistrictStatus;
use crate::run::patience::insist;
use crate::topics::{COUNTS_STORE, PIPELINE};
use crate::truth::Counts;

/// A topic that gives nothing for so long is read no further.
const SILENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);

/// Rows of one answer to a query.
const SCAN_ROWS: u32 = 10_000;

/// Offset after the last record of each partition.
///
/// # Errors
/// What the node says.
pub async fn ends(client: &Client, topic: &str) -> Result<Vec<i64>> {
    let partitions = insist("asking for partitions", || client.partitions(topic)).await?;
    let admin = client.admin();
    let mut ends = Vec::new();
    for partition in 0..partitions {
        let end = insist("asking for offsets", || admin.offset(topic, partition, OffsetQuery::End)).await?;
        ends.push(end.unwrap_or(0));
    }
    Ok(ends)
}

/// Records of a topic from which nothing was removed.
///
/// # Errors
/// What the node says.
pub async fn length(client: &Client, topic: &str) -> Result<u64> {
    Ok(ends(client, topic).await?.iter().map(|end| end.unsigned_abs()).sum())
}

/// Hands over every record that the topic has now, in order per partition, read by hand.
///
/// # Errors
/// What the node says, or that it says nothing.
pub async fn read(client: &Client, topic: &str, take: impl FnMut(&ConsumedRecord)) -> Result<()> {
    let ends = ends(client, topic).await?;
    let partitions = (0..ends.len()).map(|partition| (topic, partition as i32));
    let config = ConsumerConfig::partitions(partitions);
    let mut consumer = insist("opening a consumer", || client.consumer(config.clone())).await?;
    read_to(&mut consumer, topic, &ends, take).await
}

/// The same as the only member of a new group, with automatic commits.
///
/// # Errors
/// What the node says, or that it says nothing.
pub async fn read_as_group(
    client: &Client,
    group: &str,
    topic: &str,
    take: impl FnMut(&ConsumedRecord),
) -> Result<()> {
    let ends = ends(client, topic).await?;
    let config = ConsumerConfig::group(group, [topic]);
    let mut consumer = insist("joining a group", || client.consumer(config.clone())).await?;
    read_to(&mut consumer, topic, &ends, take).await?;
    consumer.close().await.map_err(DemoError::request("leaving the group"))
}

async fn read_to(
    consumer: &mut Consumer,
    topic: &str,
    ends: &[i64],
    mut take: impl FnMut(&ConsumedRecord),
) -> Result<()> {
    let mut heard = Instant::now();
    let mut positions = vec![0; ends.len()];
    while positions.iter().zip(ends).any(|(at, end)| at < end) {
        let records = consumer.poll(POLL).await.map_err(DemoError::request(format!("reading {topic}")))?;
        if !records.is_empty() {
            heard = Instant::now();
        } else if heard.elapsed() > SILENCE {
            let trouble = consumer.trouble().map_or_else(String::new, |trouble| format!(" ({trouble})"));
            let problem = format!("reading {topic}: nothing came for {} s{trouble}", SILENCE.as_secs());
            return Err(DemoError::Node(problem));
        }
        for record in &records {
            take(record);
            // partitions are numbered from 0
            if let Some(at) = positions.get_mut(record.partition as usize) {
                *at = record.record.offset + 1;
            }
        }
    }
    Ok(())
}

/// Every count, queried live.
///
/// # Errors
/// What the node says.
pub async fn counts(client: &Client) -> Result<Counts> {
    let query = client.query().map_err(DemoError::request("querying"))?;
    let mut counts = Counts::new();
    let mut from_json = String::new();
    loop {
        let request = v1::QueryScanRequest {
            pipeline: PIPELINE.to_owned(),
            store: COUNTS_STORE.to_owned(),
            from_json: from_json.clone(),
            to_json: String::new(),
            limit: SCAN_ROWS,
        };
        let answer = insist("querying the counts", || query.scan(request.clone())).await?;
        for entry in &answer.entries {
            let key: DistrictStatus = parse(&entry.key_json)?;
            let count: i64 = parse(&entry.value_json)?;
            // below zero is as wrong as anything else: it must not look like none
            counts.insert((key.district, key.status), u64::try_from(count).unwrap_or(u64::MAX));
        }
        match answer.entries.last() {
            Some(last) if answer.truncated && last.key_json != from_json => {
                from_json.clone_from(&last.key_json);
            }
            _ => return Ok(counts),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json)
        .map_err(|e| DemoError::Internal(format!("the answer to a query does not parse ({e}): {json}")))
}
