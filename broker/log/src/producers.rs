//! What a partition remembers of its producers, to tell repeats from news. Pure; a fold over the batches of the log.
//!
//! - A plain producer numbers its records densely; its last five batches are remembered. Sequences go from `i32::MAX` to 0. A producer
//!   that is not known starts anywhere (retention may have removed what it wrote); so does a higher epoch.
//! - A positioned producer has one number, its last position; positions rise but need not be dense. Nothing else tells its repeats from
//!   news, so it is let go of only when room is needed for another one and it was silent for very long. What was let go of is
//!   refused when it comes back: identities are given in rising order, so one number, the highest that was let go of, is enough to
//!   know that an unknown one below it may have been here.

use std::collections::{BTreeMap, VecDeque};

use bytes::BufMut as _;
use sunseo_proto::batch::BatchHeader;
use sunseo_proto::envelope::EnvelopeError;
use sunseo_proto::position::PositionRange;

use crate::codec::Decoder;
use crate::{Outcome, Refusal};

/// Batches of a plain producer that are remembered, as many as a client may have in flight.
pub(crate) const BATCHES_REMEMBERED: usize = 5;
/// Of a positioned producer that an earlier version stored.
const UNKNOWN_MS: i64 = i64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbered {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Plain {
    epoch: i16,
    seen_ms: i64,
    last: VecDeque<Numbered>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Positioned {
    epoch: i16,
    position: i64,
    last_offset: i64,
    seen_ms: i64,
}

/// All producers of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producers {
    plain: BTreeMap<i64, Plain>,
    positioned: BTreeMap<i64, Positioned>,
    /// Highest identity that was let go of, -1 for none.
    retired_through: i64,
}

impl Default for Producers {
    fn default() -> Self {
        Self { plain: BTreeMap::new(), positioned: BTreeMap::new(), retired_through: -1 }
    }
}

/// `sequence + more`, going from `i32::MAX` to 0.
fn advance(sequence: i32, more: i32) -> i32 {
    (sequence.wrapping_add(more)) & i32::MAX
}

impl Producers {
    /// What the batch is to this partition: `None` when it is news.
    pub(crate) fn check(
        &self,
        header: &BatchHeader,
        position: Option<PositionRange>,
    ) -> Result<Option<Outcome>, Refusal> {
        match position {
            Some(range) => self.check_positioned(header, range),
            None if is_numbered(header) => self.check_plain(header),
            None => Ok(None),
        }
    }

    fn check_positioned(
        &self,
        header: &BatchHeader,
        range: PositionRange,
    ) -> Result<Option<Outcome>, Refusal> {
        let producer_id = header.producer_id;
        let Some(known) = self.positioned.get(&producer_id) else {
            return match producer_id <= self.retired_through {
                true => Err(Refusal::ProducerRetired { producer_id }),
                false => Ok(None),
            };
        };
        fence(header, known.epoch)?;
        if range.last <= known.position {
            return Ok(Some(Outcome::Duplicate { base_offset: -1, last_offset: known.last_offset }));
        }
        if range.first <= known.position {
            return Err(Refusal::PartialDuplicate { producer_id, accepted_through: known.position });
        }
        Ok(None)
    }

    fn check_plain(&self, header: &BatchHeader) -> Result<Option<Outcome>, Refusal> {
        let producer_id = header.producer_id;
        let Some(known) = self.plain.get(&producer_id) else { return Ok(None) };
        fence(header, known.epoch)?;
        if header.producer_epoch > known.epoch {
            return Ok(None);
        }
        let (first, last) = (header.base_sequence, advance(header.base_sequence, header.last_offset_delta));
        let repeated = known.last.iter().find(|b| (b.base_sequence, b.last_sequence) == (first, last));
        if let Some(batch) = repeated {
            let (base_offset, last_offset) = (batch.base_offset, batch.last_offset);
            return Ok(Some(Outcome::Duplicate { base_offset, last_offset }));
        }
        match known.last.back().map(|b| advance(b.last_sequence, 1)) {
            Some(expected) if expected != first => {
                Err(Refusal::SequenceGap { producer_id, found: first, expected })
            }
            _ => Ok(None),
        }
    }

    /// Remembers a batch that is in the log; `header` has its base offset.
    pub(crate) fn record(&mut self, header: &BatchHeader, position: Option<PositionRange>, now_ms: i64) {
        let (base_offset, last_offset) = (header.base_offset, header.last_offset());
        if let Some(range) = position {
            let epoch = header.producer_epoch;
            let now = Positioned { epoch, position: range.last, last_offset, seen_ms: now_ms };
            self.positioned.insert(header.producer_id, now);
            return;
        }
        if header.is_control() {
            return self.end_transaction(header, now_ms);
        }
        if !is_numbered(header) {
            return;
        }
        let fresh = Plain { epoch: header.producer_epoch, seen_ms: now_ms, last: VecDeque::new() };
        let known = self.plain.entry(header.producer_id).or_insert(fresh);
        if header.producer_epoch > known.epoch {
            known.epoch = header.producer_epoch;
            known.last.clear();
        }
        known.seen_ms = now_ms;
        if known.last.len() == BATCHES_REMEMBERED {
            known.last.pop_front();
        }
        let base_sequence = header.base_sequence;
        let last_sequence = advance(base_sequence, header.last_offset_delta);
        known.last.push_back(Numbered { base_sequence, last_sequence, base_offset, last_offset });
    }

    /// A marker carries the epoch after the transaction: from here on its records are those of a former epoch.
    fn end_transaction(&mut self, header: &BatchHeader, now_ms: i64) {
        if let Some(known) = self.plain.get_mut(&header.producer_id)
            && header.producer_epoch > known.epoch
        {
            (known.epoch, known.seen_ms) = (header.producer_epoch, now_ms);
            known.last.clear();
        }
    }

    /// Forgets plain producers that were silent since `before_ms`, and the longest silent ones beyond `limit`.
    /// None that has a transaction open: its next batch must follow the last one.
    pub(crate) fn forget(&mut self, before_ms: i64, limit: usize, is_open: impl Fn(i64) -> bool) {
        self.plain.retain(|id, producer| producer.seen_ms >= before_ms || is_open(*id));
        let excess = self.plain.len().saturating_sub(limit);
        if excess == 0 {
            return;
        }
        let mut by_silence: Vec<(i64, i64)> =
            self.plain.iter().filter(|(id, _)| !is_open(**id)).map(|(id, p)| (p.seen_ms, *id)).collect();
        by_silence.sort_unstable();
        for (_, id) in by_silence.iter().take(excess) {
            self.plain.remove(id);
        }
    }

    /// Makes room for a positioned producer that is not known, among at most `limit`: those that were silent since `before_ms` go, the
    /// longest silent first, an eighth of the limit at once. Returns how many.
    pub(crate) fn admit(&mut self, producer_id: i64, limit: usize, before_ms: i64) -> Result<usize, Refusal> {
        if self.positioned.len() < limit || self.positioned.contains_key(&producer_id) {
            return Ok(0);
        }
        let silent = self.positioned.iter().filter(|(_, p)| p.seen_ms < before_ms);
        let mut silent: Vec<(i64, i64)> = silent.map(|(id, p)| (p.seen_ms, *id)).collect();
        if silent.is_empty() {
            return Err(Refusal::TooManyProducers { limit });
        }
        silent.sort_unstable();
        silent.truncate((limit / 8).max(1));
        for (_, id) in &silent {
            self.positioned.remove(id);
            self.retired_through = self.retired_through.max(*id);
        }
        Ok(silent.len())
    }

    /// Gives those a time whose last one an earlier version did not store.
    pub(crate) fn date_unknown(&mut self, now_ms: i64) {
        for known in self.positioned.values_mut().filter(|known| known.seen_ms == UNKNOWN_MS) {
            known.seen_ms = now_ms;
        }
    }

    /// Offset of the last record of each producer.
    pub(crate) fn last_offsets(&self) -> BTreeMap<i64, i64> {
        let plain = self.plain.iter().filter_map(|(id, p)| Some((*id, p.last.back()?.last_offset)));
        let positioned = self.positioned.iter().map(|(id, p)| (*id, p.last_offset));
        plain.chain(positioned).collect()
    }

    /// Plain ones.
    pub(crate) fn plain_len(&self) -> usize {
        self.plain.len()
    }

    pub(crate) fn last_position(&self, producer_id: i64) -> Option<i64> {
        self.positioned.get(&producer_id).map(|known| known.position)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.plain.len() as u32);
        for (id, producer) in &self.plain {
            out.put_i64(*id);
            out.put_i16(producer.epoch);
            out.put_i64(producer.seen_ms);
            out.put_u8(producer.last.len() as u8);
            for batch in &producer.last {
                out.put_i32(batch.base_sequence);
                out.put_i32(batch.last_sequence);
                out.put_i64(batch.base_offset);
                out.put_i64(batch.last_offset);
            }
        }
        out.put_u32(self.positioned.len() as u32);
        for (id, producer) in &self.positioned {
            out.put_i64(*id);
            out.put_i16(producer.epoch);
            out.put_i64(producer.position);
            out.put_i64(producer.last_offset);
            out.put_i64(producer.seen_ms);
        }
        out.put_i64(self.retired_through);
    }

    pub(crate) fn decode(from: &mut Decoder, version: u8) -> Result<Self, EnvelopeError> {
        let mut producers = Self::default();
        for _ in 0..from.u32()? {
            let (id, epoch, seen_ms) = (from.i64()?, from.i16()?, from.i64()?);
            let mut last = VecDeque::with_capacity(BATCHES_REMEMBERED);
            for _ in 0..from.u8()? {
                last.push_back(Numbered {
                    base_sequence: from.i32()?,
                    last_sequence: from.i32()?,
                    base_offset: from.i64()?,
                    last_offset: from.i64()?,
                });
            }
            producers.plain.insert(id, Plain { epoch, seen_ms, last });
        }
        for _ in 0..from.u32()? {
            let id = from.i64()?;
            let (epoch, position, last_offset) = (from.i16()?, from.i64()?, from.i64()?);
            let seen_ms = if version >= 2 { from.i64()? } else { UNKNOWN_MS };
            producers.positioned.insert(id, Positioned { epoch, position, last_offset, seen_ms });
        }
        if version >= 2 {
            producers.retired_through = from.i64()?;
        }
        Ok(producers)
    }
}

/// A negative sequence means that the producer does not number its batches.
fn is_numbered(header: &BatchHeader) -> bool {
    header.is_sequenced() && header.base_sequence >= 0
}

fn fence(header: &BatchHeader, current: i16) -> Result<(), Refusal> {
    let (producer_id, found) = (header.producer_id, header.producer_epoch);
    if found < current {
        return Err(Refusal::ProducerFenced { producer_id, found, current });
    }
    Ok(())
}

#[cfg(test)]
#[path = "producers_tests.rs"]
mod tests;
