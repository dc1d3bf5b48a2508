//! The batches of one partition on their way: sequences, what is in flight, what is sent again. Pure.
//!
//! Invariants:
//! - A sequence, once sent under a producer id, is only ever sent again with the same bytes, until the broker is known to have
//!   refused it. Batches without an answer are thus sent again unchanged, in order; the broker drops what it has.
//! - Nothing new is sent while a failure is being resolved, and it is resolved only when nothing is in flight.
//! - The first batch under a producer id travels alone: before the partition knows the id, it could take a later batch for
//!   the first.
//! - A batch is given a new producer id only if no attempt of it can have landed, and no batch behind it has: otherwise it could
//!   land twice, or after what came later. It fails then, says so, and the lane goes on (KIP-360 without its fatal cases).
//! - A record fails at its delivery time-out, sent or not.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use sunseo_proto::batch::{self, BatchBuilder};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::time::Instant;

use super::ack::Settle;
use crate::batcher::ReadyBatch;
use crate::retry::RetryPolicy;

/// Producer id and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub producer_id: i64,
    pub epoch: i16,
}

/// What a lane needs to know about its producer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneConfig {
    pub max_in_flight: usize,
    pub delivery_timeout: Duration,
    pub retry: RetryPolicy,
    /// Batches belong to a transaction: whatever fails, fails all of it, and nothing is ever numbered anew.
    pub transactional: bool,
}

/// `Err`: no answer, the outcome is unknown. `Ok`: what the broker says about this batch.
pub(crate) type Answer = Result<v1::ProduceResult>;

/// Silence after which the next batch travels alone again: the partition may have forgotten the producer meanwhile.
const ALONE_AFTER: Duration = Duration::from_secs(60);

/// A batch to be sent now.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub id: u64,
    pub batch: Bytes,
    /// When its records fail.
    pub deadline: Instant,
}

/// A batch that has its outcome.
#[derive(Debug)]
pub(crate) struct Done {
    pub id: u64,
    /// Bytes it held in the buffer.
    pub bytes: usize,
    pub records: usize,
    pub outcome: Result<i64>,
    /// It failed, and may be in the log nevertheless.
    pub unknown: bool,
    pub settle: Settle,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    opened: Instant,
    bytes: usize,
    builder: BatchBuilder,
    settle: Settle,
}

#[derive(Debug)]
enum State {
    Flying,
    Failed(Error),
    Landed,
}

#[derive(Debug)]
struct Sent {
    id: u64,
    opened: Instant,
    bytes: usize,
    records: usize,
    batch: Bytes,
    base_sequence: i32,
    /// Taken when the outcome is known.
    settle: Option<Settle>,
    state: State,
    /// Some attempt had no answer, so the batch may be in the log.
    may_have_landed: bool,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Lane {
    config: LaneConfig,
    identity: Option<Identity>,
    /// The id that must not be used again.
    burned: Option<Identity>,
    next_sequence: i32,
    /// A batch has landed under the identity.
    known_to_partition: bool,
    waiting: VecDeque<Waiting>,
    /// In order of sequence; the first is not landed.
    window: VecDeque<Sent>,
    /// Batches of the window that are to be sent again, from this one on.
    resend: Option<usize>,
    failures: u32,
    not_before: Option<Instant>,
    /// When something landed last.
    landed_at: Option<Instant>,
    /// The last refusal or silence.
    trouble: Option<Error>,
}

impl Lane {
    pub(crate) fn new(config: LaneConfig) -> Self {
        Self {
            config,
            identity: None,
            burned: None,
            next_sequence: 0,
            known_to_partition: false,
            waiting: VecDeque::new(),
            window: VecDeque::new(),
            resend: None,
            failures: 0,
            not_before: None,
            landed_at: None,
            trouble: None,
        }
    }

    pub(crate) fn enqueue(&mut self, batch: ReadyBatch) {
        let ReadyBatch { id, opened, bytes, builder, settle, .. } = batch;
        self.waiting.push_back(Waiting { id, opened, bytes, builder, settle });
    }

    /// Whether another batch would be sent soon.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.is_empty() && !self.failing() && self.window.len() < self.window_limit()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.window.is_empty()
    }

    /// Offers an identity; taken if one is needed and this one is not used up.
    pub(crate) fn offer(&mut self, identity: Identity) {
        if self.needs_identity() && self.burned != Some(identity) {
            self.identity = Some(identity);
            (self.next_sequence, self.known_to_partition) = (0, false);
        }
    }

    /// Begins anew under the identity of the next transaction. Nothing of the former one is left here.
    pub(crate) fn renew(&mut self, identity: Identity) {
        debug_assert!(self.is_idle(), "the former transaction has ended");
        (self.identity, self.burned) = (Some(identity), None);
        (self.next_sequence, self.known_to_partition, self.failures) = (0, false, 0);
    }

    pub(crate) fn needs_identity(&self) -> bool {
        self.identity.is_none() && !self.is_idle()
    }

    /// When there is something to do without an answer.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let expires = self.waiting.front().map(|waiting| waiting.opened + self.config.delivery_timeout);
        self.not_before.into_iter().chain(expires).min()
    }

    fn failing(&self) -> bool {
        self.not_before.is_some() || self.window.iter().any(|sent| matches!(sent.state, State::Failed(_)))
    }

    fn window_limit(&self) -> usize {
        if self.known_to_partition { self.config.max_in_flight } else { 1 }
    }

    /// The next batch to send now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Outgoing> {
        if self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.not_before = None;
        if let Some(at) = self.resend {
            let again = self.window.iter_mut().enumerate().skip(at).find(|(_, sent)| !sent.landed());
            if let Some((at, sent)) = again {
                sent.state = State::Flying;
                self.resend = Some(at + 1);
                return Some(sent.outgoing(self.config.delivery_timeout));
            }
            self.resend = None;
        }
        let silent = self.landed_at.is_some_and(|at| now.saturating_duration_since(at) >= ALONE_AFTER);
        if self.window.is_empty() && silent {
            self.known_to_partition = false;
        }
        if self.failing() || self.window.len() >= self.window_limit() {
            return None;
        }
        self.first_time()
    }

    fn first_time(&mut self) -> Option<Outgoing> {
        let identity = self.identity?;
        let count = self.waiting.front()?.builder.len() as i32;
        let next = self.next_sequence.checked_add(count);
        // in a transaction they go from the last number to 0
        let next = next.or_else(|| {
            self.config.transactional.then_some(self.next_sequence.wrapping_add(count) & i32::MAX)
        });
        let Some(next_sequence) = next else {
            // the numbers of this producer id are used up
            if self.window.is_empty() {
                self.burn();
            }
            return None;
        };
        let Waiting { id, opened, bytes, builder, settle } = self.waiting.pop_front()?;
        let base_sequence = std::mem::replace(&mut self.next_sequence, next_sequence);
        let records = builder.len();
        let builder = builder.producer(identity.producer_id, identity.epoch, base_sequence);
        let batch = if self.config.transactional { builder.transactional().build() } else { builder.build() };
        let (settle, state, may_have_landed) = (Some(settle), State::Flying, false);
        let sent = Sent { id, opened, bytes, records, batch, base_sequence, settle, state, may_have_landed };
        let next = sent.outgoing(self.config.delivery_timeout);
        self.window.push_back(sent);
        Some(next)
    }

    fn burn(&mut self) {
        self.burned = self.identity.take().or(self.burned);
        self.known_to_partition = false;
    }

    /// Takes the answer to a batch; what has its outcome by that.
    pub(crate) fn answered(&mut self, id: u64, answer: Answer, now: Instant, random: f64) -> Vec<Done> {
        let mut done = Vec::new();
        let Some(sent) = self.window.iter_mut().find(|sent| sent.id == id) else { return done };
        match answer {
            Ok(v1::ProduceResult { error: None, base_offset, .. }) => {
                sent.state = State::Landed;
                (self.known_to_partition, self.landed_at) = (true, Some(now));
                self.trouble = None;
                done.extend(sent.finish(Ok(base_offset)));
            }
            Ok(v1::ProduceResult { error: Some(error), .. }) => {
                let error = Error::from(error);
                sent.may_have_landed |= leaves_it_open(error.code);
                self.known_to_partition &= !knows_nobody(error.code);
                self.trouble = Some(error.clone());
                sent.state = State::Failed(error);
            }
            Err(error) => {
                sent.may_have_landed = true;
                self.trouble = Some(error.clone());
                sent.state = State::Failed(error);
            }
        }
        while self.window.pop_front_if(|sent| sent.landed()).is_some() {
            self.failures = 0;
            self.resend = self.resend.map(|at| at.saturating_sub(1));
        }
        let flying = self.window.iter().any(|sent| matches!(sent.state, State::Flying));
        let sent_again = self.resend.is_none_or(|at| self.window.iter().skip(at).all(Sent::landed));
        if !flying && sent_again {
            self.resolve(now, random, &mut done);
        }
        done
    }

    /// Nothing is in flight and the first batch of the window has failed: what now.
    fn resolve(&mut self, now: Instant, random: f64, done: &mut Vec<Done>) {
        if !self.config.transactional {
            self.fail_overtaken(done);
        }
        let Some(head) = self.window.front() else { return };
        let State::Failed(error) = &head.state else { return };
        let expired = now.saturating_duration_since(head.opened) >= self.config.delivery_timeout;
        self.resend = None;
        let lost = loses_identity(error.code);
        let anew = lost && !head.may_have_landed && !self.config.transactional;
        if (error.retryable() || anew) && !expired {
            self.failures += 1;
            self.not_before = Some(now + self.config.retry.backoff(self.failures, random));
            match anew {
                // the partition no longer knows this producer, or knows better: the numbers begin anew
                true => self.renumber(None, done),
                false => self.resend = Some(0),
            }
            return;
        }
        if self.config.transactional {
            let expired = expired.then_some(self.config.delivery_timeout);
            let error = final_error(error, false, expired);
            done.extend(self.fail_all(&error));
            return;
        }
        let reusable = Some(head.base_sequence).filter(|_| !head.may_have_landed && !lost);
        let error = final_error(error, head.may_have_landed, expired.then_some(self.config.delivery_timeout));
        if let Some(mut head) = self.window.pop_front() {
            done.extend(head.finish(Err(error)));
        }
        self.failures = 0;
        self.renumber(reusable, done);
    }

    /// A partition that knows the producer takes nothing behind a batch that it refused. If it did, it had forgotten the producer, and
    /// what it refused before cannot follow any more.
    fn fail_overtaken(&mut self, done: &mut Vec<Done>) {
        let Some(last_landed) = self.window.iter().rposition(Sent::landed) else { return };
        for (at, mut sent) in std::mem::take(&mut self.window).into_iter().enumerate() {
            match &sent.state {
                State::Failed(error) if at < last_landed && !sent.may_have_landed => {
                    let error = overtaken_error(error);
                    done.extend(sent.finish(Err(error)));
                }
                _ => self.window.push_back(sent),
            }
        }
        while self.window.pop_front_if(|sent| sent.landed()).is_some() {}
    }

    /// Puts the rest of the window back to be sent under other sequences: from `base` on, if that number is known to be free,
    /// otherwise under a new identity.
    fn renumber(&mut self, base: Option<i32>, done: &mut Vec<Done>) {
        let mut free = base.is_some();
        let window = std::mem::take(&mut self.window);
        let mut again = VecDeque::new();
        for mut sent in window {
            match &sent.state {
                State::Failed(error) if sent.may_have_landed => {
                    free = false;
                    let error = final_error(error, true, None);
                    done.extend(sent.finish(Err(error)));
                }
                State::Failed(_) => match sent.back() {
                    Ok(waiting) => again.push_back(waiting),
                    Err(failed) => done.push(failed),
                },
                State::Landed | State::Flying => free = false,
            }
        }
        again.append(&mut self.waiting);
        self.waiting = again;
        match base {
            Some(base) if free => self.next_sequence = base,
            _ => self.burn(),
        }
    }

    /// Fails what is too old and was never sent, or not since it is known to be refused; `cause` when nothing else is known.
    pub(crate) fn expire(&mut self, now: Instant, cause: Option<&Error>) -> Vec<Done> {
        let mut done = Vec::new();
        let timeout = self.config.delivery_timeout;
        while let Some(old) =
            self.waiting.pop_front_if(|w| now.saturating_duration_since(w.opened) >= timeout)
        {
            let cause = self.trouble.as_ref().or(cause).cloned().unwrap_or_else(still_waiting);
            done.push(old.fail(final_error(&cause, false, Some(timeout))));
        }
        done
    }

    /// Fails what waits for an identity, because none is given.
    pub(crate) fn fail_waiting(&mut self, error: &Error) -> Vec<Done> {
        self.waiting.drain(..).map(|waiting| waiting.fail(error.clone())).collect()
    }

    /// Fails everything: the producer does not go on.
    pub(crate) fn fail_all(&mut self, error: &Error) -> Vec<Done> {
        (self.resend, self.not_before) = (None, None);
        let sent = self.window.drain(..).filter_map(|mut sent| {
            sent.may_have_landed |= matches!(sent.state, State::Flying);
            let error = final_error(error, sent.may_have_landed, None);
            sent.finish(Err(error))
        });
        let mut done: Vec<_> = sent.collect();
        done.extend(self.fail_waiting(error));
        done
    }
}

impl Waiting {
    fn fail(self, error: Error) -> Done {
        let (records, unknown) = (self.builder.len(), false);
        Done { id: self.id, bytes: self.bytes, records, outcome: Err(error), unknown, settle: self.settle }
    }
}

impl Sent {
    fn landed(&self) -> bool {
        matches!(self.state, State::Landed)
    }

    fn outgoing(&self, timeout: Duration) -> Outgoing {
        Outgoing { id: self.id, batch: self.batch.clone(), deadline: self.opened + timeout }
    }

    fn finish(&mut self, outcome: Result<i64>) -> Option<Done> {
        let settle = self.settle.take()?;
        let unknown = outcome.is_err() && self.may_have_landed;
        Some(Done { id: self.id, bytes: self.bytes, records: self.records, outcome, unknown, settle })
    }

    /// The records of a batch that the broker has refused, to be numbered anew.
    fn back(mut self) -> std::result::Result<Waiting, Done> {
        let Some(settle) = self.settle.take() else { unreachable!("a failed batch is not settled yet") };
        let (id, opened, bytes, records) = (self.id, self.opened, self.bytes, self.records);
        let rebuilt = batch::validate(&self.batch).and_then(|header| {
            let mut builder = BatchBuilder::new(header.compression());
            batch::records(&self.batch)?.iter().for_each(|record| builder.push(record));
            Ok(builder)
        });
        match rebuilt {
            Ok(builder) => Ok(Waiting { id, opened, bytes, builder, settle }),
            Err(error) => {
                Err(Done { id, bytes, records, outcome: Err(error.into()), unknown: false, settle })
            }
        }
    }
}

/// Refusals after which the batch may still be in the log: a wait inside the broker ended, or its disk failed under it.
fn leaves_it_open(code: ErrorCode) -> bool {
    use ErrorCode::{Internal, PartitionFailed, TimedOut, Unavailable};
    matches!(code, TimedOut | Unavailable | PartitionFailed | Internal)
}

/// Refusals by which the partition says that the numbers of this producer are not what it expects.
fn loses_identity(code: ErrorCode) -> bool {
    use ErrorCode::{ProducerFenced, SequenceConflict, SequenceGap};
    matches!(code, SequenceGap | SequenceConflict | ProducerFenced)
}

/// Refusals after which another partition may stand under the name.
fn knows_nobody(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition)
}

fn still_waiting() -> Error {
    Error::new(ErrorCode::TimedOut, "earlier batches of its partition were not acknowledged")
}

fn overtaken_error(cause: &Error) -> Error {
    if !cause.retryable() && !loses_identity(cause.code) {
        return cause.clone();
    }
    let message = format!(
        "not appended, while records that were sent after it were: to send it now would change the order, send it again if that does not \
         matter: {}",
        cause.message
    );
    Error { message, ..cause.clone() }
}

fn final_error(cause: &Error, may_have_landed: bool, timeout: Option<Duration>) -> Error {
    let mut error = cause.clone();
    if let Some(timeout) = timeout {
        error.message =
            format!("not acknowledged within the delivery timeout of {timeout:?}: {}", error.message);
    }
    if may_have_landed {
        error.message =
            format!("whether the record landed is unknown, read the partition to see: {}", error.message);
    }
    error
}
