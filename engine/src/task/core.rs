//! The task: dispatches records through the operators of its sub-topology.

use std::sync::Arc;

use sunseo_proto::Error;
use sunseo_proto::ErrorCode;
use sunseo_proto::error::Result;

use super::record::{InputRecord, OutputRecord, Processed, Punctuation, TaskMeta};
use crate::plan::Plan;
use crate::state::StateAccess;

/// One sub-topology on one partition.
#[derive(Debug)]
pub struct TaskCore {
    plan: Arc<Plan>,
    sub_topology: usize,
    partition: i32,
    meta: TaskMeta,
}

impl TaskCore {
    /// The task of a partition, as after no record at all; see [`restore_meta`](Self::restore_meta). A task must be made
    /// anew after its uncommitted writes were dropped.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownPartition`] when the plan has no such task.
    pub fn new(plan: &Arc<Plan>, sub_topology: i32, partition: i32) -> Result<Self> {
        let index = usize::try_from(sub_topology).ok().filter(|index| *index < plan.sub_topologies.len());
        let index = index
            .filter(|index| (0..plan.sub_topologies[*index].partitions).contains(&partition))
            .ok_or_else(|| {
                let message = format!("pipeline {} has no task {sub_topology}-{partition}", plan.pipeline);
                Error::new(ErrorCode::UnknownPartition, message)
            })?;
        Ok(Self { plan: plan.clone(), sub_topology: index, partition, meta: TaskMeta::default() })
    }

    /// Processes inputs in their order. Their writes go to `state`, their outputs are appended to `out`. A record whose
    /// processing fails has no effect except its dead letter. Timers of stream time that a record's timestamp makes due
    /// fire before the record.
    ///
    /// # Errors
    /// When state cannot be read, or a record fails whose source has the policy `Stop`. The caller then drops the batch's
    /// writes and outputs, and this task.
    pub fn process(
        &mut self,
        now_ms: i64,
        inputs: &[InputRecord],
        state: &mut dyn StateAccess,
        out: &mut Vec<OutputRecord>,
    ) -> Result<Processed> {
        let _ = (now_ms, inputs, state, out, self.sub_topology, self.partition, &self.plan);
        Err(Error::new(ErrorCode::Unavailable, "tasks do not process yet"))
    }

    /// Fires the timers that are due. Call it between batches, about every second, and when
    /// [`IdleClock`](crate::time::IdleClock) says that stream time moves.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    pub fn punctuate(
        &mut self,
        punctuation: Punctuation,
        state: &mut dyn StateAccess,
        out: &mut Vec<OutputRecord>,
    ) -> Result<Processed> {
        let _ = (punctuation, state, out);
        Err(Error::new(ErrorCode::Unavailable, "tasks do not process yet"))
    }

    /// The largest timestamp seen; `None` before the first.
    #[must_use]
    pub fn stream_time_ms(&self) -> Option<i64> {
        self.meta.stream_time_ms
    }

    /// What must be committed with the batch, beside the stores.
    #[must_use]
    pub fn snapshot_meta(&self) -> TaskMeta {
        self.meta
    }

    /// Goes on where a commit ended.
    pub fn restore_meta(&mut self, meta: TaskMeta) {
        self.meta = meta;
    }
}
