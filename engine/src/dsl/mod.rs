//! How a user writes a pipeline: typed streams and tables, with the names and the semantics of Kafka Streams.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use sunseo_engine::dsl::{CollectOptions, TopologyBuilder};
//! use sunseo_engine::json_serde;
//!
//! #[derive(Clone, Debug, Serialize, Deserialize)]
//! struct Delivery {
//!     rider: String,
//!     district: String,
//!     status: String,
//! }
//! #[derive(Clone, Debug, Serialize, Deserialize)]
//! struct Rider {
//!     name: String,
//! }
//! json_serde!(Delivery, Rider);
//!
//! # fn main() -> sunseo_proto::error::Result<()> {
//! let builder = TopologyBuilder::new("deliveries").dead_letter("deliveries-dead-letter");
//! let events = builder.stream::<String, Delivery>("events", "delivery");
//! let riders = builder.table::<String, Rider>("riders", "rider");
//!
//! // Keyed by rider, the stream goes through a repartition topic before it meets the table.
//! events
//!     .select_key("by-rider", |_delivery, event| Ok(event.rider.clone()))
//!     .left_join("with-rider", &riders, |_rider, event, rider| {
//!         Ok(format!("{} {}", rider.map_or("nobody", |r| r.name.as_str()), event.status))
//!     })
//!     .to("rider-feed", "rider-feed");
//!
//! // A delivery that moves to another district or status is taken out of one count and put into another.
//! events
//!     .to_table("latest")
//!     .group_by("by-district", |_delivery, event| {
//!         Ok((format!("{}/{}", event.district, event.status), event.clone()))
//!     })
//!     .count("count-by-district");
//!
//! // One summary for each delivery, at the latest two hours of stream time after its first event.
//! events
//!     .collect_until("summary", CollectOptions::timeout_ms(7_200_000), |_delivery, events| {
//!         Ok(events.iter().any(|event| event.status == "delivered"))
//!     })
//!     .map_values("summary-text", |collected| Ok(format!("{} events", collected.events.len())))
//!     .to("summaries", "delivery-summary");
//!
//! let topology = builder.build()?;
//! assert_eq!(topology.topics().len(), 5);
//! # Ok(())
//! # }
//! ```
//!
//! **Ids.** Every operator has an id that stays when the program changes; stores and internal topics are named after it.
//!
//! **Null.** A `Stream<K, V>` has no null keys and no null values: records that do are left out and counted. Declare
//! `Stream<K, Option<V>>` (or `Option<K>`) where null has a meaning; the functions then get `Option<&V>`. Tables delete a key on
//! null, and [`Table::to_stream`] gives `Stream<K, Option<V>>`.
//!
//! **Errors.** Functions return [`UserResult`](crate::UserResult). An error (or a panic) sends the input record with its
//! error to the dead-letter topic and leaves no other trace of it, or stops the task: [`ErrorPolicy`].
//!
//! **Keys.** Functions that may change the key mark the stream; a stateful operator behind a marked stream reads it
//! through a repartition topic.

mod codec;
mod grouped;
mod stream;
mod table;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use sunseo_proto::error::Result;

pub use crate::ops::collect::{COLLECT_EVENTS_MAX, CollectEnd, CollectOptions, Collected, LateEvents};
pub use crate::ops::stateless::RecordView;
pub use crate::ops::{Origin, TimeKind};
pub use crate::topology::{ErrorPolicy, Topology};
pub use grouped::{GroupedStream, GroupedTable};
pub use stream::Stream;
pub use table::Table;

use crate::ops::store::TimestampedStore;
use crate::ops::table::Materialize;
use crate::plan::StoreFormat;
use crate::serde::{Field, Serde, SerdeRef};
use crate::task::StoreIndex;
use crate::topology::graph::{Body, DERIVED, Graph, Node, NodeId, Port};

type SharedGraph = Rc<RefCell<Graph>>;

/// Begins a topology. Streams and tables are handles into it and may be used several times.
#[derive(Debug)]
pub struct TopologyBuilder {
    name: String,
    graph: SharedGraph,
    dead_letter: Option<String>,
    idle_after_ms: Option<i64>,
}

impl TopologyBuilder {
    /// A pipeline of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), graph: SharedGraph::default(), dead_letter: None, idle_after_ms: None }
    }

    /// Where records go that cannot be handled. Without one, such a record stops its task.
    #[must_use]
    pub fn dead_letter(mut self, topic: impl Into<String>) -> Self {
        self.dead_letter = Some(topic.into());
        self
    }

    /// Lets stream time follow the wall clock when a task had no record for this long.
    #[must_use]
    pub fn idle_after_ms(mut self, idle_after_ms: i64) -> Self {
        self.idle_after_ms = Some(idle_after_ms);
        self
    }

    /// The records of a topic.
    pub fn stream<K: Field, V: Field>(&self, id: &str, topic: &str) -> Stream<K, V> {
        self.source(id, topic, None)
    }

    /// The records of a topic, with its own policy for records that cannot be handled.
    pub fn stream_with_policy<K: Field, V: Field>(
        &self,
        id: &str,
        topic: &str,
        policy: ErrorPolicy,
    ) -> Stream<K, V> {
        self.source(id, topic, Some(policy))
    }

    /// A topic as a table: the latest value by key, kept in the store `id`. A null value deletes the key.
    pub fn table<K: Serde, V: Serde>(&self, id: &str, topic: &str) -> Table<K, V> {
        let source: Stream<K, Option<V>> = self.source(&derived(id, "source"), topic, None);
        materialize(&self.graph, id, "table", source.port)
    }

    /// Checks the ids and ends the building.
    ///
    /// # Errors
    /// Lists every id that is missing, malformed or used twice, and other mistakes.
    pub fn build(self) -> Result<Topology> {
        let graph = std::mem::take(&mut *self.graph.borrow_mut());
        Topology::new(self.name, graph, self.dead_letter, self.idle_after_ms)
    }

    fn source<K: Field, V: Field>(&self, id: &str, topic: &str, policy: Option<ErrorPolicy>) -> Stream<K, V> {
        let body = Body::Source { topic: topic.to_owned(), decode: codec::decode::<K, V>(), policy };
        let node = Node::new(id, "source", Vec::new(), body).signature(types::<K::Inner, V::Inner>());
        Stream::new(&self.graph, add(&self.graph, node), false)
    }
}

fn add(graph: &SharedGraph, node: Node) -> NodeId {
    graph.borrow_mut().add(node)
}

/// Id of something that belongs to the operator `id`.
fn derived(id: &str, what: &str) -> String {
    format!("{id}{DERIVED}{what}")
}

fn types<K: Serde, V: Serde>() -> String {
    format!("{} -> {}", K::type_name(), V::type_name())
}

fn add_store<K: Serde, V: Serde>(graph: &SharedGraph, id: &str) -> StoreIndex {
    let types = (SerdeRef::of::<K>(), SerdeRef::of::<V>());
    graph.borrow_mut().add_store(id, id, types, StoreFormat::Timestamped)
}

/// A table whose values are kept in the store `id`.
fn materialize<K: Serde, V: Serde>(
    graph: &SharedGraph,
    id: &str,
    kind: &'static str,
    input: Port,
) -> Table<K, V> {
    let store = TimestampedStore::<K, V>::new(add_store::<K, V>(graph, id));
    let node = Node::operator(id, kind, vec![input], Arc::new(Materialize { store }))
        .copartitioned()
        .signature(types::<K, V>());
    Table::new(graph, add(graph, node), store.getter())
}
