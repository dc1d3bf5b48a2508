//! The graph of a pipeline: stable ids, validation, description and the difference between two versions.
//!
//! A [`Topology`] is made by the [`dsl`](crate::dsl) and knows no partition counts; those come in when it is planned
//! ([`Plan::new`](crate::Plan::new)).

mod describe;
mod diff;
pub(crate) mod graph;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};

pub use describe::{Description, OperatorDescription, StoreDescription};
pub use diff::{Change, ChangeKind, diff};
pub use graph::{ErrorPolicy, ID_CHARS_MAX};

use graph::{Body, Graph, Node, StoreDef};

/// A pipeline, ready to be planned.
#[derive(Clone, Debug)]
pub struct Topology {
    pub(crate) name: String,
    pub(crate) nodes: Arc<[Node]>,
    pub(crate) stores: Arc<[StoreDef]>,
    pub(crate) dead_letter: Option<String>,
    pub(crate) policy: ErrorPolicy,
    pub(crate) idle_after_ms: Option<i64>,
}

impl Topology {
    pub(crate) fn new(
        name: String,
        graph: Graph,
        dead_letter: Option<String>,
        idle_after_ms: Option<i64>,
    ) -> Result<Self> {
        let policy = if dead_letter.is_some() { ErrorPolicy::DeadLetter } else { ErrorPolicy::Stop };
        let mut problems = graph.problems;
        if name.is_empty() || name.len() > ID_CHARS_MAX {
            problems
                .push(format!("the pipeline's name has {} characters: use 1 to {ID_CHARS_MAX}", name.len()));
        }
        if graph.nodes.is_empty() {
            problems.push("the topology has no operators: begin with a stream or a table".to_owned());
        }
        if dead_letter.is_none() {
            problems.extend(graph.nodes.iter().filter_map(|node| match &node.body {
                Body::Source { policy: Some(ErrorPolicy::DeadLetter), .. } => Some(format!(
                    "source {:?} sends bad records to a dead-letter topic, but the pipeline has none: name one with \
                     dead_letter(topic)",
                    node.id
                )),
                _ => None,
            }));
        }
        if !problems.is_empty() {
            let message = format!("pipeline {name:?}: {}", problems.join("; "));
            return Err(Error::new(ErrorCode::InvalidArgument, message).at("topology"));
        }
        let (nodes, stores) = (graph.nodes.into(), graph.stores.into());
        Ok(Self { name, nodes, stores, dead_letter, policy, idle_after_ms })
    }

    /// Name of the pipeline.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Topics that must exist before the pipeline starts: what it reads, writes, and where it sends bad records. Repartition
    /// topics are not among them, the engine creates those.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        let mut topics: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|node| match &node.body {
                Body::Source { topic, .. } | Body::Sink { topic, .. } => Some(topic.clone()),
                Body::Operator(_) | Body::Repartition { .. } => None,
            })
            .chain(self.dead_letter.clone())
            .collect();
        topics.sort();
        topics.dedup();
        topics
    }

    /// After how much wall-clock time without a record the stream time of a task follows the wall clock; see
    /// [`IdleClock`](crate::time::IdleClock).
    #[must_use]
    pub fn idle_after_ms(&self) -> Option<i64> {
        self.idle_after_ms
    }
}
