//! Streams and tables grouped by key, to be aggregated. Every aggregate is a table kept in the store of its id.

use std::sync::Arc;

use super::{SharedGraph, Stream, Table, add, add_store, codec, derived, types};
use crate::ops::aggregate::{Aggregate, FoldFn};
use crate::ops::store::TimestampedStore;
use crate::serde::datum::{Datum, Of, datum, downcast, field_datum};
use crate::serde::{Field, Serde, UserResult};
use crate::topology::graph::{Body, Node, NodeId, Port};

/// A stream grouped by its key.
#[derive(Debug)]
pub struct GroupedStream<K, V> {
    graph: SharedGraph,
    port: Port,
    rekeyed: bool,
    types: Of<(K, V)>,
}

impl<K: Serde, V: Serde> GroupedStream<K, V> {
    pub(super) fn new(graph: &SharedGraph, port: Port, rekeyed: bool) -> Self {
        Self { graph: graph.clone(), port, rekeyed, types: Of::default() }
    }

    /// How many records each key has.
    pub fn count(&self, id: &str) -> Table<K, i64> {
        self.aggregate(id, |_| Ok(0), |_, _, count: &i64| Ok(count.saturating_add(1)))
    }

    /// The records of each key combined two by two; the first stands for itself.
    pub fn reduce(
        &self,
        id: &str,
        f: impl Fn(&V, &V) -> UserResult<V> + Send + Sync + 'static,
    ) -> Table<K, V> {
        self.fold(id, "reduce", reduce_fn(f))
    }

    /// The records of each key folded into a value that begins with `initial`. `Option` as the aggregate's type lets the
    /// function delete it.
    pub fn aggregate<A: Serde, R: Field<Inner = A>>(
        &self,
        id: &str,
        initial: impl Fn(&K) -> UserResult<A> + Send + Sync + 'static,
        add: impl Fn(&K, &V, &A) -> UserResult<R> + Send + Sync + 'static,
    ) -> Table<K, A> {
        self.fold(id, "aggregate", aggregate_fn(initial, add))
    }

    fn fold<A: Serde>(&self, id: &str, kind: &'static str, add: FoldFn) -> Table<K, A> {
        let stream = Stream::<K, V>::new(&self.graph, self.port, self.rekeyed).partitioned(id);
        aggregate_node(&self.graph, id, kind, stream.port, add, None)
    }
}

/// A table regrouped by another key.
#[derive(Debug)]
pub struct GroupedTable<K, V> {
    graph: SharedGraph,
    node: NodeId,
    types: Of<(K, V)>,
}

impl<K: Serde, V: Serde> GroupedTable<K, V> {
    pub(super) fn new(graph: &SharedGraph, node: NodeId) -> Self {
        Self { graph: graph.clone(), node, types: Of::default() }
    }

    /// How many rows each group has. A group that becomes empty keeps the count 0, as in Kafka Streams.
    pub fn count(&self, id: &str) -> Table<K, i64> {
        let add = |_: &K, _: &V, count: &i64| Ok(count.saturating_add(1));
        let subtract = |_: &K, _: &V, count: &i64| Ok(count.saturating_sub(1));
        self.aggregate(id, |_| Ok(0), add, subtract)
    }

    /// The rows of each group combined; `subtract` takes a row out of a combination that holds it.
    pub fn reduce(
        &self,
        id: &str,
        add: impl Fn(&V, &V) -> UserResult<V> + Send + Sync + 'static,
        subtract: impl Fn(&V, &V) -> UserResult<V> + Send + Sync + 'static,
    ) -> Table<K, V> {
        self.fold(id, "table reduce", reduce_fn(add), reduce_fn(subtract))
    }

    /// The rows of each group folded into a value. `subtract` undoes `add`. `Option` as the aggregate's type lets either
    /// delete it.
    pub fn aggregate<A: Serde, R: Field<Inner = A>>(
        &self,
        id: &str,
        initial: impl Fn(&K) -> UserResult<A> + Send + Sync + 'static,
        add: impl Fn(&K, &V, &A) -> UserResult<R> + Send + Sync + 'static,
        subtract: impl Fn(&K, &V, &A) -> UserResult<R> + Send + Sync + 'static,
    ) -> Table<K, A> {
        let never = |_: &K| Err("subtracting from nothing: defect of the engine".into());
        self.fold(id, "table aggregate", aggregate_fn(initial, add), aggregate_fn(never, subtract))
    }

    fn fold<A: Serde>(&self, id: &str, kind: &'static str, plus: FoldFn, minus: FoldFn) -> Table<K, A> {
        let body = Body::Repartition {
            encode: codec::encode_table_change::<K, V>(),
            decode: codec::decode_table_change::<K, V>(),
            partitions: None,
        };
        let node = Node::new(derived(id, "repartition"), "repartition", vec![self.node.into()], body)
            .signature(types::<K, V>());
        let repartitioned = add(&self.graph, node);
        aggregate_node(&self.graph, id, kind, repartitioned.into(), plus, Some(minus))
    }
}

fn aggregate_node<K: Serde, A: Serde>(
    graph: &SharedGraph,
    id: &str,
    kind: &'static str,
    input: Port,
    plus: FoldFn,
    minus: Option<FoldFn>,
) -> Table<K, A> {
    let store = TimestampedStore::<K, A>::new(add_store::<K, A>(graph, id));
    let operator = Aggregate { store, add: plus, subtract: minus };
    let node =
        Node::operator(id, kind, vec![input], Arc::new(operator)).copartitioned().signature(types::<K, A>());
    Table::new(graph, add(graph, node), store.getter())
}

fn aggregate_fn<K: Serde, V: Serde, A: Serde, R: Field<Inner = A>>(
    initial: impl Fn(&K) -> UserResult<A> + Send + Sync + 'static,
    fold: impl Fn(&K, &V, &A) -> UserResult<R> + Send + Sync + 'static,
) -> FoldFn {
    Arc::new(move |key, value, aggregate| {
        let key = downcast::<K>(key)?;
        let aggregate = match aggregate {
            Some(aggregate) => aggregate,
            None => datum(initial(key)?),
        };
        Ok(field_datum(fold(key, downcast(value)?, downcast(&aggregate)?)?))
    })
}

fn reduce_fn<V: Serde>(f: impl Fn(&V, &V) -> UserResult<V> + Send + Sync + 'static) -> FoldFn {
    Arc::new(move |_, value: &Datum, aggregate| match aggregate {
        None => Ok(Some(value.clone())),
        Some(aggregate) => Ok(Some(datum(f(downcast(&aggregate)?, downcast(value)?)?))),
    })
}
