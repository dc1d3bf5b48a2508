//! Tables: one value by key, and its changes.

use std::fmt;
use std::sync::Arc;

use super::{GroupedTable, SharedGraph, Stream, add, materialize, types};
use crate::ops::group_table::{GroupFn, GroupTable};
use crate::ops::join_table_table::{JoinKind, JoinTableTable, joined_getter};
use crate::ops::table::{Derive, DeriveFn, derived_getter};
use crate::ops::{Getter, Joiner, stateless};
use crate::serde::datum::{Of, datum, downcast, downcast_option, field_datum};
use crate::serde::{Field, Serde, UserResult};
use crate::topology::graph::{Node, NodeId, Port};

/// A table of `V` by `K`. Tables that are derived ([`map_values`](Table::map_values), [`filter`](Table::filter), joins) keep
/// nothing: they are computed from the stores below. [`materialize`](Table::materialize) gives them a store for queries.
pub struct Table<K, V> {
    pub(super) graph: SharedGraph,
    pub(super) port: Port,
    pub(super) getter: Getter,
    types: Of<(K, V)>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self { graph: self.graph.clone(), port: self.port, getter: self.getter.clone(), types: Of::default() }
    }
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({:?})", self.port)
    }
}

impl<K: Serde, V: Serde> Table<K, V> {
    pub(super) fn new(graph: &SharedGraph, node: NodeId, getter: Getter) -> Self {
        Self { graph: graph.clone(), port: node.into(), getter, types: Of::default() }
    }

    /// Each value to another one; `Option` as the result's type lets the function take keys out of the table.
    pub fn map_values<V2: Field>(
        &self,
        id: &str,
        f: impl Fn(&K, &V) -> UserResult<V2> + Send + Sync + 'static,
    ) -> Table<K, V2::Inner> {
        let function: DeriveFn =
            Arc::new(move |key, value| Ok(field_datum(f(downcast(key)?, downcast(value)?)?)));
        self.derive(id, "map-values", function, false)
    }

    /// The keys whose values the predicate accepts.
    pub fn filter(&self, id: &str, f: impl Fn(&K, &V) -> UserResult<bool> + Send + Sync + 'static) -> Self {
        let function: DeriveFn =
            Arc::new(move |key, value| Ok(f(downcast(key)?, downcast(value)?)?.then(|| value.clone())));
        self.derive(id, "filter", function, true)
    }

    fn derive<V2: Serde>(
        &self,
        id: &str,
        kind: &'static str,
        function: DeriveFn,
        silent_when_absent: bool,
    ) -> Table<K, V2> {
        let operator = Derive { function: function.clone(), silent_when_absent };
        let node = Node::operator(id, kind, vec![self.port], Arc::new(operator)).signature(types::<K, V2>());
        Table::new(&self.graph, add(&self.graph, node), derived_getter(self.getter.clone(), function))
    }

    /// Keeps the table in the store `id`, where it can be queried.
    pub fn materialize(&self, id: &str) -> Self {
        materialize(&self.graph, id, "materialize", self.port)
    }

    /// The changes as a stream of new values; null when a key was deleted.
    pub fn to_stream(&self, id: &str) -> Stream<K, Option<V>> {
        let node = Node::operator(id, "to-stream", vec![self.port], stateless::to_stream())
            .signature(types::<K, V>());
        Stream::new(&self.graph, add(&self.graph, node), false)
    }

    /// Rows with a value on both sides.
    pub fn join<VR: Serde, V2: Serde>(
        &self,
        id: &str,
        right: &Table<K, VR>,
        f: impl Fn(&K, &V, &VR) -> UserResult<V2> + Send + Sync + 'static,
    ) -> Table<K, V2> {
        let joiner: Joiner = Arc::new(move |key, left, right| match (left, right) {
            (Some(left), Some(right)) => {
                Ok(Some(datum(f(downcast(key)?, downcast(left)?, downcast(right)?)?)))
            }
            _ => Err("an inner join without both sides: defect of the engine".into()),
        });
        self.join_table(id, right, JoinKind::Inner, joiner)
    }

    /// Rows with a value on the left side.
    pub fn left_join<VR: Serde, V2: Serde>(
        &self,
        id: &str,
        right: &Table<K, VR>,
        f: impl Fn(&K, &V, Option<&VR>) -> UserResult<V2> + Send + Sync + 'static,
    ) -> Table<K, V2> {
        let joiner: Joiner = Arc::new(move |key, left, right| {
            let left = left.ok_or("a left join without a left side: defect of the engine")?;
            Ok(Some(datum(f(downcast(key)?, downcast(left)?, downcast_option(right)?)?)))
        });
        self.join_table(id, right, JoinKind::Left, joiner)
    }

    /// Rows with a value on either side.
    pub fn outer_join<VR: Serde, V2: Serde>(
        &self,
        id: &str,
        right: &Table<K, VR>,
        f: impl Fn(&K, Option<&V>, Option<&VR>) -> UserResult<V2> + Send + Sync + 'static,
    ) -> Table<K, V2> {
        let joiner: Joiner = Arc::new(move |key, left, right| {
            Ok(Some(datum(f(downcast(key)?, downcast_option(left)?, downcast_option(right)?)?)))
        });
        self.join_table(id, right, JoinKind::Outer, joiner)
    }

    fn join_table<VR: Serde, V2: Serde>(
        &self,
        id: &str,
        right: &Table<K, VR>,
        kind: JoinKind,
        joiner: Joiner,
    ) -> Table<K, V2> {
        let (left, right_getter) = (self.getter.clone(), right.getter.clone());
        let join = Arc::new(JoinTableTable { left, right: right_getter, joiner, kind });
        let node = Node::operator(id, kind.name(), vec![self.port, right.port], join.clone())
            .copartitioned()
            .signature(types::<K, V2>());
        Table::new(&self.graph, add(&self.graph, node), joined_getter(&join))
    }

    /// Regroups the rows: the function gives each row's group and what is aggregated of it. A row that changes is taken out
    /// of its old group and put into its new one.
    pub fn group_by<K2: Serde, V2: Serde>(
        &self,
        id: &str,
        f: impl Fn(&K, &V) -> UserResult<(K2, V2)> + Send + Sync + 'static,
    ) -> GroupedTable<K2, V2> {
        let group: GroupFn = Arc::new(move |key, value| {
            let (group, value) = f(downcast(key)?, downcast(value)?)?;
            Ok(Some((datum(group), datum(value))))
        });
        let operator = GroupTable { group, key: Of::<K2>::default() };
        let node =
            Node::operator(id, "group-by", vec![self.port], Arc::new(operator)).signature(types::<K2, V2>());
        GroupedTable::new(&self.graph, add(&self.graph, node))
    }
}
