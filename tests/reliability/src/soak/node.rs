//! The node of a soak: a real folder, the run's time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sunseo_broker::{Broker, BrokerConfig};
use sunseo_client::{Client, Result};
use sunseo_log::{RealDisk, StoreConfig};
use sunseo_proto::Error;
use tempfile::TempDir;

use crate::sim::clock::SkewedClock;
use crate::sim::door::{Door, Entrance, Odds};
use crate::sim::pace::Pace;

/// How long the past is remembered that nobody uses any more.
const MEMORY_MS: i64 = 3_600_000;

#[derive(Debug)]
pub(super) struct SoakNode {
    dir: TempDir,
    clock: Arc<SkewedClock>,
    entrance: Arc<Entrance>,
    pace: Arc<Pace>,
    config: BrokerConfig,
    store: StoreConfig,
    broker: Option<Broker>,
}

impl SoakNode {
    pub(super) fn new(under: Option<&Path>, pace: Arc<Pace>) -> Self {
        let dir = under.map_or_else(TempDir::new, TempDir::new_in).expect("a temporary folder");
        let mut config = BrokerConfig::new(dir.path().join("node"));
        config.object_store_url = Some(dir.path().join("objects").to_string_lossy().into_owned());
        config.metadata_snapshot_commands = 200;
        config.groups.snapshot_records = 2_000;
        config.groups.offsets_retention_ms = MEMORY_MS;
        config.transactions.snapshot_records = 2_000;
        config.transactions.id_expiry_ms = MEMORY_MS;
        let store = StoreConfig {
            journal_file_bytes: 1 << 20,
            checkpoint_journal_bytes: 4 << 20,
            producer_expiry_ms: MEMORY_MS,
            disk_headroom_bytes: 1 << 20,
            ..StoreConfig::default()
        };
        let (clock, entrance) = (Arc::new(SkewedClock::new()), Arc::default());
        Self { dir, clock, entrance, pace, config, store, broker: None }
    }

    /// The folder of everything that it keeps.
    pub(super) fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub(super) fn clock(&self) -> Arc<SkewedClock> {
        Arc::clone(&self.clock)
    }

    pub(super) fn client(&self) -> Client {
        Client::new(Arc::new(self.door()))
    }

    pub(super) fn door(&self) -> Door {
        Door::new(&self.entrance, 0, Odds::default())
    }

    pub(super) async fn start(&mut self) -> Result<()> {
        let disk = RealDisk::new(&self.config.data_dir)
            .map_err(|error| Error::invalid("data_dir", format!("{}: {error}", self.dir.path().display())))?;
        // time stands still while it starts: nothing watches the log's thread yet
        let (go, hold) = std::sync::mpsc::channel::<()>();
        let standstill = tokio::task::spawn_blocking(move || hold.recv());
        let (store, config, clock) = (self.store.clone(), self.config.clone(), Arc::clone(&self.clock));
        let started = Box::pin(Broker::start_on(Arc::new(disk), store, config, clock)).await;
        if let Ok(broker) = &started {
            self.pace.begin(broker.idle_probe());
        }
        drop(go);
        // it ends with an error, as it is meant to
        let _ = standstill.await;
        let broker = started?;
        self.entrance.open(broker.handle());
        self.broker = Some(broker);
        Ok(())
    }

    /// Ends it, in order or as a crash would.
    pub(super) async fn stop(&mut self, sudden: bool) {
        let Some(broker) = self.broker.take() else { return };
        self.pace.end();
        if sudden {
            self.entrance.close();
            drop(broker);
            // what it left behind in the runtime ends now
            tokio::time::sleep(Duration::from_millis(1)).await;
            return;
        }
        // a start finds out what a checkpoint that failed has left
        let _ = broker.shutdown().await;
        self.entrance.close();
    }
}
