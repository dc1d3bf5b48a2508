//! What a log owes its readers: each partition in order, nothing left out.
//!
//! Between an assignment, a seek, a crash or a change of owner on one side and the next on the other, the records of a partition that a process
//! is given go up, and pass no record that is known to be there.

use std::collections::BTreeMap;

use super::index::Index;
use super::{Kind, Report};
use crate::history::{Act, Fate, History, Isolation, Op, Place, Read};

/// The last offset that a process was given of a partition, and in which operation.
type Last = BTreeMap<(u32, Place), (i64, Option<usize>)>;

pub(super) fn check(history: &History, index: &Index, report: &mut Report) {
    let mut ops: Vec<_> = history.ops.iter().enumerate().collect();
    ops.sort_by_key(|(_, op)| op.start);
    let mut last = Last::new();
    let log = Log { history, index };
    for (number, op) in ops {
        reset(&mut last, op);
        match &op.act {
            Act::Poll { records, isolation, .. } => {
                for read in records {
                    log.step(&mut last, (number, op), read, *isolation, report);
                }
            }
            // what it leaves out is lost, and told as such
            Act::FinalPoll { place, records, .. } => {
                for pair in records.windows(2).filter(|pair| pair[0].offset >= pair[1].offset) {
                    let what = format!("{place:?}: {} before {} at the end", pair[0].offset, pair[1].offset);
                    report.add(Kind::IntNonmonotonicPoll, what);
                }
            }
            _ => {}
        }
    }
}

fn reset(last: &mut Last, op: &Op) {
    match &op.act {
        Act::Assign { from } => {
            last.retain(|(process, _), _| *process != op.process);
            last.extend(from.iter().map(|(place, offset)| ((op.process, *place), (offset - 1, None))));
        }
        Act::Subscribe { .. } | Act::Crash => last.retain(|(process, _), _| *process != op.process),
        Act::Seek { place, offset } => {
            last.insert((op.process, *place), (offset - 1, None));
        }
        Act::Acquire { owning, offset } => {
            last.insert((op.process, owning.place), (offset - 1, None));
        }
        Act::Release { owning } => {
            last.remove(&(op.process, owning.place));
        }
        _ => {}
    }
}

/// What offsets are judged by.
struct Log<'a> {
    history: &'a History,
    index: &'a Index,
}

impl Log<'_> {
    fn step(
        &self,
        last: &mut Last,
        (number, op): (usize, &Op),
        read: &Read,
        isolation: Isolation,
        report: &mut Report,
    ) {
        let Some((before, other)) = last.insert((op.process, read.place), (read.offset, Some(number))) else {
            return;
        };
        let inside = other == Some(number);
        let who =
            format!("process {} was given {} after {before} of {:?}", op.process, read.offset, read.place);
        if read.offset <= before {
            let kind = if inside { Kind::IntNonmonotonicPoll } else { Kind::NonmonotonicPoll };
            report.add(kind, who);
            return;
        }
        let passed = self.index.at.range((read.place, before + 1)..(read.place, read.offset));
        let visible = |offset: i64| self.is_visible(read.place, offset, isolation);
        let skipped: Vec<i64> =
            passed.map(|((_, offset), _)| *offset).filter(|offset| visible(*offset)).collect();
        if !skipped.is_empty() {
            let kind = if inside { Kind::IntPollSkip } else { Kind::PollSkip };
            report.add(kind, format!("{who}, passing {skipped:?}"));
        }
    }

    /// Whether whoever reads past this offset must be given it.
    fn is_visible(&self, place: Place, offset: i64, isolation: Isolation) -> bool {
        let rules = self.history.rules_of(place);
        let may_go = rules.retention_ms.is_some() || rules.trimmed;
        let start = self.index.finals.get(&place).map_or(i64::MAX, |last| last.log_start);
        if rules.compacted || may_go && offset < start {
            return false;
        }
        self.index.at[&(place, offset)].iter().filter_map(|value| self.index.sent.get(value)).any(|sending| {
            let acked =
                matches!(sending.sent.fate, Fate::Acked(_)) || self.index.read.contains(&sending.sent.value);
            let wanted = isolation == Isolation::Uncommitted || self.index.counts(sending);
            acked && wanted
        })
    }
}
