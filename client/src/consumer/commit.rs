//! Committing, letting revoked partitions go, and leaving.
//!
//! Invariants: commits are written one after the other in the order in which they were asked for, whoever awaits them: one task works
//! them off. A commit is about the time of owning in which it was asked for: a partition that was lost meanwhile is refused, also when
//! the member has it again. So a late one never moves an offset back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::book::Key;
use super::{CALL_TIMEOUT, Consumer, Core, Shared, key};
use crate::retry::{Decision, draw};

/// Times a commit is repeated because the member's epoch changed under it.
const EPOCH_RETRIES: u32 = 5;

/// Longest wait for the heartbeat that brings the epoch.
const EPOCH_WAIT: Duration = Duration::from_secs(2);

/// Commits that wait for their turn; more are refused, or waited for.
pub(super) const JOBS_MAX: usize = 64;

/// What is to be committed of a partition.
#[derive(Debug)]
struct Offset {
    key: Key,
    /// Of the time of owning that it is about; `None` when the partition was not owned.
    ticket: Option<u64>,
    /// The next offset to read.
    next: i64,
    /// Kept with it.
    metadata: String,
}

impl Offset {
    /// Whether the time of owning goes on, and has begun.
    fn is_owned(&self, core: &Core) -> bool {
        let ticket = core.member.as_ref().and_then(|member| member.ticket(&self.key));
        ticket.is_some() && ticket == self.ticket && core.book.contains(&self.key)
    }
}

/// Offsets of the present times of owning.
fn of_now(core: &Core, offsets: impl IntoIterator<Item = (Key, i64, String)>) -> Vec<Offset> {
    let ticket = |key: &Key| core.member.as_ref().and_then(|member| member.ticket(key));
    let of_now =
        |(key, next, metadata): (Key, i64, String)| Offset { ticket: ticket(&key), key, next, metadata };
    offsets.into_iter().map(of_now).collect()
}

/// A commit that waits for its turn.
#[derive(Debug)]
pub(super) struct Job {
    offsets: Vec<Offset>,
    done: oneshot::Sender<Result<()>>,
}

/// An offset to commit with a text of the application's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetToCommit {
    pub topic: String,
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Kept with the offset, at most 4,096 bytes.
    pub metadata: String,
}

/// What a group has committed of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    pub metadata: String,
}

/// The outcome of [`Consumer::commit_async`], to be awaited or dropped; the commit is written either way.
#[derive(Debug)]
pub struct CommitHandle(oneshot::Receiver<Result<()>>);

impl Future for CommitHandle {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|outcome| outcome.unwrap_or_else(|_| Err(ended())))
    }
}

impl Consumer {
    /// Commits the positions: everything handed out so far counts as processed.
    ///
    /// # Errors
    /// `UNSUPPORTED` outside a group, `FENCED_MEMBER` when partitions are lost, or what the broker says.
    pub async fn commit(&self) -> Result<()> {
        self.commit_in_turn(self.handed_out()).await
    }

    /// [`commit`](Self::commit) without waiting: what is handed out by now is committed after all commits that were asked for before.
    ///
    /// # Errors
    /// `OVERLOADED` when 64 commits wait already; the handle has the errors of [`commit`](Self::commit).
    pub fn commit_async(&self) -> Result<CommitHandle> {
        let (done, outcome) = oneshot::channel();
        self.commits.try_send(Job { offsets: self.handed_out(), done }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Closed(_) => not_in_a_group(),
            mpsc::error::TrySendError::Full(_) => {
                let message =
                    format!("{JOBS_MAX} commits wait for their turn: commit less often, or await one");
                Error::new(ErrorCode::Overloaded, message)
            }
        })?;
        Ok(CommitHandle(outcome))
    }

    /// Commits explicit offsets (topic, partition, next offset to read).
    ///
    /// # Errors
    /// As [`commit`](Self::commit); `FENCED_MEMBER` also when one of the partitions is not assigned, `OFFSET_OUT_OF_RANGE` for an offset
    /// beyond the end.
    pub async fn commit_offsets(&self, offsets: &[(String, i32, i64)]) -> Result<()> {
        let offsets =
            offsets.iter().map(|(topic, partition, offset)| (key(topic, *partition), *offset, String::new()));
        let offsets = of_now(&self.shared.lock(), offsets);
        self.commit_in_turn(offsets).await
    }

    /// Commits explicit offsets, each with a text that [`committed`](Self::committed) gives back.
    ///
    /// # Errors
    /// As [`commit_offsets`](Self::commit_offsets).
    pub async fn commit_with(&self, offsets: Vec<OffsetToCommit>) -> Result<()> {
        let offsets = offsets.into_iter().map(|o| (key(&o.topic, o.partition), o.offset, o.metadata));
        let offsets = of_now(&self.shared.lock(), offsets);
        self.commit_in_turn(offsets).await
    }

    /// What the group has committed of these partitions, in their order; `None` where that is nothing.
    ///
    /// # Errors
    /// `UNSUPPORTED` outside a group, or what the broker says.
    pub async fn committed(&self, partitions: &[(String, i32)]) -> Result<Vec<Option<Committed>>> {
        let group = self.shared.lock().member.as_ref().map(|member| member.identity().group.clone());
        let partition = |(topic, partition): &(String, i32)| v1::TopicPartition {
            topic: topic.clone(),
            partition: *partition,
        };
        let request = v1::FetchOffsetsRequest {
            group: group.ok_or_else(not_in_a_group)?,
            partitions: partitions.iter().map(partition).collect(),
            ..Default::default()
        };
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let offsets = self.shared.transport.fetch_offsets(request).await?.offsets;
        let of = |(topic, partition): &(String, i32)| {
            let found =
                offsets.iter().find(|o| (&o.topic, o.partition) == (topic, *partition) && o.offset >= 0)?;
            Some(Committed { offset: found.offset, metadata: found.metadata.clone() })
        };
        Ok(partitions.iter().map(of).collect())
    }

    fn handed_out(&self) -> Vec<Offset> {
        let core = self.shared.lock();
        let positions = core.book.positions().into_iter();
        of_now(&core, positions.map(|(key, offset)| (key, offset, String::new())))
    }

    async fn commit_in_turn(&self, offsets: Vec<Offset>) -> Result<()> {
        let (done, outcome) = oneshot::channel();
        self.commits.send(Job { offsets, done }).await.map_err(|_| not_in_a_group())?;
        outcome.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Commits (with automatic commits, and what [`commit_async`](Self::commit_async) was asked for) and leaves the group. A static
    /// member's place is kept for its next process, until its session ends.
    ///
    /// # Errors
    /// The commit's; the group is left in any case.
    pub async fn close(mut self) -> Result<()> {
        let grouped = self.shared.lock().member.is_some();
        let automatic = self.shared.lock().commit_at.is_some();
        let result = match (automatic, grouped) {
            (true, _) => self.commit_changes(None).await,
            // behind everything that waits
            (false, true) => self.commit_in_turn(Vec::new()).await,
            (false, false) => Ok(()),
        };
        // no heartbeat after the goodbye: it would join again
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        for task in self.tasks.drain(..) {
            // aborted: that is its only outcome
            let _ = task.await;
        }
        let goodbye = self
            .shared
            .lock()
            .member
            .as_ref()
            .filter(|member| !member.away && member.is_ready())
            .map(super::member::Member::goodbye);
        if let Some(goodbye) = goodbye {
            let told =
                tokio::time::timeout(CALL_TIMEOUT, self.shared.transport.group_heartbeat(goodbye)).await;
            if let Ok(Err(error)) = told {
                tracing::debug!(%error, "the group was not told: its session time-out will");
            }
        }
        result
    }

    /// The automatic commit of what was handed out before.
    pub(super) async fn commit_due(&self) {
        let Some(interval) = self.shared.config.auto_commit else { return };
        self.shared.lock().commit_at = Some(Instant::now() + interval);
        if let Err(error) = self.commit_changes(None).await {
            tracing::warn!(%error, "automatic commit refused, trying again with the next");
        }
    }

    /// Commits what has changed since the last time, of some partitions or of all.
    async fn commit_changes(&self, only: Option<&[Key]>) -> Result<()> {
        let (changed, offsets) = {
            let core = self.shared.lock();
            let positions = core.book.positions().into_iter();
            let changed = positions.filter(|(key, position)| {
                only.is_none_or(|only| only.contains(key)) && core.committed.get(key) != Some(position)
            });
            let changed: Vec<(Key, i64)> = changed.collect();
            let offsets = changed.iter().map(|(key, offset)| (key.clone(), *offset, String::new()));
            let offsets = of_now(&core, offsets);
            (changed, offsets)
        };
        if changed.is_empty() {
            return Ok(());
        }
        self.commit_in_turn(offsets).await?;
        self.shared.lock().committed.extend(changed);
        Ok(())
    }

    /// Gives up what the group has taken back: the listener is told, it is committed if that is automatic, then confirmed by a heartbeat.
    pub(super) async fn let_go(&self) {
        let keys =
            self.shared.lock().member.as_ref().map(super::member::Member::revoking).unwrap_or_default();
        if keys.is_empty() {
            return;
        }
        if let Some(listener) = &self.listener {
            listener.revoked(self, &keys).await;
        }
        let automatic = self.shared.lock().commit_at.is_some();
        if automatic && let Err(error) = self.commit_changes(Some(&keys)).await {
            tracing::warn!(%error, "commit of revoked partitions refused: their next owner repeats some records");
        }
        let mut core = self.shared.lock();
        for key in &keys {
            core.book.revoke(key);
            core.committed.remove(key);
        }
        if let Some(member) = &mut core.member {
            member.let_go(&keys);
        }
        drop(core);
        self.shared.beat.notify_one();
    }
}

fn not_in_a_group() -> Error {
    let message = "offsets are committed by members of a group: subscribe with ConsumerConfig::group";
    Error::new(ErrorCode::Unsupported, message)
}

fn ended() -> Error {
    Error::new(ErrorCode::Unavailable, "the consumer ended before its commit was written: open a new one")
}

/// Writes commits in their order, until the consumer ends.
pub(super) async fn run(shared: Arc<Shared>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(Job { offsets, done }) = jobs.recv().await {
        // whoever asked may not want to know
        let _ = done.send(commit(&shared, offsets).await);
    }
}

/// One commit, repeated while the broker refuses for now or knows a newer epoch of this member.
async fn commit(shared: &Shared, offsets: Vec<Offset>) -> Result<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let (start, mut attempt, mut epoch_retries) = (Instant::now(), 0, 0);
    loop {
        let mut beats = shared.beats.subscribe();
        let (epoch, error) = match attempt_commit(shared, &offsets).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        if error.code == ErrorCode::FencedMember && epoch_retries < EPOCH_RETRIES && owns(shared, &offsets) {
            epoch_retries += 1;
            if current_epoch(shared) == epoch {
                shared.beat.notify_one();
                // without an answer the next attempt says what is wrong
                let _ = tokio::time::timeout(EPOCH_WAIT, beats.changed()).await;
            }
            continue;
        }
        attempt += 1;
        match shared.config.retry.decide(attempt, &error, start.elapsed(), draw()) {
            Decision::RetryAfter(wait) => tokio::time::sleep(wait).await,
            Decision::GiveUp => return Err(error),
        }
    }
}

fn current_epoch(shared: &Shared) -> i32 {
    shared.lock().member.as_ref().map_or(0, super::member::Member::epoch)
}

fn owns(shared: &Shared, offsets: &[Offset]) -> bool {
    let core = shared.lock();
    offsets.iter().all(|offset| offset.is_owned(&core))
}

/// The epoch of the attempt with its error.
async fn attempt_commit(shared: &Shared, offsets: &[Offset]) -> Result<(), (i32, Error)> {
    let request = request(shared, offsets).map_err(|error| (0, error))?;
    let epoch = request.member_epoch;
    let answer = match tokio::time::timeout(CALL_TIMEOUT, shared.transport.commit_offsets(request)).await {
        Ok(answer) => answer.map_err(|error| (epoch, error))?,
        Err(_) => return Err((epoch, crate::mux::timed_out("a commit of offsets", CALL_TIMEOUT))),
    };
    let refused = answer.results.into_iter().find_map(|result| result.error);
    refused.map_or(Ok(()), |error| Err((epoch, error.into())))
}

fn request(shared: &Shared, offsets: &[Offset]) -> Result<v1::CommitOffsetsRequest> {
    let core = shared.lock();
    let Some(member) = &core.member else { return Err(not_in_a_group()) };
    if let Some(Offset { key: lost, .. }) = offsets.iter().find(|offset| !offset.is_owned(&core)) {
        let message = format!(
            "partition {} of topic {:?} is no longer assigned to this member: its next owner goes on from the last commit",
            lost.1, lost.0
        );
        return Err(Error::new(ErrorCode::FencedMember, message));
    }
    let commit = |Offset { key: (topic, partition), next, metadata, .. }: &Offset| v1::OffsetCommit {
        topic: topic.to_string(),
        partition: *partition,
        offset: *next,
        metadata: metadata.clone(),
        ..Default::default()
    };
    Ok(v1::CommitOffsetsRequest {
        group: member.identity().group.clone(),
        member_id: member.identity().member_id.clone(),
        member_epoch: member.epoch(),
        offsets: offsets.iter().map(commit).collect(),
    })
}
