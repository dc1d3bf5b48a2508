//! The sparse index of a segment: which byte to start at to find an offset or a time. Pure.
//!
//! An entry names a batch and the newest timestamp of all batches before it, so one list answers both questions. Entries rise in all
//! three fields. Sealed form: an envelope of kind `SEGMENT_INDEX` beside the segment; it can always be rebuilt.

use bytes::{Buf as _, BufMut as _, Bytes};
use sunseo_proto::envelope::{self, kind};

/// Version of the sealed form.
const VERSION: u8 = 1;
const ENTRY_BYTES: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: i64,
    /// Where the batch begins.
    pub(crate) at: u64,
    /// Newest timestamp before the batch, `i64::MIN` for the first.
    pub(crate) newest_before_ms: i64,
}

impl IndexEntry {
    fn decode(mut bytes: &[u8]) -> Self {
        Self { offset: bytes.get_i64(), at: bytes.get_u64(), newest_before_ms: bytes.get_i64() }
    }
}

/// An index, growing in memory or sealed.
#[derive(Clone, Debug)]
pub(crate) enum SparseIndex {
    Growing(GrowingIndex),
    /// The entries of a sealed form that was checked.
    Sealed(Bytes),
}

/// The index of a segment that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GrowingIndex {
    entries: Vec<IndexEntry>,
    newest_ms: Option<i64>,
}

impl GrowingIndex {
    /// Notes a batch, which gets an entry when the last one is `interval_bytes` back.
    pub(crate) fn note(&mut self, offset: i64, at: u64, max_timestamp_ms: i64, interval_bytes: u64) {
        if self.entries.last().is_none_or(|last| at - last.at >= interval_bytes) {
            let newest_before_ms = self.newest_ms.unwrap_or(i64::MIN);
            self.entries.push(IndexEntry { offset, at, newest_before_ms });
        }
        self.newest_ms = Some(self.newest_ms.map_or(max_timestamp_ms, |newest| newest.max(max_timestamp_ms)));
    }

    /// The part of an index before its last entry at or below `at`, and that entry, where noting must go on.
    pub(crate) fn resume(index: &SparseIndex, at: u64) -> Option<(Self, IndexEntry)> {
        let entries: Vec<IndexEntry> = (0..index.len()).map(|n| index.entry(n)).collect();
        let n = entries.partition_point(|entry| entry.at <= at).checked_sub(1)?;
        let from = entries[n];
        let newest_ms = Some(from.newest_before_ms).filter(|_| n > 0);
        Some((Self { entries: entries[..n].to_vec(), newest_ms }, from))
    }

    pub(crate) fn seal(&self) -> Bytes {
        let mut payload = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        for entry in &self.entries {
            payload.put_i64(entry.offset);
            payload.put_u64(entry.at);
            payload.put_i64(entry.newest_before_ms);
        }
        envelope::seal(kind::SEGMENT_INDEX, VERSION, &payload)
    }
}

impl SparseIndex {
    /// Reads a sealed form; `None` when it is damaged, does not rise, or names a place at or beyond `segment_bytes`.
    pub(crate) fn open(bytes: &Bytes, segment_bytes: u64) -> Option<Self> {
        let (_, payload) = envelope::open_as(bytes, kind::SEGMENT_INDEX, VERSION).ok()?;
        if payload.len() % ENTRY_BYTES != 0 {
            return None;
        }
        let index = Self::Sealed(payload);
        let fits = index.len() == 0 || index.entry(index.len() - 1).at < segment_bytes;
        (fits && index.rises()).then_some(index)
    }

    /// Without that a search would end anywhere.
    fn rises(&self) -> bool {
        (1..self.len()).all(|n| {
            let (before, after) = (self.entry(n - 1), self.entry(n));
            before.offset < after.offset
                && before.at < after.at
                && before.newest_before_ms <= after.newest_before_ms
        })
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Growing(index) => index.entries.len(),
            Self::Sealed(bytes) => bytes.len() / ENTRY_BYTES,
        }
    }

    pub(crate) fn entry(&self, n: usize) -> IndexEntry {
        match self {
            Self::Growing(index) => index.entries[n],
            Self::Sealed(bytes) => IndexEntry::decode(&bytes[n * ENTRY_BYTES..]),
        }
    }

    /// Where to start to find the batch that holds `offset`.
    pub(crate) fn find_offset(&self, offset: i64) -> u64 {
        self.last_where(|entry| entry.offset <= offset)
    }

    /// Where to start to find the first batch with a timestamp at or after `timestamp_ms`.
    pub(crate) fn find_time(&self, timestamp_ms: i64) -> u64 {
        self.last_where(|entry| entry.newest_before_ms < timestamp_ms)
    }

    /// The last entry before which nothing is missed when `before` holds for a prefix of the entries.
    fn last_where(&self, before: impl Fn(IndexEntry) -> bool) -> u64 {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.entry(middle)) { low = middle + 1 } else { high = middle }
        }
        if low == 0 { 0 } else { self.entry(low - 1).at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a walk over all batches.
        #[test]
        fn a_lookup_never_misses(batches in prop::collection::vec((1..5_i64, 61..500_u64, 0..50_i64), 1..60), interval in 0..1000_u64,
            offset in 0..200_i64, time in 0..60_i64) {
            let mut index = GrowingIndex::default();
            let (mut next, mut at) = (0, 0);
            let mut places = Vec::new();
            for (records, bytes, timestamp) in batches {
                index.note(next, at, timestamp, interval);
                places.push((next, next + records, at, timestamp));
                next += records;
                at += bytes;
            }
            let sealed = SparseIndex::open(&index.seal(), at).expect("just sealed");
            let growing = SparseIndex::Growing(index);
            for index in [growing, sealed] {
                if let Some(holder) = places.iter().find(|p| p.0 <= offset && offset < p.1) {
                    let start = index.find_offset(offset);
                    prop_assert!(start <= holder.2 && holder.2 - start <= interval + 500);
                    prop_assert!(places.iter().any(|p| p.2 == start));
                }
                if let Some(first) = places.iter().find(|p| p.3 >= time) {
                    let start = index.find_time(time);
                    prop_assert!(start <= first.2);
                    prop_assert!(places.iter().any(|p| p.2 == start));
                }
            }
        }
    }

    #[test]
    fn an_index_that_does_not_rise_is_not_used() {
        let entry = |offset, at, newest_before_ms| IndexEntry { offset, at, newest_before_ms };
        let open = |entries: &[IndexEntry]| {
            let index = GrowingIndex { entries: entries.to_vec(), newest_ms: None };
            SparseIndex::open(&index.seal(), 1_000)
        };
        assert!(open(&[entry(0, 0, 5), entry(2, 100, 5)]).is_some());
        for second in [entry(0, 100, 5), entry(2, 0, 5), entry(2, 100, 4)] {
            assert!(open(&[entry(0, 0, 5), second]).is_none(), "{second:?}");
        }
        assert!(open(&[entry(0, 5_000, 5), entry(2, 100, 5)]).is_none(), "the first is beyond the segment");
    }

    #[test]
    fn a_damaged_or_too_long_index_is_not_used() {
        let mut index = GrowingIndex::default();
        index.note(0, 0, 5, 10);
        index.note(1, 100, 6, 10);
        let sealed = index.seal();
        assert!(SparseIndex::open(&sealed, 101).is_some());
        assert!(SparseIndex::open(&sealed, 100).is_none(), "names a place beyond the segment");
        let mut broken = sealed.to_vec();
        broken[20] ^= 1;
        assert!(SparseIndex::open(&Bytes::from(broken), 101).is_none());
    }
}
