//! How many partitions each source of the graph has.
//!
//! Sources that meet in an operator with state must have the same number, or a key's records would lie in different tasks.
//! Topics have theirs; a repartition topic takes that of the topics it meets, otherwise the largest of those it comes from.

use std::collections::{BTreeMap, BTreeSet};

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};

use crate::topology::graph::{Body, Node, NodeId};

/// The sources each node's messages and state come from, without crossing a repartition topic.
pub(super) fn origins(nodes: &[Node]) -> Vec<BTreeSet<NodeId>> {
    let mut origins: Vec<BTreeSet<NodeId>> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let own = match node.body {
            Body::Source { .. } | Body::Repartition { .. } => BTreeSet::from([NodeId(index)]),
            Body::Operator(_) | Body::Sink { .. } => {
                node.inputs.iter().flat_map(|input| origins[input.node.0].iter().copied()).collect()
            }
        };
        origins.push(own);
    }
    origins
}

/// The partition count of every source and repartition node.
pub(super) fn resolve(
    nodes: &[Node],
    partitions_of: &dyn Fn(&str) -> Option<i32>,
) -> Result<BTreeMap<NodeId, i32>> {
    let fixed = fixed_counts(nodes, partitions_of)?;
    let origins = origins(nodes);
    let groups = copartitioned_groups(nodes, &origins);
    for group in &groups {
        check_group(nodes, group, &fixed, &origins)?;
    }
    let mut resolver =
        Resolver { nodes, origins: &origins, groups: &groups, fixed: &fixed, open: Vec::new() };
    let mut counts = BTreeMap::new();
    for (index, group) in groups.iter().enumerate() {
        let count = resolver.count(index).unwrap_or(1);
        counts.extend(group.iter().map(|source| (*source, count)));
    }
    Ok(counts)
}

fn fixed_counts(
    nodes: &[Node],
    partitions_of: &dyn Fn(&str) -> Option<i32>,
) -> Result<BTreeMap<NodeId, i32>> {
    let mut fixed = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        match &node.body {
            Body::Source { topic, .. } => {
                let count = partitions_of(topic).filter(|count| *count > 0).ok_or_else(|| {
                    let message = format!(
                        "source {:?} reads topic {topic:?}, which does not exist: create it",
                        node.id
                    );
                    Error::new(ErrorCode::UnknownTopic, message)
                })?;
                fixed.insert(NodeId(index), count);
            }
            Body::Repartition { partitions: Some(count), .. } => {
                if *count < 1 {
                    let message =
                        format!("repartition {:?} asks for {count} partitions: 1 at least", node.id);
                    return Err(Error::new(ErrorCode::InvalidArgument, message));
                }
                fixed.insert(NodeId(index), *count);
            }
            Body::Repartition { partitions: None, .. } | Body::Operator(_) | Body::Sink { .. } => {}
        }
    }
    Ok(fixed)
}

/// Sources that meet in some operator with state, directly or through another source.
fn copartitioned_groups(nodes: &[Node], origins: &[BTreeSet<NodeId>]) -> Vec<BTreeSet<NodeId>> {
    let mut groups: Vec<BTreeSet<NodeId>> = nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| matches!(node.body, Body::Source { .. } | Body::Repartition { .. }))
        .map(|(index, _)| BTreeSet::from([NodeId(index)]))
        .collect();
    for (node, met) in nodes.iter().zip(origins) {
        if node.copartitioned {
            let (touched, mut rest): (Vec<_>, Vec<_>) =
                groups.into_iter().partition(|group| !group.is_disjoint(met));
            rest.push(touched.into_iter().flatten().collect());
            groups = rest;
        }
    }
    groups
}

fn check_group(
    nodes: &[Node],
    group: &BTreeSet<NodeId>,
    fixed: &BTreeMap<NodeId, i32>,
    origins: &[BTreeSet<NodeId>],
) -> Result<()> {
    let mut counts = group.iter().filter_map(|source| fixed.get(source).map(|count| (*source, *count)));
    let Some((first, expected)) = counts.next() else { return Ok(()) };
    let Some((other, count)) = counts.find(|(_, count)| *count != expected) else { return Ok(()) };
    // Where both meet, or, when they meet through a third source, where the second comes in.
    let meets = |both: bool| {
        let reads = |met: &BTreeSet<NodeId>| met.contains(&other) && (met.contains(&first) || !both);
        nodes.iter().zip(origins).find(|(node, met)| node.copartitioned && reads(met))
    };
    let operator = meets(true).or_else(|| meets(false));
    let message = format!(
        "{} has {expected} partitions and {} has {count}, but they meet in operator {:?}: give both the same number, or \
         put a repartition before it",
        describe(&nodes[first.0]),
        describe(&nodes[other.0]),
        operator.map_or("", |(node, _)| node.id.as_str()),
    );
    Err(Error::new(ErrorCode::InvalidArgument, message).at("topology"))
}

fn describe(node: &Node) -> String {
    match &node.body {
        Body::Source { topic, .. } => format!("topic {topic:?}"),
        _ => format!("repartition {:?}", node.id),
    }
}

struct Resolver<'a> {
    nodes: &'a [Node],
    origins: &'a [BTreeSet<NodeId>],
    groups: &'a [BTreeSet<NodeId>],
    fixed: &'a BTreeMap<NodeId, i32>,
    /// Groups whose count is being looked for: a repartition that comes from its own group adds nothing.
    open: Vec<usize>,
}

impl Resolver<'_> {
    fn count(&mut self, group: usize) -> Option<i32> {
        if self.open.contains(&group) {
            return None;
        }
        let members = &self.groups[group];
        if let Some(count) = members.iter().find_map(|source| self.fixed.get(source)) {
            return Some(*count);
        }
        self.open.push(group);
        let (nodes, origins, groups) = (self.nodes, self.origins, self.groups);
        let upstream: BTreeSet<usize> = members
            .iter()
            .flat_map(|source| &nodes[source.0].inputs)
            .flat_map(|input| &origins[input.node.0])
            .filter_map(|source| groups.iter().position(|group| group.contains(source)))
            .collect();
        let count = upstream.into_iter().filter_map(|group| self.count(group)).max();
        self.open.pop();
        count
    }
}
