//! A body to messages.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use bytes_utils::SegmentedBuf;
use futures::{Stream, StreamExt as _};
use http_body::Body as _;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Response, StatusCode};
use tonic::{Code, Status};

use super::{PREFIX_BYTES, Side};

/// Frames smaller than this are copied together: as they are, each would keep more memory than it has bytes.
const SHARED_BYTES_MIN: usize = 4 << 10;

/// The messages of a request or of an answer. After an error there are no more.
#[derive(Debug)]
pub struct Incoming<M> {
    /// `None` when it has ended.
    body: Option<Body>,
    side: Side,
    message_bytes_max: usize,
    /// Whether an answer has said how it ends.
    has_status: bool,
    /// What has come and belongs to no message yet, before what is in `small`.
    have: SegmentedBuf<Bytes>,
    small: BytesMut,
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
        let has_status = status_in(response.headers())?;
        let status = response.status();
        if !has_status && !status.is_success() {
            let message = format!("the server answered with HTTP status {status}");
            return Err(Status::new(code_of(status), message));
        }
        let incoming = Self::new(Body::new(response.into_body()), Side::Answer, message_bytes_max);
        Ok(Self { has_status, ..incoming })
    }

    fn new(body: Body, side: Side, message_bytes_max: usize) -> Self {
        Self {
            body: Some(body),
            side,
            message_bytes_max,
            has_status: false,
            have: SegmentedBuf::new(),
            small: BytesMut::new(),
            length: None,
            message: PhantomData,
        }
    }

    /// The next message; `None` when the other side has said all.
    ///
    /// # Errors
    /// What broke the stream, or the status it ended with.
    pub async fn message(&mut self) -> Result<Option<M>, Status> {
        self.next().await.transpose()
    }

    fn push(&mut self, data: Bytes) {
        if data.len() < SHARED_BYTES_MIN {
            self.small.extend_from_slice(&data);
        } else {
            self.gather_small();
            self.have.push(data);
        }
    }

    fn gather_small(&mut self) {
        if !self.small.is_empty() {
            self.have.push(self.small.split().freeze());
        }
    }

    /// Whether so many bytes are there; they are in `have` then.
    fn has(&mut self, bytes: usize) -> bool {
        if self.have.remaining() < bytes && self.have.remaining() + self.small.len() >= bytes {
            self.gather_small();
        }
        self.have.remaining() >= bytes
    }

    /// A message that is there as a whole.
    fn decode(&mut self) -> Result<Option<M>, Status> {
        if self.length.is_none() && self.has(PREFIX_BYTES) {
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
        let Some(length) = self.length else { return Ok(None) };
        if !self.has(length) {
            return Ok(None);
        }
        self.length = None;
        let message = M::decode((&mut self.have).take(length));
        let broken = |error| Status::internal(format!("failed to decode Protobuf message: {error}"));
        message.map(Some).map_err(broken)
    }

    /// How it ends.
    fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), Status> {
        self.has_status |= status_in(trailers)?;
        match self.side {
            Side::Answer if !self.has_status => Err(Status::unknown("the answer ends without a status")),
            _ => Ok(()),
        }
    }

    /// Takes the next frame in; `false` when there is none.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Status>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(false)) };
        let more = match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.push(data);
                    Ok(true)
                }
                Err(frame) => self.trailers(&frame.into_trailers().unwrap_or_default()).map(|()| false),
            },
            // who gave a request up says no more
            Some(Err(status)) if self.side == Side::Request && status.code() == Code::Cancelled => Ok(false),
            Some(Err(status)) => Err(status),
            None if self.has(1) || self.length.is_some() => {
                Err(Status::internal("the stream ends within a message"))
            }
            None => self.trailers(&HeaderMap::new()).map(|()| false),
        };
        Poll::Ready(more)
    }
}

/// Whether there is a status among headers or trailers; an error when it is not success.
fn status_in(headers: &HeaderMap) -> Result<bool, Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        status => Ok(status.is_some()),
    }
}

/// As gRPC maps answers of servers and proxies that do not speak it (`http-grpc-status-mapping.md` of its specification).
fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
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
        (this.have, this.small, this.length) = (SegmentedBuf::new(), BytesMut::new(), None);
        Poll::Ready(ended.err().filter(|_| !had_ended).map(Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn small_frames_take_no_more_memory_than_they_have_bytes() {
        let mut incoming = Incoming::<v1::ProduceRequest>::request(Body::empty(), 1 << 20);
        (0..20_000).for_each(|_| incoming.push(Bytes::from_static(&[0])));
        assert_eq!((incoming.have.segments(), incoming.small.len()), (0, 20_000));
        incoming.push(vec![0; SHARED_BYTES_MIN].into());
        assert_eq!((incoming.have.segments(), incoming.small.len()), (2, 0), "in their order");
    }
}
