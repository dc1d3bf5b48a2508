//! What a log owes its producers: everything acknowledged is there, once, where it was said to be, in order.

use std::collections::BTreeMap;

use super::index::{Ending, Index, Sending};
use super::{Kind, Report};
use crate::history::{Act, Fate, History, Place};

pub(super) fn check(history: &History, index: &Index, report: &mut Report) {
    offsets(index, report);
    strangers(index, report);
    sends(history, report);
    let mut values: Vec<_> = index.sent.keys().copied().collect();
    values.sort_unstable();
    for value in values {
        presence(history, index, &index.sent[&value], report);
    }
}

fn offsets(index: &Index, report: &mut Report) {
    for ((place, offset), values) in &index.at {
        if values.len() > 1 {
            report.add(Kind::InconsistentOffsets, format!("{place:?} offset {offset} holds {values:?}"));
        }
    }
    for (value, places) in &index.places {
        if places.len() > 1 {
            report.add(Kind::Duplicate, format!("value {value} is at {places:?}"));
        }
    }
}

fn strangers(index: &Index, report: &mut Report) {
    for value in &index.read {
        let places = index.places.get(value).into_iter().flatten();
        match index.sent.get(value) {
            None => report.add(Kind::ForeignValue, format!("nobody sent {value}")),
            Some(sending) => {
                if let Some((place, offset)) =
                    places.into_iter().find(|(place, _)| *place != sending.sent.place)
                {
                    let what = format!("{value} is at {place:?} {offset}, sent to {:?}", sending.sent.place);
                    report.add(Kind::ForeignValue, what);
                }
                if sending.sent.fate == Fate::Refused {
                    report.add(Kind::RefusedRead, format!("{value} was refused and read"));
                }
            }
        }
    }
}

/// Sends of a process are in order.
fn sends(history: &History, report: &mut Report) {
    let mut last: BTreeMap<(u32, Place), (i64, usize)> = BTreeMap::new();
    let mut ops: Vec<_> = history.ops.iter().enumerate().collect();
    ops.sort_by_key(|(_, op)| op.start);
    for (number, op) in ops {
        let Act::Send { records, .. } = &op.act else { continue };
        for sent in records {
            let Fate::Acked(Some(offset)) = sent.fate else { continue };
            if let Some((before, other)) = last.insert((op.process, sent.place), (offset, number))
                && before >= offset
            {
                let kind = if other == number { Kind::IntNonmonotonicSend } else { Kind::NonmonotonicSend };
                let what = format!("process {} got {offset} after {before} in {:?}", op.process, sent.place);
                report.add(kind, what);
            }
        }
    }
}

fn presence(history: &History, index: &Index, sending: &Sending, report: &mut Report) {
    let sent = &sending.sent;
    let Some(last) = index.finals.get(&sent.place) else { return };
    if last.values.contains(&sent.value) {
        return;
    }
    let offset = index.offset(sent.value);
    let acked = matches!(sent.fate, Fate::Acked(_)) && index.counts(sending);
    let was_read = index.read.contains(&sent.value) && is_kept(index, sending);
    if !acked && !was_read {
        return;
    }
    // a tombstone goes after its time, when nothing older is there; that is checked with compaction
    if sent.tombstone && history.rules_of(sent.place).compacted {
        return;
    }
    // what lies below the log start is the business of retention
    let removed = offset.map_or(last.log_start > 0, |offset| offset < last.log_start);
    if removed || history.rules_of(sent.place).compacted && index.superseded(sending) {
        return;
    }
    let at = offset.map_or("an unknown offset".to_owned(), |offset| format!("offset {offset}"));
    let what = format!("{} of {:?} at {at}, log {}..{}", sent.value, sent.place, last.log_start, last.end);
    if offset.is_some_and(|offset| offset >= last.end) {
        report.add(Kind::Unseen, what);
    } else if history.rules_of(sent.place).compacted {
        report.add(Kind::LatestLost, what);
    } else {
        report.add(Kind::LostWrite, what);
    }
}

/// Whether a value that was read must stay: not when readers of uncommitted records saw an aborted one.
fn is_kept(index: &Index, sending: &Sending) -> bool {
    sending.txn.is_none_or(|txn| index.ending(txn) != Ending::Never && index.counts(sending))
}
