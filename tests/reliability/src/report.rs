//! What came out of a run, and the numbers worth printing.

use std::collections::BTreeMap;

use crate::check::{Anomaly, check};
use crate::history::{Act, Fate, History, Outcome};

/// How often each thing happened.
pub type Deeds = BTreeMap<&'static str, u64>;

/// What came out of a run.
#[derive(Debug)]
pub struct RunReport {
    pub seed: u64,
    pub anomalies: Vec<Anomaly>,
    pub history: History,
    /// What was done to the node.
    pub deeds: Deeds,
}

impl RunReport {
    /// The report of a history.
    #[must_use]
    pub fn of(seed: u64, history: History, deeds: Deeds) -> Self {
        Self { seed, anomalies: check(&history), history, deeds }
    }

    /// Numbers worth printing.
    #[must_use]
    pub fn counts(&self) -> Deeds {
        let mut counts = self.deeds.clone();
        let mut add = |what, n: usize| *counts.entry(what).or_default() += n as u64;
        add("runs", 1);
        add("operations", self.history.ops.len());
        for op in &self.history.ops {
            match &op.act {
                Act::Send { records, .. } => {
                    let acked = records.iter().filter(|sent| matches!(sent.fate, Fate::Acked(_))).count();
                    add("records acknowledged", acked);
                    add(
                        "records of unknown fate",
                        records.iter().filter(|sent| sent.fate == Fate::Unknown).count(),
                    );
                }
                Act::Poll { records, .. } => add("records polled", records.len()),
                Act::LookUp { .. } => add("times looked up", 1),
                Act::Commit { outcome: Outcome::Done, .. } => add("commits", 1),
                Act::Acquire { .. } => add("changes of owner", 1),
                Act::Scan { .. } => add("full reads of a compacted topic", 1),
                Act::EndTxn { commit: true, outcome: Outcome::Done, .. } => add("transactions committed", 1),
                Act::EndTxn { commit: false, outcome: Outcome::Done, .. } => add("transactions aborted", 1),
                _ => {}
            }
        }
        counts
    }
}
