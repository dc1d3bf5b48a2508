//! What every part of the running tier shares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sunseo_proto::PartitionId;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, Result};
use tokio::sync::Semaphore;

use crate::config::TierConfig;
use crate::fetch::ColdReader;
use crate::host::SharedTierHost;
use crate::journal::Journal;
use crate::objects::Objects;
use crate::store::ObjectStoreHandle;
use crate::summary::SummaryRule;

/// The shared parts.
#[derive(Debug)]
pub struct Core {
    pub host: SharedTierHost,
    pub objects: Arc<Objects>,
    pub journal: Journal,
    pub reader: ColdReader,
    pub config: TierConfig,
    pub clock: Arc<dyn Clock>,
    /// Uploads in flight over all partitions.
    pub uploads: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last_error: String,
    lot: u64,
    /// The newest exported manifest of each partition, as (sequence, object).
    exported: HashMap<PartitionId, (u64, Option<String>)>,
}

impl Core {
    pub async fn open(
        host: SharedTierHost,
        store: ObjectStoreHandle,
        config: TierConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        check_cluster(&config.cluster)?;
        let objects = Arc::new(Objects::new(store, &config));
        let reader = ColdReader::new(Arc::clone(&objects), &config);
        let seed = config.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        let state = State { last_error: String::new(), lot: seed, exported: HashMap::new() };
        let rule = SummaryRule { records_min: config.summary_records, part_bytes: config.summary_part_bytes };
        Ok(Self {
            journal: Journal::open(Arc::clone(&host), rule).await?,
            host,
            objects,
            reader,
            uploads: Semaphore::new(config.uploads_in_flight.max(1)),
            config,
            clock,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // plain values, replaced whole
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn last_error(&self) -> String {
        self.state().last_error.clone()
    }

    pub fn set_last_error(&self, error: Option<&Error>) {
        self.state().last_error = error.map_or_else(String::new, ToString::to_string);
    }

    /// A number by lot (SplitMix64), for names and jitter.
    pub fn draw(&self) -> u64 {
        let mut state = self.state();
        state.lot = state.lot.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state.lot;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A name that is given once.
    pub fn draw_unique(&self) -> u128 {
        // with a seed of its own per process this would repeat after a restart; the machine's lot is mixed in unless a test fixed it
        let fresh = if self.config.seed.is_some() { 0 } else { uuid::Uuid::new_v4().as_u128() };
        fresh ^ (u128::from(self.draw()) << 64 | u128::from(self.draw()))
    }

    pub fn exported(&self, id: PartitionId) -> Option<(u64, Option<String>)> {
        self.state().exported.get(&id).cloned()
    }

    pub fn set_exported(&self, id: PartitionId, sequence: u64, object: Option<String>) {
        self.state().exported.insert(id, (sequence, object));
    }

    pub fn forget_exported(&self, id: PartitionId) {
        self.state().exported.remove(&id);
    }
}

fn check_cluster(cluster: &str) -> Result<()> {
    let usable = !cluster.is_empty()
        && cluster.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && !["tab", "bad"].contains(&cluster);
    if usable {
        return Ok(());
    }
    let message = format!(
        "cluster name {cluster:?} is not usable in object names: use letters, digits, - and _, not tab or bad"
    );
    Err(Error::invalid("cluster", message))
}
