//! Log compaction: of each key only the newest record stays.
//!
//! - `plan`: which segments, when, in which groups. `filter`: what stays of a batch. `map`: the newest offset of each key. All pure.
//! - [`CleanJob`]: reads sealed segments and writes new ones, a step at a time, on any thread. It holds what it reads, and changes
//!   nothing that anybody sees.
//! - `switch`: on the log's thread, puts a finished segment in the place of the old ones, with one entry of the journal.
//!
//! Invariants: offsets never change and records never change their order. Ranges of offsets stay contiguous: where batches went stands
//! one empty batch ([`sunseo_proto::batch::gap`]), so every walk through a segment still finds a missing batch. Of every
//! producer the last batch stays, if need be without records. A new segment and its name are on the disk before the journal
//! names it; the old ones go after a checkpoint. Segments are switched oldest first, so that a tombstone never leaves before what
//! it covers. A record without a key stays.
//!
//! Not here: which partition is next, how fast, and up to which offset transactions are decided: the caller says.

mod filter;
mod job;
mod map;
mod plan;
pub(crate) mod switch;
mod write;

use bytes::BufMut as _;
use sunseo_proto::envelope::EnvelopeError;

pub use job::{CleanJob, CleanStep, Finished};
pub use plan::Dirt;
pub use write::Replacement;

use crate::codec::Decoder;

/// Which data of transactions was aborted. Asked only for batches below the caller's limit, where every transaction is decided.
pub trait AbortedData: std::fmt::Debug + Send + Sync {
    /// Whether the batch of this producer at this offset belongs to a transaction that was aborted.
    fn is_aborted(&self, producer_id: i64, base_offset: i64) -> bool;
}

/// No transaction was aborted.
#[derive(Clone, Copy, Debug)]
pub struct NothingAborted;

impl AbortedData for NothingAborted {
    fn is_aborted(&self, _producer_id: i64, _base_offset: i64) -> bool {
        false
    }
}

/// How far the cleaner has come in a partition; stored with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Below it there is one record of each key.
    pub through: i64,
    /// When a run ended last, 0 for never.
    pub at_ms: i64,
    /// When the next tombstones or markers below `through` may go.
    pub horizon_ms: Option<i64>,
    /// Runs so far.
    pub runs: u64,
    /// Bytes that they removed.
    pub removed_bytes: u64,
}

impl Cleaned {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_i64(self.through);
        out.put_i64(self.at_ms);
        out.put_i64(self.horizon_ms.unwrap_or(-1));
        out.put_u64(self.runs);
        out.put_u64(self.removed_bytes);
    }

    pub(crate) fn decode(from: &mut Decoder) -> Result<Self, EnvelopeError> {
        Ok(Self {
            through: from.i64()?,
            at_ms: from.i64()?,
            horizon_ms: Some(from.i64()?).filter(|ms| *ms >= 0),
            runs: from.u64()?,
            removed_bytes: from.u64()?,
        })
    }
}
