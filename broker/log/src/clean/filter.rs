//! What stays of a batch. Pure.
//!
//! - A record stays unless the map knows a newer one of its key, or its transaction was aborted.
//! - A tombstone that stays gets a horizon when it is met first, and goes when that has passed (KIP-534).
//! - A marker of a transaction does the same from when none of the transaction's records is left.
//! - The last batch of a producer stays, if need be without records.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sunseo_proto::Record;
use sunseo_proto::batch::{self, BatchError, BatchHeader};

use crate::clean::AbortedData;
use crate::clean::map::OffsetMap;

/// What does not change during a run.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) map: &'a OffsetMap,
    /// From here on everything stays as it is.
    pub(crate) end: i64,
    pub(crate) now_ms: i64,
    pub(crate) delete_retention_ms: i64,
    /// Offset of the last record of each producer.
    pub(crate) last_offsets: &'a BTreeMap<i64, i64>,
    pub(crate) aborted: &'a dyn AbortedData,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Whole,
    Rebuilt(Bytes),
    Nothing,
}

/// What a run remembers from batch to batch; they come in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Producers with records of a transaction since their last marker.
    open: BTreeSet<i64>,
    /// The next time at which something may go that stayed.
    pub(crate) horizon_ms: Option<i64>,
}

impl Filter {
    pub(crate) fn batch(
        &mut self,
        rules: &Rules<'_>,
        header: &BatchHeader,
        bytes: &Bytes,
    ) -> Result<Kept, BatchError> {
        if header.base_offset >= rules.end {
            return Ok(Kept::Whole);
        }
        let is_last = rules.last_offsets.get(&header.producer_id) == Some(&header.last_offset());
        if header.is_control() {
            return self.marker(rules, header, bytes, is_last);
        }
        let records = batch::records(bytes)?;
        let count = records.len();
        let is_aborted =
            header.is_transactional() && rules.aborted.is_aborted(header.producer_id, header.base_offset);
        let may_drop = header.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= rules.now_ms);
        let stays = |record: &Record| !is_aborted && stays(rules.map, record, may_drop);
        let kept: Vec<Record> = records.into_iter().filter(stays).collect();
        if kept.is_empty() {
            return empty(header, bytes, is_last, count);
        }
        if header.is_transactional() {
            self.open.insert(header.producer_id);
        }
        let horizon_ms = kept.iter().any(is_tombstone).then(|| self.horizon(rules, header));
        if kept.len() == count && horizon_ms.is_none_or(|_| header.delete_horizon_ms().is_some()) {
            return Ok(Kept::Whole);
        }
        let position = batch::position_of(bytes)?;
        Ok(Kept::Rebuilt(batch::rebuild(header, &kept, horizon_ms, position)))
    }

    fn marker(
        &mut self,
        rules: &Rules<'_>,
        header: &BatchHeader,
        bytes: &Bytes,
        is_last: bool,
    ) -> Result<Kept, BatchError> {
        let has_records = self.open.remove(&header.producer_id);
        if has_records || is_last {
            return Ok(Kept::Whole);
        }
        if header.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= rules.now_ms) {
            return Ok(Kept::Nothing);
        }
        let is_new = header.delete_horizon_ms().is_none();
        let horizon_ms = self.horizon(rules, header);
        match is_new {
            true => {
                Ok(Kept::Rebuilt(batch::rebuild(header, &batch::records(bytes)?, Some(horizon_ms), None)))
            }
            false => Ok(Kept::Whole),
        }
    }

    /// When tombstones of a batch may go; remembered.
    fn horizon(&mut self, rules: &Rules<'_>, header: &BatchHeader) -> i64 {
        let fresh_ms = rules.now_ms.saturating_add(rules.delete_retention_ms);
        let horizon_ms = header.delete_horizon_ms().unwrap_or(fresh_ms);
        self.horizon_ms = Some(self.horizon_ms.map_or(horizon_ms, |next_ms| next_ms.min(horizon_ms)));
        horizon_ms
    }
}

fn is_tombstone(record: &Record) -> bool {
    record.value.is_none() && record.key.is_some()
}

fn stays(map: &OffsetMap, record: &Record, may_drop_tombstones: bool) -> bool {
    let Some(key) = &record.key else { return true };
    let may_go = may_drop_tombstones && record.value.is_none();
    !map.supersedes(key, record.offset) && !may_go
}

/// A batch without a record that stays.
fn empty(header: &BatchHeader, bytes: &Bytes, is_last: bool, count: usize) -> Result<Kept, BatchError> {
    if !is_last {
        return Ok(Kept::Nothing);
    }
    if count == 0 {
        return Ok(Kept::Whole);
    }
    let position = batch::position_of(bytes)?;
    Ok(Kept::Rebuilt(batch::rebuild(header, &[], None, position)))
}
