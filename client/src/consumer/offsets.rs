//! Where partitions begin: the committed offset, or what the configuration says about those without one.

use std::collections::HashMap;
use std::sync::Arc;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, v1};

use super::book::Key;
use super::{Isolation, StartFrom};
use crate::admin::OffsetQuery;
use crate::transport::SharedTransport;

/// Offsets of partitions at a place, in their order; `None` when no record is at or after a timestamp.
pub(super) async fn list(
    transport: &SharedTransport,
    keys: &[Key],
    at: OffsetQuery,
    isolation: Isolation,
) -> Result<Vec<Option<i64>>> {
    list_each(transport, keys.iter().map(|key| (key.clone(), at)), isolation).await
}

/// Offsets of partitions, each at a place of its own.
pub(super) async fn list_each(
    transport: &SharedTransport,
    asked: impl IntoIterator<Item = (Key, OffsetQuery)>,
    isolation: Isolation,
) -> Result<Vec<Option<i64>>> {
    let asked = asked.into_iter().map(|((topic, partition), at)| v1::ListOffsetsPartition {
        topic: topic.to_string(),
        partition,
        timestamp_ms: at.timestamp_ms(),
        ..Default::default()
    });
    let partitions: Vec<_> = asked.collect();
    let asked = partitions.len();
    if asked == 0 {
        return Ok(Vec::new());
    }
    let request = v1::ListOffsetsRequest { partitions, isolation: isolation.into() };
    let results = transport.list_offsets(request).await?.results;
    if results.len() != asked {
        let message =
            format!("{asked} partitions were asked for, {} answered: update the server", results.len());
        return Err(Error::internal(message));
    }
    results
        .into_iter()
        .map(|result| match result.error {
            Some(error) => Err(error.into()),
            None => Ok(Some(result.offset).filter(|&offset| offset >= 0)),
        })
        .collect()
}

/// Where the configuration begins these partitions.
pub(super) async fn begin(
    transport: &SharedTransport,
    keys: &[Key],
    from: StartFrom,
    isolation: Isolation,
) -> Result<Vec<i64>> {
    let at = |at| list(transport, keys, at, isolation);
    let start = async || {
        Ok(at(OffsetQuery::Start).await?.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>())
    };
    let end = async || {
        Ok(at(OffsetQuery::End).await?.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>())
    };
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    match from {
        StartFrom::Start => start().await,
        StartFrom::End => end().await,
        StartFrom::Offset(offset) => Ok(vec![offset; keys.len()]),
        StartFrom::LastN(count) => {
            let (starts, ends): (Vec<i64>, Vec<i64>) = (start().await?, end().await?);
            let back = i64::try_from(count).unwrap_or(i64::MAX);
            Ok(starts.into_iter().zip(ends).map(|(start, end)| (end - back).max(start)).collect())
        }
        StartFrom::Timestamp(ms) => {
            let (found, ends): (_, Vec<i64>) = (at(OffsetQuery::Timestamp(ms)).await?, end().await?);
            Ok(found.into_iter().zip(ends).map(|(found, end)| found.unwrap_or(end)).collect())
        }
    }
}

/// Where a group goes on: committed offsets, and the configuration's beginning where there is none.
pub(super) async fn resume(
    transport: &SharedTransport,
    group: &str,
    keys: &[Key],
    from: StartFrom,
    isolation: Isolation,
) -> Result<Vec<(Key, i64)>> {
    let partitions = keys
        .iter()
        .map(|(topic, partition)| v1::TopicPartition { topic: topic.to_string(), partition: *partition });
    let request = v1::FetchOffsetsRequest {
        group: group.to_owned(),
        partitions: partitions.collect(),
        // what a former owner's open transaction may still move is not where this member goes on
        require_stable: isolation == Isolation::ReadCommitted,
    };
    let committed =
        transport.fetch_offsets(request).await?.offsets.into_iter().filter(|commit| commit.offset >= 0);
    let committed: HashMap<Key, i64> =
        committed.map(|commit| ((Arc::from(commit.topic), commit.partition), commit.offset)).collect();
    let fresh: Vec<Key> = keys.iter().filter(|key| !committed.contains_key(key)).cloned().collect();
    let offsets = begin(transport, &fresh, from, isolation).await?;
    Ok(committed
        .into_iter()
        .filter(|(key, _)| keys.contains(key))
        .chain(fresh.into_iter().zip(offsets))
        .collect())
}
