//! Topics, reads and the registry of the broker in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sunseo_proto::batch;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};

use super::faults::Faults;
use super::groups::Groups;
use super::partition::{Partition, refused};

/// Partitions of a topic that is created without a number.
const DEFAULT_PARTITIONS: i32 = 3;
/// Longest name of a topic.
const TOPIC_CHARS_MAX: usize = 249;

#[derive(Debug, Default)]
pub struct Topic {
    id: u64,
    pub partitions: Vec<Partition>,
    pub internal: bool,
    /// Largest batch, as the topic's configuration says; 0 says nothing.
    pub max_batch_bytes: i64,
}

#[derive(Debug)]
pub struct Broker {
    pub(super) rng: StdRng,
    pub faults: Faults,
    pub topics: BTreeMap<String, Topic>,
    next_topic: u64,
    /// Largest batch of any topic, which no configuration tells.
    pub max_batch_bytes: usize,
    /// Most bytes of a partition in an answer, unless the first batch is larger.
    pub max_fetch_bytes: usize,
    /// An append takes less time than this.
    pub append_time: Duration,
    /// Appends without positions are a mistake of the code under test.
    pub positions_only: bool,
    /// Appends to these are refused for good.
    pub broken: Vec<(String, i32, ErrorCode)>,
    /// Produce requests so far, lost ones too.
    pub produced: u64,
    pub(super) late: Vec<v1::ProduceRequest>,
    producers: HashMap<String, (i64, i32)>,
    next_producer: i64,
    definitions: BTreeMap<(String, String), v1::Definition>,
    pub groups: Groups,
    /// What the next ends of transactions come to; those after them succeed. Nothing is taken back: only their producer is under test.
    pub ends: VecDeque<Error>,
    /// Wakes fetches.
    pub(super) appended: Arc<tokio::sync::Notify>,
}

fn no_topic(name: &str) -> Error {
    Error::new(ErrorCode::UnknownTopic, format!("scripted: no topic {name}"))
}

impl Broker {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            faults,
            topics: BTreeMap::new(),
            next_topic: 1,
            max_batch_bytes: usize::MAX,
            max_fetch_bytes: usize::MAX,
            append_time: Duration::from_millis(20),
            positions_only: false,
            broken: Vec::new(),
            produced: 0,
            late: Vec::new(),
            producers: HashMap::new(),
            next_producer: 100,
            definitions: BTreeMap::new(),
            groups: Groups::default(),
            ends: VecDeque::new(),
            appended: Arc::default(),
        }
    }

    /// A partition that the test knows to be there.
    pub fn partition(&mut self, topic: &str, partition: usize) -> &mut Partition {
        &mut self.topics.get_mut(topic).expect("a topic").partitions[partition]
    }

    fn find(&self, topic: &str, partition: i32) -> Result<&Partition> {
        let found = self.topics.get(topic).ok_or_else(|| no_topic(topic))?;
        let partition = usize::try_from(partition).ok().and_then(|index| found.partitions.get(index));
        partition.ok_or_else(|| Error::new(ErrorCode::UnknownPartition, "scripted: no such partition"))
    }

    /// Makes a topic, or makes it larger.
    pub(super) fn topic(&mut self, name: &str, partitions: usize) -> &mut Topic {
        let topic = self.topics.entry(name.to_owned()).or_insert_with(|| {
            self.next_topic += 1;
            Topic { id: self.next_topic, ..Topic::default() }
        });
        topic.partitions.resize_with(partitions, Partition::default);
        topic
    }

    pub(super) fn append(
        &mut self,
        request: &v1::ProduceRequest,
        may_refuse: bool,
    ) -> Vec<v1::ProduceResult> {
        let mut results = Vec::new();
        for part in &request.partitions {
            let refuse = may_refuse && self.chance(self.faults.refuse);
            results.push(if refuse { refused(ErrorCode::DiskFull, 0) } else { self.append_part(part) });
        }
        self.appended.notify_waiters();
        results
    }

    fn append_part(&mut self, part: &v1::ProducePartition) -> v1::ProduceResult {
        let broken = self.broken.iter().find(|(t, p, _)| (t, *p) == (&part.topic, part.partition));
        if let Some((.., code)) = broken {
            return refused(*code, 0);
        }
        if let Err(error) = self.find(&part.topic, part.partition) {
            return v1::ProduceResult { error: Some(error.into()), base_offset: -1, ..Default::default() };
        }
        let bytes = part.batch.as_ref().expect("a batch");
        let header = batch::BatchHeader::parse(bytes).expect("clients send valid batches");
        assert!(
            header.is_positioned() || !self.positions_only,
            "an append to {} has no positions",
            part.topic
        );
        let told = usize::try_from(self.topics[&part.topic].max_batch_bytes).unwrap_or_default();
        let limit = if told == 0 { self.max_batch_bytes } else { told.min(self.max_batch_bytes) };
        self.partition(&part.topic, part.partition as usize).append(bytes, limit)
    }

    pub(super) fn fetch(&self, request: &v1::FetchRequest) -> v1::FetchResponse {
        let results = request.partitions.iter().map(|asked| self.fetch_partition(asked)).collect();
        v1::FetchResponse { results, ..Default::default() }
    }

    fn fetch_partition(&self, asked: &v1::FetchPartition) -> v1::FetchResult {
        let mut result =
            v1::FetchResult { topic: asked.topic.clone(), partition: asked.partition, ..Default::default() };
        let partition = match self.find(&asked.topic, asked.partition) {
            Ok(partition) => partition,
            Err(error) => return v1::FetchResult { error: Some(error.into()), ..result },
        };
        (result.high_watermark, result.log_start_offset) = (partition.end, partition.start);
        result.last_stable_offset = partition.end;
        if !(partition.start..=partition.end).contains(&asked.fetch_offset) {
            result.error = Some(Error::new(ErrorCode::OffsetOutOfRange, "scripted: not in the log").into());
            return result;
        }
        let limit = self.max_fetch_bytes.min(asked.max_bytes as usize);
        let first = partition.batches.partition_point(|batch| {
            batch::BatchHeader::parse(batch).expect("valid").next_offset() <= asked.fetch_offset
        });
        let mut bytes = Vec::new();
        for batch in &partition.batches[first..] {
            if !bytes.is_empty() && bytes.len() + batch.len() > limit {
                break;
            }
            bytes.extend_from_slice(batch);
        }
        result.batches = bytes.into();
        result
    }

    pub(super) fn offset(&self, asked: &v1::ListOffsetsPartition) -> v1::ListOffsetsResult {
        let (topic, partition) = (asked.topic.clone(), asked.partition);
        let (offset, error) = match self.find(&asked.topic, partition) {
            Err(error) => (-1, Some(error.into())),
            Ok(partition) => match asked.timestamp_ms {
                -1 => (partition.end, None),
                -2 => (partition.start, None),
                ms => {
                    let records = partition.records();
                    let found = records.iter().find(|record| record.timestamp_ms >= ms);
                    (found.map_or(-1, |record| record.offset), None)
                }
            },
        };
        v1::ListOffsetsResult { topic, partition, offset, error, ..Default::default() }
    }

    pub(super) fn delete_records(&mut self, request: &v1::DeleteRecordsRequest) -> v1::DeleteRecordsResponse {
        let results = request.partitions.iter().map(|asked| {
            let (partition, before) = (asked.partition, asked.before_offset);
            match self.delete_before(request, partition, before) {
                Ok(log_start_offset) => v1::DeleteRecordsResult { partition, error: None, log_start_offset },
                Err(error) => {
                    v1::DeleteRecordsResult { partition, error: Some(error.into()), log_start_offset: -1 }
                }
            }
        });
        v1::DeleteRecordsResponse { results: results.collect() }
    }

    fn delete_before(
        &mut self,
        request: &v1::DeleteRecordsRequest,
        partition: i32,
        before: i64,
    ) -> Result<i64> {
        self.find(&request.topic, partition)?;
        let is_meant =
            |id: u64| request.topic_id.is_empty() || request.topic_id == u128::from(id).to_be_bytes()[..];
        if !self.topics.get(&request.topic).is_some_and(|topic| is_meant(topic.id)) {
            return Err(no_topic(&request.topic));
        }
        let deleted = self.partition(&request.topic, partition as usize).delete_before(before);
        deleted.ok_or_else(|| Error::new(ErrorCode::OffsetOutOfRange, "scripted: beyond the end"))
    }

    pub(super) fn describe(&self, name: &str) -> v1::TopicMetadata {
        let Some(topic) = self.topics.get(name) else {
            let (name, error) = (name.to_owned(), Some(no_topic(name).into()));
            return v1::TopicMetadata { name, error, ..Default::default() };
        };
        let config = v1::TopicConfig { max_batch_bytes: topic.max_batch_bytes, ..Default::default() };
        v1::TopicMetadata {
            name: name.to_owned(),
            topic_id: u128::from(topic.id).to_be_bytes().to_vec().into(),
            partitions: topic.partitions.iter().map(|_| v1::PartitionMetadata::default()).collect(),
            config: Some(config),
            internal: topic.internal,
            ..Default::default()
        }
    }

    pub(super) fn init_producer(&mut self, name: String) -> v1::InitProducerResponse {
        let fresh = self.next_producer;
        self.next_producer += 1;
        if name.is_empty() {
            return v1::InitProducerResponse { producer_id: fresh, ..Default::default() };
        }
        let (producer_id, producer_epoch) = self.producers.get(&name).map_or((fresh, 0), |p| (p.0, p.1 + 1));
        self.producers.insert(name, (producer_id, producer_epoch));
        v1::InitProducerResponse { producer_id, producer_epoch, ..Default::default() }
    }

    pub(super) fn end_transaction(
        &mut self,
        request: v1::EndTransactionRequest,
    ) -> Result<v1::EndTransactionResponse> {
        let (producer_id, epoch) = (request.producer_id, request.producer_epoch + 1);
        self.producers.insert(request.transactional_id, (producer_id, epoch));
        match self.ends.pop_front() {
            Some(error) => Err(error),
            None => Ok(v1::EndTransactionResponse { producer_id, producer_epoch: epoch }),
        }
    }

    pub(super) fn create_topic(
        &mut self,
        request: &v1::CreateTopicRequest,
    ) -> Result<v1::CreateTopicResponse> {
        check_topic_name(&request.name, request.internal)?;
        match self.topics.get(&request.name).map(|topic| topic.partitions.len() as i32) {
            Some(has) if request.if_not_exists && [0, has].contains(&request.partitions) => {}
            Some(_) => return Err(Error::new(ErrorCode::AlreadyExists, "scripted: exists")),
            None => {
                let partitions =
                    if request.partitions == 0 { DEFAULT_PARTITIONS } else { request.partitions };
                self.topic(&request.name, partitions as usize).internal = request.internal;
            }
        }
        Ok(v1::CreateTopicResponse { topic: Some(self.describe(&request.name)) })
    }

    pub(super) fn put_definition(
        &mut self,
        request: v1::PutDefinitionRequest,
    ) -> Result<v1::PutDefinitionResponse> {
        let v1::PutDefinitionRequest { kind, name, body, expected_version } = request;
        let key = (kind.clone(), name.clone());
        let version = self.definitions.get(&key).map_or(0, |definition| definition.version);
        if expected_version >= 0 && expected_version != version {
            return Err(Error::new(ErrorCode::VersionMismatch, "scripted: another version"));
        }
        let version = version + 1;
        self.definitions.insert(key, v1::Definition { kind, name, body, version });
        Ok(v1::PutDefinitionResponse { version })
    }

    /// Of one kind, or all.
    pub(super) fn definitions(&self, kind: &str) -> Vec<v1::Definition> {
        let asked = self.definitions.values().filter(|found| kind.is_empty() || found.kind == kind);
        asked.cloned().collect()
    }

    pub(super) fn delete_definition(&mut self, kind: String, name: String) {
        self.definitions.remove(&(kind, name));
    }
}

fn check_topic_name(name: &str, internal: bool) -> Result<()> {
    let allowed = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    let taken = name.starts_with("__") && !internal;
    if ["", ".", ".."].contains(&name) || name.len() > TOPIC_CHARS_MAX || !allowed || taken {
        return Err(Error::invalid("name", format!("scripted: {name:?} is no name for a topic")));
    }
    Ok(())
}
