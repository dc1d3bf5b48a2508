use proptest::prelude::*;

use super::*;
use crate::regions::RegionSource;

fn regions(seed: u64) -> Arc<Regions> {
    Arc::new(Regions::open(&RegionSource::Generated { seed }).unwrap())
}

fn play(day: Day) -> Vec<Step> {
    Simulator::new(day, regions(day.seed)).collect()
}

fn day(deliveries: u32, riders: u32, seed: u64) -> Day {
    Day { deliveries, riders, gps_points_per_rider: 20, seed }
}

#[test]
fn a_seed_plays_its_day_again_and_another_seed_another_one() {
    assert_eq!(play(day(300, 30, 1)), play(day(300, 30, 1)));
    assert_ne!(play(day(300, 30, 1)), play(day(300, 30, 2)));
}

/// What [`check_day`] follows of one delivery.
#[derive(Debug)]
struct Seen {
    seq: u32,
    status: Status,
    at_ms: i64,
    rider: Option<RiderId>,
}

fn check_event(before: Option<&Seen>, event: &DeliveryEvent) -> Result<(), TestCaseError> {
    let Some(before) = before else {
        prop_assert_eq!((event.seq, event.status), (1, Status::Created));
        prop_assert!(event.order.is_some() && event.rider.is_none());
        return Ok(());
    };
    prop_assert_eq!(event.seq, before.seq + 1);
    prop_assert!(event.order.is_none());
    prop_assert!(event.at_ms > before.at_ms || before.status == Status::Created, "{:?} {:?}", before, event);
    let follows = match (before.status, event.status) {
        (Status::Created, Status::Assigned)
        | (Status::Assigned, Status::PickedUp)
        | (Status::PickedUp, Status::Delivered) => event.rider.is_some(),
        (Status::Created, Status::Cancelled) => event.rider.is_none(),
        (Status::Assigned | Status::PickedUp, Status::Cancelled) => event.rider.is_some(),
        _ => false,
    };
    prop_assert!(follows, "{:?} {:?}", before, event);
    prop_assert!(before.rider.is_none() || before.rider == event.rider);
    prop_assert_eq!(event.reason.is_some(), event.status == Status::Cancelled);
    Ok(())
}

fn check_day(steps: &[Step], day: Day) -> Result<(), TestCaseError> {
    let mut seen: BTreeMap<DeliveryId, Seen> = BTreeMap::new();
    let mut rolled_back: BTreeMap<DeliveryId, bool> = BTreeMap::new();
    let mut gps: BTreeMap<RiderId, i64> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Gps(point) => {
                let before = gps.insert(point.rider, point.at_ms);
                prop_assert!(before.is_none_or(|before| before < point.at_ms), "{:?}", point);
            }
            Step::Order(OrderStep { event, transaction }) => {
                check_event(seen.get(&event.delivery), event)?;
                if let Some(rider) = event.rider {
                    prop_assert!(gps.contains_key(&rider), "{} has no position yet: {:?}", rider, event);
                }
                if *transaction == Transaction::RollBack {
                    rolled_back.entry(event.delivery).or_insert(event.seq == 1);
                    continue;
                }
                prop_assert_ne!(rolled_back.get(&event.delivery), Some(&true), "a rolled-back order goes on");
                let now =
                    Seen { seq: event.seq, status: event.status, at_ms: event.at_ms, rider: event.rider };
                seen.insert(event.delivery, now);
            }
        }
    }
    prop_assert!(steps.is_sorted_by_key(Step::at_ms), "time went back");
    prop_assert_eq!(seen.len(), day.deliveries as usize);
    prop_assert!(seen.values().all(|seen| seen.status.is_end()), "a delivery has not ended");
    prop_assert_eq!(gps.len(), day.riders as usize);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_day_is_a_possible_day(deliveries in 1_u32..600, riders in 1_u32..60, seed: u64) {
        let day = day(deliveries, riders, seed);
        check_day(&play(day), day)?;
    }
}

#[test]
fn a_day_has_everything_that_the_node_must_cope_with() {
    let steps = play(day(4_000, 400, 5));
    let orders: Vec<&OrderStep> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Order(step) => Some(step),
            Step::Gps(_) => None,
        })
        .collect();
    let count = |wanted: &dyn Fn(&OrderStep) -> bool| orders.iter().filter(|step| wanted(step)).count();
    let rolled_back = |step: &OrderStep| step.transaction == Transaction::RollBack;
    assert!(count(&|step| rolled_back(step) && step.event.seq == 1) > 60, "rolled-back orders");
    assert!(count(&|step| rolled_back(step) && step.event.seq > 1) > 60, "rolled-back later events");
    assert!(count(&|step| step.transaction == Transaction::CommitAfterSavepoint) > 400, "savepoints");
    let delivered = count(&|step| step.event.status == Status::Delivered);
    assert!((3_200..3_800).contains(&delivered), "{delivered} delivered");
    for reason in [Reason::Customer, Reason::Shop, Reason::Accident] {
        assert!(count(&|step| step.event.reason == Some(reason)) > 20, "{reason:?}");
    }
    let canaries = |step: &OrderStep| step.event.reason == Some(Reason::Canary) && !rolled_back(step);
    assert_eq!(count(&canaries), 4_000 / 50, "canaries");
    let points = steps.len() - orders.len();
    assert!((400 * 12..400 * 30).contains(&points), "{points} positions of 400 riders");
}

#[test]
fn memory_does_not_grow_with_the_day() {
    let most_open = |deliveries| {
        let mut simulator = Simulator::new(day(deliveries, deliveries / 10, 3), regions(3));
        let mut most = 0;
        while simulator.next().is_some() {
            most = most.max(simulator.open.len() + simulator.due.len());
        }
        most
    };
    // 1,000 riders with their next position, and what is ordered in some forty minutes of the dinner peak
    let most = most_open(10_000);
    assert!(most < 5_000, "{most}");
}
