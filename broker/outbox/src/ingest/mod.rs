//! Events that applications push: per (source, shard) an epoch and a dense sequence from 1.
//!
//! - [`core`] decides what a push may do, [`window`] remembers checksums; both pure.
//! - [`shard`] is the task of one shard: pushes that wait together share appends and notes.
//! - [`Ingest`] finds the shard's task and keeps the bound on bytes.

pub(crate) mod core;
pub(crate) mod shard;
pub(crate) mod window;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::shard::{Message, Push, Shard, ShardState};
use crate::checkpoint::stopping;
use crate::config::{INGEST_BYTES_MAX, INGEST_EVENTS_MAX, INGEST_SHARDS_MAX};
use crate::names::check_name;
use crate::source::Context;
use crate::tasks::Tasks;

/// Pushes that wait for one shard; beyond it the caller waits.
const QUEUE_PUSHES_MAX: usize = 64;

/// A shard's task.
#[derive(Clone, Debug)]
struct Handle {
    messages: mpsc::Sender<Message>,
    state: Arc<std::sync::Mutex<ShardState>>,
}

/// The door for pushes.
#[derive(Debug)]
pub struct Ingest {
    context: Arc<Context>,
    tasks: Arc<Tasks>,
    shards: std::sync::Mutex<HashMap<(String, String), Handle>>,
    bytes: Arc<Semaphore>,
}

fn refused(error: Error, state: ShardState) -> v1::IngestResponse {
    v1::IngestResponse {
        accepted_through: state.accepted_through,
        error: Some(error.into()),
        ..v1::IngestResponse::default()
    }
}

impl Ingest {
    pub fn new(context: Arc<Context>, tasks: Arc<Tasks>) -> Self {
        let bytes = Arc::new(Semaphore::new(context.config.ingest_bytes.min(u32::MAX as usize)));
        Self { context, tasks, shards: std::sync::Mutex::default(), bytes }
    }

    /// A new epoch; every earlier one is fenced.
    pub async fn open(&self, source: &str, shard: &str) -> Result<ShardState> {
        let handle = self.handle(source, shard, true)?;
        let (answer, opened) = oneshot::channel();
        handle.messages.send(Message::Open(answer)).await.map_err(|_| stopping())?;
        opened.await.map_err(|_| stopping())?
    }

    /// What is accepted, also while pushes are under way.
    pub fn state(&self, source: &str, shard: &str) -> Result<ShardState> {
        Ok(self.handle(source, shard, false)?.read())
    }

    /// Queues a push now; the future is its answer. Pushes of a shard take effect in the order of these calls.
    /// `epoch` `None` stands for the current one.
    pub async fn submit(
        &self,
        (source, shard): (&str, &str),
        epoch: Option<i32>,
        events: Vec<v1::OutboxEvent>,
    ) -> BoxFuture<'static, v1::IngestResponse> {
        let handle = match self.handle(source, shard, false) {
            Ok(handle) => handle,
            Err(error) => return std::future::ready(refused(error, ShardState::default())).boxed(),
        };
        match self.enqueue(&handle, epoch, events).await {
            Err(error) => std::future::ready(refused(error, handle.read())).boxed(),
            Ok(answer) => async move {
                let gone = |_| refused(stopping(), handle.read());
                answer.await.unwrap_or_else(gone)
            }
            .boxed(),
        }
    }

    async fn enqueue(
        &self,
        handle: &Handle,
        epoch: Option<i32>,
        events: Vec<v1::OutboxEvent>,
    ) -> Result<oneshot::Receiver<v1::IngestResponse>> {
        let bytes: usize = events.iter().map(prost::Message::encoded_len).sum();
        if events.len() > INGEST_EVENTS_MAX || bytes > INGEST_BYTES_MAX {
            let message = format!(
                "a push of {} events and {bytes} bytes: the limits are {INGEST_EVENTS_MAX} events and {INGEST_BYTES_MAX} bytes, send less at a time",
                events.len()
            );
            return Err(Error::new(ErrorCode::BatchTooLarge, message).at("events"));
        }
        let permit = Arc::clone(&self.bytes).try_acquire_many_owned(bytes as u32).map_err(|_| {
            let limit = self.context.config.ingest_bytes;
            let message =
                format!("pushes of {limit} bytes are under way, which is the limit: try again in a moment");
            Error::new(ErrorCode::Overloaded, message)
        })?;
        let (answer, answered) = oneshot::channel();
        let push = Push { epoch, events, answer, _permit: permit };
        handle.messages.send(Message::Push(push)).await.map_err(|_| stopping())?;
        Ok(answered)
    }

    /// The task of a shard, started when it was opened before or `open` is meant to.
    fn handle(&self, source: &str, shard: &str, open: bool) -> Result<Handle> {
        let key = (source.to_owned(), shard.to_owned());
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = shards.get(&key) {
            return Ok(handle.clone());
        }
        check_name("source", source)?;
        check_name("shard", shard)?;
        let stored = self.context.ledger().shards.get(&key).cloned();
        if stored.as_ref().is_some_and(|stored| stored.checkpoint.rows.is_some()) {
            let message = format!("{source:?} was read from a database: push under another name");
            return Err(Error::invalid("source", message));
        }
        if stored.is_none() && !open {
            let message = format!("source {source:?} shard {shard:?} was never opened: open it first");
            return Err(Error::new(ErrorCode::UnknownSource, message));
        }
        if shards.len() >= INGEST_SHARDS_MAX {
            let message =
                format!("{INGEST_SHARDS_MAX} shards are pushed already, which is the limit: push to fewer");
            return Err(Error::new(ErrorCode::Overloaded, message));
        }
        let (messages, queue) = mpsc::channel(QUEUE_PUSHES_MAX);
        let task = Shard::new(Arc::clone(&self.context), key.clone(), stored)?;
        let handle = Handle { messages, state: task.state() };
        self.tasks.spawn(task.run(queue, self.tasks.stopping()));
        shards.insert(key, handle.clone());
        Ok(handle)
    }
}

impl Handle {
    fn read(&self) -> ShardState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
