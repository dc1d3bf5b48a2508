//! What goes into the core and what comes out: two closed lists.

use std::collections::{BTreeMap, BTreeSet};

use crate::NodeId;

/// The owner's name for one append; unique while it is not answered.
pub type Token = u64;

/// What the cluster's metadata says about a partition that this node leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    pub leader_epoch: i32,
    /// Counts the changes of the in-sync set; a proposal names the one it started from.
    pub partition_epoch: i32,
    /// Every replica with the epoch under which its node is registered.
    pub replicas: BTreeMap<NodeId, i64>,
    pub in_sync: BTreeSet<NodeId>,
    /// Members the in-sync set must have for appends to be accepted.
    pub min_in_sync: usize,
}

/// How far a follower is, as its fetch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerReport {
    pub node: NodeId,
    pub broker_epoch: i64,
    pub leader_epoch: i32,
    /// Offset after its last record.
    pub log_end: i64,
    /// Offset after its last record that is on disk.
    pub durable_end: i64,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node leads from now on; its log ends at `log_end`, on disk at `durable_end`.
    Lead {
        leadership: Leadership,
        log_end: i64,
        durable_end: i64,
    },
    /// Another node leads from now on.
    Resign,
    /// Somebody wants to append.
    Propose {
        token: Token,
    },
    /// The append is in the log, maybe not on disk. A repeated append names the offset at which it was found.
    Appended {
        token: Token,
        last_offset: i64,
    },
    /// The log would not take the append; its answer is given by the owner.
    Rejected {
        token: Token,
    },
    /// The local log is on disk up to `end`.
    Durable {
        end: i64,
    },
    FollowerFetched(FollowerReport),
    /// The metadata took a proposal, or changed by itself.
    InSyncCommitted {
        partition_epoch: i32,
        in_sync: BTreeSet<NodeId>,
    },
    /// The local log stopped: nothing is appended any more.
    Failed {
        reason: String,
    },
    /// Time passed.
    Tick,
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("this node does not lead the partition: refresh the metadata")]
    NotLeader,
    #[error("leader epoch {theirs} is not the current one, {ours}: refresh the metadata")]
    Epoch { theirs: i32, ours: i32 },
    #[error("{have} replicas are in sync and {need} are needed: wait until more replicas are back")]
    NotEnoughInSync { have: usize, need: usize },
    #[error("the partition's log stopped: {0}")]
    Failed(String),
    #[error("node {0} is no replica of this partition")]
    NotAReplica(NodeId),
    #[error("node {node} reports under registration {theirs}, {ours} is the current one")]
    BrokerEpoch { node: NodeId, theirs: i64, ours: i64 },
}

/// What the owner must do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append and stamp the records with this epoch; then tell [`Event::Appended`] or [`Event::Rejected`].
    Append { token: Token, leader_epoch: i32 },
    /// Nothing was appended, or (after an append) the outcome is not known.
    Refuse { token: Token, refusal: Refusal },
    /// Readers may see records below `to`.
    AdvanceHighWatermark { to: i64 },
    /// Answer the append: it is safe.
    Acknowledge { token: Token },
    /// Ask the metadata for another in-sync set, if `partition_epoch` is still the current one.
    ProposeInSync { partition_epoch: i32, in_sync: BTreeSet<NodeId> },
    /// Answer a follower's fetch with this refusal.
    RefuseFetch { node: NodeId, refusal: Refusal },
}
