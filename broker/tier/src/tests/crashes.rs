//! The world ends at every single step, with and without the step's work done; a new life goes on from the records.

use std::collections::BTreeSet;

use crate::host::TierTopicConfig;
use crate::testing::{Fault, TIERED, World, partition};
use crate::tests::offload::{EVICT, assert_read_back};

/// Steps of one undisturbed run are fewer than this.
const STEPS_MAX: i64 = 60;

async fn crash_at(steps: i64, kind: Fault, multipart: bool, summaries: bool) -> bool {
    let mut world = World::new();
    if summaries {
        (world.config.summary_records, world.config.summary_part_bytes) = (3, 500);
    }
    if multipart {
        world.config.multipart_from_bytes = 4_000;
        world.config.part_bytes = 2_000;
    }
    let id = partition(1, 0);
    world.host.add(id, "orders", TierTopicConfig { local_retention_bytes: Some(0), ..TIERED });
    for _ in 0..3 {
        world.host.fill_segment(id, 4, 150);
    }
    world.faults.after(steps, kind);
    let tier = world.start().await;
    let _ = tier.flush(EVICT).await;
    let struck = world.faults.struck();
    tier.shutdown().await;
    world.faults.heal();

    let tier = world.start().await;
    tier.flush(EVICT).await.unwrap();
    assert_read_back(&world, &tier, id, 0).await;
    assert!(world.host.state().partitions[&id].sealed.is_empty(), "step {steps} {kind:?}: all evicted");
    // after the orphans' age exactly one object per segment is left
    world.clock.advance(world.config.orphan_age_ms);
    tier.flush(EVICT).await.unwrap();
    world.clock.advance(world.config.delete_delay_ms);
    tier.flush(EVICT).await.unwrap();
    let in_store: BTreeSet<String> = world.names("sunseo/seg").await.into_iter().collect();
    let manifest = world.host.state().manifest();
    let segments = manifest.partitions().flat_map(|(_, partition)| partition.segments());
    let committed: BTreeSet<String> = segments.map(|segment| segment.key.object.clone()).collect();
    assert_eq!(in_store.len(), 3, "step {steps} {kind:?}");
    assert_eq!(in_store, committed, "step {steps} {kind:?}");
    assert_eq!(world.names("sunseo/man").await.len(), 1, "step {steps} {kind:?}");
    assert_eq!(tier.verify("").await.unwrap().problems, []);
    assert_eq!(world.host.state().records_start > 0, summaries, "step {steps} {kind:?}: summed up");
    tier.shutdown().await;
    struck
}

#[tokio::test]
async fn offload_survives_an_end_at_every_step() {
    for kind in [Fault::Lost, Fault::Unanswered] {
        for (multipart, summaries) in [(false, false), (true, false), (false, true)] {
            let mut struck = 0;
            while crash_at(struck, kind, multipart, summaries).await {
                struck += 1;
                assert!(struck < STEPS_MAX, "a run is short");
            }
            assert!(struck > 10, "the ends hit the work: {struck}");
        }
    }
}

#[tokio::test]
async fn a_lost_answer_of_a_record_is_made_good_without_a_restart() {
    for steps in 0..STEPS_MAX {
        let mut world = World::new();
        let id = partition(1, 0);
        world.host.add(id, "orders", TIERED);
        for _ in 0..2 {
            world.host.fill_segment(id, 4, 150);
        }
        world.faults.after(steps, Fault::Unanswered);
        let tier = world.start().await;
        let _ = tier.flush(EVICT).await;
        let struck = world.faults.struck();
        world.faults.heal();
        tier.flush(EVICT).await.unwrap();
        assert_read_back(&world, &tier, id, 0).await;
        assert_eq!(
            world.names("sunseo/seg").await.len(),
            2,
            "step {steps}: the same life uses its own names again"
        );
        tier.shutdown().await;
        if !struck {
            return;
        }
    }
    panic!("a run is short");
}
