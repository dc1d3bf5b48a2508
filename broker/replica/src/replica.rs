//! The state of one replica and the dispatch of events.

use crate::leader::Leader;
use crate::{Effect, Event, NodeId, Refusal};

/// One replica of one partition on this node.
#[derive(Debug)]
pub struct Replica {
    node: NodeId,
    high_watermark: i64,
    leader: Option<Leader>,
    failed: Option<String>,
}

impl Replica {
    /// A replica that does not lead yet, with the high watermark that is known to be safe.
    #[must_use]
    pub fn new(node: NodeId, high_watermark: i64) -> Self {
        Self { node, high_watermark, leader: None, failed: None }
    }

    /// Records below it are safe.
    #[must_use]
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Up to where a consumer may read here; `None` while this node does not lead or its watermark may still be behind
    /// what an earlier leader acknowledged.
    #[must_use]
    pub fn readable_end(&self) -> Option<i64> {
        let leader = self.leader.as_ref()?;
        (self.high_watermark >= leader.epoch_start()).then_some(self.high_watermark)
    }

    /// The epoch in which this node leads.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<i32> {
        self.leader.as_ref().map(Leader::epoch)
    }

    /// Why appends are refused for good.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Takes one fact and says what to do.
    pub fn step(&mut self, event: Event, now_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Lead { leadership, log_end, durable_end } => {
                self.resign(&mut effects);
                self.leader = Some(Leader::new(self.node, leadership, log_end, durable_end, now_ms));
            }
            Event::Resign => self.resign(&mut effects),
            Event::Propose { token } => match self.refusal() {
                Some(refusal) => effects.push(Effect::Refuse { token, refusal }),
                None => {
                    let leader_epoch = self.leader_epoch().unwrap_or(-1);
                    effects.push(Effect::Append { token, leader_epoch });
                }
            },
            Event::Failed { reason } => {
                self.failed = Some(reason.clone());
                if let Some(leader) = &mut self.leader {
                    leader.refuse_waiting(&Refusal::Failed(reason), &mut effects);
                }
            }
            event => {
                if let Some(leader) = &mut self.leader {
                    leader.step(event, self.high_watermark, now_ms, &mut effects);
                }
            }
        }
        self.advance(&mut effects);
        effects
    }

    fn refusal(&self) -> Option<Refusal> {
        if let Some(reason) = &self.failed {
            return Some(Refusal::Failed(reason.clone()));
        }
        self.leader.as_ref().map_or(Some(Refusal::NotLeader), Leader::append_refusal)
    }

    fn resign(&mut self, effects: &mut Vec<Effect>) {
        if let Some(mut leader) = self.leader.take() {
            leader.refuse_waiting(&Refusal::NotLeader, effects);
        }
    }

    fn advance(&mut self, effects: &mut Vec<Effect>) {
        let Some(leader) = &mut self.leader else { return };
        if let Some(to) = leader.safe_end().filter(|to| *to > self.high_watermark) {
            self.high_watermark = to;
            effects.push(Effect::AdvanceHighWatermark { to });
        }
        leader.acknowledge_below(self.high_watermark, effects);
    }
}
