//! One rider: a shift and the legs of their way.

use std::collections::VecDeque;

use geo::Coord;

use crate::city::distance_m;

/// Deliveries a rider has at once, at most.
pub const CARRIED_MAX: usize = 3;

/// A leg never takes longer, however far apart the districts of a file are.
const LEG_MS_MAX: i64 = 40 * 60_000;
const LEG_MS_MIN: i64 = 60_000;

#[derive(Clone, Copy, Debug)]
struct Leg {
    from: Coord<f64>,
    to: Coord<f64>,
    depart_ms: i64,
    arrive_ms: i64,
}

/// Where a rider is and will be.
#[derive(Debug)]
pub struct Rider {
    pub shift_start_ms: i64,
    pub shift_end_ms: i64,
    pub gps_interval_ms: i64,
    pub gps_points_left: u32,
    /// Deliveries on the way.
    pub carried: usize,
    metres_per_s: f64,
    /// Where the last finished leg ended.
    at: Coord<f64>,
    /// Not finished yet, one after the other.
    legs: VecDeque<Leg>,
}

impl Rider {
    pub fn new(shift_ms: (i64, i64), gps: (i64, u32), metres_per_s: f64, at: Coord<f64>) -> Self {
        Self {
            shift_start_ms: shift_ms.0,
            shift_end_ms: shift_ms.1,
            gps_interval_ms: gps.0,
            gps_points_left: gps.1,
            carried: 0,
            metres_per_s,
            at,
            legs: VecDeque::new(),
        }
    }

    /// Takes another delivery now.
    pub fn is_available(&self, now_ms: i64) -> bool {
        self.carried < CARRIED_MAX && (self.shift_start_ms..self.shift_end_ms).contains(&now_ms)
    }

    /// When everything planned is done.
    pub fn free_at_ms(&self) -> i64 {
        self.legs.back().map_or(i64::MIN, |leg| leg.arrive_ms)
    }

    pub fn is_idle(&self, now_ms: i64) -> bool {
        self.free_at_ms() <= now_ms
    }

    /// Where everything planned ends.
    pub fn last_stop(&self) -> Coord<f64> {
        self.legs.back().map_or(self.at, |leg| leg.to)
    }

    /// Plans a way to `to` after everything planned; arrives not before `earliest_ms`. Returns the arrival.
    pub fn go(&mut self, to: Coord<f64>, now_ms: i64, earliest_ms: i64) -> i64 {
        let from = self.last_stop();
        let depart_ms = self.free_at_ms().max(now_ms);
        let way_ms = (distance_m(from, to) / self.metres_per_s * 1_000.0) as i64;
        let arrive_ms = (depart_ms + way_ms.clamp(LEG_MS_MIN, LEG_MS_MAX)).max(earliest_ms);
        self.legs.push_back(Leg { from, to, depart_ms, arrive_ms });
        arrive_ms
    }

    /// Where the rider is; times must not fall from call to call.
    pub fn position(&mut self, now_ms: i64) -> Coord<f64> {
        while let Some(done) = self.legs.front().filter(|leg| leg.arrive_ms <= now_ms) {
            self.at = done.to;
            self.legs.pop_front();
        }
        match self.legs.front() {
            Some(leg) if leg.depart_ms <= now_ms => {
                // arrive is after now and depart is not
                let part = (now_ms - leg.depart_ms) as f64 / (leg.arrive_ms - leg.depart_ms) as f64;
                leg.from + (leg.to - leg.from) * part
            }
            _ => self.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legs_follow_each_other() {
        let home = Coord { x: 127.0, y: 37.5 };
        let (shop, customer) = (Coord { x: 127.01, y: 37.5 }, Coord { x: 127.01, y: 37.51 });
        let mut rider = Rider::new((0, 1_000_000_000), (60_000, 10), 5.0, home);
        let at_shop = rider.go(shop, 1_000, 400_000);
        assert_eq!(at_shop, 400_000, "waits for the food");
        let at_customer = rider.go(customer, 1_000, 0);
        assert!((at_customer - at_shop - 222_640).abs() < 2, "1113 m at 5 m/s: {at_customer}");
        assert_eq!(rider.position(500), home);
        let between = rider.position(200_500);
        assert!((between.x - 127.005).abs() < 1e-4 && between.y == 37.5, "{between:?}");
        assert_eq!(rider.position(at_shop), shop);
        assert!(!rider.is_idle(at_customer - 1));
        assert!(rider.is_idle(at_customer));
        assert_eq!(rider.position(at_customer + 5), customer);
    }
}
