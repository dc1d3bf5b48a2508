//! A message as the pieces that it is sent in.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::{EncodeError, Message, encode_length_delimiter};
use tonic::Status;

use super::PREFIX_BYTES;
use crate::v1;

/// Fields from this size on are sent from where they lie; for smaller ones a frame of their own costs more than to copy them.
const SHARED_BYTES_MIN: usize = 32 << 10;

/// Largest piece. As large as a frame may be, so that a batch or a partition's part of an answer comes in whole.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// Bytes of a piece that small fields are gathered in.
const GATHERED_BYTES: usize = 256 << 10;

/// Field numbers of the .proto files, and the wire type of a field with a length.
const PRODUCE_PARTITIONS: u8 = 2;
const PRODUCE_BATCH: u8 = 3;
const FETCH_RESULTS: u8 = 2;
const FETCH_BATCHES: u8 = 6;
const WITH_LENGTH: u8 = 2;

/// A message that may have large fields.
pub trait Gather: Message + Sized {
    /// Appends the message; its bytes are those of [`Message::encode`] but for the order of fields, which is free.
    ///
    /// # Errors
    /// None that memory does not have.
    fn gather(self, pieces: &mut Pieces) -> Result<(), EncodeError> {
        pieces.put(&self)
    }
}

impl Gather for v1::ProduceResponse {}
impl Gather for v1::FetchRequest {}

impl Gather for v1::ProduceRequest {
    fn gather(mut self, pieces: &mut Pieces) -> Result<(), EncodeError> {
        let partitions = std::mem::take(&mut self.partitions);
        pieces.put(&self)?;
        pieces.put_parts(PRODUCE_PARTITIONS, PRODUCE_BATCH, partitions, |partition| partition.batch.take())
    }
}

impl Gather for v1::FetchResponse {
    fn gather(mut self, pieces: &mut Pieces) -> Result<(), EncodeError> {
        let results = std::mem::take(&mut self.results);
        pieces.put(&self)?;
        let batches = |result: &mut v1::FetchResult| {
            Some(std::mem::take(&mut result.batches)).filter(|batches| !batches.is_empty())
        };
        pieces.put_parts(FETCH_RESULTS, FETCH_BATCHES, results, batches)
    }
}

/// Bytes on their way out, none copied that are large.
#[derive(Debug)]
pub struct Pieces {
    message_bytes_max: usize,
    whole: VecDeque<Bytes>,
    /// What is gathered until the next piece.
    tail: BytesMut,
    /// Bytes of the message in hand that are still to come.
    left: usize,
    bytes: usize,
}

impl Pieces {
    /// Of messages that are no longer than so many bytes.
    #[must_use]
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, whole: VecDeque::new(), tail: BytesMut::new(), left: 0, bytes: 0 }
    }

    /// Appends a message with its prefix.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` when it is too long; then nothing of it was appended.
    pub fn message(&mut self, message: impl Gather) -> Result<(), Status> {
        let bytes = message.encoded_len();
        let length = u32::try_from(bytes).ok().filter(|_| bytes <= self.message_bytes_max);
        let Some(length) = length else {
            let message = format!("a message has {bytes} bytes, {} are allowed", self.message_bytes_max);
            return Err(Status::out_of_range(message));
        };
        self.left = PREFIX_BYTES + bytes;
        self.make_room(PREFIX_BYTES);
        self.tail.put_u8(0);
        self.tail.put_u32(length);
        self.took(PREFIX_BYTES);
        message.gather(self).map_err(|error| Status::internal(format!("a message does not encode: {error}")))
    }

    /// Bytes that have not been taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn put(&mut self, message: &impl Message) -> Result<(), EncodeError> {
        let bytes = message.encoded_len();
        self.make_room(bytes);
        message.encode(&mut self.tail)?;
        self.took(bytes);
        Ok(())
    }

    /// A repeated field of messages, each of which has its large field last.
    fn put_parts<P: Message>(
        &mut self,
        field: u8,
        large_field: u8,
        parts: Vec<P>,
        take: impl Fn(&mut P) -> Option<Bytes>,
    ) -> Result<(), EncodeError> {
        for mut part in parts {
            self.begin(field, part.encoded_len())?;
            let large = take(&mut part);
            self.put(&part)?;
            if let Some(large) = large {
                self.put_bytes(large_field, large)?;
            }
        }
        Ok(())
    }

    /// Key and length of a field.
    fn begin(&mut self, field: u8, length: usize) -> Result<(), EncodeError> {
        let bytes = 1 + prost::length_delimiter_len(length);
        self.make_room(bytes);
        self.tail.put_u8(field << 3 | WITH_LENGTH);
        encode_length_delimiter(length, &mut self.tail)?;
        self.took(bytes);
        Ok(())
    }

    fn put_bytes(&mut self, field: u8, content: Bytes) -> Result<(), EncodeError> {
        self.begin(field, content.len())?;
        let bytes = content.len();
        if bytes >= SHARED_BYTES_MIN {
            self.cut();
            self.whole.push_back(content);
        } else {
            self.make_room(bytes);
            self.tail.extend_from_slice(&content);
        }
        self.took(bytes);
        Ok(())
    }

    fn took(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.left = self.left.saturating_sub(bytes);
    }

    fn make_room(&mut self, bytes: usize) {
        if self.tail.capacity() - self.tail.len() < bytes {
            self.cut();
            self.tail = BytesMut::with_capacity(bytes.max(self.left.min(GATHERED_BYTES)));
        }
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.whole.push_back(self.tail.split().freeze());
        }
    }
}

/// Takes them, none larger than a frame.
impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.whole.is_empty() {
            self.cut();
        }
        let first = self.whole.front_mut()?;
        let piece = first.split_to(first.len().min(PIECE_BYTES));
        if first.is_empty() {
            self.whole.pop_front();
        }
        self.bytes -= piece.len();
        Some(piece)
    }
}
