//! Requests to the tier.

use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::v1;
use sunseo_tier::Tier;
use sunseo_tier::report::FlushRequest;

use crate::node::Node;

impl Node {
    fn tier(&self) -> Result<Tier> {
        let stopping =
            || Error::new(ErrorCode::Unavailable, "the tier is stopping: try again when the node is back");
        self.reads.tier().ok_or_else(stopping)
    }

    /// An empty name is every topic.
    fn check_topic(&self, topic: &str) -> Result<()> {
        if topic.is_empty() {
            return Ok(());
        }
        self.metadata.image().topic(topic).map(drop)
    }

    /// A new archive table begins at once, not at the tier's next look.
    pub(crate) async fn put_definition(
        &self,
        request: v1::PutDefinitionRequest,
    ) -> Result<v1::PutDefinitionResponse> {
        let response = self.metadata.put_definition(request).await?;
        if let Some(tier) = self.reads.tier() {
            tier.wake();
        }
        Ok(response)
    }

    pub(crate) async fn tier_status(&self, request: v1::TierStatusRequest) -> Result<v1::TierStatusResponse> {
        self.check_topic(&request.topic)?;
        let status = self.tier()?.status(&request.topic).await?;
        let partitions = status.partitions.into_iter().map(|partition| v1::TierPartition {
            topic: partition.topic,
            partition: partition.id.partition,
            segments: partition.segments,
            bytes: partition.bytes,
            offloaded_from: partition.offloaded_from,
            offloaded_to: partition.offloaded_to,
            pending_bytes: partition.pending_bytes,
        });
        let archives = status.archives.into_iter().map(|archive| v1::ArchiveTable {
            table: archive.table,
            topic: archive.topic,
            files: archive.files,
            rows: archive.rows,
            bytes: archive.bytes,
            bad_rows: archive.bad_rows,
            lag: archive.lag,
        });
        Ok(v1::TierStatusResponse {
            store: status.store,
            reachable: status.reachable,
            partitions: partitions.collect(),
            archives: archives.collect(),
            objects: status.objects,
            bytes: status.bytes,
            bytes_read_back: status.bytes_read_back,
            last_error: status.last_error,
        })
    }

    pub(crate) async fn tier_verify(&self, request: v1::TierVerifyRequest) -> Result<v1::TierVerifyResponse> {
        self.check_topic(&request.topic)?;
        let report = self.tier()?.verify(&request.topic).await?;
        let problems = report.problems.into_iter().map(v1::Error::from).collect();
        Ok(v1::TierVerifyResponse { objects: report.objects, bytes: report.bytes, problems })
    }

    pub(crate) async fn tier_restore(
        &self,
        request: v1::TierRestoreRequest,
    ) -> Result<v1::TierRestoreResponse> {
        let image = self.metadata.image();
        let topic = image.topic(&request.topic)?;
        let partition = match request.partition {
            -1 => None,
            partition => Some(topic.partition(partition)?.partition),
        };
        let report = self.tier()?.restore(&request.topic, partition).await?;
        Ok(v1::TierRestoreResponse { segments: report.segments, bytes: report.bytes })
    }

    pub(crate) async fn tier_flush(&self, request: v1::TierFlushRequest) -> Result<v1::TierFlushResponse> {
        self.check_topic(&request.topic)?;
        let flush = FlushRequest { topic: request.topic, seal: request.seal, evict: request.evict };
        let report = self.tier()?.flush(flush).await?;
        Ok(v1::TierFlushResponse {
            segments_offloaded: report.segments_offloaded,
            bytes_offloaded: report.bytes_offloaded,
            segments_evicted: report.segments_evicted,
            archive_files: report.archive_files,
            archive_rows: report.archive_rows,
        })
    }
}
