//! A member of a group: what it owns, what it must let go, what it begins. Pure.
//!
//! Invariant: a partition that the broker takes back stays in `owned` until the consumer has stopped handing it out and said
//! so with [`Member::let_go`]; only then does a heartbeat confirm it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sunseo_proto::v1;

use super::book::Key;

/// Heartbeats until the broker has said how often.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);

/// What an answer to a heartbeat changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Partitions that begin, each with the ticket that [`Member::begun`] wants.
    pub start: Vec<(Key, u64)>,
    /// Partitions that must not be handed out any more.
    pub stop: Vec<Key>,
}

/// Who the member is and what it asked for.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub group: String,
    pub member_id: String,
    pub instance_id: String,
    pub topics: Vec<String>,
    pub assignor: String,
    pub session_timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Member {
    identity: Identity,
    epoch: i32,
    interval: Duration,
    /// With the ticket that each was given: no two times of owning have the same.
    owned: BTreeMap<Key, u64>,
    revoking: BTreeSet<Key>,
    /// Owned, but where to read from is not known yet.
    starting: BTreeSet<Key>,
    next_ticket: u64,
    /// Left by itself because nobody polls.
    pub(super) away: bool,
}

impl Member {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            epoch: 0,
            interval: FIRST_INTERVAL,
            owned: BTreeMap::new(),
            revoking: BTreeSet::new(),
            starting: BTreeSet::new(),
            next_ticket: 0,
            away: false,
        }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Other topics from now on; says whether that changes anything.
    pub(super) fn subscribe(&mut self, topics: Vec<String>) -> bool {
        // an empty list would mean "as before": who wants nothing more keeps the last subscription until something fits
        let changed = !topics.is_empty() && topics != self.identity.topics;
        if changed {
            self.identity.topics = topics;
        }
        changed
    }

    /// Whether there is any topic to join for.
    pub(super) fn is_ready(&self) -> bool {
        !self.identity.topics.is_empty()
    }

    pub(super) fn is_revoking(&self) -> bool {
        !self.revoking.is_empty()
    }

    /// The heartbeat that says how things stand.
    pub(super) fn heartbeat(&self) -> v1::GroupHeartbeatRequest {
        let owned = self
            .owned
            .keys()
            .map(|(topic, partition)| v1::TopicPartition { topic: topic.to_string(), partition: *partition });
        let identity = &self.identity;
        v1::GroupHeartbeatRequest {
            group: identity.group.clone(),
            member_id: identity.member_id.clone(),
            member_epoch: self.epoch,
            instance_id: identity.instance_id.clone(),
            topics: identity.topics.clone(),
            owned: owned.collect(),
            session_timeout_ms: u32::try_from(identity.session_timeout.as_millis()).unwrap_or(u32::MAX),
            assignor: identity.assignor.clone(),
        }
    }

    /// The heartbeat that leaves the group.
    pub(super) fn goodbye(&self) -> v1::GroupHeartbeatRequest {
        v1::GroupHeartbeatRequest { member_epoch: -1, owned: Vec::new(), ..self.heartbeat() }
    }

    /// Takes the answer to a heartbeat.
    pub(super) fn answered(&mut self, answer: v1::GroupHeartbeatResponse) -> Change {
        if !answer.member_id.is_empty() {
            self.identity.member_id = answer.member_id;
        }
        self.epoch = answer.member_epoch;
        if answer.heartbeat_interval_ms > 0 {
            self.interval = Duration::from_millis(answer.heartbeat_interval_ms.into());
        }
        let target: BTreeSet<Key> =
            answer.assignment.into_iter().map(|tp| (Arc::from(tp.topic), tp.partition)).collect();
        let mut change = Change::default();
        for key in self.owned.keys().filter(|key| !target.contains(key)) {
            self.starting.remove(key);
            if self.revoking.insert(key.clone()) {
                change.stop.push(key.clone());
            }
        }
        for key in target {
            if self.owned.contains_key(&key) {
                continue;
            }
            self.next_ticket += 1;
            self.owned.insert(key.clone(), self.next_ticket);
            self.starting.insert(key.clone());
            change.start.push((key, self.next_ticket));
        }
        change
    }

    /// The ticket of the present time of owning; `None` when the partition is not owned.
    pub(super) fn ticket(&self, key: &Key) -> Option<u64> {
        self.owned.get(key).copied()
    }

    /// Whether a partition that was to begin still is.
    pub(super) fn is_starting(&self, key: &Key, ticket: u64) -> bool {
        self.starting.contains(key) && self.ticket(key) == Some(ticket)
    }

    /// Whether a partition that was to begin still is; asked once, when its offset is known.
    pub(super) fn begun(&mut self, key: &Key, ticket: u64) -> bool {
        self.is_starting(key, ticket) && self.starting.remove(key)
    }

    /// Partitions to be let go.
    pub(super) fn revoking(&self) -> Vec<Key> {
        self.revoking.iter().cloned().collect()
    }

    /// These are no longer handed out: the next heartbeat confirms it.
    pub(super) fn let_go(&mut self, keys: &[Key]) {
        for key in keys {
            self.revoking.remove(key);
            self.owned.remove(key);
        }
    }

    /// The broker no longer counts on this member: it owns nothing and joins anew.
    pub(super) fn lost(&mut self) -> Vec<Key> {
        self.epoch = 0;
        self.revoking.clear();
        self.starting.clear();
        std::mem::take(&mut self.owned).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member::new(Identity {
            group: "g".to_owned(),
            member_id: "m".to_owned(),
            instance_id: String::new(),
            topics: vec!["orders".to_owned()],
            assignor: String::new(),
            session_timeout: Duration::ZERO,
        })
    }

    fn answer(epoch: i32, partitions: &[i32]) -> v1::GroupHeartbeatResponse {
        let assignment = partitions
            .iter()
            .map(|&partition| v1::TopicPartition { topic: "orders".to_owned(), partition })
            .collect();
        v1::GroupHeartbeatResponse { member_epoch: epoch, assignment, ..Default::default() }
    }

    fn key(partition: i32) -> Key {
        (Arc::from("orders"), partition)
    }

    fn owned(member: &Member) -> Vec<i32> {
        member.heartbeat().owned.iter().map(|tp| tp.partition).collect()
    }

    #[test]
    fn a_partition_is_confirmed_only_after_it_is_let_go() {
        let mut member = member();
        assert_eq!(member.answered(answer(1, &[0, 1])).start.len(), 2);
        let change = member.answered(answer(2, &[0]));
        assert_eq!((change.start, change.stop), (vec![], vec![key(1)]));
        assert_eq!(owned(&member), [0, 1]);
        assert_eq!(member.answered(answer(2, &[0])), Change::default(), "told once");
        member.let_go(&[key(1)]);
        assert_eq!(owned(&member), [0]);
    }

    #[test]
    fn a_partition_that_comes_back_begins_again_with_a_new_ticket() {
        let mut member = member();
        let first = member.answered(answer(1, &[0])).start[0].1;
        member.answered(answer(2, &[]));
        member.let_go(&[key(0)]);
        let second = member.answered(answer(3, &[0])).start[0].1;
        assert!(!member.begun(&key(0), first));
        assert!(member.begun(&key(0), second));
        assert!(!member.begun(&key(0), second), "once");
    }

    #[test]
    fn a_fenced_member_owns_nothing_and_joins_anew() {
        let mut member = member();
        member.answered(answer(5, &[0, 1]));
        assert_eq!(member.lost(), [key(0), key(1)]);
        assert_eq!((member.epoch(), owned(&member)), (0, vec![]));
    }
}
