//! What a task needs to know and to reach.

use std::sync::Arc;

use bytes::Bytes;
use sunseo_client::Client;
use sunseo_client::positioned::PositionedConfig;
use sunseo_proto::clock::Clock;

use super::log::LogPlace;
use super::status::TaskStatus;
use crate::config::EngineConfig;
use crate::plan::{Plan, SubTopology};
use crate::store::db::{StateDb, TaskPlace};
use crate::task::{SourceIndex, StoreIndex};

/// What all tasks of a node share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub config: Arc<EngineConfig>,
    pub client: Client,
    pub clock: Arc<dyn Clock>,
    pub db: Arc<StateDb>,
}

/// One task: a sub-topology on one partition.
#[derive(Debug)]
pub(crate) struct TaskSpec {
    pub shared: Shared,
    pub plan: Arc<Plan>,
    pub sub_topology: i32,
    pub partition: i32,
    pub place: TaskPlace,
    pub log: LogPlace,
    /// Identity of the topic of the task log.
    pub log_id: Bytes,
    /// Topics and their partitions that this task reads.
    pub sources: Vec<(SourceIndex, String)>,
    /// Topics of the sinks, by index.
    pub sinks: Vec<Arc<str>>,
    /// Stores of the task, with their ids.
    pub stores: Vec<(StoreIndex, String)>,
    pub idle_after_ms: Option<i64>,
    pub status: Arc<TaskStatus>,
}

impl TaskSpec {
    /// The name under which the task's appends are known. A reset gives it another one: what the pipeline then emits is not
    /// a repetition of what it emitted before.
    pub(crate) fn producer_name(&self) -> String {
        let TaskPlace { pipeline, generation, sub_topology, partition } = &self.place;
        format!("engine/{pipeline}/{generation}/{sub_topology}/{partition}")
    }

    pub(crate) fn producer_config(&self) -> PositionedConfig {
        PositionedConfig {
            request_timeout: self.shared.config.request_timeout,
            ..PositionedConfig::default()
        }
    }

    /// Store ids with their column families.
    pub(crate) fn families(&self) -> Vec<(String, String)> {
        self.stores.iter().map(|(_, id)| (id.clone(), self.place.family(id))).collect()
    }
}

/// The sources of `sub` that have the partition.
pub(crate) fn sources_of(
    sub: &SubTopology,
    partition: i32,
    topic: impl Fn(&str, bool) -> String,
) -> Vec<(SourceIndex, String)> {
    let has = sub.sources.iter().filter(|source| partition < source.partitions);
    has.map(|source| (source.index, topic(&source.topic, source.repartition))).collect()
}
