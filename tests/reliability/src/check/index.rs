//! A history by value, by offset and by transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::history::{Act, Fate, History, Moment, Outcome, Place, Read, Sent, Value};

/// A record with the operation that sent it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub sent: Sent,
    pub txn: Option<u64>,
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
    Commit { asked: Moment, outcome: Outcome },
    /// Somebody asked for an abort, or nobody for anything.
    Never,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub sent: HashMap<Value, Sending>,
    /// In the order of operations.
    pub order: Vec<Value>,
    /// Values that acknowledgements and reads place at an offset.
    pub at: BTreeMap<(Place, i64), BTreeSet<Value>>,
    /// Offsets at which a value was read or acknowledged.
    pub places: HashMap<Value, BTreeSet<(Place, i64)>>,
    /// Values that a reader was given.
    pub read: BTreeSet<Value>,
    pub finals: BTreeMap<Place, Final>,
    pub endings: BTreeMap<u64, Ending>,
    /// Offsets of tombstones that were read.
    pub tombstones: BTreeSet<(Place, i64)>,
}

impl Index {
    pub(super) fn new(history: &History) -> Self {
        let mut index = Self::default();
        for op in &history.ops {
            match &op.act {
                Act::Send { txn, records } => {
                    for sent in records {
                        index.order.push(sent.value);
                        index.sent.insert(sent.value, Sending { sent: *sent, txn: *txn });
                        if let Fate::Acked(Some(offset)) = sent.fate {
                            index.place(sent.place, offset, sent.value);
                        }
                    }
                    if let Some(txn) = txn {
                        index.endings.entry(*txn).or_insert(Ending::Never);
                    }
                }
                Act::Poll { records, .. } => index.reads(records),
                Act::FinalPoll { place, log_start, end, records } => {
                    index.reads(records);
                    let values = records.iter().filter_map(|read| read.value).collect();
                    let last = Final { log_start: *log_start, end: *end, values };
                    index.finals.insert(*place, last);
                }
                Act::EndTxn { txn, commit: true, outcome } if *outcome != Outcome::Refused => {
                    let ending = Ending::Commit { asked: op.start, outcome: *outcome };
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
            match read.value {
                Some(value) => {
                    self.place(read.place, read.offset, value);
                    self.read.insert(value);
                }
                None => {
                    self.tombstones.insert((read.place, read.offset));
                }
            }
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

    /// Whether compaction may have removed a value: its key has, or may have, a newer one.
    pub(super) fn superseded(&self, sending: &Sending) -> bool {
        let Some(key) = sending.sent.key else { return false };
        let place = sending.sent.place;
        let mine = self.order.iter().position(|value| *value == sending.sent.value).unwrap_or(0);
        self.order[mine + 1..].iter().any(|value| {
            let other = &self.sent[value];
            let same_key = other.sent.place == place && other.sent.key == Some(key);
            let may_be_there = match other.txn {
                _ if other.sent.fate == Fate::Refused => false,
                None => true,
                Some(txn) => matches!(self.ending(txn), Ending::Commit { .. }),
            };
            same_key && may_be_there
        })
    }
}
