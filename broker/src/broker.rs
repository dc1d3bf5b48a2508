//! Start and stop of a node.
//!
//! Order of a start: lock the directory and recover the logs; claim the directory for this node; fold the metadata, which gives this start its
//! leader epoch; bring the disk's partitions to what the metadata say; fold the groups; start the tier and the upkeep.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sunseo_log::{RealDisk, SharedDisk, StoreConfig};
use sunseo_proto::PartitionId;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, Result};
use sunseo_tier::{ObjectStoreHandle, Tier};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::cleaner::Cleaner;
use crate::coordinator::{Coordinator, CoordinatorConfig, HighWatermarks};
use crate::internal::SharedInternalLog;
use crate::local_log::LocalLog;
use crate::log_thread::{LogThread, LogThreadConfig, Owner};
use crate::metadata::{LocalMetadataLog, Metadata, MetadataConfig, State};
use crate::node::{Folds, Node};
use crate::reads::Reads;
use crate::tier_host::NodeTierHost;
use crate::txn::outcome::LocalOutcomes;
use crate::txn::{Registry, Transactions};
use crate::{BrokerConfig, BrokerHandle, properties};

/// Folder of offloaded segments when no other place is configured, inside the data directory.
const OBJECT_STORE_DIR: &str = "object-store";

/// A running node. Dropping it without [`Broker::shutdown`] stops it as a crash would.
#[derive(Debug)]
pub struct Broker {
    node: Arc<Node>,
    /// Retention, roll by age, checkpoints.
    upkeep: JoinHandle<()>,
    cleaner: Cleaner,
    /// Set by a shutdown that went through.
    stopped: bool,
}

impl Broker {
    /// Opens the directory, recovers the logs, folds metadata and groups, and starts to serve.
    ///
    /// # Errors
    /// What stands in the way, with the remedy.
    pub async fn start(config: BrokerConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let disk = RealDisk::new(&config.data_dir).map_err(|error| {
            let message = format!(
                "data directory {} cannot be used ({error}): check the path and its permissions",
                config.data_dir.display()
            );
            Error::invalid("data_dir", message)
        })?;
        Box::pin(Self::start_on(Arc::new(disk), StoreConfig::default(), config, clock)).await
    }

    /// As [`Broker::start`], on any disk.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub async fn start_on(
        disk: SharedDisk,
        store: StoreConfig,
        config: BrokerConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        config.check()?;
        let objects = object_store(&config)?;
        let thread = LogThreadConfig {
            node_id: config.node_id,
            store,
            commit_group_bytes_max: config.limits.commit_group_bytes_max,
        };
        let log = LogThread::start(disk, thread, Arc::clone(&clock)).await?;
        match Box::pin(Self::start_over(log.clone(), objects, config, clock)).await {
            Ok(broker) => Ok(broker),
            Err(error) => {
                log.stop();
                Err(error)
            }
        }
    }

    async fn start_over(
        log: LogThread,
        objects: ObjectStoreHandle,
        config: BrokerConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let node_id = config.node_id;
        log.call(move |owner| properties::claim(owner.disk().as_ref(), node_id)).await??;
        let internal: SharedInternalLog = Arc::new(LocalLog::new(log.clone(), Arc::clone(&clock)));
        let metadata_log = Arc::new(LocalMetadataLog::new(Arc::clone(&internal)));
        let metadata_config = MetadataConfig::new(&config);
        let metadata =
            Metadata::start(metadata_log, Arc::clone(&internal), metadata_config, Arc::clone(&clock)).await?;
        let cluster_id = metadata.image().cluster_id().to_owned();
        log.call(move |owner| properties::join(owner.disk().as_ref(), node_id, &cluster_id)).await??;
        let registry = Arc::new(Registry::default());
        settle(&log, &metadata, Arc::clone(&registry)).await?;
        let partitions = Arc::clone(log.partitions());
        let high_watermarks =
            HighWatermarks::new(move |id| partitions.get(id).and_then(|found| found.readable_end().ok()));
        let coordinator = Coordinator::start(
            Arc::clone(&internal),
            &metadata,
            high_watermarks,
            CoordinatorConfig::new(&config),
            clock.now_ms(),
        )
        .await?;
        let outcomes = LocalOutcomes {
            log: log.clone(),
            metadata: metadata.clone(),
            groups: coordinator.clone(),
            clock: Arc::clone(&clock),
        };
        let transactions = Transactions::start(
            Arc::clone(&internal),
            registry,
            Arc::new(outcomes),
            config.transactions,
            Arc::clone(&clock),
        )
        .await?;
        let reads = Reads::default();
        let host =
            NodeTierHost { log: log.clone(), internal, metadata: metadata.clone(), reads: reads.clone() };
        let tier = Tier::start(Arc::new(host), objects, config.tier, Arc::clone(&clock)).await?;
        reads.set_tier(Some(tier));
        let upkeep =
            tokio::spawn(upkeep(log.clone(), Duration::from_millis(config.maintenance_interval_ms.max(1))));
        let interval = Duration::from_millis(config.maintenance_interval_ms.max(1));
        let cleaner = Cleaner::start(log.clone(), Arc::clone(&clock), interval);
        let node = Node::new(config.limits, clock, log, reads, Folds { metadata, coordinator, transactions });
        Ok(Self { node: Arc::new(node), upkeep, cleaner, stopped: false })
    }

    /// The node's requests; cheap to clone.
    #[must_use]
    pub fn handle(&self) -> BrokerHandle {
        BrokerHandle::new(Arc::clone(&self.node))
    }

    /// Says whether the log's thread waits for something to do: a simulation lets no time pass while it does not.
    #[cfg(feature = "testing")]
    pub fn idle_probe(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let log = self.node.log.clone();
        move || log.is_idle()
    }

    /// Answers what is in flight, writes a checkpoint and releases the directory.
    ///
    /// # Errors
    /// When the checkpoint could not be written; the next start then recovers as after a crash.
    pub async fn shutdown(mut self) -> Result<()> {
        self.upkeep.abort();
        self.cleaner.stop().await;
        stop_folds(&self.node).await;
        let closed = self.node.log.close().await;
        self.stopped = true;
        closed
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.upkeep.abort();
        self.cleaner.abort();
        self.node.log.stop();
        if self.stopped {
            return;
        }
        // what they still try is refused, because the log is gone
        let node = Arc::clone(&self.node);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { stop_folds(&node).await });
        }
    }
}

/// Ends the tasks above the log. The tier and its host know each other: letting go of it here breaks the ring.
async fn stop_folds(node: &Node) {
    if let Some(tier) = node.reads.tier() {
        tier.shutdown().await;
        node.reads.set_tier(None);
    }
    node.transactions.stop().await;
    node.coordinator.stop().await;
    node.metadata.stop().await;
}

fn object_store(config: &BrokerConfig) -> Result<ObjectStoreHandle> {
    match &config.object_store_url {
        Some(url) => ObjectStoreHandle::from_url(url),
        None => {
            let path = config.data_dir.join(OBJECT_STORE_DIR);
            let path = std::path::absolute(&path).unwrap_or(path);
            ObjectStoreHandle::from_url(&path.to_string_lossy())
        }
    }
}

/// Makes the partitions of this node those that the metadata name: the disk may be behind or ahead by what a crash cut short.
async fn settle(log: &LogThread, metadata: &Metadata, transactions: Arc<Registry>) -> Result<()> {
    let image = metadata.image();
    let (node_id, leader_epoch) = (metadata.node_id(), metadata.leader_epoch());
    let epochs = {
        let metadata = metadata.clone();
        Arc::new(move |producer_id| metadata.image().producer_epoch(producer_id))
    };
    log.commit(None, move |owner| {
        owner.set_producer_epochs(epochs);
        owner.set_transactions(transactions);
        owner.set_leader_epoch(leader_epoch)?;
        open_partitions(owner, &image, node_id)
    })
    .await
}

fn open_partitions(owner: &mut Owner, image: &State, node_id: i32) -> Result<()> {
    let mut unclaimed: BTreeSet<PartitionId> = owner.unclaimed();
    for topic in image.topics().filter(|topic| topic.replicas.contains(&node_id)) {
        for id in topic.partition_ids() {
            unclaimed.remove(&id);
            owner.ensure(id, topic.settings())?;
        }
    }
    let mut kept = 0_u32;
    for id in unclaimed {
        if is_leftover(image, id, owner.recovered_end(id)) {
            tracing::info!(partition = %id, "removing a partition of a topic that was deleted, or never came to be");
            owner.remove(id)?;
        } else {
            tracing::error!(partition = %id, "the metadata do not know this partition, and it holds records: it is kept as it is and not served");
            owner.set_aside(id)?;
            kept += 1;
        }
    }
    metrics::gauge!("sunseo_partitions_unknown").set(f64::from(kept));
    Ok(())
}

/// Whether a partition that no topic has is left over from a crash: its topic was deleted and the files were still to go, or it was
/// made for a topic or a growth that was not committed, and so never took a record. Anything else says that the metadata are older
/// than the data, and data are never removed because of that.
fn is_leftover(image: &State, id: PartitionId, end: Option<i64>) -> bool {
    image.was_deleted(id.topic_id) || end == Some(0)
}

async fn upkeep(log: LogThread, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if log.call(Owner::maintain).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
