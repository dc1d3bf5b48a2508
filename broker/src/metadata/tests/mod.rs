//! Scenarios of the metadata over a log in memory.

mod crashes;
mod requests;
mod state;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sunseo_proto::clock::ManualClock;
use sunseo_proto::error::Result;
use sunseo_proto::{PartitionId, v1};

use super::{LocalMetadataLog, Metadata, MetadataConfig};
use crate::BrokerConfig;
use crate::internal::InternalLog as _;
use crate::memory_log::MemoryLog;

/// A node that can die and start again.
struct Node {
    log: Arc<MemoryLog>,
    config: MetadataConfig,
    metadata: Metadata,
}

impl Node {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut MetadataConfig)) -> Self {
        let mut config = MetadataConfig::new(&BrokerConfig::new("unused"));
        change(&mut config);
        let log = Arc::new(MemoryLog::default());
        let metadata = open(&log, &config).await.expect("starts");
        let node = Self { log, config, metadata };
        node.reconcile().await;
        node
    }

    /// Dies without a word and comes back.
    async fn restart(&mut self) {
        self.metadata.stop().await;
        self.log.crash();
        self.metadata = open(&self.log, &self.config).await.expect("starts again");
        self.reconcile().await;
    }

    /// What the node does at a start: its disk becomes what the image says.
    async fn reconcile(&self) {
        let wanted = self.wanted();
        for id in self.log.disk().into_iter().filter(|id| !wanted.contains(id)) {
            self.log.remove(id).await.expect("no faults now");
        }
        for topic in self.metadata.image().topics() {
            for id in topic.partition_ids() {
                self.log.ensure(id, topic.settings()).await.expect("no faults now");
            }
        }
    }

    fn wanted(&self) -> BTreeSet<PartitionId> {
        self.metadata.image().topics().flat_map(|topic| topic.partition_ids()).collect()
    }

    fn disk(&self) -> BTreeSet<PartitionId> {
        self.log.disk().into_iter().collect()
    }

    async fn create(&self, name: &str, partitions: i32) -> Result<v1::TopicMetadata> {
        let request =
            v1::CreateTopicRequest { name: name.to_owned(), partitions, ..v1::CreateTopicRequest::default() };
        self.create_as(request).await
    }

    async fn create_as(&self, request: v1::CreateTopicRequest) -> Result<v1::TopicMetadata> {
        Ok(self.metadata.create_topic(request).await?.topic.expect("a topic"))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.metadata.delete_topic(v1::DeleteTopicRequest { name: name.to_owned() }).await.map(drop)
    }

    async fn alter(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> Result<v1::TopicMetadata> {
        let config = map(config);
        let request = v1::AlterTopicRequest { name: name.to_owned(), config, partitions };
        Ok(self.metadata.alter_topic(request).await?.topic.expect("a topic"))
    }

    async fn put(&self, name: &str, body: &str, expected_version: i64) -> Result<i64> {
        let request = v1::PutDefinitionRequest {
            kind: "pipeline".to_owned(),
            name: name.to_owned(),
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
            expected_version,
        };
        Ok(self.metadata.put_definition(request).await?.version)
    }

    async fn producer(&self, name: &str) -> (i64, i32) {
        let request = v1::InitProducerRequest { name: name.to_owned(), ..Default::default() };
        let answer = self.metadata.init_producer(request).await.expect("given");
        (answer.producer_id, answer.producer_epoch)
    }

    fn names(&self, include_internal: bool) -> Vec<String> {
        let topics = self.metadata.list_topics(v1::ListTopicsRequest { include_internal }).topics;
        topics.into_iter().map(|topic| topic.name).collect()
    }
}

async fn open(log: &Arc<MemoryLog>, config: &MetadataConfig) -> Result<Metadata> {
    let clock = Arc::new(ManualClock::new(1_000));
    let commands = Arc::new(LocalMetadataLog::new(log.clone()));
    Metadata::start(commands, log.clone(), config.clone(), clock).await
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
