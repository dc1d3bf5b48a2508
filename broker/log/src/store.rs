//! The writer's surface: changes are planned in memory; [`Store::sync`] makes them durable and visible together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sunseo_proto::PartitionId;

use crate::background::Syncer;
use crate::checkpoint::Running;
use crate::config::Background;
use crate::disk::{Context as _, DirectoryLock};
use crate::entry::{Entry, FrameBuilder};
use crate::index::GrowingIndex;
use crate::journal::Journal;
use crate::partition::{Partition, Pending, is_full};
use crate::pool::SyncPool;
use crate::segment::{Files, Segment, directory_of};
use crate::state::PartitionState;
use crate::transactions::Transactions;
use crate::view::{Shared, Shown};
use crate::writer::FrameWriter;
use crate::{
    Append, LogError, Outcome, PartitionConfig, PartitionFacts, Reader, Recovered, Refusal, SharedDisk,
    StoreConfig, SyncOutcome,
};

/// The part of the headroom that is left to checkpoints alone.
const PRIVILEGED_PART: u64 = 4;

/// All partitions of a data directory. One thread owns it.
#[derive(Debug)]
pub struct Store {
    pub(crate) disk: SharedDisk,
    pub(crate) config: StoreConfig,
    pub(crate) files: Arc<Files>,
    pub(crate) journal: Journal,
    pub(crate) partitions: BTreeMap<PartitionId, Partition>,
    /// Partitions with something pending.
    pub(crate) touched: BTreeSet<PartitionId>,
    /// Deleted partitions; their directories go after the next checkpoint.
    pub(crate) doomed: BTreeSet<PartitionId>,
    /// Why nothing is accepted any more.
    pub(crate) failed: Option<Arc<str>>,
    pub(crate) pending_bytes: usize,
    /// Segments of all partitions with bytes that are not synced.
    pub(crate) dirty_segments: usize,
    /// Since the last checkpoint a partition came to have more aborted ranges in memory than it should.
    pub(crate) has_many_aborted: bool,
    /// What commits since the last report did.
    pub(crate) carried: SyncOutcome,
    /// Free bytes of the disk when last asked; not asked again before the next sync while they suffice.
    free_bytes: Option<u64>,
    /// Partitions whose appends may use the headroom.
    privileged: BTreeSet<PartitionId>,
    pub(crate) now_ms: i64,
    pub(crate) checkpointed_ms: i64,
    /// Names of partitions' directories are not synced.
    pub(crate) names_dirty: bool,
    pub(crate) was_clean: bool,
    producers_retired: u64,
    /// Shared with the thread that writes it, while it does.
    pub(crate) frame: Arc<FrameBuilder>,
    pub(crate) scratch: Vec<u8>,
    /// The checkpoint that is under way.
    pub(crate) running: Option<Running>,
    /// Why the last one came to nothing.
    pub(crate) abandoned: Option<LogError>,
    /// Partitions that ever stopped.
    pub(crate) failures: u64,
    pub(crate) writer: Option<FrameWriter>,
    pub(crate) syncer: Syncer,
    pub(crate) pool: SyncPool,
    // the last field: the directory is free when the threads have ended
    pub(crate) _lock: Box<dyn DirectoryLock>,
}

/// What [`Store::open`] puts together.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) disk: SharedDisk,
    pub(crate) config: StoreConfig,
    pub(crate) files: Arc<Files>,
    pub(crate) journal: Journal,
    pub(crate) partitions: BTreeMap<PartitionId, Partition>,
    pub(crate) was_clean: bool,
    pub(crate) lock: Box<dyn DirectoryLock>,
}

impl Store {
    /// Locks the directory, recovers what is in it and makes it durable.
    ///
    /// # Errors
    /// [`LogError::Locked`], and when the directory itself cannot be read or written. A damaged partition is no error:
    /// [`Recovered::quarantined`].
    pub fn open(
        disk: SharedDisk,
        config: StoreConfig,
        now_ms: i64,
    ) -> Result<(Self, Vec<Recovered>), LogError> {
        crate::open::open(disk, config, now_ms)
    }

    pub(crate) fn assemble(parts: Parts, now_ms: i64) -> Self {
        let Parts { disk, config, files, journal, partitions, was_clean, lock } = parts;
        let mut frame = FrameBuilder::default();
        frame.clear();
        let writer = match config.background {
            Background::Threads => FrameWriter::start().ok(),
            Background::Steps(_) => None,
        };
        let syncer = Syncer::start(disk.clone(), config.background);
        let pool = SyncPool::start(config.background);
        Self {
            disk,
            config,
            files,
            journal,
            partitions,
            touched: BTreeSet::new(),
            doomed: BTreeSet::new(),
            failed: None,
            pending_bytes: 0,
            dirty_segments: 0,
            has_many_aborted: false,
            carried: SyncOutcome::default(),
            free_bytes: None,
            privileged: BTreeSet::new(),
            now_ms,
            checkpointed_ms: now_ms,
            names_dirty: false,
            was_clean,
            producers_retired: 0,
            frame: Arc::new(frame),
            scratch: Vec::new(),
            running: None,
            abandoned: None,
            failures: 0,
            writer,
            syncer,
            pool,
            _lock: lock,
        }
    }

    /// Whether the directory was closed in order before it was opened.
    #[must_use]
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    pub(crate) fn partition(&self, id: PartitionId) -> Result<&Partition, LogError> {
        self.partitions.get(&id).ok_or(LogError::UnknownPartition(id))
    }

    /// A partition that accepts changes.
    pub(crate) fn partition_mut(&mut self, id: PartitionId) -> Result<&mut Partition, LogError> {
        let partition = self.partitions.get_mut(&id).ok_or(LogError::UnknownPartition(id))?;
        partition.alive()?;
        Ok(partition)
    }

    /// Creates a partition that begins at offset 0. Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// [`LogError::Exists`], or what the disk says.
    pub fn create(&mut self, id: PartitionId, config: PartitionConfig) -> Result<(), LogError> {
        if self.partitions.contains_key(&id) {
            return Err(LogError::Exists(id));
        }
        if let Some(reason) = &self.failed {
            return Err(LogError::Failed { id, reason: reason.clone() });
        }
        if self.doomed.contains(&id) {
            // the journal must not hold two lives of one partition
            self.checkpoint()?;
        }
        let directory = directory_of(id);
        self.disk.create_dir(&directory).context("cannot create", &directory)?;
        let active = Segment::growing(id, 0, GrowingIndex::default());
        active.create(&self.files)?;
        let state = PartitionState::new(id, config, 0);
        let shown = Shown::active(active.clone(), &state.active);
        let shared = Shared::new(id, self.files.clone(), 0, vec![shown], Transactions::default());
        let mut partition = Partition::new(state, shared, active);
        partition.created_after = Some(self.journal.last_frame());
        partition.names_dirty = true;
        partition.changed = true;
        partition.pending.push(Pending::Note(Entry::Create(config)));
        self.names_dirty = true;
        self.partitions.insert(id, partition);
        self.touched.insert(id);
        Ok(())
    }

    /// Changes the settings of a partition. Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// For an unknown or failed partition, and when what it holds cannot be made durable as the new settings ask.
    pub fn configure(&mut self, id: PartitionId, config: PartitionConfig) -> Result<(), LogError> {
        let becomes_durable = config.fsync && !self.partition_mut(id)?.state.config.fsync;
        if becomes_durable {
            // what was acknowledged from the page cache counts as durable from here on
            self.checkpoint()?;
        }
        let partition = self.partition_mut(id)?;
        partition.state.config = config;
        partition.changed = true;
        partition.pending.push(Pending::Note(Entry::Configure(config)));
        self.touched.insert(id);
        Ok(())
    }

    /// Removes a partition with its files, with the next [`Store::sync`]; what was appended to it and not synced is dropped.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn delete(&mut self, id: PartitionId) -> Result<(), LogError> {
        let partition = self.partitions.get_mut(&id).ok_or(LogError::UnknownPartition(id))?;
        self.pending_bytes -= partition.pending_bytes;
        partition.pending_bytes = 0;
        // its creation must stay before its end
        partition.pending.retain(|pending| matches!(pending, Pending::Note(Entry::Create(_))));
        partition.pending.push(Pending::Delete);
        self.touched.insert(id);
        Ok(())
    }

    /// A new leader epoch begins at the end of the log; one that is not newer changes nothing. Returns the newest epoch's first
    /// offset. Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// For an unknown or failed partition.
    pub fn begin_epoch(&mut self, id: PartitionId, leader_epoch: i32) -> Result<i64, LogError> {
        let partition = self.partition_mut(id)?;
        begin_epoch(partition, leader_epoch);
        let start = partition.state.epochs.newest().map_or(0, |(_, start)| start);
        self.touched.insert(id);
        Ok(start)
    }

    /// Appends one batch: stamps its base offset and `leader_epoch`, which begins if it is newer. In memory until the next
    /// [`Store::sync`].
    ///
    /// # Errors
    /// Why it was not appended.
    pub fn append(
        &mut self,
        id: PartitionId,
        append: Append,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Outcome, Refusal> {
        self.now_ms = self.now_ms.max(now_ms);
        let partition = self.partitions.get(&id).ok_or(Refusal::UnknownPartition(id))?;
        if let Some(reason) = partition.failed.as_ref().or(self.failed.as_ref()) {
            return Err(Refusal::Failed { id, reason: reason.clone() });
        }
        let bytes = append.bytes.len();
        debug_assert_eq!(bytes, append.header.total_bytes, "the caller has parsed these bytes");
        let limit = partition.state.config.max_batch_bytes;
        if bytes > limit {
            return Err(Refusal::BatchTooLarge { bytes, limit });
        }
        if let Some(duplicate) = partition.state.check(&append.header, append.position)? {
            return Ok(duplicate);
        }
        // an end of a transaction frees those who wait for it, and is small
        let is_privileged = self.privileged.contains(&id) || append.header.is_control();
        self.make_room(id, bytes, is_privileged)?;
        if append.position.is_some() {
            self.admit(id, append.header.producer_id, now_ms)?;
        }
        // checked above
        let partition = self.partitions.get_mut(&id).ok_or(Refusal::UnknownPartition(id))?;
        begin_epoch(partition, leader_epoch);
        let mut header = append.header;
        (header.base_offset, header.leader_epoch) = (partition.state.end(), leader_epoch);
        let at = partition.state.active.bytes;
        partition.state.push(&header, append.position, now_ms);
        let limit = self.config.producers_max;
        if partition.state.producers.plain_len() > limit {
            // an eighth at once, so that the search is rare
            partition.state.forget_producers(i64::MIN, limit - limit / 8);
        }
        partition.pending.push(Pending::Batch { header, at, bytes: append.bytes });
        partition.pending_bytes += bytes;
        partition.changed = true;
        self.pending_bytes += bytes;
        self.touched.insert(id);
        Ok(Outcome::Appended { base_offset: header.base_offset, last_offset: header.last_offset() })
    }

    /// Room in the memory of positioned producers.
    fn admit(&mut self, id: PartitionId, producer_id: i64, now_ms: i64) -> Result<(), Refusal> {
        let limit = self.config.positioned_producers_max;
        let before_ms = now_ms.saturating_sub(self.config.positioned_expiry_ms);
        let partition = self.partitions.get_mut(&id).ok_or(Refusal::UnknownPartition(id))?;
        let retired = partition.state.producers.admit(producer_id, limit, before_ms)?;
        if retired > 0 {
            tracing::warn!(partition = %id, retired, "positioned producers were let go of after a long silence");
            self.producers_retired += retired as u64;
        }
        Ok(())
    }

    /// Positioned producers that were let go of since the start.
    #[must_use]
    pub fn producers_retired(&self) -> u64 {
        self.producers_retired
    }

    /// Room for a batch, in the segment, the journal and on the disk, before anything is changed because of it.
    fn make_room(&mut self, id: PartitionId, bytes: usize, is_privileged: bool) -> Result<(), Refusal> {
        let headroom = match is_privileged {
            true => self.config.disk_headroom_bytes / PRIVILEGED_PART,
            false => self.config.disk_headroom_bytes,
        };
        let needed = headroom + (self.pending_bytes + bytes) as u64;
        if self.free_bytes.is_none_or(|free| free < needed) {
            self.free_bytes = self.disk.free_bytes().ok();
        }
        // a disk that does not say how much is free is found full by reserving
        if self.free_bytes.is_some_and(|free| free < needed) {
            return Err(Refusal::DiskFull { headroom });
        }
        let refuse = |error: LogError| match is_full(&error) {
            true => Refusal::DiskFull { headroom },
            false => Refusal::Failed { id, reason: error.to_string().into() },
        };
        let pending = (self.pending_bytes + bytes) as u64;
        let mut reserved = self.journal.reserve(pending, self.config.frame_bytes());
        if matches!(reserved, Err(LogError::JournalFull { .. })) && self.running.is_some() {
            // appends are faster than the checkpoint
            self.finish_checkpoint();
            reserved = self.journal.reserve(pending, self.config.frame_bytes());
        }
        reserved.map_err(refuse)?;
        let partition = self.partitions.get_mut(&id).ok_or(Refusal::UnknownPartition(id))?;
        if partition.must_roll(bytes) && partition.roll().map_err(refuse)? {
            self.touched.insert(id);
        }
        partition.reserve(bytes as u64).map_err(refuse)
    }

    pub(crate) fn ask_for_free_bytes_again(&mut self) {
        self.free_bytes = None;
    }

    /// Appends to this partition may use the headroom of the disk, all but a quarter of it: what frees the disk (a topic is deleted, a
    /// segment is offloaded) must still be noted when it is full. Not stored; for small internal partitions.
    pub fn use_headroom(&mut self, id: PartitionId) {
        self.privileged.insert(id);
    }

    /// Bytes appended since the last sync.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether a sync has anything to do.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.touched.is_empty() || self.carried != SyncOutcome::default()
    }

    /// A handle for readers of a partition.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn reader(&self, id: PartitionId) -> Result<Reader, LogError> {
        Ok(Reader { shared: self.partition(id)?.shared.clone() })
    }

    /// The last position of a positioned producer, appended but perhaps not yet durable.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn last_position(&self, id: PartitionId, producer_id: i64) -> Result<Option<i64>, LogError> {
        Ok(self.partition(id)?.state.producers.last_position(producer_id))
    }

    /// Leader epochs with their first offsets, oldest first.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn epochs(&self, id: PartitionId) -> Result<Vec<(i32, i64)>, LogError> {
        Ok(self.partition(id)?.state.epochs.entries().to_vec())
    }

    /// What is known of a partition.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn facts(&self, id: PartitionId) -> Result<PartitionFacts, LogError> {
        let mut facts = self.partition(id)?.facts();
        facts.failed = facts.failed.or_else(|| self.failed.clone());
        Ok(facts)
    }

    /// Every partition, in the order of their ids.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.partitions.keys().copied().collect()
    }

    /// The disk it works on, for the caller's own small files ([`crate::sealed`]).
    #[must_use]
    pub fn disk(&self) -> &SharedDisk {
        &self.disk
    }

    /// Syncs, writes a checkpoint and the clean marker, and releases the directory. The marker is left out when a partition failed.
    ///
    /// # Errors
    /// When the checkpoint could not be written; the next start then recovers as after a crash.
    pub fn close(mut self) -> Result<SyncOutcome, LogError> {
        let outcome = self.sync();
        self.checkpoint()?;
        if !self.partitions.values().any(crate::checkpoint::is_failed) {
            crate::checkpoint::write_clean_marker(self.disk.as_ref())?;
        }
        Ok(outcome)
    }
}

fn begin_epoch(partition: &mut Partition, epoch: i32) {
    let start = partition.state.end();
    if partition.state.epochs.begin(epoch, start) {
        partition.pending.push(Pending::Note(Entry::Epoch { epoch, start }));
        partition.changed = true;
    }
}
