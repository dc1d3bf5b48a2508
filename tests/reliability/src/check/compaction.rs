//! What a compacted topic owes its readers: a key's values in the order they were sent. That the last one stays is checked with the log.

use std::collections::BTreeMap;

use super::index::Index;
use super::{Kind, Report};
use crate::history::{Act, History};

pub(super) fn check(history: &History, index: &Index, report: &mut Report) {
    let rank: BTreeMap<u64, usize> =
        index.order.iter().enumerate().map(|(rank, value)| (*value, rank)).collect();
    for op in &history.ops {
        let Act::FinalPoll { place, records, .. } = &op.act else { continue };
        if !history.rules_of(*place).compacted {
            continue;
        }
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for read in records {
            let Some(sending) = read.value.and_then(|value| index.sent.get(&value)) else { continue };
            let (Some(key), value) = (sending.sent.key, sending.sent.value) else { continue };
            if let Some(before) = newest.insert(key, value)
                && rank[&before] > rank[&value]
            {
                report.add(Kind::OlderAfterNewer, format!("key {key} of {place:?}: {value} after {before}"));
            }
        }
    }
}
