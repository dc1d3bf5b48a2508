use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::event::{RiderId, ShopId, Step, Transaction};
use crate::regions::{Position, RegionSource, Regions};
use crate::simulator::{Day, Simulator};
use crate::truth::{Counts, Truth};

const RIDER: RiderId = RiderId(1);

fn enter(state: RiderState, at_ms: i64, district: &str) -> RiderState {
    state.enter(&RiderDistrict { rider: RIDER, district: district.to_owned(), at_ms })
}

fn event(state: RiderState, seq: u32, status: Status, at_ms: i64) -> RiderState {
    let event = DeliveryEvent {
        delivery: DeliveryId(7),
        seq,
        status,
        at_ms,
        shop: ShopId(1),
        shop_at: Position { lon_e7: 0, lat_e7: 0 },
        rider: Some(RIDER),
        order: None,
        reason: None,
    };
    state.event(&event, "shop's")
}

/// The district each number of delivery 7 counts in, as told by the last change.
fn moved(state: &RiderState) -> Vec<(u32, &str)> {
    state.moved.iter().map(|counted| (counted.seq, counted.district.as_str())).collect()
}

#[test]
fn a_delivery_on_its_way_moves_with_its_rider_and_stays_where_it_ended() {
    let state = enter(RiderState::default(), 10, "a");
    let state = event(state, 2, Status::Assigned, 20);
    assert_eq!(moved(&state), [(2, "a")]);
    let state = enter(state, 30, "b");
    assert_eq!(moved(&state), [(2, "b")]);
    let state = event(state, 3, Status::Delivered, 40);
    assert_eq!(moved(&state), [(3, "b")]);
    let state = enter(state, 50, "c");
    assert_eq!(moved(&state), []);
    assert_eq!(state.ended.len(), 0, "settled");
    let snapshot = state.snapshot(RIDER);
    assert_eq!((snapshot.district.as_deref(), snapshot.since_ms, snapshot.delivered), (Some("c"), 50, 1));
    assert!(snapshot.carrying.is_empty());
}

#[test]
fn an_end_that_is_read_before_the_districts_is_corrected_by_them() {
    let state = event(RiderState::default(), 2, Status::Assigned, 20);
    assert_eq!(moved(&state), [(2, "shop's")]);
    let state = event(state, 3, Status::Cancelled, 40);
    assert_eq!(moved(&state), [(3, "shop's")]);
    let state = enter(state, 10, "a");
    assert_eq!(moved(&state), [(3, "a")]);
    let state = enter(state, 40, "b");
    assert_eq!(moved(&state), [(3, "b")], "at the very time of the end counts");
    let state = enter(state, 41, "c");
    assert_eq!(moved(&state), []);
}

#[test]
fn an_end_that_is_read_after_the_districts_looks_back() {
    let state = enter(enter(enter(RiderState::default(), 10, "a"), 30, "b"), 50, "c");
    let state = event(state, 2, Status::Assigned, 20);
    assert_eq!(moved(&state), [(2, "c")], "on its way: where the rider is now");
    let state = event(state, 3, Status::Delivered, 49);
    assert_eq!(moved(&state), [(3, "b")]);
    assert_eq!(state.ended.len(), 0, "settled at once");
    let state = event(state, 3, Status::Delivered, 49);
    assert_eq!(state.delivered, 2, "whoever repeats an event is counted: repeats are refused at the door");
}

#[test]
fn history_and_waiting_ends_are_bounded() {
    let hour = 3_600_000;
    let mut state = RiderState::default();
    for n in 0..6_000 {
        state = enter(state, n * 1_000, "x");
    }
    assert_eq!(state.history.len(), HISTORY_MAX);
    state = enter(state, 100 * hour, "y");
    assert_eq!(state.history.len(), 2, "the one of before, and the new one");
    for _ in 0..2_000 {
        state = event(state, 2, Status::Delivered, 101 * hour);
    }
    assert_eq!(state.ended.len(), ENDED_MAX);
}

/// One rider's inputs in their own orders.
#[derive(Default)]
struct Inputs {
    entered: VecDeque<RiderDistrict>,
    events: VecDeque<DeliveryEvent>,
}

#[test]
fn whatever_stream_is_read_first_the_end_is_that_of_the_truth() {
    for seed in 0..20 {
        let regions = Arc::new(Regions::open(&RegionSource::Generated { seed }).unwrap());
        let day = Day { deliveries: 200, riders: 20, gps_points_per_rider: 40, seed };
        let mut truth = Truth::new(Arc::clone(&regions));
        let mut riders: BTreeMap<RiderId, Inputs> = BTreeMap::new();
        let mut last: BTreeMap<DeliveryId, Counted> = BTreeMap::new();
        let mut see = |counted: Counted| {
            let rank = |counted: &Counted| (counted.seq, counted.entered_ms);
            if last.get(&counted.delivery).is_none_or(|known| rank(known) <= rank(&counted)) {
                last.insert(counted.delivery, counted);
            }
        };
        // half of the days end in the middle, with deliveries on their way
        let steps: Vec<Step> = Simulator::new(day, Arc::clone(&regions)).collect();
        let length = if seed % 2 == 0 { steps.len() } else { steps.len() / 2 };
        for step in &steps[..length] {
            truth.apply(step);
            let Step::Order(step) = step else { continue };
            let event = &step.event;
            match event.rider {
                _ if step.transaction == Transaction::RollBack => {}
                Some(rider) => riders.entry(rider).or_default().events.push_back(event.clone()),
                None => see(Counted {
                    delivery: event.delivery,
                    status: event.status,
                    district: regions.label_at(event.shop_at).to_owned(),
                    seq: event.seq,
                    entered_ms: 0,
                }),
            }
        }
        for (rider, way) in truth.ways() {
            riders.entry(rider).or_default().entered = way.into();
        }
        let mut rng = StdRng::seed_from_u64(seed);
        for (rider, mut inputs) in riders {
            let mut state = RiderState::default();
            let districts_first = rng.random_range(0.0..=1.0);
            loop {
                let districts = !inputs.entered.is_empty()
                    && (inputs.events.is_empty() || rng.random_bool(districts_first));
                let next = if districts {
                    inputs.entered.pop_front().map(|record| state.clone().enter(&record))
                } else {
                    let event = inputs.events.pop_front();
                    event.map(|event| state.clone().event(&event, regions.label_at(event.shop_at)))
                };
                let Some(next) = next else { break };
                state = next;
                state.moved.iter().cloned().for_each(&mut see);
            }
            let (snapshot, end) = (state.snapshot(rider), &truth.riders()[&rider]);
            assert_eq!(snapshot.district.as_ref(), Some(&end.district), "seed {seed}: {rider}");
            assert_eq!(snapshot.carrying, end.carrying, "seed {seed}: {rider}");
            assert_eq!(
                (snapshot.delivered, snapshot.cancelled),
                (end.delivered, end.cancelled),
                "seed {seed}"
            );
        }
        let mut counts = Counts::new();
        for counted in last.into_values() {
            *counts.entry((counted.district, counted.status)).or_default() += 1;
        }
        assert_eq!(counts, truth.counts(), "seed {seed}");
    }
}
