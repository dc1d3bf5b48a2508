//! A broker in memory with the rules of the real one and faults drawn from a seed, for this crate's tests only: requests and
//! answers get lost, appends arrive late, after other ones, or are refused for now.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_client::Transport;
use sunseo_proto::batch;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record, v1};

/// Chances per request, of 100.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub lose_request: u32,
    pub lose_answer: u32,
    /// The caller is told there was no answer; the request takes effect during some later one.
    pub late: u32,
    pub refuse: u32,
}

impl Faults {
    pub(crate) fn many() -> Self {
        Self { lose_request: 5, lose_answer: 5, late: 5, refuse: 5 }
    }
}

#[derive(Debug, Default)]
struct Partition {
    batches: Vec<Bytes>,
    end: i64,
    /// Producer id to epoch and last position.
    positioned: HashMap<i64, (i16, i64)>,
}

impl Partition {
    fn append(&mut self, bytes: &Bytes, max_batch_bytes: usize) -> v1::ProduceResult {
        let header = batch::validate(bytes).expect("clients send valid batches");
        if bytes.len() > max_batch_bytes {
            return refused(ErrorCode::BatchTooLarge, 0);
        }
        let found = batch::inspect(bytes).expect("clients send valid batches");
        if found.reserved_header.is_some() {
            return refused(ErrorCode::InvalidArgument, 0);
        }
        if let Some(range) = found.position {
            let (epoch, last) =
                *self.positioned.entry(header.producer_id).or_insert((header.producer_epoch, -1));
            if header.producer_epoch < epoch {
                return refused(ErrorCode::ProducerFenced, 0);
            }
            if range.last <= last {
                return v1::ProduceResult { base_offset: -1, duplicate: true, ..Default::default() };
            }
            if range.first <= last {
                return refused(ErrorCode::PartialDuplicate, last);
            }
            self.positioned.insert(header.producer_id, (header.producer_epoch, range.last));
        }
        let base_offset = self.end;
        let mut stamped = bytes.to_vec();
        batch::stamp(&mut stamped, base_offset, 1);
        self.batches.push(stamped.into());
        self.end += i64::from(header.record_count);
        v1::ProduceResult { base_offset, last_offset: self.end - 1, ..Default::default() }
    }
}

fn refused(code: ErrorCode, accepted_through: i64) -> v1::ProduceResult {
    let error = Some(Error::new(code, "scripted refusal").into());
    v1::ProduceResult { error, accepted_through, base_offset: -1, ..Default::default() }
}

fn unreachable() -> Error {
    Error::new(ErrorCode::Unavailable, "scripted loss")
}

#[derive(Debug)]
struct Topic {
    id: u64,
    partitions: Vec<Partition>,
    internal: bool,
}

#[derive(Debug)]
pub(crate) struct Broker {
    rng: StdRng,
    pub faults: Faults,
    topics: BTreeMap<String, Topic>,
    next_topic: u64,
    pub max_batch_bytes: usize,
    late: Vec<v1::ProduceRequest>,
    producers: HashMap<String, (i64, i32)>,
    definitions: BTreeMap<(String, String), v1::Definition>,
    /// Wakes fetches.
    appended: Arc<tokio::sync::Notify>,
}

/// The door to it.
#[derive(Clone, Debug)]
pub(crate) struct MemoryTransport(Arc<Mutex<Broker>>);

impl MemoryTransport {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Broker {
            rng: StdRng::seed_from_u64(seed),
            faults: Faults::default(),
            topics: BTreeMap::new(),
            next_topic: 1,
            max_batch_bytes: 8 << 20,
            late: Vec::new(),
            producers: HashMap::new(),
            definitions: BTreeMap::new(),
            appended: Arc::default(),
        })))
    }

    pub(crate) fn with_topics(self, topics: &[(&str, i32)]) -> Self {
        for (name, partitions) in topics {
            self.broker().create(name, *partitions, false);
        }
        self
    }

    pub(crate) fn broker(&self) -> MutexGuard<'_, Broker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record as a plain producer without faults.
    pub(crate) fn put(&self, topic: &str, record: &Record) {
        self.put_all(topic, std::slice::from_ref(record));
    }

    /// Appends records as a plain producer without faults, one batch for each partition.
    pub(crate) fn put_all(&self, topic: &str, records: &[Record]) {
        let mut broker = self.broker();
        let partitions = &mut broker.topics.get_mut(topic).expect("a topic").partitions;
        let count = partitions.len() as i32;
        for (index, partition) in (0..).zip(partitions) {
            let mut builder = batch::BatchBuilder::new(batch::Compression::None);
            let key = |record: &Record| record.key.clone().unwrap_or_default();
            let ours =
                |record: &&Record| sunseo_proto::partitioner::partition_of(&key(record), count) == index;
            records.iter().filter(ours).for_each(|record| builder.push(record));
            if !builder.is_empty() {
                partition.append(&builder.build(), usize::MAX);
            }
        }
        broker.appended.notify_waiters();
    }

    /// Every record of a topic, by partition.
    pub(crate) fn records(&self, topic: &str) -> Vec<Vec<Record>> {
        let broker = self.broker();
        let Some(topic) = broker.topics.get(topic) else { return Vec::new() };
        let of = |partition: &Partition| {
            partition.batches.iter().flat_map(|b| batch::records(b).expect("valid")).collect()
        };
        topic.partitions.iter().map(of).collect()
    }

    /// Records in a topic, over all partitions.
    pub(crate) fn len(&self, topic: &str) -> usize {
        self.broker().topics.get(topic).map_or(0, |t| t.partitions.iter().map(|p| p.end as usize).sum())
    }

    pub(crate) fn topic_names(&self) -> Vec<String> {
        self.broker().topics.keys().cloned().collect()
    }
}

impl Broker {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn create(&mut self, name: &str, partitions: i32, internal: bool) {
        let id = self.next_topic;
        self.next_topic += 1;
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        self.topics.insert(name.to_owned(), Topic { id, partitions, internal });
    }

    fn metadata(&self, name: &str) -> v1::TopicMetadata {
        match self.topics.get(name) {
            Some(topic) => v1::TopicMetadata {
                name: name.to_owned(),
                topic_id: u128::from(topic.id).to_be_bytes().to_vec().into(),
                partitions: topic.partitions.iter().map(|_| v1::PartitionMetadata::default()).collect(),
                internal: topic.internal,
                ..Default::default()
            },
            None => v1::TopicMetadata {
                name: name.to_owned(),
                error: Some(Error::new(ErrorCode::UnknownTopic, format!("no topic {name}")).into()),
                ..Default::default()
            },
        }
    }

    fn append(&mut self, request: &v1::ProduceRequest, may_refuse: bool) -> Vec<v1::ProduceResult> {
        let mut results = Vec::new();
        for part in &request.partitions {
            let refuse = may_refuse && self.chance(self.faults.refuse);
            let limit = self.max_batch_bytes;
            let topic = self.topics.get_mut(&part.topic);
            results.push(match topic.and_then(|t| t.partitions.get_mut(part.partition as usize)) {
                _ if refuse => refused(ErrorCode::DiskFull, 0),
                None => refused(ErrorCode::UnknownTopic, 0),
                Some(partition) => partition.append(part.batch.as_ref().expect("a batch"), limit),
            });
        }
        self.appended.notify_waiters();
        results
    }

    fn produce(&mut self, request: v1::ProduceRequest) -> Result<v1::ProduceResponse> {
        if !self.late.is_empty() && self.chance(40) {
            let at = self.rng.random_range(0..self.late.len());
            let late = self.late.remove(at);
            self.append(&late, false);
        }
        if self.chance(self.faults.lose_request) {
            return Err(unreachable());
        }
        if self.chance(self.faults.late) {
            self.late.push(request);
            return Err(Error::new(ErrorCode::TimedOut, "scripted silence"));
        }
        let results = self.append(&request, true);
        if self.chance(self.faults.lose_answer) {
            return Err(unreachable());
        }
        Ok(v1::ProduceResponse { results, ..Default::default() })
    }

    fn fetch(&self, request: &v1::FetchRequest) -> v1::FetchResponse {
        let results = request.partitions.iter().map(|asked| self.fetch_partition(asked)).collect();
        v1::FetchResponse { results, ..Default::default() }
    }

    fn fetch_partition(&self, asked: &v1::FetchPartition) -> v1::FetchResult {
        let mut result =
            v1::FetchResult { topic: asked.topic.clone(), partition: asked.partition, ..Default::default() };
        let topic = self.topics.get(&asked.topic);
        let Some(partition) = topic.and_then(|t| t.partitions.get(asked.partition as usize)) else {
            result.error = Some(Error::new(ErrorCode::UnknownTopic, "no such topic").into());
            return result;
        };
        result.high_watermark = partition.end;
        if !(0..=partition.end).contains(&asked.fetch_offset) {
            result.error = Some(Error::new(ErrorCode::OffsetOutOfRange, "not in the log").into());
            return result;
        }
        let first = partition.batches.partition_point(|batch| {
            batch::BatchHeader::parse(batch).expect("valid").next_offset() <= asked.fetch_offset
        });
        let mut bytes = Vec::new();
        for batch in &partition.batches[first..] {
            if !bytes.is_empty() && bytes.len() + batch.len() > asked.max_bytes as usize {
                break;
            }
            bytes.extend_from_slice(batch);
        }
        result.batches = bytes.into();
        result
    }
}

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorCode::Unsupported, "not part of the memory broker"))
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
            Box::pin(async { unsupported() })
        }
    )*};
}

#[async_trait]
impl Transport for MemoryTransport {
    fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>> {
        let mut broker = self.broker();
        let answer = broker.produce(request);
        let delay = Duration::from_micros(broker.rng.random_range(0..2000));
        async move {
            tokio::time::sleep(delay).await;
            answer
        }
        .boxed()
    }

    fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>> {
        let this = self.clone();
        let appended = Arc::clone(&self.broker().appended);
        async move {
            let deadline = tokio::time::Instant::now() + Duration::from_millis(request.max_wait_ms.into());
            loop {
                let news = appended.notified();
                let answer = this.broker().fetch(&request);
                let something = answer.results.iter().any(|r| r.error.is_some() || !r.batches.is_empty());
                if something || tokio::time::timeout_at(deadline, news).await.is_err() {
                    let mut broker = this.broker();
                    let lose = broker.faults.lose_answer;
                    return if broker.chance(lose) { Err(unreachable()) } else { Ok(answer) };
                }
            }
        }
        .boxed()
    }

    async fn metadata(&self, request: v1::MetadataRequest) -> Result<v1::MetadataResponse> {
        let mut broker = self.broker();
        let lose = broker.faults.lose_request;
        if broker.chance(lose) {
            return Err(unreachable());
        }
        let topics = request.topics.iter().map(|name| broker.metadata(name)).collect();
        Ok(v1::MetadataResponse { topics, ..Default::default() })
    }

    async fn list_offsets(&self, request: v1::ListOffsetsRequest) -> Result<v1::ListOffsetsResponse> {
        let broker = self.broker();
        let offset = |asked: &v1::ListOffsetsPartition| {
            let end = broker.topics[&asked.topic].partitions[asked.partition as usize].end;
            v1::ListOffsetsResult {
                topic: asked.topic.clone(),
                partition: asked.partition,
                offset: if asked.timestamp_ms == -2 { 0 } else { end },
                ..Default::default()
            }
        };
        Ok(v1::ListOffsetsResponse { results: request.partitions.iter().map(offset).collect() })
    }

    async fn init_producer(&self, request: v1::InitProducerRequest) -> Result<v1::InitProducerResponse> {
        let mut broker = self.broker();
        let lose = broker.faults.lose_request;
        if broker.chance(lose) {
            return Err(unreachable());
        }
        let fresh = 100 + broker.producers.len() as i64;
        let (producer_id, producer_epoch) =
            broker.producers.get(&request.name).map_or((fresh, 0), |p| (p.0, p.1 + 1));
        broker.producers.insert(request.name, (producer_id, producer_epoch));
        Ok(v1::InitProducerResponse { producer_id, producer_epoch })
    }

    async fn create_topic(&self, request: v1::CreateTopicRequest) -> Result<v1::CreateTopicResponse> {
        let mut broker = self.broker();
        match broker.topics.get(&request.name) {
            Some(topic) if request.if_not_exists && topic.partitions.len() as i32 == request.partitions => {}
            Some(_) => return Err(Error::new(ErrorCode::AlreadyExists, "topic exists")),
            None => broker.create(&request.name, request.partitions, request.internal),
        }
        Ok(v1::CreateTopicResponse { topic: Some(broker.metadata(&request.name)) })
    }

    async fn list_topics(&self, request: v1::ListTopicsRequest) -> Result<v1::ListTopicsResponse> {
        let broker = self.broker();
        let shown = broker.topics.iter().filter(|(_, topic)| request.include_internal || !topic.internal);
        Ok(v1::ListTopicsResponse { topics: shown.map(|(name, _)| broker.metadata(name)).collect() })
    }

    async fn delete_topic(&self, request: v1::DeleteTopicRequest) -> Result<v1::DeleteTopicResponse> {
        self.broker().topics.remove(&request.name);
        Ok(v1::DeleteTopicResponse {})
    }

    async fn put_definition(&self, request: v1::PutDefinitionRequest) -> Result<v1::PutDefinitionResponse> {
        let mut broker = self.broker();
        let key = (request.kind.clone(), request.name.clone());
        let version = broker.definitions.get(&key).map_or(0, |definition| definition.version);
        if request.expected_version >= 0 && request.expected_version != version {
            return Err(Error::new(ErrorCode::VersionMismatch, "another version"));
        }
        let v1::PutDefinitionRequest { kind, name, body, .. } = request;
        let version = version + 1;
        broker.definitions.insert(key, v1::Definition { kind, name, body, version });
        Ok(v1::PutDefinitionResponse { version })
    }

    async fn list_definitions(
        &self,
        request: v1::ListDefinitionsRequest,
    ) -> Result<v1::ListDefinitionsResponse> {
        let broker = self.broker();
        let asked = broker.definitions.values().filter(|d| request.kind.is_empty() || d.kind == request.kind);
        Ok(v1::ListDefinitionsResponse { definitions: asked.cloned().collect() })
    }

    unsupported! {
        group_heartbeat: GroupHeartbeatRequest -> GroupHeartbeatResponse;
        commit_offsets: CommitOffsetsRequest -> CommitOffsetsResponse;
        fetch_offsets: FetchOffsetsRequest -> FetchOffsetsResponse;
        list_groups: ListGroupsRequest -> ListGroupsResponse;
        describe_group: DescribeGroupRequest -> DescribeGroupResponse;
        delete_group: DeleteGroupRequest -> DeleteGroupResponse;
        describe_topic: DescribeTopicRequest -> DescribeTopicResponse;
        alter_topic: AlterTopicRequest -> AlterTopicResponse;
        delete_definition: DeleteDefinitionRequest -> DeleteDefinitionResponse;
        tier_status: TierStatusRequest -> TierStatusResponse;
        tier_verify: TierVerifyRequest -> TierVerifyResponse;
        tier_restore: TierRestoreRequest -> TierRestoreResponse;
        tier_flush: TierFlushRequest -> TierFlushResponse;
    }
}
