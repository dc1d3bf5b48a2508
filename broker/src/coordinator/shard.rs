//! The task that owns one partition of `__offsets` and the groups in it.
//!
//! One turn: take what is waiting, work it off on the groups in memory, append the records of all of it at once, answer. When the
//! append fails the memory may be ahead of what is stored, so it is thrown away and folded anew before anything else is done.
//!
//! A session ends by what was heard, not by the time: when more requests wait than one turn takes, time stands still for the sessions at
//! the moment when the last request of the turn was asked. So a backlog of the node is blamed on no member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sunseo_proto::PartitionId;
use sunseo_proto::error::Result;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::turn::{Turn, TurnFacts};
use super::{CoordinatorConfig, HighWatermarks};
use crate::folded::{FoldedLog, Reply, not_stored};
use crate::group::Group;
use crate::group::record::GroupRecord;
use crate::internal::SharedInternalLog;
use crate::metadata::State;

/// Requests of one turn.
const BATCH_MAX: usize = 512;
/// Time between two looks at the sessions.
const TICK: Duration = Duration::from_millis(250);
/// Longer than this it waits only when the process stood still: then the node was away, and not the members.
const AWAY_MS: i64 = 2_000;

/// Works on the groups, or is told why that is not possible.
pub(super) type Work = Box<dyn FnOnce(Result<&mut Turn<'_>>) -> Reply + Send>;

/// A request.
pub(super) struct Job {
    /// Before it began to wait for its turn.
    pub(super) asked: Instant,
    pub(super) work: Work,
}

/// What a shard looks at and does not own.
#[derive(Debug)]
pub(super) struct World {
    pub(super) config: Arc<CoordinatorConfig>,
    pub(super) images: watch::Receiver<Arc<State>>,
    pub(super) high_watermarks: HighWatermarks,
    /// Wall-clock time when the node started.
    pub(super) started_wall_ms: i64,
}

#[derive(Debug)]
pub(super) struct Shard {
    world: World,
    store: FoldedLog<GroupRecord>,
    groups: BTreeMap<String, Group>,
    /// The groups have not seen the newest topics.
    topics_changed: bool,
    begun: Instant,
    /// When it last began to wait for something to do; it never waits longer than a tick unless the process stands still.
    idle_since: Instant,
}

impl Shard {
    pub(super) async fn load(log: SharedInternalLog, id: PartitionId, world: World) -> Result<Self> {
        let mut store = FoldedLog::open(log, id).await?;
        let groups = store.load().await?;
        let now = Instant::now();
        let mut shard = Self { world, store, groups, topics_changed: true, begun: now, idle_since: now };
        shard.begin_sessions();
        Ok(shard)
    }

    fn begin_sessions(&mut self) {
        let (now_ms, wall_ms) = (elapsed_ms(self.begun), self.wall_ms());
        for group in self.groups.values_mut() {
            group.restart_sessions(now_ms);
            group.note_idle(wall_ms);
        }
        // the topics may have changed since the records were written
        self.topics_changed = true;
    }

    fn wall_ms(&self) -> i64 {
        self.world.started_wall_ms.saturating_add(elapsed_ms(self.begun))
    }

    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut batch = Vec::new();
            let mut look = false;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // before the requests: however many there are, sessions must end
                _ = ticks.tick() => look = true,
                job = jobs.recv() => match job {
                    Some(job) => batch.push(job),
                    None => return,
                },
                Ok(()) = self.world.images.changed() => self.topics_changed = true,
            }
            let away_ms = elapsed_ms(self.idle_since);
            let looked = Instant::now();
            // heartbeats that are waiting count before any session is ended
            while batch.len() < BATCH_MAX
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
            // whoever waits at the door has its place in the queue and has not been heard
            let all = jobs.is_empty() && jobs.capacity() == jobs.max_capacity();
            let heard = batch.last().filter(|_| !all).map_or(looked, |job| job.asked.min(looked));
            if away_ms > AWAY_MS {
                self.groups.values_mut().for_each(|group| group.extend_sessions(away_ms));
            }
            self.turn(batch, look.then_some(heard)).await;
            self.idle_since = Instant::now();
        }
    }

    /// `look` until when everything was heard: sessions that were over by then end.
    async fn turn(&mut self, batch: Vec<Job>, look: Option<Instant>) {
        if let Err(error) = self.reload_when_unsure().await {
            let error = not_stored("group", error);
            for job in batch {
                (job.work)(Err(error.clone()))(Ok(()));
            }
            return;
        }
        self.topics_changed |= self.world.images.has_changed().unwrap_or(false);
        let image = self.world.images.borrow_and_update().clone();
        let (now_ms, wall_ms, begun) = (elapsed_ms(self.begun), self.wall_ms(), self.begun);
        let World { config, high_watermarks, .. } = &self.world;
        let facts = TurnFacts { config, image: &image, high_watermarks, now_ms, wall_ms };
        let mut turn = Turn::new(&mut self.groups, facts);
        if std::mem::take(&mut self.topics_changed) {
            turn.refresh();
        }
        let replies: Vec<Reply> = batch.into_iter().map(|job| (job.work)(Ok(&mut turn))).collect();
        if let Some(heard) = look {
            let heard_ms = i64::try_from(heard.saturating_duration_since(begun).as_millis());
            turn.expire(heard_ms.unwrap_or(i64::MAX));
            turn.forget_idle();
        }
        let records = turn.into_records();
        let stored = self.store.append(&records).await;
        if let Err(error) = &stored {
            tracing::warn!(%error, partition = %self.store.id(), "changes of consumer groups were not stored, reading back");
        }
        for reply in replies {
            reply(stored.clone().map_err(|error| not_stored("group", error)));
        }
        let groups = &self.groups;
        self.store.tidy(self.world.config.groups.snapshot_records, || GroupRecord::snapshot(groups)).await;
    }

    async fn reload_when_unsure(&mut self) -> Result<()> {
        if !self.store.is_unsure() {
            return Ok(());
        }
        self.groups = self.store.load().await?;
        self.begin_sessions();
        Ok(())
    }
}

fn elapsed_ms(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}
