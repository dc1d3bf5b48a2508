//! One member of a group.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::TopicPartition;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Member {
    /// Name of a static member, empty for others.
    pub(crate) instance_id: String,
    pub(crate) epoch: i32,
    /// The epoch before this one: an answer may have been lost, so it is still understood.
    pub(crate) previous_epoch: i32,
    pub(crate) topics: BTreeSet<Arc<str>>,
    pub(crate) session_timeout_ms: u32,
    /// What it was told to hold.
    pub(crate) assigned: BTreeSet<TopicPartition>,
    /// What it was told to let go and may still hold.
    pub(crate) revoking: BTreeSet<TopicPartition>,
    /// What it should hold in the end.
    pub(crate) target: BTreeSet<TopicPartition>,
    /// When its session ends; not stored, a restart of the node begins a fresh session.
    pub(crate) deadline_ms: i64,
}

impl Member {
    pub(crate) fn may_hold(&self, partition: &TopicPartition) -> bool {
        self.assigned.contains(partition) || self.revoking.contains(partition)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.revoking.is_empty() && self.assigned == self.target
    }

    /// Takes the epoch's holder at its word: what it does not list is free.
    pub(crate) fn confirm(&mut self, owned: &BTreeSet<TopicPartition>) -> bool {
        let before = self.revoking.len();
        self.revoking.retain(|partition| owned.contains(partition));
        self.revoking.len() != before
    }

    /// Moves towards the target: everything that is too much is to be let go, everything missing that is `free` is given. Says whether
    /// that changed anything; then the member needs a new epoch.
    pub(crate) fn reconcile(&mut self, free: impl Fn(&TopicPartition) -> bool) -> bool {
        let surplus: Vec<_> = self.assigned.difference(&self.target).cloned().collect();
        let missing: Vec<_> = self.target.difference(&self.assigned).filter(|p| free(p)).cloned().collect();
        for partition in &surplus {
            self.assigned.remove(partition);
        }
        let changed = !surplus.is_empty() || !missing.is_empty();
        self.revoking.extend(surplus);
        self.assigned.extend(missing);
        changed
    }
}
