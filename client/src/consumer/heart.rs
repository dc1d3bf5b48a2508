//! The heartbeats of a group member, and the beginning of what it is given.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt as _;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::time::Instant;

use super::book::Key;
use super::member::Change;
use super::{Core, Shared, listener, offsets};
use crate::retry::draw;

/// Runs until the group refuses the member for good, or the consumer ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let (mut failures, mut last_answer) = (0, Instant::now());
    loop {
        leave_if_nobody_polls(&shared).await;
        let Some(request) = next_heartbeat(&shared) else {
            shared.beat.notified().await;
            continue;
        };
        let sent = Instant::now();
        let pause = match heartbeat(&shared, request).await {
            Ok(answer) => {
                (failures, last_answer) = (0, sent);
                answered(&shared, answer)
            }
            Err(error) if matches!(error.code, ErrorCode::FencedMember | ErrorCode::UnknownMember) => {
                tracing::warn!(%error, "no longer a member of the group, joining again");
                lost(&shared);
                failures += 1;
                shared.config.retry.backoff(failures, draw())
            }
            Err(error) if error.retryable() => {
                failures += 1;
                refused(&shared, error, last_answer);
                shared.config.retry.backoff(failures, draw())
            }
            Err(error) => {
                lost(&shared);
                shared.lock().fatal = Some(error);
                shared.news.notify_one();
                return;
            }
        };
        shared.beats.send_modify(|beats| *beats += 1);
        tokio::select! {
            () = shared.beat.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn next_heartbeat(shared: &Shared) -> Option<v1::GroupHeartbeatRequest> {
    let core = shared.lock();
    core.member
        .as_ref()
        .filter(|member| !member.away && member.is_ready())
        .map(super::member::Member::heartbeat)
}

async fn heartbeat(
    shared: &Shared,
    request: v1::GroupHeartbeatRequest,
) -> Result<v1::GroupHeartbeatResponse> {
    let timeout = super::CALL_TIMEOUT;
    match tokio::time::timeout(timeout, shared.transport.group_heartbeat(request)).await {
        Ok(answer) => answer,
        Err(_) => Err(crate::mux::timed_out("a heartbeat", timeout)),
    }
}

/// How long until the next heartbeat.
fn answered(shared: &Arc<Shared>, answer: v1::GroupHeartbeatResponse) -> std::time::Duration {
    let mut core = shared.lock();
    let Core { member: Some(member), book, .. } = &mut *core else { return super::CALL_TIMEOUT };
    let Change { start, stop } = member.answered(answer);
    let (interval, group) = (member.interval(), member.identity().group.clone());
    for key in &stop {
        book.stop(key);
    }
    drop(core);
    if !stop.is_empty() {
        shared.news.notify_one();
    }
    if !start.is_empty() {
        tokio::spawn(begin(Arc::clone(shared), group, start).boxed());
    }
    interval
}

/// The broker has given the partitions away, or will have: hand out nothing more of them.
fn lost(shared: &Shared) {
    let mut core = shared.lock();
    let Core { member: Some(member), book, committed, .. } = &mut *core else { return };
    let lost = member.lost();
    for key in &lost {
        book.revoke(key);
        committed.remove(key);
    }
    if !lost.is_empty() {
        core.changes.push_back(listener::Change::Lost(lost));
        drop(core);
        shared.news.notify_one();
    }
}

fn refused(shared: &Shared, error: Error, last_answer: Instant) {
    let session = shared.config.session_timeout;
    if !session.is_zero() && last_answer.elapsed() >= session {
        // by now the broker has given the partitions to others
        lost(shared);
    }
    let mut core = shared.lock();
    if core.trouble.is_none() {
        tracing::warn!(%error, "heartbeat refused for now, trying again");
    }
    core.trouble = Some(error);
}

async fn leave_if_nobody_polls(shared: &Shared) {
    let goodbye = {
        let mut core = shared.lock();
        let idle = core.polled.elapsed() > shared.config.max_poll_interval;
        let Core { member: Some(member), .. } = &mut *core else { return };
        if !idle || member.away {
            return;
        }
        member.away = true;
        member.goodbye()
    };
    let interval = shared.config.max_poll_interval;
    tracing::warn!(
        ?interval,
        "nobody has polled for longer than max_poll_interval: leaving the group until the next poll"
    );
    lost(shared);
    if let Err(error) = heartbeat(shared, goodbye).await {
        tracing::debug!(%error, "the group was not told: its session time-out will");
    }
}

/// Finds where the partitions begin and puts them into the book, unless they are taken back meanwhile.
async fn begin(shared: Arc<Shared>, group: String, mut start: Vec<(Key, u64)>) {
    let mut failures = 0;
    loop {
        {
            let core = shared.lock();
            start.retain(|(key, ticket)| core.member.as_ref().is_some_and(|m| m.is_starting(key, *ticket)));
        }
        let keys: Vec<Key> = start.iter().map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            return;
        }
        let (from, isolation) = (shared.config.from, shared.config.isolation);
        let offsets = match learn(&shared, &keys).await {
            Ok(()) => offsets::resume(&shared.transport, &group, &keys, from, isolation).await,
            Err(error) => Err(error),
        };
        match offsets {
            Err(error) if error.retryable() => {
                failures += 1;
                tracing::debug!(%error, "no offsets for the partitions of the group yet, trying again");
                shared.lock().trouble = Some(error);
                tokio::time::sleep(shared.config.retry.backoff(failures, draw())).await;
            }
            offsets => return put(&shared, &start, offsets),
        }
    }
}

/// Which topics are meant, before anything is asked about them.
async fn learn(shared: &Shared, keys: &[Key]) -> Result<()> {
    for topic in keys.iter().map(|key| &key.0).collect::<BTreeSet<_>>() {
        shared.metadata.refresh(topic).await?;
    }
    Ok(())
}

fn put(shared: &Shared, start: &[(Key, u64)], offsets: Result<Vec<(Key, i64)>>) {
    let mut core = shared.lock();
    let Core { member: Some(member), book, .. } = &mut *core else { return };
    let mut begun = Vec::new();
    for (key, ticket) in start {
        if !member.begun(key, *ticket) {
            continue;
        }
        begun.push(key.clone());
        match &offsets {
            Ok(offsets) => {
                let offset = offsets.iter().find(|(found, _)| found == key).map_or(0, |(_, offset)| *offset);
                book.assign_of(key.clone(), offset, shared.metadata.id(&key.0));
            }
            Err(error) => {
                book.assign(key.clone(), 0);
                book.fail(key, error.clone());
            }
        }
    }
    if !begun.is_empty() {
        core.changes.push_back(listener::Change::Assigned(begun));
    }
    drop(core);
    shared.room.notify_one();
    shared.news.notify_one();
}
