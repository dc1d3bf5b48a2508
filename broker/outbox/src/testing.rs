//! A broker in memory with the rules of the real one and faults drawn from a seed, and an application with a database.
//! For this crate's tests only.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::Connection;
use sunseo_client::{Client, Transport};
use sunseo_proto::clock::ManualClock;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record, batch, v1};

use crate::{Outbox, OutboxConfig};

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
        Self { lose_request: 8, lose_answer: 8, late: 5, refuse: 5 }
    }
}

#[derive(Debug, Default)]
struct Partition {
    batches: Vec<Bytes>,
    end: i64,
    positioned: HashMap<i64, (i16, i64)>,
}

impl Partition {
    fn records(&self) -> Vec<Record> {
        self.batches.iter().flat_map(|bytes| batch::records(bytes).expect("valid")).collect()
    }

    fn append(&mut self, bytes: &Bytes, limit: i64) -> v1::ProduceResult {
        let header = batch::validate(bytes).expect("clients send valid batches");
        if limit > 0 && bytes.len() as i64 > limit {
            return refused(ErrorCode::BatchTooLarge, 0);
        }
        let range = batch::position_of(bytes).expect("valid").expect("the outbox appends with positions");
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
        let base_offset = self.end;
        let mut stamped = bytes.to_vec();
        batch::stamp(&mut stamped, base_offset, 1);
        self.batches.push(stamped.into());
        self.end += i64::from(header.record_count);
        v1::ProduceResult { base_offset, ..Default::default() }
    }
}

fn refused(code: ErrorCode, accepted_through: i64) -> v1::ProduceResult {
    let error = Some(Error::new(code, "scripted refusal").into());
    v1::ProduceResult { error, accepted_through, base_offset: -1, ..Default::default() }
}

#[derive(Debug, Default)]
struct Topic {
    partitions: Vec<Partition>,
    hidden: bool,
    max_batch_bytes: i64,
}

#[derive(Debug)]
pub(crate) struct Broker {
    rng: StdRng,
    pub faults: Faults,
    topics: BTreeMap<String, Topic>,
    /// Appends to these are refused for good.
    pub broken: Vec<(String, i32, ErrorCode)>,
    late: Vec<v1::ProduceRequest>,
    producers: HashMap<String, (i64, i32)>,
    next_producer: i64,
    definitions: BTreeMap<(String, String), v1::Definition>,
    pub produced: u64,
}

/// The door to it.
#[derive(Clone, Debug)]
pub(crate) struct FakeTransport(Arc<Mutex<Broker>>);

impl FakeTransport {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(Broker {
            rng: StdRng::seed_from_u64(seed),
            faults,
            topics: BTreeMap::new(),
            broken: Vec::new(),
            late: Vec::new(),
            producers: HashMap::new(),
            next_producer: 100,
            definitions: BTreeMap::new(),
            produced: 0,
        })))
    }

    pub(crate) fn broker(&self) -> MutexGuard<'_, Broker> {
        self.0.lock().expect("no test panics with the lock")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()))
    }

    pub(crate) fn make_topic(&self, name: &str, partitions: usize, max_batch_bytes: i64) {
        let mut broker = self.broker();
        let topic = broker.topics.entry(name.to_owned()).or_default();
        topic.partitions.resize_with(partitions, Partition::default);
        topic.max_batch_bytes = max_batch_bytes;
    }

    pub(crate) fn delete_topic(&self, name: &str) {
        self.broker().topics.remove(name);
    }

    pub(crate) fn topic_names(&self) -> Vec<String> {
        let broker = self.broker();
        broker.topics.iter().filter(|(_, topic)| !topic.hidden).map(|(name, _)| name.clone()).collect()
    }

    /// Records of every partition, partition by partition.
    pub(crate) fn records(&self, topic: &str) -> Vec<Vec<Record>> {
        let broker = self.broker();
        let partitions =
            broker.topics.get(topic).map(|topic| topic.partitions.iter().map(Partition::records));
        partitions.map(Iterator::collect).unwrap_or_default()
    }

    pub(crate) fn all(&self, topic: &str) -> Vec<Record> {
        self.records(topic).into_iter().flatten().collect()
    }

    /// Header `id` of every record, sorted.
    pub(crate) fn ids(&self, topic: &str) -> Vec<String> {
        let mut ids: Vec<_> = self.all(topic).iter().map(|record| header(record, "id")).collect();
        ids.sort();
        ids
    }

    /// What was late has arrived, and nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        let mut broker = self.broker();
        for request in std::mem::take(&mut broker.late) {
            broker.append(&request, false);
        }
        broker.faults = Faults::default();
    }
}

pub(crate) fn header(record: &Record, key: &str) -> String {
    record.header(key).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

impl Broker {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn unreachable() -> Error {
        Error::new(ErrorCode::Unavailable, "scripted loss")
    }

    /// For calls that have no effect, or one that may be repeated.
    fn may_fail(&mut self) -> Result<()> {
        let percent = self.faults.lose_request;
        if self.chance(percent) { Err(Self::unreachable()) } else { Ok(()) }
    }

    fn append(&mut self, request: &v1::ProduceRequest, may_refuse: bool) -> Vec<v1::ProduceResult> {
        let mut results = Vec::new();
        for part in &request.partitions {
            let refuse = may_refuse && self.chance(self.faults.refuse);
            let broken = self.broken.iter().find(|(t, p, _)| (t, *p) == (&part.topic, part.partition));
            if let Some((.., code)) = broken {
                results.push(refused(*code, 0));
                continue;
            }
            let topic = self.topics.get_mut(&part.topic);
            let limit = topic.as_ref().map_or(0, |topic| topic.max_batch_bytes);
            let exists = topic.is_some();
            let partition = topic.and_then(|topic| topic.partitions.get_mut(part.partition as usize));
            results.push(match partition {
                _ if refuse => refused(ErrorCode::DiskFull, 0),
                None if exists => refused(ErrorCode::UnknownPartition, 0),
                None => refused(ErrorCode::UnknownTopic, 0),
                Some(partition) => partition.append(part.batch.as_ref().expect("a batch"), limit),
            });
        }
        results
    }

    fn produce(&mut self, request: v1::ProduceRequest) -> Result<v1::ProduceResponse> {
        self.produced += 1;
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

    fn fetch_partition(&self, asked: &v1::FetchPartition) -> v1::FetchResult {
        let mut result =
            v1::FetchResult { topic: asked.topic.clone(), partition: asked.partition, ..Default::default() };
        let topic = self.topics.get(&asked.topic);
        let Some(partition) = topic.and_then(|topic| topic.partitions.get(asked.partition as usize)) else {
            result.error = Some(Error::new(ErrorCode::UnknownTopic, "scripted: no such topic").into());
            return result;
        };
        result.high_watermark = partition.end;
        let mut bytes = Vec::new();
        for batch in &partition.batches {
            let header = batch::BatchHeader::parse(batch).expect("valid");
            if header.next_offset() <= asked.fetch_offset {
                continue;
            }
            if !bytes.is_empty() && bytes.len() + batch.len() > 4096 {
                break;
            }
            bytes.extend_from_slice(batch);
        }
        result.batches = bytes.into();
        result
    }

    fn describe(&self, name: &str) -> v1::TopicMetadata {
        let name = name.to_owned();
        let Some(topic) = self.topics.get(&name) else {
            let error = Some(Error::new(ErrorCode::UnknownTopic, "scripted: no such topic").into());
            return v1::TopicMetadata { name, error, ..Default::default() };
        };
        let config = v1::TopicConfig { max_batch_bytes: topic.max_batch_bytes, ..Default::default() };
        let partitions = topic.partitions.iter().map(|_| v1::PartitionMetadata::default()).collect();
        v1::TopicMetadata { name, partitions, config: Some(config), ..Default::default() }
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
            Box::pin(async { Err(Error::new(ErrorCode::Unsupported, "not part of the fake")) })
        }
    )*};
}

#[async_trait]
impl Transport for FakeTransport {
    fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>> {
        let mut broker = self.broker();
        let answer = broker.produce(request);
        let delay = Duration::from_micros(broker.rng.random_range(0..1500));
        async move {
            tokio::time::sleep(delay).await;
            answer
        }
        .boxed()
    }

    fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>> {
        let mut broker = self.broker();
        let failed = broker.may_fail();
        let results = request.partitions.iter().map(|asked| broker.fetch_partition(asked)).collect();
        let answer = failed.map(|()| v1::FetchResponse { results, ..Default::default() });
        std::future::ready(answer).boxed()
    }

    async fn metadata(&self, request: v1::MetadataRequest) -> Result<v1::MetadataResponse> {
        let mut broker = self.broker();
        broker.may_fail()?;
        let topics = request.topics.iter().map(|name| broker.describe(name)).collect();
        Ok(v1::MetadataResponse { topics, ..Default::default() })
    }

    async fn list_offsets(&self, request: v1::ListOffsetsRequest) -> Result<v1::ListOffsetsResponse> {
        let mut broker = self.broker();
        broker.may_fail()?;
        let offset = |asked: &v1::ListOffsetsPartition| {
            let end = broker.topics[&asked.topic].partitions[asked.partition as usize].end;
            v1::ListOffsetsResult {
                offset: if asked.timestamp_ms == -1 { end } else { 0 },
                ..Default::default()
            }
        };
        Ok(v1::ListOffsetsResponse { results: request.partitions.iter().map(offset).collect() })
    }

    async fn init_producer(&self, request: v1::InitProducerRequest) -> Result<v1::InitProducerResponse> {
        let mut broker = self.broker();
        broker.may_fail()?;
        let fresh = broker.next_producer;
        broker.next_producer += 1;
        let known = broker.producers.get(&request.name).map_or((fresh, 0), |p| (p.0, p.1 + 1));
        broker.producers.insert(request.name, known);
        Ok(v1::InitProducerResponse { producer_id: known.0, producer_epoch: known.1 })
    }

    async fn create_topic(&self, request: v1::CreateTopicRequest) -> Result<v1::CreateTopicResponse> {
        let mut broker = self.broker();
        broker.may_fail()?;
        if let Some(problem) = crate::names::topic_problem(&request.name).filter(|_| !request.internal) {
            return Err(Error::invalid("name", problem));
        }
        let partitions = if request.partitions == 0 { 3 } else { request.partitions as usize };
        let exists = broker.topics.contains_key(&request.name);
        if exists && !request.if_not_exists {
            return Err(Error::new(ErrorCode::AlreadyExists, "scripted: exists"));
        }
        if !exists {
            let topic = Topic { hidden: request.internal, ..Topic::default() };
            let topic = broker.topics.entry(request.name.clone()).or_insert(topic);
            topic.partitions.resize_with(partitions, Partition::default);
        }
        Ok(v1::CreateTopicResponse { topic: Some(broker.describe(&request.name)) })
    }

    async fn put_definition(&self, request: v1::PutDefinitionRequest) -> Result<v1::PutDefinitionResponse> {
        let mut broker = self.broker();
        let v1::PutDefinitionRequest { kind, name, body, expected_version } = request;
        let key = (kind.clone(), name.clone());
        let version = broker.definitions.get(&key).map_or(0, |definition| definition.version);
        if expected_version >= 0 && expected_version != version {
            return Err(Error::new(ErrorCode::VersionMismatch, "scripted: another version"));
        }
        broker.definitions.insert(key, v1::Definition { kind, name, body, version: version + 1 });
        Ok(v1::PutDefinitionResponse { version: version + 1 })
    }

    async fn list_definitions(
        &self,
        request: v1::ListDefinitionsRequest,
    ) -> Result<v1::ListDefinitionsResponse> {
        let mut broker = self.broker();
        broker.may_fail()?;
        let found = broker.definitions.values().filter(|definition| definition.kind == request.kind);
        Ok(v1::ListDefinitionsResponse { definitions: found.cloned().collect() })
    }

    async fn delete_definition(
        &self,
        request: v1::DeleteDefinitionRequest,
    ) -> Result<v1::DeleteDefinitionResponse> {
        self.broker().definitions.remove(&(request.kind, request.name));
        Ok(v1::DeleteDefinitionResponse {})
    }

    unsupported! {
        group_heartbeat: GroupHeartbeatRequest -> GroupHeartbeatResponse;
        commit_offsets: CommitOffsetsRequest -> CommitOffsetsResponse;
        fetch_offsets: FetchOffsetsRequest -> FetchOffsetsResponse;
        list_groups: ListGroupsRequest -> ListGroupsResponse;
        describe_group: DescribeGroupRequest -> DescribeGroupResponse;
        delete_group: DeleteGroupRequest -> DeleteGroupResponse;
        list_topics: ListTopicsRequest -> ListTopicsResponse;
        describe_topic: DescribeTopicRequest -> DescribeTopicResponse;
        alter_topic: AlterTopicRequest -> AlterTopicResponse;
        delete_topic: DeleteTopicRequest -> DeleteTopicResponse;
        tier_status: TierStatusRequest -> TierStatusResponse;
        tier_verify: TierVerifyRequest -> TierVerifyResponse;
        tier_restore: TierRestoreRequest -> TierRestoreResponse;
        tier_flush: TierFlushRequest -> TierFlushResponse;
    }
}

/// An application with its database, in a directory of its own.
#[derive(Debug)]
pub(crate) struct App {
    pub db: Connection,
    dir: tempfile::TempDir,
}

pub(crate) const OUTBOX_COLUMNS: &str = "id TEXT NOT NULL, aggregatetype TEXT, aggregateid TEXT, type TEXT, payload TEXT, timestamp INTEGER, headers TEXT";

impl App {
    /// With tables `outbox_0` ..
    pub(crate) fn new(shards: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Connection::open(dir.path().join("app.db")).expect("opens");
        db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE business (x)")
            .expect("made");
        let app = Self { db, dir };
        (0..shards).for_each(|shard| app.make_table(&format!("outbox_{shard}")));
        app
    }

    /// The application ends.
    pub(crate) fn close(&mut self) {
        self.db = Connection::open_in_memory().expect("opens");
    }

    pub(crate) fn reopen(&mut self) {
        self.db = Connection::open(self.path()).expect("opens");
        self.db.busy_timeout(Duration::from_secs(10)).expect("set");
    }

    pub(crate) fn make_table(&self, name: &str) {
        let columns = format!("seq INTEGER PRIMARY KEY AUTOINCREMENT, {OUTBOX_COLUMNS}");
        self.sql(&format!("CREATE TABLE {name} ({columns})"));
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    pub(crate) fn sql(&self, sql: &str) {
        self.db.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// One row; id and payload are the same.
    pub(crate) fn insert(&self, table: &str, id: &str, key: &str) {
        insert(&self.db, table, id, key);
    }

    pub(crate) fn definition(&self) -> v1::SourceDefinition {
        v1::SourceDefinition {
            name: "orders".to_owned(),
            kind: "sqlite".to_owned(),
            url: self.path().display().to_string(),
            tables: vec!["outbox_*".to_owned()],
            partitions: 4,
            ..Default::default()
        }
    }
}

pub(crate) fn insert(db: &Connection, table: &str, id: &str, key: &str) {
    let sql = format!(
        "INSERT INTO {table} (id, aggregatetype, aggregateid, type, payload) VALUES (?1, 'delivery', ?2, 'PLACED', ?1)"
    );
    db.execute(&sql, (id, key)).expect("inserted");
}

/// An outbox that looks often and writes progress down often.
pub(crate) async fn start(fake: &FakeTransport) -> Outbox {
    start_with(fake, OutboxConfig::default()).await.expect("starts")
}

pub(crate) async fn start_with(fake: &FakeTransport, config: OutboxConfig) -> Result<Outbox> {
    let config = OutboxConfig {
        poll_min: Duration::from_millis(1),
        poll_max: Duration::from_millis(5),
        checkpoint_interval: Duration::from_millis(20),
        ..config
    };
    Outbox::start(config, fake.client(), Arc::new(ManualClock::new(1_000))).await
}

/// Waits until something holds, half a minute at most.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = tokio::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
