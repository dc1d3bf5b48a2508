//! One batch of requests on the groups of one shard. Pure: what changed becomes records, which the caller stores before it answers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sunseo_proto::batch::Ending;
use sunseo_proto::error::{Error, ErrorCode, Result};

use super::{CoordinatorConfig, HighWatermarks};
use crate::group::membership::{Facts, Heartbeat, Told};
use crate::group::offsets::check_offset;
use crate::group::record::GroupRecord;
use crate::group::{CommittedOffset, Group, TopicFact, TopicPartition, Topics};
use crate::metadata::State;
use crate::txn::Identity;
use crate::txn::outcome::Marker;

/// Bytes of one commit.
const COMMIT_BYTES_MAX: usize = 8 << 20;

impl Topics for State {
    fn fact(&self, name: &str) -> Option<TopicFact> {
        self.find(name).map(|topic| TopicFact { id: topic.id, partitions: topic.partitions })
    }
}

/// One offset to commit.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    pub(super) metadata: String,
    /// The topic that is meant; empty is whichever has the name.
    pub(super) topic_id: Bytes,
}

/// What a turn is decided with.
#[derive(Clone, Copy)]
pub(super) struct TurnFacts<'a> {
    pub(super) config: &'a CoordinatorConfig,
    pub(super) image: &'a State,
    pub(super) high_watermarks: &'a HighWatermarks,
    /// Sessions are measured with it.
    pub(super) now_ms: i64,
    /// Wall-clock time, for what is kept for days.
    pub(super) wall_ms: i64,
}

/// Offsets that may be committed.
type Accepted = Vec<(TopicPartition, CommittedOffset)>;

pub(super) struct Turn<'a> {
    groups: &'a mut BTreeMap<String, Group>,
    facts: TurnFacts<'a>,
    /// Offsets and deletions, in their order.
    records: Vec<GroupRecord>,
    /// Groups whose membership changed: however often, it is stored once.
    changed: BTreeSet<String>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(groups: &'a mut BTreeMap<String, Group>, facts: TurnFacts<'a>) -> Self {
        Self { groups, facts, records: Vec::new(), changed: BTreeSet::new() }
    }

    /// What must be stored before anything is answered.
    pub(super) fn into_records(mut self) -> Vec<GroupRecord> {
        for name in self.changed {
            if let Some(group) = self.groups.get_mut(&name) {
                group.unsaved = false;
                group.note_idle(self.facts.wall_ms);
                self.records.push(GroupRecord::membership(&name, group));
            }
        }
        self.records
    }

    pub(super) fn image(&self) -> &State {
        self.facts.image
    }

    fn membership_facts(&self) -> Facts<'a> {
        let TurnFacts { image, config, now_ms, .. } = self.facts;
        Facts { topics: image, config: &config.groups, now_ms }
    }

    pub(super) fn groups(&self) -> &BTreeMap<String, Group> {
        self.groups
    }

    pub(super) fn group(&self, name: &str) -> Result<&Group> {
        self.groups.get(name).ok_or_else(|| unknown_group(name))
    }

    pub(super) fn heartbeat(&mut self, name: &str, beat: &Heartbeat) -> Result<Told> {
        let facts = self.membership_facts();
        if let Some(group) = self.groups.get_mut(name) {
            let told = group.heartbeat(beat, facts);
            if group.unsaved {
                self.changed.insert(name.to_owned());
            }
            return told;
        }
        let mut group = Group::default();
        let told = group.heartbeat(beat, facts)?;
        // a farewell to a group that is not there makes none
        if group.unsaved {
            self.check_room()?;
            self.groups.insert(name.to_owned(), group);
            self.changed.insert(name.to_owned());
        }
        Ok(told)
    }

    fn check_room(&self) -> Result<()> {
        let groups_max = self.facts.config.groups.groups_max;
        if self.groups.len() < groups_max {
            return Ok(());
        }
        let message = format!(
            "{groups_max} groups share the partition of this one, no more are allowed: delete groups that are not used"
        );
        Err(Error::new(ErrorCode::Overloaded, message).at("group"))
    }

    /// Commits offsets; each has its own result, in their order.
    pub(super) fn commit(
        &mut self,
        name: &str,
        member_id: &str,
        member_epoch: i32,
        commits: Vec<Commit>,
    ) -> Result<Vec<Result<()>>> {
        let (results, accepted) = self.accept(name, (member_id, member_epoch), commits)?;
        if !accepted.is_empty() {
            let group = self.groups.entry(name.to_owned()).or_default();
            if group.members.is_empty() {
                group.idle_since_ms = self.facts.wall_ms;
            }
            let pairs = accepted.iter().map(|(partition, committed)| (partition, committed));
            self.records.push(GroupRecord::offsets(name, group.idle_since_ms, pairs));
            group.offsets.extend(accepted);
        }
        Ok(results)
    }

    /// Keeps offsets that count when the transaction commits; all of them or, when one is refused, none.
    pub(super) fn commit_in_transaction(
        &mut self,
        name: &str,
        member: (&str, i32),
        transaction: Identity,
        commits: Vec<Commit>,
    ) -> Result<Vec<Result<()>>> {
        let (results, accepted) = self.accept(name, member, commits)?;
        if results.iter().all(Result::is_ok) && !accepted.is_empty() {
            let pairs = accepted.iter().map(|(partition, committed)| (partition, committed));
            let Identity { producer_id, epoch } = transaction;
            self.records.push(GroupRecord::pending(name, producer_id, epoch, pairs));
            self.groups.entry(name.to_owned()).or_default().hold(producer_id, epoch, accepted);
        }
        Ok(results)
    }

    /// A transaction has ended: its offsets count, or are dropped. One that the group holds nothing of changes nothing.
    pub(super) fn end_transaction(&mut self, name: &str, marker: Marker) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let Identity { producer_id, epoch } = marker.identity;
        let commits = marker.ending == Ending::Commit;
        if group.end_transaction(producer_id, epoch, commits) {
            self.records.push(GroupRecord::ended(name, producer_id, epoch, commits));
            if group.members.is_empty() {
                group.idle_since_ms = self.facts.wall_ms;
                self.records.push(GroupRecord::offsets(name, group.idle_since_ms, []));
            }
        }
    }

    /// Which of the offsets may be committed: a result for each, and those that are accepted.
    fn accept(
        &self,
        name: &str,
        (member_id, member_epoch): (&str, i32),
        commits: Vec<Commit>,
    ) -> Result<(Vec<Result<()>>, Accepted)> {
        let bytes: usize = commits.iter().map(|c| c.partition.topic.len() + c.metadata.len() + 32).sum();
        if bytes > COMMIT_BYTES_MAX {
            let message =
                format!("a commit of {bytes} bytes, at most {COMMIT_BYTES_MAX} are allowed: split it");
            return Err(Error::invalid("offsets", message));
        }
        let nobody = Group::default();
        let group = self.groups.get(name).unwrap_or(&nobody);
        group.check_committer(member_id, member_epoch)?;
        if !self.groups.contains_key(name) {
            self.check_room()?;
        }
        let (mut results, mut accepted) = (Vec::new(), Vec::new());
        for commit in commits {
            let checked = self.check_commit(group, (member_id, member_epoch), &commit);
            results.push(checked.map(|committed| accepted.push((commit.partition, committed))));
        }
        Ok((results, accepted))
    }

    fn check_commit(
        &self,
        group: &Group,
        (member_id, member_epoch): (&str, i32),
        commit: &Commit,
    ) -> Result<CommittedOffset> {
        let TopicPartition { topic, partition } = &commit.partition;
        let topic = self.facts.image.topic_as(topic, &commit.topic_id)?;
        let id = topic.partition(*partition)?;
        check_offset(commit.offset, &commit.metadata)?;
        group.check_owner(member_id, member_epoch, &commit.partition, topic.id)?;
        match self.facts.high_watermarks.of(id) {
            Some(end) if commit.offset > end => return Err(beyond_the_end(commit, end)),
            _ => {}
        }
        Ok(CommittedOffset { topic_id: topic.id, offset: commit.offset, metadata: commit.metadata.clone() })
    }

    /// Whether a transaction that has not ended may still move the offset of a partition.
    pub(super) fn is_unstable(&self, name: &str, partition: &TopicPartition) -> bool {
        self.groups.get(name).is_some_and(|group| group.is_unstable(partition))
    }

    /// The committed offset of a partition, unless it belongs to a former topic of the name.
    pub(super) fn committed(&self, name: &str, partition: &TopicPartition) -> Option<&CommittedOffset> {
        let committed = self.groups.get(name)?.offsets.get(partition)?;
        let fact = self.facts.image.fact(&partition.topic)?;
        (fact.id == committed.topic_id).then_some(committed)
    }

    pub(super) fn delete(&mut self, name: &str) -> Result<()> {
        let group = self.group(name)?;
        let (members, pending) = (group.members.len(), group.pending.len());
        if members > 0 {
            let message = format!("group \"{name}\" has {members} members: stop them first");
            return Err(Error::new(ErrorCode::GroupNotEmpty, message).at("group"));
        }
        if pending > 0 {
            // their commit would find no group, and its offsets would be lost
            let message = format!(
                "group \"{name}\" has offsets of {pending} open transactions: wait for their end, or abort them"
            );
            return Err(Error::new(ErrorCode::GroupNotEmpty, message).at("group"));
        }
        self.groups.remove(name);
        self.changed.remove(name);
        self.records.push(GroupRecord::deleted(name));
        Ok(())
    }

    /// Follows topics that came, grew or went.
    pub(super) fn refresh(&mut self) {
        for (name, group) in self.groups.iter_mut() {
            // not a record: what is forgotten here is forgotten again after every fold
            group.forget_gone(self.facts.image);
            group.refresh(self.facts.image);
            if group.unsaved {
                self.changed.insert(name.clone());
            }
        }
    }

    /// Ends sessions that were over at `heard_ms`: everything that members sent until then has been heard.
    pub(super) fn expire(&mut self, heard_ms: i64) {
        let facts = Facts { now_ms: heard_ms, ..self.membership_facts() };
        for (name, group) in self.groups.iter_mut() {
            for member in group.expire(facts) {
                tracing::info!(group = %name, %member, "the session of a member ended");
            }
            if group.unsaved {
                self.changed.insert(name.clone());
            }
        }
    }

    /// Forgets groups that nobody used for the retention of offsets.
    pub(super) fn forget_idle(&mut self) {
        let (wall_ms, retention_ms) = (self.facts.wall_ms, self.facts.config.groups.offsets_retention_ms);
        let idle = self.groups.iter().filter(|(_, group)| group.is_forgotten(wall_ms, retention_ms));
        let idle: Vec<String> = idle.map(|(name, _)| name.clone()).collect();
        for name in idle {
            tracing::info!(group = %name, retention_ms, "a group was not used for the retention of offsets, and is forgotten");
            self.groups.remove(&name);
            self.changed.remove(&name);
            self.records.push(GroupRecord::deleted(&name));
        }
    }
}

fn beyond_the_end(commit: &Commit, end: i64) -> Error {
    let TopicPartition { topic, partition } = &commit.partition;
    let message = format!(
        "offset {} is beyond the end of {topic}-{partition}, which is {end}: commit the next offset to read, at most the end",
        commit.offset
    );
    Error::new(ErrorCode::OffsetOutOfRange, message).at("offset")
}

pub(super) fn unknown_group(name: &str) -> Error {
    let message = format!("group \"{name}\" does not exist: check the name, or let a member join it");
    Error::new(ErrorCode::UnknownGroup, message).at("group")
}
