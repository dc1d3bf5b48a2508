//! What a group that works in transactions owes: of each record that it is past, the work is there, once.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Ending, Index};
use super::{Kind, Report};
use crate::history::{Act, Fate, History, Outcome, Place};

pub(super) fn check(history: &History, index: &Index, report: &mut Report) {
    let made = made(index);
    for (source, values) in made.iter().filter(|(_, values)| values.len() > 1) {
        report.add(Kind::DoneTwice, format!("{values:?} were made of {source}"));
    }
    let mut groups = BTreeSet::new();
    // the offset that a group has at least reached
    let mut reached: BTreeMap<(u32, Place), i64> = BTreeMap::new();
    for op in &history.ops {
        let Act::SendOffsets { txn, group, offsets } = &op.act else { continue };
        groups.insert(*group);
        if let Ending::Commit { outcome: Outcome::Done, .. } = index.ending(*txn) {
            for (place, offset) in offsets {
                let reached = reached.entry((*group, *place)).or_default();
                *reached = (*reached).max(*offset);
            }
        }
    }
    for op in &history.ops {
        let Act::FinalCommitted { group, place, offset } = op.act else { continue };
        let reached = reached.get(&(group, place)).copied();
        if let Some(reached) = reached.filter(|reached| offset.is_none_or(|offset| offset < *reached)) {
            let what =
                format!("group {group} {place:?} ends at {offset:?}, a transaction committed {reached}");
            report.add(Kind::CommitBackwards, what);
        }
        if groups.contains(&group) {
            not_done(index, place, offset.unwrap_or(0), &made, report);
        }
    }
}

/// What is there at the end of the work on each value.
fn made(index: &Index) -> BTreeMap<u64, Vec<u64>> {
    let mut made: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for value in &index.order {
        let sent = &index.sent[value].sent;
        let is_there = index.finals.get(&sent.place).is_some_and(|last| last.values.contains(value));
        if let Some(source) = sent.source.filter(|_| is_there) {
            made.entry(source).or_default().push(*value);
        }
    }
    made
}

fn not_done(
    index: &Index,
    place: Place,
    committed: i64,
    made: &BTreeMap<u64, Vec<u64>>,
    report: &mut Report,
) {
    for ((_, offset), values) in index.at.range((place, 0)..(place, committed)) {
        for value in values {
            let Some(sending) = index.sent.get(value) else { continue };
            let is_there = matches!(sending.sent.fate, Fate::Acked(_)) && index.counts(sending);
            if is_there && !made.contains_key(value) {
                let what =
                    format!("{committed} of {place:?} is committed, nothing was made of {value} at {offset}");
                report.add(Kind::NotDone, what);
            }
        }
    }
}
