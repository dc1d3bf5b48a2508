//! What retention owes: nothing goes before its time, and nothing stays for ever.

use super::index::Index;
use super::{Kind, Report};
use crate::history::History;

pub(super) fn check(history: &History, index: &Index, report: &mut Report) {
    for value in &index.order {
        let sent = &index.sent[value].sent;
        let Some(last) = index.finals.get(&sent.place) else { continue };
        let rules = history.rules_of(sent.place);
        let Some(offset) = index.offset(*value) else { continue };
        let what = || format!("{value} of {:?} at {offset}, written at {}", sent.place, sent.timestamp_ms);
        if offset < last.log_start && !rules.trimmed {
            let age = history.clock_max_ms.saturating_sub(sent.timestamp_ms);
            if rules.retention_ms.is_none_or(|limit| age <= limit) {
                report.add(Kind::RemovedEarly, format!("{}, aged {age} at most", what()));
            }
        }
        let age = history.clock_end_ms.saturating_sub(sent.timestamp_ms);
        if last.values.contains(value) && rules.gone_after_ms.is_some_and(|limit| age > limit) {
            report.add(Kind::KeptTooLong, format!("{}, aged {age}", what()));
        }
    }
}
