//! What must be done from time to time: roll by age or because of a trim, retention, forgetting, checkpoints.

use sunseo_proto::PartitionId;

use crate::{LogError, Store, SyncOutcome, retention};

/// An active segment that begins below the log start is sealed when it holds as much, so that what was trimmed leaves the disk with it, and no
/// sooner, so that trimming often does not make many small files.
const TRIMMED_SEGMENT_BYTES_MIN: u64 = 64 << 10;

impl Store {
    /// Roll by age or because of a trim, retention, forgetting of silent producers, checkpoint when due. Returns what a sync in it did.
    pub fn maintain(&mut self, now_ms: i64) -> SyncOutcome {
        self.now_ms = self.now_ms.max(now_ms);
        for id in self.partitions() {
            if let Err(error) = self.maintain_partition(id, now_ms)
                && !matches!(error, LogError::Failed { .. })
            {
                tracing::warn!(partition = %id, %error, "maintenance was left out");
            }
        }
        self.commit();
        self.poll_checkpoint();
        if self.failed.is_none() && self.is_checkpoint_due(now_ms) {
            self.try_checkpoint();
        }
        self.take_outcome()
    }

    fn maintain_partition(&mut self, id: PartitionId, now_ms: i64) -> Result<(), LogError> {
        let (expiry_ms, limit) = (self.config.producer_expiry_ms, self.config.producers_max);
        let partition = self.partition_mut(id)?;
        partition.state.forget_producers(now_ms.saturating_sub(expiry_ms), limit);
        let active = &partition.state.active;
        let is_old =
            active.bytes > 0 && now_ms.saturating_sub(active.opened_ms) >= partition.state.config.segment_ms;
        let is_trimmed = active.bytes >= TRIMMED_SEGMENT_BYTES_MIN && active.base < partition.state.log_start;
        if is_old || is_trimmed {
            self.seal(id)?;
        }
        let durable_end = self.partition(id)?.shared.look().end();
        let state = &self.partition(id)?.state;
        let planned = retention::plan(&state.config, &state.sealed, state.active.bytes, now_ms);
        if let Some(log_start) = planned.filter(|log_start| *log_start <= durable_end) {
            self.set_log_start(id, log_start)?;
        }
        Ok(())
    }

    fn is_checkpoint_due(&self, now_ms: i64) -> bool {
        let has_doomed = !self.doomed.is_empty()
            || self
                .partitions
                .values()
                .any(|partition| !partition.doomed.is_empty() && partition.failed.is_none());
        let is_old = now_ms.saturating_sub(self.checkpointed_ms) >= self.config.checkpoint_interval_ms;
        let has_changed = || self.partitions.values().any(|p| p.changed && p.failed.is_none());
        // files of removed segments give their room back only after a checkpoint
        has_doomed
            || self.journal.bytes_since_checkpoint() >= self.config.checkpoint_journal_bytes
            || (is_old && has_changed())
    }
}
