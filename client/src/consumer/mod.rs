//! Reads partitions by hand or as a member of a group.
//!
//! One task fetches ahead (`fetcher`), one keeps the membership (`heart`); what they know is in a `Book`
//! and a `Member`, both pure. `poll` hands out what is there.
//!
//! Invariants: records of a partition come in order; none is skipped unless a policy or a seek says so. A partition that the
//! group takes away is confirmed only at the next `poll` (or `close`), when everything handed out counts as processed: so
//! no two members work on it at once. Headers that begin with `sunseo.` and control batches are not handed out.
//! Not here: processing in parallel; a consumer delivers at least once, who needs more keeps offsets with the results.

mod book;
mod commit;
pub mod config;
mod fetcher;
mod heart;
mod member;
mod offsets;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, Record};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::book::{Book, Key};
pub use self::config::{ConsumerConfig, Isolation, OutOfRangePolicy, StartFrom, Subscription};
use self::member::{Identity, Member};
use crate::metadata::SharedMetadata;
use crate::retry;
use crate::transaction::GroupMetadata;
use crate::transport::SharedTransport;

/// Longest wait for the answer to a heartbeat or commit.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

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
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    /// What automatic commits have written.
    committed: HashMap<Key, i64>,
    commit_at: Option<Instant>,
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
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
            book.assign(key, offset);
        }
        let member = membership(&config);
        let grouped = member.is_some();
        let core = Core { book, member, trouble: None, fatal: None, polled: Instant::now() };
        let shared = Arc::new(Shared {
            transport,
            config,
            core: Mutex::new(core),
            room: Notify::new(),
            news: Notify::new(),
            beat: Notify::new(),
            beats: watch::Sender::new(0),
        });
        let mut tasks = vec![tokio::spawn(fetcher::run(Arc::clone(&shared)))];
        if grouped {
            tasks.push(tokio::spawn(heart::run(Arc::clone(&shared))));
        }
        let commit_at =
            shared.config.auto_commit.filter(|_| grouped).map(|interval| Instant::now() + interval);
        Ok(Self { shared, tasks, committed: HashMap::new(), commit_at })
    }

    /// The next records, in order per partition; empty when none came within `max_wait`. In a group, the call says that
    /// everything handed out before is processed: it is what automatic commits write and what lets revoked partitions go.
    ///
    /// # Errors
    /// A partition that cannot be read on, after the records before it were handed out, at every poll until a seek; a group
    /// that refuses the member.
    pub async fn poll(&mut self, max_wait: Duration) -> Result<Vec<ConsumedRecord>> {
        let deadline = Instant::now() + max_wait;
        self.rejoin_if_away(deadline);
        self.commit_if_due().await;
        loop {
            self.let_go().await;
            let handed_out = {
                let mut core = self.shared.lock();
                if let Some(fatal) = &core.fatal {
                    return Err(fatal.clone());
                }
                core.book.hand_out(self.shared.config.max_poll_records)
            };
            let something = handed_out.as_ref().map_or(true, |records| !records.is_empty());
            if something {
                self.shared.room.notify_one();
            }
            if something || Instant::now() >= deadline {
                self.shared.lock().polled = Instant::now();
                return handed_out;
            }
            let _ = tokio::time::timeout_at(deadline, self.shared.news.notified()).await;
        }
    }

    fn rejoin_if_away(&self, polling_until: Instant) {
        let mut core = self.shared.lock();
        core.polled = polling_until;
        if let Some(member) = core.member.as_mut().filter(|member| member.away) {
            member.away = false;
            self.shared.beat.notify_one();
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
    pub fn seek(&mut self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.shared.lock().book.seek(&key(topic, partition), offset)?;
        self.shared.room.notify_one();
        Ok(())
    }

    /// Hands out nothing of this partition until [`resume`](Self::resume).
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn pause(&mut self, topic: &str, partition: i32) -> Result<()> {
        self.shared.lock().book.pause(&key(topic, partition), true)
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn resume(&mut self, topic: &str, partition: i32) -> Result<()> {
        self.shared.lock().book.pause(&key(topic, partition), false)?;
        self.shared.room.notify_one();
        self.shared.news.notify_one();
        Ok(())
    }

    /// Who this member is, for offsets that are committed in a transaction; `None` outside a group. To be asked for anew with every
    /// transaction.
    #[must_use]
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        let core = self.shared.lock();
        let member = core.member.as_ref()?;
        Some(GroupMetadata {
            group: member.identity().group.clone(),
            member_id: member.identity().member_id.clone(),
            member_epoch: member.epoch(),
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
            partitions.iter().map(|(topic, partition)| key(topic, *partition)).collect()
        }
        Subscription::Topics(topics) => {
            let mut keys = Vec::new();
            for topic in topics {
                let partitions = retry::repeat(config.retry, || metadata.refresh(topic)).await?;
                keys.extend((0..partitions).map(|partition| key(topic, partition)));
            }
            keys
        }
    };
    let offsets =
        retry::repeat(config.retry, || offsets::begin(transport, &keys, config.from, config.isolation))
            .await?;
    Ok(keys.into_iter().zip(offsets).collect())
}

fn membership(config: &ConsumerConfig) -> Option<Member> {
    let Subscription::Group { group, topics, instance_id, assignor } = &config.subscription else {
        return None;
    };
    Some(Member::new(Identity {
        group: group.clone(),
        member_id: uuid::Uuid::new_v4().to_string(),
        instance_id: instance_id.clone(),
        topics: topics.clone(),
        assignor: assignor.clone(),
        session_timeout: config.session_timeout,
    }))
}
