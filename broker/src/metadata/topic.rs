//! A topic as the metadata knows it.

use std::sync::Arc;

use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{PartitionId, TopicId, v1};

use super::command::StoredTopic;
use super::config::completed;
use super::internal_topics::{SystemTopic, system_config};
use crate::internal::PartitionSettings;

/// Whose topic it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopicKind {
    /// A user's.
    Plain,
    /// Made by a component of the server through the same door as everybody: hidden from a plain list.
    Internal,
    /// The node's own: clients may read it and nothing else.
    System,
}

/// One topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) partitions: i32,
    pub(crate) config: v1::TopicConfig,
    pub(crate) kind: TopicKind,
    /// Nodes that hold it; the first one leads.
    pub(crate) replicas: Vec<i32>,
    pub(crate) created_ms: i64,
    /// Counts the changes, from 1.
    pub(crate) version: i64,
}

impl Topic {
    pub(super) fn system(topic: SystemTopic, replicas: &[i32]) -> Self {
        Self {
            name: topic.shared_name(),
            id: topic.id,
            partitions: topic.partitions,
            config: system_config(),
            kind: TopicKind::System,
            replicas: replicas.to_vec(),
            created_ms: 0,
            version: 1,
        }
    }

    /// Hidden from a plain list.
    pub(crate) fn is_internal(&self) -> bool {
        self.kind != TopicKind::Plain
    }

    /// The node's own.
    pub(crate) fn is_system(&self) -> bool {
        self.kind == TopicKind::System
    }

    /// Whether clients may append to it, alter or delete it.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.kind != TopicKind::System {
            return Ok(());
        }
        let message = format!(
            "topic \"{}\" is the server's own: it can be read, and only the server writes or changes it",
            self.name
        );
        Err(Error::new(ErrorCode::Unauthorized, message).at("topic"))
    }

    /// The identity of a partition that exists.
    pub(crate) fn partition(&self, partition: i32) -> Result<PartitionId> {
        if (0..self.partitions).contains(&partition) {
            return Ok(PartitionId { topic_id: self.id, partition });
        }
        let message =
            format!("topic \"{}\" has partitions 0 to {}, not {partition}", self.name, self.partitions - 1);
        Err(Error::new(ErrorCode::UnknownPartition, message).at("partition"))
    }

    pub(crate) fn partition_ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        let topic_id = self.id;
        (0..self.partitions).map(move |partition| PartitionId { topic_id, partition })
    }

    /// What its partitions go by.
    pub(crate) fn settings(&self) -> PartitionSettings {
        PartitionSettings::new(self.name.clone(), &self.config)
    }

    pub(super) fn stored(&self) -> StoredTopic {
        StoredTopic {
            name: self.name.to_string(),
            topic_id: self.id.as_bytes().to_vec(),
            partitions: self.partitions,
            config: Some(self.config.clone()),
            internal: self.is_internal(),
            replicas: self.replicas.clone(),
            created_ms: self.created_ms,
            version: self.version,
        }
    }

    pub(super) fn opened(stored: &StoredTopic) -> Result<Self> {
        let damaged =
            |what: &str| Error::internal(format!("the command for topic \"{}\" has {what}", stored.name));
        let id = TopicId::from_slice(&stored.topic_id).ok_or_else(|| damaged("no identity"))?;
        if stored.partitions < 1 || stored.replicas.is_empty() {
            return Err(damaged("no partitions or no replicas"));
        }
        Ok(Self {
            name: Arc::from(stored.name.as_str()),
            id,
            partitions: stored.partitions,
            config: stored.config.clone().map(completed).ok_or_else(|| damaged("no settings"))?,
            kind: if stored.internal { TopicKind::Internal } else { TopicKind::Plain },
            replicas: stored.replicas.clone(),
            created_ms: stored.created_ms,
            version: stored.version.max(1),
        })
    }
}
