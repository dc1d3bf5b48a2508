//! The task: takes micro-batches from its inputs to durable commits.
//!
//! One loop, one owner. While a commit is on its way to disk the next batch is processed on top of it; that is right because
//! commits end in their order, and a commit that fails ends the task together with everything that was built on it.
//!
//! Order for a batch: process into the overlay, append the commit, wait until it is durable, apply it to the database, queue
//! its outputs. Dropping the task at any point is what a crash does, and harmless.

use std::sync::Arc;

use futures::future::BoxFuture;
use sunseo_client::admin::OffsetQuery;
use sunseo_proto::error::Result;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::commit::{CommitHead, Output};
use super::forward::{Forwarder, Outputs};
use super::input::{Input, Inputs};
use super::log::{Span, TaskLog};
use super::restore::{Restored, Unforwarded, restore};
use super::retry::again;
use super::spec::TaskSpec;
use super::status::TaskPhase;
use crate::plan::Plan;
use crate::store::overlay::TaskState;
use crate::store::position::StorePosition;
use crate::task::{InputRecord, OutputRecord, Processed, Punctuation, TaskCore, TaskMeta};
use crate::time::IdleClock;

/// Records processed between two looks at everything else.
const SLICE_RECORDS: usize = 256;
/// Bytes of written state and outputs at which a micro-batch is committed, whatever its number of records.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Runs a task until it is stopped.
///
/// # Errors
/// Why it cannot go on.
pub(crate) async fn run(spec: Arc<TaskSpec>, stop: CancellationToken) -> Result<()> {
    spec.status.enter(TaskPhase::Restoring, None);
    let started = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        started = Task::start(Arc::clone(&spec)) => started,
    };
    let mut task = started?;
    spec.status.enter(TaskPhase::Running, None);
    task.run(&stop).await?;
    task.finish().await
}

/// A micro-batch under construction.
#[derive(Debug, Default)]
struct Batch {
    records: usize,
    outputs: Vec<Output>,
    output_bytes: usize,
    opened: Option<Instant>,
}

/// A commit on its way to disk.
struct Committing {
    durable: BoxFuture<'static, Result<()>>,
    span: Span,
    head: CommitHead,
    outputs: Vec<Output>,
    begun: Instant,
}

struct Task {
    spec: Arc<TaskSpec>,
    core: TaskCore,
    state: TaskState,
    inputs: Inputs,
    log: TaskLog,
    forwarder: Forwarder,
    unforwarded: Unforwarded,
    batch: Batch,
    committing: Option<Committing>,
    /// Head of the next commit; its numbers run ahead of what is durable.
    next: CommitHead,
    idle: Option<IdleClock>,
    /// Stream time at the last record.
    record_time_ms: Option<i64>,
    /// More timers are due than the last punctuation fired.
    more_due: bool,
    slice: Vec<InputRecord>,
    emitted: Vec<OutputRecord>,
}

impl Task {
    async fn start(spec: Arc<TaskSpec>) -> Result<Self> {
        let (Restored { producer, log, position, unforwarded, replayed }, outputs) = restore(&spec).await?;
        tracing::debug!(task = spec.producer_name(), replayed, unforwarded = outputs.len(), "task restored");
        let mut core = TaskCore::new(&spec.plan, spec.sub_topology, spec.partition)?;
        let next = match position {
            Some(position) => {
                core.restore_meta(TaskMeta::decode(&position.head.meta)?);
                report_commit(&spec, &position.head);
                let StorePosition { next_output, head, .. } = position;
                CommitHead { number: head.number + 1, first_output: next_output, ..head }
            }
            None => first_head(),
        };
        let forwarded = outputs.first().map_or(next.first_output, |outputs| outputs.first);
        let mut forwarder = Forwarder::start(producer, forwarded);
        for outputs in outputs {
            forwarder.send(outputs).await?;
        }
        let inputs = open_inputs(&spec, &next).await?;
        let now_ms = spec.shared.clock.now_ms();
        let recent_bytes = spec.shared.config.recent_state_bytes / task_count(&spec.plan);
        Ok(Self {
            state: TaskState::new(
                Arc::clone(&spec.shared.db),
                spec.place.clone(),
                &spec.stores,
                recent_bytes,
            ),
            record_time_ms: core.stream_time_ms(),
            idle: spec.idle_after_ms.map(|idle_after_ms| IdleClock::new(idle_after_ms, now_ms)),
            batch: Batch::default(),
            committing: None,
            more_due: false,
            slice: Vec::with_capacity(SLICE_RECORDS),
            emitted: Vec::new(),
            spec,
            core,
            inputs,
            log,
            forwarder,
            unforwarded,
            next,
        })
    }

    async fn run(&mut self, stop: &CancellationToken) -> Result<()> {
        let mut tick = tokio::time::interval(self.spec.shared.config.tick_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.committing.is_none() && self.is_due() {
                self.commit()?;
            }
            let can_process = self.has_room() && (self.more_due || self.inputs.is_ready());
            let due_at = self.batch.opened.filter(|_| self.committing.is_none());
            let due_at = due_at.map(|opened| opened + self.spec.shared.config.commit_interval);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                durable = durable(&mut self.committing) => {
                    durable?;
                    self.committed().await?;
                }
                error = self.forwarder.ended() => return Err(error),
                _ = tick.tick() => self.punctuate()?,
                fetched = self.inputs.fetch() => fetched?,
                // gives the thread to other tasks first
                () = tokio::task::yield_now(), if can_process => match self.more_due {
                    true => self.punctuate()?,
                    false => self.process()?,
                },
                () = sleep_until(due_at) => {}
            }
        }
    }

    /// Ends in order: what is on its way is applied and forwarded, what is not committed is dropped.
    async fn finish(mut self) -> Result<()> {
        if self.committing.is_some() {
            durable(&mut self.committing).await?;
            self.committed().await?;
        }
        self.forwarder.drain().await
    }

    fn has_room(&self) -> bool {
        let bytes = self.state.batch_bytes() + self.batch.output_bytes;
        self.batch.records < self.spec.shared.config.batch_records_max && bytes < BATCH_BYTES_MAX
    }

    fn is_due(&self) -> bool {
        let interval = self.spec.shared.config.commit_interval;
        self.batch.opened.is_some_and(|opened| !self.has_room() || opened.elapsed() >= interval)
    }

    /// Takes a slice of records through the operators.
    fn process(&mut self) -> Result<()> {
        let room = self.spec.shared.config.batch_records_max - self.batch.records;
        self.inputs.take(room.min(SLICE_RECORDS), &mut self.slice);
        if self.slice.is_empty() {
            return Ok(());
        }
        let now_ms = self.spec.shared.clock.now_ms();
        let done = self.core.process(now_ms, &self.slice, &mut self.state, &mut self.emitted)?;
        let taken = usize::try_from(done.records).unwrap_or(usize::MAX).min(self.slice.len());
        self.batch.records += taken;
        self.next.processed += taken as u64;
        self.inputs.put_back(self.slice.drain(taken..).rev());
        self.slice.clear();
        self.record_time_ms = self.core.stream_time_ms();
        if let Some(idle) = &mut self.idle {
            idle.active(now_ms);
        }
        self.take_emitted(done)
    }

    /// Fires timers. Stream time follows the wall clock only when every input is read to its end: a task that is behind is
    /// not idle.
    fn punctuate(&mut self) -> Result<()> {
        if !self.has_room() {
            // after the commit; meanwhile the batch would only grow
            self.more_due = true;
            return Ok(());
        }
        let now_ms = self.spec.shared.clock.now_ms();
        if !self.inputs.is_caught_up()
            && let Some(idle) = &mut self.idle
        {
            idle.active(now_ms);
        }
        let idle = self.idle.as_ref();
        let stream_time_ms = idle.and_then(|idle| idle.stream_time_ms(self.record_time_ms, now_ms));
        let punctuation = Punctuation { stream_time_ms, now_ms };
        let done = self.core.punctuate(punctuation, &mut self.state, &mut self.emitted)?;
        self.more_due = done.more_due;
        self.spec.status.figures().lag = self.inputs.lag();
        self.take_emitted(done)
    }

    fn take_emitted(&mut self, done: Processed) -> Result<()> {
        self.next.dead_letters += done.dead_letters;
        count(&self.spec, &done);
        for OutputRecord { sink, partition, record } in self.emitted.drain(..) {
            let topic = self.spec.sinks.get(sink.0 as usize).ok_or_else(|| {
                sunseo_proto::Error::internal(format!("sink {} does not belong to this task", sink.0))
            })?;
            let bytes = |field: &Option<bytes::Bytes>| field.as_ref().map_or(0, bytes::Bytes::len);
            self.batch.output_bytes += bytes(&record.key) + bytes(&record.value) + 64;
            self.batch.outputs.push(Output { topic: Arc::clone(topic), partition, record });
        }
        let changed =
            self.batch.records > 0 || !self.batch.outputs.is_empty() || self.state.batch_bytes() > 0;
        if changed && self.batch.opened.is_none() {
            self.batch.opened = Some(Instant::now());
        }
        Ok(())
    }

    /// Ends the batch and sends its commit on its way.
    fn commit(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let head = CommitHead {
            inputs: self.inputs.offsets(),
            meta: self.core.snapshot_meta().encode(),
            stream_time_ms: self.core.stream_time_ms().unwrap_or_default(),
            forwarded: self.forwarder.forwarded(),
            ..self.next.clone()
        };
        self.next.number += 1;
        self.next.first_output += batch.outputs.len() as i64;
        let body = self.state.seal(&head, &batch.outputs);
        metrics::histogram!("sunseo_engine_commit_bytes").record(body.len() as f64);
        let (span, durable) = self.log.append(head.number, body)?;
        let begun = Instant::now();
        self.committing = Some(Committing { durable, span, head, outputs: batch.outputs, begun });
        Ok(())
    }

    /// The commit on its way is durable.
    async fn committed(&mut self) -> Result<()> {
        let Some(Committing { span, head, outputs, begun, .. }) = self.committing.take() else {
            return Ok(());
        };
        metrics::histogram!("sunseo_engine_commit_seconds").record(begun.elapsed().as_secs_f64());
        let outputs = Outputs { first: head.first_output, outputs };
        let next_output = outputs.next();
        if !outputs.outputs.is_empty() {
            self.unforwarded.add(next_output, span.first_offset);
        }
        let replay_from = self.unforwarded.replay_from(self.forwarder.forwarded(), span.next_offset);
        report_commit(&self.spec, &head);
        let log_id = self.spec.log_id.clone();
        let next_offset = span.next_offset;
        let position = StorePosition { log_id, next_offset, replay_from, next_output, head };
        self.state.applied(&position)?;
        {
            let mut figures = self.spec.status.figures();
            (figures.lag, figures.worker) = (self.inputs.lag(), super::threads::current());
        }
        if outputs.outputs.is_empty() { Ok(()) } else { self.forwarder.send(outputs).await }
    }
}

/// Ends when the commit on its way is durable; never, when there is none.
async fn durable(committing: &mut Option<Committing>) -> Result<()> {
    match committing {
        Some(committing) => (&mut committing.durable).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn task_count(plan: &Plan) -> usize {
    plan.sub_topologies.iter().map(|sub| usize::try_from(sub.partitions).unwrap_or(0)).sum::<usize>().max(1)
}

fn first_head() -> CommitHead {
    CommitHead {
        number: 0,
        inputs: Vec::new(),
        meta: TaskMeta::default().encode(),
        stream_time_ms: 0,
        processed: 0,
        dead_letters: 0,
        first_output: 0,
        forwarded: 0,
    }
}

/// Each input where the last commit stopped, or at its start.
async fn open_inputs(spec: &TaskSpec, head: &CommitHead) -> Result<Inputs> {
    let mut inputs = Vec::new();
    for (source, topic) in &spec.sources {
        let known =
            head.inputs.iter().find(|input| input.topic == *topic && input.partition == spec.partition);
        let offset = match known {
            Some(input) => input.next_offset,
            None => {
                let admin = spec.shared.client.admin();
                again(|| admin.offset(topic, spec.partition, OffsetQuery::Start)).await?.unwrap_or_default()
            }
        };
        inputs.push(Input::new(*source, topic.clone(), spec.partition, offset));
    }
    let config = &spec.shared.config;
    let transport = Arc::clone(spec.shared.client.transport());
    Ok(Inputs::new(transport, inputs, config.input_buffer_bytes, config.request_timeout))
}

fn report_commit(spec: &TaskSpec, head: &CommitHead) {
    let mut figures = spec.status.figures();
    figures.commit = head.number;
    figures.stream_time_ms = head.stream_time_ms;
    figures.processed = head.processed;
    figures.dead_letters = head.dead_letters;
}

fn count(spec: &TaskSpec, done: &Processed) {
    let labels = [("pipeline", spec.place.pipeline.clone())];
    metrics::counter!("sunseo_engine_records_total", &labels).increment(done.records);
    metrics::counter!("sunseo_engine_outputs_total", &labels).increment(done.outputs);
    metrics::counter!("sunseo_engine_dead_letters_total", &labels).increment(done.dead_letters);
    metrics::counter!("sunseo_engine_dropped_total", &labels).increment(done.dropped.values().sum());
}
