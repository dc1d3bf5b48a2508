//! The task that owns one partition of `__transactions` and the ids in it.
//!
//! One turn: take what is waiting, work it off on the book in memory, take back permissions, append the records of all of it at once,
//! give permissions, answer, and begin to finish what was prepared. When the append fails the memory may be ahead of what is stored,
//! so it is thrown away and folded anew before anything else is done; what was prepared is gone on with at the next look. So a log that
//! refuses is asked a few times a second, however much waits for it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sunseo_proto::clock::Clock;
use sunseo_proto::error::Result;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Registry;
use super::book::{Book, finish_of, owed_of};
use super::outcome::{Outcomes, finish};
use super::record::TransactionRecord;
use super::state::{Change, Identity, Now};
use crate::TransactionConfig;
use crate::folded::{FoldedLog, Reply, not_stored};
use crate::internal::SharedInternalLog;
use sunseo_proto::PartitionId;

/// Requests of one turn.
const BATCH_MAX: usize = 512;
/// Time between two looks at the time-outs.
const TICK: Duration = Duration::from_millis(250);
/// Time between two looks for ids that are silent for long.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Told the identity of the next transaction, or dropped: then it asks again.
pub(crate) type Waiter = oneshot::Sender<Identity>;

/// What a request works on.
pub(crate) struct Turn<'a> {
    pub(crate) book: &'a mut Book,
    pub(crate) config: &'a TransactionConfig,
    pub(crate) now: Now,
    waiters: &'a mut HashMap<String, Vec<Waiter>>,
}

impl Turn<'_> {
    /// Is told when the transaction that is being ended is complete.
    pub(crate) fn wait(&mut self, id: &str) -> oneshot::Receiver<Identity> {
        let (waiter, told) = oneshot::channel();
        self.waiters.entry(id.to_owned()).or_default().push(waiter);
        told
    }
}

/// A request: works on the transactions, or is told why that is not possible.
pub(crate) type Job = Box<dyn FnOnce(Result<&mut Turn<'_>>) -> Reply + Send>;

/// What all shards share.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) config: Arc<TransactionConfig>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) outcomes: Arc<dyn Outcomes>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stop: CancellationToken,
}

/// An ended transaction that everyone was told of, but the partitions that failed.
#[derive(Debug)]
struct Finished {
    id: Arc<str>,
    marked: Identity,
    failed: BTreeSet<PartitionId>,
}

#[derive(Debug)]
pub(crate) struct Shard {
    parts: Parts,
    store: FoldedLog<TransactionRecord>,
    book: Book,
    begun: Instant,
    forget_at: Instant,
    waiters: HashMap<String, Vec<Waiter>>,
    /// Ended transactions whose outcome is on its way.
    finishing: HashSet<(Arc<str>, Identity)>,
    finished: mpsc::UnboundedSender<Finished>,
    finishes: mpsc::UnboundedReceiver<Finished>,
    /// The book was read back: the next look goes on with what was prepared.
    resume: bool,
}

impl Shard {
    pub(crate) async fn load(log: SharedInternalLog, id: PartitionId, parts: Parts) -> Result<Self> {
        let mut store = FoldedLog::open(log, id).await?;
        let begun = Instant::now();
        let transactions = store.load().await?;
        // as many as there are transactions being finished
        let (finished, finishes) = mpsc::unbounded_channel();
        let mut shard = Self {
            parts,
            store,
            book: Book::default(),
            begun,
            forget_at: begun + FORGET_INTERVAL,
            waiters: HashMap::new(),
            finishing: HashSet::new(),
            finished,
            finishes,
            resume: false,
        };
        shard.book = Book::open(transactions, shard.now());
        shard.publish_all();
        Ok(shard)
    }

    fn now(&self) -> Now {
        let elapsed_ms = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        Now { elapsed_ms, wall_ms: self.parts.clock.now_ms() }
    }

    fn publish_all(&self) {
        self.book.all().for_each(|(id, transaction)| self.parts.registry.publish(id, transaction));
    }

    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.finish_all();
        let stop = self.parts.stop.clone();
        loop {
            let (mut batch, mut done, mut look) = (Vec::new(), Vec::new(), false);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => look = true,
                Some(finished) = self.finishes.recv() => done.push(finished),
                job = jobs.recv() => match job {
                    Some(job) => batch.push(job),
                    None => return,
                },
            }
            while batch.len() < BATCH_MAX
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
            while let Ok(finished) = self.finishes.try_recv() {
                done.push(finished);
            }
            self.turn(batch, done, look).await;
        }
    }

    async fn turn(&mut self, batch: Vec<Job>, done: Vec<Finished>, look: bool) {
        if let Err(error) = self.reload_when_unsure().await {
            let error = not_stored("transaction", error);
            for job in batch {
                job(Err(error.clone()))(Ok(()));
            }
            // the outcome is where it belongs; that it is, is found once more when the log can be read
            for Finished { id, marked, .. } in done {
                self.finishing.remove(&(id, marked));
            }
            return;
        }
        let now = self.now();
        for finished in done {
            self.complete(&finished, now);
        }
        let Self { book, parts, waiters, .. } = self;
        let mut turn = Turn { book, config: &parts.config, now, waiters };
        let replies: Vec<Reply> = batch.into_iter().map(|job| job(Ok(&mut turn))).collect();
        if look {
            self.look(now);
        }
        self.book.changed().for_each(|(_, transaction, _)| self.parts.registry.restrict(transaction));
        let stored = self.store.append(&self.book.records()).await;
        match &stored {
            Ok(()) => self.stored(),
            Err(error) => {
                tracing::warn!(%error, partition = %self.store.id(), "changes of transactions were not stored, reading back");
            }
        }
        for reply in replies {
            reply(stored.clone().map_err(|error| not_stored("transaction", error)));
        }
        let book = &self.book;
        self.store.tidy(self.parts.config.snapshot_records, || book.snapshot()).await;
    }

    fn complete(&mut self, finished: &Finished, now: Now) {
        let Finished { id, marked, failed } = finished;
        self.finishing.remove(&(Arc::clone(id), *marked));
        let next = self.book.complete(id, *marked, failed, now);
        // the outcome is durable everywhere: whether this note of it is, changes nothing for those who wait; the others ask again
        for waiter in self.waiters.remove(&**id).unwrap_or_default() {
            if let Some(next) = next {
                // who asked may be gone
                let _ = waiter.send(next);
            }
        }
    }

    /// Ends what has had its time.
    fn look(&mut self, now: Now) {
        if std::mem::take(&mut self.resume) {
            self.finish_all();
        }
        self.book.expire(now);
        if Instant::now() >= self.forget_at {
            self.forget_at = Instant::now() + FORGET_INTERVAL;
            self.book.forget_silent(now, &self.parts.config);
        }
    }

    fn stored(&mut self) {
        self.book.forgotten().for_each(|producer_id| self.parts.registry.forget(producer_id));
        let mut finishes = Vec::new();
        for (id, transaction, change) in self.book.changed() {
            match change {
                Change::Whole => self.parts.registry.publish(id, transaction),
                Change::Joined(members) => self.parts.registry.permit(transaction.identity, members),
            }
            finishes.extend(finish_of(id, transaction));
        }
        self.book.stored();
        finishes.into_iter().for_each(|work| self.begin_to_finish(work));
    }

    /// Goes on with what was prepared before a restart, or before an append failed, and with what partitions that failed are owed.
    fn finish_all(&mut self) {
        let prepared = self.book.all().filter_map(|(id, transaction)| finish_of(id, transaction));
        let owed = self.book.all().flat_map(|(id, transaction)| owed_of(id, transaction));
        let prepared: Vec<_> = prepared.chain(owed).collect();
        prepared.into_iter().for_each(|work| self.begin_to_finish(work));
    }

    fn begin_to_finish(&mut self, work: super::book::Finish) {
        let key = (Arc::clone(&work.transactional_id), work.identity);
        if !self.finishing.insert(key.clone()) {
            return;
        }
        let (outcomes, finished) = (Arc::clone(&self.parts.outcomes), self.finished.clone());
        let stop = self.parts.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                failed = finish(outcomes, work) => {
                    let (id, marked) = key;
                    // the shard has ended: the next start finishes it once more
                    let _ = finished.send(Finished { id, marked, failed });
                }
            }
        });
    }

    async fn reload_when_unsure(&mut self) -> Result<()> {
        if !self.store.is_unsure() {
            return Ok(());
        }
        let transactions = self.store.load().await?;
        self.book = Book::open(transactions, self.now());
        // whoever waits asks again
        self.waiters.clear();
        self.publish_all();
        self.resume = true;
        Ok(())
    }
}
