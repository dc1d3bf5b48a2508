//! Consumer groups of this node: the shell around the pure core in [`crate::group`].
//!
//! A group lives in the partition of `__offsets` that its name hashes to. One task (`shard`) owns each of these partitions and all
//! groups in it: it loads them by folding the records, works off requests in batches, and appends what a batch changed before
//! it answers any of them. So no answer rests on anything that a crash could take back.
//!
//! Sessions are measured with tokio's clock: a wall clock that jumps ends no session. What is kept for days is measured from the wall
//! clock at the start of the node on, so that a clock that jumps while it runs forgets no group either.
//!
//! Not here: the rules of membership and commits (the core), topics (the metadata), high watermarks (a function that is passed in).

mod requests;
mod shard;
mod turn;
pub(crate) mod validate;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sunseo_proto::PartitionId;
use sunseo_proto::error::Result;
use sunseo_proto::partitioner::partition_of;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use shard::{Job, Shard, Work, World};
use turn::Turn;

use crate::GroupConfig;
use crate::folded::when_stored;
use crate::internal::SharedInternalLog;
use crate::log_thread::stopped;
use crate::metadata::Metadata;
use crate::metadata::internal_topics::OFFSETS;

/// Requests that wait for one shard; more wait at the door.
const REQUESTS_MAX: usize = 1_024;

/// High watermark of a partition that this node leads.
#[derive(Clone)]
pub(crate) struct HighWatermarks(Arc<dyn Fn(PartitionId) -> Option<i64> + Send + Sync>);

impl HighWatermarks {
    pub(crate) fn new(look: impl Fn(PartitionId) -> Option<i64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    fn of(&self, id: PartitionId) -> Option<i64> {
        (self.0)(id)
    }
}

impl fmt::Debug for HighWatermarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HighWatermarks")
    }
}

/// What groups are bounded by.
#[derive(Clone, Debug)]
pub(crate) struct CoordinatorConfig {
    pub(crate) groups: GroupConfig,
    /// Partitions of one request.
    pub(crate) request_partitions_max: usize,
}

impl CoordinatorConfig {
    pub(crate) fn new(config: &crate::BrokerConfig) -> Self {
        Self { groups: config.groups.clone(), request_partitions_max: config.limits.request_partitions_max }
    }
}

/// The groups of a running node; cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Coordinator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Arc<CoordinatorConfig>,
    high_watermarks: HighWatermarks,
    /// One for each partition of `__offsets`.
    shards: Vec<mpsc::Sender<Job>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    stop: CancellationToken,
}

impl Coordinator {
    /// Folds what is stored and begins a fresh session for every member.
    ///
    /// # Errors
    /// When a partition cannot be read, or holds what this binary does not understand.
    pub(crate) async fn start(
        log: SharedInternalLog,
        metadata: &Metadata,
        high_watermarks: HighWatermarks,
        config: CoordinatorConfig,
        wall_ms: i64,
    ) -> Result<Self> {
        let (config, stop) = (Arc::new(config), CancellationToken::new());
        let (mut shards, mut tasks) = (Vec::new(), Vec::new());
        let mut loaded = Vec::new();
        for partition in 0..OFFSETS.partitions {
            let id = OFFSETS.partition(partition);
            let world = World {
                config: Arc::clone(&config),
                images: metadata.watch(),
                high_watermarks: high_watermarks.clone(),
                started_wall_ms: wall_ms,
            };
            loaded.push(Shard::load(log.clone(), id, world).await?);
        }
        for shard in loaded {
            let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
            shards.push(sender);
            tasks.push(tokio::spawn(shard.run(receiver, stop.clone())));
        }
        let tasks = Mutex::new(tasks);
        Ok(Self { inner: Arc::new(Inner { config, high_watermarks, shards, tasks, stop }) })
    }

    /// Ends the tasks; what they were asked before is answered or refused as "stopping".
    pub(crate) async fn stop(&self) {
        self.inner.stop.cancel();
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the consumer groups did not end well");
            }
        }
    }

    /// Lets the task that owns `group` do something, and answers when what it changed is durable.
    async fn ask<T: Send + 'static>(
        &self,
        group: &str,
        work: impl FnOnce(&mut Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shard = usize::try_from(partition_of(group.as_bytes(), OFFSETS.partitions)).unwrap_or(0);
        self.ask_shard(shard, work).await
    }

    async fn ask_shard<T: Send + 'static>(
        &self,
        shard: usize,
        work: impl FnOnce(&mut Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |turn| when_stored(reply, turn.and_then(work)));
        let shard = self.inner.shards.get(shard).ok_or_else(stopped)?;
        let job = Job { asked: Instant::now(), work };
        shard.send(job).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

#[cfg(test)]
mod tests;
