//! The cluster's metadata as a fold over commands. Pure: the same commands give the same state on every node and at every
//! start; [`State::apply`] reads no clock and draws no number, both are in the command.
//!
//! A refusal changes nothing and is deterministic as well. A refused command may stand in the log (two that were appended
//! without knowing of each other); every fold passes over it in the same way.
//!
//! Clones are cheap and share what did not change: a clone is what readers get.
//!
//! Not here: what a request may ask for ([`super::requests`]), ranges of settings ([`super::config`]).

mod snapshot;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{TopicId, v1};

use super::Topic;
use super::command::{
    AlterTopic, Change, Command, DeleteDefinition, DeleteTopic, PutDefinition, RegisterNode, StoredTopic,
};
use super::internal_topics::SYSTEM_TOPICS;

/// Highest epoch of a producer; record batches have 16 bits for it.
pub(crate) const PRODUCER_EPOCH_MAX: i16 = i16::MAX;
/// Topics whose deletion is remembered; the oldest is forgotten first.
pub(super) const DELETED_TOPICS_MAX: usize = 10_000;
/// First identity of a producer.
const FIRST_PRODUCER_ID: i64 = 1;

/// Definitions by kind and name.
type Definitions = BTreeMap<(String, String), v1::Definition>;

/// The definitions as they were; equal to those of a state in which none was changed since.
#[derive(Clone, Debug)]
pub(crate) struct DefinitionsStamp(Arc<Definitions>);

impl PartialEq for DefinitionsStamp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What an applied command did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    NodeRegistered { epoch: i32 },
    TopicCreated(Arc<Topic>),
    TopicAltered { topic: Arc<Topic>, partitions_before: i32 },
    TopicDeleted(Arc<Topic>),
    DefinitionPut { version: i64 },
    DefinitionDeleted,
    ProducerAllotted { id: i64, epoch: i16 },
    ProducerBlockAllotted { first: i64, count: i64 },
    Restored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Number of its starts, and the leader epoch of everything it leads.
    pub(crate) epoch: i32,
    pub(crate) started_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NamedProducer {
    id: i64,
    epoch: i16,
}

/// Everything the commands say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    cluster_id: Arc<str>,
    topics: Arc<BTreeMap<Arc<str>, Arc<Topic>>>,
    names: Arc<BTreeMap<TopicId, Arc<str>>>,
    /// Topics that were deleted, oldest first: data of these, and of no others, may be removed without being asked for.
    deleted: Arc<VecDeque<TopicId>>,
    /// By kind and name.
    definitions: Arc<Definitions>,
    /// Highest version of any definition that was deleted: no version is given twice under one name.
    definition_version_floor: i64,
    producers: Arc<BTreeMap<String, NamedProducer>>,
    /// The newest epoch of each producer with a name, by its identity.
    producer_epochs: Arc<BTreeMap<i64, i16>>,
    next_producer_id: i64,
    nodes: Arc<BTreeMap<i32, Node>>,
    system_replicas: Vec<i32>,
}

impl Default for State {
    /// Before the first command: the system topics, which nobody leads yet.
    fn default() -> Self {
        let mut state = Self {
            cluster_id: Arc::from(""),
            topics: Arc::default(),
            names: Arc::default(),
            deleted: Arc::default(),
            definitions: Arc::default(),
            definition_version_floor: 0,
            producers: Arc::default(),
            producer_epochs: Arc::default(),
            next_producer_id: FIRST_PRODUCER_ID,
            nodes: Arc::default(),
            system_replicas: Vec::new(),
        };
        state.put_system_topics();
        state
    }
}

impl State {
    /// Name of the cluster; empty before its first node was registered.
    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Every topic by name, system topics included.
    pub(crate) fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// A topic that must exist.
    pub(crate) fn topic(&self, name: &str) -> Result<&Arc<Topic>> {
        self.find(name).ok_or_else(|| {
            let shown: String = name.chars().take(super::names::NAME_BYTES_MAX).collect();
            let message = format!("topic {shown:?} does not exist: create it first, or check the name");
            Error::new(ErrorCode::UnknownTopic, message).at("topic")
        })
    }

    /// A topic that must exist and, when the caller says which one it knows, still be that one.
    pub(crate) fn topic_as(&self, name: &str, topic_id: &[u8]) -> Result<&Arc<Topic>> {
        let topic = self.topic(name)?;
        if topic_id.is_empty() || topic.id.as_bytes().as_slice() == topic_id {
            return Ok(topic);
        }
        let message = format!(
            "topic \"{name}\" is not the one this request was made for, which was deleted; another one, {}, has its name now: \
             refresh the metadata and begin anew",
            topic.id
        );
        Err(Error::new(ErrorCode::TopicReplaced, message).at("topic_id"))
    }

    pub(crate) fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// Whether a topic was deleted, as far back as that is remembered.
    pub(crate) fn was_deleted(&self, id: TopicId) -> bool {
        self.deleted.contains(&id)
    }

    /// Partitions of all topics.
    pub(crate) fn partitions(&self) -> usize {
        self.topics.values().map(|topic| usize::try_from(topic.partitions).unwrap_or(0)).sum()
    }

    /// To know without looking whether any definition changed.
    pub(crate) fn definitions_stamp(&self) -> DefinitionsStamp {
        DefinitionsStamp(Arc::clone(&self.definitions))
    }

    pub(crate) fn definition(&self, kind: &str, name: &str) -> Option<&v1::Definition> {
        self.definitions.get(&(kind.to_owned(), name.to_owned()))
    }

    /// Definitions of a kind by name; an empty kind is every kind.
    pub(crate) fn definitions<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a v1::Definition> {
        self.definitions.values().filter(move |definition| kind.is_empty() || definition.kind == kind)
    }

    /// Bytes of the bodies of all definitions.
    pub(crate) fn definition_bytes(&self) -> usize {
        self.definitions.values().map(|definition| definition.body.len()).sum()
    }

    pub(crate) fn knows_producer(&self, name: &str) -> bool {
        self.producers.contains_key(name)
    }

    /// The newest epoch of a producer with a name.
    pub(crate) fn producer_epoch(&self, producer_id: i64) -> Option<i16> {
        self.producer_epochs.get(&producer_id).copied()
    }

    pub(crate) fn producer_names(&self) -> usize {
        self.producers.len()
    }

    #[cfg(test)]
    pub(crate) fn node(&self, node_id: i32) -> Option<Node> {
        self.nodes.get(&node_id).copied()
    }

    /// Leader epoch of every partition of a topic: the number of starts of the node that leads it.
    pub(crate) fn leader_epoch(&self, topic: &Topic) -> i32 {
        topic.replicas.first().and_then(|leader| self.nodes.get(leader)).map_or(0, |node| node.epoch)
    }

    /// A topic as clients see it.
    pub(crate) fn topic_metadata(&self, topic: &Topic) -> v1::TopicMetadata {
        let leader_epoch = self.leader_epoch(topic);
        let partition = |partition| v1::PartitionMetadata {
            partition,
            leader: topic.replicas.first().copied().unwrap_or(-1),
            leader_epoch,
            replicas: topic.replicas.clone(),
            isr: topic.replicas.clone(),
        };
        v1::TopicMetadata {
            name: topic.name.to_string(),
            topic_id: bytes::Bytes::copy_from_slice(topic.id.as_bytes()),
            partitions: (0..topic.partitions).map(partition).collect(),
            error: None,
            config: Some(topic.config.clone()),
            internal: topic.is_internal(),
        }
    }

    /// Takes one command in, or refuses it and changes nothing.
    pub(crate) fn apply(&mut self, command: &Command) -> Result<Event> {
        match &command.change {
            Some(Change::RegisterNode(node)) => self.register(node),
            Some(Change::CreateTopic(topic)) => self.create(topic),
            Some(Change::AlterTopic(change)) => self.alter(change),
            Some(Change::DeleteTopic(topic)) => self.delete(topic),
            Some(Change::PutDefinition(definition)) => self.put_definition(definition),
            Some(Change::DeleteDefinition(definition)) => self.delete_definition(definition),
            Some(Change::AllotProducer(name)) => self.allot_producer(name),
            Some(Change::AllotProducerBlock(count)) => self.allot_block(*count),
            Some(Change::Snapshot(snapshot)) => self.restore(snapshot),
            None => Err(Error::internal("a metadata command without a change")),
        }
    }

    fn register(&mut self, node: &RegisterNode) -> Result<Event> {
        let before = self.nodes.get(&node.node_id).map_or(0, |node| node.epoch);
        let epoch = before.checked_add(1).ok_or_else(|| {
            Error::internal(format!("node {} was started {before} times: give it another id", node.node_id))
        })?;
        if self.cluster_id.is_empty() {
            self.cluster_id = Arc::from(node.cluster_id.as_str());
        }
        Arc::make_mut(&mut self.nodes).insert(node.node_id, Node { epoch, started_ms: node.at_ms });
        if self.system_replicas.is_empty() {
            self.system_replicas = vec![node.node_id];
            self.put_system_topics();
        }
        Ok(Event::NodeRegistered { epoch })
    }

    fn put_system_topics(&mut self) {
        for system in SYSTEM_TOPICS {
            self.put_topic(Arc::new(Topic::system(system, &self.system_replicas)));
        }
    }

    fn put_topic(&mut self, topic: Arc<Topic>) {
        Arc::make_mut(&mut self.names).insert(topic.id, topic.name.clone());
        Arc::make_mut(&mut self.topics).insert(topic.name.clone(), topic);
    }

    fn create(&mut self, stored: &StoredTopic) -> Result<Event> {
        let topic = Arc::new(Topic::opened(stored)?);
        if self.topics.contains_key(&topic.name) {
            let message = format!("topic \"{}\" exists: choose another name, or delete it first", topic.name);
            return Err(Error::new(ErrorCode::AlreadyExists, message).at("name"));
        }
        if self.names.contains_key(&topic.id) {
            return Err(Error::internal(format!("topic identity {} was given before", topic.id)));
        }
        self.put_topic(topic.clone());
        Ok(Event::TopicCreated(topic))
    }

    /// The topic of a command that was made from the identity; it may be gone by now.
    fn changeable(&self, topic_id: &[u8]) -> Result<&Arc<Topic>> {
        let id = TopicId::from_slice(topic_id).ok_or_else(|| Error::internal("a topic without identity"))?;
        let topic = self.topic_by_id(id).ok_or_else(|| {
            let message =
                format!("the topic with identity {id} was deleted meanwhile: look at the topics again");
            Error::new(ErrorCode::UnknownTopic, message)
        })?;
        topic.check_writable()?;
        Ok(topic)
    }

    fn alter(&mut self, change: &AlterTopic) -> Result<Event> {
        let before = self.changeable(&change.topic_id)?;
        if before.version != change.from_version {
            let message =
                format!("topic \"{}\" was changed by somebody else at the same time: try again", before.name);
            return Err(Error::new(ErrorCode::Unavailable, message));
        }
        if change.partitions < before.partitions {
            let message = format!(
                "topic \"{}\" has {} partitions, their number can only grow: ask for more than {}",
                before.name, before.partitions, change.partitions
            );
            return Err(Error::invalid("partitions", message));
        }
        let partitions_before = before.partitions;
        let mut after = Topic::clone(before);
        after.partitions = change.partitions;
        after.version = next_version(before.version, &before.name)?;
        if let Some(config) = &change.config {
            after.config = config.clone();
        }
        let topic = Arc::new(after);
        self.put_topic(topic.clone());
        Ok(Event::TopicAltered { topic, partitions_before })
    }

    fn delete(&mut self, deleted: &DeleteTopic) -> Result<Event> {
        let topic = self.changeable(&deleted.topic_id)?.clone();
        Arc::make_mut(&mut self.names).remove(&topic.id);
        Arc::make_mut(&mut self.topics).remove(&topic.name);
        let deleted = Arc::make_mut(&mut self.deleted);
        deleted.push_back(topic.id);
        if deleted.len() > DELETED_TOPICS_MAX {
            deleted.pop_front();
        }
        Ok(Event::TopicDeleted(topic))
    }

    fn put_definition(&mut self, put: &PutDefinition) -> Result<Event> {
        let key = (put.kind.clone(), put.name.clone());
        let have = self.definitions.get(&key).map_or(0, |definition| definition.version);
        if put.expected_version >= 0 && put.expected_version != have {
            let message = match (have, put.expected_version) {
                (0, expected) => format!(
                    "{} \"{}\" does not exist, version {expected} was expected: read it again",
                    put.kind, put.name
                ),
                (have, 0) => format!(
                    "{} \"{}\" exists with version {have}: name that version to replace it",
                    put.kind, put.name
                ),
                (have, expected) => format!(
                    "{} \"{}\" has version {have}, version {expected} was expected: read it again",
                    put.kind, put.name
                ),
            };
            return Err(Error::new(ErrorCode::VersionMismatch, message).at("expected_version"));
        }
        let before = if have > 0 { have } else { self.definition_version_floor };
        let version = next_version(before, &put.name)?;
        let definition = v1::Definition {
            kind: put.kind.clone(),
            name: put.name.clone(),
            body: put.body.clone(),
            version,
        };
        Arc::make_mut(&mut self.definitions).insert(key, definition);
        Ok(Event::DefinitionPut { version })
    }

    fn delete_definition(&mut self, deleted: &DeleteDefinition) -> Result<Event> {
        let key = (deleted.kind.clone(), deleted.name.clone());
        let Some(definition) = self.definitions.get(&key) else {
            return Err(super::definitions::unknown(&deleted.kind, &deleted.name));
        };
        if deleted.keeps_counting {
            self.definition_version_floor = self.definition_version_floor.max(definition.version);
        }
        Arc::make_mut(&mut self.definitions).remove(&key);
        Ok(Event::DefinitionDeleted)
    }

    fn allot_producer(&mut self, name: &str) -> Result<Event> {
        let next = match self.producers.get(name).copied() {
            Some(before) if before.epoch < PRODUCER_EPOCH_MAX => {
                NamedProducer { id: before.id, epoch: before.epoch + 1 }
            }
            // a new name, or one whose epochs are used up: nobody else has the fresh identity
            before => {
                let fresh = NamedProducer { id: self.take_producer_ids(1)?, epoch: 0 };
                if let Some(before) = before {
                    Arc::make_mut(&mut self.producer_epochs).remove(&before.id);
                }
                fresh
            }
        };
        Arc::make_mut(&mut self.producers).insert(name.to_owned(), next);
        Arc::make_mut(&mut self.producer_epochs).insert(next.id, next.epoch);
        Ok(Event::ProducerAllotted { id: next.id, epoch: next.epoch })
    }

    fn allot_block(&mut self, count: i64) -> Result<Event> {
        let first = self.take_producer_ids(count)?;
        Ok(Event::ProducerBlockAllotted { first, count })
    }

    fn take_producer_ids(&mut self, count: i64) -> Result<i64> {
        let first = self.next_producer_id;
        let next = first.checked_add(count).filter(|next| *next > first);
        self.next_producer_id =
            next.ok_or_else(|| Error::internal(format!("{count} producer identities after {first}")))?;
        Ok(first)
    }
}

/// A version is never given twice: where counting ends, so do the changes.
fn next_version(version: i64, name: &str) -> Result<i64> {
    version
        .checked_add(1)
        .ok_or_else(|| Error::internal(format!("\"{name}\" was changed {version} times: use another name")))
}
