//! Topics with the facts of their partitions, and the end of a topic.

use std::sync::Arc;

use sunseo_proto::PartitionId;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::v1;

use crate::cleaner;
use crate::log_thread::Owner;
use crate::node::Node;

impl Node {
    pub(crate) async fn describe_topic(
        &self,
        request: v1::DescribeTopicRequest,
    ) -> Result<v1::DescribeTopicResponse> {
        let described = self.metadata.described(&request.name)?;
        let image = self.metadata.image();
        let ids: Vec<PartitionId> = image.topic(&request.name)?.partition_ids().collect();
        let facts = {
            let ids = ids.clone();
            let (partitions, now_ms) = (Arc::clone(self.log.partitions()), self.clock.now_ms());
            let look = move |owner: &mut Owner, id| {
                let facts = owner.facts(id)?;
                let limit = partitions.get(id).map_or(0, |partition| cleaner::limit_of(&partition));
                Ok((facts, owner.store().dirt(id, limit, now_ms)?.unwrap_or_default()))
            };
            self.log
                .call(move |owner| ids.into_iter().map(|id| look(owner, id)).collect::<Vec<Result<_>>>())
                .await?
        };
        let tier = self.reads.tier();
        let mut partitions = Vec::with_capacity(ids.len());
        for (id, facts) in ids.into_iter().zip(facts) {
            let mut description = v1::PartitionDescription { partition: id.partition, ..Default::default() };
            match (facts, self.partition(id)) {
                (Ok((facts, dirt)), Ok(partition)) => {
                    description.dirty_bytes = dirt.dirty_bytes;
                    description.dirty_permille = dirt.permille();
                    description.compacted_ms = facts.cleaned.at_ms;
                    description.compacted_through = facts.cleaned.through;
                    description.compacted_bytes = facts.cleaned.removed_bytes;
                    description.log_start_offset = facts.log_start;
                    description.local_start_offset = facts.local_start;
                    description.high_watermark = partition.readable_end().unwrap_or(-1);
                    description.log_end_offset = facts.end;
                    description.leader_epoch = partition.leader_epoch();
                    description.local_bytes = facts.bytes;
                    description.segments = u32::try_from(facts.segments).unwrap_or(u32::MAX);
                    description.failed = match (partition.failed(), facts.failed) {
                        (Some(reason), _) => reason.to_owned(),
                        (None, reason) => reason.map(|reason| reason.to_string()).unwrap_or_default(),
                    };
                }
                // deleted just now, or its directory could not be opened
                (Err(error), _) | (_, Err(error)) => description.failed = error.to_string(),
            }
            description.offloaded_bytes = tier.as_ref().map_or(0, |tier| tier.offloaded_bytes(id));
            partitions.push(description);
        }
        Ok(v1::DescribeTopicResponse { topic: Some(described), partitions })
    }

    /// Alters a topic. Says so when its partitions on this node go by it: a stricter durability is in force with the answer.
    pub(crate) async fn alter_topic(&self, request: v1::AlterTopicRequest) -> Result<v1::AlterTopicResponse> {
        let name = request.name.clone();
        let response = self.metadata.alter_topic(request).await?;
        let image = self.metadata.image();
        // deleted just now: nothing is left that could go by it
        let Some(topic) = image.find(&name) else { return Ok(response) };
        let wanted = topic.settings();
        for id in topic.partition_ids() {
            let partition = self.partition(id)?;
            if *partition.settings() != wanted {
                let message = format!(
                    "topic \"{name}\" is altered, but partition {} cannot go by it yet{}: it is tried again, ask again",
                    id.partition,
                    partition.failed().map(|reason| format!(" ({reason})")).unwrap_or_default()
                );
                return Err(Error::new(ErrorCode::Unavailable, message));
            }
        }
        Ok(response)
    }

    /// Deletes a topic; its objects in the store follow in the background.
    pub(crate) async fn delete_topic(
        &self,
        request: v1::DeleteTopicRequest,
    ) -> Result<v1::DeleteTopicResponse> {
        let id = self.metadata.image().find(&request.name).map(|topic| topic.id);
        let response = self.metadata.delete_topic(request).await?;
        if let (Some(id), Some(tier)) = (id, self.reads.tier())
            && let Err(error) = tier.remove_topic(id).await
        {
            // the tier compares its manifest with the topics in every pass
            tracing::warn!(%error, topic_id = %id, "the objects of a deleted topic are removed later");
        }
        Ok(response)
    }
}
