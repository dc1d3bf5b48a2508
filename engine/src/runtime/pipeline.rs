//! One deployed pipeline: its tasks, and the switches.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::join_all;
use sunseo_client::NewTopic;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::definition::{self, Definition};
use super::log::{LOG_BATCH_BYTES_MAX, LogPlace};
use super::retry::again;
use super::spec::{Shared, TaskSpec, sources_of};
use super::status::{TaskPhase, TaskStatus, summary};
use super::{names, task};
use crate::plan::{Plan, SinkKind, SubTopology};
use crate::query::Queried;
use crate::store::db::TaskPlace;
use crate::task::StoreIndex;
use crate::topology::Topology;

/// Longest wait for the tasks of a pipeline to stop in order; then they are dropped, which costs a replay.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// A pipeline of this node.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub topology: Topology,
    pub plan: Arc<Plan>,
    shared: Shared,
    threads: Handle,
    /// What the last start found changed.
    pub changes: Vec<v1::PipelineChange>,
    state: Mutex<State>,
    /// Held over every change of the pipeline, so that two do not run at once.
    run: tokio::sync::Mutex<Run>,
}

/// What readers see.
#[derive(Clone, Debug)]
struct State {
    definition: Definition,
    version: i64,
    tasks: Vec<Arc<TaskStatus>>,
}

#[derive(Debug, Default)]
struct Run {
    stop: CancellationToken,
    tasks: Vec<AbortOnDropHandle<()>>,
}

impl Pipeline {
    /// Makes the pipeline; nothing runs until [`start`](Self::start).
    pub(crate) fn new(
        (topology, plan): (Topology, Arc<Plan>),
        shared: Shared,
        threads: Handle,
        changes: Vec<v1::PipelineChange>,
        (definition, version): (Definition, i64),
    ) -> Self {
        let tasks = plan
            .sub_topologies
            .iter()
            .flat_map(|sub| (0..sub.partitions).map(|n| Arc::new(TaskStatus::new(sub.index, n))))
            .collect();
        let state = Mutex::new(State { definition, version, tasks });
        Self { topology, plan, shared, threads, changes, state, run: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name(&self) -> &str {
        &self.plan.pipeline
    }

    pub(crate) fn summary(&self) -> v1::PipelineSummary {
        let State { definition, tasks, .. } = self.state().clone();
        summary(self.name(), definition.paused, &tasks)
    }

    pub(crate) fn tasks(&self) -> Vec<v1::TaskStatus> {
        self.state().tasks.iter().map(|task| task.to_message()).collect()
    }

    /// What a query of this pipeline reads.
    ///
    /// # Errors
    /// `UNAVAILABLE` while a task of the store's sub-topology replays its log.
    pub(crate) fn queried(&self, store: Option<&str>) -> Result<Queried> {
        let State { definition, tasks, .. } = self.state().clone();
        let db = Arc::clone(&self.shared.db);
        let queried = Queried { db, plan: Arc::clone(&self.plan), generation: definition.generation };
        if let Some(store) = store {
            let sub = queried.store(store)?.sub_topology;
            let restoring = |task: &&Arc<TaskStatus>| {
                task.sub_topology == sub && task.figures().phase == TaskPhase::Restoring
            };
            if let Some(task) = tasks.iter().find(restoring) {
                let message = format!(
                    "store {store:?} of pipeline {} is being restored (task {}-{}): ask again",
                    self.name(),
                    task.sub_topology,
                    task.partition
                );
                return Err(Error::new(ErrorCode::Unavailable, message));
            }
        }
        Ok(queried)
    }

    /// Starts the tasks, unless the pipeline is paused.
    ///
    /// # Errors
    /// What the broker says about the internal topics, or the state store about its families.
    pub(crate) async fn start(&self) -> Result<()> {
        let mut run = self.run.lock().await;
        let (generation, paused) = {
            let state = self.state();
            (state.definition.generation, state.definition.paused)
        };
        self.start_tasks(&mut run, generation, paused).await
    }

    async fn start_tasks(&self, run: &mut Run, generation: u64, paused: bool) -> Result<()> {
        for store in &self.plan.stores {
            self.shared.db.ensure(&crate::store::db::family(self.name(), generation, &store.id))?;
        }
        self.shared.db.drop_generations(self.name(), Some(generation))?;
        let logs = self.create_topics(generation).await?;
        if paused {
            return Ok(());
        }
        *run = Run::default();
        let statuses = self.state().tasks.clone();
        for (sub, log_id) in self.plan.sub_topologies.iter().zip(logs) {
            for partition in 0..sub.partitions {
                let of_task = |status: &&Arc<TaskStatus>| {
                    (status.sub_topology, status.partition) == (sub.index, partition)
                };
                let Some(status) = statuses.iter().find(of_task) else { continue };
                let spec = self.spec(sub, partition, generation, log_id.clone(), Arc::clone(status));
                // so that whoever asks right now is not told that it runs
                spec.status.enter(TaskPhase::Restoring, None);
                let handle = self.threads.spawn(supervise(Arc::new(spec), run.stop.clone()));
                run.tasks.push(AbortOnDropHandle::new(handle));
            }
        }
        Ok(())
    }

    fn spec(
        &self,
        sub: &SubTopology,
        partition: i32,
        generation: u64,
        log_id: Bytes,
        status: Arc<TaskStatus>,
    ) -> TaskSpec {
        let topic = |planned: &str, repartition: bool| match repartition {
            true => names::repartition(planned, generation),
            false => planned.to_owned(),
        };
        let sink =
            |sink: &crate::plan::SinkSpec| topic(&sink.topic, sink.kind == SinkKind::Repartition).into();
        let store = |index: &StoreIndex| (*index, self.plan.stores[index.0 as usize].id.clone());
        TaskSpec {
            shared: self.shared.clone(),
            plan: Arc::clone(&self.plan),
            sub_topology: sub.index,
            partition,
            place: TaskPlace {
                pipeline: self.name().to_owned(),
                generation,
                sub_topology: sub.name.clone(),
                partition: partition.cast_unsigned(),
            },
            log: LogPlace { topic: names::task_log(self.name(), &sub.name, generation).into(), partition },
            log_id,
            sources: sources_of(sub, partition, topic),
            sinks: sub.sinks.iter().map(sink).collect(),
            stores: sub.stores.iter().map(store).collect(),
            idle_after_ms: self.topology.idle_after_ms(),
            status,
        }
    }

    /// Makes the internal topics of a generation; identities of the task logs, by sub-topology.
    async fn create_topics(&self, generation: u64) -> Result<Vec<Bytes>> {
        let admin = self.shared.client.admin();
        let internal = |name: String, partitions: i32| {
            NewTopic::new(name, partitions).if_not_exists().internal().with("retention_ms", -1)
        };
        for topic in &self.plan.repartition_topics {
            let topic = internal(names::repartition(&topic.topic, generation), topic.partitions);
            again(|| admin.create_topic(topic.clone())).await?;
        }
        let mut logs = Vec::new();
        for sub in &self.plan.sub_topologies {
            let name = names::task_log(self.name(), &sub.name, generation);
            let topic = internal(name, sub.partitions).with("max_batch_bytes", LOG_BATCH_BYTES_MAX);
            logs.push(again(|| admin.create_topic(topic.clone())).await?.topic_id);
        }
        Ok(logs)
    }

    /// Stops the tasks, in order if they can.
    pub(crate) async fn stop(&self) {
        let mut run = self.run.lock().await;
        stop(&mut run).await;
        self.mark_stopped();
    }

    /// Drops the tasks where they are.
    #[cfg(test)]
    pub(crate) async fn abort(&self) {
        self.run.lock().await.tasks.clear();
    }

    fn mark_stopped(&self) {
        for task in &self.state().tasks {
            let mut figures = task.figures();
            if figures.phase != TaskPhase::Failed {
                figures.phase = TaskPhase::Stopped;
            }
        }
    }

    /// # Errors
    /// What the broker says about the definition.
    pub(crate) async fn pause(&self) -> Result<()> {
        let mut run = self.run.lock().await;
        self.save(|definition| definition.paused = true).await?;
        stop(&mut run).await;
        self.mark_stopped();
        Ok(())
    }

    /// # Errors
    /// As [`pause`](Self::pause), and as [`start`](Self::start).
    pub(crate) async fn resume(&self) -> Result<()> {
        let mut run = self.run.lock().await;
        let definition = self.save(|definition| definition.paused = false).await?;
        stop(&mut run).await;
        self.start_tasks(&mut run, definition.generation, false).await
    }

    /// The generation is the switch: once it is stored, everything of the former one is garbage, whatever happens next.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub(crate) async fn reset(&self) -> Result<()> {
        let mut run = self.run.lock().await;
        stop(&mut run).await;
        self.mark_stopped();
        let definition = self.save(|definition| definition.generation += 1).await?;
        self.start_tasks(&mut run, definition.generation, definition.paused).await?;
        self.delete_topics(definition.generation - 1).await
    }

    async fn save(&self, change: impl FnOnce(&mut Definition)) -> Result<Definition> {
        let State { mut definition, version, .. } = self.state().clone();
        change(&mut definition);
        let version = definition::save(&self.shared.client, self.name(), &definition, version).await?;
        let mut state = self.state();
        (state.definition, state.version) = (definition.clone(), version);
        Ok(definition)
    }

    /// Deletes what a reset that was interrupted has left.
    ///
    /// # Errors
    /// What the broker says.
    pub(crate) async fn delete_former_topics(&self) -> Result<()> {
        let generation = self.state().definition.generation;
        match generation.checked_sub(1) {
            Some(former) => self.delete_topics(former).await,
            None => Ok(()),
        }
    }

    /// Deletes the internal topics of a former generation.
    async fn delete_topics(&self, generation: u64) -> Result<()> {
        let repartitions =
            self.plan.repartition_topics.iter().map(|topic| names::repartition(&topic.topic, generation));
        let logs =
            self.plan.sub_topologies.iter().map(|sub| names::task_log(self.name(), &sub.name, generation));
        let admin = self.shared.client.admin();
        for name in repartitions.chain(logs) {
            match again(|| admin.delete_topic(&name)).await {
                Err(error) if error.code != ErrorCode::UnknownTopic => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

async fn stop(run: &mut Run) {
    run.stop.cancel();
    let tasks = std::mem::take(&mut run.tasks);
    let aborts: Vec<_> = tasks.iter().map(|task| task.abort_handle()).collect();
    let mut all = Box::pin(join_all(tasks));
    if tokio::time::timeout(STOP_WAIT, &mut all).await.is_err() {
        tracing::warn!("tasks did not stop in {STOP_WAIT:?}, they are dropped: the broker does not answer");
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
        // they end at their next await, and must be gone before others take their place in the state store
        all.await;
    }
}

/// Runs a task and tells how it ended. A panic is an end too: the task is dropped, and nothing says that it still runs.
async fn supervise(spec: Arc<TaskSpec>, stop: CancellationToken) {
    let ended = AssertUnwindSafe(task::run(Arc::clone(&spec), stop.clone())).catch_unwind().await;
    let panicked =
        |_| Err(Error::internal("the task panicked, the log has the place: report it, then resume"));
    match ended.unwrap_or_else(panicked) {
        Ok(()) => spec.status.enter(TaskPhase::Stopped, None),
        Err(error) => {
            tracing::error!(task = spec.producer_name(), %error, "task failed");
            metrics::counter!("sunseo_engine_task_failures_total", "pipeline" => spec.place.pipeline.clone())
                .increment(1);
            if error.code == ErrorCode::ProducerFenced {
                // another engine runs the pipeline: all of it
                stop.cancel();
            }
            spec.status.enter(TaskPhase::Failed, Some(error));
        }
    }
}
