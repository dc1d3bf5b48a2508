//! The one task that changes the metadata.
//!
//! For each request: decide from the state, try the command on a copy (a refusal is not appended), prepare partitions, commit,
//! publish the new image, then let go of what is no longer needed. So:
//!
//! - A topic is visible only when its partitions are open here, and its partitions are removed only when it is invisible.
//! - The image is never ahead of what is committed, and never behind what was acknowledged.
//! - After a commit whose outcome is unknown the task is *behind*: it reads what is there before it decides anything again. A
//!   command that arrives even later is noticed by the index of the next one, and folded in its place.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sunseo_proto::PartitionId;
use sunseo_proto::error::{Error, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::command::Command;
use super::fold::{Fold, decode};
use super::log::MetadataLog;
use super::{Event, State, Topic};
use crate::internal::SharedInternalLog;

/// Time between two attempts at what could not be done.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What to commit, decided from the present state; `None`: it is as it should be.
pub(super) type Decide = Box<dyn FnOnce(&State) -> Result<Option<Command>> + Send>;

pub(super) struct Request {
    pub(super) decide: Decide,
    pub(super) reply: oneshot::Sender<Result<Option<Event>>>,
}

#[derive(Debug)]
pub(super) struct Applier {
    node_id: i32,
    log: Arc<dyn MetadataLog>,
    partitions: SharedInternalLog,
    snapshot_commands: u64,
    fold: Fold,
    /// The log may hold commands that are not folded.
    behind: bool,
    /// Partitions that were made for a topic that may not have come to be.
    orphans: Vec<PartitionId>,
    /// Partitions that are not needed and could not be removed yet.
    doomed: Vec<PartitionId>,
    /// Topics whose partitions do not have their newest settings yet.
    unsettled: Vec<Arc<Topic>>,
    /// First index that the log still has.
    log_start: i64,
    image: watch::Sender<Arc<State>>,
}

/// What an applier is made from.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) node_id: i32,
    pub(super) log: Arc<dyn MetadataLog>,
    pub(super) partitions: SharedInternalLog,
    pub(super) snapshot_commands: u64,
}

impl Applier {
    /// Folds what is stored. Partitions are not touched: the node compares its disk with the image afterwards.
    pub(super) async fn open(parts: Parts) -> Result<Self> {
        let Parts { node_id, log, partitions, snapshot_commands } = parts;
        log.open().await?;
        let mut fold = Fold::default();
        let log_start = log.start().await?;
        let mut next = log_start;
        loop {
            let commands = log.read(next).await?;
            let Some((last, _)) = commands.last() else { break };
            next = last + 1;
            for (index, bytes) in &commands {
                if let Err(error) = fold.apply(*index, &decode(*index, bytes)?) {
                    tracing::debug!(index, %error, "a metadata command was refused when it was made, and is again");
                }
            }
        }
        let (image, _) = watch::channel(Arc::new(fold.state.clone()));
        Ok(Self {
            node_id,
            log,
            partitions,
            snapshot_commands,
            fold,
            behind: false,
            orphans: Vec::new(),
            doomed: Vec::new(),
            unsettled: Vec::new(),
            log_start,
            image,
        })
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<State>> {
        self.image.subscribe()
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>, stop: CancellationToken) {
        loop {
            let request = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                request = requests.recv() => request,
                () = tokio::time::sleep(RETRY_INTERVAL), if self.has_leftovers() => {
                    self.tidy().await;
                    continue;
                }
            };
            let Some(Request { decide, reply }) = request else { return };
            // the requester may be gone: what it asked for is done all the same
            let _ = reply.send(self.handle(decide).await);
            self.snapshot_when_due().await;
            self.tidy().await;
        }
    }

    /// Decides and commits one change.
    pub(super) async fn handle(&mut self, decide: Decide) -> Result<Option<Event>> {
        self.catch_up(None).await?;
        let Some(command) = decide(&self.fold.state)? else { return Ok(None) };
        let mut state = self.fold.state.clone();
        let event = state.apply(&command)?;
        self.prepare(&event).await?;
        self.commit(&command).await.map(Some)
    }

    async fn commit(&mut self, command: &Command) -> Result<Event> {
        // until the answer is there, the log may hold more than the fold
        self.behind = true;
        let index = self.log.propose(command.encode()).await?;
        if index != self.fold.applied + 1 {
            return self.catch_up(Some(index)).await?.unwrap_or_else(|| {
                Err(Error::internal(format!("metadata command {index} is committed and not readable")))
            });
        }
        let event = self.fold.apply(index, command)?;
        self.behind = false;
        self.publish();
        self.after(&event).await;
        Ok(event)
    }

    /// Folds what the log holds beyond the fold; returns what became of the command at `wanted`.
    async fn catch_up(&mut self, wanted: Option<i64>) -> Result<Option<Result<Event>>> {
        let mut found = None;
        while self.behind {
            let commands = self.log.read(self.fold.applied + 1).await?;
            self.behind = !commands.is_empty();
            for (index, bytes) in commands {
                let command = decode(index, &bytes)?;
                let mut next = self.fold.clone();
                let result = next.apply(index, &command);
                if let Ok(event) = &result {
                    // stays behind when this fails, and tries again
                    self.behind = true;
                    self.prepare(event).await?;
                }
                self.fold = next;
                self.publish();
                if let Ok(event) = &result {
                    self.after(event).await;
                }
                if wanted == Some(index) {
                    found = Some(result);
                }
            }
        }
        Ok(found)
    }

    fn publish(&self) {
        self.image.send_replace(Arc::new(self.fold.state.clone()));
    }

    fn is_here(&self, topic: &Topic) -> bool {
        topic.replicas.contains(&self.node_id)
    }

    /// Opens the partitions that a change brings, before it is visible.
    async fn prepare(&mut self, event: &Event) -> Result<()> {
        let (topic, from) = match event {
            Event::TopicCreated(topic) => (topic, 0),
            Event::TopicAltered { topic, partitions_before } => (topic, *partitions_before),
            _ => return Ok(()),
        };
        if !self.is_here(topic) {
            return Ok(());
        }
        let ids: Vec<PartitionId> = topic.partition_ids().filter(|id| id.partition >= from).collect();
        // whether the change comes to be is not known yet: `tidy` decides by the state
        self.orphans.extend(&ids);
        self.ensure_all(topic, ids).await
    }

    /// Together, so that they share the disk's syncs; all are tried, whichever fails.
    async fn ensure_all(&self, topic: &Topic, ids: Vec<PartitionId>) -> Result<()> {
        let ensures = ids.into_iter().map(|id| self.partitions.ensure(id, topic.settings()));
        join_all(ensures).await.into_iter().collect()
    }

    /// What a change makes superfluous or different, after it is visible.
    async fn after(&mut self, event: &Event) {
        match event {
            Event::TopicAltered { topic, .. } if self.is_here(topic) => self.unsettled.push(topic.clone()),
            Event::TopicDeleted(topic) if self.is_here(topic) => self.doomed.extend(topic.partition_ids()),
            _ => return,
        }
        self.settle().await;
        self.remove_doomed().await;
    }

    fn has_leftovers(&self) -> bool {
        self.behind
            || !(self.orphans.is_empty() && self.doomed.is_empty() && self.unsettled.is_empty())
            || self.fold.snapshot > self.log_start
    }

    /// Brings disk and state together again after failures; what fails is tried again later.
    async fn tidy(&mut self) {
        if let Err(error) = self.catch_up(None).await {
            tracing::warn!(%error, "the metadata log cannot be read: changes are refused until it can");
            return;
        }
        let orphans = std::mem::take(&mut self.orphans);
        let state = &self.fold.state;
        let belongs = |id: &PartitionId| {
            state.topic_by_id(id.topic_id).is_some_and(|topic| id.partition < topic.partitions)
        };
        self.doomed.extend(orphans.into_iter().filter(|id| !belongs(id)));
        self.settle().await;
        self.remove_doomed().await;
        self.trim().await;
    }

    async fn settle(&mut self) {
        for topic in std::mem::take(&mut self.unsettled) {
            // a later change, or the end of the topic, has its own way here
            let current =
                self.fold.state.topic_by_id(topic.id).is_some_and(|now| now.version == topic.version);
            if !current {
                continue;
            }
            if let Err(error) = self.ensure_all(&topic, topic.partition_ids().collect()).await {
                tracing::warn!(%error, topic = %topic.name, "new settings are not in force yet, trying again");
                self.unsettled.push(topic);
            }
        }
    }

    async fn remove_doomed(&mut self) {
        let doomed = std::mem::take(&mut self.doomed);
        let removed = join_all(doomed.iter().map(|id| self.partitions.remove(*id))).await;
        for (id, result) in doomed.into_iter().zip(removed) {
            if let Err(error) = result {
                tracing::warn!(%error, partition = %id, "a deleted partition is still on the disk, trying again");
                self.doomed.push(id);
            }
        }
    }

    async fn snapshot_when_due(&mut self) {
        if self.behind || self.fold.since_snapshot < self.snapshot_commands {
            return;
        }
        let snapshot = self.fold.state.snapshot(self.fold.applied);
        if let Err(error) = self.commit(&snapshot).await {
            tracing::warn!(%error, "no snapshot of the metadata, trying again");
        }
    }

    async fn trim(&mut self) {
        let before = self.fold.snapshot;
        if before <= self.log_start {
            return;
        }
        match self.log.trim(before).await {
            Ok(()) => self.log_start = before,
            Err(error) => tracing::warn!(%error, before, "the metadata log was not trimmed, trying again"),
        }
    }
}
