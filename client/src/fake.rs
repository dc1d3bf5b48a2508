//! A broker in memory with the rules of the real one and faults drawn from a seed: requests and answers get lost, requests
//! arrive late, appends are refused for now. For this crate's tests only.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_proto::batch;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record, v1};

use crate::transport::Transport;

/// Chances per request, of 100.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub lose_request: u32,
    pub lose_answer: u32,
    /// The caller is told there was no answer; the request takes effect during some later one.
    pub late: u32,
    /// Each partition of a request on its own.
    pub refuse: u32,
}

impl Faults {
    pub(crate) fn many() -> Self {
        Self { lose_request: 10, lose_answer: 10, late: 10, refuse: 10 }
    }
}

#[derive(Debug, Default)]
struct Sequenced {
    epoch: i16,
    /// Base sequence, last sequence, base offset of the last five batches.
    last: VecDeque<(i32, i32, i64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub batches: Vec<Bytes>,
    pub end: i64,
    pub start: i64,
    sequenced: HashMap<i64, Sequenced>,
    positioned: HashMap<i64, (i16, i64)>,
}

impl Partition {
    pub(crate) fn records(&self) -> Vec<Record> {
        self.batches.iter().flat_map(|batch| batch::records(batch).expect("valid")).collect()
    }

    fn push(&mut self, bytes: &Bytes, count: i32) -> i64 {
        let base = self.end;
        let mut stamped = bytes.to_vec();
        batch::stamp(&mut stamped, base, 1);
        self.batches.push(stamped.into());
        self.end += i64::from(count);
        base
    }

    pub(crate) fn append(&mut self, bytes: &Bytes, max_batch_bytes: usize) -> v1::ProduceResult {
        let header = batch::validate(bytes).expect("clients send valid batches");
        if bytes.len() > max_batch_bytes {
            return refused(ErrorCode::BatchTooLarge, 0);
        }
        if header.is_positioned() {
            return self.append_positioned(bytes, &header);
        }
        if !header.is_sequenced() {
            let base_offset = self.push(bytes, header.record_count);
            return v1::ProduceResult { base_offset, ..Default::default() };
        }
        let (pid, epoch, base, count) =
            (header.producer_id, header.producer_epoch, header.base_sequence, header.record_count);
        // an id that is not known starts anywhere, as when retention has removed what it wrote
        let known = self.sequenced.entry(pid).or_default();
        if epoch < known.epoch {
            return refused(ErrorCode::ProducerFenced, 0);
        }
        if let Some(&(.., offset)) =
            known.last.iter().find(|(first, last, _)| (*first, *last) == (base, base + count - 1))
        {
            return v1::ProduceResult { base_offset: offset, duplicate: true, ..Default::default() };
        }
        if known.last.back().is_some_and(|(_, last, _)| base != last + 1) {
            return refused(ErrorCode::SequenceGap, 0);
        }
        let offset = self.push(bytes, count);
        let known = self.sequenced.entry(pid).or_default();
        known.last.push_back((base, base + count - 1, offset));
        if known.last.len() > 5 {
            known.last.pop_front();
        }
        v1::ProduceResult { base_offset: offset, ..Default::default() }
    }

    fn append_positioned(&mut self, bytes: &Bytes, header: &batch::BatchHeader) -> v1::ProduceResult {
        let range = batch::position_of(bytes).expect("valid").expect("positioned");
        let (epoch, last) = *self.positioned.entry(header.producer_id).or_insert((header.producer_epoch, -1));
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
        let base_offset = self.push(bytes, header.record_count);
        v1::ProduceResult { base_offset, ..Default::default() }
    }
}

fn refused(code: ErrorCode, accepted_through: i64) -> v1::ProduceResult {
    let error = Some(Error::new(code, "scripted refusal").into());
    v1::ProduceResult { error, accepted_through, base_offset: -1, ..Default::default() }
}

#[derive(Debug)]
pub(crate) struct Broker {
    rng: StdRng,
    pub faults: Faults,
    pub topics: BTreeMap<String, Vec<Partition>>,
    pub max_batch_bytes: usize,
    late: Vec<v1::ProduceRequest>,
    producers: HashMap<String, (i64, i32)>,
    next_producer: i64,
    pub groups: crate::fake_groups::Groups,
}

/// The door to it.
#[derive(Clone, Debug)]
pub(crate) struct FakeTransport(Arc<Mutex<Broker>>);

impl FakeTransport {
    pub(crate) fn new(seed: u64, faults: Faults, topics: &[(&str, i32)]) -> Self {
        let partitions = |n: i32| (0..n).map(|_| Partition::default()).collect();
        Self(Arc::new(Mutex::new(Broker {
            rng: StdRng::seed_from_u64(seed),
            faults,
            topics: topics.iter().map(|&(name, n)| (name.to_owned(), partitions(n))).collect(),
            max_batch_bytes: usize::MAX,
            late: Vec::new(),
            producers: HashMap::new(),
            next_producer: 100,
            groups: crate::fake_groups::Groups::default(),
        })))
    }

    pub(crate) fn broker(&self) -> MutexGuard<'_, Broker> {
        self.0.lock().expect("no test panics with the lock")
    }

    pub(crate) fn records(&self, topic: &str, partition: usize) -> Vec<Record> {
        self.broker().topics[topic][partition].records()
    }
}

impl Broker {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn unreachable() -> Error {
        Error::new(ErrorCode::Unavailable, "scripted loss")
    }

    fn append(&mut self, request: &v1::ProduceRequest, may_refuse: bool) -> Vec<v1::ProduceResult> {
        let mut results = Vec::new();
        for part in &request.partitions {
            let refuse = may_refuse && self.chance(self.faults.refuse);
            let limit = self.max_batch_bytes;
            let partition = self.topics.get_mut(&part.topic).and_then(|t| t.get_mut(part.partition as usize));
            results.push(match partition {
                _ if refuse => refused(ErrorCode::DiskFull, 0),
                None => refused(ErrorCode::UnknownTopic, 0),
                Some(partition) => partition.append(part.batch.as_ref().expect("a batch"), limit),
            });
        }
        results
    }

    fn produce(&mut self, request: v1::ProduceRequest) -> Result<v1::ProduceResponse> {
        if !self.late.is_empty() && self.chance(40) {
            let at = self.rng.random_range(0..self.late.len());
            let late = self.late.remove(at);
            self.append(&late, false);
        }
        if self.chance(self.faults.lose_request) {
            return Err(Self::unreachable());
        }
        if self.chance(self.faults.late) {
            self.late.push(request);
            return Err(Error::new(ErrorCode::TimedOut, "scripted silence"));
        }
        let results = self.append(&request, true);
        if self.chance(self.faults.lose_answer) {
            return Err(Self::unreachable());
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
        let Some(partition) = self.topics.get(&asked.topic).and_then(|t| t.get(asked.partition as usize))
        else {
            result.error = Some(Error::new(ErrorCode::UnknownTopic, "scripted: no such topic").into());
            return result;
        };
        (result.high_watermark, result.log_start_offset) = (partition.end, partition.start);
        if asked.fetch_offset < partition.start || asked.fetch_offset > partition.end {
            result.error = Some(Error::new(ErrorCode::OffsetOutOfRange, "scripted: not in the log").into());
            return result;
        }
        let mut bytes = Vec::new();
        for batch in &partition.batches {
            let header = batch::BatchHeader::parse(batch).expect("valid");
            if header.next_offset() <= asked.fetch_offset {
                continue;
            }
            if !bytes.is_empty() && bytes.len() + batch.len() > asked.max_bytes as usize {
                break;
            }
            bytes.extend_from_slice(batch);
        }
        result.batches = bytes.into();
        result
    }

    fn offset(&self, asked: &v1::ListOffsetsPartition) -> v1::ListOffsetsResult {
        let partition = &self.topics[&asked.topic][asked.partition as usize];
        let offset = match asked.timestamp_ms {
            -1 => partition.end,
            -2 => partition.start,
            ms => partition.records().iter().find(|r| r.timestamp_ms >= ms).map_or(-1, |r| r.offset),
        };
        v1::ListOffsetsResult {
            topic: asked.topic.clone(),
            partition: asked.partition,
            offset,
            ..Default::default()
        }
    }
}

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorCode::Unsupported, "not part of the fake"))
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
impl Transport for FakeTransport {
    fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>> {
        let mut broker = self.broker();
        let answer = broker.produce(request);
        let delay = Duration::from_millis(broker.rng.random_range(0..20));
        async move {
            tokio::time::sleep(delay).await;
            answer
        }
        .boxed()
    }

    fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>> {
        let this = self.clone();
        let lose = { self.broker() }.faults.lose_answer;
        async move {
            for _ in 0..=request.max_wait_ms / 10 {
                let answer = this.broker().fetch(&request);
                if answer.results.iter().any(|r| r.error.is_some() || !r.batches.is_empty()) {
                    let lost = this.broker().chance(lose);
                    return if lost { Err(Broker::unreachable()) } else { Ok(answer) };
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(this.broker().fetch(&request))
        }
        .boxed()
    }

    async fn metadata(&self, request: v1::MetadataRequest) -> Result<v1::MetadataResponse> {
        let mut broker = self.broker();
        let lose = broker.faults.lose_request;
        if broker.chance(lose) {
            return Err(Broker::unreachable());
        }
        let topics = request.topics.iter().map(|name| match broker.topics.get(name) {
            Some(partitions) => v1::TopicMetadata {
                name: name.clone(),
                partitions: partitions.iter().map(|_| v1::PartitionMetadata::default()).collect(),
                ..Default::default()
            },
            None => v1::TopicMetadata {
                name: name.clone(),
                error: Some(Error::new(ErrorCode::UnknownTopic, "scripted: no such topic").into()),
                ..Default::default()
            },
        });
        let topics = topics.collect();
        Ok(v1::MetadataResponse { topics, ..Default::default() })
    }

    async fn list_offsets(&self, request: v1::ListOffsetsRequest) -> Result<v1::ListOffsetsResponse> {
        let broker = self.broker();
        Ok(v1::ListOffsetsResponse {
            results: request.partitions.iter().map(|asked| broker.offset(asked)).collect(),
        })
    }

    async fn init_producer(&self, request: v1::InitProducerRequest) -> Result<v1::InitProducerResponse> {
        let mut broker = self.broker();
        let lose = broker.faults.lose_request;
        if broker.chance(lose) {
            return Err(Broker::unreachable());
        }
        let fresh = broker.next_producer;
        broker.next_producer += 1;
        if request.name.is_empty() {
            return Ok(v1::InitProducerResponse { producer_id: fresh, producer_epoch: 0 });
        }
        let (producer_id, producer_epoch) =
            broker.producers.get(&request.name).map_or((fresh, 0), |p| (p.0, p.1 + 1));
        broker.producers.insert(request.name, (producer_id, producer_epoch));
        Ok(v1::InitProducerResponse { producer_id, producer_epoch })
    }

    async fn group_heartbeat(
        &self,
        request: v1::GroupHeartbeatRequest,
    ) -> Result<v1::GroupHeartbeatResponse> {
        self.broker().groups.heartbeat(request)
    }

    async fn commit_offsets(&self, request: v1::CommitOffsetsRequest) -> Result<v1::CommitOffsetsResponse> {
        self.broker().groups.commit(request)
    }

    async fn fetch_offsets(&self, request: v1::FetchOffsetsRequest) -> Result<v1::FetchOffsetsResponse> {
        Ok(self.broker().groups.committed(request))
    }

    unsupported! {
        list_groups: ListGroupsRequest -> ListGroupsResponse;
        describe_group: DescribeGroupRequest -> DescribeGroupResponse;
        delete_group: DeleteGroupRequest -> DeleteGroupResponse;
        create_topic: CreateTopicRequest -> CreateTopicResponse;
        list_topics: ListTopicsRequest -> ListTopicsResponse;
        describe_topic: DescribeTopicRequest -> DescribeTopicResponse;
        alter_topic: AlterTopicRequest -> AlterTopicResponse;
        delete_topic: DeleteTopicRequest -> DeleteTopicResponse;
        put_definition: PutDefinitionRequest -> PutDefinitionResponse;
        list_definitions: ListDefinitionsRequest -> ListDefinitionsResponse;
        delete_definition: DeleteDefinitionRequest -> DeleteDefinitionResponse;
        tier_status: TierStatusRequest -> TierStatusResponse;
        tier_verify: TierVerifyRequest -> TierVerifyResponse;
        tier_restore: TierRestoreRequest -> TierRestoreResponse;
        tier_flush: TierFlushRequest -> TierFlushResponse;
    }
}
