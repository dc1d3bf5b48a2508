//! The whole state as one command, and back.

use std::sync::Arc;

use sunseo_proto::TopicId;
use sunseo_proto::error::Result;

use super::{Event, NamedProducer, Node, PRODUCER_EPOCH_MAX, State};
use crate::metadata::command::{Change, Command, Snapshot, StoredNode, StoredProducer};
use crate::metadata::{Topic, TopicKind};

impl State {
    /// The command that stands for every one up to the index `through`.
    pub(crate) fn snapshot(&self, through: i64) -> Command {
        let topics = self.topics.values().filter(|topic| topic.kind != TopicKind::System);
        let producers = self.producers.iter().map(|(name, producer)| StoredProducer {
            name: name.clone(),
            id: producer.id,
            epoch: producer.epoch.into(),
        });
        let nodes = self.nodes.iter().map(|(node_id, node)| StoredNode {
            node_id: *node_id,
            epoch: node.epoch,
            started_ms: node.started_ms,
        });
        Change::Snapshot(Snapshot {
            cluster_id: self.cluster_id.to_string(),
            topics: topics.map(|topic| topic.stored()).collect(),
            definitions: self.definitions.values().cloned().collect(),
            producers: producers.collect(),
            next_producer_id: self.next_producer_id,
            nodes: nodes.collect(),
            system_replicas: self.system_replicas.clone(),
            through,
            deleted_topics: self.deleted.iter().map(|id| id.as_bytes().to_vec()).collect(),
            definition_version_floor: self.definition_version_floor,
        })
        .into()
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<Event> {
        let mut state = Self {
            cluster_id: Arc::from(snapshot.cluster_id.as_str()),
            next_producer_id: snapshot.next_producer_id,
            system_replicas: snapshot.system_replicas.clone(),
            deleted: Arc::new(
                snapshot.deleted_topics.iter().filter_map(|id| TopicId::from_slice(id)).collect(),
            ),
            definition_version_floor: snapshot.definition_version_floor,
            ..Self::default()
        };
        state.put_system_topics();
        for topic in &snapshot.topics {
            state.put_topic(Arc::new(Topic::opened(topic)?));
        }
        let definitions = snapshot.definitions.iter().map(|d| ((d.kind.clone(), d.name.clone()), d.clone()));
        state.definitions = Arc::new(definitions.collect());
        let producers = snapshot.producers.iter().map(|producer| {
            let epoch = i16::try_from(producer.epoch).unwrap_or(PRODUCER_EPOCH_MAX);
            (producer.name.clone(), NamedProducer { id: producer.id, epoch })
        });
        state.producers = Arc::new(producers.collect());
        let epochs = state.producers.values().map(|producer| (producer.id, producer.epoch));
        state.producer_epochs = Arc::new(epochs.collect());
        let nodes = snapshot.nodes.iter();
        let nodes = nodes.map(|n| (n.node_id, Node { epoch: n.epoch, started_ms: n.started_ms }));
        state.nodes = Arc::new(nodes.collect());
        *self = state;
        Ok(Event::Restored)
    }
}
