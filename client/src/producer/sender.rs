//! The task of a producer: takes ready batches, sends them by partition, settles what is answered.
//!
//! It alone owns the lanes. Decisions are in [`Batcher`](crate::batcher::Batcher) and [`Lane`]; this is the wiring.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::time::Instant;

use super::config::{MAX_REQUEST_BYTES, ProducerConfig};
use super::lane::{Answer, Done, Identity, Lane, LaneConfig, Outgoing};
use super::{Bound, Shared, produce_in};
use crate::metadata::{METADATA_MAX_AGE, SharedMetadata};
use crate::retry::draw;
use crate::transport::SharedTransport;

type Answers = (Vec<(usize, u64)>, Vec<Answer>);

/// Partitions of topics, 0 of one that is gone.
type Learned = HashMap<Arc<str>, i32>;

/// Shortest wait for an answer, also when records in the request are about to fail.
const ANSWER_WAIT_MIN: Duration = Duration::from_secs(1);

/// Requests without an answer beyond which batches that are merely old go on filling: the server is busy with what it has, and would be
/// no sooner done with more and smaller ones. Full batches do not wait for this, so a partition that does not answer delays no other for long.
const REQUESTS_MAX: usize = 2;

/// Time between two questions about topics that seem to have changed.
const STALE_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Sender {
    shared: Arc<Shared>,
    transport: SharedTransport,
    metadata: SharedMetadata,
    config: ProducerConfig,
    /// Whose transactions the batches belong to.
    transactional_id: Option<Arc<str>>,
    /// Number of the transaction that the lanes have their identity of.
    transaction: u64,
    lanes: Vec<Lane>,
    names: Vec<(Arc<str>, i32)>,
    /// Lanes that are not idle.
    active: BTreeSet<usize>,
    /// Lanes that may have something to send now, or need an identity first.
    stirred: BTreeSet<usize>,
    /// No lane has anything to do by time before this.
    lanes_wake: Option<Instant>,
    answers: FuturesUnordered<BoxFuture<'static, Answers>>,
    identity: Option<Identity>,
    asking: Option<BoxFuture<'static, Result<Identity>>>,
    identity_failures: u32,
    /// Why there is no identity.
    identity_error: Option<Error>,
    ask_not_before: Instant,
    learning: Option<BoxFuture<'static, Learned>>,
    /// When the partitions of all topics are asked for.
    learn_at: Instant,
    /// Topics that seem to have changed, and when they may be asked for again.
    stale: BTreeSet<Arc<str>>,
    /// Which topics are meant: those that had the names when they were first sent to. Another one refuses what is not for it.
    ids: HashMap<Arc<str>, Bytes>,
    stale_at: Instant,
}

impl Sender {
    pub(super) fn new(
        shared: Arc<Shared>,
        transport: SharedTransport,
        metadata: SharedMetadata,
        config: ProducerConfig,
        transactional_id: Option<Arc<str>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            shared,
            transport,
            metadata,
            config,
            transactional_id,
            transaction: 0,
            lanes: Vec::new(),
            names: Vec::new(),
            active: BTreeSet::new(),
            stirred: BTreeSet::new(),
            lanes_wake: None,
            answers: FuturesUnordered::new(),
            identity: None,
            asking: None,
            identity_failures: 0,
            identity_error: None,
            ask_not_before: now,
            learning: None,
            learn_at: now + METADATA_MAX_AGE,
            stale: BTreeSet::new(),
            ids: HashMap::new(),
            stale_at: now,
        }
    }

    /// Runs until the producer is closed and everything has its outcome.
    pub(super) async fn run(mut self) {
        loop {
            let ended = self.take_batches();
            self.look_at_all();
            self.send();
            if ended && self.answers.is_empty() && self.lanes.iter().all(Lane::is_idle) {
                return;
            }
            let wake = self.wake_at();
            tokio::select! {
                () = self.shared.work.notified() => {}
                Some((sent, answers)) = self.answers.next(), if !self.answers.is_empty() => self.answered(sent, answers),
                identity = pending(&mut self.asking) => self.identified(identity),
                partitions = pending(&mut self.learning) => self.learned(partitions),
                () = tokio::time::sleep_until(wake) => {}
            }
            while let Some(Some((sent, answers))) = self.answers.next().now_or_never() {
                self.answered(sent, answers);
            }
        }
    }

    /// Moves ready batches into their lanes; whether the producer is closed and holds nothing more.
    fn take_batches(&mut self) -> bool {
        let now = Instant::now();
        let mut state = self.shared.lock();
        for (topic, partition) in state.batcher.slots(self.lanes.len()) {
            self.lanes.push(Lane::new(lane_config(&self.config, self.transactional_id.is_some())));
            self.ids.entry(Arc::clone(&topic)).or_insert_with(|| self.metadata.id(&topic));
            self.names.push((topic, partition));
        }
        if let Some(expired) = now.checked_sub(self.config.delivery_timeout) {
            state.batcher.close_due_before(expired);
        }
        let aborted = state.aborted;
        if aborted {
            state.batcher.flush();
        }
        let ready = match self.answers.len() < REQUESTS_MAX {
            true => state.batcher.take_ready(now, |slot| self.lanes[slot].has_room()),
            false => state.batcher.take_full(),
        };
        let ended = state.closed && state.batcher.is_drained();
        let bound = state.transaction.clone();
        drop(state);
        if let Some(bound) = &bound {
            self.bind(bound);
        }
        for batch in ready {
            self.active.insert(batch.slot);
            self.stirred.insert(batch.slot);
            self.lanes[batch.slot].enqueue(batch);
        }
        if let Some(error) = bound.and_then(|bound| bound.doomed) {
            let done = self.active.iter().flat_map(|&slot| self.lanes[slot].fail_all(&error)).collect();
            self.stirred.extend(&self.active);
            self.settle(done);
        }
        if aborted {
            self.abort();
        }
        ended
    }

    /// The next transaction has an identity of its own; of the one before nothing is left in the lanes.
    fn bind(&mut self, bound: &Bound) {
        if bound.number != self.transaction {
            (self.transaction, self.identity) = (bound.number, Some(bound.identity));
            self.lanes.iter_mut().for_each(|lane| lane.renew(bound.identity));
        }
    }

    /// Fails everything that has no outcome; answers that come later find nothing.
    fn abort(&mut self) {
        let error = Error::new(ErrorCode::TimedOut, "the producer was closed before it was acknowledged");
        let done = self.lanes.iter_mut().flat_map(|lane| lane.fail_all(&error)).collect();
        self.answers = FuturesUnordered::new();
        self.active.clear();
        self.stirred.clear();
        self.settle(done);
    }

    /// When something is due by time in some lane: fails what is too old to be sent, and tries again what was to wait.
    fn look_at_all(&mut self) {
        let now = Instant::now();
        if self.lanes_wake.is_none_or(|at| now < at) {
            return;
        }
        let mut done = Vec::new();
        for &slot in &self.active {
            done.extend(self.lanes[slot].expire(now, self.identity_error.as_ref()));
        }
        self.settle(done);
        self.lanes_wake = None;
        self.stirred.extend(&self.active);
    }

    /// Sends one batch of every lane that has one, in as few requests as they fit, until no lane has any.
    fn send(&mut self) {
        let now = Instant::now();
        let mut lanes: Vec<usize> = self.stirred.iter().copied().collect();
        while !lanes.is_empty() {
            let (mut sent, mut partitions, mut bytes) = (Vec::new(), Vec::new(), 0);
            let mut deadline = now + self.config.request_timeout;
            lanes.retain(|&slot| {
                if let Some(identity) = self.identity {
                    self.lanes[slot].offer(identity);
                }
                let Some(outgoing) = self.lanes[slot].next(now) else { return false };
                let Outgoing { id, batch, deadline: fails_at } = outgoing;
                if bytes > 0 && bytes + batch.len() > MAX_REQUEST_BYTES {
                    let (sent, partitions) = (std::mem::take(&mut sent), std::mem::take(&mut partitions));
                    self.answers.push(self.request(sent, partitions, deadline - now));
                    (bytes, deadline) = (0, now + self.config.request_timeout);
                }
                bytes += batch.len();
                deadline = deadline.min(fails_at.max(now + ANSWER_WAIT_MIN));
                sent.push((slot, id));
                partitions.push(self.entry(slot, batch));
                true
            });
            if !sent.is_empty() {
                self.answers.push(self.request(sent, partitions, deadline - now));
            }
        }
        for slot in std::mem::take(&mut self.stirred) {
            let lane = &self.lanes[slot];
            self.lanes_wake = self.lanes_wake.into_iter().chain(lane.wake_at()).min();
            if lane.needs_identity() {
                self.stirred.insert(slot);
            } else if lane.is_idle() {
                self.active.remove(&slot);
            }
        }
        if self.lacks_identity() && now >= self.ask_not_before {
            self.asking = Some(ask(&self.transport, self.config.request_timeout));
        }
    }

    /// Whether an identity is to be asked for.
    fn lacks_identity(&self) -> bool {
        let needs = |slot: &usize| self.lanes[*slot].needs_identity();
        self.transactional_id.is_none() && self.asking.is_none() && self.stirred.iter().any(needs)
    }

    fn entry(&self, slot: usize, batch: Bytes) -> v1::ProducePartition {
        let (topic, partition) = &self.names[slot];
        v1::ProducePartition {
            topic: topic.to_string(),
            partition: *partition,
            batch: Some(batch),
            topic_id: self.ids.get(topic).cloned().unwrap_or_default(),
            ..Default::default()
        }
    }

    fn request(
        &self,
        sent: Vec<(usize, u64)>,
        partitions: Vec<v1::ProducePartition>,
        timeout: Duration,
    ) -> BoxFuture<'static, Answers> {
        let id = self.transactional_id.as_deref().unwrap_or_default();
        let answers = produce_in(&self.transport, id, partitions, timeout);
        async move { (sent, answers.await) }.boxed()
    }

    fn answered(&mut self, sent: Vec<(usize, u64)>, answers: Vec<Answer>) {
        let now = Instant::now();
        let mut done = Vec::new();
        for ((slot, id), answer) in sent.into_iter().zip(answers) {
            if let Some(error) =
                answer.as_ref().map_or_else(|e| Some(e.clone()), |r| r.error.clone().map(Error::from))
            {
                let (topic, partition) = &self.names[slot];
                tracing::debug!(%topic, partition, %error, "batch refused");
                if matches!(error.code, ErrorCode::UnknownTopic | ErrorCode::TopicReplaced) {
                    // that was said; what is sent from now on may go to the next one of the name
                    self.ids.remove(topic);
                }
                let changed =
                    [ErrorCode::UnknownTopic, ErrorCode::UnknownPartition, ErrorCode::TopicReplaced];
                if changed.contains(&error.code) {
                    self.stale.insert(Arc::clone(topic));
                }
            }
            done.extend(self.lanes[slot].answered(id, answer, now, draw()));
            self.stirred.insert(slot);
        }
        self.settle(done);
    }

    fn settle(&self, done: Vec<Done>) {
        if done.is_empty() {
            return;
        }
        // acknowledgements first: a flush that returns has them all
        let mut settled = Vec::with_capacity(done.len());
        for Done { id, bytes, records, outcome, unknown, settle } in done {
            let error = outcome.as_ref().err().cloned();
            settle.settle(outcome);
            settled.push((id, bytes, error.map(|error| (settle, records as u64, unknown, error))));
        }
        let mut state = self.shared.lock();
        for (id, bytes, failed) in settled {
            state.batcher.settled(id, bytes);
            if let Some((settle, records, unknown, error)) = failed {
                if let Some(transaction) = &mut state.transaction {
                    transaction.doomed.get_or_insert_with(|| error.clone());
                }
                state.failures.add(settle.place(), records, unknown, error);
            }
        }
        drop(state);
        self.shared.settled.notify_waiters();
    }

    fn identified(&mut self, identity: Result<Identity>) {
        let now = Instant::now();
        match identity {
            Ok(identity) => {
                (self.identity, self.identity_failures, self.identity_error) = (Some(identity), 0, None);
            }
            Err(error) => {
                if self.identity_failures == 0 {
                    tracing::warn!(%error, "producer has no id yet, trying again");
                }
                self.identity_failures += 1;
                self.ask_not_before = now + self.config.retry.backoff(self.identity_failures, draw());
                if !error.retryable() {
                    // nothing is lost but what waits: later records ask again
                    let without = self.lanes.iter_mut().filter(|lane| lane.needs_identity());
                    let done = without.flat_map(|lane| lane.fail_waiting(&error)).collect();
                    self.settle(done);
                }
                self.identity_error = Some(error);
            }
        }
    }

    fn learned(&mut self, partitions: Learned) {
        let mut state = self.shared.lock();
        for (topic, partitions) in partitions {
            match partitions {
                0 => state.batcher.forget(&topic),
                _ => {
                    state.batcher.learn(&topic, partitions, 0);
                    let id = self.metadata.id(&topic);
                    self.ids.entry(topic).or_insert(id);
                }
            }
        }
    }

    /// Asks for the partitions of all topics now and then, and at once for those that a refusal says have changed.
    fn start_learning(&mut self, now: Instant) {
        if self.learning.is_some() {
            return;
        }
        let topics: Vec<Arc<str>> = if now >= self.learn_at {
            self.learn_at = now + METADATA_MAX_AGE;
            self.stale.clear();
            self.shared.lock().batcher.topics()
        } else if now >= self.stale_at && !self.stale.is_empty() {
            std::mem::take(&mut self.stale).into_iter().collect()
        } else {
            return;
        };
        self.stale_at = now + STALE_INTERVAL;
        self.learning = Some(learn(self.metadata.clone(), topics));
    }

    fn wake_at(&mut self) -> Instant {
        let now = Instant::now();
        self.start_learning(now);
        let stale = (self.learning.is_none() && !self.stale.is_empty()).then_some(self.stale_at);
        let (lingering, due) = {
            let state = self.shared.lock();
            // an answer wakes those that wait for one
            let lingering = state.batcher.wake_at().filter(|_| self.answers.len() < REQUESTS_MAX);
            (lingering, state.batcher.oldest_due())
        };
        let expires = due.map(|opened| opened + self.config.delivery_timeout);
        let ask = self.lacks_identity().then_some(self.ask_not_before);
        [self.lanes_wake, lingering, expires, ask, stale]
            .into_iter()
            .flatten()
            .fold(self.learn_at, Instant::min)
    }
}

fn lane_config(config: &ProducerConfig, transactional: bool) -> LaneConfig {
    let &ProducerConfig { max_in_flight, delivery_timeout, retry, .. } = config;
    LaneConfig { max_in_flight, delivery_timeout, retry, transactional }
}

fn ask(transport: &SharedTransport, timeout: Duration) -> BoxFuture<'static, Result<Identity>> {
    let transport = Arc::clone(transport);
    async move {
        let asked =
            transport.init_producer(v1::InitProducerRequest { name: String::new(), ..Default::default() });
        let answer = match tokio::time::timeout(timeout, asked).await {
            Ok(answer) => answer?,
            Err(_) => return Err(crate::mux::timed_out("InitProducer", timeout)),
        };
        let epoch = i16::try_from(answer.producer_epoch).map_err(|_| {
            Error::internal(format!(
                "producer epoch {} does not fit a batch: update client and server",
                answer.producer_epoch
            ))
        })?;
        Ok(Identity { producer_id: answer.producer_id, epoch })
    }
    .boxed()
}

fn learn(metadata: SharedMetadata, topics: Vec<Arc<str>>) -> BoxFuture<'static, Learned> {
    async move {
        let mut partitions = HashMap::new();
        for topic in topics {
            match metadata.refresh(&topic).await {
                Ok(count) => drop(partitions.insert(topic, count)),
                Err(error) if error.code == ErrorCode::UnknownTopic => drop(partitions.insert(topic, 0)),
                Err(_) => {}
            }
        }
        partitions
    }
    .boxed()
}

/// The output of a future that may not be there; it is taken out when it is done.
async fn pending<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => {
            let output = future.await;
            *slot = None;
            output
        }
        None => std::future::pending().await,
    }
}
