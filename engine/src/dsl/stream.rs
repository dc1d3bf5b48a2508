//! Streams of records.

use std::sync::Arc;

use super::{
    CollectOptions, Collected, GroupedStream, RecordView, SharedGraph, Table, add, codec, derived,
    materialize, types,
};
use crate::ops::collect::{CollectUntil, complete_fn};
use crate::ops::join_stream_table::JoinStreamTable;
use crate::ops::{Joiner, Operator, stateless};
use crate::plan::StoreFormat;
use crate::serde::datum::{Of, datum, downcast, downcast_option};
use crate::serde::{Field, Serde, SerdeRef, UserResult};
use crate::topology::graph::{Body, Node, Port};

/// A stream of records with keys `K` and values `V`; see the [module](super) for null and errors.
#[derive(Debug)]
pub struct Stream<K, V> {
    pub(super) graph: SharedGraph,
    pub(super) port: Port,
    /// The key may have changed since the last topic.
    pub(super) rekeyed: bool,
    types: Of<(K, V)>,
}

impl<K, V> Clone for Stream<K, V> {
    fn clone(&self) -> Self {
        Self { graph: self.graph.clone(), port: self.port, rekeyed: self.rekeyed, types: Of::default() }
    }
}

impl<K: Field, V: Field> Stream<K, V> {
    pub(super) fn new(graph: &SharedGraph, port: impl Into<Port>, rekeyed: bool) -> Self {
        Self { graph: graph.clone(), port: port.into(), rekeyed, types: Of::default() }
    }

    fn then<K2: Field, V2: Field>(
        &self,
        id: &str,
        kind: &'static str,
        rekeys: bool,
        operator: Arc<dyn Operator>,
    ) -> Stream<K2, V2> {
        let node =
            Node::operator(id, kind, vec![self.port], operator).signature(types::<K2::Inner, V2::Inner>());
        Stream::new(&self.graph, add(&self.graph, node), self.rekeyed || rekeys)
    }

    /// Each record to another one.
    pub fn map<K2: Field, V2: Field>(
        &self,
        id: &str,
        f: impl Fn(K::Ref<'_>, V::Ref<'_>) -> UserResult<(K2, V2)> + Send + Sync + 'static,
    ) -> Stream<K2, V2> {
        let operator = stateless::flat_map::<K, V, K2, V2>(move |r| Ok(vec![f(r.key, r.value)?]));
        self.then(id, "map", true, operator)
    }

    /// Each value to another one.
    pub fn map_values<V2: Field>(
        &self,
        id: &str,
        f: impl Fn(V::Ref<'_>) -> UserResult<V2> + Send + Sync + 'static,
    ) -> Stream<K, V2> {
        self.then(id, "map-values", false, stateless::map_values::<K, V, V2>(move |r| f(r.value)))
    }

    /// Each value to another one, with everything that is known of the record: key, timestamp, origin, headers.
    pub fn map_values_record<V2: Field>(
        &self,
        id: &str,
        f: impl Fn(RecordView<'_, K, V>) -> UserResult<V2> + Send + Sync + 'static,
    ) -> Stream<K, V2> {
        self.then(id, "map-values", false, stateless::map_values::<K, V, V2>(f))
    }

    /// Each record to any number of records.
    pub fn flat_map<K2: Field, V2: Field>(
        &self,
        id: &str,
        f: impl Fn(K::Ref<'_>, V::Ref<'_>) -> UserResult<Vec<(K2, V2)>> + Send + Sync + 'static,
    ) -> Stream<K2, V2> {
        let operator = stateless::flat_map::<K, V, K2, V2>(move |r| f(r.key, r.value));
        self.then(id, "flat-map", true, operator)
    }

    /// Each record to any number of records, with everything that is known of the record.
    pub fn flat_map_record<K2: Field, V2: Field>(
        &self,
        id: &str,
        f: impl Fn(RecordView<'_, K, V>) -> UserResult<Vec<(K2, V2)>> + Send + Sync + 'static,
    ) -> Stream<K2, V2> {
        self.then(id, "flat-map", true, stateless::flat_map::<K, V, K2, V2>(f))
    }

    /// Each value to any number of values.
    pub fn flat_map_values<V2: Field>(
        &self,
        id: &str,
        f: impl Fn(V::Ref<'_>) -> UserResult<Vec<V2>> + Send + Sync + 'static,
    ) -> Stream<K, V2> {
        let operator = stateless::flat_map_values::<K, V, V2>(move |r| f(r.value));
        self.then(id, "flat-map-values", false, operator)
    }

    /// Another key for each record.
    pub fn select_key<K2: Field>(
        &self,
        id: &str,
        f: impl Fn(K::Ref<'_>, V::Ref<'_>) -> UserResult<K2> + Send + Sync + 'static,
    ) -> Stream<K2, V> {
        self.then(id, "select-key", true, stateless::select_key::<K, V, K2>(f))
    }

    /// Records that the predicate accepts.
    pub fn filter(
        &self,
        id: &str,
        f: impl Fn(K::Ref<'_>, V::Ref<'_>) -> UserResult<bool> + Send + Sync + 'static,
    ) -> Self {
        self.then(id, "filter", false, stateless::filter::<K, V>(f))
    }

    /// Each record to one of `N` streams; the function gives the place. A place of `N` or more leaves the record out, counted.
    ///
    /// `let [small, large] = stream.branch("by-size", |_, v| Ok(usize::from(*v > 9)));`
    pub fn branch<const N: usize>(
        &self,
        id: &str,
        f: impl Fn(K::Ref<'_>, V::Ref<'_>) -> UserResult<usize> + Send + Sync + 'static,
    ) -> [Self; N] {
        let first: Self = self.then(id, "branch", false, stateless::branch::<K, V>(N, f));
        std::array::from_fn(|output| {
            // An array of 65,536 streams does not come up; the operator refuses outputs beyond u16 as well.
            let port = Port { output: output as u16, ..first.port };
            Self::new(&self.graph, port, self.rekeyed)
        })
    }

    /// The records of both streams, in the order they are processed.
    pub fn merge(&self, id: &str, other: &Self) -> Self {
        let node = Node::operator(id, "merge", vec![self.port, other.port], stateless::pass())
            .signature(types::<K::Inner, V::Inner>());
        Self::new(&self.graph, add(&self.graph, node), self.rekeyed || other.rekeyed)
    }

    /// Counts the records that pass, for metrics ([`Processed::counted`](crate::task::Processed)); changes nothing.
    pub fn counted(&self, id: &str) -> Self {
        self.then(id, "counted", false, stateless::count_records())
    }

    /// Through an internal topic, so that records of a key come together in one partition; with as many partitions as the
    /// topics it is joined with or comes from. Stateful operators do this by themselves where it is needed.
    pub fn repartition(&self, id: &str) -> Self {
        self.through_internal(id, None)
    }

    /// Through an internal topic with this many partitions.
    pub fn repartition_with(&self, id: &str, partitions: i32) -> Self {
        self.through_internal(id, Some(partitions))
    }

    fn through_internal(&self, id: &str, partitions: Option<i32>) -> Self {
        let (encode, decode) = (codec::encode::<K, V>(), codec::decode::<K, V>());
        let body = Body::Repartition { encode, decode, partitions };
        let node =
            Node::new(id, "repartition", vec![self.port], body).signature(types::<K::Inner, V::Inner>());
        Self::new(&self.graph, add(&self.graph, node), false)
    }

    /// The stream with its keys in their partitions, for the operator `id`.
    pub(super) fn partitioned(&self, id: &str) -> Self {
        if self.rekeyed { self.repartition(&derived(id, "repartition")) } else { self.clone() }
    }

    /// Writes the records to a topic.
    pub fn to(&self, id: &str, topic: &str) {
        let body = Body::Sink { topic: topic.to_owned(), encode: codec::encode::<K, V>() };
        let node = Node::new(id, "sink", vec![self.port], body).signature(types::<K::Inner, V::Inner>());
        add(&self.graph, node);
    }

    /// Writes the records to a topic of yours and goes on with what that topic holds.
    pub fn through(&self, id: &str, topic: &str) -> Self {
        self.to(&derived(id, "sink"), topic);
        let body = Body::Source { topic: topic.to_owned(), decode: codec::decode::<K, V>(), policy: None };
        let node = Node::new(id, "source", Vec::new(), body).signature(types::<K::Inner, V::Inner>());
        Self::new(&self.graph, add(&self.graph, node), false)
    }

    /// The latest value by key, kept in the store `id`. Later is what comes later in the topic, whatever its timestamp; a null
    /// value deletes the key (declare the stream's value as `Option`).
    pub fn to_table(&self, id: &str) -> Table<K::Inner, V::Inner> {
        let input = self.partitioned(id).port;
        materialize(&self.graph, id, "to-table", input)
    }

    /// Each record with the table's value at its key; records without one are left out. The timestamp is the record's.
    pub fn join<VT: Serde, V2: Field>(
        &self,
        id: &str,
        table: &Table<K::Inner, VT>,
        f: impl Fn(&K::Inner, &V::Inner, &VT) -> UserResult<V2> + Send + Sync + 'static,
    ) -> Stream<K, V2> {
        let joiner = self.joiner(move |key, value, right| match right {
            Some(right) => f(key, value, right),
            None => Err("an inner join without a right side: defect of the engine".into()),
        });
        self.join_table(id, table, false, joiner)
    }

    /// Each record with the table's value at its key, if there is one. The timestamp is the record's.
    pub fn left_join<VT: Serde, V2: Field>(
        &self,
        id: &str,
        table: &Table<K::Inner, VT>,
        f: impl Fn(&K::Inner, &V::Inner, Option<&VT>) -> UserResult<V2> + Send + Sync + 'static,
    ) -> Stream<K, V2> {
        self.join_table(id, table, true, self.joiner(f))
    }

    fn joiner<VT: Serde, V2: Field>(
        &self,
        f: impl Fn(&K::Inner, &V::Inner, Option<&VT>) -> UserResult<V2> + Send + Sync + 'static,
    ) -> Joiner {
        Arc::new(move |key, left, right| {
            let left = left.ok_or("a join without a left side: defect of the engine")?;
            let joined = f(downcast(key)?, downcast(left)?, downcast_option(right)?)?;
            Ok(joined.into_inner().map(datum))
        })
    }

    fn join_table<VT: Serde, V2: Field>(
        &self,
        id: &str,
        table: &Table<K::Inner, VT>,
        left: bool,
        joiner: Joiner,
    ) -> Stream<K, V2> {
        let operator = JoinStreamTable { table: table.getter.clone(), joiner, left };
        let kind = if left { "stream-table left join" } else { "stream-table join" };
        // The table's output is no input of the operator: its changes give nothing. It is named so that both end up in one
        // sub-topology with equal partitions.
        let inputs = vec![self.partitioned(id).port, table.port.reading()];
        let node =
            Node::operator(id, kind, inputs, Arc::new(operator))
                .copartitioned()
                .signature(types::<K::Inner, V2::Inner>());
        Stream::new(&self.graph, add(&self.graph, node), false)
    }

    /// Groups by the key as it is.
    pub fn group_by_key(&self) -> GroupedStream<K::Inner, V::Inner> {
        GroupedStream::new(&self.graph, self.port, self.rekeyed)
    }

    /// Groups by another key.
    pub fn group_by<K2: Serde>(
        &self,
        id: &str,
        f: impl Fn(K::Ref<'_>, V::Ref<'_>) -> UserResult<K2> + Send + Sync + 'static,
    ) -> GroupedStream<K2, V::Inner> {
        let selected: Stream<K2, V> = self.then(id, "group-by", true, stateless::select_key::<K, V, K2>(f));
        GroupedStream::new(&self.graph, selected.port, true)
    }

    /// Gathers the events of each key until `complete` holds for them, or the time-out passes, or there are too many; emits
    /// them once and forgets them. [`CollectOptions`] says how time is measured and what happens to late events.
    ///
    /// The timestamp is the largest among the events, or the deadline when stream time passed it.
    pub fn collect_until(
        &self,
        id: &str,
        options: CollectOptions,
        complete: impl Fn(&K::Inner, &[V::Inner]) -> UserResult<bool> + Send + Sync + 'static,
    ) -> Stream<K::Inner, Collected<V::Inner>> {
        let input = self.partitioned(id).port;
        let serdes = (SerdeRef::of::<K::Inner>(), SerdeRef::of::<V::Inner>());
        let timers_id = derived(id, "timers");
        let (collections, timers) = {
            let mut graph = self.graph.borrow_mut();
            let collections = graph.add_store(id, id, serdes, StoreFormat::Collection);
            (collections, graph.add_store(&timers_id, id, serdes, StoreFormat::Internal))
        };
        let complete = complete_fn::<K::Inner, V::Inner>(complete);
        let operator =
            CollectUntil { collections, timers, complete, options, types: Of::<K::Inner>::default() };
        let mut node = Node::operator(id, "collect-until", vec![input], Arc::new(operator))
            .copartitioned()
            .signature(format!("{} by {:?}", types::<K::Inner, V::Inner>(), options.time));
        node.timers = Some((timers, options.time));
        Stream::new(&self.graph, add(&self.graph, node), false)
    }
}
