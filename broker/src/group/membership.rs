//! Joining, heartbeats, leaving, sessions that end, and the way to the target.

use std::collections::BTreeSet;
use std::sync::Arc;

use sunseo_proto::error::{Error, ErrorCode, Result};

use super::assignor::Candidate;
use super::{Assignor, Group, Member, TopicFacts, TopicPartition, Topics};
use crate::GroupConfig;

/// Member epoch of a request to join.
pub(crate) const JOIN_EPOCH: i32 = 0;
/// Member epoch of a request to leave.
pub(crate) const LEAVE_EPOCH: i32 = -1;
/// Topics of one member.
pub(crate) const SUBSCRIPTION_TOPICS_MAX: usize = 1_000;

/// A heartbeat that was checked for form.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) member_id: String,
    pub(crate) member_epoch: i32,
    pub(crate) instance_id: String,
    /// Empty: as before.
    pub(crate) topics: BTreeSet<Arc<str>>,
    pub(crate) owned: BTreeSet<TopicPartition>,
    /// 0: the node's default.
    pub(crate) session_timeout_ms: u32,
    /// Empty: the group's.
    pub(crate) assignor: String,
}

/// What a member is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) member_epoch: i32,
    pub(crate) heartbeat_interval_ms: u32,
    pub(crate) assignment: BTreeSet<TopicPartition>,
}

/// What membership is decided with.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) topics: &'a dyn Topics,
    pub(crate) config: &'a GroupConfig,
    pub(crate) now_ms: i64,
}

impl Group {
    /// Takes one heartbeat. A refusal changes nothing; whether the membership changed is in [`Group::unsaved`].
    pub(crate) fn heartbeat(&mut self, beat: &Heartbeat, facts: Facts<'_>) -> Result<Told> {
        if beat.topics.len() > SUBSCRIPTION_TOPICS_MAX {
            let have = beat.topics.len();
            let message = format!(
                "a member subscribes to {have} topics, at most {SUBSCRIPTION_TOPICS_MAX} are allowed"
            );
            return Err(Error::invalid("topics", message));
        }
        match beat.member_epoch {
            LEAVE_EPOCH => return Ok(self.leave(&beat.member_id, facts)),
            JOIN_EPOCH => self.join(beat, facts)?,
            _ => self.check_epoch(beat)?,
        }
        let Some(member) = self.members.get_mut(&beat.member_id) else { return Err(unknown_member(beat)) };
        member.deadline_ms = facts.now_ms + i64::from(member.session_timeout_ms);
        let resubscribed = !beat.topics.is_empty() && member.topics != beat.topics;
        if resubscribed {
            member.topics.clone_from(&beat.topics);
        }
        let knows_its_epoch = beat.member_epoch == member.epoch;
        self.unsaved |= knows_its_epoch && member.confirm(&beat.owned);
        if resubscribed {
            self.retarget(facts.topics);
        }
        // a member that did not see its last answer is told the same again, so that its epoch stays within reach
        if knows_its_epoch || beat.member_epoch == JOIN_EPOCH {
            self.reconcile(&beat.member_id);
        }
        Ok(self.told(&beat.member_id, facts.config))
    }

    /// Removes members whose session ended.
    pub(crate) fn expire(&mut self, facts: Facts<'_>) -> Vec<String> {
        let over = self.members.iter().filter(|(_, member)| member.deadline_ms < facts.now_ms);
        let over: Vec<String> = over.map(|(id, _)| id.clone()).collect();
        for id in &over {
            self.members.remove(id);
        }
        if !over.is_empty() {
            self.retarget(facts.topics);
        }
        over
    }

    /// Makes a new target when a subscribed topic appeared, grew or went.
    pub(crate) fn refresh(&mut self, topics: &dyn Topics) {
        if !self.members.is_empty() && self.subscribed(topics) != self.facts {
            self.retarget(topics);
        }
    }

    /// Begins a fresh session for every member: the node was away, not they.
    pub(crate) fn restart_sessions(&mut self, now_ms: i64) {
        for member in self.members.values_mut() {
            member.deadline_ms = now_ms + i64::from(member.session_timeout_ms);
        }
    }

    /// Adds to every session the time in which the node could hear nobody.
    pub(crate) fn extend_sessions(&mut self, ms: i64) {
        for member in self.members.values_mut() {
            member.deadline_ms = member.deadline_ms.saturating_add(ms);
        }
    }

    fn join(&mut self, beat: &Heartbeat, facts: Facts<'_>) -> Result<()> {
        let assignor = self.check_join(beat, facts.config)?;
        if let Some(known) = self.members.get_mut(&beat.member_id) {
            // it keeps its place, but what it sent before it joined again is about an earlier time of holding it
            self.last_member_epoch = after(self.last_member_epoch);
            known.renew(self.last_member_epoch);
            self.unsaved = true;
            return Ok(());
        }
        let former = self.static_member(&beat.instance_id);
        let former = former.and_then(|id| self.members.remove_entry(&id));
        let mut member = match former {
            Some((id, mut former)) => {
                former.replace(id);
                former
            }
            None => Member { instance_id: beat.instance_id.clone(), ..Member::default() },
        };
        member.session_timeout_ms = match beat.session_timeout_ms {
            0 => facts.config.session_timeout_ms,
            asked => asked,
        };
        member.topics.clone_from(&beat.topics);
        member.previous_epoch = JOIN_EPOCH;
        self.last_member_epoch = after(self.last_member_epoch);
        member.epoch = self.last_member_epoch;
        self.assignor = assignor;
        self.members.insert(beat.member_id.clone(), member);
        self.retarget(facts.topics);
        Ok(())
    }

    fn check_join(&self, beat: &Heartbeat, config: &GroupConfig) -> Result<Assignor> {
        self.check_replaced(&beat.member_id)?;
        if beat.topics.is_empty() {
            return Err(Error::invalid(
                "topics",
                "a joining member subscribes to no topic: name at least one",
            ));
        }
        let (asked, min, max) =
            (beat.session_timeout_ms, config.session_timeout_ms_min, config.session_timeout_ms_max);
        if asked != 0 && !(min..=max).contains(&asked) {
            let message = format!("session time-out {asked} ms is outside {min} to {max} ms");
            return Err(Error::invalid("session_timeout_ms", message));
        }
        let takes_over = self.static_member(&beat.instance_id).is_some();
        let known = self.members.contains_key(&beat.member_id) || takes_over;
        if !known && self.members.len() >= config.members_max {
            let message = format!(
                "the group has {} members, at most {} are allowed: use fewer members or another group",
                self.members.len(),
                config.members_max
            );
            return Err(Error::new(ErrorCode::Overloaded, message));
        }
        if self.members.is_empty() {
            return Assignor::parse(&beat.assignor);
        }
        if !beat.assignor.is_empty() && Assignor::parse(&beat.assignor)? != self.assignor {
            let ours = self.assignor.as_str();
            let message =
                format!("the group assigns by \"{ours}\": join with the same, or when the group is empty");
            return Err(Error::invalid("assignor", message));
        }
        Ok(self.assignor)
    }

    fn check_epoch(&self, beat: &Heartbeat) -> Result<()> {
        self.check_replaced(&beat.member_id)?;
        let member = self.members.get(&beat.member_id).ok_or_else(|| unknown_member(beat))?;
        check_member_epoch(member, beat.member_epoch)
    }

    /// Refuses a process whose place as a static member another one has taken: it must not take it back.
    pub(crate) fn check_replaced(&self, member_id: &str) -> Result<()> {
        if self.members.contains_key(member_id) {
            return Ok(());
        }
        let replaced = |member: &&Member| member.replaced.iter().any(|id| id == member_id);
        let Some(member) = self.members.values().find(replaced) else { return Ok(()) };
        let message = format!(
            "another process has joined as instance \"{}\" and has this one's place: stop one of them, or give each its own instance id",
            member.instance_id
        );
        Err(Error::new(ErrorCode::FencedInstance, message).at("instance_id"))
    }

    fn static_member(&self, instance_id: &str) -> Option<String> {
        let named =
            self.members.iter().find(|(_, m)| !instance_id.is_empty() && m.instance_id == instance_id);
        named.map(|(id, _)| id.clone())
    }

    /// A static member's place is kept until its session ends, so that a restart moves nothing.
    fn leave(&mut self, member_id: &str, facts: Facts<'_>) -> Told {
        let is_static = self.members.get(member_id).is_some_and(|member| !member.instance_id.is_empty());
        if !is_static && self.members.remove(member_id).is_some() {
            self.retarget(facts.topics);
        }
        Told { member_epoch: LEAVE_EPOCH, heartbeat_interval_ms: 0, assignment: BTreeSet::new() }
    }

    fn subscribed(&self, topics: &dyn Topics) -> TopicFacts {
        let wanted: BTreeSet<&Arc<str>> = self.members.values().flat_map(|member| &member.topics).collect();
        wanted.into_iter().filter_map(|topic| Some((topic.clone(), topics.fact(topic)?))).collect()
    }

    fn retarget(&mut self, topics: &dyn Topics) {
        self.epoch = after(self.epoch);
        self.unsaved = true;
        self.facts = self.subscribed(topics);
        self.revoke_gone(topics);
        let holds: Vec<BTreeSet<TopicPartition>> =
            self.members.values().map(|member| member.assigned().cloned().collect()).collect();
        let mut order: Vec<_> = self.members.iter().zip(&holds).collect();
        // by instance first: a static member that comes back under another id gets the same range
        order.sort_by_key(|((id, member), _)| (&member.instance_id, *id));
        let candidates: Vec<Candidate<'_>> = order
            .iter()
            .map(|((id, member), holds)| Candidate { id, topics: &member.topics, holds })
            .collect();
        let mut target = self.assignor.assign(&candidates, &self.facts);
        for (id, member) in &mut self.members {
            member.target = target.remove(id).unwrap_or_default();
        }
    }

    /// Tells everybody to let go of a topic that was deleted, whether or not another one has its name by now.
    fn revoke_gone(&mut self, topics: &dyn Topics) {
        for member in self.members.values_mut() {
            let gone = |partition: &TopicPartition, grant: &super::Grant| {
                topics.fact(&partition.topic).is_none_or(|fact| fact.id != grant.topic_id)
            };
            if member.revoke(gone) {
                self.last_member_epoch = after(self.last_member_epoch);
                member.advance(self.last_member_epoch);
            }
        }
    }

    fn reconcile(&mut self, member_id: &str) {
        if self.members.get(member_id).is_none_or(Member::is_settled) {
            return;
        }
        let Some(mut member) = self.members.remove(member_id) else { return };
        let (taken, next) = (self.held(), after(self.last_member_epoch));
        let free = |partition: &TopicPartition| match taken.contains(partition) {
            true => None,
            false => self.facts.get(&partition.topic).map(|fact| fact.id),
        };
        if member.reconcile(next, free) {
            self.unsaved = true;
            self.last_member_epoch = next;
            member.advance(next);
        }
        self.members.insert(member_id.to_owned(), member);
    }

    fn told(&self, member_id: &str, config: &GroupConfig) -> Told {
        let Some(member) = self.members.get(member_id) else {
            return Told { member_epoch: LEAVE_EPOCH, heartbeat_interval_ms: 0, assignment: BTreeSet::new() };
        };
        let calm = config.heartbeat_interval_ms.min(member.session_timeout_ms / 3);
        let interval = if self.is_stable() { calm } else { calm.min(config.rebalance_heartbeat_interval_ms) };
        Told {
            member_epoch: member.epoch,
            heartbeat_interval_ms: interval,
            assignment: member.assigned().cloned().collect(),
        }
    }
}

/// The next epoch. The highest one stays: after it would come those by which members join and leave.
fn after(epoch: i32) -> i32 {
    epoch.saturating_add(1)
}

/// Whether `epoch` is the member's present or, because an answer may be lost, its previous one.
pub(crate) fn check_member_epoch(member: &Member, epoch: i32) -> Result<()> {
    if epoch == member.epoch || (epoch == member.previous_epoch && epoch != JOIN_EPOCH) {
        return Ok(());
    }
    let message = format!(
        "member epoch {epoch} is not the current one, {}: let go of everything and join again with epoch 0",
        member.epoch
    );
    Err(Error::new(ErrorCode::FencedMember, message).at("member_epoch"))
}

fn unknown_member(beat: &Heartbeat) -> Error {
    let message = format!(
        "member \"{}\" is not in the group, its session ended or it left: join again with epoch 0",
        beat.member_id
    );
    Error::new(ErrorCode::UnknownMember, message).at("member_id")
}
