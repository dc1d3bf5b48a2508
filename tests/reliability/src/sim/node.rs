//! A node that is started, killed and started again on a disk and a clock that the run owns.

use std::sync::Arc;
use std::time::Duration;

use sunseo_broker::{Broker, BrokerConfig};
use sunseo_client::{Client, Result};
use sunseo_log::StoreConfig;
use sunseo_log::faulty::{Faults, FaultyDisk};
use sunseo_proto::clock::Clock;
use tempfile::TempDir;

use super::clock::SkewedClock;
use super::disk::{Fuse, SimDisk};
use super::door::{Door, Entrance, Odds};
use super::pace::Pace;

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process is gone; what it wrote stays.
    Kill,
    /// What was not synced may be lost.
    PowerCut,
    /// What was not synced is lost.
    EarlyPowerCut,
    /// It was asked to stop.
    Shutdown,
}

/// What outlives a node, and the node.
#[derive(Debug)]
pub struct World {
    pub clock: Arc<SkewedClock>,
    pub entrance: Arc<Entrance>,
    pub disk: SimDisk,
    pub config: BrokerConfig,
    pub store: StoreConfig,
    broker: Option<Broker>,
    _objects: TempDir,
}

impl World {
    /// An empty disk.
    ///
    /// # Panics
    /// When there is no room for a temporary folder.
    #[must_use]
    pub fn new(seed: u64, pace: Arc<Pace>) -> Self {
        let objects = TempDir::new().expect("a temporary folder");
        let mut config = BrokerConfig::new("unused");
        config.object_store_url = Some(objects.path().to_string_lossy().into_owned());
        config.tier.seed = Some(seed);
        config.metadata_snapshot_commands = 20;
        config.groups.snapshot_records = 50;
        let store = StoreConfig {
            journal_file_bytes: 256 << 10,
            checkpoint_journal_bytes: 512 << 10,
            checkpoint_interval_ms: 5_000,
            direct_append_bytes: 16 << 10,
            disk_headroom_bytes: 64 << 10,
            open_files_max: 16,
            index_interval_bytes: 512,
            ..StoreConfig::default()
        };
        let disk = SimDisk { disk: FaultyDisk::new(seed), pace, fuse: Fuse::new() };
        let (clock, entrance) = (Arc::new(SkewedClock::new()), Arc::default());
        Self { clock, entrance, disk, config, store, broker: None, _objects: objects }
    }

    /// Starts the node, unless it runs.
    ///
    /// # Errors
    /// When it does not start; the disk is then as a kill left it.
    pub async fn start(&mut self) -> Result<()> {
        if self.broker.is_some() {
            return Ok(());
        }
        // time stands still while it starts: nothing watches the log's thread yet
        let (go, hold) = std::sync::mpsc::channel::<()>();
        let standstill = tokio::task::spawn_blocking(move || hold.recv());
        let clock: Arc<dyn Clock> = self.clock.clone();
        let disk = Arc::new(self.disk.clone());
        let started = Box::pin(Broker::start_on(disk, self.store.clone(), self.config.clone(), clock)).await;
        if let Ok(broker) = &started {
            self.disk.pace.begin(broker.idle_probe());
        }
        drop(go);
        // it ends with an error, as it is meant to
        let _ = standstill.await;
        match started {
            Ok(broker) => {
                self.entrance.open(broker.handle());
                self.broker = Some(broker);
                Ok(())
            }
            Err(error) => {
                self.disk.disk.kill();
                self.disk.fuse.renew();
                Err(error)
            }
        }
    }

    /// Starts the node, however often its start fails.
    ///
    /// # Panics
    /// When it never does.
    pub async fn revive(&mut self) {
        let mut last = None;
        for _ in 0..20 {
            match self.start().await {
                Ok(()) => return,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the node does not start: {last:?}");
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.broker.is_some()
    }

    /// Ends the node.
    pub async fn end(&mut self, death: Death) {
        let Some(broker) = self.broker.take() else { return };
        if death == Death::Shutdown {
            self.disk.pace.end();
            let done = broker.shutdown().await;
            self.entrance.close();
            // one whose checkpoint failed is as one that was killed
            if done.is_err() || self.disk.fuse.is_burnt() {
                self.disk.disk.kill();
            }
            self.disk.fuse.renew();
            return;
        }
        self.entrance.close();
        self.disk.fuse.burn();
        self.disk.pace.end();
        drop(broker);
        match death {
            Death::PowerCut => self.disk.disk.power_cut(),
            Death::EarlyPowerCut => self.disk.disk.early_power_cut(),
            Death::Kill | Death::Shutdown => self.disk.disk.kill(),
        }
        self.disk.fuse.renew();
        // what the node left behind in the runtime ends now
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// What goes wrong on the disk from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.disk.disk.set_faults(faults);
    }

    /// A client behind a door of its own.
    #[must_use]
    pub fn client(&self, seed: u64, odds: Odds) -> (Client, Door) {
        let door = Door::new(&self.entrance, seed, odds);
        (Client::new(Arc::new(door.clone())), door)
    }

    /// A client that nothing happens to but the node's deaths.
    #[must_use]
    pub fn quiet_client(&self) -> Client {
        self.client(0, Odds::default()).0
    }
}
