//! One task with its memory and its positions.

use std::sync::Arc;

use sunseo_proto::error::Result;

use super::topics::Topics;
use crate::plan::{Plan, SubTopology};
use crate::state::MemoryState;
use crate::task::{InputRecord, OutputRecord, Processed, Punctuation, TaskCore, TaskMeta};
use crate::time::{Head, choose_next};

/// What a commit keeps beside the stores.
#[derive(Clone, Debug, Default)]
struct Committed {
    meta: TaskMeta,
    /// Next offset, by place of the source.
    offsets: Vec<i64>,
}

#[derive(Debug)]
pub(super) struct DriverTask {
    core: TaskCore,
    state: MemoryState,
    committed: Committed,
    /// Next offsets with the batch that is at work.
    offsets: Vec<i64>,
}

impl DriverTask {
    pub fn new(plan: &Arc<Plan>, sub_topology: i32, partition: i32) -> Result<Self> {
        let core = TaskCore::new(plan, sub_topology, partition)?;
        let offsets = vec![0; core.sub_topology().sources.len()];
        let committed = Committed { meta: TaskMeta::default(), offsets: offsets.clone() };
        Ok(Self { core, state: MemoryState::default(), committed, offsets })
    }

    pub fn sub_topology(&self) -> &SubTopology {
        self.core.sub_topology()
    }

    pub fn state(&self) -> &MemoryState {
        &self.state
    }

    /// The next records of the inputs, the oldest first.
    pub fn take_inputs(&mut self, topics: &Topics, records_max: usize) -> Vec<InputRecord> {
        let partition = self.core.partition();
        let mut inputs = Vec::new();
        while inputs.len() < records_max {
            let sources = &self.core.sub_topology().sources;
            let readable = sources.iter().enumerate().filter(|(_, source)| partition < source.partitions);
            let heads = readable.filter_map(|(input, source)| {
                let next = topics.from(&source.topic, partition, self.offsets[input]).first()?;
                Some(Head { timestamp_ms: next.timestamp_ms, input })
            });
            let Some(input) = choose_next(heads) else { break };
            let source = &sources[input];
            let next = topics.from(&source.topic, partition, self.offsets[input]).first();
            inputs.extend(next.map(|record| InputRecord::new(source.index, partition, record.clone())));
            self.offsets[input] += 1;
        }
        inputs
    }

    pub fn process(&mut self, now_ms: i64, inputs: &[InputRecord]) -> Result<(Vec<OutputRecord>, Processed)> {
        let mut out = Vec::new();
        let processed = self.core.process(now_ms, inputs, &mut self.state, &mut out)?;
        // not taken: they come again
        for input in &inputs[processed.records as usize..] {
            self.offsets[input.source.0 as usize] -= 1;
        }
        Ok((out, processed))
    }

    pub fn punctuate(&mut self, punctuation: Punctuation) -> Result<(Vec<OutputRecord>, Processed)> {
        let mut out = Vec::new();
        let processed = self.core.punctuate(punctuation, &mut self.state, &mut out)?;
        Ok((out, processed))
    }

    pub fn commit(&mut self) {
        self.state.commit();
        self.committed = Committed { meta: self.core.snapshot_meta(), offsets: self.offsets.clone() };
    }

    /// Begins anew from the last commit.
    pub fn restart(&mut self, plan: &Arc<Plan>) {
        self.state.rollback();
        self.offsets.clone_from(&self.committed.offsets);
        let (sub_topology, partition) = (self.core.sub_topology().index, self.core.partition());
        // The same task was made before from the same plan.
        if let Ok(mut core) = TaskCore::new(plan, sub_topology, partition) {
            core.restore_meta(self.committed.meta);
            self.core = core;
        }
    }
}
