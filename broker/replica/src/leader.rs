//! What a leader knows of itself and its followers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{Effect, Event, FollowerReport, LAG_MAX_MS, Leadership, NodeId, Refusal, Token};

#[derive(Debug)]
struct Follower {
    log_end: i64,
    durable_end: i64,
    caught_up_ms: i64,
}

#[derive(Debug)]
pub(crate) struct Leader {
    node: NodeId,
    leadership: Leadership,
    /// First offset of this epoch: the end of the log when it began.
    epoch_start: i64,
    log_end: i64,
    durable_end: i64,
    followers: BTreeMap<NodeId, Follower>,
    /// The in-sync set that was proposed and is not committed.
    proposed: Option<BTreeSet<NodeId>>,
    /// Appends that wait for the watermark, by last offset.
    waiting: VecDeque<(i64, Token)>,
}

impl Leader {
    pub(crate) fn new(
        node: NodeId,
        leadership: Leadership,
        log_end: i64,
        durable_end: i64,
        now_ms: i64,
    ) -> Self {
        let followers = leadership.replicas.keys().filter(|other| **other != node);
        let fresh = |_| Follower { log_end: -1, durable_end: -1, caught_up_ms: now_ms };
        let followers = followers.map(|other| (*other, fresh(other))).collect();
        Self {
            node,
            leadership,
            epoch_start: log_end,
            log_end,
            durable_end,
            followers,
            proposed: None,
            waiting: VecDeque::new(),
        }
    }

    pub(crate) fn epoch(&self) -> i32 {
        self.leadership.leader_epoch
    }

    pub(crate) fn epoch_start(&self) -> i64 {
        self.epoch_start
    }

    pub(crate) fn append_refusal(&self) -> Option<Refusal> {
        let (have, need) = (self.leadership.in_sync.len(), self.leadership.min_in_sync);
        (have < need).then_some(Refusal::NotEnoughInSync { have, need })
    }

    pub(crate) fn step(&mut self, event: Event, high_watermark: i64, now_ms: i64, effects: &mut Vec<Effect>) {
        match event {
            Event::Appended { token, last_offset } => self.appended(token, last_offset),
            Event::Durable { end } => {
                self.durable_end = self.durable_end.max(end);
                self.log_end = self.log_end.max(end);
            }
            Event::FollowerFetched(report) => match self.fetch_refusal(&report) {
                Some(refusal) => effects.push(Effect::RefuseFetch { node: report.node, refusal }),
                None => self.follower_fetched(report, high_watermark, now_ms, effects),
            },
            Event::InSyncCommitted { partition_epoch, in_sync }
                if partition_epoch > self.leadership.partition_epoch =>
            {
                self.leadership.partition_epoch = partition_epoch;
                self.leadership.in_sync = in_sync;
                self.proposed = None;
            }
            Event::Tick => self.drop_laggards(now_ms, effects),
            // the rest is handled before a leader is asked, or is older than what is known
            _ => {}
        }
    }

    fn appended(&mut self, token: Token, last_offset: i64) {
        // a repeated append whose offset is forgotten was made before everything that is in the log now
        let last_offset = if last_offset < 0 { self.log_end - 1 } else { last_offset };
        self.log_end = self.log_end.max(last_offset + 1);
        let at = self.waiting.partition_point(|(offset, _)| *offset <= last_offset);
        self.waiting.insert(at, (last_offset, token));
    }

    fn fetch_refusal(&self, report: &FollowerReport) -> Option<Refusal> {
        let node = report.node;
        let Some(&ours) = self.leadership.replicas.get(&node).filter(|_| self.followers.contains_key(&node))
        else {
            return Some(Refusal::NotAReplica(node));
        };
        if report.broker_epoch != ours {
            return Some(Refusal::BrokerEpoch { node, theirs: report.broker_epoch, ours });
        }
        let ours = self.leadership.leader_epoch;
        (report.leader_epoch != ours).then_some(Refusal::Epoch { theirs: report.leader_epoch, ours })
    }

    fn follower_fetched(
        &mut self,
        report: FollowerReport,
        high_watermark: i64,
        now_ms: i64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(follower) = self.followers.get_mut(&report.node) else { return };
        follower.log_end = report.log_end;
        follower.durable_end = report.durable_end.min(report.log_end);
        if follower.log_end >= self.log_end {
            follower.caught_up_ms = now_ms;
        }
        let may_join = follower.durable_end >= high_watermark.max(self.epoch_start);
        if may_join && self.proposed.is_none() && !self.leadership.in_sync.contains(&report.node) {
            let mut in_sync = self.leadership.in_sync.clone();
            in_sync.insert(report.node);
            self.propose(in_sync, effects);
        }
    }

    fn drop_laggards(&mut self, now_ms: i64, effects: &mut Vec<Effect>) {
        if self.proposed.is_some() {
            return;
        }
        let level = |node: &NodeId| {
            self.followers.get(node).is_none_or(|f| {
                f.log_end >= self.log_end || now_ms.saturating_sub(f.caught_up_ms) <= LAG_MAX_MS
            })
        };
        let in_sync: BTreeSet<NodeId> = self.leadership.in_sync.iter().copied().filter(level).collect();
        if in_sync.len() < self.leadership.in_sync.len() {
            self.propose(in_sync, effects);
        }
    }

    fn propose(&mut self, in_sync: BTreeSet<NodeId>, effects: &mut Vec<Effect>) {
        self.proposed = Some(in_sync.clone());
        effects.push(Effect::ProposeInSync { partition_epoch: self.leadership.partition_epoch, in_sync });
    }

    /// The end below which every member of the maximal in-sync set is on disk; `None` while too few are in sync.
    pub(crate) fn safe_end(&self) -> Option<i64> {
        if self.append_refusal().is_some() {
            return None;
        }
        let maximal = self.leadership.in_sync.iter().chain(self.proposed.iter().flatten());
        let ends = maximal.map(|node| match self.followers.get(node) {
            Some(follower) => follower.durable_end,
            None if *node == self.node => self.durable_end,
            None => -1,
        });
        ends.chain([self.durable_end]).min()
    }

    pub(crate) fn acknowledge_below(&mut self, high_watermark: i64, effects: &mut Vec<Effect>) {
        if self.append_refusal().is_some() {
            return;
        }
        while self.waiting.front().is_some_and(|(last_offset, _)| *last_offset < high_watermark) {
            let Some((_, token)) = self.waiting.pop_front() else { return };
            effects.push(Effect::Acknowledge { token });
        }
    }

    pub(crate) fn refuse_waiting(&mut self, refusal: &Refusal, effects: &mut Vec<Effect>) {
        let refuse = |(_, token)| Effect::Refuse { token, refusal: refusal.clone() };
        effects.extend(self.waiting.drain(..).map(refuse));
    }
}

#[cfg(test)]
mod tests;
