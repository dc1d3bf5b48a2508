//! The task of one pushed shard.
//!
//! A round takes every push that waits, and does in this order: plan, note the plan, append, note what is durable, answer.
//! While pushes keep coming, the second note of a round is the first of the next, so a busy shard has two writes a round.
//!
//! Invariants: an answer says "accepted" only after a note that says so is durable. A push that fails answers with what is
//! durable, and its events are taken again when they come again. `open` waits for the round before it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sunseo_client::retry::RetryPolicy;
use sunseo_client::{PositionedConfig, PositionedProducer};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::core::{Core, Verdict, checksum};
use crate::appender::{Appender, Item};
use crate::names::producer_name;
use crate::position::{Checkpoint, Stored};
use crate::row::{Template, convert_event};
use crate::source::Context;

/// Events of one round; a single push may have more.
const ROUND_EVENTS_MAX: usize = 10_000;

/// Events as they were pushed.
#[derive(Debug)]
pub struct Push {
    pub epoch: Option<i32>,
    pub events: Vec<v1::OutboxEvent>,
    pub answer: oneshot::Sender<v1::IngestResponse>,
    pub _permit: OwnedSemaphorePermit,
}

/// What a shard is asked.
#[derive(Debug)]
pub enum Message {
    Push(Push),
    Open(oneshot::Sender<Result<ShardState>>),
}

/// What is seen of a shard from outside: durable facts only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardState {
    pub epoch: i32,
    pub accepted_through: i64,
}

/// A push in a round.
struct Planned {
    answer: oneshot::Sender<v1::IngestResponse>,
    duplicates: i64,
    /// Sequence of its last event that is good, 0 for none.
    last: i64,
    refused: Option<Error>,
    _permit: OwnedSemaphorePermit,
}

/// A push whose answer waits for the note behind it.
type Unsettled = (oneshot::Sender<v1::IngestResponse>, v1::IngestResponse);

/// The task's state.
pub struct Shard {
    context: Arc<Context>,
    source: String,
    shard: String,
    template: Template,
    core: Core,
    /// `None` until the shard is opened.
    appender: Option<Appender>,
    unsettled: Vec<Unsettled>,
    seen: Arc<Mutex<ShardState>>,
}

impl Shard {
    pub fn new(
        context: Arc<Context>,
        (source, shard): (String, String),
        stored: Option<Stored>,
    ) -> Result<Self> {
        let stored = stored.unwrap_or_default();
        let template = Template::parse("")?;
        let core = Core::restore(&stored);
        let seen = ShardState { epoch: core.epoch, accepted_through: core.accepted_through };
        let mut shard = Self {
            context,
            source,
            shard,
            template,
            core,
            appender: None,
            unsettled: Vec::new(),
            seen: Arc::new(Mutex::new(seen)),
        };
        let Checkpoint { producer_id, epoch, events, partitions, .. } = stored.checkpoint;
        if events.is_some() {
            let (name, config) = (shard.producer_name(), shard.config());
            let producer = shard.context.client.positioned_at(&name, producer_id, epoch, config)?;
            let mut appender = shard.appender_of(producer, partitions);
            appender.sent_through(stored.window.last());
            shard.appender = Some(appender);
        }
        Ok(shard)
    }

    /// What is seen from outside.
    pub fn state(&self) -> Arc<Mutex<ShardState>> {
        Arc::clone(&self.seen)
    }

    fn producer_name(&self) -> String {
        producer_name(&self.source, &self.shard)
    }

    fn config(&self) -> PositionedConfig {
        let retry = RetryPolicy::default().until(self.context.config.ingest_deadline);
        PositionedConfig { retry, ..PositionedConfig::default() }
    }

    fn appender_of(&self, producer: PositionedProducer, pins: BTreeMap<String, i32>) -> Appender {
        let (topics, partitions) = (Arc::clone(&self.context.topics), self.context.config.default_partitions);
        Appender::new(producer, topics, partitions, pins)
    }

    /// Serves until nobody can ask any more, or the outbox stops.
    pub async fn run(mut self, mut messages: mpsc::Receiver<Message>, stop: CancellationToken) {
        let mut next = None;
        loop {
            if next.is_none() {
                next = tokio::select! {
                    biased;
                    () = stop.cancelled() => None,
                    message = messages.recv() => message,
                };
            }
            match next.take() {
                None => return,
                Some(Message::Open(answer)) => {
                    let opened = self.open().await;
                    // whoever asked may have gone
                    let _ = answer.send(opened);
                }
                Some(Message::Push(push)) => {
                    let (pushes, other) = gather(push, &mut messages);
                    next = other;
                    self.round(pushes).await;
                }
            }
            // pushes that wait carry the note along; without any it is written now
            if next.is_none() {
                next = messages.try_recv().ok().filter(|_| !stop.is_cancelled());
            }
            if !matches!(next, Some(Message::Push(_))) {
                self.settle_all().await;
            }
        }
    }

    async fn open(&mut self) -> Result<ShardState> {
        let retry = RetryPolicy::default().until(self.context.config.ingest_deadline);
        let (name, config) = (self.producer_name(), self.config());
        let client = &self.context.client;
        let producer = crate::read::repeat(retry, || client.positioned_with(&name, config.clone())).await?;
        self.core.epoch = producer.epoch();
        match &mut self.appender {
            Some(appender) => appender.producer = producer,
            None => self.appender = Some(self.appender_of(producer, BTreeMap::new())),
        }
        self.note().await?;
        let state = ShardState { epoch: self.core.epoch, accepted_through: self.core.accepted_through };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(state)
    }

    /// One round over pushes in their order.
    async fn round(&mut self, pushes: Vec<Push>) {
        let (mut planned, mut items) = (Vec::with_capacity(pushes.len()), Vec::new());
        for push in pushes {
            planned.push(self.plan(push, &mut items).await);
        }
        let failed = match items.is_empty() {
            true => None,
            false => self.append(items).await,
        };
        if let Some((position, _)) = &failed {
            self.core.settle(position - 1);
        } else {
            self.core.settle(i64::MAX);
        }
        let accepted = self.core.accepted_through;
        for push in planned {
            let error = match &failed {
                Some((_, error)) if push.last > accepted => Some(error.clone()),
                _ => push.refused,
            };
            let gap = error.as_ref().is_some_and(|error| error.code == ErrorCode::SequenceGap);
            let response = v1::IngestResponse {
                accepted_through: accepted,
                duplicates: push.duplicates,
                error: error.map(Into::into),
                expected: if gap { accepted + 1 } else { 0 },
            };
            self.unsettled.push((push.answer, response));
        }
    }

    /// Takes the longest valid prefix of a push.
    async fn plan(&mut self, push: Push, items: &mut Vec<Item>) -> Planned {
        let Push { epoch, events, answer, _permit } = push;
        let mut planned = Planned { answer, duplicates: 0, last: 0, refused: None, _permit };
        let opened = match self.appender {
            Some(_) => self.core.check_epoch(epoch),
            None => Err(Error::new(ErrorCode::UnknownSource, "the shard was never opened: open it first")),
        };
        if let Err(error) = opened {
            planned.refused = Some(error);
            return planned;
        }
        for event in events {
            let sequence = event.sequence;
            let checksum = checksum(&event);
            let refused = match self.core.judge(sequence, checksum) {
                Verdict::Refused(error) => Err(error),
                Verdict::Duplicate => {
                    planned.duplicates += 1;
                    planned.last = planned.last.max(sequence);
                    continue;
                }
                Verdict::Next => self.fit(event).await,
            };
            match refused {
                Ok(item) => {
                    self.core.take(checksum);
                    planned.last = sequence;
                    items.push(item);
                }
                Err(error) => {
                    planned.refused = Some(error);
                    return planned;
                }
            }
        }
        planned
    }

    async fn fit(&mut self, event: v1::OutboxEvent) -> Result<Item> {
        let position = event.sequence;
        let in_event = |error: Error| {
            let message = format!("event {position}: {}", error.message);
            Error { message, ..error }
        };
        let routed = convert_event(&self.template, event, self.context.clock.now_ms()).map_err(in_event)?;
        let appender = self.appender.as_mut().ok_or_else(|| Error::internal("a push without a producer"))?;
        // the note of the plan carries the pin
        appender.pin(&routed.topic, self.core.accepted_through).await.map_err(in_event)?;
        appender.check_size(&routed.topic, &routed.record).map_err(in_event)?;
        Ok(Item { position, topic: routed.topic, record: routed.record })
    }

    /// The first sequence that may be missing, and why.
    async fn append(&mut self, items: Vec<Item>) -> Option<(i64, Error)> {
        let first = items.first().map_or(0, |item| item.position);
        let count = items.len() as u64;
        if let Err(error) = self.note().await {
            return Some((first, error));
        }
        let Some(appender) = &mut self.appender else { return None };
        let outcome = appender.append(items).await;
        let (source, shard) = (self.source.clone(), self.shard.clone());
        metrics::counter!("sunseo_ingest_events_total", "source" => source.clone(), "shard" => shard)
            .increment(count);
        if let Some((_, error)) = &outcome.failed {
            let code = error.code.as_str();
            metrics::counter!("sunseo_ingest_errors_total", "source" => source, "code" => code).increment(1);
            if !outcome.unknown.is_empty() {
                outcome.unknown.iter().for_each(|topic| appender.unpin(topic));
                let message = format!("a topic was deleted meanwhile: {}; push again", error.message);
                return outcome.failed.map(|(at, _)| (at, Error::new(ErrorCode::Unavailable, message)));
            }
        }
        outcome.failed
    }

    /// Writes what is durable and what is planned; then everything that waited for it is answered.
    async fn note(&mut self) -> Result<()> {
        let Some(appender) = &self.appender else { return Ok(()) };
        let checkpoint = Checkpoint {
            producer_id: appender.producer.producer_id(),
            epoch: self.core.epoch,
            position: self.core.accepted_through,
            partitions: appender.pins().clone(),
            rows: None,
            events: Some(self.core.note()),
        };
        let written = self.context.checkpoints.write(&self.source, &self.shard, &checkpoint).await;
        // not the pusher is fenced, this server is: its successor takes the push
        let written = written.map_err(|error| match error.code {
            ErrorCode::ProducerFenced => {
                let message = format!("another server took over the outbox: {}", error.message);
                Error::new(ErrorCode::Unavailable, message)
            }
            _ => error,
        });
        if written.is_ok() {
            self.core.noted();
            self.context.ledger().apply(&crate::names::shard_key(&self.source, &self.shard), checkpoint);
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).accepted_through =
                self.core.accepted_through;
        }
        let durable = self.seen.lock().unwrap_or_else(PoisonError::into_inner).accepted_through;
        for (answer, mut response) in self.unsettled.drain(..) {
            if let Err(error) = &written
                && response.accepted_through > durable
            {
                response.accepted_through = durable;
                response.error = Some(error.clone().into());
            }
            // whoever pushed may have gone
            let _ = answer.send(response);
        }
        written
    }

    async fn settle_all(&mut self) {
        if self.unsettled.is_empty() {
            return;
        }
        let durable = self.seen.lock().unwrap_or_else(PoisonError::into_inner).accepted_through;
        if self.core.accepted_through > durable {
            // its error is in the answers
            let _ = self.note().await;
        }
        for (answer, response) in self.unsettled.drain(..) {
            let _ = answer.send(response);
        }
    }
}

/// A push and those that wait behind it, up to the first message of another kind.
fn gather(first: Push, messages: &mut mpsc::Receiver<Message>) -> (Vec<Push>, Option<Message>) {
    let mut events = first.events.len();
    let mut pushes = vec![first];
    while events < ROUND_EVENTS_MAX {
        match messages.try_recv() {
            Ok(Message::Push(push)) => {
                events += push.events.len();
                pushes.push(push);
            }
            Ok(other) => return (pushes, Some(other)),
            Err(_) => break,
        }
    }
    (pushes, None)
}
