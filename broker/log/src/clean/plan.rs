//! When a partition is worth cleaning, up to where, and which segments become one. Pure: facts in, plan out.

use crate::clean::Cleaned;
use crate::{Compaction, SealedFacts};

/// How dirty a partition is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirt {
    /// Offset up to which it may be cleaned now.
    pub cleanable_end: i64,
    /// Bytes of segments that were cleaned.
    pub clean_bytes: u64,
    /// Bytes of segments that may be cleaned and were not.
    pub dirty_bytes: u64,
    /// Whether a run is due: dirty enough, or tombstones may go.
    pub due: bool,
}

impl Dirt {
    /// Dirty part of the cleanable bytes, of a thousand.
    #[must_use]
    pub fn permille(&self) -> u32 {
        let all = u128::from(self.clean_bytes) + u128::from(self.dirty_bytes);
        u128::from(self.dirty_bytes).saturating_mul(1_000).checked_div(all).map_or(0, |part| part as u32)
    }
}

/// `sealed` are all sealed segments, oldest first; nothing at or above `limit` may be touched.
pub(crate) fn dirt(
    compaction: &Compaction,
    sealed: &[SealedFacts],
    cleaned: &Cleaned,
    limit: i64,
    now_ms: i64,
) -> Dirt {
    let is_young = |facts: &SealedFacts| {
        compaction.min_lag_ms > 0 && now_ms.saturating_sub(facts.max_timestamp_ms) < compaction.min_lag_ms
    };
    let mut dirt = Dirt::default();
    for facts in sealed {
        let is_clean = facts.end_offset <= cleaned.through;
        // what is clean was old enough; a change of the settings does not make it dirty again
        if facts.end_offset > limit || (!is_clean && is_young(facts)) {
            break;
        }
        dirt.cleanable_end = facts.end_offset;
        match is_clean {
            true => dirt.clean_bytes += facts.bytes,
            false => dirt.dirty_bytes += facts.bytes,
        }
    }
    let is_dirty = dirt.dirty_bytes > 0 && dirt.permille() >= compaction.min_dirty_permille;
    let may_drop = dirt.clean_bytes > 0 && cleaned.horizon_ms.is_some_and(|horizon_ms| horizon_ms <= now_ms);
    dirt.due = is_dirty || may_drop;
    dirt
}

/// Neighbours that together fit into one segment, as ranges of indexes. A segment only becomes smaller, so what fits before fits
/// afterwards.
pub(crate) fn groups(sealed: &[SealedFacts], segment_bytes: u64) -> Vec<std::ops::Range<usize>> {
    let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (n, facts) in sealed.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if bytes + facts.bytes <= segment_bytes => {
                group.end = n + 1;
                bytes += facts.bytes;
            }
            _ => {
                groups.push(n..n + 1);
                bytes = facts.bytes;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(bytes: &[u64]) -> Vec<SealedFacts> {
        let facts = bytes.iter().zip(0..).map(|(&bytes, n): (_, i64)| SealedFacts {
            base_offset: n * 10,
            end_offset: n * 10 + 10,
            bytes,
            max_timestamp_ms: n * 100,
            generation: 0,
        });
        facts.collect()
    }

    const COMPACTION: Compaction =
        Compaction { delete_retention_ms: 0, min_lag_ms: 0, min_dirty_permille: 500 };

    #[test]
    fn dirt_ends_below_the_limit_and_at_the_first_young_segment() {
        let sealed = segments(&[100, 100, 100, 100]);
        let check = |compaction: Compaction, through, limit, expect: (i64, u64, u64, bool)| {
            let cleaned = Cleaned { through, ..Cleaned::default() };
            let found = dirt(&compaction, &sealed, &cleaned, limit, 350);
            assert_eq!((found.cleanable_end, found.clean_bytes, found.dirty_bytes, found.due), expect);
        };
        check(COMPACTION, 0, 100, (40, 0, 400, true));
        check(COMPACTION, 0, 39, (30, 0, 300, true));
        check(COMPACTION, 20, 100, (40, 200, 200, true));
        check(COMPACTION, 30, 100, (40, 300, 100, false));
        check(COMPACTION, 15, 100, (40, 100, 300, true));
        check(Compaction { min_lag_ms: 200, ..COMPACTION }, 0, 100, (20, 0, 200, true));
        check(Compaction { min_dirty_permille: 0, ..COMPACTION }, 40, 100, (40, 400, 0, false));
    }

    #[test]
    fn tombstones_that_may_go_are_a_reason_of_their_own() {
        let sealed = segments(&[100]);
        let due = |horizon_ms| {
            let cleaned = Cleaned { through: 10, horizon_ms: Some(horizon_ms), ..Cleaned::default() };
            dirt(&COMPACTION, &sealed, &cleaned, 100, 1_000).due
        };
        assert!(due(1_000) && !due(1_001));
    }

    #[test]
    fn neighbours_that_fit_together_become_one() {
        assert_eq!(groups(&segments(&[40, 50, 20, 300, 10, 90, 1]), 100), [0..2, 2..3, 3..4, 4..6, 6..7]);
        assert_eq!(groups(&[], 100), []);
    }
}
