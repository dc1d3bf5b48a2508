//! The requests about transactions: check, let the owning task decide, wait for what is being ended, answer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use sunseo_proto::PartitionId;
use sunseo_proto::batch::Ending;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::partitioner::partition_of;
use sunseo_proto::v1;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::outcome::Outcomes;
use super::shard::{Job, Parts, Shard, Turn};
use super::state::{Identity, State, Step, Transaction};
use super::{Registry, state};
use crate::TransactionConfig;
use crate::folded::when_stored;
use crate::internal::SharedInternalLog;
use crate::log_thread::stopped;
use crate::metadata::internal_topics::TRANSACTIONS;
use crate::metadata::names::check_free_name;

/// Requests that wait for one shard; more wait at the door.
const REQUESTS_MAX: usize = 1_024;
/// Longest wait of one request for a transaction that is being ended; then it is refused for now.
const END_WAIT: Duration = Duration::from_secs(20);

/// What a request about an id came to, for the moment.
enum Asked {
    Done(Identity),
    Wait(oneshot::Receiver<Identity>),
}

/// The transactions of a running node; cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Transactions {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Arc<TransactionConfig>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    /// One for each partition of `__transactions`.
    shards: Vec<mpsc::Sender<Job>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    stop: CancellationToken,
}

impl Transactions {
    /// Folds what is stored, and goes on with the ends that were prepared.
    ///
    /// # Errors
    /// When a partition cannot be read, or holds what this binary does not understand.
    pub(crate) async fn start(
        log: SharedInternalLog,
        registry: Arc<Registry>,
        outcomes: Arc<dyn Outcomes>,
        config: TransactionConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let (config, stop) = (Arc::new(config), CancellationToken::new());
        let parts = Parts {
            config: Arc::clone(&config),
            registry: Arc::clone(&registry),
            outcomes,
            clock: Arc::clone(&clock),
            stop: stop.clone(),
        };
        let mut loaded = Vec::new();
        for partition in 0..TRANSACTIONS.partitions {
            loaded.push(Shard::load(log.clone(), TRANSACTIONS.partition(partition), parts.clone()).await?);
        }
        let (mut shards, mut tasks) = (Vec::new(), Vec::new());
        for shard in loaded {
            let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
            shards.push(sender);
            tasks.push(tokio::spawn(shard.run(receiver)));
        }
        let tasks = Mutex::new(tasks);
        Ok(Self { inner: Arc::new(Inner { config, registry, clock, shards, tasks, stop }) })
    }

    /// Ends the tasks; what they were asked before is answered or refused as "stopping".
    pub(crate) async fn stop(&self) {
        self.inner.stop.cancel();
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the transactions did not end well");
            }
        }
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }

    /// Gives a transactional producer its identity; the former instance is fenced, and what it left open is aborted before. `spare` is
    /// a producer id that nobody has.
    pub(crate) async fn init(
        &self,
        id: &str,
        timeout_ms: u32,
        spare: i64,
    ) -> Result<v1::InitProducerResponse> {
        check_id(id)?;
        let max = self.inner.config.timeout_ms_max;
        if timeout_ms > max {
            let message =
                format!("transaction time-out {timeout_ms} ms is longer than {max} ms: ask for less");
            return Err(Error::invalid("transaction_timeout_ms", message));
        }
        let timeout_ms = if timeout_ms == 0 { self.inner.config.timeout_ms.min(max) } else { timeout_ms };
        let identity = self
            .until_done(id, false, move |turn, id| {
                let (now, config) = (turn.now, turn.config);
                turn.book.init(id, timeout_ms, spare, now, config)
            })
            .await?;
        Ok(v1::InitProducerResponse {
            producer_id: identity.producer_id,
            producer_epoch: identity.epoch.into(),
            transaction_timeout_ms: timeout_ms,
        })
    }

    /// Makes partitions and groups part of a transaction; when it returns that is stored, and they may take what belongs to it.
    pub(crate) async fn join(
        &self,
        id: &str,
        asked: Identity,
        partitions: Vec<PartitionId>,
        groups: Vec<String>,
    ) -> Result<()> {
        let owned = id.to_owned();
        self.ask(id, move |turn| {
            let (now, config) = (turn.now, turn.config);
            turn.book.join(&owned, asked, (&partitions, &groups), now, config)
        })
        .await
    }

    /// Ends a producer's transaction; returns when every partition and group has the outcome.
    pub(crate) async fn end(
        &self,
        request: v1::EndTransactionRequest,
        spare: i64,
    ) -> Result<v1::EndTransactionResponse> {
        let v1::EndTransactionRequest { transactional_id, producer_id, producer_epoch, commit } = request;
        check_id(&transactional_id)?;
        let asked = identity(producer_id, producer_epoch)?;
        let ending = if commit { Ending::Commit } else { Ending::Abort };
        let ended = self
            .until_done(&transactional_id, true, move |turn, id| {
                let now = turn.now;
                turn.book.end(id, asked, ending, spare, now)
            })
            .await?;
        Ok(v1::EndTransactionResponse { producer_id: ended.producer_id, producer_epoch: ended.epoch.into() })
    }

    /// An operator ends an open transaction.
    pub(crate) async fn abort(&self, id: &str) -> Result<()> {
        check_id(id)?;
        self.until_done(id, true, |turn, id| {
            let now = turn.now;
            turn.book.abort(id, now)
        })
        .await
        .map(drop)
    }

    pub(crate) async fn list(
        &self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse> {
        let states: BTreeSet<String> = request.states.into_iter().collect();
        if let Some(wrong) = states.iter().find(|state| State::parse(state).is_none()) {
            let known: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
            return Err(Error::invalid(
                "states",
                format!("state {wrong:?} is none: use {}", known.join(", ")),
            ));
        }
        let now_ms = self.inner.clock.now_ms();
        let shards = (0..self.inner.shards.len()).map(|shard| {
            let states = states.clone();
            self.ask_shard(shard, move |turn| {
                let wanted = turn.book.all().filter(|(_, transaction)| {
                    states.is_empty() || states.contains(transaction.state.as_str())
                });
                Ok(wanted.map(|(id, transaction)| summary(id, transaction, now_ms)).collect::<Vec<_>>())
            })
        });
        let mut transactions = try_join_all(shards).await?.concat();
        transactions.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        Ok(v1::ListTransactionsResponse { transactions })
    }

    /// A transactional id with what is part of its transaction.
    pub(crate) async fn describe(&self, id: &str) -> Result<(v1::TransactionSummary, Transaction)> {
        check_id(id)?;
        let (owned, now_ms) = (id.to_owned(), self.inner.clock.now_ms());
        self.ask(id, move |turn| {
            let transaction = turn.book.get(&owned)?;
            Ok((summary(&owned, transaction, now_ms), transaction.clone()))
        })
        .await
    }

    /// Asks until there is an identity, waiting for transactions that are being ended. With `told`, the one that their end brings is it.
    async fn until_done(
        &self,
        id: &str,
        told: bool,
        request: impl Fn(&mut Turn<'_>, &str) -> Result<Step> + Clone + Send + 'static,
    ) -> Result<Identity> {
        let asking = async {
            loop {
                let (request, owned) = (request.clone(), id.to_owned());
                let asked = self.ask(id, move |turn| match request(turn, &owned)? {
                    Step::Done(identity) => Ok(Asked::Done(identity)),
                    Step::Wait => Ok(Asked::Wait(turn.wait(&owned))),
                });
                match asked.await? {
                    Asked::Done(identity) => return Ok(identity),
                    Asked::Wait(end) => match end.await {
                        Ok(identity) if told => return Ok(identity),
                        // complete, or read back: ask again
                        Ok(_) | Err(_) => {}
                    },
                }
            }
        };
        tokio::time::timeout(END_WAIT, asking).await.unwrap_or_else(|_| {
            let message = format!(
                "the former transaction of {id:?} has not reached all its partitions within {END_WAIT:?}: try again; \
                 a partition that failed is named in the server's log"
            );
            Err(Error::new(ErrorCode::ConcurrentTransactions, message))
        })
    }

    /// Lets the task that owns an id do something, and answers when what it changed is durable.
    async fn ask<T: Send + 'static>(
        &self,
        id: &str,
        work: impl FnOnce(&mut Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shard = usize::try_from(partition_of(id.as_bytes(), TRANSACTIONS.partitions)).unwrap_or(0);
        self.ask_shard(shard, work).await
    }

    async fn ask_shard<T: Send + 'static>(
        &self,
        shard: usize,
        work: impl FnOnce(&mut Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |turn| when_stored(reply, turn.and_then(work)));
        let shard = self.inner.shards.get(shard).ok_or_else(stopped)?;
        shard.send(job).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

pub(crate) fn check_id(id: &str) -> Result<()> {
    check_free_name("transactional_id", "transactional id", id)
}

/// Of a request.
pub(crate) fn identity(producer_id: i64, epoch: i32) -> Result<Identity> {
    let epoch = i16::try_from(epoch)
        .ok()
        .filter(|epoch| (0..=state::EPOCH_LAST).contains(epoch))
        .ok_or_else(|| {
            let message = format!("producer epoch {epoch} is none: use 0 to {}", state::EPOCH_LAST);
            Error::invalid("producer_epoch", message)
        })?;
    Ok(Identity { producer_id, epoch })
}

fn summary(id: &str, transaction: &Transaction, now_ms: i64) -> v1::TransactionSummary {
    let is_open = matches!(transaction.state, State::Ongoing | State::Prepare(_));
    v1::TransactionSummary {
        transactional_id: id.to_owned(),
        producer_id: transaction.identity.producer_id,
        producer_epoch: transaction.identity.epoch.into(),
        state: transaction.state.as_str().to_owned(),
        open_ms: if is_open { (now_ms - transaction.begun_ms).max(0) } else { -1 },
    }
}
