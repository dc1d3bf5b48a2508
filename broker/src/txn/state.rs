//! One transactional id. Pure: a request and facts in, a step out; a refusal changes nothing.
//!
//! `identity` is what the producer holds (empty, ongoing, complete) or will hold (prepare): every end raises its epoch, so that markers
//! and answers carry the same number and nothing of the ended transaction can follow it.

use std::collections::{BTreeMap, BTreeSet};

use sunseo_proto::PartitionId;
use sunseo_proto::batch::Ending;
use sunseo_proto::error::{Error, ErrorCode, Result};

/// Highest epoch in which a transaction may begin: its end, and the start of a new instance, each need one above it.
pub(crate) const EPOCH_LAST: i16 = i16::MAX - 2;

/// Producer id and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Ongoing,
    Prepare(Ending),
    Complete(Ending),
}

impl State {
    pub(crate) const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::Prepare(Ending::Commit),
        Self::Prepare(Ending::Abort),
        Self::Complete(Ending::Commit),
        Self::Complete(Ending::Abort),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Ongoing => "ongoing",
            Self::Prepare(Ending::Commit) => "prepare_commit",
            Self::Prepare(Ending::Abort) => "prepare_abort",
            Self::Complete(Ending::Commit) => "complete_commit",
            Self::Complete(Ending::Abort) => "complete_abort",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// The end of a transaction as partitions and groups are told it. The epoch is the one after the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) identity: Identity,
    pub(crate) ending: Ending,
}

/// Who ended a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Producer,
    Timeout,
    Operator,
    /// A new instance under the same id: the former one is fenced.
    Successor,
}

/// The end of the last transaction, so that a repeated request about it gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// In which it was begun.
    pub(crate) identity: Identity,
    pub(crate) ending: Ending,
    pub(crate) by: By,
}

/// Partitions and groups that are part of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) partitions: BTreeSet<PartitionId>,
    pub(crate) groups: BTreeSet<String>,
}

/// What changed of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Whole,
    /// It was open before, and these became part of it.
    Joined(Members),
}

impl Change {
    /// Both, one after the other.
    pub(crate) fn and(self, later: Self) -> Self {
        match (self, later) {
            (Self::Joined(mut members), Self::Joined(more)) => {
                members.partitions.extend(more.partitions);
                members.groups.extend(more.groups);
                Self::Joined(members)
            }
            _ => Self::Whole,
        }
    }
}

/// What follows from a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Answer with this identity.
    Done(Identity),
    /// Ask again when the transaction that is being ended is complete.
    Wait,
}

/// A step, and whether the transaction changed and must be stored before it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) step: Step,
    pub(crate) changed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) identity: Identity,
    pub(crate) state: State,
    pub(crate) timeout_ms: u32,
    pub(crate) partitions: BTreeSet<PartitionId>,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) ended: Option<Ended>,
    /// Ends that partitions did not take because they failed; they get them after the restart that their disk needs.
    pub(crate) owed: BTreeMap<PartitionId, Marker>,
    /// Wall clock of the last change; ids that are silent for long are forgotten.
    pub(crate) changed_ms: i64,
    /// Wall clock of its begin, for people.
    pub(crate) begun_ms: i64,
    /// When it is aborted, on the clock of this process. Not stored: a restart gives an open transaction its whole time again.
    pub(crate) deadline_ms: i64,
}

/// The two clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now {
    /// Of this process; a wall clock that jumps aborts nothing.
    pub(crate) elapsed_ms: i64,
    pub(crate) wall_ms: i64,
}

impl Transaction {
    pub(crate) fn new(producer_id: i64, timeout_ms: u32, now: Now) -> Self {
        Self {
            identity: Identity { producer_id, epoch: 0 },
            state: State::Empty,
            timeout_ms,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            ended: None,
            owed: BTreeMap::new(),
            changed_ms: now.wall_ms,
            begun_ms: 0,
            deadline_ms: 0,
        }
    }

    /// A new instance begins. `spare` is a producer id that nobody has.
    pub(crate) fn init(&mut self, timeout_ms: u32, spare: i64, now: Now) -> Decided {
        match self.state {
            State::Ongoing => {
                self.prepare(Ending::Abort, By::Successor, now);
                Decided { step: Step::Wait, changed: true }
            }
            State::Prepare(_) => Decided { step: Step::Wait, changed: false },
            State::Empty | State::Complete(_) => {
                self.raise_epoch(spare);
                // what the former instance repeats must not be told the identity of this one
                self.ended = None;
                (self.state, self.timeout_ms, self.changed_ms) = (State::Empty, timeout_ms, now.wall_ms);
                Decided { step: Step::Done(self.identity), changed: true }
            }
        }
    }

    /// Partitions and groups become part of the transaction, which begins if none is open. Says what changed, if anything did.
    pub(crate) fn join(
        &mut self,
        asked: Identity,
        partitions: &[PartitionId],
        groups: &[String],
        now: Now,
    ) -> Result<Option<Change>> {
        // nobody was told an epoch that is not usable
        if asked != self.identity || !self.is_usable() {
            return Err(self.refuse(asked));
        }
        if let Some(id) = partitions.iter().find(|id| self.owed.contains_key(id)) {
            let message = format!(
                "partition {id} failed before it took the end of an earlier transaction of this producer: try again when it is back"
            );
            return Err(Error::new(ErrorCode::ConcurrentTransactions, message));
        }
        let news = Members {
            partitions: partitions.iter().filter(|id| !self.partitions.contains(id)).copied().collect(),
            groups: groups.iter().filter(|group| !self.groups.contains(*group)).cloned().collect(),
        };
        let change = match self.state {
            // its holder was not told this epoch yet
            State::Prepare(_) => return Err(busy()),
            State::Ongoing if news == Members::default() => return Ok(None),
            State::Ongoing => Change::Joined(news),
            State::Empty | State::Complete(_) => {
                (self.state, self.ended) = (State::Ongoing, None);
                self.begun_ms = now.wall_ms;
                self.deadline_ms = now.elapsed_ms + i64::from(self.timeout_ms);
                Change::Whole
            }
        };
        self.partitions.extend(partitions);
        self.groups.extend(groups.iter().cloned());
        self.changed_ms = now.wall_ms;
        Ok(Some(change))
    }

    /// The producer ends its transaction.
    pub(crate) fn end(&mut self, asked: Identity, ending: Ending, spare: i64, now: Now) -> Result<Decided> {
        if asked == self.identity {
            return self.end_current(ending, spare, now);
        }
        match self.ended {
            Some(ended) if ended.identity == asked && ended.by != By::Successor => {
                if ended.ending != ending {
                    return Err(self.refuse(asked));
                }
                if matches!(self.state, State::Prepare(_)) {
                    return Ok(Decided { step: Step::Wait, changed: false });
                }
                self.check_taken(ended)?;
                let changed = self.renew(spare, now);
                Ok(Decided { step: Step::Done(self.identity), changed })
            }
            _ => Err(self.refuse(asked)),
        }
    }

    /// An error when a partition has not taken the end of a transaction that is over.
    fn check_taken(&self, ended: Ended) -> Result<()> {
        let Identity { producer_id, epoch } = ended.identity;
        let marked = Identity { producer_id, epoch: epoch + 1 };
        let Some((id, marker)) = self.owed.iter().find(|(_, marker)| marker.identity == marked) else {
            return Ok(());
        };
        let message = format!(
            "the transaction is {} for good, but partition {id} failed and shows it only when its disk is mended and the node restarted: \
             take an identity with InitProducer and begin the next one",
            name_of(marker.ending)
        );
        Err(Error::new(ErrorCode::PartitionFailed, message))
    }

    fn end_current(&mut self, ending: Ending, spare: i64, now: Now) -> Result<Decided> {
        match (self.state, ending) {
            (State::Ongoing, _) => {
                self.prepare(ending, By::Producer, now);
                Ok(Decided { step: Step::Wait, changed: true })
            }
            (State::Prepare(_), _) => Err(busy()),
            (State::Empty | State::Complete(_), Ending::Abort) => {
                // nothing has arrived; what is still on its way must not begin a transaction that nobody will end
                let identity = self.identity;
                self.raise_epoch(spare);
                self.ended = Some(Ended { identity, ending, by: By::Producer });
                (self.state, self.changed_ms) = (State::Complete(ending), now.wall_ms);
                Ok(Decided { step: Step::Done(self.identity), changed: true })
            }
            (State::Empty | State::Complete(_), Ending::Commit) => {
                let message = "no transaction is open: nothing of it has arrived; abort it and begin again";
                Err(Error::new(ErrorCode::TransactionState, message))
            }
        }
    }

    /// Ends an open transaction that has had its time. Says whether it did.
    pub(crate) fn expire(&mut self, now: Now) -> bool {
        let is_over = self.state == State::Ongoing && self.deadline_ms <= now.elapsed_ms;
        if is_over {
            self.prepare(Ending::Abort, By::Timeout, now);
        }
        is_over
    }

    /// An operator ends an open transaction.
    pub(crate) fn abort(&mut self, now: Now) -> Result<Decided> {
        match self.state {
            State::Ongoing => {
                self.prepare(Ending::Abort, By::Operator, now);
                Ok(Decided { step: Step::Wait, changed: true })
            }
            State::Prepare(Ending::Abort) => Ok(Decided { step: Step::Wait, changed: false }),
            State::Complete(Ending::Abort) => Ok(Decided { step: Step::Done(self.identity), changed: false }),
            State::Empty | State::Prepare(Ending::Commit) | State::Complete(Ending::Commit) => {
                let message = format!(
                    "no transaction is open, its state is {}: there is nothing to abort",
                    self.state.as_str()
                );
                Err(Error::new(ErrorCode::TransactionState, message))
            }
        }
    }

    fn prepare(&mut self, ending: Ending, by: By, now: Now) {
        self.ended = Some(Ended { identity: self.identity, ending, by });
        // a transaction begins at EPOCH_LAST at most
        self.identity.epoch += 1;
        (self.state, self.changed_ms) = (State::Prepare(ending), now.wall_ms);
    }

    /// Every partition and group has the outcome but those that failed, which are owed it. Says whether anything changed.
    pub(crate) fn complete(&mut self, marked: Identity, failed: &BTreeSet<PartitionId>, now: Now) -> bool {
        let owed_before = self.owed.len();
        self.owed.retain(|id, marker| marker.identity != marked || failed.contains(id));
        let is_paid = self.owed.len() < owed_before;
        let State::Prepare(ending) = self.state else { return is_paid };
        if self.identity != marked {
            return is_paid;
        }
        self.owed.extend(failed.iter().map(|id| (*id, Marker { identity: marked, ending })));
        self.partitions.clear();
        self.groups.clear();
        (self.state, self.changed_ms) = (State::Complete(ending), now.wall_ms);
        true
    }

    /// The identity's epoch is one in which a transaction may begin.
    pub(crate) fn is_usable(&self) -> bool {
        self.identity.epoch <= EPOCH_LAST
    }

    /// Takes a new producer id when the epochs of this one are used up, between two transactions.
    fn renew(&mut self, spare: i64, now: Now) -> bool {
        let is_between = matches!(self.state, State::Empty | State::Complete(_));
        if self.is_usable() || !is_between {
            return false;
        }
        self.identity = Identity { producer_id: spare, epoch: 0 };
        self.changed_ms = now.wall_ms;
        true
    }

    fn raise_epoch(&mut self, spare: i64) {
        match self.identity.epoch < EPOCH_LAST {
            true => self.identity.epoch += 1,
            false => self.identity = Identity { producer_id: spare, epoch: 0 },
        }
    }

    /// Why somebody with this identity may do nothing.
    pub(crate) fn refuse(&self, asked: Identity) -> Error {
        refuse(self.identity, self.ended, asked)
    }
}

/// Why somebody with an identity that is not the current one may do nothing.
pub(crate) fn refuse(current: Identity, ended: Option<Ended>, asked: Identity) -> Error {
    match ended {
        Some(Ended { identity, by: By::Timeout, .. }) if identity == asked => {
            let message = "the transaction took longer than its time-out and was aborted: abort it, then begin the next one";
            Error::new(ErrorCode::TransactionAborted, message)
        }
        Some(Ended { identity, by: By::Operator, .. }) if identity == asked => {
            let message = "the transaction was aborted by an operator: abort it, then begin the next one";
            Error::new(ErrorCode::TransactionAborted, message)
        }
        Some(Ended { identity, ending, by: By::Producer }) if identity == asked => {
            let how = name_of(ending);
            let message =
                format!("the transaction of epoch {} was {how} already: begin the next one", asked.epoch);
            Error::new(ErrorCode::TransactionState, message)
        }
        _ if asked.producer_id == current.producer_id && asked.epoch > current.epoch => {
            let message = format!(
                "producer {} has epoch {}, its newest is {}: take an epoch with InitProducer",
                asked.producer_id, asked.epoch, current.epoch
            );
            Error::invalid("producer_epoch", message)
        }
        _ => {
            let message = format!(
                "producer {} with epoch {} does not hold this transactional id any more: another instance took over, stop this one",
                asked.producer_id, asked.epoch
            );
            Error::new(ErrorCode::ProducerFenced, message)
        }
    }
}

fn name_of(ending: Ending) -> &'static str {
    match ending {
        Ending::Commit => "committed",
        Ending::Abort => "aborted",
    }
}

fn busy() -> Error {
    let message = "the former transaction of this producer is still being ended: try again";
    Error::new(ErrorCode::ConcurrentTransactions, message)
}
