//! What the search for a time owes: the first record at or after it, among all that were there when it was asked for.
//!
//! Timestamps need not rise, so the answer is judged by every record before it. Records that may have gone meanwhile are not missed.

use std::collections::HashMap;

use super::index::Index;
use super::{Kind, Report};
use crate::history::{Act, Fate, History, Moment, Op, Place, Value};

pub(super) fn check(history: &History, index: &Index, report: &mut Report) {
    let acked = acknowledgements(history);
    for op in &history.ops {
        let Act::LookUp { place, timestamp_ms, offset } = op.act else { continue };
        let timestamp_of = |value: &Value| index.sent.get(value).map(|sending| sending.sent.timestamp_ms);
        let asked = format!("{timestamp_ms} in {place:?} was found at {offset:?}");
        if let Some(offset) = offset
            && let Some(found) = index.at.get(&(place, offset)).and_then(|values| values.first())
            && let Some(earlier) = timestamp_of(found).filter(|found| *found < timestamp_ms)
        {
            report.add(Kind::WrongTime, format!("{asked}, which was written at {earlier}"));
        }
        let first = first_kept(history, index, place);
        let until = offset.unwrap_or(i64::MAX);
        let mut before = index.at.range((place, first)..(place, until.max(first)));
        let passed = before.find(|(_, values)| {
            values
                .iter()
                .any(|value| timestamp_of(value) >= Some(timestamp_ms) && was_there(&acked, *value, op))
        });
        if let Some(((_, offset), values)) = passed {
            report.add(Kind::WrongTime, format!("{asked}, passing {values:?} at {offset}"));
        }
    }
}

/// When each value was known to be there.
fn acknowledgements(history: &History) -> HashMap<Value, Moment> {
    let mut acked = HashMap::new();
    for op in &history.ops {
        if let (Act::Send { records, .. }, Some(end)) = (&op.act, op.end) {
            let taken = records.iter().filter(|sent| matches!(sent.fate, Fate::Acked(_)));
            acked.extend(taken.map(|sent| (sent.value, end)));
        }
    }
    acked
}

fn was_there(acked: &HashMap<Value, Moment>, value: Value, asking: &Op) -> bool {
    acked.get(&value).is_some_and(|end| *end < asking.start)
}

/// The first offset of a partition whose record is certainly still there.
fn first_kept(history: &History, index: &Index, place: Place) -> i64 {
    let rules = history.rules_of(place);
    let start = index.finals.get(&place).map_or(i64::MAX, |last| last.log_start);
    match rules {
        _ if rules.compacted => i64::MAX,
        _ if rules.retention_ms.is_some() || rules.trimmed => start,
        _ => 0,
    }
}
