//! What is measured: a server that is there, or a node for this run.

use std::sync::Arc;

use indicatif::ProgressBar;
use sunseo_client::{Client, NewTopic};
use sunseo_demo::{Node as _, topics};
use sunseo_proto::clock::{Clock as _, SystemClock};

use super::Common;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::progress::spinner;
use crate::config::NodeConfig;
use crate::node::{ChildNode, Scratch, free_addresses};

/// A server and a topic of its own on it.
#[derive(Debug)]
pub struct Target {
    pub address: String,
    own: Option<Own>,
    /// Shows what happens, on a terminal.
    pub live: ProgressBar,
}

#[derive(Debug)]
struct Own {
    node: Arc<ChildNode>,
    _scratch: Scratch,
}

impl Target {
    /// Connects, or starts a node; it runs the pipeline when that has partitions.
    pub async fn open(server: Option<&str>, pipeline: Option<i32>, quiet: bool) -> Outcome<Self> {
        let live = spinner(quiet);
        if let Some(address) = server {
            return Ok(Self { address: address.to_owned(), own: None, live });
        }
        live.set_message("starting a node");
        let scratch = Scratch::create("bench", false)
            .map_err(|error| Failure::new(format!("making a temporary folder: {error}")))?;
        let addresses = free_addresses();
        let (grpc, http) = addresses.map_err(|error| Failure::new(format!("finding free ports: {error}")))?;
        let mut config = NodeConfig::in_directory(scratch.path().join("node"));
        config.listen.grpc = grpc;
        config.listen.http = http;
        if let Some(partitions) = pipeline {
            config.pipelines.run = vec![topics::PIPELINE.to_owned()];
            config.pipelines.partitions = partitions;
        }
        let object_store = scratch.path().join("object-store");
        let log = scratch.path().join("node.log");
        let node = Arc::new(ChildNode::new(config, object_store, log));
        node.start().await?;
        Ok(Self { address: grpc.to_string(), own: Some(Own { node, _scratch: scratch }), live })
    }

    /// For the report.
    pub fn name(&self) -> &str {
        if self.own.is_some() { "a node of its own" } else { &self.address }
    }

    /// Memory of the node, when it is its own.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.own.as_ref()?.node.resident_bytes()
    }

    /// Makes a topic that nobody else has, unless one is named.
    pub async fn topic(&self, client: &Client, common: &Common, purpose: &str) -> Outcome<String> {
        let own = || format!("bench-{purpose}-{}-{}", SystemClock.now_ms(), std::process::id());
        let name = common.topic.clone().unwrap_or_else(own);
        if common.topic.is_some() && client.admin().find_topic(&name).await?.is_some() {
            return Ok(name);
        }
        let topic = NewTopic::new(name.clone(), common.partitions).with("durability", common.durability());
        client.admin().create_topic(topic).await?;
        Ok(name)
    }

    /// Deletes it, unless it was named.
    pub async fn drop_topic(&self, client: &Client, common: &Common, name: &str) -> Outcome {
        if common.topic.is_none() {
            client.admin().delete_topic(name).await?;
        }
        Ok(())
    }

    /// Ends the node, if it is its own.
    pub async fn close(self) -> Outcome {
        self.live.finish_and_clear();
        match self.own {
            Some(own) => Ok(own.node.stop().await?),
            None => Ok(()),
        }
    }
}
