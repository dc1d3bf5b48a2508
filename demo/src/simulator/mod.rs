//! The day, as a sequence of steps: pure, seeded, in the order of time.
//!
//! Invariants: the same settings give the same steps; time never falls; the committed events of a delivery are numbered 1,
//! 2, 3 .. and end with `delivered` or `cancelled`; exactly the asked number of orders is committed. What is rolled back is
//! followed, if at all, by another try with the same number. Memory holds the shops, the riders and the open deliveries,
//! whatever the length of the day.
//! Not here: what the world must look like afterwards ([`crate::truth`]).

mod demand;
mod rider;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use geo::Coord;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::demand::Demand;
use self::rider::Rider;
use crate::city::{CANARY_SHOP, City, distance_m};
use crate::event::{
    DeliveryEvent, DeliveryId, GpsPoint, OrderFacts, OrderStep, Reason, RiderId, ShopId, Status, Step,
    Transaction,
};
use crate::regions::{Position, Regions};

/// Midnight in Seoul, 2 March 2026: the day crosses a day of UTC at nine in the morning.
pub const MIDNIGHT_MS: i64 = 1_772_377_200_000;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Orders that are rolled back come on top of the committed ones; one in so many.
const ROLLED_BACK_ONE_IN: u32 = 33;
/// Transactions of later events that are rolled back and tried again.
const RETRIED_ONE_IN: u32 = 100;
const RETRY_AFTER_MS: i64 = 1_500;
/// Transactions that undo a part by a savepoint and commit.
const SAVEPOINT_ONE_IN: u32 = 20;

/// Of a thousand orders, those cancelled while created, assigned, picked up.
const CANCELLED_CREATED: u32 = 40;
const CANCELLED_ASSIGNED: u32 = 25;
const CANCELLED_PICKED_UP: u32 = 15;

/// Riders looked at for an order; the nearest available one gets it.
const CANDIDATES: usize = 12;
const LOOK_AGAIN_MS: i64 = 2 * MINUTE_MS;
const LOOK_FOR_MS: i64 = 40 * MINUTE_MS;

/// Between two canary orders lie so many others, and a day has at most so many canaries.
const CANARY_EVERY: u32 = 50;
const CANARIES_MAX: u32 = 1_000;

/// How far customers live from a shop and riders wander, along each axis.
const CUSTOMER_METRES: f64 = 2_500.0;
const WANDER_METRES: f64 = 1_500.0;

/// What shapes a day beside its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    /// Committed orders.
    pub deliveries: u32,
    pub riders: u32,
    /// GPS points per rider, about.
    pub gps_points_per_rider: u32,
    pub seed: u64,
}

impl Day {
    /// Every so many-th order is a canary.
    fn canary_every(self) -> u32 {
        CANARY_EVERY.max(self.deliveries / CANARIES_MAX)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Order,
    Assign(u32),
    PickUp(u32),
    Deliver(u32),
    Cancel(u32),
    Gps(u32),
}

/// A delivery that has not ended.
#[derive(Debug)]
struct Open {
    shop: ShopId,
    shop_at: Coord<f64>,
    customer_at: Coord<f64>,
    /// Committed events.
    seq: u32,
    created_ms: i64,
    rider: Option<u32>,
    /// The status in which it will be cancelled, and why.
    doom: Option<(Status, Reason)>,
}

/// The steps of a day; an iterator that ends when every delivery has ended and every rider is home.
#[derive(Debug)]
pub struct Simulator {
    day: Day,
    city: City,
    demand: Demand,
    rng: StdRng,
    riders: Vec<Rider>,
    /// Riders that send their position.
    out: Vec<u32>,
    open: BTreeMap<u32, Open>,
    /// The number breaks ties in the order of scheduling.
    due: BinaryHeap<Reverse<(i64, u64, Due)>>,
    scheduled: u64,
    /// Orders committed, and numbers given away.
    orders: u32,
    numbers: u32,
    ready: VecDeque<Step>,
}

impl Simulator {
    /// At the beginning of the day.
    #[must_use]
    pub fn new(day: Day, regions: Arc<Regions>) -> Self {
        let mut rng = StdRng::seed_from_u64(day.seed ^ 0xda7);
        let city = City::draw(regions, day.deliveries, &mut rng);
        let riders: Vec<Rider> =
            (0..day.riders).map(|_| draw_rider(&city, day.gps_points_per_rider, &mut rng)).collect();
        let mut simulator = Self {
            day,
            city,
            demand: Demand::new(),
            rng,
            riders,
            out: Vec::new(),
            open: BTreeMap::new(),
            due: BinaryHeap::new(),
            scheduled: 0,
            orders: 0,
            numbers: 0,
            ready: VecDeque::new(),
        };
        for rider in 0..day.riders {
            simulator.schedule(simulator.riders[rider as usize].shift_start_ms, Due::Gps(rider));
        }
        simulator.schedule_order(MIDNIGHT_MS);
        simulator
    }

    /// Every so many-th order is a canary: one of the operator's own shop outside the city, cancelled at once.
    #[must_use]
    pub fn canary_every(&self) -> u32 {
        self.day.canary_every()
    }

    fn schedule(&mut self, at_ms: i64, due: Due) {
        self.scheduled += 1;
        self.due.push(Reverse((at_ms, self.scheduled, due)));
    }

    /// Each order has its own slice of the day's distribution, so that exactly the right number comes, in order.
    fn schedule_order(&mut self, now_ms: i64) {
        if self.orders < self.day.deliveries {
            let part = (f64::from(self.orders) + self.rng.random::<f64>()) / f64::from(self.day.deliveries);
            let at_ms = MIDNIGHT_MS + self.demand.time_of_day_ms(part);
            self.schedule(at_ms.max(now_ms), Due::Order);
        }
    }

    fn perform(&mut self, now_ms: i64, due: Due) {
        match due {
            Due::Order => self.order(now_ms),
            Due::Gps(rider) => self.gps(now_ms, rider),
            Due::Assign(number) => self.assign(now_ms, number),
            Due::PickUp(number) => self.pick_up(now_ms, number),
            Due::Deliver(number) => self.deliver(now_ms, number),
            Due::Cancel(number) => self.cancel(now_ms, number),
        }
    }

    fn order(&mut self, now_ms: i64) {
        if self.rng.random_ratio(1, ROLLED_BACK_ONE_IN) {
            let (number, open, facts) = self.draw_order(now_ms);
            let event = created(number, &open, facts);
            self.ready.push_back(Step::Order(OrderStep { event, transaction: Transaction::RollBack }));
        }
        self.orders += 1;
        let canary_at = self.city.canary_at().filter(|_| self.orders.is_multiple_of(self.day.canary_every()));
        let (number, mut open, facts) = self.draw_order(now_ms);
        if let Some(at) = canary_at {
            (open.shop, open.shop_at) = (CANARY_SHOP, at.degrees());
            open.doom = Some((Status::Created, Reason::Canary));
        }
        let event = created(number, &open, facts);
        let transaction = self.draw_commit();
        self.ready.push_back(Step::Order(OrderStep { event, transaction }));
        let wait = match open.doom {
            Some((_, Reason::Canary)) => 1_000,
            Some((Status::Created, _)) => self.rng.random_range(20_000..4 * MINUTE_MS),
            _ => self.rng.random_range(10_000..2 * MINUTE_MS),
        };
        let cancelled = matches!(open.doom, Some((Status::Created, _)));
        self.schedule(now_ms + wait, if cancelled { Due::Cancel(number) } else { Due::Assign(number) });
        self.open.insert(number, open);
        self.schedule_order(now_ms);
    }

    fn draw_order(&mut self, now_ms: i64) -> (u32, Open, OrderFacts) {
        self.numbers += 1;
        let rng = &mut self.rng;
        let (shop, shop_at) = self.city.any_shop(rng);
        let customer_at = self.city.point_near(shop_at, CUSTOMER_METRES, rng);
        let facts = OrderFacts {
            customer_at: Position::from_degrees(customer_at),
            price_krw: rng.random_range(80..600) * 100,
            fee_krw: rng.random_range(20..60) * 100,
            distance_m: (distance_m(shop_at, customer_at) * 10.0).round() / 10.0,
        };
        let fate = rng.random_range(0..1_000);
        let created = CANCELLED_CREATED;
        let assigned = created + CANCELLED_ASSIGNED;
        let picked_up = assigned + CANCELLED_PICKED_UP;
        let doom = match fate {
            _ if fate < created => Some((Status::Created, Reason::Customer)),
            _ if fate < assigned => Some((Status::Assigned, Reason::Shop)),
            _ if fate < picked_up => Some((Status::PickedUp, Reason::Accident)),
            _ => None,
        };
        let open = Open { shop, shop_at, customer_at, seq: 1, created_ms: now_ms, rider: None, doom };
        (self.numbers, open, facts)
    }

    fn draw_commit(&mut self) -> Transaction {
        if self.rng.random_ratio(1, SAVEPOINT_ONE_IN) {
            Transaction::CommitAfterSavepoint
        } else {
            Transaction::Commit
        }
    }

    /// Emits the next event of a delivery. `false`: the transaction was rolled back and `again` is scheduled.
    fn emit(&mut self, now_ms: i64, number: u32, status: Status, reason: Option<Reason>, again: Due) -> bool {
        let transaction =
            if self.rng.random_ratio(1, RETRIED_ONE_IN) { Transaction::RollBack } else { self.draw_commit() };
        let committed = transaction != Transaction::RollBack;
        let Some(open) = self.open.get_mut(&number) else { return false };
        let event = DeliveryEvent {
            delivery: DeliveryId(number),
            seq: open.seq + 1,
            status,
            at_ms: now_ms,
            shop: open.shop,
            shop_at: Position::from_degrees(open.shop_at),
            rider: open.rider.map(rider_id),
            order: None,
            reason,
        };
        if committed {
            open.seq += 1;
        }
        self.ready.push_back(Step::Order(OrderStep { event, transaction }));
        if !committed {
            self.schedule(now_ms + RETRY_AFTER_MS, again);
        }
        committed
    }

    fn assign(&mut self, now_ms: i64, number: u32) {
        let Some(open) = self.open.get(&number) else { return };
        let (shop_at, customer_at, doom) = (open.shop_at, open.customer_at, open.doom);
        let (ready_ms, given_up_ms) = (open.created_ms + 8 * MINUTE_MS, open.created_ms + LOOK_FOR_MS);
        let Some(rider) = self.nearest_rider(now_ms, shop_at) else {
            if now_ms < given_up_ms {
                self.schedule(now_ms + LOOK_AGAIN_MS, Due::Assign(number));
            } else {
                self.doom(number, Reason::NoRider);
                self.cancel(now_ms, number);
            }
            return;
        };
        self.set_rider(number, Some(rider));
        if !self.emit(now_ms, number, Status::Assigned, None, Due::Assign(number)) {
            self.set_rider(number, None);
            return;
        }
        let cooking_ms = self.rng.random_range(0..10 * MINUTE_MS);
        let door_ms = self.rng.random_range(MINUTE_MS..3 * MINUTE_MS);
        let rider = &mut self.riders[rider as usize];
        rider.carried += 1;
        let picked_up_ms = rider.go(shop_at, now_ms, ready_ms + cooking_ms);
        let delivered_ms = rider.go(customer_at, now_ms, 0) + door_ms;
        match doom {
            Some((Status::Assigned, _)) => {
                let at_ms = now_ms + self.rng.random_range(MINUTE_MS / 2..=(picked_up_ms - now_ms));
                self.schedule(at_ms, Due::Cancel(number));
            }
            Some(_) => {
                self.schedule(picked_up_ms, Due::PickUp(number));
                let at_ms =
                    picked_up_ms + self.rng.random_range(MINUTE_MS / 2..=(delivered_ms - picked_up_ms));
                self.schedule(at_ms, Due::Cancel(number));
            }
            None => {
                self.schedule(picked_up_ms, Due::PickUp(number));
                self.schedule(delivered_ms, Due::Deliver(number));
            }
        }
    }

    fn doom(&mut self, number: u32, reason: Reason) {
        if let Some(open) = self.open.get_mut(&number) {
            open.doom = Some((Status::Created, reason));
        }
    }

    fn set_rider(&mut self, number: u32, rider: Option<u32>) {
        if let Some(open) = self.open.get_mut(&number) {
            open.rider = rider;
        }
    }

    fn nearest_rider(&mut self, now_ms: i64, shop_at: Coord<f64>) -> Option<u32> {
        let mut nearest: Option<(f64, u32)> = None;
        for _ in 0..CANDIDATES.min(self.out.len()) {
            let rider = self.out[self.rng.random_range(0..self.out.len())];
            let candidate = &self.riders[rider as usize];
            let metres = distance_m(candidate.last_stop(), shop_at);
            if candidate.is_available(now_ms) && nearest.is_none_or(|(best, _)| metres < best) {
                nearest = Some((metres, rider));
            }
        }
        nearest.map(|(_, rider)| rider)
    }

    fn pick_up(&mut self, now_ms: i64, number: u32) {
        self.emit(now_ms, number, Status::PickedUp, None, Due::PickUp(number));
    }

    /// Later than planned when a rolled-back pick-up has its second try first.
    fn waits_for_pick_up(&self, number: u32) -> bool {
        self.open.get(&number).is_some_and(|open| {
            open.seq < 3 && open.rider.is_some() && !matches!(open.doom, Some((Status::Assigned, _)))
        })
    }

    fn deliver(&mut self, now_ms: i64, number: u32) {
        if self.waits_for_pick_up(number) {
            self.schedule(now_ms + RETRY_AFTER_MS, Due::Deliver(number));
        } else if self.emit(now_ms, number, Status::Delivered, None, Due::Deliver(number)) {
            self.end(number);
        }
    }

    fn cancel(&mut self, now_ms: i64, number: u32) {
        if self.waits_for_pick_up(number) {
            self.schedule(now_ms + RETRY_AFTER_MS, Due::Cancel(number));
            return;
        }
        let reason = self.open.get(&number).and_then(|open| open.doom).map(|(_, reason)| reason);
        if self.emit(now_ms, number, Status::Cancelled, reason, Due::Cancel(number)) {
            self.end(number);
        }
    }

    fn end(&mut self, number: u32) {
        if let Some(Open { rider: Some(rider), .. }) = self.open.remove(&number) {
            self.riders[rider as usize].carried -= 1;
        }
    }

    fn gps(&mut self, now_ms: i64, number: u32) {
        let rider = &mut self.riders[number as usize];
        if now_ms == rider.shift_start_ms {
            self.out.push(number);
        }
        let at = Position::from_degrees(rider.position(now_ms));
        self.ready.push_back(Step::Gps(GpsPoint { rider: rider_id(number), at_ms: now_ms, at }));
        rider.gps_points_left = rider.gps_points_left.saturating_sub(1);
        let on_shift = now_ms < rider.shift_end_ms;
        if on_shift && rider.is_idle(now_ms) {
            let to = self.city.point_near(rider.last_stop(), WANDER_METRES, &mut self.rng);
            rider.go(to, now_ms, 0);
        }
        if (on_shift || rider.carried > 0) && rider.gps_points_left > 0 {
            let next = now_ms + self.rng.random_range(rider.gps_interval_ms..=rider.gps_interval_ms * 3 / 2);
            self.schedule(next, Due::Gps(number));
        } else {
            self.out.retain(|&out| out != number);
        }
    }
}

impl Iterator for Simulator {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Some(step);
            }
            let Reverse((at_ms, _, due)) = self.due.pop()?;
            self.perform(at_ms, due);
        }
    }
}

/// Riders are numbered from 1 outside.
fn rider_id(number: u32) -> RiderId {
    RiderId(number + 1)
}

fn created(number: u32, open: &Open, facts: OrderFacts) -> DeliveryEvent {
    DeliveryEvent {
        delivery: DeliveryId(number),
        seq: 1,
        status: Status::Created,
        at_ms: open.created_ms,
        shop: open.shop,
        shop_at: Position::from_degrees(open.shop_at),
        rider: None,
        order: Some(facts),
        reason: None,
    }
}

fn draw_rider(city: &City, gps_points: u32, rng: &mut StdRng) -> Rider {
    let start_ms = MIDNIGHT_MS + rng.random_range(7 * HOUR_MS + HOUR_MS / 2..17 * HOUR_MS);
    let length_ms = rng.random_range(5 * HOUR_MS..8 * HOUR_MS);
    // the next point follows after one to one and a half of it
    let interval_ms = (length_ms / i64::from(gps_points) * 4 / 5).max(100);
    let (_, at) = city.any_shop(rng);
    let metres_per_s = rng.random_range(4.0..8.0);
    // a rider whose last delivery takes long sends some more
    Rider::new(
        (start_ms, start_ms + length_ms),
        (interval_ms, gps_points.saturating_mul(2)),
        metres_per_s,
        at,
    )
}

#[cfg(test)]
mod tests;
