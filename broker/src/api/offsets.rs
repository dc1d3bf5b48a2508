//! Offsets by time, and producers' identities.

use bytes::Bytes;
use sunseo_log::TimedOffset;
use sunseo_proto::batch;
use sunseo_proto::error::{Error, Result};
use sunseo_proto::v1;

use super::produce::{check_partitions, within};
use crate::metadata::State;
use crate::node::Node;
use crate::reads::Wanted;

/// The end: the high watermark, or the last stable offset.
const END: i64 = -1;
/// The start of the log.
const START: i64 = -2;
const NO_OFFSET: i64 = -1;

/// Bytes that are read at once while a timestamp is looked for among offloaded records.
const SCAN_BYTES: usize = 1 << 20;

impl Node {
    pub(crate) async fn list_offsets(
        &self,
        request: v1::ListOffsetsRequest,
    ) -> Result<v1::ListOffsetsResponse> {
        check_partitions(request.partitions.len(), self.limits.request_partitions_max)?;
        let (image, isolation) = (self.metadata.image(), request.isolation());
        let mut results = Vec::with_capacity(request.partitions.len());
        for (index, asked) in request.partitions.into_iter().enumerate() {
            let mut result = v1::ListOffsetsResult {
                offset: NO_OFFSET,
                timestamp_ms: -1,
                leader_epoch: -1,
                partition: asked.partition,
                ..Default::default()
            };
            if let Err(error) = self.find_offset(&image, &asked, isolation, &mut result).await {
                result.error = Some(within(error, index).into());
            }
            result.topic = asked.topic;
            results.push(result);
        }
        Ok(v1::ListOffsetsResponse { results })
    }

    async fn find_offset(
        &self,
        image: &State,
        asked: &v1::ListOffsetsPartition,
        isolation: v1::Isolation,
        result: &mut v1::ListOffsetsResult,
    ) -> Result<()> {
        let partition =
            self.partition(image.topic_as(&asked.topic, &asked.topic_id)?.partition(asked.partition)?)?;
        let until = match isolation {
            v1::Isolation::ReadCommitted => partition.last_stable()?,
            v1::Isolation::ReadUncommitted => partition.readable_end()?,
        };
        result.leader_epoch = partition.leader_epoch();
        match asked.timestamp_ms {
            END => result.offset = until,
            START => result.offset = partition.reader.log_start(),
            timestamp_ms if timestamp_ms >= 0 => {
                let all = Wanted { partition, offset: 0, until, max_bytes: SCAN_BYTES };
                let found = self.find_by_time(all, timestamp_ms).await?;
                if let Some(found) = found.filter(|found| found.offset < until) {
                    (result.offset, result.timestamp_ms) = (found.offset, found.timestamp_ms);
                }
            }
            other => {
                let message = format!(
                    "timestamp {other} is none: send milliseconds since 1970, -1 for the end, -2 for the start"
                );
                return Err(Error::invalid("timestamp_ms", message));
            }
        }
        Ok(())
    }

    /// The first record at or after a time: among the offloaded ones, then on the disk.
    async fn find_by_time(&self, all: Wanted, timestamp_ms: i64) -> Result<Option<TimedOffset>> {
        loop {
            let local_start = all.partition.reader.local_start();
            let offloaded = self.find_offloaded(&all, local_start, timestamp_ms).await?;
            if offloaded.is_some() {
                return Ok(offloaded);
            }
            let reader = all.partition.reader.clone();
            let task = tokio::task::spawn_blocking(move || reader.find_by_time(timestamp_ms));
            let found = task
                .await
                .map_err(|error| Error::internal(format!("a look into the log's index: {error}")))?;
            // what left the disk between the two looks was seen by neither
            if all.partition.reader.local_start() <= local_start {
                return Ok(found?);
            }
        }
    }

    async fn find_offloaded(
        &self,
        all: &Wanted,
        local_start: i64,
        timestamp_ms: i64,
    ) -> Result<Option<TimedOffset>> {
        let log_start = all.partition.reader.log_start();
        let Some(tier) = self.reads.tier().filter(|_| log_start < local_start) else { return Ok(None) };
        match Box::pin(tier.offset_for_time(all.partition.id, timestamp_ms)).await? {
            Some(near) if near < local_start => {
                let from = Wanted { offset: near.max(log_start), ..all.clone() };
                self.scan(from, local_start, timestamp_ms).await
            }
            _ => Ok(None),
        }
    }

    async fn scan(&self, mut wanted: Wanted, end: i64, timestamp_ms: i64) -> Result<Option<TimedOffset>> {
        let start = wanted.offset;
        while wanted.offset < end {
            let bytes = self.reads.read(&wanted).await?;
            let (found, next) = first_at(bytes, start, timestamp_ms)?;
            if found.is_some() {
                return Ok(found);
            }
            if next <= wanted.offset {
                break;
            }
            wanted.offset = next;
        }
        Ok(None)
    }

    /// Gives a producer its identity. When it returns, everything an earlier instance of the same name got into a log is readable, and
    /// nothing of it gets in any more: appends check the epoch where their order is decided.
    pub(crate) async fn init_producer(
        &self,
        request: v1::InitProducerRequest,
    ) -> Result<v1::InitProducerResponse> {
        if !request.transactional_id.is_empty() {
            if !request.name.is_empty() {
                let message = "both a name and a transactional id are set: send one of them";
                return Err(Error::invalid("name", message));
            }
            let spare = self.spare_producer_id().await?;
            return self
                .transactions
                .init(&request.transactional_id, request.transaction_timeout_ms, spare)
                .await;
        }
        let named = !request.name.is_empty();
        let response = self.metadata.init_producer(request).await?;
        if named {
            self.log.commit(None, |_| Ok(())).await?;
        }
        Ok(response)
    }
}

/// The first record from `start` on at or after a time, and the offset after the batches.
fn first_at(bytes: Bytes, start: i64, timestamp_ms: i64) -> Result<(Option<TimedOffset>, i64)> {
    let mut next = -1;
    for batch in batch::batches(bytes) {
        let (header, batch) = batch?;
        next = header.next_offset();
        if header.max_timestamp < timestamp_ms {
            continue;
        }
        let records = batch::records(&batch)?;
        let found = records.iter().find(|r| r.offset >= start && r.timestamp_ms >= timestamp_ms);
        if let Some(found) = found {
            return Ok((Some(TimedOffset { offset: found.offset, timestamp_ms: found.timestamp_ms }), next));
        }
    }
    Ok((None, next))
}
