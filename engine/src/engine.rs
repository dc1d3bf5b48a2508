//! The engine of a node: the state store, the threads that run tasks, and the pipelines.
//!
//! A pipeline is Rust code that the binary registers with [`Engine::deploy`]; what the cluster keeps of it is its description,
//! generation and whether it is paused.

use std::sync::Arc;

use sunseo_client::Client;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};

use crate::config::{DeployOptions, EngineConfig};

/// Runs pipelines. Clones share it.
#[derive(Clone, Debug)]
pub struct Engine {
    #[allow(dead_code)] // used when pipelines run
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    #[allow(dead_code)] // used when pipelines run
    config: EngineConfig,
    #[allow(dead_code)] // used when pipelines run
    client: Client,
    #[allow(dead_code)] // used when pipelines run
    clock: Arc<dyn Clock>,
}

fn unavailable<T>(what: &str) -> Result<T> {
    Err(Error::new(ErrorCode::Unavailable, format!("{what}: the engine does not run pipelines yet")))
}

impl Engine {
    /// Opens the state store and starts the threads; no pipeline runs until [`deploy`](Self::deploy).
    ///
    /// # Errors
    /// A value of the configuration out of its range, or a state store that does not open.
    pub async fn start(config: EngineConfig, client: Client, clock: Arc<dyn Clock>) -> Result<Self> {
        config.validate()?;
        Ok(Self { inner: Arc::new(Inner { config, client, clock }) })
    }

    /// Registers a pipeline and starts its tasks: creates its internal topics, restores its state, goes on where it stopped.
    ///
    /// # Errors
    /// A topic of the topology that does not exist, a topology whose state does not fit what is stored, or what the broker says.
    pub async fn deploy(&self, topology: crate::Plan, options: DeployOptions) -> Result<()> {
        let _ = options;
        unavailable(&topology.pipeline)
    }

    /// Stops the tasks after their current commit; state stays queryable. Survives a restart.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`, or what the broker says.
    pub async fn pause(&self, name: &str) -> Result<v1::PipelineResponse> {
        unavailable(name)
    }

    /// Starts the tasks again, after a pause or a failure.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`, or what the broker says.
    pub async fn resume(&self, name: &str) -> Result<v1::PipelineResponse> {
        unavailable(name)
    }

    /// Drops the state and reads the inputs again from their start. Sinks receive the outputs of the second reading too.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`, or what the broker says.
    pub async fn reset(&self, name: &str) -> Result<v1::PipelineResponse> {
        unavailable(name)
    }

    /// The pipelines of this node.
    #[must_use]
    pub fn list(&self) -> v1::ListPipelinesResponse {
        v1::ListPipelinesResponse::default()
    }

    /// Operators, tasks and stores of a pipeline.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`.
    pub fn describe(&self, name: &str) -> Result<v1::DescribePipelineResponse> {
        unavailable(name)
    }

    /// What changed between the topology that was stored at the last start and the one that runs.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`.
    pub fn diff(&self, name: &str) -> Result<v1::DiffPipelineResponse> {
        unavailable(name)
    }

    /// The value of one key, as of the last commit.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`, `UNKNOWN_STORE`, `INVALID_ARGUMENT` for a key that is not of the store's type.
    pub async fn query_get(&self, request: v1::QueryGetRequest) -> Result<v1::QueryGetResponse> {
        unavailable(&request.pipeline)
    }

    /// The keys of a range in order, over all tasks, each task as of one commit.
    ///
    /// # Errors
    /// As [`query_get`](Self::query_get).
    pub async fn query_scan(&self, request: v1::QueryScanRequest) -> Result<v1::QueryScanResponse> {
        unavailable(&request.pipeline)
    }

    /// The stores that can be queried.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`.
    pub fn list_stores(&self, pipeline: &str) -> Result<v1::ListStoresResponse> {
        unavailable(pipeline)
    }

    /// Stops every task after its current commit, and puts state on disk. Afterwards nothing runs.
    ///
    /// # Errors
    /// When the state store does not flush; nothing is lost by that.
    pub async fn shutdown(&self) -> Result<()> {
        Ok(())
    }
}
