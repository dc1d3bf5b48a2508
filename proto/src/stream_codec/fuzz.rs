//! The fuzz target of incoming messages.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

use super::{Incoming, Pieces};
use crate::v1;

const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A body that is there already.
struct Frames(VecDeque<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }
}

/// The messages of a body that is cut into frames of so many bytes, until it ends or breaks.
fn messages(bytes: &Bytes, frame_bytes: usize) -> Vec<v1::ProduceRequest> {
    let mut rest = bytes.clone();
    let mut frames = VecDeque::new();
    while !rest.is_empty() {
        frames.push_back(rest.split_to(frame_bytes.min(rest.len())));
    }
    let mut incoming = Incoming::request(Body::new(Frames(frames)), MESSAGE_BYTES_MAX);
    let mut found = Vec::new();
    while let Some(Some(Ok(message))) = incoming.next().now_or_never() {
        found.push(message);
    }
    found
}

fn sent(messages: &[v1::ProduceRequest]) -> Bytes {
    let mut pieces = Pieces::new(MESSAGE_BYTES_MAX);
    for message in messages {
        pieces.message(message.clone()).expect("memory is there");
    }
    pieces.flatten().collect()
}

/// However a body is cut, it has the same messages; and those sent again are the same.
pub(crate) fn incoming(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let found = messages(&bytes, usize::MAX);
    assert_eq!(messages(&bytes, 7), found, "cut small");
    assert_eq!(messages(&sent(&found), usize::MAX), found, "sent again");
}

pub(crate) fn samples() -> Vec<Vec<u8>> {
    let partition = |n: i32| v1::ProducePartition {
        topic: "deliveries".into(),
        partition: n,
        batch: (n > 0).then(|| Bytes::from(vec![n as u8; 40])),
        topic_id: Bytes::from_static(&[7; 16]),
        ..Default::default()
    };
    let request = |correlation_id| v1::ProduceRequest {
        correlation_id,
        partitions: (0..3).map(partition).collect(),
        transactional_id: "kitchen".into(),
    };
    vec![sent(&[request(1), v1::ProduceRequest::default(), request(2)]).to_vec()]
}
