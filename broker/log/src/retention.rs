//! What retention removes. Pure: facts in, the new log start out.
//!
//! Only whole sealed segments go, oldest first: time first, then size. The active segment stays.

use crate::{PartitionConfig, SealedFacts};

/// The log start after retention; `None` when nothing is to go.
pub(crate) fn plan(
    config: &PartitionConfig,
    sealed: &[SealedFacts],
    active_bytes: u64,
    now_ms: i64,
) -> Option<i64> {
    if !config.own_retention {
        return None;
    }
    let expired = |segment: &SealedFacts| {
        config.retention_ms.is_some_and(|limit| now_ms.saturating_sub(segment.max_timestamp_ms) > limit)
    };
    let mut kept_bytes = active_bytes + sealed.iter().map(|segment| segment.bytes).sum::<u64>();
    let mut log_start = None;
    for segment in sealed {
        // size lets a segment go only when what is left still fills the limit
        let excess =
            config.retention_bytes.is_some_and(|limit| kept_bytes.saturating_sub(segment.bytes) >= limit);
        if !expired(segment) && !excess {
            break;
        }
        kept_bytes -= segment.bytes;
        log_start = Some(segment.end_offset);
    }
    log_start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(newest_ms: &[i64]) -> Vec<SealedFacts> {
        let numbered = newest_ms.iter().zip(0..);
        let facts = numbered.map(|(&max_timestamp_ms, n): (_, i64)| SealedFacts {
            base_offset: n * 10,
            end_offset: n * 10 + 10,
            bytes: 100,
            max_timestamp_ms,
            generation: 0,
        });
        facts.collect()
    }

    fn check(retention_ms: Option<i64>, retention_bytes: Option<u64>, expect: Option<i64>) {
        let config = PartitionConfig { retention_ms, retention_bytes, ..PartitionConfig::default() };
        let found = plan(&config, &segments(&[1000, 2000, 1500, 3000]), 50, 3000);
        assert_eq!(found, expect, "{retention_ms:?} {retention_bytes:?}");
        let tiered = PartitionConfig { own_retention: false, ..config };
        assert_eq!(plan(&tiered, &segments(&[1000]), 50, i64::MAX), None);
    }

    #[test]
    fn time_removes_a_prefix_and_size_keeps_its_limit() {
        check(None, None, None);
        check(Some(1500), None, Some(10));
        check(Some(900), None, Some(30));
        check(Some(0), None, Some(30));
        check(Some(-1), None, Some(40));
        check(None, Some(451), None);
        check(None, Some(350), Some(10));
        check(None, Some(349), Some(10));
        check(None, Some(250), Some(20));
        check(None, Some(0), Some(40));
        check(Some(1500), Some(250), Some(20));
    }
}
