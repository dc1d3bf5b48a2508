//! The nodes of one sub-topology as a task runs them.

use std::fmt;
use std::sync::Arc;

use crate::ops::{Operator, TimeKind};
use crate::task::{SinkIndex, StoreIndex};
use crate::topology::ErrorPolicy;
use crate::topology::graph::{DecodeFn, EncodeFn};

/// An output of a node leads to a port of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub output: u16,
    pub to: usize,
    pub port: usize,
}

#[derive(Clone)]
pub(crate) enum Role {
    Source { decode: DecodeFn, policy: ErrorPolicy },
    Operator(Arc<dyn Operator>),
    Sink { sink: SinkIndex, encode: EncodeFn, drops_null_keys: bool },
}

#[derive(Clone)]
pub(crate) struct Station {
    pub id: String,
    pub role: Role,
    pub edges: Vec<Edge>,
}

/// Timers of a station.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimerStation {
    pub station: usize,
    pub store: StoreIndex,
    pub time: TimeKind,
}

#[derive(Clone, Default)]
pub(crate) struct Wiring {
    pub stations: Vec<Station>,
    /// By [`SourceIndex`](crate::task::SourceIndex).
    pub sources: Vec<usize>,
    pub timers: Vec<TimerStation>,
    pub dead_letter: Option<SinkIndex>,
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.stations.iter().map(|station| &station.id)).finish()
    }
}
