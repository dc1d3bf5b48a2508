//! The engine of a node: the state store, the threads that run tasks, and the pipelines.
//!
//! A pipeline is Rust code that the binary registers with [`Engine::deploy`]; what the cluster keeps of it is its description,
//! generation and whether it is paused.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use sunseo_client::Client;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio_util::task::AbortOnDropHandle;

use crate::config::{DeployOptions, EngineConfig};
use crate::plan::Plan;
use crate::query::Queried;
use crate::runtime::deploy;
use crate::runtime::pipeline::Pipeline;
use crate::runtime::retry::again;
use crate::runtime::spec::Shared;
use crate::runtime::threads::Threads;
use crate::store::db::{Budget, StateDb};
use crate::topology::Topology;

/// Runs pipelines. Clones share it; when the last one is dropped, everything stops as in a crash, which is harmless.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Shared,
    pipelines: RwLock<BTreeMap<String, Arc<Pipeline>>>,
    /// Held over a deployment.
    deploying: tokio::sync::Mutex<()>,
    _flush: AbortOnDropHandle<()>,
    threads: Threads,
}

impl Engine {
    /// Opens the state store and starts the threads; no pipeline runs until [`deploy`](Self::deploy).
    ///
    /// # Errors
    /// A value of the configuration out of its range, or a state store that does not open.
    pub async fn start(config: EngineConfig, client: Client, clock: Arc<dyn Clock>) -> Result<Self> {
        config.validate()?;
        let config = Arc::new(config);
        let opening = Arc::clone(&config);
        let db = blocking(move || open(&opening)).await?;
        let threads = Threads::start(config.threads)?;
        let flush = threads.spawn(flush_by_age(Arc::clone(&db), config.flush_interval));
        let shared = Shared { config, client, clock, db };
        let inner = Inner {
            shared,
            pipelines: RwLock::default(),
            deploying: tokio::sync::Mutex::default(),
            _flush: AbortOnDropHandle::new(flush),
            threads,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Registers a pipeline and starts its tasks: creates its internal topics, restores its state, goes on where it stopped.
    ///
    /// # Errors
    /// A topic of the topology that does not exist, a topology whose state does not fit what is stored, or what the broker says.
    pub async fn deploy(&self, topology: Topology, options: DeployOptions) -> Result<()> {
        let _one_at_a_time = self.inner.deploying.lock().await;
        let name = topology.name().to_owned();
        if self.pipelines().contains_key(&name) {
            let message =
                format!("pipeline {name:?} runs already: deploy it under another name, or restart the node");
            return Err(Error::new(ErrorCode::AlreadyExists, message));
        }
        let plan = self.plan(&topology).await?;
        let handle = self.inner.threads.handle().clone();
        let pipeline = deploy::pipeline((topology, plan), self.inner.shared.clone(), handle, options).await?;
        pipeline.start().await?;
        pipeline.delete_former_topics().await?;
        let mut pipelines = self.inner.pipelines.write().unwrap_or_else(PoisonError::into_inner);
        pipelines.insert(name, Arc::new(pipeline));
        Ok(())
    }

    async fn plan(&self, topology: &Topology) -> Result<Arc<Plan>> {
        let mut partitions = HashMap::new();
        for topic in topology.topics() {
            let found = again(|| self.inner.shared.client.partitions(&topic)).await?;
            partitions.insert(topic, found);
        }
        Plan::new(topology, &|topic| partitions.get(topic).copied())
    }

    fn pipelines(&self) -> BTreeMap<String, Arc<Pipeline>> {
        self.inner.pipelines.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn pipeline(&self, name: &str) -> Result<Arc<Pipeline>> {
        let pipelines = self.inner.pipelines.read().unwrap_or_else(PoisonError::into_inner);
        pipelines.get(name).cloned().ok_or_else(|| {
            let known: Vec<_> = pipelines.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("pipeline {name:?} does not run here: this node runs {known}");
            Error::new(ErrorCode::UnknownPipeline, message)
        })
    }

    /// Stops the tasks after their current commit; state stays queryable. Survives a restart.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`, or what the broker says.
    pub async fn pause(&self, name: &str) -> Result<v1::PipelineResponse> {
        let pipeline = self.pipeline(name)?;
        pipeline.pause().await?;
        Ok(v1::PipelineResponse { pipeline: Some(pipeline.summary()) })
    }

    /// Starts the tasks again, after a pause or a failure.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`, or what the broker says.
    pub async fn resume(&self, name: &str) -> Result<v1::PipelineResponse> {
        let pipeline = self.pipeline(name)?;
        pipeline.resume().await?;
        Ok(v1::PipelineResponse { pipeline: Some(pipeline.summary()) })
    }

    /// Drops the state and reads the inputs again from their start. Sinks receive the outputs of the second reading too.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`, or what the broker says.
    pub async fn reset(&self, name: &str) -> Result<v1::PipelineResponse> {
        let pipeline = self.pipeline(name)?;
        pipeline.reset().await?;
        Ok(v1::PipelineResponse { pipeline: Some(pipeline.summary()) })
    }

    /// The pipelines of this node.
    #[must_use]
    pub fn list(&self) -> v1::ListPipelinesResponse {
        let pipelines = self.pipelines().values().map(|pipeline| pipeline.summary()).collect();
        v1::ListPipelinesResponse { pipelines }
    }

    /// Operators, tasks and stores of a pipeline.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`.
    pub fn describe(&self, name: &str) -> Result<v1::DescribePipelineResponse> {
        let pipeline = self.pipeline(name)?;
        Ok(v1::DescribePipelineResponse {
            pipeline: Some(pipeline.summary()),
            operators: deploy::operators(&pipeline.plan),
            tasks: pipeline.tasks(),
            stores: pipeline.queried(None)?.all_stores()?,
        })
    }

    /// What changed between the topology that was stored at the last start and the one that runs.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`.
    pub fn diff(&self, name: &str) -> Result<v1::DiffPipelineResponse> {
        Ok(v1::DiffPipelineResponse { changes: self.pipeline(name)?.changes.clone() })
    }

    /// The value of one key, as of the last commit.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`, `UNKNOWN_STORE`, `INVALID_ARGUMENT` for a key that is not of the store's type, `UNAVAILABLE` while the
    /// store is restored.
    pub async fn query_get(&self, request: v1::QueryGetRequest) -> Result<v1::QueryGetResponse> {
        let queried = self.queried(&request.pipeline, &request.store)?;
        blocking(move || queried.get(&request)).await
    }

    /// The keys of a range in order, over all tasks, each task as of one commit.
    ///
    /// # Errors
    /// As [`query_get`](Self::query_get).
    pub async fn query_scan(&self, request: v1::QueryScanRequest) -> Result<v1::QueryScanResponse> {
        let queried = self.queried(&request.pipeline, &request.store)?;
        blocking(move || queried.scan(&request)).await
    }

    fn queried(&self, pipeline: &str, store: &str) -> Result<Queried> {
        self.pipeline(pipeline)?.queried(Some(store))
    }

    /// The stores that can be queried.
    ///
    /// # Errors
    /// `UNKNOWN_PIPELINE`.
    pub fn list_stores(&self, pipeline: &str) -> Result<v1::ListStoresResponse> {
        Ok(v1::ListStoresResponse { stores: self.pipeline(pipeline)?.queried(None)?.stores()? })
    }

    /// Stops every task after its current commit, and puts state on disk. Afterwards nothing runs.
    ///
    /// # Errors
    /// When the state store does not flush; nothing is lost by that.
    pub async fn shutdown(&self) -> Result<()> {
        let pipelines: Vec<_> = self.pipelines().into_values().collect();
        futures::future::join_all(pipelines.iter().map(|pipeline| pipeline.stop())).await;
        let db = Arc::clone(&self.inner.shared.db);
        blocking(move || db.flush()).await
    }
}

#[cfg(test)]
impl Engine {
    /// Ends as a killed process does; what it leaves on disk is copied to `left`.
    pub(crate) async fn kill(self, left: &std::path::Path) {
        self.inner.shared.db.copy_files(left);
        for pipeline in self.pipelines().values() {
            pipeline.abort().await;
        }
    }
}

fn open(config: &EngineConfig) -> Result<Arc<StateDb>> {
    let dir = &config.data_dir;
    std::fs::create_dir_all(dir).map_err(|error| {
        let message = format!(
            "engine.data_dir {} cannot be made: {error}: name a folder that can be written",
            dir.display()
        );
        Error::invalid("data_dir", message)
    })?;
    let (block_cache_bytes, write_buffer_bytes) = (config.block_cache_bytes, config.write_buffer_bytes);
    StateDb::open(dir, Budget { block_cache_bytes, write_buffer_bytes }).map(Arc::new)
}

/// Disk work, off the threads of the network.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::internal(format!("a call to the state store ended: {error}"))))
}

async fn flush_by_age(db: Arc<StateDb>, interval: std::time::Duration) {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // the first tick is at once
    tick.tick().await;
    loop {
        tick.tick().await;
        metrics::gauge!("sunseo_engine_memtable_bytes").set(db.memtable_bytes() as f64);
        let db = Arc::clone(&db);
        if let Err(error) = blocking(move || db.flush()).await {
            tracing::error!(%error, "state is not flushed; a restart replays more of the task logs");
        }
    }
}
