//! A node in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use sunseo_demo::error::{DemoError, Result};
use sunseo_proto::clock::SystemClock;
use tokio::sync::Mutex;

use crate::assemble;
use crate::config::NodeConfig;

/// Starts once, and cannot be killed without its process.
#[derive(Debug)]
pub struct EmbeddedNode {
    config: NodeConfig,
    object_store: PathBuf,
    running: Mutex<Option<assemble::Node>>,
}

impl EmbeddedNode {
    /// `object_store` is the folder that the configuration's URL names.
    pub fn new(config: NodeConfig, object_store: PathBuf) -> Self {
        Self { config, object_store, running: Mutex::new(None) }
    }

    /// Stops it in order, if it runs.
    pub async fn stop(&self) -> sunseo_proto::error::Result<()> {
        match self.running.lock().await.take() {
            Some(node) => Box::pin(node.stop()).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl sunseo_demo::Node for EmbeddedNode {
    fn address(&self) -> String {
        self.config.listen.grpc.to_string()
    }

    fn data_dir(&self) -> &Path {
        &self.config.broker.data_dir
    }

    fn object_store_dir(&self) -> Option<&Path> {
        Some(&self.object_store)
    }

    async fn start(&self) -> Result<()> {
        let mut running = self.running.lock().await;
        if running.is_none() {
            let started = Box::pin(assemble::Node::start(self.config.clone(), Arc::new(SystemClock))).await;
            *running = Some(started.map_err(DemoError::request("starting the node"))?);
        }
        Ok(())
    }

    async fn kill(&self) -> Result<()> {
        Err(DemoError::Node(
            "it runs in the demo's own process: --chaos kills=N runs it as a child".to_owned(),
        ))
    }

    fn resident_bytes(&self) -> Option<u64> {
        super::resident_bytes("self")
    }
}
