//! What the pipeline keeps of one rider: pure, one input in, the changed state out.
//!
//! A delivery on its way counts where its rider is now; one that ended counts where its rider was then. The two inputs,
//! districts entered and events of deliveries, are read at their own speed, so a delivery may end "before" the district
//! is known in which it did: what ended stays in `ended`, and is corrected, until the rider is seen in a district entered
//! after the end.
//!
//! Invariant: for each delivery the last [`Counted`] by (`seq`, `entered_ms`) depends on the sets of inputs alone, given that
//! districts come in their order and events of one delivery in theirs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::event::{Counted, DeliveryEvent, DeliveryId, RiderDistrict, RiderSnapshot, Status};

/// How far the events of deliveries may lag behind the positions of riders, in the time of the events.
const HISTORY_MS: i64 = 36 * 3_600_000;
/// Districts remembered, at most; older ones are forgotten first.
const HISTORY_MAX: usize = 4_096;
/// Ended deliveries that wait for the rider's next district, at most; the oldest counts as settled then.
const ENDED_MAX: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entered {
    #[serde(rename = "t")]
    at_ms: i64,
    #[serde(rename = "d")]
    district: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ended {
    delivery: DeliveryId,
    seq: u32,
    status: Status,
    at_ms: i64,
}

/// A delivery on its way: the number and status of its last event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OnTheWay {
    seq: u32,
    status: Status,
}

/// One rider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiderState {
    /// In the order of time.
    history: VecDeque<Entered>,
    carrying: BTreeMap<DeliveryId, OnTheWay>,
    /// In the order of arrival.
    ended: VecDeque<Ended>,
    delivered: u64,
    cancelled: u64,
    /// What the last input moved.
    moved: Vec<Counted>,
}

impl RiderState {
    /// The rider entered a district.
    #[must_use]
    pub fn enter(mut self, record: &RiderDistrict) -> Self {
        let entered_ms = record.at_ms;
        self.moved.clear();
        // settled: the rider was still in the district before when it ended
        self.ended.retain(|ended| ended.at_ms >= entered_ms);
        let counted = |delivery: DeliveryId, seq: u32, status: Status| {
            let district = record.district.clone();
            Counted { delivery, status, district, seq, entered_ms }
        };
        self.moved.extend(self.carrying.iter().map(|(id, on)| counted(*id, on.seq, on.status)));
        self.moved.extend(self.ended.iter().map(|ended| counted(ended.delivery, ended.seq, ended.status)));
        self.history.push_back(Entered { at_ms: entered_ms, district: record.district.clone() });
        self.forget(entered_ms);
        self
    }

    /// Keeps the district of the time before the horizon, too: the rider was in it when the horizon began.
    fn forget(&mut self, now_ms: i64) {
        let too_old = |second: &Entered| second.at_ms < now_ms - HISTORY_MS;
        while self.history.len() > HISTORY_MAX || self.history.get(1).is_some_and(too_old) {
            self.history.pop_front();
        }
    }

    /// An event of a delivery that this rider has. `elsewhere` is the district that counts while the rider has not been seen.
    #[must_use]
    pub fn event(mut self, event: &DeliveryEvent, elsewhere: &str) -> Self {
        self.moved.clear();
        let DeliveryEvent { delivery, seq, status, at_ms, .. } = *event;
        if self.carrying.get(&delivery).is_some_and(|on| on.seq >= seq) {
            return self;
        }
        let until_ms = if status.is_end() { at_ms } else { i64::MAX };
        let known = self.history.iter().rev().find(|entered| entered.at_ms <= until_ms);
        let (district, entered_ms) =
            known.map_or((elsewhere.to_owned(), 0), |entered| (entered.district.clone(), entered.at_ms));
        self.moved.push(Counted { delivery, status, district, seq, entered_ms });
        if status.is_end() {
            self.end(Ended { delivery, seq, status, at_ms });
        } else {
            self.carrying.insert(delivery, OnTheWay { seq, status });
        }
        self
    }

    fn end(&mut self, ended: Ended) {
        self.carrying.remove(&ended.delivery);
        match ended.status {
            Status::Delivered => self.delivered += 1,
            _ => self.cancelled += 1,
        }
        if self.history.back().is_none_or(|last| last.at_ms <= ended.at_ms) {
            self.ended.push_back(ended);
            if self.ended.len() > ENDED_MAX {
                self.ended.pop_front();
            }
        }
    }

    /// As others see it.
    #[must_use]
    pub fn snapshot(&self, rider: crate::event::RiderId) -> RiderSnapshot {
        let now = self.history.back();
        RiderSnapshot {
            rider,
            district: now.map(|entered| entered.district.clone()),
            since_ms: now.map_or(0, |entered| entered.at_ms),
            carrying: self.carrying.keys().copied().collect::<BTreeSet<_>>(),
            delivered: self.delivered,
            cancelled: self.cancelled,
            moved: self.moved.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
