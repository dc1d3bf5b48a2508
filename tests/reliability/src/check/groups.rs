//! What a group owes its members: one owner at a time, commits that only go where their owner put them, nothing left out.
//!
//! Members are believed when they say that they own a partition; the broker is judged by whose commits it takes.

use std::collections::{BTreeMap, BTreeSet};

use super::index::Index;
use super::{Kind, Report};
use crate::history::{Act, Fate, History, Isolation, Op, Outcome, Owning, Place};

#[derive(Clone, Copy)]
struct Commit<'a> {
    op: &'a Op,
    owning: Owning,
    offset: i64,
    outcome: Outcome,
}

pub(super) fn check(history: &History, index: &Index, report: &mut Report) {
    let mut commits: BTreeMap<(u32, Place), Vec<Commit<'_>>> = BTreeMap::new();
    let mut acquired: BTreeMap<u64, &Op> = BTreeMap::new();
    for op in &history.ops {
        match op.act {
            Act::Commit { owning, offset, outcome } => {
                let all = commits.entry((owning.group, owning.place)).or_default();
                all.push(Commit { op, owning, offset, outcome });
            }
            Act::Acquire { owning, .. } => {
                acquired.insert(owning.period, op);
            }
            _ => {}
        }
    }
    for commits in commits.values_mut() {
        commits.sort_by_key(|commit| commit.op.start);
        owners(commits, &acquired, report);
    }
    beginnings(history, &commits, report);
    endings(history, &commits, report);
    skips(history, index, report);
}

/// Whose commits were taken, one after the other.
fn owners(commits: &[Commit<'_>], acquired: &BTreeMap<u64, &Op>, report: &mut Report) {
    let done: Vec<_> = commits.iter().filter(|commit| commit.outcome == Outcome::Done).collect();
    for (at, late) in done.iter().enumerate() {
        let others = done[..at].iter().filter(|other| other.owning.period != late.owning.period);
        for other in others.filter(|other| other.op.before(late.op)) {
            let what = format!(
                "{:?}: period {} committed {} after period {} had committed {}",
                late.owning.place, late.owning.period, late.offset, other.owning.period, other.offset
            );
            let mut earlier = done[..at].iter().filter(|first| first.owning.period == late.owning.period);
            if earlier.any(|first| first.op.before(other.op)) {
                report.add(Kind::TwoOwners, what);
                break;
            }
            let began = acquired.get(&late.owning.period).zip(acquired.get(&other.owning.period));
            if began.is_some_and(|(late, other)| late.before(other)) {
                report.add(Kind::FencedCommit, what);
                break;
            }
        }
    }
}

/// The least that the offset can be after everything that was over at a moment. Of commits at one time any may be the last one.
fn floor(commits: &[Commit<'_>], before: impl Fn(&Op) -> bool) -> Option<i64> {
    let last_done = commits
        .iter()
        .filter(|commit| commit.outcome == Outcome::Done && before(commit.op))
        .max_by_key(|commit| commit.op.start)?;
    // requests of one member arrive in the order they were sent; an attempt of an earlier owner must not count
    let allowed = commits.iter().filter(|commit| {
        let (period, last) = (commit.owning.period, last_done.owning.period);
        let later = period > last || period == last && commit.op.start >= last_done.op.start;
        later && commit.outcome != Outcome::Refused
    });
    allowed.map(|commit| commit.offset).min()
}

fn beginnings(history: &History, commits: &BTreeMap<(u32, Place), Vec<Commit<'_>>>, report: &mut Report) {
    for op in &history.ops {
        let Act::Acquire { owning, offset } = op.act else { continue };
        let Some(commits) = commits.get(&(owning.group, owning.place)) else { continue };
        let earlier: Vec<_> = commits.iter().filter(|c| c.owning.period != owning.period).copied().collect();
        if let Some(floor) = floor(&earlier, |commit| commit.before(op))
            && offset < floor
        {
            let what = format!("{owning:?} begins at {offset}, {floor} was committed before");
            report.add(Kind::CommitBackwards, what);
        }
    }
}

fn endings(history: &History, commits: &BTreeMap<(u32, Place), Vec<Commit<'_>>>, report: &mut Report) {
    for op in &history.ops {
        let Act::FinalCommitted { group, place, offset } = op.act else { continue };
        let Some(commits) = commits.get(&(group, place)) else { continue };
        if let Some(floor) = floor(commits, |commit| commit.before(op))
            && offset.is_none_or(|offset| offset < floor)
        {
            let what = format!("group {group} {place:?} ends at {offset:?}, {floor} was committed");
            report.add(Kind::CommitBackwards, what);
        }
    }
}

/// What a group has committed, some member was given.
fn skips(history: &History, index: &Index, report: &mut Report) {
    let mut given: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    let mut uncommitted: BTreeSet<u32> = BTreeSet::new();
    for op in &history.ops {
        if let Act::Poll { group: Some(group), records, isolation } = &op.act {
            given.entry(*group).or_default().extend(records.iter().map(|read| read.value));
            if *isolation == Isolation::Uncommitted {
                uncommitted.insert(*group);
            }
        }
    }
    for op in &history.ops {
        let Act::FinalCommitted { group, place, offset: Some(committed) } = op.act else { continue };
        let rules = history.rules_of(place);
        let start = index.finals.get(&place).map_or(0, |last| last.log_start);
        let first = if rules.retention_ms.is_some() || rules.trimmed { start } else { 0 };
        if rules.compacted {
            continue;
        }
        for ((_, offset), values) in index.at.range((place, first.min(committed))..(place, committed)) {
            for value in values {
                let Some(sending) = index.sent.get(value) else { continue };
                let is_there = matches!(sending.sent.fate, Fate::Acked(_)) && index.counts(sending);
                let was_given = given.get(&group).is_some_and(|given| given.contains(value));
                if is_there && !was_given {
                    let what = format!(
                        "group {group} committed {committed} of {place:?}, nobody was given {value} at {offset}"
                    );
                    report.add(Kind::GroupSkip, what);
                }
            }
        }
    }
}
