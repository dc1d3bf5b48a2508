//! What transactions owe readers of committed records: all of one or nothing of it, and nothing before it is committed.

use std::collections::BTreeMap;

use super::index::{Ending, Index};
use super::{Kind, Report};
use crate::history::{Act, Fate, History, Isolation, Op, Outcome, Read};

pub(super) fn check(history: &History, index: &Index, report: &mut Report) {
    for op in &history.ops {
        match &op.act {
            Act::Poll { isolation: Isolation::Committed, records, .. }
            | Act::FinalPoll { records, .. }
            | Act::Scan { records, .. } => {
                reads(index, op, records, report);
            }
            _ => {}
        }
    }
    fractured(history, index, report);
    zombies(history, report);
}

fn reads(index: &Index, op: &Op, records: &[Read], report: &mut Report) {
    for read in records {
        let sending = index.sent.get(&read.value);
        let Some((sending, txn)) = sending.and_then(|sending| Some((sending, sending.txn?))) else {
            continue;
        };
        let what = format!("{} of transaction {txn} at {:?} {}", sending.sent.value, read.place, read.offset);
        match index.ending(txn) {
            Ending::Never => report.add(Kind::AbortedRead, what),
            Ending::Commit { asked, .. } if op.end.is_some_and(|end| end < asked) => {
                report.add(Kind::PrecommittedRead, what);
            }
            Ending::Commit { .. } => {}
        }
    }
}

/// At the end a transaction is there as a whole or not at all. What a finished commit left out is a lost write as well.
fn fractured(history: &History, index: &Index, report: &mut Report) {
    let mut found: BTreeMap<u64, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
    for value in &index.order {
        let sending = &index.sent[value];
        let (Some(txn), Some(last)) = (sending.txn, index.finals.get(&sending.sent.place)) else { continue };
        let rules = history.rules_of(sending.sent.place);
        let removed = index.offset(*value).is_none_or(|offset| offset < last.log_start);
        let is_there = last.values.contains(value);
        let excused = removed || rules.compacted || sending.sent.tombstone;
        let (there, missing) = found.entry(txn).or_default();
        if is_there {
            there.push(*value);
        } else if matches!(sending.sent.fate, Fate::Acked(_)) && !excused {
            missing.push(*value);
        }
    }
    for (txn, (there, missing)) in found {
        let ended =
            matches!(index.ending(txn), Ending::Commit { outcome: Outcome::Done | Outcome::Unknown, .. });
        if ended && !there.is_empty() && !missing.is_empty() {
            let what = format!("transaction {txn}: {there:?} are there, {missing:?} are not");
            report.add(Kind::FracturedTransaction, what);
        }
    }
}

/// Who has lost a name to somebody else commits nothing more.
fn zombies(history: &History, report: &mut Report) {
    let mut names: BTreeMap<u32, Vec<&Op>> = BTreeMap::new();
    for op in &history.ops {
        if let Act::Register { name } = op.act {
            names.entry(name).or_default().push(op);
        }
    }
    let mut instances: BTreeMap<u32, (&Op, &[&Op])> = BTreeMap::new();
    for registered in names.values() {
        instances.extend(registered.iter().map(|op| (op.process, (*op, &registered[..]))));
    }
    for op in &history.ops {
        let Act::EndTxn { txn, commit: true, outcome: Outcome::Done } = op.act else { continue };
        let Some((mine, all)) = instances.get(&op.process) else { continue };
        if let Some(other) = all.iter().find(|other| mine.before(other) && other.before(op)) {
            let what = format!(
                "process {} committed transaction {txn}, process {} had its name",
                op.process, other.process
            );
            report.add(Kind::ZombieCommit, what);
        }
    }
}
