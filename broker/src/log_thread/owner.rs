//! The state of the log's thread.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use sunseo_log::{
    LogError, PartitionConfig, PartitionFacts, Recovered, SharedDisk, Store, SyncFailure, SyncOutcome,
};
use sunseo_proto::PartitionId;
use sunseo_proto::batch::{BatchHeader, NO_PRODUCER};
use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, ErrorCode, Result};
use tokio::sync::oneshot;

use crate::api::check::CheckedBatch;
use crate::gate::Permit;
use crate::internal::PartitionSettings;
use crate::metadata::internal_topics::SYSTEM_TOPICS;
use crate::partition::{Append, Appended, Done, Outcome, Owned, Partition, Refused, Request, Slot};
use crate::registry::Partitions;
use crate::txn::Registry;

/// Runs after a sync, with what failed in it.
type AfterSync = Box<dyn FnOnce(&[SyncFailure]) + Send>;

/// The newest epoch of a producer with a name, by its id.
pub(crate) type ProducerEpochs = Arc<dyn Fn(i64) -> Option<i16> + Send + Sync>;

/// Everything that only the log's thread touches.
pub(crate) struct Owner {
    node_id: i32,
    store: Store,
    /// On the disk and not asked for yet.
    recovered: HashMap<PartitionId, Recovered>,
    owned: HashMap<PartitionId, Owned>,
    partitions: Arc<Partitions>,
    clock: Arc<dyn Clock>,
    /// Epoch of everything this node leads; 0 before the metadata gave one.
    leader_epoch: i32,
    producer_epochs: Option<ProducerEpochs>,
    transactions: Option<Arc<Registry>>,
    next_token: u64,
    /// Something was done that the next sync makes durable.
    dirty: bool,
    after_sync: Vec<AfterSync>,
    /// What failed in a sync that upkeep made, until those are told who wait for the next one.
    failed_before: Vec<SyncFailure>,
    closing: Option<oneshot::Sender<Result<()>>>,
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("partitions", &self.owned.len()).finish_non_exhaustive()
    }
}

impl Owner {
    pub(super) fn new(
        node_id: i32,
        store: Store,
        recovered: HashMap<PartitionId, Recovered>,
        partitions: Arc<Partitions>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            node_id,
            store,
            recovered,
            owned: HashMap::new(),
            partitions,
            clock,
            leader_epoch: 0,
            producer_epochs: None,
            transactions: None,
            next_token: 0,
            dirty: false,
            after_sync: Vec::new(),
            failed_before: Vec::new(),
            closing: None,
        }
    }

    pub(crate) fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    pub(crate) fn disk(&self) -> &SharedDisk {
        self.store.disk()
    }

    /// Partitions on the disk that nobody has asked for.
    pub(crate) fn unclaimed(&self) -> BTreeSet<PartitionId> {
        self.recovered.keys().copied().collect()
    }

    /// Where a partition that nobody has asked for ends; `None` when that is not certain.
    pub(crate) fn recovered_end(&self, id: PartitionId) -> Option<i64> {
        self.recovered.get(&id).filter(|found| found.quarantined.is_none()).map(|found| found.end)
    }

    /// Leaves a partition that nobody knows on the disk, out of reach of retention too.
    pub(crate) fn set_aside(&mut self, id: PartitionId) -> Result<()> {
        let config = self.store.facts(id)?.config;
        match self.store.configure(id, PartitionConfig { own_retention: false, ..config }) {
            // what is quarantined is left alone anyway
            Ok(()) | Err(LogError::Failed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.dirty = true;
        Ok(())
    }

    /// Runs after the next sync, whatever came out of it.
    pub(super) fn after_sync(&mut self, then: impl FnOnce(&[SyncFailure]) + Send + 'static) {
        self.dirty = true;
        self.after_sync.push(Box::new(then));
    }

    pub(super) fn close_with(&mut self, reply: oneshot::Sender<Result<()>>) {
        self.closing = Some(reply);
    }

    pub(super) fn closing(&mut self) -> Option<oneshot::Sender<Result<()>>> {
        self.closing.take()
    }

    pub(super) fn close(self) -> Result<()> {
        self.store.close().map(drop).map_err(Error::from)
    }

    /// Checks the epochs of producers with a name from now on, at the moment of each append.
    pub(crate) fn set_producer_epochs(&mut self, epochs: ProducerEpochs) {
        self.producer_epochs = Some(epochs);
    }

    /// Lets in only what belongs to an open transaction from now on, as far as it is transactional.
    pub(crate) fn set_transactions(&mut self, registry: Arc<Registry>) {
        self.transactions = Some(registry);
    }

    /// The metadata gave this start of the node its epoch.
    pub(crate) fn set_leader_epoch(&mut self, leader_epoch: i32) -> Result<()> {
        self.leader_epoch = leader_epoch;
        let ids: Vec<PartitionId> = self.owned.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.lead(id, leader_epoch))
    }

    pub(super) fn append(
        &mut self,
        appends: Vec<Append>,
        reply: oneshot::Sender<Vec<Outcome>>,
        permit: Option<Permit>,
    ) {
        let slots = Request::slots(appends.len(), reply, permit);
        for (append, slot) in appends.into_iter().zip(slots) {
            self.append_one(append, slot);
        }
    }

    fn append_one(&mut self, append: Append, slot: Slot) {
        let Append { partition, batch } = append;
        let id = partition.id;
        if let Err(fenced) =
            self.check_epoch(&batch.header).and_then(|()| self.check_transaction(&batch.header, id))
        {
            return slot.answer(Err(fenced.into()));
        }
        let Some(owned) = self.owned.get_mut(&id) else {
            return slot.answer(Err(gone(id).into()));
        };
        let now_ms = self.clock.now_ms();
        let token = self.next_token;
        self.next_token += 1;
        let (store, dirty) = (&mut self.store, &mut self.dirty);
        let mut append = |leader_epoch, batch: &CheckedBatch| {
            let outcome = append_to(store, id, batch, leader_epoch, now_ms);
            *dirty |= outcome.is_ok();
            outcome
        };
        let done = owned.append(token, &batch, slot, now_ms, &mut append);
        self.tell(id, &done);
    }

    /// A named producer whose newer instance has started is refused here, where the order of appends is decided: what it
    /// queued before it was fenced does not get in afterwards.
    fn check_epoch(&self, header: &BatchHeader) -> Result<()> {
        if header.producer_id == NO_PRODUCER {
            return Ok(());
        }
        let Some(current) = self.producer_epochs.as_ref().and_then(|epochs| epochs(header.producer_id))
        else {
            return Ok(());
        };
        if header.producer_epoch == current {
            return Ok(());
        }
        if header.producer_epoch > current {
            let message = format!(
                "producer {} sends epoch {}, but {current} is its newest: take an epoch with InitProducer",
                header.producer_id, header.producer_epoch
            );
            return Err(Error::invalid("batch", message));
        }
        let message = format!(
            "producer {} has epoch {}, its newest is {current}: a newer instance took over, stop this one",
            header.producer_id, header.producer_epoch
        );
        Err(Error::new(ErrorCode::ProducerFenced, message))
    }

    /// A batch of a transaction that has ended, or that its partition is no part of, is refused here, where the order of appends and
    /// markers is decided: no transaction is left open by what was late.
    fn check_transaction(&self, header: &BatchHeader, id: PartitionId) -> Result<()> {
        match &self.transactions {
            Some(registry) if header.producer_id != NO_PRODUCER => registry.check(header, id),
            _ => Ok(()),
        }
    }

    /// One sync for everything since the last one; then the answers.
    pub(super) fn commit(&mut self) {
        let mut failed = std::mem::take(&mut self.failed_before);
        if std::mem::take(&mut self.dirty) && self.store.has_pending() {
            let started = std::time::Instant::now();
            let outcome = self.store.sync();
            metrics::histogram!("sunseo_log_sync_seconds").record(started.elapsed().as_secs_f64());
            failed.extend(outcome.failed.iter().cloned());
            self.synced(outcome);
        }
        for then in std::mem::take(&mut self.after_sync) {
            then(&failed);
        }
    }

    /// Hands on what a sync did.
    fn synced(&mut self, outcome: SyncOutcome) {
        let now_ms = self.clock.now_ms();
        for (id, end) in outcome.durable {
            if let Some(owned) = self.owned.get_mut(&id) {
                let done = owned.durable(end, now_ms);
                self.tell(id, &done);
            }
        }
        for failure in outcome.failed {
            if let Some(owned) = self.owned.get_mut(&failure.id) {
                let done = owned.fail(&failure.reason, now_ms);
                self.tell(failure.id, &done);
                metrics::counter!("sunseo_partitions_failed_total").increment(1);
            }
        }
    }

    /// Roll by age, retention, checkpoint.
    pub(crate) fn maintain(&mut self) {
        let outcome = self.store.maintain(self.clock.now_ms());
        metrics::counter!("sunseo_positioned_producers_retired_total")
            .absolute(self.store.producers_retired());
        self.failed_before.extend(outcome.failed.iter().cloned());
        self.synced(outcome);
    }

    fn tell(&self, id: PartitionId, done: &Done) {
        if done.committed_bytes > 0 {
            self.partitions.committed(id, done.committed_bytes);
        }
        if done.changed {
            self.partitions.changed(id);
        }
    }

    /// Creates or opens a partition, or gives it other settings. Durable with the next sync.
    pub(crate) fn ensure(&mut self, id: PartitionId, settings: PartitionSettings) -> Result<()> {
        let config = config_of(&settings);
        if let Some(owned) = self.owned.get(&id) {
            if self.store.facts(id)?.config != config {
                self.store.configure(id, config)?;
                self.dirty = true;
            }
            owned.shared.set_settings(settings);
            return Ok(());
        }
        let recovered = self.recovered.get(&id).cloned();
        match &recovered {
            None => self.store.create(id, config)?,
            // what is quarantined keeps the settings it had: nothing is appended to it
            Some(found) if found.config != config && found.quarantined.is_none() => {
                self.store.configure(id, config)?;
            }
            Some(_) => {}
        }
        self.dirty = true;
        if SYSTEM_TOPICS.iter().any(|topic| topic.id == id.topic_id) {
            self.store.use_headroom(id);
        }
        let (end, epoch) = recovered.as_ref().map_or((0, -1), |found| (found.end, found.leader_epoch));
        let shared = Partition::new(id, self.store.reader(id)?, settings);
        self.owned.insert(id, Owned::new(Arc::clone(&shared), self.node_id, end));
        // before the metadata is read its own partition goes by what it remembers
        self.lead(id, if self.leader_epoch > 0 { self.leader_epoch } else { epoch.max(0) + 1 })?;
        if let Some(reason) = recovered.and_then(|found| found.quarantined)
            && let Some(owned) = self.owned.get_mut(&id)
        {
            owned.fail(&reason, self.clock.now_ms());
        }
        self.recovered.remove(&id);
        self.partitions.insert(shared);
        Ok(())
    }

    fn lead(&mut self, id: PartitionId, leader_epoch: i32) -> Result<()> {
        let Some(owned) = self.owned.get_mut(&id) else { return Ok(()) };
        if owned.shared.leader_epoch() >= leader_epoch {
            return Ok(());
        }
        match self.store.begin_epoch(id, leader_epoch) {
            Ok(_) | Err(LogError::Failed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.dirty = true;
        let facts = self.store.facts(id)?;
        let done = owned.lead(self.node_id, leader_epoch, facts.end, facts.durable_end, self.clock.now_ms());
        self.tell(id, &done);
        Ok(())
    }

    /// Removes a partition with its data; what waits there is refused. Durable with the next sync.
    pub(crate) fn remove(&mut self, id: PartitionId) -> Result<()> {
        let now_ms = self.clock.now_ms();
        self.partitions.remove(id);
        if let Some(mut owned) = self.owned.remove(&id) {
            owned.resign(now_ms);
        }
        self.recovered.remove(&id);
        match self.store.delete(id) {
            Ok(()) => {
                self.dirty = true;
                Ok(())
            }
            Err(LogError::UnknownPartition(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What is known of a partition.
    pub(crate) fn facts(&self, id: PartitionId) -> Result<PartitionFacts> {
        self.store.facts(id).map_err(Error::from)
    }
}

fn append_to(
    store: &mut Store,
    id: PartitionId,
    batch: &CheckedBatch,
    leader_epoch: i32,
    now_ms: i64,
) -> Outcome {
    let append =
        sunseo_log::Append { header: batch.header, position: batch.position, bytes: batch.bytes.clone() };
    match store.append(id, append, leader_epoch, now_ms) {
        Ok(sunseo_log::Outcome::Appended { base_offset, last_offset }) => {
            Ok(Appended { base_offset, last_offset, duplicate: false })
        }
        Ok(sunseo_log::Outcome::Duplicate { base_offset, last_offset }) => {
            Ok(Appended { base_offset, last_offset, duplicate: true })
        }
        Err(refusal) => {
            if matches!(refusal.code(), ErrorCode::ProducerRetired | ErrorCode::TooManyProducers) {
                metrics::counter!("sunseo_positioned_producers_refused_total").increment(1);
            }
            let accepted_through = refusal.accepted_through().unwrap_or(0);
            Err(Refused { error: refusal.into(), accepted_through })
        }
    }
}

/// For tiered topics the tier decides what leaves.
fn config_of(settings: &PartitionSettings) -> PartitionConfig {
    PartitionConfig {
        segment_bytes: settings.segment_bytes,
        segment_ms: settings.segment_ms,
        retention_ms: settings.retention_ms,
        retention_bytes: settings.retention_bytes,
        max_batch_bytes: settings.max_batch_bytes,
        fsync: settings.fsync,
        own_retention: settings.deletes && !settings.tiered,
        compaction: settings.compaction,
    }
}

fn gone(id: PartitionId) -> Error {
    let message = format!("partition {id} was deleted: refresh the metadata");
    Error::new(ErrorCode::UnknownPartition, message)
}
