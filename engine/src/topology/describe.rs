//! A planned topology as data: shown to users, stored at a start, compared at the next one.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::graph::{Body, Node, NodeId};
use crate::plan::{Plan, SubTopology};

/// A topology with everything that decides whether its state can be used again. It is stored as JSON; unknown fields are
/// ignored and missing ones are empty, so that other versions can read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    pub pipeline: String,
    /// In the order of declaration.
    pub operators: Vec<OperatorDescription>,
    pub stores: Vec<StoreDescription>,
}

/// One operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperatorDescription {
    pub id: String,
    pub kind: String,
    pub inputs: Vec<String>,
    /// Topic of a source, sink or repartition; first store of an operator with state.
    pub target: String,
    /// Key and value types of what comes out.
    pub types: String,
    pub sub_topology: i32,
}

/// One store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreDescription {
    pub id: String,
    pub operator: String,
    pub key_type: String,
    pub value_type: String,
    /// Stable name of the sub-topology whose task logs hold the store.
    pub sub_topology: String,
    pub partitions: i32,
    /// Whether users may query it.
    pub queryable: bool,
}

impl Plan {
    /// The plan as data.
    #[must_use]
    pub fn describe(&self) -> Description {
        let nodes = &self.topology.nodes;
        let operators = nodes.iter().map(|node| self.describe_operator(nodes, node)).collect();
        let stores = self.stores.iter().map(|store| StoreDescription {
            id: store.id.clone(),
            operator: store.operator.clone(),
            key_type: store.key.type_name(),
            value_type: store.value.type_name(),
            sub_topology: self.sub_topologies[store.sub_topology as usize].name.clone(),
            partitions: store.partitions,
            queryable: store.queryable(),
        });
        Description { pipeline: self.pipeline.clone(), operators, stores: stores.collect() }
    }

    fn describe_operator(&self, nodes: &[Node], node: &Node) -> OperatorDescription {
        let name_of = |id: NodeId| nodes[id.0].id.clone();
        let target = match &node.body {
            Body::Source { topic, .. } | Body::Sink { topic, .. } => Some(topic.clone()),
            Body::Repartition { .. } => {
                let topic = self.repartition_topics.iter().find(|topic| topic.operator == node.id);
                topic.map(|topic| topic.topic.clone())
            }
            Body::Operator(_) => {
                let store = self.stores.iter().find(|store| store.operator == node.id);
                store.map(|store| store.id.clone())
            }
        };
        OperatorDescription {
            id: node.id.clone(),
            kind: node.kind.to_owned(),
            inputs: node.inputs.iter().map(|input| name_of(input.node)).collect(),
            target: target.unwrap_or_default(),
            types: node.signature.clone(),
            sub_topology: self.home(node).map_or(0, |sub| sub.index),
        }
    }

    /// Where an operator runs; a repartition belongs to those who read it.
    fn home(&self, node: &Node) -> Option<&SubTopology> {
        let reads = |sub: &&SubTopology| sub.sources.iter().any(|source| source.operator == node.id);
        let runs = |sub: &&SubTopology| sub.wiring.stations.iter().any(|station| station.id == node.id);
        self.sub_topologies.iter().find(reads).or_else(|| self.sub_topologies.iter().find(runs))
    }

    /// The plan as text, a sub-topology a paragraph.
    #[must_use]
    pub fn to_text(&self) -> String {
        let description = self.describe();
        let mut out = format!("pipeline {}\n", self.pipeline);
        for sub in &self.sub_topologies {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "\nsub-topology {} {:?}, {} tasks", sub.index, sub.name, sub.partitions);
            for operator in description.operators.iter().filter(|op| op.sub_topology == sub.index) {
                let _ = write!(out, "  {:<24} {}", operator.kind, operator.id);
                if !operator.inputs.is_empty() {
                    let _ = write!(out, " <- {}", operator.inputs.join(", "));
                }
                if !operator.target.is_empty() {
                    let stores = description.stores.iter().any(|store| store.operator == operator.id);
                    let what = if stores { "store" } else { "topic" };
                    let _ = write!(out, " ({what} {})", operator.target);
                }
                let _ = writeln!(out, " [{}]", operator.types);
            }
        }
        out
    }

    /// The plan as a Mermaid flow chart.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let description = self.describe();
        let operators = &description.operators;
        let place = |id: &str| operators.iter().position(|op| op.id == id).unwrap_or(0);
        let mut out = String::from("flowchart TD\n");
        for sub in &self.sub_topologies {
            let _ = writeln!(out, "  subgraph s{}[\"{} ({} tasks)\"]", sub.index, sub.name, sub.partitions);
            for operator in operators.iter().filter(|op| op.sub_topology == sub.index) {
                let label = format!("{}<br/>{}", operator.id, operator.kind);
                let _ = writeln!(out, "    n{}[\"{label}\"]", place(&operator.id));
            }
            out.push_str("  end\n");
        }
        for operator in operators {
            for input in &operator.inputs {
                let _ = writeln!(out, "  n{} --> n{}", place(input), place(&operator.id));
            }
        }
        out
    }
}
