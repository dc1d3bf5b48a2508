//! The position a batch carries: where its records stand in the sequence of the source they come from.
//!
//! An outbox reader, the ingest endpoint and the engine's forwarder all repeat themselves after a crash. Each batch
//! they append says which positions it covers, in the same bytes that hold the records, so the partition can tell a
//! repeat from news by itself: a batch is appended only if its first position is above the last one this partition
//! holds of that producer. Positions of one producer in one partition rise; they need not be dense.
//!
//! On disk: attribute bit [`POSITIONED`] of the batch, and header [`POSITION_HEADER`] on its first record, 16 bytes:
//! first and last position, both i64 big endian.

use bytes::Bytes;

use crate::record::Header;

/// Attribute bit of a record batch that carries a position. Kafka leaves bits 7 to 15 unused.
pub const POSITIONED: i16 = 1 << 8;

/// Header on the first record of a positioned batch.
pub const POSITION_HEADER: &str = "sunseo.position";

/// First and last source position of a batch, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionRange {
    pub first: i64,
    pub last: i64,
}

impl PositionRange {
    /// `None` unless `0 <= first <= last`.
    #[must_use]
    pub fn new(first: i64, last: i64) -> Option<Self> {
        (0 <= first && first <= last).then_some(Self { first, last })
    }

    /// The header that carries it.
    #[must_use]
    pub fn to_header(self) -> Header {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(&self.last.to_be_bytes());
        Header::new(POSITION_HEADER, Bytes::from(bytes))
    }

    /// Reads the header's value; `None` unless it is well formed.
    #[must_use]
    pub fn from_header_value(value: &[u8]) -> Option<Self> {
        let (first, last) = value.split_first_chunk::<8>()?;
        let last: [u8; 8] = last.try_into().ok()?;
        Self::new(i64::from_be_bytes(*first), i64::from_be_bytes(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_survives_its_header_and_a_bad_one_is_refused() {
        let range = PositionRange::new(7, 9).expect("rising");
        let header = range.to_header();
        assert_eq!(PositionRange::from_header_value(header.value.as_deref().expect("set")), Some(range));
        assert_eq!(PositionRange::new(9, 7), None);
        assert_eq!(PositionRange::new(-1, 7), None);
        assert_eq!(PositionRange::from_header_value(&[0; 15]), None);
    }
}
