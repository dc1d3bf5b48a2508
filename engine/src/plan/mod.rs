//! Graph to tasks: which operators run together, what they read, write and keep.
//!
//! A sub-topology is a part of the graph that is connected without a repartition topic; it runs as one task for each
//! partition. Its name is the id of its first source, so that adding operators behind leaves its task log alone.
//!
//! Not here: creating topics, placing tasks.

mod build;
mod partitions;
pub(crate) mod store;
#[cfg(test)]
mod tests;
pub(crate) mod wiring;

use std::sync::Arc;

pub(crate) use store::split_timestamped;
pub use store::{StoreFormat, StoreSpec};

use crate::task::{SinkIndex, SourceIndex, StoreIndex};
use crate::topology::Topology;
use wiring::Wiring;

/// A topology together with the partition counts of its topics. See also [`describe`](Plan::describe) and
/// [`diff`](crate::topology::diff).
#[derive(Clone, Debug)]
pub struct Plan {
    pub pipeline: String,
    /// In the order of their first source's declaration; [`SubTopology::index`] is the place.
    pub sub_topologies: Vec<SubTopology>,
    /// [`StoreIndex`] is the place.
    pub stores: Vec<StoreSpec>,
    /// Topics that the engine must create before tasks start; their names derive from operator ids.
    pub repartition_topics: Vec<RepartitionTopic>,
    pub(crate) topology: Topology,
}

/// A topic between two sub-topologies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepartitionTopic {
    pub topic: String,
    pub operator: String,
    pub partitions: i32,
}

/// Operators that run together; one task for each partition.
#[derive(Clone, Debug)]
pub struct SubTopology {
    pub index: i32,
    /// Id of the first source; stable over versions as long as that source is there.
    pub name: String,
    /// Tasks, the largest partition count of the sources. A task reads its partition of those sources that have it.
    pub partitions: i32,
    pub sources: Vec<SourceSpec>,
    pub sinks: Vec<SinkSpec>,
    pub stores: Vec<StoreIndex>,
    pub(crate) wiring: Arc<Wiring>,
}

/// An input of a sub-topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    pub index: SourceIndex,
    pub operator: String,
    pub topic: String,
    pub partitions: i32,
    /// Written by this pipeline itself, see [`Plan::repartition_topics`].
    pub repartition: bool,
}

/// An output of a sub-topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSpec {
    pub index: SinkIndex,
    pub operator: String,
    pub topic: String,
    pub partitions: i32,
    pub kind: SinkKind,
}

/// What a sink is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    Output,
    Repartition,
    DeadLetter,
}
