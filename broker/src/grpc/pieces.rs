//! The body of an answer, handed on in pieces.
//!
//! The HTTP/2 server asks for the next frame of a body as soon as it has the one before, whether or not the client takes it: of a large
//! frame it would hold all, and ask for the next answer at once. In pieces, what it holds is at most two of them, and to ask for
//! the next answer means that the one before has left but for these.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

/// Bytes of a piece.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// A body in pieces.
pub(super) struct Pieces {
    inner: Body,
    /// What is left of the frame in hand.
    rest: Bytes,
}

impl Pieces {
    pub(super) fn of(inner: Body) -> Body {
        Body::new(Self { inner, rest: Bytes::new() })
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let bytes = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn nothing_is_lost_and_no_piece_is_larger() {
        let frames = [1, PIECE_BYTES, 3 * PIECE_BYTES + 7, 0, 5];
        let data: Vec<Bytes> = (0_u8..).zip(frames).map(|(n, bytes)| vec![n; bytes].into()).collect();
        let frames = data.clone().into_iter().map(|data| Ok::<_, Status>(Frame::data(data)));
        let mut pieces = Pieces::of(Body::new(http_body_util::StreamBody::new(stream::iter(frames))));
        let (mut all, mut largest) = (Vec::new(), 0);
        while let Some(frame) = pieces.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            largest = largest.max(piece.len());
            all.extend_from_slice(&piece);
        }
        assert_eq!(largest, PIECE_BYTES);
        assert!(all == data.concat());
    }
}
