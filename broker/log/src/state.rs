//! What is stored of one partition: a fold over its journal entries and batches, and a section of the checkpoint. Pure.
//!
//! Invariants: sealed segments and the active one are contiguous in offsets; `frame` names the last journal frame that is folded in.

use bytes::{BufMut as _, Bytes};
use sunseo_proto::PartitionId;
use sunseo_proto::batch::BatchHeader;
use sunseo_proto::envelope::EnvelopeError;
use sunseo_proto::position::PositionRange;

use crate::clean::Cleaned;
use crate::codec::{Decoder, put_partition, put_text};
use crate::epochs::Epochs;
use crate::producers::Producers;
use crate::transactions::{Standing, Transactions};
use crate::{Compaction, Outcome, PartitionConfig, Refusal, SealedFacts};

/// Version of what is stored: 2 has settings of compaction, generations of segments, how far the cleaner has come, and
/// transactions.
pub(crate) const VERSION: u8 = 2;

/// The segment that is appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) base: i64,
    pub(crate) bytes: u64,
    pub(crate) end: i64,
    pub(crate) max_timestamp_ms: i64,
    /// When it got its first batch.
    pub(crate) opened_ms: i64,
}

impl Active {
    pub(crate) fn empty(base: i64) -> Self {
        Self { base, bytes: 0, end: base, max_timestamp_ms: i64::MIN, opened_ms: 0 }
    }

    pub(crate) fn facts(&self) -> SealedFacts {
        SealedFacts {
            base_offset: self.base,
            end_offset: self.end,
            bytes: self.bytes,
            max_timestamp_ms: self.max_timestamp_ms,
            generation: 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionState {
    pub(crate) id: PartitionId,
    pub(crate) config: PartitionConfig,
    pub(crate) log_start: i64,
    pub(crate) epochs: Epochs,
    pub(crate) producers: Producers,
    pub(crate) transactions: Transactions,
    /// Oldest first.
    pub(crate) sealed: Vec<SealedFacts>,
    pub(crate) active: Active,
    pub(crate) cleaned: Cleaned,
    pub(crate) frame: u64,
    /// Why it was quarantined by an earlier recovery.
    pub(crate) quarantined: Option<String>,
}

impl PartitionState {
    pub(crate) fn new(id: PartitionId, config: PartitionConfig, frame: u64) -> Self {
        Self {
            id,
            config,
            log_start: 0,
            epochs: Epochs::default(),
            producers: Producers::default(),
            transactions: Transactions::default(),
            sealed: Vec::new(),
            active: Active::empty(0),
            cleaned: Cleaned::default(),
            frame,
            quarantined: None,
        }
    }

    pub(crate) fn end(&self) -> i64 {
        self.active.end
    }

    pub(crate) fn local_start(&self) -> i64 {
        self.sealed.first().map_or(self.active.base, |first| first.base_offset)
    }

    /// Adds a batch at the end; `header` has its base offset.
    pub(crate) fn push(&mut self, header: &BatchHeader, position: Option<PositionRange>, now_ms: i64) {
        debug_assert_eq!(header.base_offset, self.active.end, "offsets are dense");
        if self.active.bytes == 0 {
            self.active.opened_ms = now_ms;
        }
        self.active.bytes += header.total_bytes as u64;
        self.active.end = header.next_offset();
        self.active.max_timestamp_ms = self.active.max_timestamp_ms.max(header.max_timestamp);
        self.producers.record(header, position, now_ms);
        self.transactions.record(header);
    }

    /// What the batch is to this partition: `None` when it is news.
    pub(crate) fn check(
        &self,
        header: &BatchHeader,
        position: Option<PositionRange>,
    ) -> Result<Option<Outcome>, Refusal> {
        if !header.is_control()
            && let Some(duplicate) = self.producers.check(header, position)?
        {
            return Ok(Some(duplicate));
        }
        Ok(match self.transactions.check(header)? {
            Standing::News => None,
            // what it would say is said by what is here, which must be durable before it is acknowledged
            Standing::Ended => Some(Outcome::Duplicate { base_offset: -1, last_offset: self.end() - 1 }),
        })
    }

    /// Forgets silent producers, except those that have a transaction open.
    pub(crate) fn forget_producers(&mut self, before_ms: i64, limit: usize) {
        let Self { producers, transactions, .. } = self;
        producers.forget(before_ms, limit, |producer_id| transactions.is_open(producer_id));
    }

    /// Closes the active segment; `None` when it is empty.
    pub(crate) fn seal(&mut self) -> Option<SealedFacts> {
        if self.active.bytes == 0 {
            return None;
        }
        let facts = self.active.facts();
        self.sealed.push(facts);
        self.active = Active::empty(self.active.end);
        Some(facts)
    }

    /// Drops sealed segments that end at or below an offset; returns their bases.
    pub(crate) fn evict(&mut self, before: i64) -> Vec<i64> {
        let count = self.sealed.iter().take_while(|segment| segment.end_offset <= before).count();
        self.sealed.drain(..count).map(|segment| segment.base_offset).collect()
    }

    /// Raises the log start; returns the bases of the segments that went.
    pub(crate) fn set_log_start(&mut self, offset: i64) -> Vec<i64> {
        self.log_start = self.log_start.max(offset);
        self.epochs.trim_below(self.log_start);
        self.transactions.trim_below(self.log_start);
        self.evict(self.log_start)
    }

    /// Goes on without records where the log begins, when less than that is left of them. Returns whether that was so.
    pub(crate) fn skip_to_log_start(&mut self) -> bool {
        let is_behind = self.end() < self.log_start;
        if is_behind {
            self.active = Active::empty(self.log_start);
            self.set_log_start(self.log_start);
        }
        is_behind
    }

    /// Puts cleaned segments in the place of those from `from` to `to`; `None` when that is not where segments begin and end.
    pub(crate) fn replace(&mut self, from: i64, to: i64, by: &[SealedFacts]) -> Option<Vec<SealedFacts>> {
        let first = self.sealed.iter().position(|facts| facts.base_offset == from)?;
        let count = self.sealed[first..].iter().position(|facts| facts.end_offset == to)? + 1;
        Some(self.sealed.splice(first..first + count, by.iter().copied()).collect())
    }

    /// Puts a segment before the first one.
    pub(crate) fn restore(&mut self, facts: SealedFacts) {
        debug_assert_eq!(facts.end_offset, self.local_start(), "segments are contiguous");
        self.sealed.insert(0, facts);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        put_partition(&mut out, self.id);
        encode_config(&self.config, &mut out);
        out.put_i64(self.log_start);
        out.put_u64(self.frame);
        out.put_u8(u8::from(self.quarantined.is_some()));
        put_text(&mut out, self.quarantined.as_deref().unwrap_or_default());
        encode_segment(&self.active.facts(), &mut out);
        out.put_i64(self.active.opened_ms);
        out.put_u32(self.sealed.len() as u32);
        self.sealed.iter().for_each(|segment| encode_segment(segment, &mut out));
        self.epochs.encode(&mut out);
        self.producers.encode(&mut out);
        self.cleaned.encode(&mut out);
        self.transactions.encode(&mut out);
        out
    }

    pub(crate) fn decode(payload: Bytes, version: u8) -> Result<Self, EnvelopeError> {
        let from = &mut Decoder::new(payload);
        let id = from.partition()?;
        let config = decode_config(from, version)?;
        let (log_start, frame) = (from.i64()?, from.u64()?);
        let (is_quarantined, reason) = (from.bool()?, from.text()?);
        let active = decode_segment(from, version)?;
        let active = Active {
            base: active.base_offset,
            bytes: active.bytes,
            end: active.end_offset,
            max_timestamp_ms: active.max_timestamp_ms,
            opened_ms: from.i64()?,
        };
        let sealed = (0..from.u32()?).map(|_| decode_segment(from, version)).collect::<Result<_, _>>()?;
        let (epochs, producers) = (Epochs::decode(from)?, Producers::decode(from, version)?);
        let cleaned = if version >= 2 { Cleaned::decode(from)? } else { Cleaned::default() };
        // written before there were transactions
        let transactions = match from.is_empty() {
            true => Transactions::default(),
            false => Transactions::decode(from)?,
        };
        if !from.is_empty() {
            return Err(EnvelopeError::Payload("bytes follow the partition's state".into()));
        }
        let quarantined = is_quarantined.then_some(reason);
        Ok(Self {
            id,
            config,
            log_start,
            epochs,
            producers,
            transactions,
            sealed,
            active,
            cleaned,
            frame,
            quarantined,
        })
    }
}

pub(crate) fn encode_segment(facts: &SealedFacts, out: &mut Vec<u8>) {
    out.put_i64(facts.base_offset);
    out.put_i64(facts.end_offset);
    out.put_u64(facts.bytes);
    out.put_i64(facts.max_timestamp_ms);
    out.put_u32(facts.generation);
}

pub(crate) fn decode_segment(from: &mut Decoder, version: u8) -> Result<SealedFacts, EnvelopeError> {
    Ok(SealedFacts {
        base_offset: from.i64()?,
        end_offset: from.i64()?,
        bytes: from.u64()?,
        max_timestamp_ms: from.i64()?,
        generation: if version >= 2 { from.u32()? } else { 0 },
    })
}

/// "Without limit" is -1.
pub(crate) fn encode_config(config: &PartitionConfig, out: &mut Vec<u8>) {
    let limit = |value: Option<u64>| value.map_or(-1, |v| i64::try_from(v).unwrap_or(i64::MAX));
    out.put_u64(config.segment_bytes);
    out.put_i64(config.segment_ms);
    out.put_i64(config.retention_ms.map_or(-1, |ms| ms.max(0)));
    out.put_i64(limit(config.retention_bytes));
    out.put_u64(config.max_batch_bytes as u64);
    out.put_u8(u8::from(config.fsync));
    out.put_u8(u8::from(config.own_retention));
    out.put_u8(u8::from(config.compaction.is_some()));
    if let Some(compaction) = &config.compaction {
        out.put_i64(compaction.delete_retention_ms);
        out.put_i64(compaction.min_lag_ms);
        out.put_u32(compaction.min_dirty_permille);
    }
}

pub(crate) fn decode_config(from: &mut Decoder, version: u8) -> Result<PartitionConfig, EnvelopeError> {
    Ok(PartitionConfig {
        segment_bytes: from.u64()?,
        segment_ms: from.i64()?,
        retention_ms: Some(from.i64()?).filter(|ms| *ms >= 0),
        retention_bytes: u64::try_from(from.i64()?).ok(),
        max_batch_bytes: usize::try_from(from.u64()?).unwrap_or(usize::MAX),
        fsync: from.bool()?,
        own_retention: from.bool()?,
        compaction: match version >= 2 && from.bool()? {
            true => Some(decode_compaction(from)?),
            false => None,
        },
    })
}

fn decode_compaction(from: &mut Decoder) -> Result<Compaction, EnvelopeError> {
    Ok(Compaction {
        delete_retention_ms: from.i64()?,
        min_lag_ms: from.i64()?,
        min_dirty_permille: from.u32()?,
    })
}
