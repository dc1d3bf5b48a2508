//! What the log's cleaner writes: a batch with fewer records than it had, and a batch that stands for offsets without any.
//!
//! Invariants: base offset, last offset, producer, epoch, sequence and codec stay, so that offsets never move and a fold over the
//! producers comes to the same state. A cleaned log has no holes: where whole batches went stands a [`gap`].

use bytes::Bytes;

use super::NO_PRODUCER;
use super::build::put_record;
use super::header::{BatchHeader, CONTROL, DELETE_HORIZON, HEADER_BYTES, checksum};
use crate::position::{POSITIONED, PositionRange};
use crate::record::Record;

/// Timestamp of a batch without a record, as Kafka writes it.
const NO_TIMESTAMP: i64 = -1;

/// The batch of `header` with only `kept` of its records, in their order and with the offsets they had. With a horizon, the
/// tombstones in it may go from then on. `position` is what a positioned batch carries: the first kept record gets it if
/// another one had it, and a batch without records keeps its last position as base timestamp.
#[must_use]
pub fn rebuild(
    header: &BatchHeader,
    kept: &[Record],
    delete_horizon_ms: Option<i64>,
    position: Option<PositionRange>,
) -> Bytes {
    let mut attributes = header.attributes & !DELETE_HORIZON;
    let mut base_timestamp = kept.first().map_or(header.max_timestamp, |record| record.timestamp_ms);
    if let Some(horizon) = delete_horizon_ms.filter(|_| !kept.is_empty()) {
        attributes |= DELETE_HORIZON;
        base_timestamp = horizon;
    }
    if let Some(range) = position.filter(|_| kept.is_empty()) {
        base_timestamp = range.last;
    }
    let carried = position.filter(|_| header.is_positioned()).map(PositionRange::to_header);
    let mut plain = Vec::new();
    for (n, record) in kept.iter().enumerate() {
        let more = carried.as_ref().filter(|more| n == 0 && record.header(&more.key).is_none());
        let offset_delta = (record.offset - header.base_offset) as i32;
        put_record(&mut plain, record, more, (base_timestamp, offset_delta));
    }
    let newest = kept.iter().map(|record| record.timestamp_ms).max();
    let max_timestamp = match newest {
        // one timestamp for all of them: theirs is the header's
        Some(newest) if !header.has_log_append_time() => newest,
        _ => header.max_timestamp,
    };
    let block = match kept.is_empty() {
        true => {
            attributes &= !0x07;
            Vec::new()
        }
        // writing into memory does not fail
        false => header.compression().compress(&plain).unwrap_or_else(|e| unreachable!("in memory: {e}")),
    };
    let record_count = kept.len() as i32;
    let total_bytes = HEADER_BYTES + block.len();
    write(
        &BatchHeader { attributes, base_timestamp, max_timestamp, record_count, total_bytes, ..*header },
        &block,
    )
}

/// A batch that holds no record and no producer, only a range of offsets.
#[must_use]
pub fn gap(base_offset: i64, last_offset_delta: i32, leader_epoch: i32) -> Bytes {
    let header = BatchHeader {
        base_offset,
        total_bytes: HEADER_BYTES,
        leader_epoch,
        crc: 0,
        attributes: 0,
        last_offset_delta,
        base_timestamp: NO_TIMESTAMP,
        max_timestamp: NO_TIMESTAMP,
        producer_id: NO_PRODUCER,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    };
    write(&header, &[])
}

fn write(header: &BatchHeader, block: &[u8]) -> Bytes {
    debug_assert_eq!(header.total_bytes, HEADER_BYTES + block.len());
    debug_assert!(header.attributes & POSITIONED == 0 || header.attributes & CONTROL == 0);
    let mut out = Vec::with_capacity(header.total_bytes);
    out.extend_from_slice(&header.base_offset.to_be_bytes());
    out.extend_from_slice(&((header.total_bytes - 12) as i32).to_be_bytes());
    out.extend_from_slice(&header.leader_epoch.to_be_bytes());
    out.push(2);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&header.attributes.to_be_bytes());
    out.extend_from_slice(&header.last_offset_delta.to_be_bytes());
    out.extend_from_slice(&header.base_timestamp.to_be_bytes());
    out.extend_from_slice(&header.max_timestamp.to_be_bytes());
    out.extend_from_slice(&header.producer_id.to_be_bytes());
    out.extend_from_slice(&header.producer_epoch.to_be_bytes());
    out.extend_from_slice(&header.base_sequence.to_be_bytes());
    out.extend_from_slice(&header.record_count.to_be_bytes());
    debug_assert_eq!(out.len(), HEADER_BYTES);
    out.extend_from_slice(block);
    let crc = checksum(&out);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(out)
}
