//! What clients did and saw: operations with the moments at which they began and ended.
//!
//! Values are unique over a whole run, so a value says who sent it. Moments are one counter of the run: an operation that ended at a smaller
//! moment than another began came before it. An operation without an end was cut off; its effect is unknown.

use std::collections::BTreeMap;

/// A record's content, unique in its run.
pub type Value = u64;
/// A count of what happened so far.
pub type Moment = u64;

/// A partition of one life of a topic: a topic that is deleted and made again gets another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub topic: u32,
    pub partition: i32,
}

/// One operation of one process. A process does one thing after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    pub process: u32,
    pub start: Moment,
    pub end: Option<Moment>,
    pub act: Act,
}

/// What is known of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It certainly had no effect.
    Refused,
    Unknown,
}

/// What became of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged; the offset may be unknown when the broker has forgotten it.
    Acked(Option<i64>),
    Refused,
    Unknown,
}

/// One record of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub place: Place,
    pub value: Value,
    /// Of compacted topics; one process alone writes a key.
    pub key: Option<u64>,
    /// Deletes its key. In the log it has its value in a header.
    pub tombstone: bool,
    /// What it was made from, by somebody who does each record's work exactly once.
    pub source: Option<Value>,
    pub timestamp_ms: i64,
    pub fate: Fate,
}

/// One record that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    pub place: Place,
    pub offset: i64,
    pub value: Value,
}

/// Which transactions a reader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    Committed,
    Uncommitted,
}

/// A time during which a member owns a partition, as the member sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owning {
    pub group: u32,
    pub place: Place,
    /// Unique in its run.
    pub period: u64,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Within a transaction when `txn` is its number.
    Send {
        txn: Option<u64>,
        records: Vec<Sent>,
    },
    Poll {
        isolation: Isolation,
        group: Option<u32>,
        records: Vec<Read>,
    },
    /// Reads these partitions from these offsets.
    Assign {
        from: Vec<(Place, i64)>,
    },
    Subscribe {
        group: u32,
    },
    Seek {
        place: Place,
        offset: i64,
    },
    /// The first record at or after a time was asked for, decided or not, and this was the answer.
    LookUp {
        place: Place,
        timestamp_ms: i64,
        offset: Option<i64>,
    },
    /// The process begins anew and remembers nothing.
    Crash,
    /// The member found that it owns the partition and begins at `offset`. It did not own it at the operation's start.
    Acquire {
        owning: Owning,
        offset: i64,
    },
    Release {
        owning: Owning,
    },
    Commit {
        owning: Owning,
        offset: i64,
        outcome: Outcome,
    },
    /// The process took a transactional name; whoever had it before has it no longer.
    Register {
        name: u32,
    },
    /// Consumed offsets of a group became part of a transaction. Who commits a group's offsets so commits them in no other way.
    SendOffsets {
        txn: u64,
        group: u32,
        offsets: Vec<(Place, i64)>,
    },
    /// The end of a transaction was asked for.
    EndTxn {
        txn: u64,
        commit: bool,
        outcome: Outcome,
    },
    /// Everything in a partition, from offset 0, when all is quiet. `end` is the offset after the last record that may be read.
    FinalPoll {
        place: Place,
        log_start: i64,
        end: i64,
        records: Vec<Read>,
    },
    /// Everything in a partition up to the end that it had when the operation began, while others write.
    Scan {
        place: Place,
        records: Vec<Read>,
    },
    /// What a group has committed when all is quiet.
    FinalCommitted {
        group: u32,
        place: Place,
        offset: Option<i64>,
    },
}

/// What a topic promises beside keeping everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Older values of a key may go.
    pub compacted: bool,
    /// Age from which records may go.
    pub retention_ms: Option<i64>,
    /// Records may go for another reason: a limit of bytes, or somebody deleted them.
    pub trimmed: bool,
    /// Age from which records must be gone at the end.
    pub gone_after_ms: Option<i64>,
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub ops: Vec<Op>,
    /// By topic; one that is not here keeps everything.
    pub rules: BTreeMap<u32, Rules>,
    /// The latest time that the node's clock ever showed.
    pub clock_max_ms: i64,
    /// What it showed at the end.
    pub clock_end_ms: i64,
}

impl History {
    /// The rules of a topic.
    #[must_use]
    pub fn rules_of(&self, place: Place) -> Rules {
        self.rules.get(&place.topic).copied().unwrap_or_default()
    }
}

impl Op {
    /// Whether it was over before the other began.
    #[must_use]
    pub fn before(&self, other: &Self) -> bool {
        self.end.is_some_and(|end| end < other.start)
    }
}
