//! One acknowledgement per batch, shared by its records.
//!
//! Invariant: a batch is settled exactly once; one that is dropped unsettled (its task ended with the runtime) settles with
//! an error, so that nobody waits for ever.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};

/// Where a record landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    pub topic: Arc<str>,
    pub partition: i32,
    /// -1 when the record is durable but a repeated batch's offsets are no longer known to the broker.
    pub offset: i64,
}

#[derive(Debug)]
struct Shared {
    topic: Arc<str>,
    partition: i32,
    /// Offset of the first record, -1 when it is not known.
    outcome: OnceLock<Result<i64>>,
    wakers: Mutex<Vec<Waker>>,
}

impl Shared {
    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side that learns the outcome.
#[derive(Debug)]
pub(crate) struct Settle {
    shared: Arc<Shared>,
}

impl Settle {
    pub(crate) fn new(topic: Arc<str>, partition: i32) -> Self {
        Self {
            shared: Arc::new(Shared { topic, partition, outcome: OnceLock::new(), wakers: Mutex::default() }),
        }
    }

    /// The acknowledgement of record number `index` of the batch.
    pub(crate) fn ack(&self, index: usize) -> Ack {
        Ack { shared: Arc::clone(&self.shared), index, waker: None }
    }

    pub(crate) fn place(&self) -> (&Arc<str>, i32) {
        (&self.shared.topic, self.shared.partition)
    }

    /// Tells everyone; the first outcome counts.
    pub(crate) fn settle(&self, outcome: Result<i64>) {
        if self.shared.outcome.set(outcome).is_ok() {
            let wakers = std::mem::take(&mut *self.shared.wakers());
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        let message = "the producer ended before an answer came: whether the record landed is unknown";
        self.settle(Err(Error::new(ErrorCode::Unavailable, message)));
    }
}

/// The acknowledgement of one record, to be awaited. Dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "a record is durable only when its acknowledgement says so; flush() waits for all"]
pub struct Ack {
    shared: Arc<Shared>,
    index: usize,
    /// Its place among the wakers.
    waker: Option<usize>,
}

impl Ack {
    /// The outcome, if it is known already.
    #[must_use]
    pub fn now(&self) -> Option<Result<RecordPlace>> {
        let outcome = self.shared.outcome.get()?;
        Some(outcome.clone().map(|base_offset| RecordPlace {
            topic: Arc::clone(&self.shared.topic),
            partition: self.shared.partition,
            offset: if base_offset < 0 { -1 } else { base_offset + self.index as i64 },
        }))
    }

    /// The partition that was chosen.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.shared.partition
    }
}

impl Future for Ack {
    type Output = Result<RecordPlace>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.now() {
            return Poll::Ready(outcome);
        }
        let shared = Arc::clone(&self.shared);
        let mut wakers = shared.wakers();
        // settled between the look and the lock: the wakers have been called already
        if let Some(outcome) = self.now() {
            return Poll::Ready(outcome);
        }
        match self.waker {
            Some(place) => wakers[place].clone_from(context.waker()),
            None => {
                self.waker = Some(wakers.len());
                wakers.push(context.waker().clone());
            }
        }
        Poll::Pending
    }
}
