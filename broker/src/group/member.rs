//! One member of a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sunseo_proto::TopicId;

use super::TopicPartition;
use super::membership::JOIN_EPOCH;

/// A partition that a member was told to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The topic's identity when it was given: a later topic of the same name is another one.
    pub(crate) topic_id: TopicId,
    /// Member epoch in which it was given. What the member sent in an earlier one is about an earlier time of holding it.
    pub(crate) since: i32,
    /// The member was told to let it go, and may still hold it.
    pub(crate) revoked: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Member {
    /// Name of a static member, empty for others.
    pub(crate) instance_id: String,
    /// Ids of processes whose place a later one with the same instance id has taken, the newest last.
    pub(crate) replaced: Vec<String>,
    pub(crate) epoch: i32,
    /// The epoch before this one: an answer may have been lost, so it is still understood.
    pub(crate) previous_epoch: i32,
    pub(crate) topics: BTreeSet<Arc<str>>,
    pub(crate) session_timeout_ms: u32,
    /// What it may hold.
    pub(crate) grants: BTreeMap<TopicPartition, Grant>,
    /// What it should hold in the end.
    pub(crate) target: BTreeSet<TopicPartition>,
    /// When its session ends; not stored, a restart of the node begins a fresh session.
    pub(crate) deadline_ms: i64,
}

/// Replaced processes of a static member that are still told so; older ones are unknown members.
pub(crate) const REPLACED_MAX: usize = 8;

impl Member {
    /// Another process takes its place.
    pub(crate) fn replace(&mut self, member_id: String) {
        if self.replaced.len() == REPLACED_MAX {
            self.replaced.remove(0);
        }
        self.replaced.push(member_id);
    }

    /// What it was told to hold.
    pub(crate) fn assigned(&self) -> impl Iterator<Item = &TopicPartition> {
        self.grants.iter().filter(|(_, grant)| !grant.revoked).map(|(partition, _)| partition)
    }

    /// Gives it an epoch; the one before stays within reach.
    pub(crate) fn advance(&mut self, epoch: i32) {
        self.previous_epoch = std::mem::replace(&mut self.epoch, epoch);
    }

    /// Gives it an epoch and everything it holds anew. No epoch before is understood any more: who still works in one must let go first.
    pub(crate) fn renew(&mut self, epoch: i32) {
        (self.previous_epoch, self.epoch) = (JOIN_EPOCH, epoch);
        self.grants.values_mut().for_each(|grant| grant.since = epoch);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.grants.values().all(|grant| !grant.revoked) && self.assigned().eq(&self.target)
    }

    /// Takes the epoch's holder at its word: what it does not list and was told to let go is free.
    pub(crate) fn confirm(&mut self, owned: &BTreeSet<TopicPartition>) -> bool {
        let before = self.grants.len();
        self.grants.retain(|partition, grant| !grant.revoked || owned.contains(partition));
        self.grants.len() != before
    }

    /// Tells it to let go of what `surplus` says. Says whether there was any; then it needs a new epoch.
    pub(crate) fn revoke(&mut self, surplus: impl Fn(&TopicPartition, &Grant) -> bool) -> bool {
        let mut changed = false;
        for (partition, grant) in &mut self.grants {
            if !grant.revoked && surplus(partition, grant) {
                grant.revoked = true;
                changed = true;
            }
        }
        changed
    }

    /// Moves towards the target: everything that is too much is to be let go, everything missing that is `free` is given, from the
    /// epoch `next` on. Says whether that changed anything; then `next` is its new epoch.
    pub(crate) fn reconcile(&mut self, next: i32, free: impl Fn(&TopicPartition) -> Option<TopicId>) -> bool {
        let target = std::mem::take(&mut self.target);
        let mut changed = self.revoke(|partition, _| !target.contains(partition));
        for partition in &target {
            if !self.grants.contains_key(partition)
                && let Some(topic_id) = free(partition)
            {
                self.grants.insert(partition.clone(), Grant { topic_id, since: next, revoked: false });
                changed = true;
            }
        }
        self.target = target;
        changed
    }
}
