//! Pushes one shard's events in sequence, several requests ahead of the answers.
//!
//! Invariants: requests leave in sequence; a request is forgotten only when the server has accepted it. After a broken
//! stream or a refusal the server's state says where to go on, so a repeat is harmless and nothing is skipped. The first
//! error that no repeat mends ends the pusher: every later call returns it.
//! Not here: the choice of what to push. The application reads its own outbox after [`OutboxPusher::accepted_through`].

use std::collections::VecDeque;
use std::time::Duration;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::OutboxClient;
use crate::retry::{Decision, RetryPolicy, draw};

/// How far a pusher runs ahead and how long it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushConfig {
    /// Requests sent and not yet answered; beyond it [`OutboxPusher::push`] waits.
    pub window: usize,
    /// Longest wait for one answer.
    pub request_timeout: Duration,
    /// Spacing and end of repeated attempts without progress.
    pub retry: RetryPolicy,
}

impl Default for PushConfig {
    fn default() -> Self {
        let retry = RetryPolicy::default().until(Duration::from_secs(120));
        Self { window: 32, request_timeout: Duration::from_secs(30), retry }
    }
}

#[derive(Debug)]
struct Stream {
    requests: mpsc::Sender<v1::IngestRequest>,
    answers: Streaming<v1::IngestResponse>,
}

/// The pusher of one (source, shard). One at a time: opening another fences this one.
#[derive(Debug)]
pub struct OutboxPusher {
    client: OutboxClient,
    source: String,
    shard: String,
    epoch: i32,
    config: PushConfig,
    accepted_through: i64,
    next_sequence: i64,
    /// In sequence; all of them are on the stream, if there is one.
    unanswered: VecDeque<v1::IngestRequest>,
    stream: Option<Stream>,
    failed: Option<Error>,
}

impl OutboxPusher {
    pub(super) fn new(
        client: OutboxClient,
        (source, shard): (&str, &str),
        state: v1::IngestStateResponse,
        config: PushConfig,
    ) -> Self {
        Self {
            client,
            source: source.to_owned(),
            shard: shard.to_owned(),
            epoch: state.epoch,
            config: PushConfig { window: config.window.max(1), ..config },
            accepted_through: state.accepted_through,
            next_sequence: state.accepted_through + 1,
            unanswered: VecDeque::new(),
            stream: None,
            failed: None,
        }
    }

    /// The epoch of this pusher.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The last sequence that is durable.
    #[must_use]
    pub fn accepted_through(&self) -> i64 {
        self.accepted_through
    }

    /// The sequence of the next event.
    #[must_use]
    pub fn next_sequence(&self) -> i64 {
        self.next_sequence
    }

    /// Sends events as one request and returns the sequence of the last, which is durable once
    /// [`accepted_through`](Self::accepted_through) or [`flush`](Self::flush) says so. Sequences that are 0 are filled in.
    ///
    /// # Errors
    /// A sequence that is not the next one; what the server refuses for good, also of earlier events.
    pub async fn push(&mut self, mut events: Vec<v1::OutboxEvent>) -> Result<i64> {
        self.check()?;
        for (event, expected) in events.iter_mut().zip(self.next_sequence..) {
            if event.sequence != 0 && event.sequence != expected {
                let message = format!(
                    "event has sequence {}, expected is {expected}: sequences are dense",
                    event.sequence
                );
                return Err(Error::new(ErrorCode::SequenceGap, message).at("events.sequence"));
            }
            event.sequence = expected;
        }
        if !events.is_empty() {
            self.next_sequence += events.len() as i64;
            let (source, shard) = (self.source.clone(), self.shard.clone());
            self.enqueue(v1::IngestRequest { source, shard, epoch: self.epoch, events });
        }
        self.pump(self.config.window - 1).await?;
        Ok(self.next_sequence - 1)
    }

    /// Waits until everything pushed is durable; its last sequence.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub async fn flush(&mut self) -> Result<i64> {
        self.check()?;
        self.pump(0).await?;
        Ok(self.accepted_through)
    }

    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn enqueue(&mut self, request: v1::IngestRequest) {
        if let Some(stream) = &self.stream
            && stream.requests.try_send(request.clone()).is_err()
        {
            self.stream = None;
        }
        self.unanswered.push_back(request);
    }

    /// Reads answers until at most `most` requests are without one.
    async fn pump(&mut self, most: usize) -> Result<()> {
        let (mut attempt, mut since) = (0, Instant::now());
        while self.unanswered.len() > most {
            let before = self.accepted_through;
            let Err(error) = self.next_answer().await else {
                (attempt, since) = (0, Instant::now());
                continue;
            };
            self.stream = None;
            if self.accepted_through > before {
                (attempt, since) = (0, Instant::now());
            }
            attempt += 1;
            match self.config.retry.decide(attempt, &error, since.elapsed(), draw()) {
                Decision::RetryAfter(wait) => {
                    if attempt == 1 {
                        tracing::warn!(source = self.source, shard = self.shard, %error, "push interrupted, trying again");
                    }
                    tokio::time::sleep(wait).await;
                }
                Decision::GiveUp => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn next_answer(&mut self) -> Result<()> {
        let timeout = self.config.request_timeout;
        let answer = match tokio::time::timeout(timeout, self.receive()).await {
            Ok(answer) => answer?,
            Err(_) => return Err(crate::mux::timed_out("a push", timeout)),
        };
        let Some(answer) = answer else { return Ok(()) };
        self.accept(answer.accepted_through);
        match answer.error.map(Error::from) {
            None => Ok(()),
            Some(mut error) => {
                if error.code == ErrorCode::SequenceGap {
                    error.message = format!("{}; expected is {}", error.message, answer.expected);
                }
                Err(error)
            }
        }
    }

    /// The next answer; `None` when the server's state has settled everything already.
    async fn receive(&mut self) -> Result<Option<v1::IngestResponse>> {
        if self.stream.is_none() {
            self.reopen().await?;
        }
        let Some(stream) = self.stream.as_mut().filter(|_| !self.unanswered.is_empty()) else {
            return Ok(None);
        };
        match stream.answers.message().await {
            Ok(Some(answer)) => Ok(Some(answer)),
            Ok(None) => {
                Err(self.client.transport.explain(tonic::Status::unavailable("the server closed the stream")))
            }
            Err(status) => Err(self.client.transport.explain(status)),
        }
    }

    /// Asks what is accepted and puts the rest on a new stream.
    async fn reopen(&mut self) -> Result<()> {
        let state = self.client.state(&self.source, &self.shard).await?;
        if state.epoch > self.epoch {
            let message = format!(
                "source {:?} shard {:?} was opened again with epoch {}, this pusher has {}: only the newest may push",
                self.source, self.shard, state.epoch, self.epoch
            );
            return Err(Error::new(ErrorCode::ProducerFenced, message));
        }
        self.accept(state.accepted_through);
        if self.unanswered.is_empty() {
            return Ok(());
        }
        let (requests, outbound) = mpsc::channel(self.config.window + 1);
        for request in &self.unanswered {
            // the channel has room for the whole window
            let _ = requests.try_send(request.clone());
        }
        let answers = self.client.grpc().ingest(ReceiverStream::new(outbound)).await;
        let answers = answers.map_err(|status| self.client.transport.explain(status))?.into_inner();
        self.stream = Some(Stream { requests, answers });
        Ok(())
    }

    /// Everything up to a sequence is durable.
    fn accept(&mut self, through: i64) {
        self.accepted_through = self.accepted_through.max(through);
        let accepted = self.accepted_through;
        while let Some(front) = self.unanswered.front_mut() {
            front.events.retain(|event| event.sequence > accepted);
            if !front.events.is_empty() {
                break;
            }
            self.unanswered.pop_front();
        }
    }
}
