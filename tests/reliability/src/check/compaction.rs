//! What a compacted topic owes its readers: a key's values in the order they were sent, and nothing old for new. That the last one stays is
//! checked with the log.

use std::collections::BTreeMap;

use super::index::{Index, Sending};
use super::{Kind, Report};
use crate::history::{Act, History, Op, Read};

pub(super) fn check(history: &History, index: &Index, report: &mut Report) {
    for op in &history.ops {
        match &op.act {
            Act::FinalPoll { place, records, .. } if history.rules_of(*place).compacted => {
                let newest = newest(index, records, report);
                newest.values().for_each(|shown| resurrected(index, op, shown, true, report));
            }
            Act::Scan { records, .. } => {
                let newest = newest(index, records, report);
                newest.values().for_each(|shown| resurrected(index, op, shown, false, report));
            }
            _ => {}
        }
    }
}

/// The last value of each key that was read.
fn newest(index: &Index, records: &[Read], report: &mut Report) -> BTreeMap<u64, Sending> {
    let mut newest: BTreeMap<u64, Sending> = BTreeMap::new();
    for read in records {
        let Some(sending) = index.sent.get(&read.value) else { continue };
        let Some(key) = sending.sent.key else { continue };
        if let Some(before) = newest.insert(key, *sending)
            && index.later(sending).contains(&before.sent.value)
            && !index.landed_late(sending, &before)
        {
            let what = format!("key {key} of {:?}: {} after {}", read.place, read.value, before.sent.value);
            report.add(Kind::OlderAfterNewer, what);
        }
    }
    newest
}

/// Whether something newer was there before the reading began. What was sent until its end may have made the newer one go; and while others
/// write a tombstone may go as well, after what it deletes, behind the back of a reader who has seen that.
fn resurrected(index: &Index, op: &Op, shown: &Sending, is_quiet: bool, report: &mut Report) {
    let later: Vec<&Sending> = index.later(shown).iter().map(|value| &index.sent[value]).collect();
    let was_there = |sending: &Sending| index.visible_since(sending).is_some_and(|since| since < op.start);
    let Some(at) = later.iter().rposition(|sending| was_there(sending)) else { return };
    let (missing, after) = (later[at], &later[at + 1..]);
    let until = op.end.unwrap_or(u64::MAX);
    let replaced = after.iter().any(|sending| index.may_count(sending) && sending.start < until);
    // that is told as an older one after a newer one
    let at = |sending: &Sending| index.offset(sending.sent.value);
    let is_behind = at(shown).zip(at(missing)).is_some_and(|(shown, missing)| missing < shown);
    if !replaced && !is_behind && !index.landed_late(shown, missing) && (is_quiet || !missing.sent.tombstone)
    {
        let (value, newer) = (shown.sent.value, missing.sent.value);
        let what = format!("{value} of {:?} is shown, {newer} came after it", shown.sent.place);
        report.add(Kind::Resurrected, what);
    }
}
