//! Summaries against the truth, wherever they were read: whole rows are compared, not their number.

use std::collections::BTreeMap;

use crate::event::{DeliveryId, Summary};
use crate::report::Check;
use crate::truth::Truth;

/// What was read in one place.
#[derive(Debug, Default)]
pub struct SummaryLedger {
    rows: BTreeMap<DeliveryId, Summary>,
    read: u64,
    duplicated: u64,
    unreadable: u64,
}

impl SummaryLedger {
    /// Takes one as JSON.
    pub fn json(&mut self, bytes: &[u8]) {
        match serde_json::from_slice(bytes) {
            Ok(summary) => self.row(summary),
            Err(_) => {
                self.read += 1;
                self.unreadable += 1;
            }
        }
    }

    /// Takes one.
    pub fn row(&mut self, summary: Summary) {
        self.read += 1;
        if self.rows.insert(summary.delivery_id, summary).is_some() {
            self.duplicated += 1;
        }
    }

    /// The comparisons; `place` says where they were read.
    #[must_use]
    pub fn checks(&self, place: &str, truth: &Truth) -> Vec<Check> {
        let equal = truth
            .summaries()
            .filter(|expected| self.rows.get(&expected.delivery_id) == Some(expected))
            .count() as u64;
        vec![
            Check::equal(format!("summaries {place}"), truth.ended(), self.read),
            Check::equal(format!("summaries {place}, every field equal"), truth.ended(), equal),
            Check::equal(format!("summaries {place} twice"), 0, self.duplicated),
            Check::equal(format!("summaries {place} that do not parse"), 0, self.unreadable),
        ]
    }
}
