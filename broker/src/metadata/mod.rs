//! The cluster's metadata: topics, definitions, producers' identities, nodes.
//!
//! Commands ([`command`]) are ordered by a [`MetadataLog`] and folded by a pure state machine ([`State`]). One task (`applier`)
//! commits; everybody else reads an image, which costs no more than cloning an `Arc`, or waits for the next one.
//!
//! Not here: partitions and their logs (behind [`crate::internal::InternalLog`]), consumer groups (the coordinator).

mod applier;
mod command;
pub(crate) mod config;
pub(crate) mod definitions;
mod fold;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
pub(crate) mod internal_topics;
mod log;
pub(crate) mod names;
pub(crate) mod quotas;
mod requests;
mod state;
mod topic;

use std::sync::{Arc, Mutex, PoisonError};

use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, Result};
use sunseo_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use applier::{Applier, Parts, Request};
use command::{Change, Command, RegisterNode};
pub(crate) use log::{LocalMetadataLog, MetadataLog};
pub(crate) use state::{DefinitionsStamp, Event, State};
pub(crate) use topic::{Topic, TopicKind};

use crate::internal::SharedInternalLog;
use crate::log_thread::stopped;

/// Requests that wait for the task.
const REQUESTS_MAX: usize = 256;
/// Identities for producers without a name that are taken at once.
const PRODUCER_BLOCK: i64 = 1_000;
/// Producers with a name; each keeps its identity for ever.
const PRODUCER_NAMES_MAX: usize = 50_000;

// a snapshot, all of the state, fits in one record
const _: () = assert!(
    PRODUCER_NAMES_MAX * (names::FREE_NAME_BYTES_MAX + 32)
        + 2 * definitions::DEFINITIONS_BYTES_MAX
        + state::DELETED_TOPICS_MAX * 32
        < internal_topics::SYSTEM_BATCH_BYTES_MAX as usize
);

/// What the metadata needs to know of its node.
#[derive(Clone, Debug)]
pub(crate) struct MetadataConfig {
    pub(crate) node_id: i32,
    /// Partitions of a topic whose creation names no number.
    pub(crate) default_partitions: i32,
    /// Partitions of the node, internal ones included.
    pub(crate) partitions_max: usize,
    /// Settings of a topic whose creation names none.
    pub(crate) topic_defaults: v1::TopicConfig,
    /// Commands after which the whole state is written anew and what lies before it is dropped.
    pub(crate) snapshot_commands: u64,
}

impl MetadataConfig {
    pub(crate) fn new(config: &crate::BrokerConfig) -> Self {
        Self {
            node_id: config.node_id,
            default_partitions: config.default_partitions,
            partitions_max: config.limits.partitions_max,
            topic_defaults: config.topic_defaults.clone(),
            snapshot_commands: config.metadata_snapshot_commands,
        }
    }

    fn check(&self) -> Result<()> {
        if self.default_partitions < 1 {
            let message = format!("default_partitions is {}: use at least 1", self.default_partitions);
            return Err(Error::invalid("default_partitions", message));
        }
        config::check(&self.topic_defaults)
    }
}

/// The metadata of a running node; cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: MetadataConfig,
    clock: Arc<dyn Clock>,
    image: watch::Receiver<Arc<State>>,
    requests: mpsc::Sender<Request>,
    /// Identities for producers without a name that are left of the last block.
    block: tokio::sync::Mutex<std::ops::Range<i64>>,
    /// The applier's task, and the way to end it.
    task: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    /// This node's leader epoch.
    epoch: i32,
}

impl Metadata {
    /// Folds the stored commands and registers this start of the node, which raises the leader epoch of everything it leads.
    ///
    /// # Errors
    /// When the log cannot be read or holds what this binary does not understand, or the configuration cannot work.
    pub(crate) async fn start(
        log: Arc<dyn MetadataLog>,
        partitions: SharedInternalLog,
        config: MetadataConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        config.check()?;
        let (node_id, snapshot_commands) = (config.node_id, config.snapshot_commands.max(1));
        let mut applier = Applier::open(Parts { node_id, log, partitions, snapshot_commands }).await?;
        let register =
            RegisterNode { node_id, cluster_id: uuid::Uuid::new_v4().to_string(), at_ms: clock.now_ms() };
        let registered =
            applier.handle(Box::new(move |_| Ok(Some(Change::RegisterNode(register).into())))).await?;
        let Some(Event::NodeRegistered { epoch }) = registered else {
            return Err(Error::internal("the start of the node was not registered"));
        };
        let image = applier.subscribe();
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let stop = CancellationToken::new();
        let task = tokio::spawn(applier.run(receiver, stop.clone()));
        let inner = Inner {
            config,
            clock,
            image,
            requests,
            block: tokio::sync::Mutex::new(0..0),
            task: Mutex::new(Some(task)),
            stop,
            epoch,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The metadata as they are now.
    pub(crate) fn image(&self) -> Arc<State> {
        self.inner.image.borrow().clone()
    }

    /// Follows the metadata: each change is a new image.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.inner.image.clone()
    }

    /// Leader epoch of everything this node leads.
    pub(crate) fn leader_epoch(&self) -> i32 {
        self.inner.epoch
    }

    pub(crate) fn node_id(&self) -> i32 {
        self.inner.config.node_id
    }

    /// Ends the task; requests are refused from then on, images stay.
    pub(crate) async fn stop(&self) {
        self.inner.stop.cancel();
        let task = self.inner.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = match task {
            Some(task) => Some(task.await),
            None => None,
        } {
            tracing::error!(%error, "the metadata's task did not end well");
        }
    }

    /// Commits what `decide` makes of the present state. Goes on to its end if the caller leaves.
    async fn change(
        &self,
        decide: impl FnOnce(&State) -> Result<Option<Command>> + Send + 'static,
    ) -> Result<Option<Event>> {
        let (reply, answer) = oneshot::channel();
        let request = Request { decide: Box::new(decide), reply };
        self.inner.requests.send(request).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

#[cfg(test)]
mod tests;
