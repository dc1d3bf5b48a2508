//! Values to a batch.

use bytes::{BufMut as _, Bytes};

use super::header::{HEADER_BYTES, TRANSACTIONAL, checksum};
use super::{Compression, NO_PRODUCER};
use crate::position::{POSITIONED, PositionRange};
use crate::record::{Header, Record};
use crate::varint::{len_i64, put_i32, put_i64};

/// Collects records and turns them into one batch.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    attributes: i16,
    position: Option<PositionRange>,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    /// Room for the header, then the records: without compression this is the batch, and nothing is copied to make it.
    bytes: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch without a producer.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            producer_id: NO_PRODUCER,
            producer_epoch: -1,
            base_sequence: -1,
            attributes: compression.attribute(),
            position: None,
            base_timestamp: 0,
            max_timestamp: i64::MIN,
            count: 0,
            bytes: Vec::new(),
        }
    }

    /// Reserves memory for a batch of so many bytes before compression, so that it is not moved as it grows.
    #[must_use]
    pub fn expect_bytes(mut self, bytes: usize) -> Self {
        self.bytes.reserve(bytes.max(HEADER_BYTES));
        self
    }

    /// An idempotent producer's id, epoch and the sequence of the first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    /// The batch belongs to a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL;
        self
    }

    /// Attributes that only the broker sets.
    #[must_use]
    pub(super) fn with_attributes(mut self, attributes: i16) -> Self {
        self.attributes |= attributes;
        self
    }

    /// The source positions this batch covers; needs [`producer`](Self::producer) and must be set before the first push.
    #[must_use]
    pub fn position(mut self, range: PositionRange) -> Self {
        debug_assert_eq!(self.count, 0, "the first record carries the position");
        self.attributes |= POSITIONED;
        self.position = Some(range);
        self
    }

    /// Number of records so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes the batch has so far, before compression.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len().max(HEADER_BYTES)
    }

    /// Adds a record; its offset is ignored. Key, value and headers together must be under 2 GiB.
    pub fn push(&mut self, record: &Record) {
        if self.count == 0 {
            self.base_timestamp = record.timestamp_ms;
            self.bytes.resize(HEADER_BYTES, 0);
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp_ms);
        let position = self.position.filter(|_| self.count == 0).map(PositionRange::to_header);
        put_record(&mut self.bytes, record, position.as_ref(), (self.base_timestamp, self.count));
        self.count += 1;
    }

    /// The finished batch, base offset 0 and leader epoch -1.
    ///
    /// # Panics
    /// When no record was pushed.
    #[must_use]
    pub fn build(self) -> Bytes {
        assert!(self.count > 0, "a batch has at least one record");
        let mut out = match self.compression {
            Compression::None => self.bytes,
            codec => {
                // writing into memory does not fail
                let block = codec
                    .compress(&self.bytes[HEADER_BYTES..])
                    .unwrap_or_else(|e| unreachable!("in memory: {e}"));
                let mut out = Vec::with_capacity(HEADER_BYTES + block.len());
                out.resize(HEADER_BYTES, 0);
                out.extend_from_slice(&block);
                out
            }
        };
        let length = (out.len() - 12) as i32;
        let mut head = &mut out[..HEADER_BYTES];
        head.put_i64(0);
        head.put_i32(length);
        head.put_i32(-1);
        head.put_u8(2);
        head.put_u32(0);
        head.put_i16(self.attributes);
        head.put_i32(self.count - 1);
        head.put_i64(self.base_timestamp);
        head.put_i64(self.max_timestamp);
        head.put_i64(self.producer_id);
        head.put_i16(self.producer_epoch);
        head.put_i32(self.base_sequence);
        head.put_i32(self.count);
        debug_assert!(head.is_empty());
        let crc = checksum(&out);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(out)
    }
}

/// One record, with one header more behind its own, of a batch with this base timestamp, at this offset of it.
pub(super) fn put_record(
    out: &mut Vec<u8>,
    record: &Record,
    more: Option<&Header>,
    (base_timestamp, offset_delta): (i64, i32),
) {
    let headers = record.headers.iter().chain(more);
    let header_count = record.headers.len() + usize::from(more.is_some());
    // wraps for timestamps more than i64 apart; the decoder wraps back
    let timestamp_delta = record.timestamp_ms.wrapping_sub(base_timestamp);
    let mut body = 1 + len_i64(timestamp_delta) + len_i64(i64::from(offset_delta));
    body += field_len(record.key.as_deref()) + field_len(record.value.as_deref());
    body += len_i64(header_count as i64) + headers.clone().map(header_len).sum::<usize>();
    out.reserve(LENGTH_BYTES_MAX + body);
    put_i64(out, body as i64);
    out.push(0);
    put_i64(out, timestamp_delta);
    put_i32(out, offset_delta);
    put_field(out, record.key.as_deref());
    put_field(out, record.value.as_deref());
    put_i64(out, header_count as i64);
    for header in headers {
        put_field(out, Some(header.key.as_bytes()));
        put_field(out, header.value.as_deref());
    }
}

/// Bytes of a record's length, at most.
const LENGTH_BYTES_MAX: usize = 10;

fn field_len(field: Option<&[u8]>) -> usize {
    field.map_or(len_i64(-1), |bytes| len_i64(bytes.len() as i64) + bytes.len())
}

fn header_len(header: &Header) -> usize {
    field_len(Some(header.key.as_bytes())) + field_len(header.value.as_deref())
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put_i64(out, -1),
        Some(bytes) => {
            put_i64(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
