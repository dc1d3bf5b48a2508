//! The stream engine: a topology of typed operators, run as tasks with exactly-once state.
//!
//! The pure half (no IO, no clock, no random number):
//! - [`dsl`]: how a user writes a pipeline. [`serde`]: keys and values as bytes and as JSON.
//! - [`topology`]: the graph with its stable ids; validation, description, difference between two versions.
//! - [`plan`]: graph to sub-topologies, stores and internal topics.
//! - [`task`]: one sub-topology on one partition, records in, records out, over a [`StateAccess`].
//! - `ops` (not public): the operators, one a file. [`time`]: stream time and which input is read next.
//! - [`driver`]: runs a topology in memory with partitions, virtual time and crashes; [`state`] holds its store.
//!
//! The running half:
//! - [`Engine`]: deploys pipelines, runs their tasks, answers about them; [`grpc`] serves it, [`config`] sizes it.
//! - `runtime`: tasks, their logs, what they forward, and how they come back. `store`: the database under them.
//! - [`query`]: live reads of what is committed.

pub mod config;
pub mod driver;
pub mod dsl;
mod engine;
#[cfg(test)]
mod engine_tests;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz;
pub mod grpc;
mod ops;
pub mod plan;
pub mod query;
mod runtime;
pub mod serde;
pub mod state;
mod store;
pub mod task;
#[cfg(test)]
mod testing;
pub mod time;
pub mod topology;

pub use config::{DeployOptions, EngineConfig};
pub use dsl::{Stream, Table, TopologyBuilder};
pub use engine::Engine;
pub use plan::Plan;
pub use serde::{Field, Json, Serde, UserError, UserResult};
pub use state::StateAccess;
pub use store::open::wait_until_closed;
pub use task::{
    InputRecord, OutputRecord, Punctuation, SinkIndex, SourceIndex, StoreIndex, TaskCore, TaskMeta,
};
pub use topology::Topology;
