//! Operations in, errors out. Pure.
//!
//! After Jepsen's Kafka workload, with kinds of our own for groups, compaction, retention and transactions. A checker never guesses: what the
//! history leaves open (a send without an answer, operations at the same time) is allowed in every way it could have gone.

mod compaction;
mod exactly_once;
mod groups;
mod index;
mod log;
mod polls;
mod retention;
mod times;
mod transactions;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crate::history::History;
use index::Index;

/// What can be wrong with a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum Kind {
    /// Acknowledged, or read by somebody, below the end that was read, above the log start, and not there.
    LostWrite,
    /// Acknowledged, and the final poll ended before its offset.
    Unseen,
    /// One value at two offsets.
    Duplicate,
    /// Two values at one offset.
    InconsistentOffsets,
    /// Read, and never sent there.
    ForeignValue,
    /// Refused for certain, and read all the same.
    RefusedRead,
    /// A later send of a process got a smaller offset.
    NonmonotonicSend,
    /// The same inside one operation.
    IntNonmonotonicSend,
    /// A later poll went back.
    NonmonotonicPoll,
    IntNonmonotonicPoll,
    /// A later poll left records out.
    PollSkip,
    IntPollSkip,
    /// A reader of committed records saw one of an aborted transaction.
    AbortedRead,
    /// It saw one before its transaction's end was asked for.
    PrecommittedRead,
    /// Some records of a transaction are there and others are not.
    FracturedTransaction,
    /// An instance that had lost its transactional name to another could still commit.
    ZombieCommit,
    /// A record's work, done exactly once, is there twice.
    DoneTwice,
    /// It is not there, and the offset behind the record is committed.
    NotDone,
    /// Two members owned a partition at one time, and both committed.
    TwoOwners,
    /// A member that had lost a partition to another could still commit.
    FencedCommit,
    /// A later owner began, or the end shows, less than was committed.
    CommitBackwards,
    /// Committed, and no member was given the record.
    GroupSkip,
    /// The last value of a key is gone.
    LatestLost,
    /// An older value of a key after a newer one.
    OlderAfterNewer,
    /// Who read everything was shown an older value of a key as its newest.
    Resurrected,
    /// Removed before its time.
    RemovedEarly,
    /// There long after its time.
    KeptTooLong,
    /// What was found for a time is not the first record from then on.
    WrongTime,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    pub kind: Kind,
    pub what: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// Collects errors.
#[derive(Debug, Default)]
struct Report(Vec<Anomaly>);

impl Report {
    fn add(&mut self, kind: Kind, what: impl Into<String>) {
        self.0.push(Anomaly { kind, what: what.into() });
    }
}

/// Everything that is wrong with a history; nothing when it could have happened.
#[must_use]
pub fn check(history: &History) -> Vec<Anomaly> {
    let index = Index::new(history);
    let mut report = Report::default();
    log::check(history, &index, &mut report);
    polls::check(history, &index, &mut report);
    transactions::check(history, &index, &mut report);
    exactly_once::check(history, &index, &mut report);
    groups::check(history, &index, &mut report);
    compaction::check(history, &index, &mut report);
    retention::check(history, &index, &mut report);
    times::check(history, &index, &mut report);
    report.0
}

/// How often each kind was found.
#[must_use]
pub fn counts(anomalies: &[Anomaly]) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    for anomaly in anomalies {
        *counts.entry(anomaly.kind).or_default() += 1;
    }
    counts
}
