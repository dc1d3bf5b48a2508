//! The forwarder of one task: appends the outputs of its commits to their topics, behind the commits.
//!
//! An output's position is its number, dense over the life of the task, so it is strictly rising in whatever partition it goes
//! to: after a crash the forwarder sends again what may be missing, and each partition drops what it has.
//!
//! Invariants: outputs are forwarded only after their commit is durable, in their order. A queue of [`QUEUE_COMMITS_MAX`] commits
//! lies between; when it is full, the task waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sunseo_client::{PartitionAppend, PositionedProducer};
use sunseo_proto::Error;
use sunseo_proto::error::Result;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::commit::Output;

/// Commits whose outputs may wait.
pub(crate) const QUEUE_COMMITS_MAX: usize = 16;

/// The outputs of one commit.
#[derive(Debug)]
pub(crate) struct Outputs {
    /// Number of the first one.
    pub first: i64,
    pub outputs: Vec<Output>,
}

impl Outputs {
    /// Without those below `number`, which are in their topics.
    pub(crate) fn from(mut self, number: i64) -> Self {
        let skip = usize::try_from(number - self.first).unwrap_or(0).min(self.outputs.len());
        self.outputs.drain(..skip);
        self.first += skip as i64;
        self
    }

    pub(crate) fn next(&self) -> i64 {
        self.first + self.outputs.len() as i64
    }
}

/// The task's end of the queue. Dropped, it ends at once; a later start forwards the rest.
#[derive(Debug)]
pub(crate) struct Forwarder {
    queue: mpsc::Sender<Outputs>,
    run: AbortOnDropHandle<Result<()>>,
    forwarded: Arc<AtomicI64>,
}

impl Forwarder {
    /// `forwarded`: every output with a lower number is in its topic.
    pub(crate) fn start(producer: PositionedProducer, forwarded: i64) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE_COMMITS_MAX);
        let forwarded = Arc::new(AtomicI64::new(forwarded));
        let run = AbortOnDropHandle::new(tokio::spawn(run(producer, jobs, Arc::clone(&forwarded))));
        Self { queue, run, forwarded }
    }

    /// Every output with a lower number is in its topic.
    pub(crate) fn forwarded(&self) -> i64 {
        self.forwarded.load(Ordering::Acquire)
    }

    /// Queues the outputs of a durable commit; waits while the queue is full.
    ///
    /// # Errors
    /// Why forwarding has ended.
    pub(crate) async fn send(&mut self, outputs: Outputs) -> Result<()> {
        match self.queue.send(outputs).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Ends only when forwarding has failed.
    pub(crate) async fn ended(&mut self) -> Error {
        match (&mut self.run).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => Error::internal("the forwarder ended before its task"),
            Err(error) => Error::internal(format!("the forwarder ended: {error}")),
        }
    }

    /// Forwards what is queued, and ends.
    ///
    /// # Errors
    /// Why forwarding has ended early; a later start forwards the rest.
    pub(crate) async fn drain(self) -> Result<()> {
        let Self { queue, run, .. } = self;
        drop(queue);
        run.await.unwrap_or_else(|error| Err(Error::internal(format!("the forwarder ended: {error}"))))
    }
}

async fn run(
    producer: PositionedProducer,
    mut jobs: mpsc::Receiver<Outputs>,
    forwarded: Arc<AtomicI64>,
) -> Result<()> {
    let mut batch = Vec::new();
    while jobs.recv_many(&mut batch, QUEUE_COMMITS_MAX).await > 0 {
        let next = batch.last().map_or(0, Outputs::next);
        for result in producer.append_many(parts(batch.drain(..))).await {
            result?;
        }
        forwarded.store(next, Ordering::Release);
    }
    Ok(())
}

/// The outputs by partition, each with its number, in order.
fn parts(commits: impl Iterator<Item = Outputs>) -> Vec<PartitionAppend> {
    let mut parts: Vec<PartitionAppend> = Vec::new();
    let mut places: HashMap<(Arc<str>, i32), usize> = HashMap::new();
    for Outputs { first, outputs } in commits {
        for (number, Output { topic, partition, record }) in (first..).zip(outputs) {
            let place = *places.entry((Arc::clone(&topic), partition)).or_insert_with(|| {
                parts.push(PartitionAppend { topic: topic.to_string(), partition, records: Vec::new() });
                parts.len() - 1
            });
            parts[place].records.push((number, record));
        }
    }
    parts
}
