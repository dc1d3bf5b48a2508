//! The requests of clients about metadata: validate, decide, commit, answer.

use std::sync::Arc;

use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{TopicId, v1};

use super::command::{AlterTopic, Change, DeleteDefinition, DeleteTopic, PutDefinition, StoredTopic};
use super::definitions::{QUOTA, check_definition, check_kind};
use super::names::{check_free_name, check_name, check_topic_name};
use super::{Event, Metadata, MetadataConfig, PRODUCER_BLOCK, PRODUCER_NAMES_MAX, State, Topic, config};

impl Metadata {
    /// Topics by name, or all of them.
    pub(crate) fn metadata(&self, request: &v1::MetadataRequest) -> v1::MetadataResponse {
        let image = self.image();
        let topics = if request.topics.is_empty() {
            image.topics().map(|topic| image.topic_metadata(topic)).collect()
        } else {
            request.topics.iter().map(|name| named(&image, name)).collect()
        };
        v1::MetadataResponse { cluster_id: image.cluster_id().to_owned(), node_id: self.node_id(), topics }
    }

    pub(crate) fn list_topics(&self, request: v1::ListTopicsRequest) -> v1::ListTopicsResponse {
        let image = self.image();
        let shown = image.topics().filter(|topic| request.include_internal || !topic.is_internal());
        v1::ListTopicsResponse { topics: shown.map(|topic| image.topic_metadata(topic)).collect() }
    }

    pub(crate) async fn create_topic(
        &self,
        request: v1::CreateTopicRequest,
    ) -> Result<v1::CreateTopicResponse> {
        let asked = NewTopic::check(&self.inner.config, self.inner.clock.now_ms(), &request)?;
        let name = asked.stored.name.clone();
        self.change(move |state| asked.decide(state)).await?;
        Ok(v1::CreateTopicResponse { topic: Some(self.described(&name)?) })
    }

    pub(crate) async fn alter_topic(&self, request: v1::AlterTopicRequest) -> Result<v1::AlterTopicResponse> {
        let (name, partitions_max) = (request.name.clone(), self.inner.config.partitions_max);
        self.change(move |state| alter(state, &request, partitions_max)).await?;
        Ok(v1::AlterTopicResponse { topic: Some(self.described(&name)?) })
    }

    pub(crate) async fn delete_topic(
        &self,
        request: v1::DeleteTopicRequest,
    ) -> Result<v1::DeleteTopicResponse> {
        let decide = move |state: &State| {
            let topic = state.topic(&request.name).map_err(|e| e.at("name"))?;
            topic.check_writable()?;
            let topic_id = topic.id.as_bytes().to_vec();
            Ok(Some(Change::DeleteTopic(DeleteTopic { topic_id }).into()))
        };
        self.change(decide).await?;
        Ok(v1::DeleteTopicResponse {})
    }

    pub(crate) async fn put_definition(
        &self,
        request: v1::PutDefinitionRequest,
    ) -> Result<v1::PutDefinitionResponse> {
        check_kind(&request.kind)?;
        self.put(request).await
    }

    /// Puts a definition of any kind, those that have requests of their own as well.
    pub(super) async fn put(&self, request: v1::PutDefinitionRequest) -> Result<v1::PutDefinitionResponse> {
        let v1::PutDefinitionRequest { kind, name, body, expected_version } = request;
        if expected_version < -1 {
            let message = format!(
                "expected_version is {expected_version}: use -1 for any, 0 for none, or the version you read"
            );
            return Err(Error::invalid("expected_version", message));
        }
        let decide = move |state: &State| {
            let replaced = state.definition(&kind, &name).map_or(0, |definition| definition.body.len());
            check_definition(&kind, &name, body.len(), state.definition_bytes() - replaced)?;
            Ok(Some(Change::PutDefinition(PutDefinition { kind, name, body, expected_version }).into()))
        };
        match self.change(decide).await? {
            Some(Event::DefinitionPut { version }) => Ok(v1::PutDefinitionResponse { version }),
            other => Err(unexpected("put_definition", other.as_ref())),
        }
    }

    pub(crate) fn list_definitions(
        &self,
        request: &v1::ListDefinitionsRequest,
    ) -> Result<v1::ListDefinitionsResponse> {
        if !request.kind.is_empty() {
            check_kind(&request.kind)?;
        }
        let image = self.image();
        let shown = image.definitions(&request.kind).filter(|definition| definition.kind != QUOTA);
        Ok(v1::ListDefinitionsResponse { definitions: shown.cloned().collect() })
    }

    pub(crate) async fn delete_definition(
        &self,
        request: v1::DeleteDefinitionRequest,
    ) -> Result<v1::DeleteDefinitionResponse> {
        check_kind(&request.kind)?;
        check_name("name", "name of a definition", &request.name)?;
        self.remove(request.kind, request.name).await?;
        Ok(v1::DeleteDefinitionResponse {})
    }

    pub(super) async fn remove(&self, kind: String, name: String) -> Result<()> {
        let command = Change::DeleteDefinition(DeleteDefinition { kind, name, keeps_counting: true });
        self.change(move |_| Ok(Some(command.into()))).await.map(drop)
    }

    /// A named producer gets its identity with the next epoch, another one an identity nobody had.
    pub(crate) async fn init_producer(
        &self,
        request: v1::InitProducerRequest,
    ) -> Result<v1::InitProducerResponse> {
        let name = request.name;
        if name.is_empty() {
            return self.anonymous_producer().await;
        }
        check_free_name("name", "producer name", &name)?;
        let decide = move |state: &State| {
            if !state.knows_producer(&name) && state.producer_names() >= PRODUCER_NAMES_MAX {
                let message = format!(
                    "{PRODUCER_NAMES_MAX} producers have a name, no more are allowed: use fewer names, or none"
                );
                return Err(Error::new(ErrorCode::Overloaded, message).at("name"));
            }
            Ok(Some(Change::AllotProducer(name).into()))
        };
        match self.change(decide).await? {
            Some(Event::ProducerAllotted { id, epoch }) => {
                let producer_epoch = epoch.into();
                Ok(v1::InitProducerResponse { producer_id: id, producer_epoch, ..Default::default() })
            }
            other => Err(unexpected("init_producer", other.as_ref())),
        }
    }

    async fn anonymous_producer(&self) -> Result<v1::InitProducerResponse> {
        let mut block = self.inner.block.lock().await;
        if block.is_empty() {
            match self.change(|_| Ok(Some(Change::AllotProducerBlock(PRODUCER_BLOCK).into()))).await? {
                Some(Event::ProducerBlockAllotted { first, count }) => *block = first..first + count,
                other => return Err(unexpected("init_producer", other.as_ref())),
            }
        }
        let producer_id = block.start;
        block.start += 1;
        Ok(v1::InitProducerResponse { producer_id, ..Default::default() })
    }

    /// A topic as clients see it.
    pub(crate) fn described(&self, name: &str) -> Result<v1::TopicMetadata> {
        let image = self.image();
        image.topic(name).map(|topic| image.topic_metadata(topic)).map_err(|e| e.at("name"))
    }
}

fn unexpected(request: &str, event: Option<&Event>) -> Error {
    Error::internal(format!("{request} ended with {event:?}"))
}

fn named(image: &State, name: &str) -> v1::TopicMetadata {
    match image.topic(name) {
        Ok(topic) => image.topic_metadata(topic),
        Err(error) => {
            v1::TopicMetadata { name: name.to_owned(), error: Some(error.into()), ..Default::default() }
        }
    }
}

/// A topic that was asked for, checked as far as it can be without the state.
struct NewTopic {
    stored: StoredTopic,
    /// The number that was asked for, 0 when none was.
    asked_partitions: i32,
    if_not_exists: bool,
    partitions_max: usize,
}

impl NewTopic {
    fn check(node: &MetadataConfig, now_ms: i64, request: &v1::CreateTopicRequest) -> Result<Self> {
        check_topic_name(&request.name, request.internal)?;
        if request.partitions < 0 {
            let message = format!(
                "{} partitions cannot be made: use at least 1, or 0 for the node's default",
                request.partitions
            );
            return Err(Error::invalid("partitions", message));
        }
        let mut base = node.topic_defaults.clone();
        if request.internal {
            // its maker reads it from the beginning and trims it itself
            (base.retention_ms, base.retention_bytes) = (-1, -1);
        }
        let partitions = if request.partitions == 0 { node.default_partitions } else { request.partitions };
        let stored = StoredTopic {
            name: request.name.clone(),
            topic_id: TopicId::random().as_bytes().to_vec(),
            partitions,
            config: Some(config::with_changes(&base, &request.config)?),
            internal: request.internal,
            replicas: vec![node.node_id],
            created_ms: now_ms,
            version: 1,
        };
        Ok(Self {
            stored,
            asked_partitions: request.partitions,
            if_not_exists: request.if_not_exists,
            partitions_max: node.partitions_max,
        })
    }

    fn decide(self, state: &State) -> Result<Option<super::Command>> {
        if let Some(existing) = state.find(&self.stored.name).filter(|_| self.if_not_exists) {
            return self.accept(existing);
        }
        // that it exists is said by the state machine, before the room is looked at
        if state.find(&self.stored.name).is_none() {
            check_room(state, self.stored.partitions, self.partitions_max)?;
        }
        Ok(Some(Change::CreateTopic(self.stored).into()))
    }

    fn accept(&self, existing: &Arc<Topic>) -> Result<Option<super::Command>> {
        existing.check_writable()?;
        if self.asked_partitions == 0 || self.asked_partitions == existing.partitions {
            return Ok(None);
        }
        let message = format!(
            "topic \"{}\" exists with {} partitions, {} were asked for: ask for the same number, or alter it",
            existing.name, existing.partitions, self.asked_partitions
        );
        Err(Error::new(ErrorCode::AlreadyExists, message).at("partitions"))
    }
}

fn check_room(state: &State, more: i32, partitions_max: usize) -> Result<()> {
    let (have, more) = (state.partitions(), usize::try_from(more).unwrap_or(0));
    if have + more <= partitions_max {
        return Ok(());
    }
    let message = format!(
        "{more} more partitions: the node has {have} of at most {partitions_max}: use fewer, or raise partitions_max"
    );
    Err(Error::invalid("partitions", message))
}

fn alter(
    state: &State,
    request: &v1::AlterTopicRequest,
    partitions_max: usize,
) -> Result<Option<super::Command>> {
    let topic = state.topic(&request.name).map_err(|e| e.at("name"))?;
    topic.check_writable()?;
    let partitions = match request.partitions {
        0 => topic.partitions,
        asked => asked,
    };
    let config = config::with_changes(&topic.config, &request.config)?;
    if partitions == topic.partitions && config == topic.config {
        return Ok(None);
    }
    if partitions > topic.partitions {
        check_room(state, partitions - topic.partitions, partitions_max)?;
    }
    let (topic_id, from_version) = (topic.id.as_bytes().to_vec(), topic.version);
    Ok(Some(
        Change::AlterTopic(AlterTopic { topic_id, from_version, partitions, config: Some(config) }).into(),
    ))
}
