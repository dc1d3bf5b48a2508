//! The fixed 61 bytes before the records.

use super::{BatchError, Compression, NO_PRODUCER};
use crate::position::POSITIONED;

/// Bytes before the records.
pub const HEADER_BYTES: usize = 61;

/// Bytes of base offset and length, which the length itself does not count.
const PREFIX_BYTES: usize = 12;

const CODEC_MASK: i16 = 0x07;
pub(super) const LOG_APPEND_TIME: i16 = 1 << 3;
pub(super) const TRANSACTIONAL: i16 = 1 << 4;
pub(super) const CONTROL: i16 = 1 << 5;
/// The base timestamp is the time from which on the batch's tombstones may go (KIP-534).
pub(super) const DELETE_HORIZON: i16 = 1 << 6;
/// Of a control batch: it takes a transaction back. Kafka leaves bits 7 to 15 unused.
pub(super) const ABORT: i16 = 1 << 9;

/// The header as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes of the whole batch, this header included.
    pub total_bytes: usize,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads the header at the start of `bytes` and checks that its fields fit together. Does not check the checksum and does not
    /// need the records.
    ///
    /// # Errors
    /// [`BatchError::Torn`] under 61 bytes, otherwise what does not fit.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Torn { have: bytes.len(), need: HEADER_BYTES });
        }
        let magic = bytes[16] as i8;
        if magic != 2 {
            return Err(BatchError::Magic { found: magic });
        }
        let length = i32::from_be_bytes(field(bytes, 8));
        let total_bytes = usize::try_from(length).map_or(0, |l| l + PREFIX_BYTES);
        if total_bytes < HEADER_BYTES {
            return Err(BatchError::Header("length is shorter than the header"));
        }
        let header = Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            total_bytes,
            leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes: i16::from_be_bytes(field(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            record_count: i32::from_be_bytes(field(bytes, 57)),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), BatchError> {
        if self.record_count < 0 {
            return Err(BatchError::Header("record count is negative"));
        }
        // a cleaned batch keeps its range of offsets when records of it, or all of them, are gone
        if self.last_offset_delta < 0 || self.last_offset_delta < self.record_count - 1 {
            return Err(BatchError::Header("last offset delta leaves no room for the records"));
        }
        if self.base_offset < 0
            || self.base_offset.checked_add(i64::from(self.last_offset_delta) + 1).is_none()
        {
            return Err(BatchError::Header("base offset is negative or too large"));
        }
        if self.producer_id < NO_PRODUCER {
            return Err(BatchError::Header("producer id is below -1"));
        }
        if self.is_positioned() && self.producer_id == NO_PRODUCER {
            return Err(BatchError::Header("a positioned batch needs a producer id"));
        }
        Compression::of_attributes(self.attributes)?;
        Ok(())
    }

    /// Whether a record stands at each of its offsets, as in every batch that is sent.
    #[must_use]
    pub fn is_dense(&self) -> bool {
        self.record_count > 0 && self.last_offset_delta == self.record_count - 1
    }

    /// From when on its tombstones, or its marker, may go; `None` before the batch was cleaned for the first time.
    #[must_use]
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Last offset of its range; the record there may be gone.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset after its range.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Codec of the records.
    #[must_use]
    pub fn compression(&self) -> Compression {
        // `parse` refused every other codec
        Compression::of_attributes(self.attributes & CODEC_MASK).unwrap_or(Compression::None)
    }

    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether it is the marker of an aborted transaction.
    #[must_use]
    pub fn is_abort(&self) -> bool {
        self.is_control() && self.attributes & ABORT != 0
    }

    /// Whether the first record carries the source positions of the batch ([`crate::position`]).
    #[must_use]
    pub fn is_positioned(&self) -> bool {
        self.attributes & POSITIONED != 0
    }

    /// Whether the producer numbers its batches, and the partition must check the sequence.
    #[must_use]
    pub fn is_sequenced(&self) -> bool {
        self.producer_id != NO_PRODUCER && !self.is_positioned()
    }

    #[must_use]
    pub fn has_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }
}

/// CRC-32C over everything the checksum covers.
pub(super) fn checksum(batch: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32
}

/// Writes base offset and leader epoch into a batch. Both lie outside the checksum.
///
/// # Panics
/// When `batch` is shorter than a header: the caller has parsed it.
pub fn stamp(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}
