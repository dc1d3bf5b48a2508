//! The writer's surface.

use bytes::Bytes;
use sunseo_proto::PartitionId;

use crate::{
    Append, LogError, Outcome, PartitionConfig, PartitionFacts, Reader, Recovered, Refusal, RestoredSegment,
    SealedFacts, SharedDisk, StoreConfig, SyncOutcome,
};

/// All partitions of a data directory. One thread owns it.
#[derive(Debug)]
pub struct Store {
    disk: SharedDisk,
}

impl Store {
    /// Locks the directory, recovers what is in it and makes it durable.
    ///
    /// # Errors
    /// [`LogError::Locked`], and when the directory itself cannot be read. A damaged partition is no error: [`Recovered::quarantined`].
    pub fn open(
        disk: SharedDisk,
        config: StoreConfig,
        now_ms: i64,
    ) -> Result<(Self, Vec<Recovered>), LogError> {
        let _ = (config, now_ms);
        Ok((Self { disk }, Vec::new()))
    }

    /// Creates a partition that begins at offset 0. Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// [`LogError::Exists`], or what the disk says.
    pub fn create(&mut self, id: PartitionId, config: PartitionConfig) -> Result<(), LogError> {
        let _ = config;
        Err(LogError::UnknownPartition(id))
    }

    /// Changes the settings of a partition. Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// For an unknown or failed partition.
    pub fn configure(&mut self, id: PartitionId, config: PartitionConfig) -> Result<(), LogError> {
        let _ = config;
        Err(LogError::UnknownPartition(id))
    }

    /// Removes a partition with its files, with the next [`Store::sync`]; what was appended to it and not synced is dropped.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn delete(&mut self, id: PartitionId) -> Result<(), LogError> {
        Err(LogError::UnknownPartition(id))
    }

    /// A new leader epoch begins at the end of the log; one that is not newer changes nothing. Returns the epoch's first offset.
    /// Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// For an unknown or failed partition.
    pub fn begin_epoch(&mut self, id: PartitionId, leader_epoch: i32) -> Result<i64, LogError> {
        let _ = leader_epoch;
        Err(LogError::UnknownPartition(id))
    }

    /// Appends one batch: stamps its base offset and `leader_epoch`. In memory until the next [`Store::sync`].
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
        let _ = (append, leader_epoch, now_ms);
        Err(Refusal::UnknownPartition(id))
    }

    /// Bytes appended since the last sync.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        0
    }

    /// One group commit: makes everything durable that was done since the last one, and shows it to readers.
    pub fn sync(&mut self) -> SyncOutcome {
        SyncOutcome::default()
    }

    /// Sealed segments, oldest first.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn sealed(&self, id: PartitionId) -> Result<Vec<SealedFacts>, LogError> {
        Err(LogError::UnknownPartition(id))
    }

    /// Closes the active segment if it holds records, syncing before. Includes a [`Store::sync`] whose outcome is returned.
    ///
    /// # Errors
    /// For an unknown or failed partition.
    pub fn seal(&mut self, id: PartitionId) -> Result<SyncOutcome, LogError> {
        Err(LogError::UnknownPartition(id))
    }

    /// The record batches of the sealed segment that begins at `base_offset`, mapped.
    ///
    /// # Errors
    /// For an unknown partition or segment.
    pub fn segment_data(&self, id: PartitionId, base_offset: i64) -> Result<Bytes, LogError> {
        let _ = base_offset;
        Err(LogError::UnknownPartition(id))
    }

    /// Removes sealed segments that end at or below `before_offset`; the log start stays. Returns how many.
    ///
    /// # Errors
    /// For an unknown or failed partition.
    pub fn evict_local(&mut self, id: PartitionId, before_offset: i64) -> Result<u32, LogError> {
        let _ = before_offset;
        Err(LogError::UnknownPartition(id))
    }

    /// Raises the log start, at most to the durable end, and removes the segments below it; lower than it is, is success and changes
    /// nothing.
    ///
    /// # Errors
    /// For an unknown or failed partition, and above the durable end.
    pub fn set_log_start(&mut self, id: PartitionId, offset: i64) -> Result<(), LogError> {
        let _ = offset;
        Err(LogError::UnknownPartition(id))
    }

    /// Puts a sealed segment back that ends exactly at the local start; one that is there already is success.
    ///
    /// # Errors
    /// When it does not fit, or what the disk says.
    pub fn restore_segment(&mut self, id: PartitionId, restored: &RestoredSegment) -> Result<(), LogError> {
        let _ = restored;
        Err(LogError::UnknownPartition(id))
    }

    /// Roll by age, retention, forgetting of silent producers, checkpoint when due. Returns what a sync in it did.
    pub fn maintain(&mut self, now_ms: i64) -> SyncOutcome {
        let _ = now_ms;
        SyncOutcome::default()
    }

    /// A handle for readers of a partition.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn reader(&self, id: PartitionId) -> Result<Reader, LogError> {
        Err(LogError::UnknownPartition(id))
    }

    /// The last position of a positioned producer, appended but perhaps not yet durable.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn last_position(&self, id: PartitionId, producer_id: i64) -> Result<Option<i64>, LogError> {
        let _ = producer_id;
        Err(LogError::UnknownPartition(id))
    }

    /// Leader epochs with their first offsets, oldest first.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn epochs(&self, id: PartitionId) -> Result<Vec<(i32, i64)>, LogError> {
        Err(LogError::UnknownPartition(id))
    }

    /// What is known of a partition.
    ///
    /// # Errors
    /// For an unknown partition.
    pub fn facts(&self, id: PartitionId) -> Result<PartitionFacts, LogError> {
        Err(LogError::UnknownPartition(id))
    }

    /// Every partition, in the order of their ids.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionId> {
        Vec::new()
    }

    /// The disk it works on, for the caller's own small files ([`crate::sealed`]).
    #[must_use]
    pub fn disk(&self) -> &SharedDisk {
        &self.disk
    }

    /// Syncs, writes a checkpoint and the clean marker, and releases the directory.
    ///
    /// # Errors
    /// When the checkpoint could not be written; the next start then recovers as after a crash.
    pub fn close(self) -> Result<(), LogError> {
        Ok(())
    }
}
