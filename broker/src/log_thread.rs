//! The one thread that owns the store: every append of every partition goes through it, in the order of the queue.
//!
//! Group commit: it takes everything that waits, appends it, makes it durable with one sync, answers, and looks again. So one sync
//! is under way at a time, it starts at once when the thread is idle, and what arrives meanwhile rides on the next. After a sync that
//! answered many, the first of them that comes again waits a little for the others ([`Pace`]).
//!
//! Not here: what a batch must be (`api::check`), who may read what (`api::fetch`), the memory of what waits (`gate`).

mod owner;
mod pace;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sunseo_log::{SharedDisk, Store, StoreConfig, SyncFailure};
use sunseo_proto::PartitionId;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, ErrorCode, Result};
use tokio::sync::oneshot;

pub(crate) use owner::Owner;
use pace::Pace;

use crate::gate::Permit;
use crate::partition::{Append, Outcome};
use crate::queue::{Queue, Weigh};
use crate::registry::Partitions;

/// Bytes that a command counts for beside its batches.
pub(crate) const COMMAND_BYTES: usize = 256;

type Control = Box<dyn FnOnce(&mut Owner) + Send>;

/// What the thread is asked to do.
pub(crate) enum Command {
    Append { appends: Vec<Append>, reply: oneshot::Sender<Vec<Outcome>>, permit: Option<Permit> },
    Control(Control),
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { appends, .. } => f.debug_tuple("Append").field(&appends.len()).finish(),
            Self::Control(_) => f.write_str("Control"),
        }
    }
}

impl Weigh for Command {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { appends, .. } => appends.iter().map(|append| append.batch.bytes.len()).sum(),
            Self::Control(_) => 0,
        }
    }
}

/// What the thread is started with.
#[derive(Clone, Debug)]
pub(crate) struct LogThreadConfig {
    pub(crate) node_id: i32,
    pub(crate) store: StoreConfig,
    pub(crate) commit_group_bytes_max: usize,
}

/// The way to the thread. Clones share it; the thread ends when [`LogThread::stop`] or [`LogThread::close`] says so.
#[derive(Clone, Debug)]
pub(crate) struct LogThread {
    queue: Queue<Command>,
    partitions: Arc<Partitions>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Ends the queue and the waits however the thread ends, so that nobody waits for an answer for ever.
struct CloseOnDrop(Queue<Command>, Arc<Partitions>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
        self.1.close();
    }
}

impl LogThread {
    /// Opens the store on a thread of its own.
    ///
    /// # Errors
    /// When the directory is in use or cannot be read.
    pub(crate) async fn start(
        disk: SharedDisk,
        config: LogThreadConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let queue = Queue::default();
        let partitions = Arc::new(Partitions::default());
        let (opened, open) = oneshot::channel();
        let thread = std::thread::Builder::new().name("sunseo-log".to_owned()).spawn({
            let (queue, partitions) = (queue.clone(), Arc::clone(&partitions));
            move || run(&queue, partitions, disk, config, clock, opened)
        });
        let thread = thread.map_err(|error| {
            let message = format!("the log's thread cannot be started ({error}): raise the limit of threads");
            Error::new(ErrorCode::Unavailable, message)
        })?;
        open.await.unwrap_or_else(|_| Err(stopped()))?;
        Ok(Self { queue, partitions, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Whether the thread waits, or has ended.
    #[cfg(feature = "testing")]
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    pub(crate) fn partitions(&self) -> &Arc<Partitions> {
        &self.partitions
    }

    /// Queues appends now; the future is their outcome, in their order.
    pub(crate) fn append(
        &self,
        appends: Vec<Append>,
        permit: Option<Permit>,
    ) -> BoxFuture<'static, Result<Vec<Outcome>>> {
        let (reply, outcomes) = oneshot::channel();
        self.push_append(appends, reply, permit);
        async move { outcomes.await.map_err(|_| unknown_outcome()) }.boxed()
    }

    /// As [`LogThread::append`], for a caller that has made the reply before.
    pub(crate) fn push_append(
        &self,
        appends: Vec<Append>,
        reply: oneshot::Sender<Vec<Outcome>>,
        permit: Option<Permit>,
    ) {
        self.queue.push(Command::Append { appends, reply, permit });
    }

    /// Does something with the store, in the order of the queue, and returns at once.
    pub(crate) async fn call<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Owner) -> R + Send + 'static,
    ) -> Result<R> {
        let (reply, answer) = oneshot::channel();
        let control = move |owner: &mut Owner| {
            // who asked may have left
            let _ = reply.send(act(owner));
        };
        self.queue.push(Command::Control(Box::new(control)));
        answer.await.map_err(|_| stopped())
    }

    /// Does something with the store and returns when it, and everything queued before it, is durable. An error when the sync
    /// stopped the partition it was about.
    pub(crate) async fn commit<R: Send + 'static>(
        &self,
        id: Option<PartitionId>,
        act: impl FnOnce(&mut Owner) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let (reply, answer) = oneshot::channel();
        let control = move |owner: &mut Owner| {
            let result = act(owner);
            owner.after_sync(move |failed| {
                let failure = failed.iter().find(|failure| Some(failure.id) == id);
                let result = result.and_then(|done| match failure {
                    None => Ok(done),
                    Some(failure) => Err(not_durable(failure)),
                });
                // who asked may have left
                let _ = reply.send(result);
            });
        };
        self.queue.push(Command::Control(Box::new(control)));
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Answers what is queued, writes a checkpoint and releases the directory.
    ///
    /// # Errors
    /// When the checkpoint could not be written.
    pub(crate) async fn close(&self) -> Result<()> {
        let (reply, closed) = oneshot::channel();
        self.queue.push(Command::Control(Box::new(move |owner: &mut Owner| owner.close_with(reply))));
        let result = closed.await.unwrap_or_else(|_| Err(stopped()));
        self.join();
        result
    }

    /// Ends the thread as a crash would: what is queued is dropped. Waits for a sync that is under way, so that the directory is free.
    pub(crate) fn stop(&self) {
        self.queue.close();
        self.join();
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!("the log's thread ended with a panic");
        }
    }
}

fn run(
    queue: &Queue<Command>,
    partitions: Arc<Partitions>,
    disk: SharedDisk,
    config: LogThreadConfig,
    clock: Arc<dyn Clock>,
    opened: oneshot::Sender<Result<()>>,
) {
    let _close = CloseOnDrop(queue.clone(), Arc::clone(&partitions));
    let group_bytes_max = config.commit_group_bytes_max;
    let (store, recovered) = match Store::open(disk, config.store, clock.now_ms()) {
        Ok(found) => found,
        Err(error) => {
            // the starter is gone only when nobody wants the node any more
            let _ = opened.send(Err(error.into()));
            return;
        }
    };
    let recovered: HashMap<_, _> = recovered.into_iter().map(|found| (found.id, found)).collect();
    let mut owner = Owner::new(config.node_id, store, recovered, partitions, clock);
    let _ = opened.send(Ok(()));
    let mut pace = Pace::default();
    while let Some(commands) = queue.take(group_bytes_max, pace.company()) {
        let (count, started) = (commands.len(), std::time::Instant::now());
        for command in commands {
            match command {
                Command::Append { appends, reply, permit } => owner.append(appends, reply, permit),
                Command::Control(control) => control(&mut owner),
            }
        }
        owner.commit();
        pace.took(count, started.elapsed());
        if let Some(reply) = owner.closing() {
            let result = owner.close();
            // the directory is free before anybody hears of it
            let _ = reply.send(result);
            return;
        }
    }
}

fn not_durable(failure: &SyncFailure) -> Error {
    let message = format!("partition {} stopped: {}; mend the disk and restart", failure.id, failure.reason);
    Error::new(ErrorCode::PartitionFailed, message)
}

pub(crate) fn stopped() -> Error {
    Error::new(ErrorCode::Unavailable, "the node is stopping: try again when it is back")
}

fn unknown_outcome() -> Error {
    let message = "the node stopped before it answered, the outcome is unknown: send the same request again when it is back";
    Error::new(ErrorCode::Unavailable, message)
}
