//! Committing, letting revoked partitions go, and leaving.

use std::time::Duration;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::time::Instant;

use super::book::Key;
use super::{CALL_TIMEOUT, Consumer, Shared, key};
use crate::retry::{Decision, draw};

/// Times a commit is repeated because the member's epoch changed under it.
const EPOCH_RETRIES: u32 = 5;

/// Longest wait for the heartbeat that brings the epoch.
const EPOCH_WAIT: Duration = Duration::from_secs(2);

impl Consumer {
    /// Commits the positions: everything handed out so far counts as processed.
    ///
    /// # Errors
    /// `UNSUPPORTED` outside a group, `FENCED_MEMBER` when partitions are lost, or what the broker says.
    pub async fn commit(&self) -> Result<()> {
        let positions = self.shared.lock().book.positions();
        commit(&self.shared, positions).await
    }

    /// Commits explicit offsets (topic, partition, next offset to read).
    ///
    /// # Errors
    /// As [`commit`](Self::commit); `FENCED_MEMBER` also when one of the partitions is not assigned.
    pub async fn commit_offsets(&self, offsets: &[(String, i32, i64)]) -> Result<()> {
        let offsets = offsets.iter().map(|(topic, partition, offset)| (key(topic, *partition), *offset));
        commit(&self.shared, offsets.collect()).await
    }

    /// Commits (with automatic commits) and leaves the group.
    ///
    /// # Errors
    /// The commit's; the group is left in any case.
    pub async fn close(mut self) -> Result<()> {
        let result = match self.commit_at {
            Some(_) => self.commit_changes(None).await,
            None => Ok(()),
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
            .filter(|member| !member.away)
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

    /// The automatic commit of what earlier polls handed out.
    pub(super) async fn commit_if_due(&mut self) {
        let (Some(at), Some(interval)) = (self.commit_at, self.shared.config.auto_commit) else { return };
        if Instant::now() < at {
            return;
        }
        self.commit_at = Some(Instant::now() + interval);
        if let Err(error) = self.commit_changes(None).await {
            tracing::warn!(%error, "automatic commit refused, trying again with the next");
        }
    }

    /// Commits what has changed since the last time, of some partitions or of all.
    async fn commit_changes(&mut self, only: Option<&[Key]>) -> Result<()> {
        let positions = self.shared.lock().book.positions().into_iter().filter(|(key, position)| {
            only.is_none_or(|only| only.contains(key)) && self.committed.get(key) != Some(position)
        });
        let positions: Vec<_> = positions.collect();
        commit(&self.shared, positions.clone()).await?;
        self.committed.extend(positions);
        Ok(())
    }

    /// Gives up what the group has taken back: committed if it is automatic, then confirmed by a heartbeat.
    pub(super) async fn let_go(&mut self) {
        let keys =
            self.shared.lock().member.as_ref().map(super::member::Member::revoking).unwrap_or_default();
        if keys.is_empty() {
            return;
        }
        if self.commit_at.is_some()
            && let Err(error) = self.commit_changes(Some(&keys)).await
        {
            tracing::warn!(%error, "commit of revoked partitions refused: their next owner repeats some records");
        }
        let mut core = self.shared.lock();
        for key in &keys {
            core.book.revoke(key);
            self.committed.remove(key);
        }
        if let Some(member) = &mut core.member {
            member.let_go(&keys);
        }
        drop(core);
        self.shared.beat.notify_one();
    }
}

/// One commit, repeated while the broker refuses for now or knows a newer epoch of this member.
async fn commit(shared: &Shared, offsets: Vec<(Key, i64)>) -> Result<()> {
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

fn owns(shared: &Shared, offsets: &[(Key, i64)]) -> bool {
    let core = shared.lock();
    offsets.iter().all(|(key, _)| core.book.contains(key))
}

/// The epoch of the attempt with its error.
async fn attempt_commit(shared: &Shared, offsets: &[(Key, i64)]) -> Result<(), (i32, Error)> {
    let request = request(shared, offsets).map_err(|error| (0, error))?;
    let epoch = request.member_epoch;
    let answer = match tokio::time::timeout(CALL_TIMEOUT, shared.transport.commit_offsets(request)).await {
        Ok(answer) => answer.map_err(|error| (epoch, error))?,
        Err(_) => return Err((epoch, crate::mux::timed_out("a commit of offsets", CALL_TIMEOUT))),
    };
    let refused = answer.results.into_iter().find_map(|result| result.error);
    refused.map_or(Ok(()), |error| Err((epoch, error.into())))
}

fn request(shared: &Shared, offsets: &[(Key, i64)]) -> Result<v1::CommitOffsetsRequest> {
    let core = shared.lock();
    let Some(member) = &core.member else {
        let message = "offsets are committed by members of a group: subscribe with ConsumerConfig::group";
        return Err(Error::new(ErrorCode::Unsupported, message));
    };
    if let Some((lost, _)) = offsets.iter().find(|(key, _)| !core.book.contains(key)) {
        let message = format!(
            "partition {} of topic {:?} is no longer assigned to this member: its next owner goes on from the last commit",
            lost.1, lost.0
        );
        return Err(Error::new(ErrorCode::FencedMember, message));
    }
    let commit = |((topic, partition), offset): &(Key, i64)| v1::OffsetCommit {
        topic: topic.to_string(),
        partition: *partition,
        offset: *offset,
        metadata: String::new(),
    };
    Ok(v1::CommitOffsetsRequest {
        group: member.identity().group.clone(),
        member_id: member.identity().member_id.clone(),
        member_epoch: member.epoch(),
        offsets: offsets.iter().map(commit).collect(),
    })
}
