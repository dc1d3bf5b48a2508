//! The graph as the DSL builds it.
//!
//! Nodes refer only to nodes made before them, so there is no cycle. What is wrong with ids is collected and reported when
//! the topology is built, all at once.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::ops::{Message, Operator};
use crate::plan::StoreFormat;
use crate::serde::datum::Datum;
use crate::serde::{SerdeRef, UserResult};
use crate::task::StoreIndex;

/// Place of a node in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub usize);

/// One output of a node; every node but a branch has only output 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub node: NodeId,
    pub output: u16,
    /// Only the state of the node is read; its messages do not come here.
    pub reads_only: bool,
}

impl Port {
    pub fn reading(self) -> Self {
        Self { reads_only: true, ..self }
    }
}

impl From<NodeId> for Port {
    fn from(node: NodeId) -> Self {
        Self { node, output: 0, reads_only: false }
    }
}

/// Key and value of a record as messages: key, new, old.
pub(crate) type Decoded = (Option<Datum>, Option<Datum>, Option<Datum>);
pub(crate) type DecodeFn = Arc<dyn Fn(Option<&Bytes>, Option<&Bytes>) -> UserResult<Decoded> + Send + Sync>;
/// A message as key and value of a record.
pub(crate) type EncodeFn = Arc<dyn Fn(&Message) -> UserResult<(Option<Bytes>, Option<Bytes>)> + Send + Sync>;

/// What to do with a record that cannot be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPolicy {
    /// Send it to the pipeline's dead-letter topic and go on.
    DeadLetter,
    /// Stop the task at it.
    Stop,
}

/// What a node does.
#[derive(Clone)]
pub(crate) enum Body {
    Source {
        topic: String,
        decode: DecodeFn,
        policy: Option<ErrorPolicy>,
    },
    Operator(Arc<dyn Operator>),
    /// Writes to an internal topic and reads it again as another sub-topology.
    Repartition {
        encode: EncodeFn,
        decode: DecodeFn,
        partitions: Option<i32>,
    },
    Sink {
        topic: String,
        encode: EncodeFn,
    },
}

#[derive(Clone)]
pub(crate) struct Node {
    pub id: String,
    /// Name of the operation, for descriptions.
    pub kind: &'static str,
    pub inputs: Vec<Port>,
    pub body: Body,
    /// Keys must lie in the same partition in everything this node reads.
    pub copartitioned: bool,
    /// Types and settings that decide the stored form.
    pub signature: String,
    /// Operators with timers: the store and the clock.
    pub timers: Option<(StoreIndex, crate::ops::TimeKind)>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} <- {:?}", self.kind, self.id, self.inputs)
    }
}

impl Node {
    pub fn new(id: impl Into<String>, kind: &'static str, inputs: Vec<Port>, body: Body) -> Self {
        let id = id.into();
        Self { id, kind, inputs, body, copartitioned: false, signature: String::new(), timers: None }
    }

    pub fn operator(
        id: impl Into<String>,
        kind: &'static str,
        inputs: Vec<Port>,
        operator: Arc<dyn Operator>,
    ) -> Self {
        Self::new(id, kind, inputs, Body::Operator(operator))
    }

    pub fn copartitioned(mut self) -> Self {
        self.copartitioned = true;
        self
    }

    pub fn signature(mut self, signature: String) -> Self {
        self.signature = signature;
        self
    }
}

/// A store as it was declared.
#[derive(Clone, Debug)]
pub(crate) struct StoreDef {
    pub id: String,
    /// Set when the node that writes it is added.
    pub operator: String,
    pub key: SerdeRef,
    pub value: SerdeRef,
    pub format: StoreFormat,
}

/// Separates the id a user gave from what the engine adds behind it.
pub(crate) const DERIVED: char = ':';

/// Longest id; topic names are made of ids.
pub const ID_CHARS_MAX: usize = 100;

/// Nodes and stores under construction.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub nodes: Vec<Node>,
    pub stores: Vec<StoreDef>,
    pub problems: Vec<String>,
}

impl Graph {
    pub fn add(&mut self, node: Node) -> NodeId {
        self.check_id("operator", &node.id);
        if self.nodes.iter().any(|known| known.id == node.id) {
            self.problems
                .push(format!("operator id {:?} is used twice: give each operator its own", node.id));
        }
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    /// Declares a store of the operator `operator`.
    pub fn add_store(
        &mut self,
        id: &str,
        operator: &str,
        types: (SerdeRef, SerdeRef),
        format: StoreFormat,
    ) -> StoreIndex {
        if self.stores.iter().any(|known| known.id == id) {
            self.problems.push(format!("store id {id:?} is used twice: give each store its own"));
        }
        let (key, value) = types;
        let (id, operator) = (id.to_owned(), operator.to_owned());
        self.stores.push(StoreDef { id, operator, key, value, format });
        StoreIndex((self.stores.len() - 1) as u32)
    }

    fn check_id(&mut self, what: &str, id: &str) {
        let base = id.split(DERIVED).next().unwrap_or_default();
        let derived_ok = id.matches(DERIVED).count() <= 1;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let problem = if base.is_empty() {
            "is empty: give a stable one".to_owned()
        } else if base.len() > ID_CHARS_MAX {
            format!("has {} characters: use at most {ID_CHARS_MAX}", base.len())
        } else if !base.chars().all(legal) || !derived_ok {
            "may hold only letters, digits, '-', '_' and '.'".to_owned()
        } else {
            return;
        };
        self.problems.push(format!("{what} id {id:?} {problem}"));
    }
}
