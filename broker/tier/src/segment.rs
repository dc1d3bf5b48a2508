//! The object of one segment: what is in it, pure.
//!
//! ```text
//! record batches | footer in an envelope (SEGMENT_OBJECT) | footer bytes u32 | magic u32
//! ```
//!
//! The footer holds the offsets, epochs and newest timestamp, a sparse index (an entry per 64 KiB: first offset, newest
//! timestamp so far, position) and a CRC-32 of every 1 MiB block of the data, so any aligned range can be checked by itself.
//!
//! Invariant: the object's bytes are a function of the batches alone, so writing it again writes the same bytes.

use bytes::{Buf as _, BufMut as _, Bytes};
use sunseo_proto::batch;
use sunseo_proto::envelope::{self, kind};
use sunseo_proto::error::{Error, ErrorCode, Result};

use crate::host::SealedSegment;

/// Bytes of data under one checksum.
pub const BLOCK_BYTES: usize = 1 << 20;

/// Bytes of data between two index entries, about.
pub const INDEX_INTERVAL_BYTES: u64 = 64 << 10;

/// Bytes at the end that say how long the footer is.
pub const TRAILER_BYTES: usize = 8;

const FOOTER_VERSION: u8 = 1;
pub(crate) const OBJECT_MAGIC: u32 = 0x5E05_0B1E;
const FIXED_BYTES: usize = 8 * 4 + 4 * 4;
const ENTRY_BYTES: usize = 24;

/// Where some record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// First offset of the batch at `position`.
    pub offset: i64,
    /// Newest timestamp of everything up to and including that batch.
    pub max_timestamp_ms: i64,
    /// Byte position in the data.
    pub position: u64,
}

/// What the end of the object says about the data before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFooter {
    pub base_offset: i64,
    /// Offset after the last record.
    pub end_offset: i64,
    pub data_bytes: u64,
    pub max_timestamp_ms: i64,
    pub first_epoch: i32,
    pub last_epoch: i32,
    pub index: Vec<IndexEntry>,
    /// CRC-32 of each [`BLOCK_BYTES`] of the data.
    pub block_checksums: Vec<u32>,
}

fn corrupt(message: String) -> Error {
    Error::new(ErrorCode::CorruptLog, message)
}

impl SegmentFooter {
    /// Reads every batch of a segment, checks its checksum and that offsets are dense from `base_offset` to `end_offset`.
    ///
    /// # Errors
    /// `CORRUPT_LOG` for data that must not be uploaded.
    pub fn describe(data: &Bytes, segment: &SealedSegment) -> Result<Self> {
        let wrong = |what: String| {
            corrupt(format!(
                "segment {}..{} cannot be offloaded: {what}",
                segment.base_offset, segment.end_offset
            ))
        };
        if data.len() as u64 != segment.bytes {
            return Err(wrong(format!("it has {} bytes, {} were announced", data.len(), segment.bytes)));
        }
        let mut index: Vec<IndexEntry> = Vec::new();
        let (mut position, mut next_offset, mut max_timestamp_ms) = (0_u64, segment.base_offset, i64::MIN);
        let mut epochs: Option<(i32, i32)> = None;
        for batch in batch::batches(data.clone()) {
            let (header, bytes) = batch.map_err(|e| wrong(format!("at byte {position}: {e}")))?;
            if header.base_offset != next_offset {
                return Err(wrong(format!("offset {} follows {next_offset}", header.base_offset)));
            }
            max_timestamp_ms = max_timestamp_ms.max(header.max_timestamp);
            if index.last().is_none_or(|last| position - last.position >= INDEX_INTERVAL_BYTES) {
                index.push(IndexEntry { offset: header.base_offset, max_timestamp_ms, position });
            }
            epochs = Some((epochs.map_or(header.leader_epoch, |(first, _)| first), header.leader_epoch));
            next_offset = header.next_offset();
            position += bytes.len() as u64;
        }
        if next_offset != segment.end_offset {
            return Err(wrong(format!("its last record has offset {}", next_offset - 1)));
        }
        let (first_epoch, last_epoch) = epochs.ok_or_else(|| wrong("it is empty".to_owned()))?;
        Ok(Self {
            base_offset: segment.base_offset,
            end_offset: segment.end_offset,
            data_bytes: position,
            max_timestamp_ms,
            first_epoch,
            last_epoch,
            index,
            block_checksums: data.chunks(BLOCK_BYTES).map(crc32fast::hash).collect(),
        })
    }

    /// What follows the data in the object.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut payload = Vec::with_capacity(
            FIXED_BYTES + self.index.len() * ENTRY_BYTES + self.block_checksums.len() * size_of::<u32>(),
        );
        payload.put_i64(self.base_offset);
        payload.put_i64(self.end_offset);
        payload.put_u64(self.data_bytes);
        payload.put_i64(self.max_timestamp_ms);
        payload.put_i32(self.first_epoch);
        payload.put_i32(self.last_epoch);
        // a segment is far below 4 Gi blocks
        payload.put_u32(self.index.len() as u32);
        payload.put_u32(self.block_checksums.len() as u32);
        for entry in &self.index {
            payload.put_i64(entry.offset);
            payload.put_i64(entry.max_timestamp_ms);
            payload.put_u64(entry.position);
        }
        for &checksum in &self.block_checksums {
            payload.put_u32(checksum);
        }
        let mut out = Vec::new();
        envelope::seal_into(&mut out, kind::SEGMENT_OBJECT, FOOTER_VERSION, &payload);
        let footer_bytes = out.len() as u32;
        out.put_u32(footer_bytes);
        out.put_u32(OBJECT_MAGIC);
        Bytes::from(out)
    }

    /// Reads what [`encode`](Self::encode) wrote; `tail` is everything after the data.
    ///
    /// # Errors
    /// `CORRUPT_LOG` with what does not fit.
    pub fn decode(tail: &Bytes) -> Result<Self> {
        let wrong = |what: String| corrupt(format!("end of a segment object is damaged: {what}"));
        let footer_bytes = tail.len().checked_sub(TRAILER_BYTES);
        let footer_bytes = footer_bytes.ok_or_else(|| wrong(format!("{} bytes are too few", tail.len())))?;
        let mut trailer = tail.slice(footer_bytes..);
        let (announced, magic) = (trailer.get_u32(), trailer.get_u32());
        if magic != OBJECT_MAGIC || announced as usize != footer_bytes {
            return Err(wrong(format!(
                "trailer {announced} {magic:#010x} does not fit {footer_bytes} footer bytes"
            )));
        }
        let (_, payload) =
            envelope::open_as(&tail.slice(..footer_bytes), kind::SEGMENT_OBJECT, FOOTER_VERSION)
                .map_err(|e| wrong(e.to_string()))?;
        Self::decode_payload(payload).ok_or_else(|| wrong("its lengths do not fit".to_owned()))
    }

    fn decode_payload(mut payload: Bytes) -> Option<Self> {
        if payload.len() < FIXED_BYTES {
            return None;
        }
        let mut footer = Self {
            base_offset: payload.get_i64(),
            end_offset: payload.get_i64(),
            data_bytes: payload.get_u64(),
            max_timestamp_ms: payload.get_i64(),
            first_epoch: payload.get_i32(),
            last_epoch: payload.get_i32(),
            index: Vec::new(),
            block_checksums: Vec::new(),
        };
        let (entries, blocks) = (payload.get_u32() as usize, payload.get_u32() as usize);
        let needed = entries.checked_mul(ENTRY_BYTES)?.checked_add(blocks.checked_mul(size_of::<u32>())?)?;
        let blocks_fit = footer.data_bytes.div_ceil(BLOCK_BYTES as u64) == blocks as u64;
        if payload.len() != needed || entries == 0 || !blocks_fit {
            return None;
        }
        footer.index = (0..entries)
            .map(|_| IndexEntry {
                offset: payload.get_i64(),
                max_timestamp_ms: payload.get_i64(),
                position: payload.get_u64(),
            })
            .collect();
        let rises =
            |pair: &[IndexEntry]| pair[0].offset < pair[1].offset && pair[0].position < pair[1].position;
        let is_within = footer.index.last().is_some_and(|last| last.position < footer.data_bytes);
        if !footer.index.windows(2).all(rises) || !is_within {
            return None;
        }
        footer.block_checksums = (0..blocks).map(|_| payload.get_u32()).collect();
        Some(footer)
    }

    /// Position at or before the batch that holds `offset`.
    #[must_use]
    pub fn position_before(&self, offset: i64) -> u64 {
        let after = self.index.partition_point(|entry| entry.offset <= offset);
        after.checked_sub(1).map_or(0, |at| self.index[at].position)
    }

    /// Checks a range of the data that begins at a block boundary and ends at one or at the end of the data.
    ///
    /// # Errors
    /// `CORRUPT_LOG` naming the damaged block.
    pub fn check(&self, start: u64, bytes: &[u8]) -> Result<()> {
        assert!(start.is_multiple_of(BLOCK_BYTES as u64), "ranges are aligned to blocks");
        let first = (start / BLOCK_BYTES as u64) as usize;
        for (block, part) in (first..).zip(bytes.chunks(BLOCK_BYTES)) {
            let stored = self.block_checksums.get(block).copied();
            let computed = crc32fast::hash(part);
            if stored != Some(computed) {
                return Err(corrupt(format!(
                    "block {block} of segment object {}..{} is damaged: checksum {computed:#010x}, {stored:#010x?} was stored",
                    self.base_offset, self.end_offset
                )));
            }
        }
        Ok(())
    }

    /// Memory it takes, for the cache.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.index.len() * ENTRY_BYTES + self.block_checksums.len() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::segment_of;

    #[test]
    fn the_footer_survives_and_any_flipped_byte_is_seen() {
        let (segment, data) = segment_of(100, 400, 700);
        let footer = SegmentFooter::describe(&data, &segment).unwrap();
        assert!(footer.index.len() > 2, "the index has several entries");
        let tail = footer.encode();
        assert_eq!(SegmentFooter::decode(&tail).unwrap(), footer);
        for at in 0..tail.len() {
            let mut broken = tail.to_vec();
            broken[at] ^= 0x10;
            assert!(SegmentFooter::decode(&broken.into()).is_err(), "byte {at}");
        }
        for cut in 0..tail.len() {
            assert!(SegmentFooter::decode(&tail.slice(..cut)).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn an_index_that_leads_astray_is_refused() {
        let (segment, data) = segment_of(100, 400, 700);
        let footer = SegmentFooter::describe(&data, &segment).unwrap();
        let refused = |change: fn(&mut Vec<IndexEntry>)| {
            let mut changed = footer.clone();
            change(&mut changed.index);
            assert!(SegmentFooter::decode(&changed.encode()).is_err(), "{:?}", changed.index);
        };
        refused(|index| index.swap(0, 1));
        refused(|index| index[1].position = index[0].position);
        refused(|index| index.last_mut().unwrap().position = u64::MAX);
    }

    #[test]
    fn a_position_is_never_after_the_batch_that_holds_the_offset() {
        let (segment, data) = segment_of(100, 400, 700);
        let footer = SegmentFooter::describe(&data, &segment).unwrap();
        let mut position = 0;
        for batch in batch::batches(data) {
            let (header, bytes) = batch.unwrap();
            for offset in header.base_offset..header.next_offset() {
                let found = footer.position_before(offset);
                assert!(found <= position && position - found <= INDEX_INTERVAL_BYTES);
            }
            position += bytes.len() as u64;
        }
    }

    #[test]
    fn damaged_or_mislabelled_data_is_refused() {
        let (segment, data) = segment_of(0, 50, 100);
        let mut broken = data.to_vec();
        broken[300] ^= 1;
        let refused = |data: Bytes, segment: SealedSegment| {
            let error = SegmentFooter::describe(&data, &segment).unwrap_err();
            assert_eq!(error.code, ErrorCode::CorruptLog, "{error}");
        };
        refused(broken.into(), segment);
        refused(data.slice(..data.len() - 1), segment);
        refused(data.clone(), SealedSegment { end_offset: segment.end_offset + 1, ..segment });
        refused(data.clone(), SealedSegment { base_offset: 1, ..segment });
        refused(Bytes::new(), SealedSegment { base_offset: 0, end_offset: 0, bytes: 0, max_timestamp_ms: 0 });
    }

    #[test]
    fn a_damaged_block_is_named() {
        let (segment, data) = segment_of(0, 3_000, 1_000);
        assert!(data.len() > 2 * BLOCK_BYTES);
        let footer = SegmentFooter::describe(&data, &segment).unwrap();
        footer.check(0, &data).unwrap();
        footer.check(BLOCK_BYTES as u64, &data[BLOCK_BYTES..2 * BLOCK_BYTES]).unwrap();
        let mut broken = data.to_vec();
        broken[BLOCK_BYTES + 5] ^= 1;
        let error = footer.check(0, &broken).unwrap_err();
        assert!(error.message.contains("block 1"), "{error}");
    }
}
