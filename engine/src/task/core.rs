//! The task: inputs in their order, timers when they are due, failures to the dead-letter topic.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};

use super::dispatch::{Dispatch, caught, place};
use super::record::{InputRecord, OutputRecord, Processed, Punctuation, StoreIndex, TaskMeta};
use super::scope::RecordScope;
use super::{SourceIndex, dead_letter};
use crate::ops::{Message, OpError, OpResult, Origin, TimeKind, Timer};
use crate::plan::wiring::{Role, TimerStation, Wiring};
use crate::plan::{Plan, SubTopology};
use crate::serde::{ordered_i64, take_ordered_i64};
use crate::state::StateAccess;
use crate::topology::ErrorPolicy;

/// Timers that are read at once.
const TIMERS_PER_SCAN: usize = 256;
/// Bytes of writes and outputs at which a call ends early, however many timers are due: a commit has its bounds, and a batch
/// that can never be committed would come again for ever.
const STEP_BYTES_MAX: usize = 8 << 20;

/// What is known of the first deadline in a timer store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextDeadline {
    Unknown,
    /// Not before this; `None`: there is none.
    NotBefore(Option<i64>),
}

/// One sub-topology on one partition.
#[derive(Debug)]
pub struct TaskCore {
    plan: Arc<Plan>,
    wiring: Arc<Wiring>,
    sub_topology: usize,
    partition: i32,
    meta: TaskMeta,
    /// By place in the wiring's timers. Only saves reads: it never decides what fires.
    next_deadlines: Vec<NextDeadline>,
    /// Buffer of [`RecordScope`].
    writes: Vec<(StoreIndex, Bytes, Option<Bytes>)>,
}

/// The arguments of a batch, passed on together.
struct Batch<'a> {
    now_ms: i64,
    state: &'a mut dyn StateAccess,
    out: &'a mut Vec<OutputRecord>,
    processed: Processed,
    /// Written and emitted by this call.
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(now_ms: i64, state: &'a mut dyn StateAccess, out: &'a mut Vec<OutputRecord>) -> Self {
        Self { now_ms, state, out, processed: Processed::default(), bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.bytes >= STEP_BYTES_MAX
    }
}

impl TaskCore {
    /// The task of a partition, as after no record at all; see [`restore_meta`](Self::restore_meta). A task must be made
    /// anew after its uncommitted writes were dropped.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownPartition`] when the plan has no such task.
    pub fn new(plan: &Arc<Plan>, sub_topology: i32, partition: i32) -> Result<Self> {
        let index = usize::try_from(sub_topology).ok();
        let sub = index.and_then(|index| plan.sub_topologies.get(index));
        let (Some(index), Some(sub)) = (index, sub.filter(|sub| (0..sub.partitions).contains(&partition)))
        else {
            let message = format!("pipeline {} has no task {sub_topology}-{partition}", plan.pipeline);
            return Err(Error::new(ErrorCode::UnknownPartition, message));
        };
        let wiring = sub.wiring.clone();
        let next_deadlines = vec![NextDeadline::Unknown; wiring.timers.len()];
        let (plan, meta, writes) = (plan.clone(), TaskMeta::default(), Vec::new());
        Ok(Self { plan, wiring, sub_topology: index, partition, meta, next_deadlines, writes })
    }

    /// Processes inputs in their order. Their writes go to `state`, their outputs are appended to `out`. A record whose
    /// processing fails has no effect except its dead letter. Timers of stream time that a record's timestamp makes due
    /// fire before the record, those of the wall clock before the first one.
    ///
    /// [`Processed::records`] says how many inputs were taken: when many timers are due, or outputs are large, the call ends
    /// early. The caller gives the others again, before or after a commit.
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
        let before = out.len();
        let mut batch = Batch::new(now_ms, state, out);
        self.fire_due(TimeKind::WallClock, &mut batch)?;
        for input in inputs {
            self.advance(input.timestamp_ms);
            self.fire_due(TimeKind::StreamTime, &mut batch)?;
            if batch.is_full() {
                break;
            }
            self.record(input, &mut batch)?;
            batch.processed.records += 1;
        }
        batch.processed.outputs = (batch.out.len() - before) as u64;
        Ok(batch.processed)
    }

    /// Fires the timers that are due. Call it between batches, about every second, and when
    /// [`IdleClock`](crate::time::IdleClock) says that stream time moves. Its writes and outputs are committed like a batch's.
    /// [`Processed::more_due`] asks to call it again.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    pub fn punctuate(
        &mut self,
        punctuation: Punctuation,
        state: &mut dyn StateAccess,
        out: &mut Vec<OutputRecord>,
    ) -> Result<Processed> {
        let before = out.len();
        let mut batch = Batch::new(punctuation.now_ms, state, out);
        if let Some(stream_time_ms) = punctuation.stream_time_ms {
            self.advance(stream_time_ms);
        }
        self.fire_due(TimeKind::StreamTime, &mut batch)?;
        self.fire_due(TimeKind::WallClock, &mut batch)?;
        batch.processed.more_due = batch.is_full();
        batch.processed.outputs = (batch.out.len() - before) as u64;
        Ok(batch.processed)
    }

    /// The largest timestamp seen; `None` before the first.
    #[must_use]
    pub fn stream_time_ms(&self) -> Option<i64> {
        self.meta.stream_time_ms
    }

    /// Whether operators of this task have timers; without any, [`punctuate`](Self::punctuate) only moves the time.
    #[must_use]
    pub fn has_timers(&self) -> bool {
        !self.wiring.timers.is_empty()
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

    /// The sub-topology this task runs.
    #[must_use]
    pub fn sub_topology(&self) -> &SubTopology {
        &self.plan.sub_topologies[self.sub_topology]
    }

    /// The partition this task runs.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    fn advance(&mut self, timestamp_ms: i64) {
        self.meta.stream_time_ms = self.meta.stream_time_ms.max(Some(timestamp_ms));
    }

    fn record(&mut self, input: &InputRecord, batch: &mut Batch<'_>) -> Result<()> {
        let plan = self.plan.clone();
        let sub_topology = &plan.sub_topologies[self.sub_topology];
        let (station, topic) = source(sub_topology, input.source)?;
        let Role::Source { decode, policy } = &sub_topology.wiring.stations[station].role else {
            return Err(Error::internal(format!("source {topic:?} leads to no source")));
        };
        let decoded = caught(|| decode(input.key.as_ref(), input.value.as_ref())).flatten();
        let (stage, error) = match decoded {
            Err(error) => (station, error),
            Ok((key, new, old)) => {
                let message = Message { key, new, old, timestamp_ms: input.timestamp_ms };
                let origin = Origin {
                    topic,
                    partition: input.partition,
                    offset: input.offset,
                    headers: &input.headers,
                };
                let (result, stage) = self.scoped(Some(origin), batch, |run| run.source(station, &message));
                match result {
                    Ok(()) => return Ok(()),
                    Err(OpError::State(error)) => return Err(error),
                    Err(OpError::Record(error)) => (stage, error),
                }
            }
        };
        let (stage, error) = (&sub_topology.wiring.stations[stage].id, error.to_string());
        let place = format!("{topic}/{}@{}", input.partition, input.offset);
        let letter = dead_letter::of_record(input, topic, stage, &error);
        self.dead_letter(*policy, letter, (&place, stage, &error), batch)
    }

    /// Runs `body` with the state of one record: kept when it succeeds, forgotten when not. Gives the station at work last.
    fn scoped(
        &mut self,
        origin: Option<Origin<'_>>,
        batch: &mut Batch<'_>,
        body: impl FnOnce(&mut Dispatch<'_>) -> OpResult<()>,
    ) -> (OpResult<()>, usize) {
        let outputs = batch.out.len();
        let mut timers_set = Vec::new();
        let mut scope = RecordScope::new(&mut *batch.state, std::mem::take(&mut self.writes));
        let mut dispatch = Dispatch {
            sub_topology: &self.plan.sub_topologies[self.sub_topology],
            wiring: &self.wiring,
            partition: self.partition,
            state: &mut scope,
            origin,
            headers: origin.map_or(&[], |origin| origin.headers),
            stream_time_ms: self.meta.stream_time_ms.unwrap_or(i64::MIN),
            now_ms: batch.now_ms,
            out: &mut *batch.out,
            timers_set: &mut timers_set,
            processed: &mut batch.processed,
            stage: 0,
        };
        let result = body(&mut dispatch);
        let stage = dispatch.stage;
        if result.is_ok() {
            batch.bytes += scope.bytes();
            self.writes = scope.commit();
            batch.bytes += batch.out[outputs..].iter().map(OutputRecord::bytes).sum::<usize>();
            self.note_timers(&timers_set);
        } else {
            self.writes = scope.discard();
            batch.out.truncate(outputs);
        }
        (result, stage)
    }

    fn note_timers(&mut self, timers_set: &[(StoreIndex, i64)]) {
        for (store, deadline_ms) in timers_set {
            for (timers, next) in self.wiring.timers.iter().zip(&mut self.next_deadlines) {
                if let (true, NextDeadline::NotBefore(known)) = (timers.store == *store, next) {
                    *known = Some(known.map_or(*deadline_ms, |known| known.min(*deadline_ms)));
                }
            }
        }
    }

    fn fire_due(&mut self, time: TimeKind, batch: &mut Batch<'_>) -> Result<()> {
        let now_ms = match time {
            TimeKind::StreamTime => self.meta.stream_time_ms.unwrap_or(i64::MIN),
            TimeKind::WallClock => batch.now_ms,
        };
        for index in 0..self.next_deadlines.len() {
            let timers = self.wiring.timers[index];
            let may_be_due = match self.next_deadlines[index] {
                NextDeadline::Unknown => true,
                NextDeadline::NotBefore(next) => next.is_some_and(|next| next <= now_ms),
            };
            if timers.time == time && may_be_due {
                self.fire_store(index, timers, now_ms, batch)?;
            }
        }
        Ok(())
    }

    /// Fires the timers of a store up to `now_ms` in the order of their deadlines, those included that are set meanwhile, until
    /// the batch is full.
    fn fire_store(
        &mut self,
        index: usize,
        timers: TimerStation,
        now_ms: i64,
        batch: &mut Batch<'_>,
    ) -> Result<()> {
        // Up to the smallest key of the next millisecond; at the end of time there is none.
        let end = now_ms.checked_add(1).map(ordered_i64);
        let to = end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
        loop {
            // Nothing is before the deadline that is known: what was fired there need not be passed over again.
            let begin = match self.next_deadlines[index] {
                NextDeadline::NotBefore(Some(next)) => Some(ordered_i64(next)),
                NextDeadline::NotBefore(None) | NextDeadline::Unknown => None,
            };
            let from = begin.as_ref().map_or(Bound::Unbounded, |begin| Bound::Included(&begin[..]));
            let due = batch.state.scan(timers.store, from, to, TIMERS_PER_SCAN)?;
            if due.is_empty() {
                let next = batch.state.scan(timers.store, from, Bound::Unbounded, 1)?;
                let next = next.first().map(|(stored, _)| parse_timer(stored)).transpose()?;
                self.next_deadlines[index] = NextDeadline::NotBefore(next.map(|timer| timer.deadline_ms));
                return Ok(());
            }
            for (stored, _) in &due {
                if batch.is_full() {
                    return Ok(());
                }
                self.fire(timers, &parse_timer(stored)?, batch)?;
            }
        }
    }

    fn fire(&mut self, timers: TimerStation, timer: &Timer, batch: &mut Batch<'_>) -> Result<()> {
        let (result, stage) = self.scoped(None, batch, |run| run.timer(timers.station, timer, true));
        let error = match result {
            Ok(()) => return Ok(()),
            Err(OpError::State(error)) => return Err(error),
            Err(OpError::Record(error)) => error.to_string(),
        };
        let wiring = self.wiring.clone();
        let stage = &wiring.stations[stage].id;
        let stored = self.stored_of_timer(timers, timer, batch)?;
        let stream_time_ms = self.meta.stream_time_ms.unwrap_or_default();
        let letter = dead_letter::of_timer(timer, stored, stream_time_ms, stage, &error);
        // The state is removed all the same, or the timer would fire for ever.
        let (removed, _) = self.scoped(None, batch, |run| run.timer(timers.station, timer, false));
        match removed {
            Ok(()) => {}
            Err(OpError::State(error)) => return Err(error),
            Err(OpError::Record(error)) => {
                return Err(Error::internal(format!("a timer of {stage} cannot be removed: {error}")));
            }
        }
        let place = format!("timer due {}", timer.deadline_ms);
        self.dead_letter(self.plan.topology.policy, letter, (&place, stage, &error), batch)
    }

    /// What the operator of a timer stored for the timer's key.
    fn stored_of_timer(
        &self,
        timers: TimerStation,
        timer: &Timer,
        batch: &mut Batch<'_>,
    ) -> Result<Option<Bytes>> {
        let operator = &self.wiring.stations[timers.station].id;
        let store = self.plan.stores.iter().find(|store| store.id == *operator);
        store.map_or(Ok(None), |store| batch.state.get(store.index, &timer.key))
    }

    fn dead_letter(
        &self,
        policy: ErrorPolicy,
        letter: sunseo_proto::Record,
        (place_of, stage, error): (&str, &str, &str),
        batch: &mut Batch<'_>,
    ) -> Result<()> {
        match (policy, self.wiring.dead_letter) {
            (ErrorPolicy::DeadLetter, Some(sink)) => {
                batch.processed.dead_letters += 1;
                let letter = place(self.sub_topology(), self.partition, sink, letter);
                batch.bytes += letter.bytes();
                batch.out.push(letter);
                Ok(())
            }
            _ => Err(Error::new(
                ErrorCode::InvalidArgument,
                format!(
                    "pipeline {} stops at {place_of}: operator {stage} fails with: {error}; correct the pipeline, or give \
                     it a dead-letter topic",
                    self.plan.pipeline
                ),
            )),
        }
    }
}

/// Station and topic of a source.
fn source(sub_topology: &SubTopology, index: SourceIndex) -> Result<(usize, &str)> {
    let station = sub_topology.wiring.sources.get(index.0 as usize);
    let spec = sub_topology.sources.get(index.0 as usize);
    station.copied().zip(spec.map(|spec| spec.topic.as_str())).ok_or_else(|| {
        let (name, sources) = (&sub_topology.name, sub_topology.sources.len());
        Error::internal(format!("a record of source {} for {name:?}, which has {sources}", index.0))
    })
}

fn parse_timer(stored: &Bytes) -> Result<Timer> {
    let (deadline_ms, _) = take_ordered_i64(stored).ok_or_else(|| {
        Error::new(ErrorCode::CorruptLog, format!("a stored timer has {} bytes, 8 at least", stored.len()))
    })?;
    Ok(Timer { deadline_ms, key: stored.slice(ordered_i64(0).len()..) })
}
