//! A connection as applications see it: the parent of producers, consumers and typed calls.

use std::sync::Arc;

use sunseo_proto::error::Result;

use crate::admin::Admin;
use crate::consumer::{Consumer, ConsumerConfig};
use crate::grpc_transport::{GrpcConfig, GrpcTransport};
use crate::metadata::SharedMetadata;
use crate::outbox::OutboxClient;
use crate::pipelines::PipelinesClient;
use crate::positioned::{PositionedConfig, PositionedProducer};
use crate::producer::{Producer, ProducerConfig};
use crate::query::QueryClient;
use crate::transaction::{TransactionalConfig, TransactionalProducer};
use crate::transport::SharedTransport;

/// A connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    transport: SharedTransport,
    grpc: Option<Arc<GrpcTransport>>,
    metadata: SharedMetadata,
}

impl Client {
    /// Over a door that is already open, in process or not. [`outbox`](Self::outbox), [`query`](Self::query) and
    /// [`pipelines`](Self::pipelines) need [`connect`](Self::connect).
    #[must_use]
    pub fn new(transport: SharedTransport) -> Self {
        let metadata = SharedMetadata::new(Arc::clone(&transport));
        Self { transport, grpc: None, metadata }
    }

    /// Connects by gRPC; `address` is `host:port` or `http://host:port`.
    ///
    /// # Errors
    /// When nobody answers there: the message names the address and what to check.
    pub async fn connect(address: impl Into<String>) -> Result<Self> {
        Self::connect_with(GrpcConfig::new(address)).await
    }

    /// [`connect`](Self::connect) with time-outs of one's own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_with(config: GrpcConfig) -> Result<Self> {
        let grpc = Arc::new(GrpcTransport::connect(config).await?);
        let transport: SharedTransport = Arc::clone(&grpc) as SharedTransport;
        let metadata = SharedMetadata::new(Arc::clone(&transport));
        Ok(Self { transport, grpc: Some(grpc), metadata })
    }

    /// The door itself, for calls that have no typed form here.
    #[must_use]
    pub fn transport(&self) -> &SharedTransport {
        &self.transport
    }

    /// An idempotent, batching producer. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When a value of the configuration is out of its range.
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer> {
        Producer::start(Arc::clone(&self.transport), self.metadata.clone(), config)
    }

    /// A producer whose records over many partitions, with the offsets they come from, appear together or not at all. Fences the
    /// former holder of the id and aborts what it left open.
    ///
    /// # Errors
    /// When a value of the configuration is out of its range, or the broker refuses the id.
    pub async fn transactional(
        &self,
        transactional_id: &str,
        config: TransactionalConfig,
    ) -> Result<TransactionalProducer> {
        let (transport, metadata) = (Arc::clone(&self.transport), self.metadata.clone());
        TransactionalProducer::open(transport, metadata, transactional_id, config).await
    }

    /// A named producer that says where its records stand in their source. Earlier owners of the name are fenced.
    ///
    /// # Errors
    /// When the broker refuses the name.
    pub async fn positioned(&self, name: &str) -> Result<PositionedProducer> {
        self.positioned_with(name, PositionedConfig::default()).await
    }

    /// [`positioned`](Self::positioned) with a configuration of one's own.
    ///
    /// # Errors
    /// As [`positioned`](Self::positioned).
    pub async fn positioned_with(&self, name: &str, config: PositionedConfig) -> Result<PositionedProducer> {
        PositionedProducer::open(Arc::clone(&self.transport), name, config).await
    }

    /// A positioned producer that goes on with an id and epoch it already holds; nothing is fenced.
    ///
    /// # Errors
    /// When the epoch is not one a batch can carry (0 to 32767).
    pub fn positioned_at(
        &self,
        name: &str,
        producer_id: i64,
        epoch: i32,
        config: PositionedConfig,
    ) -> Result<PositionedProducer> {
        PositionedProducer::with_epoch(Arc::clone(&self.transport), name, (producer_id, epoch), config)
    }

    /// A consumer of given partitions, of whole topics, or as a member of a group.
    ///
    /// # Errors
    /// When a value of the configuration is out of its range, or a named topic does not exist.
    pub async fn consumer(&self, config: ConsumerConfig) -> Result<Consumer> {
        Consumer::start(Arc::clone(&self.transport), self.metadata.clone(), config).await
    }

    /// Topics, groups, definitions, tier.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.transport))
    }

    /// The topics that a subscription means now: its names as they are, and every topic that fits one of its patterns.
    ///
    /// # Errors
    /// What the broker says.
    pub async fn topics(&self, names_and_patterns: &[String]) -> Result<Vec<String>> {
        crate::consumer::topics::resolve(&self.transport, names_and_patterns).await
    }

    /// Number of partitions of a topic.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, or what the broker says.
    pub async fn partitions(&self, topic: &str) -> Result<i32> {
        self.metadata.partitions(topic).await
    }

    /// Push of an application's own outbox, and the sources the server reads.
    ///
    /// # Errors
    /// `UNSUPPORTED` unless this client is connected by gRPC.
    pub fn outbox(&self) -> Result<OutboxClient> {
        Ok(OutboxClient::new(self.grpc("Outbox")?))
    }

    /// Live queries of a pipeline's stores.
    ///
    /// # Errors
    /// `UNSUPPORTED` unless this client is connected by gRPC.
    pub fn query(&self) -> Result<QueryClient> {
        Ok(QueryClient::new(self.grpc("Query")?))
    }

    /// Pipelines and what they do now.
    ///
    /// # Errors
    /// `UNSUPPORTED` unless this client is connected by gRPC.
    pub fn pipelines(&self) -> Result<PipelinesClient> {
        Ok(PipelinesClient::new(self.grpc("Pipelines")?))
    }

    fn grpc(&self, service: &str) -> Result<Arc<GrpcTransport>> {
        self.grpc.clone().ok_or_else(|| crate::grpc_transport::needs_grpc(service))
    }
}
