//! Many calls on one bidirectional stream, told apart by correlation id.
//!
//! Invariants: requests leave in the order in which [`Mux::call`] was called (they are queued before it returns); every call
//! is answered exactly once. When the stream breaks, the calls in flight are answered with `UNAVAILABLE`, which says
//! nothing about whether the server has handled them; the next call opens a new stream, after a pause that grows with
//! every failure.
//! Not here: repeating a request. Only the caller knows whether that is safe.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use prost::Message;
use sunseo_proto::error::Result;
use sunseo_proto::stream_codec::Incoming;
use sunseo_proto::{Error, ErrorCode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::retry::{RetryPolicy, draw};

/// Calls queued and not yet written to the stream; more are refused with `OVERLOADED`.
pub const MAX_QUEUED_CALLS: usize = 4096;

/// Calls written and not yet answered; more wait in the queue.
pub const MAX_CALLS_IN_FLIGHT: usize = 4096;

/// Requests handed to the HTTP/2 connection ahead of what it has written.
const OUTBOUND_BUFFER: usize = 16;

/// Opens the stream over its requests.
pub(crate) type Opening<Resp> = BoxFuture<'static, Result<Incoming<Resp>, Status>>;

/// How it is opened.
pub(crate) type Opener<Req, Resp> = Box<dyn Fn(ReceiverStream<Req>) -> Opening<Resp> + Send + Sync>;

/// What the multiplexer needs to know about the two messages and the connection.
pub(crate) struct Protocol<Req, Resp> {
    /// Name in messages, as "produce".
    pub name: &'static str,
    pub set_id: fn(&mut Req, u64),
    pub id: fn(&Resp) -> u64,
    /// For how long the server asks for no more requests.
    pub throttle_ms: fn(&Resp) -> u32,
    pub open: Opener<Req, Resp>,
    /// Turns a status of the connection into an error that names the address.
    pub explain: Box<dyn Fn(Status) -> Error + Send + Sync>,
}

struct Call<Req, Resp> {
    request: Req,
    reply: oneshot::Sender<Result<Resp>>,
}

/// The calling side; dropping it ends the stream once everything is answered.
pub(crate) struct Mux<Req, Resp> {
    name: &'static str,
    queue: mpsc::Sender<Call<Req, Resp>>,
}

impl<Req, Resp> fmt::Debug for Mux<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<Req: Send + 'static, Resp: Message + Default + 'static> Mux<Req, Resp> {
    /// Starts the task that owns the stream.
    pub(crate) fn start(protocol: Protocol<Req, Resp>) -> Self {
        let (queue, calls) = mpsc::channel(MAX_QUEUED_CALLS);
        let name = protocol.name;
        let task = Task {
            protocol,
            calls,
            pending: HashMap::new(),
            next_id: 1,
            failures: 0,
            not_before: Instant::now(),
            held_until: Instant::now(),
        };
        tokio::spawn(task.run());
        Self { name, queue }
    }

    /// Queues a request now; the future is its answer.
    pub(crate) fn call(&self, request: Req, timeout: Duration) -> BoxFuture<'static, Result<Resp>> {
        let (reply, answer) = oneshot::channel();
        let name = self.name;
        if let Err(refused) = self.queue.try_send(Call { request, reply }) {
            let error = match refused {
                mpsc::error::TrySendError::Full(_) => Error::new(
                    ErrorCode::Overloaded,
                    format!(
                        "{MAX_QUEUED_CALLS} {name} requests wait to be sent: await answers before sending more"
                    ),
                ),
                mpsc::error::TrySendError::Closed(_) => ended(name),
            };
            return futures::future::ready(Err(error)).boxed();
        }
        async move {
            match tokio::time::timeout(timeout, answer).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(ended(name)),
                Err(_) => Err(timed_out(name, timeout)),
            }
        }
        .boxed()
    }
}

pub(crate) fn timed_out(what: &str, timeout: Duration) -> Error {
    let message =
        format!("no answer to {what} within {timeout:?}: it may have taken effect; repeat it or wait longer");
    Error::new(ErrorCode::TimedOut, message)
}

fn ended(name: &str) -> Error {
    Error::new(
        ErrorCode::Unavailable,
        format!("the {name} stream has ended with its runtime: open a new client"),
    )
}

struct Task<Req, Resp> {
    protocol: Protocol<Req, Resp>,
    calls: mpsc::Receiver<Call<Req, Resp>>,
    pending: HashMap<u64, oneshot::Sender<Result<Resp>>>,
    next_id: u64,
    /// Consecutive failures to get an answer out of a stream.
    failures: u32,
    not_before: Instant,
    /// The server has asked for no more requests until then.
    held_until: Instant,
}

impl<Req: Send + 'static, Resp: Message + Default + 'static> Task<Req, Resp> {
    async fn run(mut self) {
        while let Some(first) = self.calls.recv().await {
            tokio::time::sleep_until(self.not_before).await;
            let error = self.stream(first).await;
            tracing::debug!(stream = self.protocol.name, %error, "stream ended");
            self.failures += 1;
            self.not_before = Instant::now() + RetryPolicy::default().backoff(self.failures, draw());
            self.fail_everything(&error);
        }
    }

    /// One stream from its opening to its end; why it ended.
    async fn stream(&mut self, first: Call<Req, Resp>) -> Error {
        let (outbound, requests) = mpsc::channel(OUTBOUND_BUFFER);
        let first = self.register(first);
        // the channel is new and has room for one; a server may answer the opening only after the first request
        let _ = outbound.try_send(first);
        let mut answers = match (self.protocol.open)(ReceiverStream::new(requests)).await {
            Ok(answers) => answers,
            Err(status) => return (self.protocol.explain)(status),
        };
        loop {
            let held = self.held_until > Instant::now();
            let may_send = !held && self.pending.len() < MAX_CALLS_IN_FLIGHT;
            tokio::select! {
                () = tokio::time::sleep_until(self.held_until), if held => {}
                answer = answers.message() => if let Some(end) = self.take(answer) {
                    return end;
                },
                next = next_call(&mut self.calls, &outbound), if may_send => match next {
                    Some((permit, call)) => permit.send(self.register(call)),
                    None => break,
                },
            }
        }
        drop(outbound);
        loop {
            if let Some(end) = self.take(answers.message().await) {
                return end;
            }
        }
    }

    /// Handles what came from the stream; why it ended, if it did.
    fn take(&mut self, answer: Result<Option<Resp>, Status>) -> Option<Error> {
        match answer {
            Ok(Some(response)) => {
                self.answer(response);
                None
            }
            Ok(None) => Some((self.protocol.explain)(Status::unavailable("the server closed the stream"))),
            Err(status) => Some((self.protocol.explain)(status)),
        }
    }

    fn register(&mut self, mut call: Call<Req, Resp>) -> Req {
        if self.pending.len() >= MAX_CALLS_IN_FLIGHT / 2 {
            self.pending.retain(|_, reply| !reply.is_closed());
        }
        let id = self.next_id;
        self.next_id += 1;
        (self.protocol.set_id)(&mut call.request, id);
        self.pending.insert(id, call.reply);
        call.request
    }

    fn answer(&mut self, response: Resp) {
        self.failures = 0;
        let throttle = Duration::from_millis((self.protocol.throttle_ms)(&response).into());
        self.held_until = self.held_until.max(Instant::now() + throttle);
        if let Some(reply) = self.pending.remove(&(self.protocol.id)(&response)) {
            // a caller that timed out no longer listens
            let _ = reply.send(Ok(response));
        }
    }

    fn fail_everything(&mut self, error: &Error) {
        for (_, reply) in self.pending.drain() {
            let _ = reply.send(Err(error.clone()));
        }
        while let Ok(call) = self.calls.try_recv() {
            let _ = call.reply.send(Err(error.clone()));
        }
    }
}

/// The next call together with room to send it; `None` when the callers are gone or the connection has stopped taking.
async fn next_call<'a, Req, Resp>(
    calls: &mut mpsc::Receiver<Call<Req, Resp>>,
    outbound: &'a mpsc::Sender<Req>,
) -> Option<(mpsc::Permit<'a, Req>, Call<Req, Resp>)> {
    let permit = outbound.reserve().await.ok()?;
    Some((permit, calls.recv().await?))
}
