//! The door to the broker in memory, and what tests do behind its back.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::RngExt as _;
use sunseo_proto::batch::{BatchBuilder, Compression};
use sunseo_proto::error::Result;
use sunseo_proto::partitioner::partition_of;
use sunseo_proto::{Error, ErrorCode, Record, v1};

use super::broker::Broker;
use super::faults::Faults;
use crate::client::Client;
use crate::transport::Transport;

/// The door; its clones lead to the same broker.
#[derive(Clone, Debug)]
pub struct MemoryTransport(Arc<Mutex<Broker>>);

impl MemoryTransport {
    /// A broker without topics.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(Broker::new(seed, faults))))
    }

    /// Names and numbers of partitions.
    #[must_use]
    pub fn with_topics(self, topics: &[(&str, i32)]) -> Self {
        topics.iter().for_each(|(name, partitions)| self.make_topic(name, *partitions as usize, 0));
        self
    }

    pub fn broker(&self) -> MutexGuard<'_, Broker> {
        self.0.lock().expect("no test panics with the lock")
    }

    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()))
    }

    /// Makes a topic or makes it larger; its configuration tells the largest batch unless that is 0.
    pub fn make_topic(&self, name: &str, partitions: usize, max_batch_bytes: i64) {
        self.broker().topic(name, partitions).max_batch_bytes = max_batch_bytes;
    }

    pub fn remove_topic(&self, name: &str) {
        self.broker().topics.remove(name);
    }

    /// Internal topics as well.
    pub fn topic_names(&self) -> Vec<String> {
        self.broker().topics.keys().cloned().collect()
    }

    /// Appends a record as a plain producer without faults.
    pub fn put(&self, topic: &str, record: &Record) {
        self.put_all(topic, std::slice::from_ref(record));
    }

    /// Appends records as a plain producer without faults, one batch for each partition.
    pub fn put_all(&self, topic: &str, records: &[Record]) {
        let mut broker = self.broker();
        let partitions = &mut broker.topics.get_mut(topic).expect("a topic").partitions;
        let count = partitions.len() as i32;
        let place = |record: &Record| partition_of(&record.key.clone().unwrap_or_default(), count);
        for (index, partition) in (0..).zip(partitions) {
            let mut builder = BatchBuilder::new(Compression::None);
            records.iter().filter(|record| place(record) == index).for_each(|record| builder.push(record));
            if !builder.is_empty() {
                partition.append(&builder.build(), usize::MAX);
            }
        }
        broker.appended.notify_waiters();
    }

    /// Records of every partition, partition by partition; none of a topic that is not there.
    pub fn records(&self, topic: &str) -> Vec<Vec<Record>> {
        let broker = self.broker();
        let Some(topic) = broker.topics.get(topic) else { return Vec::new() };
        topic.partitions.iter().map(|partition| partition.records()).collect()
    }

    /// Records of all partitions.
    pub fn all(&self, topic: &str) -> Vec<Record> {
        self.records(topic).into_iter().flatten().collect()
    }

    /// Records of one partition.
    pub fn partition_records(&self, topic: &str, partition: usize) -> Vec<Record> {
        self.broker().partition(topic, partition).records()
    }

    /// Number of records in a topic.
    pub fn len(&self, topic: &str) -> usize {
        let broker = self.broker();
        broker.topics.get(topic).map_or(0, |topic| topic.partitions.iter().map(|p| p.end as usize).sum())
    }

    /// What was late has arrived, and nothing goes wrong any more.
    pub fn calm(&self) {
        self.broker().calm();
    }
}

macro_rules! unsupported {
    ($($name:ident: $request:ident -> $response:ident;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            _request: v1::$request,
        ) -> BoxFuture<'async_trait, Result<v1::$response>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Error::new(ErrorCode::Unsupported, "not part of the broker in memory")) })
        }
    )*};
}

#[async_trait]
impl Transport for MemoryTransport {
    fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>> {
        let mut broker = self.broker();
        let answer = broker.produce(request);
        let longest = broker.append_time;
        let delay = longest.mul_f64(broker.rng.random_range(0.0..1.0));
        async move {
            tokio::time::sleep(delay).await;
            answer
        }
        .boxed()
    }

    fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>> {
        let this = self.clone();
        let (arrives, appended) = {
            let mut broker = self.broker();
            (broker.request_arrives(), Arc::clone(&broker.appended))
        };
        async move {
            arrives?;
            let deadline = tokio::time::Instant::now() + Duration::from_millis(request.max_wait_ms.into());
            loop {
                let news = appended.notified();
                let answer = this.broker().fetch(&request);
                let something = answer.results.iter().any(|r| r.error.is_some() || !r.batches.is_empty());
                if something || tokio::time::timeout_at(deadline, news).await.is_err() {
                    return this.broker().answered(answer);
                }
            }
        }
        .boxed()
    }

    async fn metadata(&self, request: v1::MetadataRequest) -> Result<v1::MetadataResponse> {
        let mut broker = self.broker();
        broker.request_arrives()?;
        let topics = request.topics.iter().map(|name| broker.describe(name)).collect();
        Ok(v1::MetadataResponse { topics, ..Default::default() })
    }

    async fn list_offsets(&self, request: v1::ListOffsetsRequest) -> Result<v1::ListOffsetsResponse> {
        let mut broker = self.broker();
        broker.request_arrives()?;
        let results = request.partitions.iter().map(|asked| broker.offset(asked)).collect();
        Ok(v1::ListOffsetsResponse { results })
    }

    async fn init_producer(&self, request: v1::InitProducerRequest) -> Result<v1::InitProducerResponse> {
        let mut broker = self.broker();
        broker.request_arrives()?;
        let name = if request.name.is_empty() { request.transactional_id } else { request.name };
        Ok(broker.init_producer(name))
    }

    async fn group_heartbeat(
        &self,
        request: v1::GroupHeartbeatRequest,
    ) -> Result<v1::GroupHeartbeatResponse> {
        let mut broker = self.broker();
        broker.request_arrives()?;
        broker.groups.heartbeat(request)
    }

    async fn commit_offsets(&self, request: v1::CommitOffsetsRequest) -> Result<v1::CommitOffsetsResponse> {
        let mut broker = self.broker();
        broker.request_arrives()?;
        broker.groups.commit(request)
    }

    async fn fetch_offsets(&self, request: v1::FetchOffsetsRequest) -> Result<v1::FetchOffsetsResponse> {
        let mut broker = self.broker();
        broker.request_arrives()?;
        Ok(broker.groups.committed(request))
    }

    async fn end_transaction(
        &self,
        request: v1::EndTransactionRequest,
    ) -> Result<v1::EndTransactionResponse> {
        let mut broker = self.broker();
        broker.request_arrives()?;
        broker.end_transaction(request)
    }

    async fn create_topic(&self, request: v1::CreateTopicRequest) -> Result<v1::CreateTopicResponse> {
        let mut broker = self.broker();
        broker.request_arrives()?;
        broker.create_topic(&request)
    }

    async fn list_topics(&self, request: v1::ListTopicsRequest) -> Result<v1::ListTopicsResponse> {
        let broker = self.broker();
        let shown = broker.topics.iter().filter(|(_, topic)| request.include_internal || !topic.internal);
        Ok(v1::ListTopicsResponse { topics: shown.map(|(name, _)| broker.describe(name)).collect() })
    }

    async fn delete_topic(&self, request: v1::DeleteTopicRequest) -> Result<v1::DeleteTopicResponse> {
        self.remove_topic(&request.name);
        Ok(v1::DeleteTopicResponse {})
    }

    async fn delete_records(&self, request: v1::DeleteRecordsRequest) -> Result<v1::DeleteRecordsResponse> {
        let mut broker = self.broker();
        broker.request_arrives()?;
        Ok(broker.delete_records(&request))
    }

    async fn put_definition(&self, request: v1::PutDefinitionRequest) -> Result<v1::PutDefinitionResponse> {
        self.broker().put_definition(request)
    }

    async fn list_definitions(
        &self,
        request: v1::ListDefinitionsRequest,
    ) -> Result<v1::ListDefinitionsResponse> {
        let mut broker = self.broker();
        broker.request_arrives()?;
        Ok(v1::ListDefinitionsResponse { definitions: broker.definitions(&request.kind) })
    }

    async fn delete_definition(
        &self,
        request: v1::DeleteDefinitionRequest,
    ) -> Result<v1::DeleteDefinitionResponse> {
        self.broker().delete_definition(request.kind, request.name);
        Ok(v1::DeleteDefinitionResponse {})
    }

    unsupported! {
        list_groups: ListGroupsRequest -> ListGroupsResponse;
        describe_group: DescribeGroupRequest -> DescribeGroupResponse;
        delete_group: DeleteGroupRequest -> DeleteGroupResponse;
        describe_topic: DescribeTopicRequest -> DescribeTopicResponse;
        alter_topic: AlterTopicRequest -> AlterTopicResponse;
        send_offsets: SendOffsetsRequest -> SendOffsetsResponse;
        list_transactions: ListTransactionsRequest -> ListTransactionsResponse;
        describe_transaction: DescribeTransactionRequest -> DescribeTransactionResponse;
        abort_transaction: AbortTransactionRequest -> AbortTransactionResponse;
        tier_status: TierStatusRequest -> TierStatusResponse;
        tier_verify: TierVerifyRequest -> TierVerifyResponse;
        tier_restore: TierRestoreRequest -> TierRestoreResponse;
        tier_flush: TierFlushRequest -> TierFlushResponse;
    }
}
