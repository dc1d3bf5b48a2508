//! What readers of a partition see: the segments and how far they are durable. The writer changes it, readers take a look.
//!
//! Invariants: nothing above `end` is durable or shown; the lock is held for a look or a change, never for IO.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sunseo_proto::PartitionId;

use crate::SealedFacts;
use crate::segment::{Files, Segment};
use crate::state::Active;
use crate::transactions::Transactions;

/// A segment and its durable part.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) segment: Arc<Segment>,
    pub(crate) end: i64,
    pub(crate) bytes: u64,
    pub(crate) max_timestamp_ms: i64,
    pub(crate) sealed: bool,
}

impl Shown {
    pub(crate) fn facts(&self) -> SealedFacts {
        SealedFacts {
            base_offset: self.segment.base,
            end_offset: self.end,
            bytes: self.bytes,
            max_timestamp_ms: self.max_timestamp_ms,
            generation: self.segment.generation,
        }
    }

    pub(crate) fn sealed(segment: Arc<Segment>, facts: &SealedFacts) -> Self {
        let SealedFacts { end_offset: end, bytes, max_timestamp_ms, .. } = *facts;
        Self { segment, end, bytes, max_timestamp_ms, sealed: true }
    }

    pub(crate) fn active(segment: Arc<Segment>, active: &Active) -> Self {
        let Active { end, bytes, max_timestamp_ms, .. } = *active;
        Self { segment, end, bytes, max_timestamp_ms, sealed: false }
    }
}

#[derive(Debug)]
pub(crate) struct View {
    pub(crate) log_start: i64,
    /// Oldest first, contiguous; the last one is the active one. Never empty.
    pub(crate) segments: Vec<Shown>,
    pub(crate) deleted: bool,
    /// Of what is shown.
    pub(crate) transactions: Transactions,
}

impl View {
    pub(crate) fn local_start(&self) -> i64 {
        self.segments.first().map_or(0, |first| first.segment.base)
    }

    pub(crate) fn end(&self) -> i64 {
        self.segments.last().map_or(0, |last| last.end)
    }

    /// Readers of committed records see what is below.
    pub(crate) fn last_stable(&self) -> i64 {
        let end = self.end();
        self.transactions.first_undecided().map_or(end, |first| first.min(end))
    }

    /// The segment that holds `offset`, or the last one for the end.
    pub(crate) fn holder(&self, offset: i64) -> Option<&Shown> {
        let after = self.segments.partition_point(|shown| shown.segment.base <= offset);
        self.segments.get(after.checked_sub(1)?)
    }
}

/// One partition, between its writer and its readers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: PartitionId,
    pub(crate) files: Arc<Files>,
    view: RwLock<View>,
}

impl Shared {
    pub(crate) fn new(
        id: PartitionId,
        files: Arc<Files>,
        log_start: i64,
        segments: Vec<Shown>,
        transactions: Transactions,
    ) -> Arc<Self> {
        debug_assert!(!segments.is_empty(), "there is always an active segment");
        let view = View { log_start, segments, deleted: false, transactions };
        Arc::new(Self { id, files, view: RwLock::new(view) })
    }

    pub(crate) fn look(&self) -> RwLockReadGuard<'_, View> {
        // a change is one assignment after the other, none of which panics
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }
}
