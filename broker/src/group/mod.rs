//! Consumer groups: who may read which partition, and how far a group has read. Pure: requests and facts in, answers and
//! records out; the coordinator ([`crate::coordinator`]) owns the state, stores the records and keeps the time.
//!
//! The protocol follows KIP-848. A member heartbeats what it subscribes to and what it holds; the answer says what it may hold now and
//! under which member epoch. The *target* says who should hold what; members are led there step by step.
//!
//! Invariants:
//! - A partition has at most one owner: the member that was told to hold it, until that member, in the epoch in which it was told to let go,
//!   no longer lists it, or left, or its session ended.
//! - Whatever changes what a member was told gives it a new member epoch, and an epoch is never given twice in a group. So a
//!   heartbeat that was late or came twice confirms nothing.
//! - A commit is taken only from the present owner of the partition, in its present or previous epoch, and not from an epoch before the
//!   one in which it was given the partition (KIP-1251).
//! - A topic that was deleted and made again under its name is another topic: what was held or committed of the former one counts for
//!   nothing.
//!
//! Not here: topics' metadata (a fact that is passed in), storage.

pub(crate) mod assignor;
mod member;
pub(crate) mod membership;
pub(crate) mod offsets;
pub(crate) mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sunseo_proto::TopicId;

pub(crate) use assignor::Assignor;
pub(crate) use member::{Grant, Member};
pub(crate) use offsets::{CommittedOffset, PendingOffsets};

/// A topic's partition by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicPartition {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

impl TopicPartition {
    pub(crate) fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

/// What a group needs to know of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicFact {
    pub(crate) id: TopicId,
    pub(crate) partitions: i32,
}

/// Facts about the topics that somebody subscribes to and that exist.
pub(crate) type TopicFacts = BTreeMap<Arc<str>, TopicFact>;

/// The topics that exist.
pub(crate) trait Topics {
    fn fact(&self, name: &str) -> Option<TopicFact>;
}

impl Topics for TopicFacts {
    fn fact(&self, name: &str) -> Option<TopicFact> {
        self.get(name).copied()
    }
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Group {
    /// Counts the changes of membership, subscriptions and topics.
    pub(crate) epoch: i32,
    /// The last member epoch that was given.
    pub(crate) last_member_epoch: i32,
    pub(crate) assignor: Assignor,
    /// The subscribed topics when the target was made.
    pub(crate) facts: TopicFacts,
    pub(crate) members: BTreeMap<String, Member>,
    pub(crate) offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// Wall-clock time since when it has no members and nobody commits; 0 while it has members, or when that is not known.
    pub(crate) idle_since_ms: i64,
    /// Of transactions that have not ended, by producer.
    pub(crate) pending: BTreeMap<i64, PendingOffsets>,
    /// The membership in memory is ahead of what is stored: no answer may rest on it.
    pub(crate) unsaved: bool,
}

impl Group {
    /// "empty", "reconciling" or "stable". The state "assigning" of other servers does not exist: a target is made at once.
    pub(crate) fn state(&self) -> &'static str {
        match self.members.is_empty() {
            true => "empty",
            false if self.is_stable() => "stable",
            false => "reconciling",
        }
    }

    pub(crate) fn is_stable(&self) -> bool {
        self.members.values().all(Member::is_settled)
    }

    /// Who may hold `partition` now.
    #[cfg(test)]
    pub(crate) fn owner_of(&self, partition: &TopicPartition) -> Option<&str> {
        let owner = self.members.iter().find(|(_, member)| member.grants.contains_key(partition));
        owner.map(|(id, _)| id.as_str())
    }

    /// Notes the time when the last member has gone, or somebody has come.
    pub(crate) fn note_idle(&mut self, wall_ms: i64) {
        match (self.members.is_empty(), self.idle_since_ms) {
            (true, 0) => self.idle_since_ms = wall_ms,
            (false, _) => self.idle_since_ms = 0,
            _ => {}
        }
    }

    /// Whether nobody was there for so long that it is forgotten; -1 is never.
    pub(crate) fn is_forgotten(&self, wall_ms: i64, retention_ms: i64) -> bool {
        let idle = self.members.is_empty() && self.pending.is_empty() && self.idle_since_ms > 0;
        idle && retention_ms >= 0 && wall_ms.saturating_sub(self.idle_since_ms) > retention_ms
    }

    /// Everything that somebody may hold.
    pub(crate) fn held(&self) -> BTreeSet<&TopicPartition> {
        self.members.values().flat_map(|member| member.grants.keys()).collect()
    }
}

#[cfg(test)]
mod tests;
