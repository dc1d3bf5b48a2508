//! The fold against a second implementation that keeps every step and asks each question from the beginning.

use super::*;
use crate::regions::{OUTSIDE, RegionSource};
use crate::simulator::{Day, Simulator};

/// Every step, and no cleverness.
struct Naive {
    regions: Arc<Regions>,
    points: Vec<GpsPoint>,
    events: Vec<DeliveryEvent>,
}

impl Naive {
    fn new(regions: Arc<Regions>, steps: &[Step]) -> Self {
        let mut naive = Self { regions, points: Vec::new(), events: Vec::new() };
        for step in steps {
            match step {
                Step::Gps(point) => naive.points.push(*point),
                Step::Order(step) if step.transaction == Transaction::RollBack => {}
                Step::Order(step) => naive.events.push(step.event.clone()),
            }
        }
        naive
    }

    fn place(&self, at: Position) -> String {
        self.regions
            .locate(at.degrees())
            .map_or(OUTSIDE.to_owned(), |number| self.regions.all()[number].label.clone())
    }

    /// The last position at or before a time decides; the position, not the change.
    fn rider_at(&self, rider: RiderId, at_ms: i64) -> Option<String> {
        let points = self.points.iter().filter(|point| point.rider == rider && point.at_ms <= at_ms);
        points.max_by_key(|point| point.at_ms).map(|point| self.place(point.at))
    }

    fn of(&self, delivery: DeliveryId) -> Vec<&DeliveryEvent> {
        let mut events: Vec<_> = self.events.iter().filter(|event| event.delivery == delivery).collect();
        events.sort_by_key(|event| event.seq);
        events
    }

    fn ids(&self) -> BTreeSet<DeliveryId> {
        self.events.iter().map(|event| event.delivery).collect()
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for id in self.ids() {
            let events = self.of(id);
            let last = events[events.len() - 1];
            let place = match (last.rider, last.status.is_end()) {
                (None, _) => self.place(last.shop_at),
                (Some(rider), true) => self.rider_at(rider, last.at_ms).unwrap(),
                (Some(rider), false) => self.rider_at(rider, i64::MAX).unwrap(),
            };
            *counts.entry((place, last.status)).or_default() += 1;
        }
        counts
    }

    fn summaries(&self) -> Vec<Summary> {
        let mut summaries = Vec::new();
        for id in self.ids() {
            let events = self.of(id);
            let (first, last) = (events[0], events[events.len() - 1]);
            let order = first.order.unwrap();
            if last.status != Status::Delivered && last.status != Status::Cancelled {
                continue;
            }
            let at = |status| events.iter().find(|event| event.status == status).map(|event| event.at_ms);
            summaries.push(Summary {
                delivery_id: id,
                outcome: last.status,
                reason: last.reason,
                shop_id: first.shop,
                shop_district: self.place(first.shop_at),
                customer_district: self.place(order.customer_at),
                rider_id: events.iter().rev().find_map(|event| event.rider),
                created_at_ms: at(Status::Created).unwrap(),
                assigned_at_ms: at(Status::Assigned),
                picked_up_at_ms: at(Status::PickedUp),
                ended_at_ms: last.at_ms,
                price_krw: order.price_krw,
                fee_krw: order.fee_krw,
                distance_m: order.distance_m,
                events: events.len() as i64,
            });
        }
        summaries
    }
}

fn compare(seed: u64, part: usize) {
    let regions = Arc::new(Regions::open(&RegionSource::Generated { seed }).unwrap());
    let day = Day { deliveries: 150, riders: 20, gps_points_per_rider: 40, seed };
    let mut steps: Vec<Step> = Simulator::new(day, Arc::clone(&regions)).collect();
    steps.truncate(steps.len() * part / 4);

    let mut truth = Truth::new(Arc::clone(&regions));
    steps.iter().for_each(|step| truth.apply(step));
    let naive = Naive::new(regions, &steps);

    let what = format!("seed {seed}, the first {part} quarters");
    assert_eq!(truth.contradictions(), 0, "{what}");
    assert_eq!(truth.counts(), naive.counts(), "{what}");
    assert_eq!(truth.summaries().collect::<Vec<_>>(), naive.summaries(), "{what}");
    assert_eq!(truth.events(), naive.events.len() as u64, "{what}");
    assert_eq!(truth.orders(), naive.ids().len() as u64, "{what}");
    for (id, fingerprints) in truth.fingerprints() {
        let expected: Vec<u64> =
            naive.of(id).iter().map(|event| fingerprint(event.to_json().as_bytes())).collect();
        assert_eq!(fingerprints, expected, "{what}: {id}");
    }
    for (rider, end) in truth.riders() {
        assert_eq!(Some(&end.district), naive.rider_at(rider, i64::MAX).as_ref(), "{what}: {rider}");
        let last_of = |id| naive.of(id).pop().cloned().unwrap();
        let mine = naive.ids().into_iter().map(last_of).filter(|last| last.rider == Some(rider));
        let statuses: Vec<Status> = mine.map(|last| last.status).collect();
        let count = |wanted: &[Status]| statuses.iter().filter(|status| wanted.contains(status)).count();
        assert_eq!(end.delivered as usize, count(&[Status::Delivered]), "{what}: {rider}");
        assert_eq!(end.cancelled as usize, count(&[Status::Cancelled]), "{what}: {rider}");
        assert_eq!(end.carrying.len(), count(&[Status::Assigned, Status::PickedUp]), "{what}: {rider}");
    }
    for (rider, way) in truth.ways() {
        assert!(way.windows(2).all(|pair| pair[0].district != pair[1].district), "{what}: {way:?}");
        assert!(way.windows(2).all(|pair| pair[0].at_ms < pair[1].at_ms), "{what}: {way:?}");
        for point in naive.points.iter().filter(|point| point.rider == rider) {
            assert_eq!(truth.district_of(rider, point.at_ms), Some(naive.place(point.at).as_str()), "{what}");
        }
    }
}

#[test]
fn a_second_implementation_agrees_at_the_end_and_in_the_middle_of_the_day() {
    for seed in 0..4 {
        for part in 1..=4 {
            compare(seed, part);
        }
    }
}

#[test]
fn what_is_rolled_back_leaves_only_its_count() {
    let regions = Arc::new(Regions::open(&RegionSource::Generated { seed: 9 }).unwrap());
    let day = Day { deliveries: 800, riders: 80, gps_points_per_rider: 10, seed: 9 };
    let (mut all, mut committed) = (Truth::new(Arc::clone(&regions)), Truth::new(Arc::clone(&regions)));
    let mut rolled_back = 0;
    for step in Simulator::new(day, regions) {
        all.apply(&step);
        match &step {
            Step::Order(OrderStep { event, transaction: Transaction::RollBack }) => {
                rolled_back += u64::from(event.seq == 1);
                assert!(all.was_rolled_back(fingerprint(event.to_json().as_bytes())));
            }
            _ => committed.apply(&step),
        }
    }
    assert!(rolled_back > 5, "{rolled_back}");
    assert_eq!(all.orders_rolled_back(), rolled_back);
    assert_eq!(all.counts(), committed.counts());
    assert_eq!(all.events(), committed.events());
    assert!(all.fingerprints().flat_map(|(_, events)| events).all(|event| !all.was_rolled_back(event)));
}
