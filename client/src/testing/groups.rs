//! The group rules of the broker in memory: targets set by the test, a partition is granted only when nobody else holds it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};

type Owned = BTreeSet<(String, i32)>;

#[derive(Debug, Default)]
struct Member {
    instance: String,
    epoch: i32,
    /// Granted and not yet confirmed as let go.
    held: Owned,
}

#[derive(Debug, Default)]
pub struct Groups {
    /// What each instance should own in the end.
    targets: HashMap<String, Owned>,
    members: BTreeMap<String, Member>,
    pub offsets: BTreeMap<(String, i32), i64>,
}

impl Groups {
    /// What an instance should own in the end.
    pub fn target(&mut self, instance: &str, partitions: impl IntoIterator<Item = (&'static str, i32)>) {
        let owned = partitions.into_iter().map(|(topic, partition)| (topic.to_owned(), partition)).collect();
        self.targets.insert(instance.to_owned(), owned);
    }

    /// Removes a member as its session would.
    pub fn expel(&mut self, instance: &str) {
        self.members.retain(|_, member| member.instance != instance);
    }

    /// Every member's instance and the partitions that it holds.
    pub fn holders(&self) -> Vec<(String, Vec<i32>)> {
        let held = |member: &Member| member.held.iter().map(|(_, partition)| *partition).collect();
        self.members.values().map(|member| (member.instance.clone(), held(member))).collect()
    }

    pub(super) fn heartbeat(
        &mut self,
        request: v1::GroupHeartbeatRequest,
    ) -> Result<v1::GroupHeartbeatResponse> {
        if request.member_epoch == -1 {
            self.members.remove(&request.member_id);
            return Ok(v1::GroupHeartbeatResponse::default());
        }
        let known = self.members.contains_key(&request.member_id);
        if !known && request.member_epoch != 0 {
            return Err(Error::new(ErrorCode::UnknownMember, "scripted: rejoin"));
        }
        let owned: Owned = request.owned.iter().map(|tp| (tp.topic.clone(), tp.partition)).collect();
        let target = self.targets.get(&request.instance_id).cloned().unwrap_or_default();
        let others: Owned = self
            .members
            .iter()
            .filter(|(id, _)| **id != request.member_id)
            .flat_map(|(_, member)| member.held.iter().cloned())
            .collect();
        assert!(owned.is_disjoint(&others), "two members own the same partition: {owned:?} and {others:?}");
        let granted: Owned = target.difference(&others).cloned().collect();
        let member = self.members.entry(request.member_id.clone()).or_default();
        member.instance = request.instance_id;
        if granted != owned {
            member.epoch += 1;
        }
        member.epoch = member.epoch.max(1);
        member.held = owned.union(&granted).cloned().collect();
        let topic_partition = |(topic, partition): (String, i32)| v1::TopicPartition { topic, partition };
        Ok(v1::GroupHeartbeatResponse {
            member_id: request.member_id,
            member_epoch: member.epoch,
            heartbeat_interval_ms: 100,
            assignment: granted.into_iter().map(topic_partition).collect(),
        })
    }

    pub(super) fn commit(&mut self, request: v1::CommitOffsetsRequest) -> Result<v1::CommitOffsetsResponse> {
        let member = self.members.get(&request.member_id);
        if member.is_none_or(|member| member.epoch != request.member_epoch) {
            return Err(Error::new(ErrorCode::FencedMember, "scripted: not the current epoch"));
        }
        let results = request.offsets.into_iter().map(|commit| {
            self.offsets.insert((commit.topic.clone(), commit.partition), commit.offset);
            v1::CommitOffsetsResult { topic: commit.topic, partition: commit.partition, error: None }
        });
        Ok(v1::CommitOffsetsResponse { results: results.collect() })
    }

    pub(super) fn committed(&self, request: v1::FetchOffsetsRequest) -> v1::FetchOffsetsResponse {
        let offsets = request.partitions.into_iter().map(|tp| {
            let offset = self.offsets.get(&(tp.topic.clone(), tp.partition)).copied().unwrap_or(-1);
            v1::OffsetCommit { topic: tp.topic, partition: tp.partition, offset, ..Default::default() }
        });
        v1::FetchOffsetsResponse { offsets: offsets.collect() }
    }
}
