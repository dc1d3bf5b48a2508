//! Which way the batches of each partition take in a group commit. Pure.

use sunseo_proto::PartitionId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Journaled,
    Direct,
    Lazy,
}

/// What a partition has to commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) id: PartitionId,
    pub(super) bytes: usize,
    pub(super) fsync: bool,
}

/// Parts of the bytes that go straight to a segment, of which one is worth a sync among others like it.
const SHARES: usize = 8;

/// The partitions whose batches go straight to their segments, and the others with their ways. Journaled bytes reach the disk twice, direct
/// ones once but with a sync for each segment: worth it from `direct_bytes` on, which partitions with an eighth of that or more reach
/// together, because their syncs are waited for at the same time.
pub(super) fn choose(parts: &[Part], direct_bytes: usize) -> (Vec<PartitionId>, Vec<(PartitionId, Way)>) {
    let has_share = |part: &Part| part.fsync && part.bytes >= direct_bytes / SHARES;
    let together: usize = parts.iter().filter(|part| has_share(part)).map(|part| part.bytes).sum();
    let way = |part: &Part| match (part.fsync, has_share(part) && together >= direct_bytes) {
        (false, _) => Way::Lazy,
        (true, true) => Way::Direct,
        (true, false) => Way::Journaled,
    };
    let (direct, others): (Vec<_>, Vec<_>) =
        parts.iter().map(|part| (part.id, way(part))).partition(|(_, way)| *way == Way::Direct);
    (direct.into_iter().map(|(id, _)| id).collect(), others)
}

#[cfg(test)]
mod tests {
    use sunseo_proto::TopicId;

    use super::*;

    const MIB: usize = 1 << 20;

    /// The ways of partitions 0 and on, at 4 MiB.
    fn ways(parts: &[(usize, bool)]) -> Vec<Way> {
        let topic_id = TopicId::random();
        let part =
            |(partition, &(bytes, fsync))| Part { id: PartitionId { topic_id, partition }, bytes, fsync };
        let parts: Vec<Part> = (0..).zip(parts).map(part).collect();
        let (direct, others) = choose(&parts, 4 * MIB);
        let of = |part: &Part| match others.iter().find(|(id, _)| *id == part.id) {
            Some((_, way)) => *way,
            None => {
                assert!(direct.contains(&part.id));
                Way::Direct
            }
        };
        parts.iter().map(of).collect()
    }

    #[test]
    fn many_bytes_of_one_partition_go_straight_to_its_segment() {
        assert_eq!(ways(&[(4 * MIB, true)]), [Way::Direct]);
        assert_eq!(ways(&[(4 * MIB - 1, true)]), [Way::Journaled]);
    }

    #[test]
    fn partitions_with_a_share_reach_it_together_and_small_ones_stay_in_the_journal() {
        assert_eq!(
            ways(&[(2 * MIB, true), (100, true), (2 * MIB, true)]),
            [Way::Direct, Way::Journaled, Way::Direct]
        );
        assert_eq!(ways(&[(MIB / 2, true); 8]), [Way::Direct; 8]);
        assert_eq!(ways(&[(MIB / 2 - 1, true); 8]), [Way::Journaled; 8]);
        assert_eq!(ways(&[(MIB / 2, true); 7]), [Way::Journaled; 7]);
    }

    #[test]
    fn what_is_not_synced_is_lazy_and_counts_for_nobody() {
        assert_eq!(ways(&[(9 * MIB, false), (MIB, true)]), [Way::Lazy, Way::Journaled]);
    }
}
