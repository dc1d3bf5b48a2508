//! The test driver: a whole pipeline in memory, with partitions, virtual time and crashes.
//!
//! ```
//! use sunseo_engine::TopologyBuilder;
//! use sunseo_engine::driver::Driver;
//!
//! # fn main() -> sunseo_proto::error::Result<()> {
//! let builder = TopologyBuilder::new("words");
//! let words = builder.stream::<String, String>("lines", "lines").flat_map("split", |_, line| {
//!     Ok(line.split(' ').map(|word| (word.to_owned(), word.to_owned())).collect())
//! });
//! words.group_by_key().count("count").to_stream("counts").to("out", "counts");
//!
//! let mut driver = Driver::new(&builder.build()?, 4)?;
//! driver.pipe("lines", &"a".to_owned(), &"to be or not to be".to_owned(), 10)?;
//! driver.crash();
//! driver.run()?;
//! assert_eq!(driver.get::<String, i64>("count", &"be".to_owned())?, Some(2));
//! assert_eq!(driver.read::<String, i64>("counts")?.len(), 6);
//! # Ok(())
//! # }
//! ```
//!
//! - Records that are piped in lie in their topic's partitions until [`run`](Driver::run) has processed them; repartition
//!   topics, and topics that the pipeline writes and reads, are fed back.
//! - A task works in micro-batches as the engine does: process, then commit state, positions and outputs together.
//!   [`CrashPlan`] makes a task forget an uncommitted batch, in the middle or at its end, and begin anew from what is
//!   committed.
//! - The clock stands still unless it is moved.

mod crash;
mod task;
mod topics;
mod typed;

use std::collections::BTreeMap;
use std::sync::Arc;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record};

pub use crash::{Crash, CrashPlan};
pub use typed::OutputOf;

use self::task::DriverTask;
use self::topics::Topics;
use crate::plan::Plan;
use crate::state::MemoryState;
use crate::task::{Processed, Punctuation};
use crate::topology::Topology;

/// Records of one micro-batch, unless set otherwise.
pub const BATCH_RECORDS: usize = 16;

/// Batches after which [`Driver::run`] gives up: a pipeline that feeds itself for ever.
pub const BATCHES_MAX: usize = 1_000_000;

/// A pipeline in memory.
#[derive(Debug)]
pub struct Driver {
    plan: Arc<Plan>,
    topics: Topics,
    tasks: Vec<DriverTask>,
    now_ms: i64,
    batch_records: usize,
    crashes: CrashPlan,
    processed: Processed,
}

impl Driver {
    /// A pipeline all of whose topics have `partitions` partitions.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn new(topology: &Topology, partitions: i32) -> Result<Self> {
        let counts = topology.topics().into_iter().map(|topic| (topic, partitions)).collect();
        Self::with_partitions(topology, &counts)
    }

    /// A pipeline whose topics have these partition counts.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn with_partitions(topology: &Topology, counts: &BTreeMap<String, i32>) -> Result<Self> {
        let plan = Plan::new(topology, &|topic| counts.get(topic).copied())?;
        let mut topics = Topics::default();
        for (topic, partitions) in counts {
            topics.create(topic, *partitions);
        }
        for repartition in &plan.repartition_topics {
            topics.create(&repartition.topic, repartition.partitions);
        }
        let mut tasks = Vec::new();
        for sub in &plan.sub_topologies {
            for partition in 0..sub.partitions {
                tasks.push(DriverTask::new(&plan, sub.index, partition)?);
            }
        }
        let (crashes, processed) = (CrashPlan::never(), Processed::default());
        Ok(Self { plan, topics, tasks, now_ms: 0, batch_records: BATCH_RECORDS, crashes, processed })
    }

    /// The plan that runs.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Records of one micro-batch.
    #[must_use]
    pub fn batch_records(mut self, batch_records: usize) -> Self {
        self.batch_records = batch_records.max(1);
        self
    }

    /// Lets tasks crash from now on.
    #[must_use]
    pub fn crashes(mut self, crashes: CrashPlan) -> Self {
        self.crashes = crashes;
        self
    }

    /// Adds a record to a topic as it is; to the partition of its key when none is given. Returns its offset.
    ///
    /// # Errors
    /// When the topic or the partition does not exist.
    pub fn pipe_record(&mut self, topic: &str, partition: Option<i32>, record: Record) -> Result<i64> {
        self.topics.append(topic, partition, record)
    }

    /// Processes everything that is there, until nothing is left.
    ///
    /// # Errors
    /// When a task stops, or the pipeline never ends.
    pub fn run(&mut self) -> Result<()> {
        for _ in 0..BATCHES_MAX {
            let mut worked = false;
            for task in 0..self.tasks.len() {
                worked |= self.batch(task)?;
            }
            if !worked {
                return Ok(());
            }
        }
        let message = format!("the pipeline still works after {BATCHES_MAX} rounds: does it feed itself?");
        Err(Error::new(ErrorCode::Internal, message))
    }

    /// Everything uncommitted is forgotten in all tasks, which begin anew. Nothing is uncommitted after [`run`](Self::run), so
    /// that this shows what a restart keeps.
    pub fn crash(&mut self) {
        for task in &mut self.tasks {
            task.restart(&self.plan);
        }
    }

    /// Moves the wall clock, lets timers fire, and processes what comes of it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn advance_wall_clock(&mut self, ms: i64) -> Result<()> {
        self.now_ms = self.now_ms.saturating_add(ms);
        self.punctuate(None)
    }

    /// Moves the stream time of every task, as for idle inputs, and processes what comes of it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn advance_stream_time(&mut self, stream_time_ms: i64) -> Result<()> {
        self.punctuate(Some(stream_time_ms))
    }

    /// What was done so far, repeated work after crashes included.
    #[must_use]
    pub fn processed(&self) -> &Processed {
        &self.processed
    }

    fn punctuate(&mut self, stream_time_ms: Option<i64>) -> Result<()> {
        let punctuation = Punctuation { stream_time_ms, now_ms: self.now_ms };
        for task in &mut self.tasks {
            let mut more_due = true;
            while more_due {
                while self.crashes.next() != Crash::None {
                    task.punctuate(punctuation)?;
                    task.restart(&self.plan);
                }
                let (outputs, processed) = task.punctuate(punctuation)?;
                task.commit();
                more_due = processed.more_due;
                self.processed.add(processed);
                self.topics.append_outputs(task.sub_topology(), outputs)?;
            }
        }
        self.run()
    }

    /// One micro-batch of a task; whether there was anything to do.
    fn batch(&mut self, task: usize) -> Result<bool> {
        let task = &mut self.tasks[task];
        let inputs = task.take_inputs(&self.topics, self.batch_records);
        if inputs.is_empty() {
            return Ok(false);
        }
        match self.crashes.next() {
            Crash::Inside => {
                task.process(self.now_ms, &inputs[..inputs.len() / 2])?;
                task.restart(&self.plan);
            }
            Crash::BeforeCommit => {
                task.process(self.now_ms, &inputs)?;
                task.restart(&self.plan);
            }
            Crash::None => {
                let (outputs, processed) = task.process(self.now_ms, &inputs)?;
                task.commit();
                self.processed.add(processed);
                self.topics.append_outputs(task.sub_topology(), outputs)?;
            }
        }
        Ok(true)
    }

    fn states(&self, sub_topology: i32) -> impl Iterator<Item = &MemoryState> {
        self.tasks.iter().filter(move |task| task.sub_topology().index == sub_topology).map(DriverTask::state)
    }
}
