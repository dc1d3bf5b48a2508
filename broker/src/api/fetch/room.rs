//! The memory of an answer: reserved before anything is read, held until the last of its bytes have left.

use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::error::Result;
use sunseo_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::{Budget, Reserved};
use crate::log_thread::stopped;

/// Where the answers of one stream of the network may take their memory: its own share, and the node's.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    stream: Arc<Semaphore>,
    stream_bytes_max: usize,
    node: Arc<Budget>,
}

/// Memory of one answer.
#[derive(Debug)]
pub(crate) struct Taken {
    stream: OwnedSemaphorePermit,
    node: Reserved,
    /// Bytes of record batches, for quotas.
    batch_bytes: usize,
}

impl Room {
    pub(crate) fn new(stream_bytes_max: usize, node: &Arc<Budget>) -> Self {
        Self { stream: Arc::new(Semaphore::new(stream_bytes_max)), stream_bytes_max, node: Arc::clone(node) }
    }

    pub(super) async fn take(&self, bytes: usize) -> Result<Taken> {
        let share = u32::try_from(bytes.min(self.stream_bytes_max)).unwrap_or(u32::MAX);
        let stream = Arc::clone(&self.stream).acquire_many_owned(share).await.map_err(|_| stopped())?;
        Ok(Taken { stream, node: self.node.reserve(bytes).await, batch_bytes: 0 })
    }
}

impl Taken {
    /// Gives back what the answer does not need. As plain records it may need more than its batches.
    pub(super) fn settle(&mut self, batch_bytes: usize, memory: usize) {
        drop(self.stream.split(self.stream.num_permits().saturating_sub(memory)));
        self.node.set(memory);
        self.batch_bytes = batch_bytes;
    }

    pub(crate) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }
}

/// An answer and the memory it takes until it has left.
pub(crate) type Fetched = (v1::FetchResponse, Option<Taken>);

/// Bytes, and what is let go of with the last part of them.
struct Holding<T> {
    bytes: Bytes,
    _what: T,
}

impl<T> AsRef<[u8]> for Holding<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Ties something to the batches of each partition, made for so many bytes, until the last who has a part of them lets go.
pub(crate) fn tie<T: Send + 'static>(response: &mut v1::FetchResponse, what: impl Fn(usize) -> T) {
    for result in response.results.iter_mut().filter(|result| !result.batches.is_empty()) {
        let bytes = std::mem::take(&mut result.batches);
        let holding = Holding { _what: what(bytes.len()), bytes };
        result.batches = Bytes::from_owner(holding);
    }
}
