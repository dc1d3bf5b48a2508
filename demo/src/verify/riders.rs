//! Riders against the truth: their way from district to district, record by record, and their last snapshot.

use std::collections::BTreeMap;

use crate::event::{RiderDistrict, RiderId, RiderSnapshot};
use crate::report::Check;
use crate::truth::{RiderEnd, Truth};

/// What was read of the two topics, in the order of the log.
#[derive(Debug, Default)]
pub struct RiderLedger {
    ways: BTreeMap<RiderId, Vec<RiderDistrict>>,
    entered: u64,
    last: BTreeMap<RiderId, RiderSnapshot>,
    snapshots: u64,
    unreadable: u64,
}

impl RiderLedger {
    /// Takes the next record of the districts topic.
    pub fn entered(&mut self, bytes: &[u8]) {
        self.entered += 1;
        match serde_json::from_slice::<RiderDistrict>(bytes) {
            Ok(record) => self.ways.entry(record.rider).or_default().push(record),
            Err(_) => self.unreadable += 1,
        }
    }

    /// Takes the next record of the snapshots topic.
    pub fn snapshot(&mut self, bytes: &[u8]) {
        self.snapshots += 1;
        match serde_json::from_slice::<RiderSnapshot>(bytes) {
            Ok(snapshot) => drop(self.last.insert(snapshot.rider, snapshot)),
            Err(_) => self.unreadable += 1,
        }
    }

    /// Snapshots that were read.
    #[must_use]
    pub fn snapshots(&self) -> u64 {
        self.snapshots
    }

    /// The comparisons.
    #[must_use]
    pub fn checks(&self, truth: &Truth) -> Vec<Check> {
        let right_ways = truth.ways().filter(|(rider, way)| self.ways.get(rider) == Some(way)).count();
        let riders = truth.riders();
        let right_ends =
            riders.iter().filter(|(rider, end)| self.last.get(rider).is_some_and(|s| is_end(s, end))).count();
        vec![
            Check::equal("riders entering a district, records", truth.districts_entered(), self.entered),
            Check::equal("riders whose way from district to district agrees", riders.len(), right_ways),
            Check::equal("riders whose last snapshot agrees", riders.len(), right_ends),
            Check::equal("riders with a snapshot", riders.len(), self.last.len()),
            Check::equal("rider records that do not parse", 0, self.unreadable),
        ]
    }
}

fn is_end(snapshot: &RiderSnapshot, end: &RiderEnd) -> bool {
    snapshot.district.as_deref() == Some(end.district.as_str())
        && snapshot.since_ms == end.since_ms
        && snapshot.carrying == end.carrying
        && snapshot.delivered == end.delivered
        && snapshot.cancelled == end.cancelled
}
