//! What stands before every service: who calls, how much memory the request may take, how often the client may call.
//!
//! Memory is reserved before it is used, as far as HTTP/2 allows: the length of a message stands before it, and the body of a request is
//! not read on until that length has its place in the node's budget. What is already in the receive window of the connection
//! ([`super::CONNECTION_WINDOW_BYTES`] at most) came before anybody was asked. A reservation belongs to its message:
//! the streams keep it until the answer, of other calls it lasts as long as the call. A request whose plain records would take many
//! times its bytes ([`super::plain_records`]) is cut off before it is decoded.
//!
//! Not here: quotas of bytes, which the streams charge, because they know what was asked for.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body::Frame;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::stream_codec::{FETCH, PREFIX_BYTES, PRODUCE};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use super::connections::{Call, Connection};
use super::plain_records::RecordCounter;
use crate::budget::{Budget, Reserved};
use crate::metadata::quotas::check_client_id;
use crate::quota::{CLIENT_ID_HEADER, Kind};
use crate::{BrokerHandle, Limits};

/// Calls that count and bound their messages one by one.
const STREAMS: [&str; 2] = [PRODUCE, FETCH];

/// A service behind the bounds of a node.
#[derive(Clone, Debug)]
pub struct Bounded<S> {
    inner: S,
    handle: BrokerHandle,
}

/// Puts the bounds of a node before a service of it.
pub fn bounded<S>(handle: BrokerHandle, service: S) -> Bounded<S> {
    Bounded { inner: service, handle }
}

/// Who calls, and what is reserved for its messages.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) client: Arc<str>,
    pub(super) connection: Option<Arc<Connection>>,
    ledger: Arc<Ledger>,
}

impl Caller {
    /// What is reserved for the next message of the call, in their order.
    pub(super) fn reserved(&self) -> Option<Reserved> {
        self.ledger.messages().pop_front()
    }
}

/// Reservations of messages that are read and not handed on yet.
#[derive(Debug)]
struct Ledger {
    budget: Arc<Budget>,
    messages: Mutex<VecDeque<Reserved>>,
}

impl Ledger {
    fn messages(&self) -> std::sync::MutexGuard<'_, VecDeque<Reserved>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, mut all: Reserved, lengths: &[usize]) {
        let mut messages = self.messages();
        messages.extend(lengths.iter().map(|length| all.split(*length)));
    }
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Bounded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let client = match client_of(&request, connection.as_deref()) {
            Ok(client) => client,
            Err(error) => return futures::future::ready(Ok(Status::from(error).into_http())).boxed(),
        };
        let ledger =
            Arc::new(Ledger { budget: Arc::clone(self.handle.budget()), messages: Mutex::default() });
        let caller = Caller { client, connection, ledger };
        let is_stream = STREAMS.contains(&request.uri().path());
        request.extensions_mut().insert(caller.clone());
        let records = (request.uri().path() == PRODUCE).then(RecordCounter::new);
        let limits = self.handle.limits();
        let request = request.map(|body| Body::new(Metered::new(body, &caller, &limits, records)));
        // the one that was made ready is the one to be called
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let handle = self.handle.clone();
        async move {
            if !is_stream {
                let wait_ms = handle.charge(&caller.client, Kind::Requests, 1);
                tokio::time::sleep(Duration::from_millis(wait_ms.into())).await;
            }
            let response = inner.call(request).await;
            // of a call that is no stream the message is done with
            drop(caller);
            response
        }
        .boxed()
    }
}

/// The id a client gives itself, or its address.
fn client_of(request: &http::Request<Body>, connection: Option<&Connection>) -> Result<Arc<str>> {
    let Some(value) = request.headers().get(CLIENT_ID_HEADER) else {
        return Ok(
            connection.map_or_else(|| Arc::from("address:"), |c| format!("address:{}", c.peer().ip()).into())
        );
    };
    let id = value.to_str().map_err(|_| {
        let message =
            format!("the {CLIENT_ID_HEADER} header is not text: send a client id of a-z A-Z 0-9 . _ -");
        Error::invalid(CLIENT_ID_HEADER, message)
    })?;
    check_client_id(id).map_err(|error| error.at(CLIENT_ID_HEADER))?;
    Ok(id.into())
}

type Waiting = Pin<Box<dyn Future<Output = Reserved> + Send>>;

/// The body of a request, read on only when what begins in it has its place in the budget.
struct Metered {
    inner: Body,
    ledger: Arc<Ledger>,
    prefixes: Prefixes,
    records_max: usize,
    waiting: Option<(Waiting, Vec<usize>, Frame<Bytes>)>,
    /// The call is open as long as its body.
    _call: Option<Call>,
}

impl Metered {
    fn new(inner: Body, caller: &Caller, limits: &Limits, records: Option<RecordCounter>) -> Self {
        Self {
            inner,
            ledger: Arc::clone(&caller.ledger),
            prefixes: Prefixes::new(limits.message_bytes_max, records),
            records_max: limits.batch_records_max,
            waiting: None,
            _call: caller.connection.as_ref().map(Connection::call),
        }
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.waiting.is_none() {
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            let lengths = frame.data_ref().map(|data| this.prefixes.begun(data)).unwrap_or_default();
            if this.prefixes.records_seen > this.records_max {
                return Poll::Ready(Some(Err(too_many_records(this.records_max).into())));
            }
            if lengths.is_empty() {
                return Poll::Ready(Some(Ok(frame)));
            }
            let bytes = lengths.iter().sum();
            if let Some(reserved) = this.ledger.budget.try_reserve(bytes) {
                this.ledger.admit(reserved, &lengths);
                return Poll::Ready(Some(Ok(frame)));
            }
            let budget = Arc::clone(&this.ledger.budget);
            this.waiting = Some((Box::pin(async move { budget.reserve(bytes).await }), lengths, frame));
        }
        let Some((waiting, ..)) = &mut this.waiting else { return Poll::Pending };
        let reserved = ready!(waiting.as_mut().poll(cx));
        let Some((_, lengths, frame)) = this.waiting.take() else { return Poll::Pending };
        this.ledger.admit(reserved, &lengths);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.inner.is_end_stream()
    }
}

fn too_many_records(max: usize) -> Error {
    let message = format!("the request has more than {max} plain records: send several requests");
    Error::new(ErrorCode::BatchTooLarge, message).at("partitions")
}

/// Finds the lengths of messages in the bytes of a body, however they are cut. Pure.
#[derive(Debug)]
struct Prefixes {
    message_bytes_max: usize,
    /// Of produce requests, whose plain records are counted.
    records: Option<RecordCounter>,
    /// The most that a message had.
    records_seen: usize,
    prefix: [u8; PREFIX_BYTES],
    have: usize,
    /// Bytes of the message in hand that are still to come.
    left: usize,
}

impl Prefixes {
    fn new(message_bytes_max: usize, records: Option<RecordCounter>) -> Self {
        Self { message_bytes_max, records, records_seen: 0, prefix: [0; PREFIX_BYTES], have: 0, left: 0 }
    }

    /// Lengths of the messages that begin in these bytes. One that is longer than a message may be counts as nothing: it is refused by
    /// its length and never read.
    fn begun(&mut self, mut data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !data.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(data.len());
                self.left -= skipped;
                if let Some(counter) = &mut self.records {
                    counter.feed(&data[..skipped]);
                    self.records_seen = self.records_seen.max(counter.records());
                }
                data = &data[skipped..];
                continue;
            }
            let taken = (PREFIX_BYTES - self.have).min(data.len());
            self.prefix[self.have..self.have + taken].copy_from_slice(&data[..taken]);
            self.have += taken;
            data = &data[taken..];
            if self.have == PREFIX_BYTES {
                let [_, a, b, c, d] = self.prefix;
                self.have = 0;
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                if let Some(counter) = &mut self.records {
                    counter.begin();
                }
                lengths.push(if self.left > self.message_bytes_max { 0 } else { self.left });
            }
        }
        lengths
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lengths_are_found_however_the_bytes_are_cut(
            messages in proptest::collection::vec(0_usize..300, 0..20), cuts in proptest::collection::vec(1_usize..40, 1..50),
        ) {
            let mut bytes = Vec::new();
            for length in &messages {
                bytes.push(0);
                bytes.extend_from_slice(&u32::try_from(*length).unwrap().to_be_bytes());
                bytes.extend(std::iter::repeat_n(0xFF, *length));
            }
            let (mut prefixes, mut found, mut rest) = (Prefixes::new(250, None), Vec::new(), bytes.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, after) = rest.split_at((*cut).min(rest.len()));
                found.extend(prefixes.begun(part));
                rest = after;
            }
            let expected: Vec<usize> = messages.iter().map(|l| if *l > 250 { 0 } else { *l }).collect();
            prop_assert_eq!(found, expected);
        }
    }

    /// A body that gives its frames one by one.
    fn body(frames: Vec<Vec<u8>>) -> Body {
        let frames = frames.into_iter().map(|frame| Ok::<_, Status>(Frame::data(Bytes::from(frame))));
        Body::new(http_body_util::StreamBody::new(futures::stream::iter(frames)))
    }

    #[tokio::test]
    async fn a_body_is_not_read_on_before_its_message_has_room() {
        let budget = Budget::new(100);
        let ledger = Arc::new(Ledger { budget: Arc::clone(&budget), messages: Mutex::default() });
        let caller = Caller { client: "c".into(), connection: None, ledger };
        let mut metered = Metered::new(
            body(vec![vec![0, 0, 0, 0, 60, 1], vec![1; 59], vec![0, 0, 0, 0, 50]]),
            &caller,
            &Limits::default(),
            None,
        );
        let next = async |metered: &mut Metered| {
            std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *metered), cx))
                .await
                .map(|frame| frame.is_ok())
        };
        assert_eq!(next(&mut metered).await, Some(true));
        assert_eq!(budget.free_bytes(), 40);
        assert_eq!(next(&mut metered).await, Some(true));
        let waits = tokio::time::timeout(Duration::from_millis(10), next(&mut metered)).await;
        assert!(waits.is_err(), "the second message has no room while the first is in hand");
        drop(caller.reserved());
        assert_eq!(next(&mut metered).await, Some(true));
        assert_eq!(next(&mut metered).await, None);
        assert_eq!(caller.reserved().map(|reserved| reserved.bytes()), Some(50));
        drop((metered, caller));
        assert_eq!(budget.free_bytes(), 100);
    }
}
