//! The requests of clients about groups: check, let the owning task decide, answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{PartitionId, TopicId, v1};

use super::turn::{Commit, Turn};
use super::validate::{few, group_name, heartbeat};
use super::{Coordinator, HighWatermarks};
use crate::group::membership::JOIN_EPOCH;
use crate::group::{Group, Member, TopicPartition, Topics as _};
use crate::metadata::names::check_free_name;
use crate::txn::Registry;
use crate::txn::coordinator::identity;
use crate::txn::outcome::Marker;

impl Coordinator {
    pub(crate) async fn heartbeat(
        &self,
        mut request: v1::GroupHeartbeatRequest,
    ) -> Result<v1::GroupHeartbeatResponse> {
        if request.member_id.is_empty() && request.member_epoch == JOIN_EPOCH {
            request.member_id = uuid::Uuid::new_v4().to_string();
        }
        let (group, beat) = heartbeat(request, self.inner.config.request_partitions_max)?;
        let (member_id, name) = (beat.member_id.clone(), group.clone());
        let told = self.ask(&group, move |turn| turn.heartbeat(&name, &beat)).await?;
        Ok(v1::GroupHeartbeatResponse {
            member_id,
            member_epoch: told.member_epoch,
            heartbeat_interval_ms: told.heartbeat_interval_ms,
            assignment: told.assignment.iter().map(wire).collect(),
        })
    }

    pub(crate) async fn commit_offsets(
        &self,
        request: v1::CommitOffsetsRequest,
    ) -> Result<v1::CommitOffsetsResponse> {
        let v1::CommitOffsetsRequest { group, member_id, member_epoch, offsets } = request;
        self.check_offsets(&group, &member_id, offsets.len())?;
        let (asked, commits) = commits_of(offsets);
        let name = group.clone();
        let results =
            self.ask(&group, move |turn| turn.commit(&name, &member_id, member_epoch, commits)).await?;
        Ok(v1::CommitOffsetsResponse { results: results_of(asked, results) })
    }

    /// Offsets that count when a transaction commits. The coordinator of transactions knows the group as part of it.
    pub(crate) async fn send_offsets(
        &self,
        request: v1::SendOffsetsRequest,
        registry: Arc<Registry>,
    ) -> Result<v1::SendOffsetsResponse> {
        let v1::SendOffsetsRequest {
            producer_id,
            producer_epoch,
            group,
            member_id,
            member_epoch,
            offsets,
            ..
        } = request;
        self.check_offsets(&group, &member_id, offsets.len())?;
        let transaction = identity(producer_id, producer_epoch)?;
        let (asked, commits) = commits_of(offsets);
        let name = group.clone();
        let results = self
            .ask(&group, move |turn| {
                // here, where it is decided what comes before the end of the transaction
                registry.check_group(transaction, &name)?;
                turn.commit_in_transaction(&name, (&member_id, member_epoch), transaction, commits)
            })
            .await?;
        Ok(v1::SendOffsetsResponse { results: results_of(asked, results) })
    }

    /// A transaction has ended. May be repeated.
    pub(crate) async fn end_transaction(&self, group: &str, marker: Marker) -> Result<()> {
        let name = group.to_owned();
        self.ask(group, move |turn| {
            turn.end_transaction(&name, marker);
            Ok(())
        })
        .await
    }

    /// What can be said of a commit before its group is asked.
    pub(crate) fn check_offsets(&self, group: &str, member_id: &str, count: usize) -> Result<()> {
        group_name(group)?;
        if !member_id.is_empty() {
            check_free_name("member_id", "member id", member_id)?;
        }
        few("offsets", count, self.inner.config.request_partitions_max)
    }

    pub(crate) async fn fetch_offsets(
        &self,
        request: v1::FetchOffsetsRequest,
    ) -> Result<v1::FetchOffsetsResponse> {
        let v1::FetchOffsetsRequest { group, partitions, require_stable } = request;
        group_name(&group)?;
        few("partitions", partitions.len(), self.inner.config.request_partitions_max)?;
        let name = group.clone();
        let offsets = self
            .ask(&group, move |turn| {
                let asked: Vec<TopicPartition> = match partitions.is_empty() {
                    false => {
                        partitions.into_iter().map(|p| TopicPartition::new(p.topic, p.partition)).collect()
                    }
                    true => {
                        let all = turn.groups().get(&name).into_iter().flat_map(|g| g.offsets.keys());
                        all.filter(|p| turn.committed(&name, p).is_some()).cloned().collect()
                    }
                };
                if let Some(moving) = asked.iter().find(|p| require_stable && turn.is_unstable(&name, p)) {
                    return Err(unstable(moving));
                }
                Ok(asked.iter().map(|partition| offset(turn, &name, partition)).collect())
            })
            .await?;
        Ok(v1::FetchOffsetsResponse { offsets })
    }

    pub(crate) async fn list_groups(&self, _: v1::ListGroupsRequest) -> Result<v1::ListGroupsResponse> {
        let shards = (0..self.inner.shards.len()).map(|shard| {
            self.ask_shard(shard, |turn| {
                Ok(turn.groups().iter().map(|(name, group)| summary(name, group)).collect::<Vec<_>>())
            })
        });
        let mut groups = try_join_all(shards).await?.concat();
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(v1::ListGroupsResponse { groups })
    }

    pub(crate) async fn describe_group(
        &self,
        request: v1::DescribeGroupRequest,
    ) -> Result<v1::DescribeGroupResponse> {
        let (name, high_watermarks) = (request.group, self.inner.high_watermarks.clone());
        group_name(&name)?;
        let asked = name.clone();
        self.ask(&asked, move |turn| {
            let group = turn.group(&name)?;
            Ok(v1::DescribeGroupResponse {
                summary: Some(summary(&name, group)),
                members: group.members.iter().map(|(id, member)| described(id, member)).collect(),
                partitions: partitions(turn, &name, group, &high_watermarks),
            })
        })
        .await
    }

    pub(crate) async fn delete_group(
        &self,
        request: v1::DeleteGroupRequest,
    ) -> Result<v1::DeleteGroupResponse> {
        let name = request.group;
        group_name(&name)?;
        let asked = name.clone();
        self.ask(&asked, move |turn| turn.delete(&name)).await?;
        Ok(v1::DeleteGroupResponse {})
    }
}

/// Offsets to commit, and their names for the answer.
fn commits_of(offsets: Vec<v1::OffsetCommit>) -> (Vec<(String, i32)>, Vec<Commit>) {
    let asked = offsets.iter().map(|o| (o.topic.clone(), o.partition)).collect();
    let commits = offsets.into_iter().map(|commit| Commit {
        partition: TopicPartition::new(commit.topic, commit.partition),
        offset: commit.offset,
        metadata: commit.metadata,
        topic_id: commit.topic_id,
    });
    (asked, commits.collect())
}

fn results_of(asked: Vec<(String, i32)>, results: Vec<Result<()>>) -> Vec<v1::CommitOffsetsResult> {
    let named = asked.into_iter().zip(results);
    let result = |((topic, partition), result): ((String, i32), Result<()>)| v1::CommitOffsetsResult {
        topic,
        partition,
        error: result.err().map(Into::into),
    };
    named.map(result).collect()
}

fn unstable(partition: &TopicPartition) -> Error {
    let message = format!(
        "a transaction that has not ended may still move the offset of {}-{}: try again",
        partition.topic, partition.partition
    );
    Error::new(ErrorCode::UnstableOffsets, message)
}

fn wire(partition: &TopicPartition) -> v1::TopicPartition {
    v1::TopicPartition { topic: partition.topic.to_string(), partition: partition.partition }
}

fn id_bytes(id: TopicId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn offset(turn: &Turn<'_>, name: &str, partition: &TopicPartition) -> v1::OffsetCommit {
    let committed = turn.committed(name, partition);
    v1::OffsetCommit {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        offset: committed.map_or(-1, |committed| committed.offset),
        metadata: committed.map(|committed| committed.metadata.clone()).unwrap_or_default(),
        topic_id: committed.map(|committed| id_bytes(committed.topic_id)).unwrap_or_default(),
    }
}

fn summary(name: &str, group: &Group) -> v1::GroupSummary {
    v1::GroupSummary {
        group: name.to_owned(),
        state: group.state().to_owned(),
        group_epoch: group.epoch,
        members: i32::try_from(group.members.len()).unwrap_or(i32::MAX),
    }
}

fn described(id: &str, member: &Member) -> v1::GroupMember {
    v1::GroupMember {
        member_id: id.to_owned(),
        instance_id: member.instance_id.clone(),
        member_epoch: member.epoch,
        topics: member.topics.iter().map(ToString::to_string).collect(),
        owned: member.grants.keys().map(wire).collect(),
        target: member.target.iter().map(wire).collect(),
    }
}

/// Every partition that is committed or subscribed to, with its lag; -1 where a number is not known.
fn partitions(
    turn: &Turn<'_>,
    name: &str,
    group: &Group,
    high_watermarks: &HighWatermarks,
) -> Vec<v1::GroupPartition> {
    let subscribed = group.facts.iter().flat_map(|(topic, fact)| {
        (0..fact.partitions).map(|partition| TopicPartition::new(topic.clone(), partition))
    });
    let owners: BTreeMap<&TopicPartition, &String> =
        group.members.iter().flat_map(|(id, member)| member.grants.keys().map(move |p| (p, id))).collect();
    let all: BTreeSet<TopicPartition> = subscribed.chain(group.offsets.keys().cloned()).collect();
    let described = all.into_iter().filter_map(|partition| {
        let topic_id = turn.image().fact(&partition.topic)?.id;
        let committed_offset = turn.committed(name, &partition).map_or(-1, |committed| committed.offset);
        let id = PartitionId { topic_id, partition: partition.partition };
        let high_watermark = high_watermarks.of(id).unwrap_or(-1);
        let known = committed_offset >= 0 && high_watermark >= 0;
        Some(v1::GroupPartition {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            committed_offset,
            high_watermark,
            lag: if known { (high_watermark - committed_offset).max(0) } else { -1 },
            owner: owners.get(&partition).map(|id| (*id).clone()).unwrap_or_default(),
        })
    });
    described.collect()
}
