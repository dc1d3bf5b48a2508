//! The events of the topic against the committed ones.
//!
//! Fed record by record in the order of the log. Order is judged per key: the same key is always in the same partition.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::event::DeliveryId;
use crate::report::Check;
use crate::truth::{Truth, fingerprint};

/// What is seen of one delivery.
#[derive(Debug, Default)]
struct Key {
    /// Fingerprints by number; `None` where a number has not come.
    seen: Vec<Option<u64>>,
    partition: i32,
}

/// What one look at the topic found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub published: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    /// Events of orders, or of transactions, that were rolled back.
    pub rolled_back: u64,
    /// Records that no committed event explains: another content, an unknown key or number, another partition.
    pub unexplained: u64,
    pub lost: u64,
}

/// Reads the topic once.
#[derive(Debug, Default)]
pub struct EventLedger {
    keys: BTreeMap<DeliveryId, Key>,
    findings: Findings,
    /// Payloads that came under numbers already seen, or out of order: looked up at the end.
    suspects: Vec<u64>,
}

#[derive(Deserialize)]
struct Numbered {
    delivery: DeliveryId,
    seq: u32,
}

/// Numbers of a delivery's events beyond which a record is no event of the simulator.
const SEQ_MAX: u32 = 64;

impl EventLedger {
    /// Takes the next record.
    pub fn record(&mut self, partition: i32, key: &[u8], payload: &[u8]) {
        self.findings.published += 1;
        let Ok(Numbered { delivery, seq }) = serde_json::from_slice(payload) else {
            self.findings.unexplained += 1;
            return;
        };
        if delivery.to_string().as_bytes() != key || !(1..=SEQ_MAX).contains(&seq) {
            self.findings.unexplained += 1;
            return;
        }
        let known = self.keys.entry(delivery).or_insert_with(|| Key { seen: Vec::new(), partition });
        let index = seq as usize - 1;
        if known.partition != partition {
            self.findings.unexplained += 1;
        }
        if known.seen.len() <= index {
            known.seen.resize(index + 1, None);
        } else if known.seen[index].is_some() {
            self.findings.duplicated += 1;
            self.suspects.push(fingerprint(payload));
            return;
        } else {
            self.findings.out_of_order += 1;
        }
        known.seen[index] = Some(fingerprint(payload));
    }

    /// Compares what was read with what was committed.
    #[must_use]
    pub fn finish(mut self, truth: &Truth) -> Findings {
        let mut findings = self.findings;
        for (delivery, expected) in truth.fingerprints() {
            let seen = self.keys.remove(&delivery).unwrap_or_default().seen;
            for (index, expected) in expected.iter().enumerate() {
                match seen.get(index).copied().flatten() {
                    None => findings.lost += 1,
                    Some(found) if found == *expected => {}
                    Some(found) => {
                        explain(truth, found, &mut findings);
                        // the right one is missing, unless it came as a second one of the same number
                        findings.lost += u64::from(!self.suspects.contains(expected));
                    }
                }
            }
            let beyond = seen.iter().skip(expected.len()).flatten();
            beyond.for_each(|&found| explain(truth, found, &mut findings));
        }
        let orders_never_committed = self.keys.values().flat_map(|key| key.seen.iter().flatten());
        orders_never_committed.for_each(|&found| explain(truth, found, &mut findings));
        findings.rolled_back +=
            self.suspects.iter().filter(|&&found| truth.was_rolled_back(found)).count() as u64;
        findings
    }
}

fn explain(truth: &Truth, found: u64, findings: &mut Findings) {
    if truth.was_rolled_back(found) { findings.rolled_back += 1 } else { findings.unexplained += 1 }
}

/// The comparisons; `reader` says who read.
pub fn checks(reader: &str, findings: Findings, truth: &Truth) -> Vec<Check> {
    let none = |what: &str, found: u64| Check::equal(format!("outbox events {what} ({reader})"), 0, found);
    vec![
        Check::equal(format!("outbox events published ({reader})"), truth.events(), findings.published),
        none("lost", findings.lost),
        none("duplicated", findings.duplicated),
        none("out of order per key", findings.out_of_order),
        none("that were rolled back", findings.rolled_back),
        none("unexplained", findings.unexplained),
    ]
}
