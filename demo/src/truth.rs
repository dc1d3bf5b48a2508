//! What the world must look like after the day, folded from the steps alone.
//!
//! The rules, which the pipeline shares only by this text:
//! - A rider is in the district of their last position. Entering another one is one record to
//!   [`RIDER_DISTRICT`](crate::topics::RIDER_DISTRICT); the first position enters.
//! - A delivery without a rider counts in the district of its shop.
//! - A delivery on its way counts in the district of its rider: it moves with them.
//! - A delivery that ended counts for ever where its rider was then: in the district that the rider entered last, at or
//!   before the time of the delivery's last event.
//!
//! All times are those inside the events. So the end state is a function of the sets of events and does not depend on
//! which of the two streams was read first.
//!
//! Invariant: rolled-back steps leave no trace but their own count.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use crate::event::{
    DeliveryEvent, DeliveryId, GpsPoint, OrderFacts, OrderStep, RiderDistrict, RiderId, Status, Step,
    Summary, Transaction,
};
use crate::regions::{Position, Regions};

/// Counts of deliveries by district and status; what is not there is 0.
pub type Counts = BTreeMap<(String, Status), u64>;

/// One committed event, in few bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Committed {
    status: Status,
    at_ms: i64,
    /// Of the payload.
    fingerprint: u64,
}

#[derive(Debug)]
struct Delivery {
    /// The event with number n stands at n - 1.
    events: Vec<Committed>,
    first: DeliveryEvent,
    rider: Option<RiderId>,
    last: DeliveryEvent,
}

/// What must be known of one rider at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiderEnd {
    pub district: String,
    pub since_ms: i64,
    /// Assigned and not ended.
    pub carrying: BTreeSet<DeliveryId>,
    pub delivered: u64,
    pub cancelled: u64,
}

/// Everything expected. Grows with the committed deliveries, about 300 bytes each.
#[derive(Debug)]
pub struct Truth {
    regions: Arc<Regions>,
    deliveries: BTreeMap<DeliveryId, Delivery>,
    /// Districts entered, as numbers of the regions (`None` is outside), in the order of time.
    ways: BTreeMap<RiderId, Vec<(i64, Option<usize>)>>,
    positions: u64,
    orders_rolled_back: u64,
    /// Payloads that were rolled back.
    rolled_back: BTreeSet<u64>,
    /// Steps that contradict each other: a defect of the simulator.
    contradictions: u64,
}

/// Fingerprint of a payload.
#[must_use]
pub fn fingerprint(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

impl Truth {
    /// Before the day.
    #[must_use]
    pub fn new(regions: Arc<Regions>) -> Self {
        Self {
            regions,
            deliveries: BTreeMap::new(),
            ways: BTreeMap::new(),
            positions: 0,
            orders_rolled_back: 0,
            rolled_back: BTreeSet::new(),
            contradictions: 0,
        }
    }

    /// Takes the next step.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Gps(point) => self.position(point),
            Step::Order(OrderStep { event, transaction: Transaction::RollBack }) => {
                self.orders_rolled_back += u64::from(event.seq == 1);
                self.rolled_back.insert(fingerprint(event.to_json().as_bytes()));
            }
            Step::Order(OrderStep { event, .. }) => self.committed(event),
        }
    }

    fn position(&mut self, point: &GpsPoint) {
        self.positions += 1;
        let district = self.regions.locate(point.at.degrees());
        let way = self.ways.entry(point.rider).or_default();
        if way.last().is_none_or(|&(_, last)| last != district) {
            way.push((point.at_ms, district));
        }
    }

    fn committed(&mut self, event: &DeliveryEvent) {
        let fingerprint = fingerprint(event.to_json().as_bytes());
        let committed = Committed { status: event.status, at_ms: event.at_ms, fingerprint };
        let delivery = self.deliveries.entry(event.delivery).or_insert_with(|| Delivery {
            events: Vec::with_capacity(4),
            first: event.clone(),
            rider: None,
            last: event.clone(),
        });
        delivery.events.push(committed);
        delivery.rider = event.rider.or(delivery.rider);
        delivery.last = event.clone();
        if delivery.events.len() as u64 != u64::from(event.seq) || delivery.first.order.is_none() {
            self.contradictions += 1;
        }
    }

    fn label(&self, district: Option<usize>) -> &str {
        district.map_or(crate::regions::OUTSIDE, |number| &self.regions.all()[number].label)
    }

    /// Where a rider was at a time, `None` before their first position.
    fn district_of(&self, rider: RiderId, at_ms: i64) -> Option<&str> {
        let way = self.ways.get(&rider)?;
        let entered = way.partition_point(|&(since_ms, _)| since_ms <= at_ms);
        entered.checked_sub(1).map(|last| self.label(way[last].1))
    }

    fn district_counted(&self, delivery: &Delivery) -> &str {
        let at_ms = if delivery.last.status.is_end() { delivery.last.at_ms } else { i64::MAX };
        let with_rider = delivery.last.rider.and_then(|rider| self.district_of(rider, at_ms));
        with_rider.unwrap_or_else(|| self.regions.label_at(delivery.last.shop_at))
    }

    /// Orders that were committed.
    #[must_use]
    pub fn orders(&self) -> u64 {
        self.deliveries.len() as u64
    }

    /// Orders that were rolled back.
    #[must_use]
    pub fn orders_rolled_back(&self) -> u64 {
        self.orders_rolled_back
    }

    /// Steps that contradict the rules of a day; anything but 0 is a defect of the simulator.
    #[must_use]
    pub fn contradictions(&self) -> u64 {
        self.contradictions
    }

    /// Committed events of all deliveries.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.deliveries.values().map(|delivery| delivery.events.len() as u64).sum()
    }

    /// Positions of all riders.
    #[must_use]
    pub fn positions(&self) -> u64 {
        self.positions
    }

    /// Each delivery with the fingerprints of its events, in order.
    pub fn fingerprints(&self) -> impl Iterator<Item = (DeliveryId, Vec<u64>)> + '_ {
        self.deliveries
            .iter()
            .map(|(id, delivery)| (*id, delivery.events.iter().map(|event| event.fingerprint).collect()))
    }

    /// Whether a payload with this fingerprint was rolled back.
    #[must_use]
    pub fn was_rolled_back(&self, fingerprint: u64) -> bool {
        self.rolled_back.contains(&fingerprint)
    }

    /// Deliveries by district and status at the end.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for delivery in self.deliveries.values() {
            let district = self.district_counted(delivery).to_owned();
            *counts.entry((district, delivery.last.status)).or_default() += 1;
        }
        counts
    }

    /// Deliveries that ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.deliveries.values().filter(|delivery| delivery.last.status.is_end()).count() as u64
    }

    /// One for each delivery that ended, in the order of ids.
    pub fn summaries(&self) -> impl Iterator<Item = Summary> + '_ {
        self.deliveries
            .values()
            .filter(|delivery| delivery.last.status.is_end())
            .filter_map(|delivery| Some(self.summary(delivery, delivery.first.order?)))
    }

    fn summary(&self, delivery: &Delivery, order: OrderFacts) -> Summary {
        let time_of =
            |status| delivery.events.iter().find(|event| event.status == status).map(|event| event.at_ms);
        let label = |at: Position| self.regions.label_at(at).to_owned();
        Summary {
            delivery_id: delivery.last.delivery,
            outcome: delivery.last.status,
            reason: delivery.last.reason,
            shop_id: delivery.first.shop,
            shop_district: label(delivery.first.shop_at),
            customer_district: label(order.customer_at),
            rider_id: delivery.rider,
            created_at_ms: delivery.first.at_ms,
            assigned_at_ms: time_of(Status::Assigned),
            picked_up_at_ms: time_of(Status::PickedUp),
            ended_at_ms: delivery.last.at_ms,
            price_krw: order.price_krw,
            fee_krw: order.fee_krw,
            distance_m: order.distance_m,
            events: delivery.events.len() as i64,
        }
    }

    /// The records of each rider on their way from district to district, in order.
    pub fn ways(&self) -> impl Iterator<Item = (RiderId, Vec<RiderDistrict>)> + '_ {
        self.ways.iter().map(|(&rider, way)| {
            let entered = |&(at_ms, district): &(i64, Option<usize>)| RiderDistrict {
                rider,
                district: self.label(district).to_owned(),
                at_ms,
            };
            (rider, way.iter().map(entered).collect())
        })
    }

    /// Records that say a rider entered a district.
    #[must_use]
    pub fn districts_entered(&self) -> u64 {
        self.ways.values().map(|way| way.len() as u64).sum()
    }

    /// The last state of each rider who sent a position.
    #[must_use]
    pub fn riders(&self) -> BTreeMap<RiderId, RiderEnd> {
        let mut riders: BTreeMap<RiderId, RiderEnd> = self
            .ways
            .iter()
            .filter_map(|(&rider, way)| {
                let &(since_ms, district) = way.last()?;
                let district = self.label(district).to_owned();
                let (carrying, delivered, cancelled) = (BTreeSet::new(), 0, 0);
                Some((rider, RiderEnd { district, since_ms, carrying, delivered, cancelled }))
            })
            .collect();
        for (id, delivery) in &self.deliveries {
            let Some(end) = delivery.last.rider.and_then(|rider| riders.get_mut(&rider)) else { continue };
            match delivery.last.status {
                Status::Delivered => end.delivered += 1,
                Status::Cancelled => end.cancelled += 1,
                _ => drop(end.carrying.insert(*id)),
            }
        }
        riders
    }
}

#[cfg(test)]
mod tests;
