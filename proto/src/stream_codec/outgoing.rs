//! Messages to a body.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use http_body::Frame;
use tonic::Status;
use tonic::codegen::http::HeaderMap;

use super::{Gather, Pieces, Side};

/// While less than this is to be sent, further messages that are ready leave with it.
const TOGETHER_BYTES: usize = 32 << 10;

/// The body of a request or of an answer. The next message is asked for when nearly everything of the one before was taken.
#[derive(Debug)]
pub struct Outgoing<S> {
    /// `None` when there are no more.
    messages: Option<S>,
    pieces: Pieces,
    side: Side,
    /// How an answer ends, until that is told.
    status: Option<Status>,
}

impl<S> Outgoing<S> {
    /// Of a request: an error of the stream, or a message that is longer than that, breaks it off.
    #[must_use]
    pub fn request(messages: S, message_bytes_max: usize) -> Self {
        Self::new(messages, Side::Request, message_bytes_max)
    }

    /// Of an answer: there it is the status.
    #[must_use]
    pub fn answer(messages: S, message_bytes_max: usize) -> Self {
        Self::new(messages, Side::Answer, message_bytes_max)
    }

    fn new(messages: S, side: Side, message_bytes_max: usize) -> Self {
        Self { messages: Some(messages), pieces: Pieces::new(message_bytes_max), side, status: None }
    }

    fn end(&mut self, status: Status) {
        (self.messages, self.status) = (None, Some(status));
    }
}

impl<S, M> Outgoing<S>
where
    S: Stream<Item = Result<M, Status>> + Unpin,
    M: Gather,
{
    /// Gathers what is ready.
    fn gather(&mut self, cx: &mut Context<'_>) {
        while self.pieces.bytes() < TOGETHER_BYTES
            && let Some(messages) = &mut self.messages
            && let Poll::Ready(next) = Pin::new(messages).poll_next(cx)
        {
            match next {
                Some(Ok(message)) => {
                    if let Err(status) = self.pieces.message(message) {
                        self.end(status);
                    }
                }
                Some(Err(status)) => self.end(status),
                None => self.end(Status::ok("")),
            }
        }
    }
}

impl<S, M> http_body::Body for Outgoing<S>
where
    S: Stream<Item = Result<M, Status>> + Unpin,
    M: Gather,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        this.gather(cx);
        if let Some(piece) = this.pieces.next() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if this.messages.is_some() {
            return Poll::Pending;
        }
        let Some(status) = this.status.take() else { return Poll::Ready(None) };
        match this.side {
            Side::Request if status.code() == tonic::Code::Ok => Poll::Ready(None),
            Side::Request => Poll::Ready(Some(Err(status))),
            Side::Answer => {
                let mut trailers = HeaderMap::new();
                Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_none() && self.status.is_none() && self.pieces.bytes() == 0
    }
}
