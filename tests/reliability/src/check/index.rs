//! A history by value, by offset and by transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::history::{Act, Fate, History, Moment, Outcome, Place, Read, Sent, Value};

/// A record with the operation that sent it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub sent: Sent,
    pub txn: Option<u64>,
    /// When its operation began.
    pub start: Moment,
    /// When it was known to be there, if it does not wait for a transaction.
    pub end: Option<Moment>,
}

/// The final poll of a partition, the last one if there are several.
#[derive(Debug)]
pub(super) struct Final {
    pub log_start: i64,
    pub end: i64,
    pub values: BTreeSet<Value>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its commit was asked for at this moment.
    Commit { asked: Moment, ended: Option<Moment>, outcome: Outcome },
    /// Somebody asked for an abort, or nobody for anything.
    Never,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub sent: HashMap<Value, Sending>,
    /// In the order in which they were sent.
    pub order: Vec<Value>,
    /// Values that acknowledgements and reads place at an offset.
    pub at: BTreeMap<(Place, i64), BTreeSet<Value>>,
    /// Offsets at which a value was read or acknowledged.
    pub places: HashMap<Value, BTreeSet<(Place, i64)>>,
    /// Values that a reader was given.
    pub read: BTreeSet<Value>,
    pub finals: BTreeMap<Place, Final>,
    pub endings: BTreeMap<u64, Ending>,
    /// Values of a key, in the order in which they were sent.
    pub keys: BTreeMap<(Place, u64), Vec<Value>>,
}

impl Index {
    pub(super) fn new(history: &History) -> Self {
        let mut index = Self::default();
        let mut ops: Vec<_> = history.ops.iter().collect();
        ops.sort_by_key(|op| op.start);
        for op in ops {
            match &op.act {
                Act::Send { txn, records } => {
                    for sent in records {
                        index.order.push(sent.value);
                        let sending = Sending { sent: *sent, txn: *txn, start: op.start, end: op.end };
                        index.sent.insert(sent.value, sending);
                        if let Some(key) = sent.key {
                            index.keys.entry((sent.place, key)).or_default().push(sent.value);
                        }
                        if let Fate::Acked(Some(offset)) = sent.fate {
                            index.place(sent.place, offset, sent.value);
                        }
                    }
                    if let Some(txn) = txn {
                        index.endings.entry(*txn).or_insert(Ending::Never);
                    }
                }
                Act::Poll { records, .. } | Act::Scan { records, .. } => index.reads(records),
                Act::FinalPoll { place, log_start, end, records } => {
                    index.reads(records);
                    let values = records.iter().map(|read| read.value).collect();
                    let last = Final { log_start: *log_start, end: *end, values };
                    index.finals.insert(*place, last);
                }
                Act::EndTxn { txn, commit: true, outcome } if *outcome != Outcome::Refused => {
                    let ending = Ending::Commit { asked: op.start, ended: op.end, outcome: *outcome };
                    let known = index.endings.entry(*txn).or_insert(ending);
                    if !matches!(known, Ending::Commit { outcome: Outcome::Done, .. }) {
                        *known = ending;
                    }
                }
                _ => {}
            }
        }
        index
    }

    fn reads(&mut self, records: &[Read]) {
        for read in records {
            self.place(read.place, read.offset, read.value);
            self.read.insert(read.value);
        }
    }

    fn place(&mut self, place: Place, offset: i64, value: Value) {
        self.at.entry((place, offset)).or_default().insert(value);
        self.places.entry(value).or_default().insert((place, offset));
    }

    pub(super) fn ending(&self, txn: u64) -> Ending {
        self.endings.get(&txn).copied().unwrap_or(Ending::Never)
    }

    /// Whether the value must be visible to readers of committed records, once acknowledged.
    pub(super) fn counts(&self, sending: &Sending) -> bool {
        match sending.txn {
            None => true,
            Some(txn) => matches!(self.ending(txn), Ending::Commit { outcome: Outcome::Done, .. }),
        }
    }

    /// An offset of a value, if anybody knows one.
    pub(super) fn offset(&self, value: Value) -> Option<i64> {
        self.places.get(&value).and_then(|places| places.first()).map(|(_, offset)| *offset)
    }

    /// Whether the value may be visible to readers of committed records.
    pub(super) fn may_count(&self, sending: &Sending) -> bool {
        let decided = match sending.txn {
            None => true,
            Some(txn) => matches!(self.ending(txn), Ending::Commit { .. }),
        };
        decided && sending.sent.fate != Fate::Refused
    }

    /// When the value was visible for certain to readers of committed records.
    pub(super) fn visible_since(&self, sending: &Sending) -> Option<Moment> {
        if !matches!(sending.sent.fate, Fate::Acked(_)) {
            return None;
        }
        match sending.txn.map(|txn| self.ending(txn)) {
            None => sending.end,
            Some(Ending::Commit { ended, outcome: Outcome::Done, .. }) => ended,
            Some(_) => None,
        }
    }

    /// The values of a key that were sent after one of them.
    pub(super) fn later(&self, sending: &Sending) -> &[Value] {
        let found = sending.sent.key.and_then(|key| self.keys.get(&(sending.sent.place, key)));
        let values = found.map_or(&[][..], Vec::as_slice);
        let at = values.iter().position(|value| *value == sending.sent.value);
        at.map_or(&[][..], |at| &values[at + 1..])
    }

    /// Whether compaction may have removed a value: its key has, or may have, a newer one.
    pub(super) fn superseded(&self, sending: &Sending) -> bool {
        self.later(sending).iter().any(|value| self.may_count(&self.sent[value]))
            || self.is_overtaken(sending)
    }

    /// Whether an earlier value of its key landed behind it: who is told that nobody knows what became of a record, and goes on, must bear
    /// that it comes late.
    fn is_overtaken(&self, sending: &Sending) -> bool {
        let values = sending.sent.key.and_then(|key| self.keys.get(&(sending.sent.place, key)));
        let earlier = values.into_iter().flatten().take_while(|value| **value != sending.sent.value);
        earlier.map(|value| &self.sent[value]).any(|other| self.landed_late(other, sending))
    }

    /// Whether the first value may lie behind the second one, which was sent later.
    pub(super) fn landed_late(&self, earlier: &Sending, later: &Sending) -> bool {
        let at = |sending: &Sending| self.offset(sending.sent.value);
        let behind = match (at(earlier), at(later)) {
            (Some(earlier), Some(later)) => later < earlier,
            (Some(_), None) => true,
            // a tombstone may come, take the later one with it, and be removed before anybody reads it; a value would stay
            (None, _) => earlier.sent.tombstone,
        };
        behind && earlier.sent.fate == Fate::Unknown && self.may_count(earlier)
    }
}
