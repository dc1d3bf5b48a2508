//! The node as the tier sees it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sunseo_log::{LogError, Reader, SealedFacts};
use sunseo_proto::batch::{self, BatchHeader};
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{PartitionId, TopicId};
use sunseo_tier::host::{
    ArchiveSource, PartitionFacts, RestoredSegment, SealedSegment, StoredRecord, TierHost, TierTopicConfig,
};

use crate::internal::{PartitionSettings, SharedInternalLog};
use crate::log_thread::{LogThread, Owner};
use crate::metadata::Metadata;
use crate::metadata::internal_topics::TIER;
use crate::partition::Partition;
use crate::reads::{Reads, Wanted};

/// Definitions of this kind are archive tables.
const ARCHIVE_KIND: &str = "archive";

#[derive(Debug)]
pub(crate) struct NodeTierHost {
    pub(crate) log: LogThread,
    pub(crate) internal: SharedInternalLog,
    pub(crate) metadata: Metadata,
    pub(crate) reads: Reads,
}

const RECORDS: PartitionId = TIER.partition(0);

impl NodeTierHost {
    fn partition(&self, id: PartitionId) -> Result<Arc<Partition>> {
        self.log.partitions().get(id).ok_or_else(|| {
            Error::new(ErrorCode::UnknownPartition, format!("partition {id} is not on this node"))
        })
    }

    /// Changes a partition's segments; durable when it returns.
    async fn change<R: Send + 'static>(
        &self,
        id: PartitionId,
        act: impl FnOnce(&mut Owner) -> std::result::Result<R, LogError> + Send + 'static,
    ) -> Result<R> {
        self.log.commit(Some(id), move |owner| act(owner).map_err(Error::from)).await
    }
}

#[async_trait]
impl TierHost for NodeTierHost {
    async fn partitions(&self) -> Result<Vec<PartitionFacts>> {
        let image = self.metadata.image();
        let mut wanted = Vec::new();
        for topic in image.topics().filter(|topic| !topic.is_system()) {
            wanted.extend(topic.partition_ids().filter_map(|id| self.log.partitions().get(id)));
        }
        let look = move |owner: &mut Owner| wanted.into_iter().filter_map(|p| facts(owner, &p)).collect();
        self.log.call(look).await
    }

    async fn topic_exists(&self, topic_id: TopicId) -> Result<bool> {
        Ok(self.metadata.image().topic_by_id(topic_id).is_some())
    }

    async fn archives(&self) -> Result<Vec<ArchiveSource>> {
        let image = self.metadata.image();
        let source = |definition: &sunseo_proto::v1::Definition| ArchiveSource {
            name: definition.name.clone(),
            version: definition.version,
            body: definition.body.clone(),
        };
        Ok(image.definitions(ARCHIVE_KIND).map(source).collect())
    }

    async fn segment_data(&self, id: PartitionId, base_offset: i64) -> Result<Bytes> {
        let data = self.log.call(move |owner| owner.store().segment_data(id, base_offset)).await?;
        Ok(data?)
    }

    async fn append_record(&self, record: Bytes) -> Result<i64> {
        self.internal.append(RECORDS, vec![record]).await
    }

    async fn records_start(&self) -> Result<i64> {
        self.internal.start(RECORDS).await
    }

    async fn read_records(&self, from_offset: i64) -> Result<Vec<StoredRecord>> {
        let records = self.internal.read(RECORDS, from_offset).await?;
        Ok(records.into_iter().map(|(offset, value)| StoredRecord { offset, value }).collect())
    }

    async fn trim_records(&self, before_offset: i64) -> Result<()> {
        self.internal.trim(RECORDS, before_offset).await
    }

    async fn seal(&self, id: PartitionId) -> Result<()> {
        self.change(id, move |owner| owner.store().seal(id).map(drop)).await
    }

    async fn evict_local(&self, id: PartitionId, before_offset: i64) -> Result<u32> {
        self.change(id, move |owner| owner.store().evict_local(id, before_offset)).await
    }

    async fn set_log_start(&self, id: PartitionId, offset: i64) -> Result<()> {
        self.change(id, move |owner| owner.store().set_log_start(id, offset)).await
    }

    async fn restore_segment(&self, id: PartitionId, segment: RestoredSegment) -> Result<()> {
        let SealedSegment { base_offset, end_offset, bytes, max_timestamp_ms } = segment.segment;
        let facts = SealedFacts { base_offset, end_offset, bytes, max_timestamp_ms, generation: 0 };
        let restored = sunseo_log::RestoredSegment { segment: facts, data: segment.data };
        self.change(id, move |owner| owner.store().restore_segment(id, &restored)).await
    }

    async fn read(&self, id: PartitionId, from_offset: i64, max_bytes: usize) -> Result<Bytes> {
        let partition = self.partition(id)?;
        // what is archived is never taken back
        let until = partition.last_stable()?;
        let reader = partition.reader.clone();
        let wanted = Wanted { partition, offset: from_offset, until, max_bytes };
        let bytes = self.reads.read(&wanted).await?;
        let task = tokio::task::spawn_blocking(move || without_aborted(&reader, bytes));
        task.await.unwrap_or_else(|error| Err(Error::internal(format!("a read for the archive: {error}"))))
    }
}

/// The same batches with a gap where one was taken back.
fn without_aborted(reader: &Reader, bytes: Bytes) -> Result<Bytes> {
    let headers = batch::batches(bytes.clone()).map(|next| next.map(|(header, _)| header));
    let headers: Vec<BatchHeader> = headers.collect::<std::result::Result<_, _>>()?;
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else { return Ok(bytes) };
    let aborted = reader.aborted(first.base_offset, last.next_offset())?;
    if aborted.is_empty() {
        return Ok(bytes);
    }
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    for header in headers {
        let is_void = header.is_transactional()
            && !header.is_control()
            && aborted.iter().any(|range| range.holds(header.producer_id, header.base_offset));
        match is_void {
            true => out.extend(batch::gap(header.base_offset, header.last_offset_delta, header.leader_epoch)),
            false => out.extend_from_slice(&bytes[at..at + header.total_bytes]),
        }
        at += header.total_bytes;
    }
    Ok(out.into())
}

/// `None` for a partition that has just been deleted.
fn facts(owner: &mut Owner, partition: &Partition) -> Option<PartitionFacts> {
    let id = partition.id;
    let facts = owner.facts(id).ok()?;
    let sealed = owner.store().sealed(id).ok()?;
    let settings = partition.settings();
    let sealed = sealed.into_iter().map(|segment| SealedSegment {
        base_offset: segment.base_offset,
        end_offset: segment.end_offset,
        bytes: segment.bytes,
        max_timestamp_ms: segment.max_timestamp_ms,
    });
    Some(PartitionFacts {
        id,
        topic: settings.topic.to_string(),
        config: config_of(&settings),
        leader_epoch: partition.leader_epoch(),
        log_start: facts.log_start,
        local_start: facts.local_start,
        high_watermark: partition.readable_end().ok()?,
        last_stable: partition.last_stable().ok()?,
        local_bytes: facts.bytes,
        sealed: sealed.collect(),
    })
}

fn config_of(settings: &PartitionSettings) -> TierTopicConfig {
    TierTopicConfig {
        tiered: settings.tiered,
        local_retention_bytes: settings.local_retention_bytes,
        local_retention_ms: settings.local_retention_ms,
        retention_bytes: settings.retention_bytes,
        retention_ms: settings.retention_ms,
    }
}
