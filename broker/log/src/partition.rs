//! The writer's side of one partition: what was appended, what of it waits for the next sync, what must be synced at the checkpoint.
//!
//! Invariants: `state` is ahead of what is durable by exactly `pending`; room for `pending` is reserved in its segments; a partition
//! that failed changes no more.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::PartitionId;
use sunseo_proto::batch::BatchHeader;

use crate::LogError;
use crate::background::Task;
use crate::disk::Context as _;
use crate::entry::Entry;
use crate::index::GrowingIndex;
use crate::segment::{Files, Segment};
use crate::state::PartitionState;
use crate::view::{Shared, Shown};
use crate::{PartitionFacts, SealedFacts};

/// Room is reserved in steps from this on, each as large as what is there, up to the largest step.
const RESERVE_BYTES_MIN: u64 = 64 << 10;
const RESERVE_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a partition without fsync after which its segment is synced in the background, so that sealing it does not wait for all of it.
const SYNC_AHEAD_BYTES: usize = 4 << 20;

/// What the next sync does for a partition, in order.
#[derive(Debug)]
pub(crate) enum Pending {
    Batch {
        header: BatchHeader,
        at: u64,
        bytes: Bytes,
    },
    /// The active segment is closed; the next one is there.
    Seal {
        facts: SealedFacts,
        next: Arc<Segment>,
    },
    /// Segments below an offset go, because the log begins later or because the object store has them.
    Drop {
        entry: Entry,
        log_start: i64,
        bases: Vec<i64>,
    },
    Restore(SealedFacts),
    /// A cleaned segment takes the place of those from `from` to `to`.
    Replace {
        from: i64,
        to: i64,
        by: SealedFacts,
    },
    /// An entry that readers do not see.
    Note(Entry),
    Delete,
}

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) state: PartitionState,
    pub(crate) shared: Arc<Shared>,
    /// The segment that is appended to, in `state`.
    pub(crate) active: Arc<Segment>,
    /// Bytes reserved for it.
    reserved: u64,
    pub(crate) pending: Vec<Pending>,
    pub(crate) pending_bytes: usize,
    pub(crate) failed: Option<Arc<str>>,
    /// Segments with bytes that are not synced.
    pub(crate) dirty: Vec<Arc<Segment>>,
    /// Sealed segments whose whole index is not on the disk.
    pub(crate) unindexed: Vec<Arc<Segment>>,
    /// Bytes that were written without a sync to follow, since the last one that was begun ahead of a checkpoint.
    pub(crate) lazy_bytes: usize,
    /// Such a sync is under way.
    pub(crate) is_synced_ahead: bool,
    /// Names in the directory are not synced.
    pub(crate) names_dirty: bool,
    /// A checkpoint that is under way syncs them; until then they are not.
    pub(crate) names_syncing: bool,
    /// Changed since the last checkpoint.
    pub(crate) changed: bool,
    /// The frame before the one that created it, while no checkpoint has it.
    pub(crate) created_after: Option<u64>,
    /// Segments that are out of sight; their files go after the next checkpoint.
    pub(crate) doomed: VecDeque<Arc<Segment>>,
    /// The newest generation that a cleaner has begun to write.
    pub(crate) generation: u32,
}

impl Partition {
    pub(crate) fn new(state: PartitionState, shared: Arc<Shared>, active: Arc<Segment>) -> Self {
        let generation = state.sealed.iter().map(|facts| facts.generation).max().unwrap_or(0);
        Self {
            reserved: state.active.bytes,
            generation,
            state,
            shared,
            active,
            pending: Vec::new(),
            pending_bytes: 0,
            failed: None,
            dirty: Vec::new(),
            unindexed: Vec::new(),
            lazy_bytes: 0,
            is_synced_ahead: false,
            names_dirty: false,
            names_syncing: false,
            changed: false,
            created_after: None,
            doomed: VecDeque::new(),
        }
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.state.id
    }

    pub(crate) fn files(&self) -> &Files {
        &self.shared.files
    }

    /// An error when it accepts no changes.
    pub(crate) fn alive(&self) -> Result<(), LogError> {
        match &self.failed {
            None => Ok(()),
            Some(reason) => Err(LogError::Failed { id: self.id(), reason: reason.clone() }),
        }
    }

    /// Stops it: what waits has an unknown outcome. Returns whether it went on until now.
    pub(crate) fn fail(&mut self, reason: &Arc<str>) -> bool {
        self.pending.clear();
        self.pending_bytes = 0;
        if self.failed.is_some() {
            return false;
        }
        tracing::error!(partition = %self.id(), %reason, "partition accepts no more records");
        self.failed = Some(reason.clone());
        true
    }

    /// Whether `bytes` more ask for a new segment.
    pub(crate) fn must_roll(&self, bytes: usize) -> bool {
        let active = &self.state.active;
        active.bytes > 0 && active.bytes + bytes as u64 > self.state.config.segment_bytes
    }

    /// Reserves room for `bytes` more in the active segment.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        let wanted = self.state.active.bytes + bytes;
        if wanted <= self.reserved {
            return Ok(());
        }
        let step = self.reserved.clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX);
        let generous = (self.reserved + step).min(self.state.config.segment_bytes).max(wanted);
        let path = &self.active.path;
        let file = self.active.file(self.files()).context("cannot open", path)?;
        file.preallocate(generous).context("cannot reserve room in", path)?;
        self.reserved = generous;
        Ok(())
    }

    /// Plans to close the active segment if it holds records. The next one's file is there afterwards.
    pub(crate) fn roll(&mut self) -> Result<bool, LogError> {
        if self.state.active.bytes == 0 {
            return Ok(false);
        }
        let next = Segment::growing(self.id(), self.state.end(), GrowingIndex::default());
        next.create(self.files())?;
        self.names_dirty = true;
        if let Some(facts) = self.state.seal() {
            self.pending.push(Pending::Seal { facts, next: next.clone() });
        }
        self.active = next;
        self.reserved = 0;
        self.changed = true;
        Ok(true)
    }

    /// Plans the end of segments that `state` has already let go.
    pub(crate) fn drop_segments(&mut self, entry: Entry, bases: Vec<i64>) {
        let log_start = self.state.log_start;
        self.pending.push(Pending::Drop { entry, log_start, bases });
        self.changed = true;
    }

    /// Marks a segment as written and not synced. Before the write, so that its handle stays open.
    pub(crate) fn mark_dirty(&mut self, segment: &Arc<Segment>) {
        self.changed = true;
        if !segment.is_dirty() {
            segment.set_dirty(true);
            self.dirty.push(segment.clone());
        }
    }

    /// Makes one segment durable.
    pub(crate) fn sync_segment(&mut self, segment: &Arc<Segment>) -> Result<(), LogError> {
        let file = segment.file(self.files()).context("cannot open", &segment.path)?;
        file.sync_data().context("cannot sync", &segment.path)?;
        self.mark_synced(segment);
        Ok(())
    }

    pub(crate) fn mark_synced(&mut self, segment: &Arc<Segment>) {
        segment.set_dirty(false);
        self.dirty.retain(|dirty| !Arc::ptr_eq(dirty, segment));
    }

    /// What syncs the active segment ahead of its sealing, when enough was written to it.
    pub(crate) fn sync_ahead(&mut self, written: usize) -> Option<Task> {
        self.lazy_bytes += written;
        if self.is_synced_ahead || self.lazy_bytes < SYNC_AHEAD_BYTES || !self.active.is_dirty() {
            return None;
        }
        let written = self.active.file(self.files()).ok()?;
        (self.lazy_bytes, self.is_synced_ahead) = (0, true);
        Some(Task::Ahead { id: self.id(), segment: self.active.clone(), _written: written })
    }

    /// The sealed segment of readers' sight that begins at `base`.
    pub(crate) fn shown_sealed(&self, base: i64) -> Option<Shown> {
        let view = self.shared.look();
        view.segments.iter().find(|shown| shown.sealed && shown.segment.base == base).cloned()
    }

    pub(crate) fn facts(&self) -> PartitionFacts {
        let view = self.shared.look();
        PartitionFacts {
            config: self.state.config,
            log_start: view.log_start,
            local_start: view.local_start(),
            end: self.state.end(),
            durable_end: view.end(),
            last_stable: view.last_stable(),
            bytes: view.segments.iter().map(|shown| shown.bytes).sum(),
            segments: view.segments.len(),
            leader_epoch: self.state.epochs.newest(),
            failed: self.failed.clone(),
            cleaned: self.state.cleaned,
        }
    }
}

/// Whether an error says that the disk is full.
pub(crate) fn is_full(error: &LogError) -> bool {
    match error {
        LogError::DiskFull => true,
        LogError::Io { error, .. } => matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero
        ),
        _ => false,
    }
}
