//! Offloaded segments, read back: the bytes of every batch before and after the local copies are gone.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};

use sunseo_client::Client;
use sunseo_proto::{batch, v1};

use super::node::ends;
use crate::error::{DemoError, Result};
use crate::report::Check;
use crate::run::patience::insist;

const FETCH_BYTES: u32 = 8 << 20;

/// Bytes of one partition: how many, and their hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    pub count: u64,
    pub hash: u64,
}

/// By topic and partition.
pub type Contents = BTreeMap<(String, i32), Bytes>;

/// What offloading found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cold {
    pub before: Contents,
    pub after: Contents,
    /// Segments in the object store.
    pub segments: u64,
    /// Segments whose local copy was removed.
    pub evicted: u64,
    /// Bytes that came from the object store for the second reading.
    pub bytes_read_back: u64,
}

/// Seals, offloads and evicts everything, and reads it before and after.
///
/// # Errors
/// What the node says.
pub async fn compare(client: &Client, topics: &[&str]) -> Result<Cold> {
    let admin = client.admin();
    let before = contents(client, topics).await?;
    let flush = v1::TierFlushRequest { topic: String::new(), seal: true, evict: true };
    let flushed = insist("offloading", || admin.tier_flush(flush.clone())).await?;
    let status = insist("asking the tier", || admin.tier_status("")).await?;
    let after = contents(client, topics).await?;
    let read = insist("asking the tier", || admin.tier_status("")).await?;
    Ok(Cold {
        before,
        after,
        segments: status.partitions.iter().map(|partition| u64::from(partition.segments)).sum(),
        evicted: flushed.segments_evicted.into(),
        bytes_read_back: read.bytes_read_back.saturating_sub(status.bytes_read_back),
    })
}

async fn contents(client: &Client, topics: &[&str]) -> Result<Contents> {
    let mut contents = Contents::new();
    for topic in topics {
        for (partition, end) in ends(client, topic).await?.into_iter().enumerate() {
            let partition = partition as i32;
            contents.insert(
                ((*topic).to_owned(), partition),
                partition_bytes(client, topic, partition, end).await?,
            );
        }
    }
    Ok(contents)
}

async fn partition_bytes(client: &Client, topic: &str, partition: i32, end: i64) -> Result<Bytes> {
    let (mut hasher, mut count, mut offset) = (DefaultHasher::new(), 0, 0);
    while offset < end {
        let request = v1::FetchRequest {
            max_wait_ms: 1_000,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            partitions: vec![v1::FetchPartition {
                topic: topic.to_owned(),
                partition,
                fetch_offset: offset,
                max_bytes: FETCH_BYTES,
                current_leader_epoch: -1,
                ..Default::default()
            }],
            ..v1::FetchRequest::default()
        };
        let batches = insist("fetching", || fetch(client, request.clone())).await?;
        let before = offset;
        for next in batch::batches(batches) {
            let (header, bytes) = next.map_err(|e| DemoError::request("reading batches")(e.into()))?;
            hasher.write(&bytes);
            count += bytes.len() as u64;
            offset = header.next_offset();
        }
        if offset == before {
            let problem =
                format!("{topic}-{partition} gives nothing at offset {offset}, below its end {end}");
            return Err(DemoError::Node(problem));
        }
    }
    Ok(Bytes { count, hash: hasher.finish() })
}

async fn fetch(client: &Client, request: v1::FetchRequest) -> sunseo_proto::error::Result<bytes::Bytes> {
    let answer = client.transport().fetch(request).await?;
    let result = answer.results.into_iter().next().unwrap_or_default();
    match answer.error.or(result.error) {
        Some(error) => Err(error.into()),
        None => Ok(result.batches),
    }
}

impl Cold {
    /// Bytes of the second reading.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.after.values().map(|bytes| bytes.count).sum()
    }

    /// The comparisons.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        let equal = self.before.iter().filter(|(key, bytes)| self.after.get(*key) == Some(*bytes)).count();
        vec![
            Check::positive("segments offloaded", self.segments),
            Check::positive("local copies of segments removed", self.evicted),
            Check::positive("bytes read back from the object store", self.bytes_read_back),
            Check::equal("partitions whose bytes are equal when read back", self.before.len(), equal),
        ]
    }
}
