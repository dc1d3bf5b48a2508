//! A body to messages.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use bytes_utils::SegmentedBuf;
use futures::{Stream, StreamExt as _};
use http_body::Body as _;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Response};
use tonic::{Code, Status};

use super::{PREFIX_BYTES, Side};

/// The messages of a request or of an answer. After an error there are no more.
#[derive(Debug)]
pub struct Incoming<M> {
    /// `None` when it has ended.
    body: Option<Body>,
    side: Side,
    message_bytes_max: usize,
    /// What has come and belongs to no message yet.
    have: SegmentedBuf<Bytes>,
    /// Length of the message in hand, once it is known.
    length: Option<usize>,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Incoming<M> {
    /// Of a request. A message longer than that ends it with `OUT_OF_RANGE`.
    #[must_use]
    pub fn request(body: Body, message_bytes_max: usize) -> Self {
        Self::new(body, Side::Request, message_bytes_max)
    }

    /// Of an answer.
    ///
    /// # Errors
    /// The status that the server gave instead of one.
    pub fn answer<B>(response: Response<B>, message_bytes_max: usize) -> Result<Self, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        refuse(response.headers())?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(Status::unavailable(format!("the server answered with HTTP status {status}")));
        }
        Ok(Self::new(Body::new(response.into_body()), Side::Answer, message_bytes_max))
    }

    fn new(body: Body, side: Side, message_bytes_max: usize) -> Self {
        let (have, length) = (SegmentedBuf::new(), None);
        Self { body: Some(body), side, message_bytes_max, have, length, message: PhantomData }
    }

    /// The next message; `None` when the other side has said all.
    ///
    /// # Errors
    /// What broke the stream, or the status it ended with.
    pub async fn message(&mut self) -> Result<Option<M>, Status> {
        self.next().await.transpose()
    }

    /// A message that is there as a whole.
    fn decode(&mut self) -> Result<Option<M>, Status> {
        if self.length.is_none() && self.have.remaining() >= PREFIX_BYTES {
            let flag = self.have.get_u8();
            if flag != 0 {
                let message = format!("a message has compression flag {flag}: send it without compression");
                return Err(Status::internal(message));
            }
            let length = self.have.get_u32() as usize;
            if length > self.message_bytes_max {
                let message = format!("a message has {length} bytes, {} are allowed", self.message_bytes_max);
                return Err(Status::out_of_range(message));
            }
            self.length = Some(length);
        }
        let Some(length) = self.length.filter(|length| self.have.remaining() >= *length) else {
            return Ok(None);
        };
        self.length = None;
        let message = M::decode((&mut self.have).take(length));
        let broken = |error| Status::internal(format!("failed to decode Protobuf message: {error}"));
        message.map(Some).map_err(broken)
    }

    /// Takes the next frame in; `false` when there is none.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Status>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(false)) };
        let more = match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.have.push(data);
                    Ok(true)
                }
                Err(frame) => {
                    frame.into_trailers().map_or(Ok(()), |trailers| refuse(&trailers)).map(|()| false)
                }
            },
            // who gave a request up says no more
            Some(Err(status)) if self.side == Side::Request && status.code() == Code::Cancelled => Ok(false),
            Some(Err(status)) => Err(status),
            None if self.have.has_remaining() || self.length.is_some() => {
                Err(Status::internal("the stream ends within a message"))
            }
            None => Ok(false),
        };
        Poll::Ready(more)
    }
}

/// A status among headers or trailers that is not success.
fn refuse(headers: &HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

impl<M: Message + Default> Stream for Incoming<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let ended = loop {
            match this.decode() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) => {}
                Err(status) => break Err(status),
            }
            match ready!(this.poll_more(cx)) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        let had_ended = this.body.take().is_none();
        (this.have, this.length) = (SegmentedBuf::new(), None);
        Poll::Ready(ended.err().filter(|_| !had_ended).map(Err))
    }
}
