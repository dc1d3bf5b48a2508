use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::{Effect, Event, FollowerReport, LAG_MAX_MS, Leadership, NodeId, Refusal, Replica};

fn leadership(in_sync: &[NodeId], min_in_sync: usize) -> Leadership {
    Leadership {
        leader_epoch: 4,
        partition_epoch: 1,
        replicas: BTreeMap::from([(1, 100), (2, 200), (3, 300)]),
        in_sync: in_sync.iter().copied().collect(),
        min_in_sync,
    }
}

fn leading(in_sync: &[NodeId], min_in_sync: usize) -> Replica {
    let mut replica = Replica::new(1, 10);
    let lead = Event::Lead { leadership: leadership(in_sync, min_in_sync), log_end: 10, durable_end: 10 };
    assert_eq!(replica.step(lead, 0), []);
    replica
}

fn fetched(node: NodeId, log_end: i64, durable_end: i64) -> Event {
    let report =
        FollowerReport { node, broker_epoch: i64::from(node) * 100, leader_epoch: 4, log_end, durable_end };
    Event::FollowerFetched(report)
}

#[test]
fn a_replica_of_one_acknowledges_when_its_own_disk_has_the_record() {
    let mut replica = Replica::new(1, 10);
    let alone = Leadership { replicas: BTreeMap::from([(1, 100)]), ..leadership(&[1], 1) };
    replica.step(Event::Lead { leadership: alone, log_end: 10, durable_end: 10 }, 0);
    assert_eq!(replica.readable_end(), Some(10));
    assert_eq!(replica.step(Event::Propose { token: 7 }, 0), [Effect::Append { token: 7, leader_epoch: 4 }]);
    assert_eq!(replica.step(Event::Appended { token: 7, last_offset: 12 }, 0), []);
    assert_eq!(
        replica.step(Event::Durable { end: 13 }, 0),
        [Effect::AdvanceHighWatermark { to: 13 }, Effect::Acknowledge { token: 7 }]
    );
    // a repeat of what is safe is acknowledged at once
    assert_eq!(
        replica.step(Event::Appended { token: 8, last_offset: 12 }, 0),
        [Effect::Acknowledge { token: 8 }]
    );
}

#[test]
fn nothing_is_acknowledged_from_a_log_end_that_is_not_on_disk() {
    let mut replica = leading(&[1, 2], 2);
    replica.step(fetched(2, 10, 10), 0);
    replica.step(Event::Appended { token: 1, last_offset: 10 }, 0);
    replica.step(Event::Durable { end: 11 }, 0);
    assert_eq!(replica.step(fetched(2, 11, 10), 0), [], "in its log, not on its disk");
    assert_eq!(
        replica.step(fetched(2, 11, 11), 0),
        [Effect::AdvanceHighWatermark { to: 11 }, Effect::Acknowledge { token: 1 }]
    );
}

#[test]
fn a_joiner_counts_from_the_moment_it_is_proposed() {
    let mut replica = leading(&[1], 1);
    let joined = replica.step(fetched(2, 10, 10), 0);
    assert_eq!(joined, [Effect::ProposeInSync { partition_epoch: 1, in_sync: BTreeSet::from([1, 2]) }]);
    replica.step(Event::Appended { token: 1, last_offset: 10 }, 0);
    assert_eq!(replica.step(Event::Durable { end: 11 }, 0), [], "the joiner does not have it");
    assert_eq!(replica.high_watermark(), 10);
}

#[test]
fn a_laggard_counts_until_its_removal_is_committed() {
    let mut replica = leading(&[1, 2], 1);
    replica.step(fetched(2, 10, 10), 0);
    replica.step(Event::Appended { token: 1, last_offset: 10 }, 0);
    replica.step(Event::Durable { end: 11 }, 0);
    let late = LAG_MAX_MS + 1;
    let proposal = Effect::ProposeInSync { partition_epoch: 1, in_sync: BTreeSet::from([1]) };
    assert_eq!(replica.step(Event::Tick, late), [proposal]);
    assert_eq!(replica.step(Event::Tick, late), [], "one proposal at a time");
    assert_eq!(replica.high_watermark(), 10);
    let committed = Event::InSyncCommitted { partition_epoch: 2, in_sync: BTreeSet::from([1]) };
    assert_eq!(
        replica.step(committed, late),
        [Effect::AdvanceHighWatermark { to: 11 }, Effect::Acknowledge { token: 1 }]
    );
}

#[test]
fn too_few_in_sync_refuses_before_the_append_and_keeps_the_watermark() {
    let mut replica = leading(&[1], 2);
    let refusal = Refusal::NotEnoughInSync { have: 1, need: 2 };
    assert_eq!(replica.step(Event::Propose { token: 1 }, 0), [Effect::Refuse { token: 1, refusal }]);
    assert_eq!(replica.step(Event::Durable { end: 50 }, 0), []);
}

#[test]
fn a_report_under_another_registration_or_epoch_is_refused() {
    let mut replica = leading(&[1, 2], 1);
    let base = FollowerReport { node: 2, broker_epoch: 200, leader_epoch: 4, log_end: 99, durable_end: 99 };
    let cases = [
        (
            FollowerReport { broker_epoch: 199, ..base },
            Refusal::BrokerEpoch { node: 2, theirs: 199, ours: 200 },
        ),
        (FollowerReport { leader_epoch: 3, ..base }, Refusal::Epoch { theirs: 3, ours: 4 }),
        (FollowerReport { node: 9, ..base }, Refusal::NotAReplica(9)),
    ];
    for (report, refusal) in cases {
        let refused = Effect::RefuseFetch { node: report.node, refusal };
        assert_eq!(replica.step(Event::FollowerFetched(report), 0), [refused]);
    }
}

#[test]
fn a_failed_log_refuses_what_waits_and_what_comes() {
    let mut replica = leading(&[1], 1);
    replica.step(Event::Appended { token: 1, last_offset: 10 }, 0);
    let refusal = Refusal::Failed("fsync: input/output error".to_owned());
    assert_eq!(
        replica.step(Event::Failed { reason: "fsync: input/output error".to_owned() }, 0),
        [Effect::Refuse { token: 1, refusal: refusal.clone() }]
    );
    assert_eq!(replica.step(Event::Propose { token: 2 }, 0), [Effect::Refuse { token: 2, refusal }]);
    assert_eq!(replica.readable_end(), Some(10));
}

#[test]
fn a_leader_that_may_be_behind_its_predecessor_serves_no_watermark() {
    let mut replica = Replica::new(1, 7);
    let lead = Event::Lead { leadership: leadership(&[1, 2], 1), log_end: 10, durable_end: 10 };
    replica.step(lead, 0);
    assert_eq!(replica.readable_end(), None);
    replica.step(fetched(2, 10, 10), 0);
    assert_eq!(replica.readable_end(), Some(10));
}

#[derive(Clone, Debug)]
enum Step {
    Append,
    Durable,
    Follower { node: NodeId, behind: i64, unsynced: i64 },
    Commit,
    Tick,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Append),
        4 => Just(Step::Durable),
        4 => (2..=3, 0..3_i64, 0..3_i64).prop_map(|(node, behind, unsynced)| Step::Follower { node, behind, unsynced }),
        2 => Just(Step::Commit),
        1 => Just(Step::Tick),
    ]
}

proptest! {
    /// Whatever happens, a watermark never goes back and never passes the disk of a member of the committed in-sync set.
    #[test]
    fn the_watermark_is_safe(steps in prop::collection::vec(any_step(), 1..200), min_in_sync in 1..3_usize) {
        let mut replica = leading(&[1], min_in_sync);
        let (mut in_sync, mut partition_epoch) = (BTreeSet::from([1]), 1);
        let mut disks = BTreeMap::from([(1, 10_i64), (2, -1), (3, -1)]);
        let (mut end, mut token, mut now_ms) = (10_i64, 0, 0);
        let mut proposal = None;
        let mut unanswered: BTreeMap<u64, i64> = BTreeMap::new();
        for step in steps {
            now_ms += 2_000;
            let before = replica.high_watermark();
            let effects = match step {
                Step::Append => {
                    token += 1;
                    end += 1;
                    unanswered.insert(token, end - 1);
                    replica.step(Event::Appended { token, last_offset: end - 1 }, now_ms)
                }
                Step::Durable => {
                    disks.insert(1, end);
                    replica.step(Event::Durable { end }, now_ms)
                }
                Step::Follower { node, behind, unsynced } => {
                    let log_end = (end - behind).max(0);
                    // a disk never loses what it had
                    let durable_end = (log_end - unsynced).max(disks[&node]);
                    disks.insert(node, durable_end);
                    replica.step(fetched(node, log_end.max(durable_end), durable_end), now_ms)
                }
                Step::Commit => match proposal.take() {
                    Some(next) => {
                        partition_epoch += 1;
                        in_sync = next;
                        let in_sync = in_sync.clone();
                        replica.step(Event::InSyncCommitted { partition_epoch, in_sync }, now_ms)
                    }
                    None => Vec::new(),
                },
                Step::Tick => replica.step(Event::Tick, now_ms),
            };
            for effect in effects {
                match effect {
                    Effect::ProposeInSync { in_sync, .. } => proposal = Some(in_sync),
                    Effect::Acknowledge { token } => {
                        let offset = unanswered.remove(&token).expect("acknowledged once");
                        prop_assert!(offset < replica.high_watermark());
                    }
                    _ => {}
                }
            }
            let watermark = replica.high_watermark();
            prop_assert!(watermark >= before);
            for node in &in_sync {
                prop_assert!(watermark <= disks[node].max(before), "node {node} has {}", disks[node]);
            }
        }
    }
}
