//! The early end of records: the start of a partition is raised by hand, as retention does it by itself.
//!
//! Durable when it is answered. Files and objects that lie below follow: those of the disk with the next checkpoint, those of the object
//! store when nobody can be reading them any more. Consumers that stand below are told `OFFSET_OUT_OF_RANGE`, as after retention.

use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::v1;

use super::produce::{check_partitions, within};
use crate::log_thread::Owner;
use crate::metadata::Topic;
use crate::node::Node;

/// The high watermark.
const END: i64 = -1;

impl Node {
    pub(crate) async fn delete_records(
        &self,
        request: v1::DeleteRecordsRequest,
    ) -> Result<v1::DeleteRecordsResponse> {
        check_partitions(request.partitions.len(), self.limits.request_partitions_max)?;
        let image = self.metadata.image();
        let topic = image.topic_as(&request.topic, &request.topic_id)?;
        topic.check_writable()?;
        let mut results = Vec::with_capacity(request.partitions.len());
        for (index, asked) in request.partitions.into_iter().enumerate() {
            let raised = self.raise_start(topic, &asked).await.map_err(|error| within(error, index));
            let (error, log_start_offset) = match raised {
                Ok(start) => (None, start),
                Err(error) => (Some(error.into()), -1),
            };
            results.push(v1::DeleteRecordsResult { partition: asked.partition, error, log_start_offset });
        }
        if let Some(tier) = self.reads.tier().filter(|_| topic.config.tiered) {
            // the objects below the start go at its next look, which may as well be now
            tier.wake();
        }
        Ok(v1::DeleteRecordsResponse { results })
    }

    async fn raise_start(&self, topic: &Topic, asked: &v1::DeleteRecordsPartition) -> Result<i64> {
        let id = topic.partition(asked.partition)?;
        let partition = self.partition(id)?;
        let end = partition.readable_end()?;
        let before = match asked.before_offset {
            END => end,
            offset if (0..=end).contains(&offset) => offset,
            offset => {
                let message = format!(
                    "records before {offset} of {}-{} cannot be deleted: it ends at {end}; name an offset up to that, or -1 for the end",
                    topic.name, id.partition
                );
                return Err(Error::new(ErrorCode::OffsetOutOfRange, message).at("before_offset"));
            }
        };
        self.log.commit(Some(id), move |owner| raise(owner, id, before)).await?;
        Ok(partition.reader.log_start())
    }
}

fn raise(owner: &mut Owner, id: sunseo_proto::PartitionId, before: i64) -> Result<()> {
    let facts = owner.facts(id)?;
    if before == facts.end
        && before > facts.log_start
        && let Err(error) = owner.store().seal(id)
    {
        // only room that comes back later: on a full disk the next segment may not fit
        tracing::debug!(partition = %id, %error, "the last segment stays until it is full");
    }
    Ok(owner.store().set_log_start(id, before)?)
}
