//! From the graph to the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};

use super::partitions::{origins, resolve};
use super::wiring::{Edge, Role, Station, TimerStation, Wiring};
use super::{Plan, RepartitionTopic, SinkKind, SinkSpec, SourceSpec, StoreSpec, SubTopology};
use crate::task::{SinkIndex, SourceIndex, StoreIndex};
use crate::topology::Topology;
use crate::topology::graph::{Body, DERIVED, Node, NodeId};

/// Prefix of the topics between sub-topologies.
pub const REPARTITION_TOPIC_PREFIX: &str = "__repartition";

impl Plan {
    /// The plan of a topology whose topics have these partition counts (`None`: no such topic).
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTopic`] for a topic that does not exist; [`ErrorCode::InvalidArgument`] when topics that meet in an
    /// operator have different partition counts, or one sub-topology reads a topic twice.
    pub fn new(topology: &Topology, partitions_of: &dyn Fn(&str) -> Option<i32>) -> Result<Arc<Self>> {
        let nodes = &topology.nodes;
        let counts = resolve(nodes, partitions_of)?;
        let topic_count = |topic: &str| {
            partitions_of(topic).filter(|count| *count > 0).ok_or_else(|| {
                let message = format!(
                    "pipeline {} writes topic {topic:?}, which does not exist: create it",
                    topology.name
                );
                Error::new(ErrorCode::UnknownTopic, message)
            })
        };
        let mut sub_topologies = Vec::new();
        for component in components(nodes) {
            let index = sub_topologies.len() as i32;
            let mut builder = SubBuilder::new(topology, &counts, &component);
            builder.sources()?;
            builder.stations(&topic_count)?;
            builder.connect();
            sub_topologies.push(builder.finish(index));
        }
        let stores = stores(topology, &sub_topologies);
        let repartition_topics = repartition_topics(topology, &counts);
        let (pipeline, topology) = (topology.name.clone(), topology.clone());
        Ok(Arc::new(Self { pipeline, sub_topologies, stores, repartition_topics, topology }))
    }
}

fn repartition_topic(pipeline: &str, operator: &str) -> String {
    format!("{REPARTITION_TOPIC_PREFIX}.{pipeline}.{}", base_id(operator))
}

/// The id that a user gave.
fn base_id(id: &str) -> &str {
    id.split(DERIVED).next().unwrap_or(id)
}

fn is_repartition(node: &Node) -> bool {
    matches!(node.body, Body::Repartition { .. })
}

/// Nodes that are connected without a repartition topic, ordered by their first node. A repartition node belongs to the
/// side that reads it.
fn components(nodes: &[Node]) -> Vec<BTreeSet<NodeId>> {
    let mut components: Vec<BTreeSet<NodeId>> = Vec::new();
    for (index, sources) in origins(nodes).into_iter().enumerate() {
        // Two components that share a source are one.
        let (touched, mut rest): (Vec<_>, Vec<_>) =
            components.into_iter().partition(|component| !component.is_disjoint(&sources));
        let mut joined: BTreeSet<NodeId> = touched.into_iter().flatten().chain(sources).collect();
        joined.insert(NodeId(index));
        rest.push(joined);
        components = rest;
    }
    components.sort_by_key(|component| component.first().copied());
    components
}

/// One sub-topology in the making.
struct SubBuilder<'a> {
    topology: &'a Topology,
    counts: &'a BTreeMap<NodeId, i32>,
    component: &'a BTreeSet<NodeId>,
    wiring: Wiring,
    sources: Vec<SourceSpec>,
    sinks: Vec<SinkSpec>,
    /// Station of each node; the writing side of a repartition has its station here, in the component it is written from.
    places: BTreeMap<NodeId, usize>,
}

impl<'a> SubBuilder<'a> {
    fn new(
        topology: &'a Topology,
        counts: &'a BTreeMap<NodeId, i32>,
        component: &'a BTreeSet<NodeId>,
    ) -> Self {
        let (wiring, sources, sinks) = (Wiring::default(), Vec::new(), Vec::new());
        Self { topology, counts, component, wiring, sources, sinks, places: BTreeMap::new() }
    }

    fn node(&self, id: NodeId) -> &'a Node {
        &self.topology.nodes[id.0]
    }

    fn station(&mut self, id: NodeId, role: Role) -> usize {
        self.wiring.stations.push(Station { id: self.node(id).id.clone(), role, edges: Vec::new() });
        let place = self.wiring.stations.len() - 1;
        self.places.insert(id, place);
        place
    }

    fn sources(&mut self) -> Result<()> {
        for &id in self.component {
            let node = self.node(id);
            let (topic, decode, policy) = match &node.body {
                Body::Source { topic, decode, policy } => {
                    (topic.clone(), decode, policy.unwrap_or(self.topology.policy))
                }
                Body::Repartition { decode, .. } => {
                    (repartition_topic(&self.topology.name, &node.id), decode, self.topology.policy)
                }
                Body::Operator(_) | Body::Sink { .. } => continue,
            };
            if let Some(twice) = self.sources.iter().find(|source| source.topic == topic) {
                let message = format!(
                    "sources {:?} and {:?} read topic {topic:?} in one sub-topology: read it once and use that stream twice",
                    twice.operator, node.id
                );
                return Err(Error::new(ErrorCode::InvalidArgument, message).at("topology"));
            }
            let place = self.station(id, Role::Source { decode: decode.clone(), policy });
            self.wiring.sources.push(place);
            let index = SourceIndex(self.sources.len() as u32);
            let (operator, partitions) = (node.id.clone(), self.counts[&id]);
            let repartition = is_repartition(node);
            self.sources.push(SourceSpec { index, operator, topic, partitions, repartition });
        }
        Ok(())
    }

    /// Operators and sinks, the writing sides of repartition topics among them.
    fn stations(&mut self, topic_count: &dyn Fn(&str) -> Result<i32>) -> Result<()> {
        for (index, node) in self.topology.nodes.iter().enumerate() {
            let id = NodeId(index);
            match &node.body {
                Body::Operator(operator) if self.component.contains(&id) => {
                    let station = self.station(id, Role::Operator(operator.clone()));
                    if let Some((store, time)) = node.timers {
                        self.wiring.timers.push(TimerStation { station, store, time });
                    }
                }
                Body::Sink { topic, encode } if self.component.contains(&id) => {
                    let sink = self.sink(&node.id, topic.clone(), topic_count(topic)?, SinkKind::Output);
                    self.station(id, Role::Sink { sink, encode: encode.clone(), drops_null_keys: false });
                }
                Body::Repartition { encode, .. }
                    if node.inputs.iter().any(|input| self.component.contains(&input.node)) =>
                {
                    let topic = repartition_topic(&self.topology.name, &node.id);
                    let sink = self.sink(&node.id, topic, self.counts[&id], SinkKind::Repartition);
                    let drops_null_keys = node.id.contains(DERIVED);
                    // A repartition that is read and written here would have two stations; edges lead to the written one.
                    let read = self.places.get(&id).copied();
                    let station =
                        self.station(id, Role::Sink { sink, encode: encode.clone(), drops_null_keys });
                    self.connect_to(id, station);
                    if let Some(read) = read {
                        self.places.insert(id, read);
                    }
                }
                _ => {}
            }
        }
        if let Some(topic) = self.topology.dead_letter.clone() {
            let count = topic_count(&topic)?;
            self.wiring.dead_letter = Some(self.sink("", topic, count, SinkKind::DeadLetter));
        }
        Ok(())
    }

    fn sink(&mut self, operator: &str, topic: String, partitions: i32, kind: SinkKind) -> SinkIndex {
        let index = SinkIndex(self.sinks.len() as u32);
        self.sinks.push(SinkSpec { index, operator: operator.to_owned(), topic, partitions, kind });
        index
    }

    /// The edges between the stations; those to repartition topics are there already.
    fn connect(&mut self) {
        for (&id, &place) in &self.places.clone() {
            if !is_repartition(self.node(id)) {
                self.connect_to(id, place);
            }
        }
        for station in &mut self.wiring.stations {
            station.edges.sort_by_key(|edge| (edge.to, edge.port));
        }
    }

    fn connect_to(&mut self, id: NodeId, to: usize) {
        for (port, input) in self.node(id).inputs.iter().enumerate() {
            let from = self.places.get(&input.node).filter(|_| !input.reads_only);
            if let Some(&from) = from {
                self.wiring.stations[from].edges.push(Edge { output: input.output, to, port });
            }
        }
    }

    fn finish(self, index: i32) -> SubTopology {
        let name = self.sources.first().map_or("", |source| base_id(&source.operator)).to_owned();
        let partitions = self.sources.iter().map(|source| source.partitions).max().unwrap_or(1);
        let operators: BTreeSet<&str> =
            self.component.iter().map(|id| self.topology.nodes[id.0].id.as_str()).collect();
        let stores = self
            .topology
            .stores
            .iter()
            .enumerate()
            .filter(|(_, store)| operators.contains(store.operator.as_str()))
            .map(|(place, _)| StoreIndex(place as u32))
            .collect();
        let wiring = Arc::new(self.wiring);
        SubTopology { index, name, partitions, sources: self.sources, sinks: self.sinks, stores, wiring }
    }
}

fn stores(topology: &Topology, sub_topologies: &[SubTopology]) -> Vec<StoreSpec> {
    let specs = topology.stores.iter().enumerate().map(|(place, store)| {
        let index = StoreIndex(place as u32);
        let home = sub_topologies.iter().find(|sub| sub.stores.contains(&index));
        StoreSpec {
            id: store.id.clone(),
            index,
            operator: store.operator.clone(),
            sub_topology: home.map_or(0, |sub| sub.index),
            partitions: home.map_or(1, |sub| sub.partitions),
            key: store.key,
            value: store.value,
            format: store.format,
        }
    });
    specs.collect()
}

fn repartition_topics(topology: &Topology, counts: &BTreeMap<NodeId, i32>) -> Vec<RepartitionTopic> {
    let internal = topology.nodes.iter().enumerate().filter(|(_, node)| is_repartition(node));
    internal
        .map(|(index, node)| RepartitionTopic {
            topic: repartition_topic(&topology.name, &node.id),
            operator: node.id.clone(),
            partitions: counts[&NodeId(index)],
        })
        .collect()
}
