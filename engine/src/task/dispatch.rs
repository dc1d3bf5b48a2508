//! One record, or one timer, through the stations of a sub-topology, depth first.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sunseo_proto::{Header, Record, partitioner};

use super::{OutputRecord, Processed, SinkIndex, StoreIndex};
use crate::ops::{Context, Message, OpError, OpResult, Operator, Origin, Timer};
use crate::plan::SubTopology;
use crate::plan::wiring::{Role, Wiring};
use crate::serde::UserResult;
use crate::state::StateAccess;
use crate::topology::graph::EncodeFn;

/// The surroundings of one record.
pub(super) struct Dispatch<'a> {
    pub sub_topology: &'a SubTopology,
    pub wiring: &'a Wiring,
    pub partition: i32,
    pub state: &'a mut dyn StateAccess,
    pub origin: Option<Origin<'a>>,
    pub headers: &'a [Header],
    pub stream_time_ms: i64,
    pub now_ms: i64,
    pub out: &'a mut Vec<OutputRecord>,
    pub timers_set: &'a mut Vec<(StoreIndex, i64)>,
    pub processed: &'a mut Processed,
    /// Station that is at work: where an error happened.
    pub stage: usize,
}

/// What follows a station's own work.
enum Begin<'m> {
    Message(usize, Message),
    Timer(&'m Timer),
}

impl Dispatch<'_> {
    /// Sends a decoded record on from its source.
    pub fn source(&mut self, source: usize, message: &Message) -> OpResult<()> {
        self.caught(|this| this.follow(source, 0, message))
    }

    /// Fires a timer; with `forwards == false` its state is removed but its result goes nowhere.
    pub fn timer(&mut self, station: usize, timer: &Timer, forwards: bool) -> OpResult<()> {
        self.caught(|this| {
            let Role::Operator(operator) = &this.wiring.stations[station].role else { return Ok(()) };
            let forwarded = this.work(station, operator.as_ref(), Begin::Timer(timer))?;
            if forwards {
                for (output, message) in forwarded {
                    this.follow(station, output, &message)?;
                }
            }
            Ok(())
        })
    }

    /// A panic in a user's function is an error of the record: nothing of it is kept, so nothing is half done.
    fn caught(&mut self, body: impl FnOnce(&mut Self) -> OpResult<()>) -> OpResult<()> {
        caught(|| body(self)).unwrap_or_else(|panic| Err(OpError::Record(panic)))
    }

    fn follow(&mut self, station: usize, output: u16, message: &Message) -> OpResult<()> {
        let wiring = self.wiring;
        for edge in wiring.stations[station].edges.iter().filter(|edge| edge.output == output) {
            self.stage = edge.to;
            match &wiring.stations[edge.to].role {
                Role::Source { .. } => {}
                Role::Sink { sink, encode, drops_null_keys } => {
                    self.write(edge.to, *sink, encode, *drops_null_keys, message)?;
                }
                Role::Operator(operator) => {
                    let begin = Begin::Message(edge.port, message.clone());
                    for (output, message) in self.work(edge.to, operator.as_ref(), begin)? {
                        self.follow(edge.to, output, &message)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn work(
        &mut self,
        station: usize,
        operator: &dyn Operator,
        begin: Begin<'_>,
    ) -> OpResult<Vec<(u16, Message)>> {
        self.stage = station;
        let mut forwarded = Vec::new();
        let mut ctx = Context {
            state: &mut *self.state,
            origin: self.origin,
            stream_time_ms: self.stream_time_ms,
            now_ms: self.now_ms,
            forwarded: &mut forwarded,
            timers_set: self.timers_set,
            dropped: &mut self.processed.dropped,
            counted: &mut self.processed.counted,
            operator_id: &self.wiring.stations[station].id,
        };
        match begin {
            Begin::Message(port, message) => operator.process(port, message, &mut ctx)?,
            Begin::Timer(timer) => operator.fire(timer, &mut ctx)?,
        }
        Ok(forwarded)
    }

    fn write(
        &mut self,
        station: usize,
        sink: SinkIndex,
        encode: &EncodeFn,
        drops_null_keys: bool,
        message: &Message,
    ) -> OpResult<()> {
        if drops_null_keys && message.key.is_none() {
            let id = &self.wiring.stations[station].id;
            *self.processed.dropped.entry(id.clone()).or_default() += 1;
            return Ok(());
        }
        let (key, value) = encode(message)?;
        let headers = super::dead_letter::user_headers(self.headers);
        let record = Record { offset: 0, timestamp_ms: message.timestamp_ms, key, value, headers };
        self.out.push(place(self.sub_topology, self.partition, sink, record));
        Ok(())
    }
}

/// Runs a user's code; a panic becomes an error.
pub(super) fn caught<T>(body: impl FnOnce() -> T) -> UserResult<T> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        format!("panicked: {text}").into()
    })
}

/// The partition of an output: by key, and for a null key the task's own as far as the topic has it.
pub(super) fn place(
    sub_topology: &SubTopology,
    task_partition: i32,
    sink: SinkIndex,
    record: Record,
) -> OutputRecord {
    let partitions = sub_topology.sinks[sink.0 as usize].partitions.max(1);
    let partition = match &record.key {
        Some(key) => partitioner::partition_of(key, partitions),
        None => task_partition % partitions,
    };
    OutputRecord { sink, partition, record }
}
