//! Reads partitions by hand or as a member of a group.
//!
//! One task fetches ahead (`fetcher`), one keeps the membership (`heart`), one commits (`commit`), one follows the topics of the
//! subscription (`topics`); what they know is in a `Book` and a `Member`, both pure. `poll` and the streams (`stream`) hand out what
//! is there.
//!
//! Invariants: records of a partition come in order; none is skipped unless a policy or a seek says so. A partition that the
//! group takes away is confirmed only at the next `poll` or step of a stream (or `close`), when everything handed out counts as
//! processed: so no two members work on it at once. No commit writes what a stream has not handed out. Headers that begin with `sunseo.` and control batches are not handed out.
//! Not here: processing in parallel; a consumer delivers at least once, who needs more keeps offsets with the results.

mod book;
mod commit;
pub mod config;
mod fetcher;
#[cfg(test)]
mod flow_tests;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod heart;
pub mod listener;
mod member;
mod offsets;
mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod topics;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, Record};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::book::{Book, Key};
pub use self::commit::{CommitHandle, Committed, OffsetToCommit};
pub use self::config::{ConsumerConfig, Isolation, OutOfRangePolicy, StartFrom, Subscription};
pub use self::listener::{AssignedPartition, RebalanceListener};
use self::member::{Identity, Member};
pub use self::stream::ConsumedBatch;
use crate::admin::OffsetQuery;
use crate::metadata::SharedMetadata;
use crate::retry;
use crate::transaction::GroupMetadata;
use crate::transport::SharedTransport;

/// Longest wait for the answer to a heartbeat or commit.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait before another look at what is due.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A record and where it came from; its offset is in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    pub topic: Arc<str>,
    pub partition: i32,
    pub record: Record,
}

#[derive(Debug)]
struct Core {
    book: Book,
    /// In a group.
    member: Option<Member>,
    /// Changes of the assignment that the listener was not told of.
    changes: VecDeque<listener::Change>,
    /// The member's epoch when records were handed out last.
    handed_epoch: Option<i32>,
    /// What automatic commits have written.
    committed: HashMap<Key, i64>,
    /// When the next automatic commit is due.
    commit_at: Option<Instant>,
    /// Why nothing comes at the moment.
    trouble: Option<Error>,
    /// Why nothing will come any more.
    fatal: Option<Error>,
    /// The end of the last poll, or the time until which the current one waits.
    polled: Instant,
}

/// What the consumer and its tasks share.
#[derive(Debug)]
struct Shared {
    transport: SharedTransport,
    metadata: SharedMetadata,
    config: ConsumerConfig,
    core: Mutex<Core>,
    /// For the fetcher: there may be something to ask for.
    room: Notify,
    /// For `poll`: there may be something to hand out or to let go.
    news: Notify,
    /// For the member: a heartbeat is due now.
    beat: Notify,
    /// Heartbeats that were answered.
    beats: watch::Sender<u64>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads records in order per partition. Dropped without [`close`](Self::close) in a group, its partitions wait for the
/// session time-out.
///
/// Use one way of reading at a time: [`poll`](Self::poll), [`stream`](Self::stream) or [`batches`](Self::batches).
pub struct Consumer {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    commits: mpsc::Sender<commit::Job>,
    listener: Option<Arc<dyn RebalanceListener>>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("subscription", &self.shared.config.subscription)
            .finish_non_exhaustive()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What `poll` has to do next.
enum Duty<T> {
    /// Nothing will come any more.
    End(Error),
    Tell(listener::Change),
    LetGo,
    Commit,
    Give(Result<T>),
    /// There is nothing: until when to wait.
    Wait(Instant),
}

fn key(topic: &str, partition: i32) -> Key {
    (Arc::from(topic), partition)
}

impl Consumer {
    pub(crate) async fn start(
        transport: SharedTransport,
        metadata: SharedMetadata,
        config: ConsumerConfig,
    ) -> Result<Self> {
        config.validate()?;
        let mut book = Book::default();
        for (key, offset) in begin_by_hand(&transport, &metadata, &config).await? {
            let id = metadata.id(&key.0);
            book.assign_of(key, offset, id);
        }
        let member = membership(&transport, &config).await?;
        let grouped = member.is_some();
        let commit_at = config.auto_commit.filter(|_| grouped).map(|interval| Instant::now() + interval);
        let assigned: Vec<Key> = book.keys().cloned().collect();
        let core = Core {
            book,
            member,
            changes: VecDeque::from([listener::Change::Assigned(assigned)]),
            handed_epoch: None,
            committed: HashMap::new(),
            commit_at,
            trouble: None,
            fatal: None,
            polled: Instant::now(),
        };
        let shared = Arc::new(Shared {
            transport,
            metadata,
            config,
            core: Mutex::new(core),
            room: Notify::new(),
            news: Notify::new(),
            beat: Notify::new(),
            beats: watch::Sender::new(0),
        });
        let (commits, jobs) = mpsc::channel(commit::JOBS_MAX);
        let mut tasks = vec![tokio::spawn(fetcher::run(Arc::clone(&shared)))];
        if grouped {
            tasks.push(tokio::spawn(heart::run(Arc::clone(&shared))));
            tasks.push(tokio::spawn(commit::run(Arc::clone(&shared), jobs)));
        }
        if topics::changes(&shared.config) {
            tasks.push(tokio::spawn(topics::follow(Arc::clone(&shared))));
        }
        Ok(Self { shared, tasks, commits, listener: None })
    }

    /// Tells a listener of every change of the assignment from now on, the first one included when nothing was polled yet.
    pub fn set_listener(&mut self, listener: Arc<dyn RebalanceListener>) {
        self.listener = Some(listener);
    }

    /// The next records, in order per partition; empty when none came within `max_wait`. In a group, the call says that
    /// everything handed out before is processed: it is what automatic commits write and what lets revoked partitions go.
    ///
    /// # Errors
    /// A partition that cannot be read on, after the records before it were handed out, at every poll until a seek; a group
    /// that refuses the member; `FENCED_INSTANCE` when another process has joined under the same instance id.
    pub async fn poll(&mut self, max_wait: Duration) -> Result<Vec<ConsumedRecord>> {
        let most = self.shared.config.max_poll_records;
        let hand_out = |book: &mut Book| {
            let records = book.hand_out(most)?;
            Ok(Some(records).filter(|records| !records.is_empty()))
        };
        Ok(self.next_of(Some(Instant::now() + max_wait), hand_out).await?.unwrap_or_default())
    }

    /// Sees to what is due, then hands out; waits until there is something, or until the deadline.
    async fn next_of<T>(
        &self,
        deadline: Option<Instant>,
        mut hand_out: impl FnMut(&mut Book) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        loop {
            match self.duty(deadline, &mut hand_out) {
                Duty::End(error) => return Err(error),
                Duty::Tell(change) => self.tell(change).await,
                Duty::LetGo => self.let_go().await,
                Duty::Commit => self.commit_due().await,
                Duty::Give(item) => return item.map(Some),
                Duty::Wait(_) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    self.shared.lock().polled = Instant::now();
                    return Ok(None);
                }
                Duty::Wait(until) => {
                    let _ = tokio::time::timeout_at(until, self.shared.news.notified()).await;
                }
            }
        }
    }

    /// What has to be done first; hands out when that is nothing.
    fn duty<T>(
        &self,
        deadline: Option<Instant>,
        hand_out: &mut impl FnMut(&mut Book) -> Result<Option<T>>,
    ) -> Duty<T> {
        let mut core = self.shared.lock();
        let now = Instant::now();
        // somebody polls for as long as this waits, but not for ever: whoever drops the future is not polling
        let wait_until = deadline.unwrap_or(now + WAIT_MAX).min(now + WAIT_MAX);
        core.polled = core.polled.max(wait_until);
        if let Some(member) = core.member.as_mut().filter(|member| member.away) {
            member.away = false;
            self.shared.beat.notify_one();
        }
        if let Some(fatal) = &core.fatal {
            return Duty::End(fatal.clone());
        }
        if let Some(change) = core.changes.pop_front() {
            return Duty::Tell(change);
        }
        if core.member.as_ref().is_some_and(Member::is_revoking) {
            return Duty::LetGo;
        }
        if core.commit_at.is_some_and(|at| now >= at) {
            return Duty::Commit;
        }
        let item = match hand_out(&mut core.book) {
            Ok(None) => return Duty::Wait(core.commit_at.map_or(wait_until, |at| wait_until.min(at))),
            Ok(Some(item)) => Ok(item),
            Err(error) => Err(error),
        };
        core.polled = now;
        core.handed_epoch = core.member.as_ref().map(Member::epoch);
        if !core.book.pending() {
            self.shared.room.notify_one();
        }
        Duty::Give(item)
    }

    async fn tell(&self, change: listener::Change) {
        let Some(listener) = &self.listener else { return };
        match change {
            listener::Change::Assigned(partitions) => {
                if !partitions.is_empty() {
                    listener.assigned(self, &partitions).await;
                }
            }
            listener::Change::Lost(partitions) => listener.lost(self, &partitions).await,
        }
    }

    /// Next offset that `poll` hands out; `None` when the partition is not assigned.
    #[must_use]
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.shared.lock().book.position(&key(topic, partition))
    }

    /// Goes on at another offset.
    ///
    /// # Errors
    /// When the partition is not assigned, or the offset is negative.
    pub fn seek(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.shared.lock().book.seek(&key(topic, partition), offset)?;
        self.shared.room.notify_one();
        Ok(())
    }

    /// Goes on at another place: start, end, an offset, so many records before the end, or a time.
    ///
    /// # Errors
    /// As [`seek`](Self::seek), or what the broker says.
    pub async fn seek_to(&self, topic: &str, partition: i32, place: StartFrom) -> Result<()> {
        let key = key(topic, partition);
        let (transport, config) = (&self.shared.transport, &self.shared.config);
        let found = offsets::begin(transport, std::slice::from_ref(&key), place, config.isolation).await?;
        self.seek(topic, partition, found.first().copied().unwrap_or_default())
    }

    /// The offsets of the first records at or after a time, in the order of the question; `None` where there is no such record.
    ///
    /// # Errors
    /// What the broker says, of the first partition that it refuses.
    pub async fn offsets_for_times(&self, times: &[(String, i32, i64)]) -> Result<Vec<Option<i64>>> {
        let asked =
            times.iter().map(|(topic, partition, ms)| (key(topic, *partition), OffsetQuery::Timestamp(*ms)));
        offsets::list_each(&self.shared.transport, asked, self.shared.config.isolation).await
    }

    /// The first offsets there are.
    ///
    /// # Errors
    /// As [`offsets_for_times`](Self::offsets_for_times).
    pub async fn beginning_offsets(&self, partitions: &[(String, i32)]) -> Result<Vec<i64>> {
        self.ends(partitions, OffsetQuery::Start).await
    }

    /// The ends that this consumer can see.
    ///
    /// # Errors
    /// As [`offsets_for_times`](Self::offsets_for_times).
    pub async fn end_offsets(&self, partitions: &[(String, i32)]) -> Result<Vec<i64>> {
        self.ends(partitions, OffsetQuery::End).await
    }

    async fn ends(&self, partitions: &[(String, i32)], at: OffsetQuery) -> Result<Vec<i64>> {
        let asked = partitions.iter().map(|(topic, partition)| (key(topic, *partition), at));
        let found = offsets::list_each(&self.shared.transport, asked, self.shared.config.isolation).await?;
        Ok(found.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Hands out nothing of this partition until [`resume`](Self::resume).
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn pause(&self, topic: &str, partition: i32) -> Result<()> {
        self.shared.lock().book.pause(&key(topic, partition), true)
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn resume(&self, topic: &str, partition: i32) -> Result<()> {
        self.shared.lock().book.pause(&key(topic, partition), false)?;
        self.shared.room.notify_one();
        self.shared.news.notify_one();
        Ok(())
    }

    /// Who this member was when records were handed out last, for offsets that are committed in a transaction; `None` outside a group. To
    /// be taken with the records, and [`positions`](Self::positions) right after it: offsets of partitions that were lost since then are
    /// refused, also when the member has them again.
    #[must_use]
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        let core = self.shared.lock();
        let member = core.member.as_ref()?;
        Some(GroupMetadata {
            group: member.identity().group.clone(),
            member_id: member.identity().member_id.clone(),
            member_epoch: core.handed_epoch.unwrap_or_else(|| member.epoch()),
        })
    }

    /// Topic, partition and next offset of everything that is assigned: what [`commit`](Self::commit) writes.
    #[must_use]
    pub fn positions(&self) -> Vec<(String, i32, i64)> {
        let positions = self.shared.lock().book.positions();
        positions
            .into_iter()
            .map(|((topic, partition), offset)| (topic.to_string(), partition, offset))
            .collect()
    }

    /// What is read now.
    #[must_use]
    pub fn assignment(&self) -> Vec<(Arc<str>, i32)> {
        self.shared.lock().book.keys().cloned().collect()
    }

    /// Records between the position and the end that this consumer can see (the last stable offset, or the high watermark when it
    /// reads uncommitted records), `None` until the first fetch of the partition.
    #[must_use]
    pub fn lag(&self, topic: &str, partition: i32) -> Option<i64> {
        self.shared.lock().book.lag(&key(topic, partition))
    }

    /// Why nothing comes at the moment, when the broker cannot be reached or refuses for now.
    #[must_use]
    pub fn trouble(&self) -> Option<Error> {
        self.shared.lock().trouble.clone()
    }
}

/// The first offsets of partitions that no group assigns.
async fn begin_by_hand(
    transport: &SharedTransport,
    metadata: &SharedMetadata,
    config: &ConsumerConfig,
) -> Result<Vec<(Key, i64)>> {
    let keys: Vec<Key> = match &config.subscription {
        Subscription::Group { .. } => return Ok(Vec::new()),
        Subscription::Partitions(partitions) => {
            for topic in partitions.iter().map(|(topic, _)| topic).collect::<BTreeSet<_>>() {
                retry::repeat(config.retry, || metadata.refresh(topic)).await?;
            }
            partitions.iter().map(|(topic, partition)| key(topic, *partition)).collect()
        }
        Subscription::Topics(entries) => {
            let topics = retry::repeat(config.retry, || topics::resolve(transport, entries)).await?;
            retry::repeat(config.retry, || topics::partitions(metadata, &topics)).await?
        }
    };
    let offsets =
        retry::repeat(config.retry, || offsets::begin(transport, &keys, config.from, config.isolation))
            .await?;
    Ok(keys.into_iter().zip(offsets).collect())
}

async fn membership(transport: &SharedTransport, config: &ConsumerConfig) -> Result<Option<Member>> {
    let Subscription::Group { group, topics, instance_id, assignor } = &config.subscription else {
        return Ok(None);
    };
    Ok(Some(Member::new(Identity {
        group: group.clone(),
        member_id: uuid::Uuid::new_v4().to_string(),
        instance_id: instance_id.clone(),
        topics: retry::repeat(config.retry, || topics::resolve(transport, topics)).await?,
        assignor: assignor.clone(),
        session_timeout: config.session_timeout,
    })))
}
