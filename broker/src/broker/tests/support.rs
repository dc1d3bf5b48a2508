//! Helpers of the scenarios: a world that outlives its node, and short words for requests.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use sunseo_log::StoreConfig;
use sunseo_log::faulty::FaultyDisk;
use sunseo_proto::batch::{self, BatchBuilder, Compression};
use sunseo_proto::clock::{Clock, ManualClock};
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::position::PositionRange;
use sunseo_proto::{Record, v1};

use crate::{Broker, BrokerConfig, BrokerHandle};

pub(super) const NOW_MS: i64 = 1_750_000_000_000;

/// Disk, object store and time of a node.
#[derive(Debug)]
pub(super) struct World {
    pub(super) disk: FaultyDisk,
    pub(super) config: BrokerConfig,
    pub(super) store: StoreConfig,
    pub(super) clock: Arc<ManualClock>,
    _objects: tempfile::TempDir,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let objects = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig::new("unused");
        config.object_store_url = Some(objects.path().to_string_lossy().into_owned());
        config.default_partitions = 2;
        // scenarios say when
        config.maintenance_interval_ms = 3_600_000;
        config.tier.interval_ms = 3_600_000;
        config.tier.seed = Some(seed);
        let store = StoreConfig {
            journal_file_bytes: 1 << 20,
            checkpoint_journal_bytes: 2 << 20,
            disk_headroom_bytes: 64 << 10,
            index_interval_bytes: 256,
            ..StoreConfig::default()
        };
        let clock = Arc::new(ManualClock::new(NOW_MS));
        Self { disk: FaultyDisk::new(seed), config, store, clock, _objects: objects }
    }

    pub(super) async fn try_start(&self) -> Result<Broker> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let disk = Arc::new(self.disk.clone());
        Box::pin(Broker::start_on(disk, self.store.clone(), self.config.clone(), clock)).await
    }

    pub(super) async fn start(&self) -> Broker {
        self.try_start().await.unwrap()
    }
}

pub(super) async fn create(handle: &BrokerHandle, name: &str, config: &[(&str, &str)]) {
    let config: HashMap<String, String> =
        config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let request =
        v1::CreateTopicRequest { name: name.to_owned(), partitions: 2, config, ..Default::default() };
    handle.create_topic(request).await.unwrap();
}

pub(super) fn batch_of<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(&Record::new("key", value.as_ref().to_vec(), NOW_MS));
    }
    builder.build()
}

pub(super) fn sequenced(producer: (i64, i16), sequence: i32, value: &str) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None).producer(producer.0, producer.1, sequence);
    builder.push(&Record::new("key", value.to_owned(), NOW_MS));
    builder.build()
}

pub(super) fn positioned(producer: (i64, i16), first: i64, last: i64) -> Bytes {
    let range = PositionRange::new(first, last).unwrap();
    let mut builder =
        BatchBuilder::new(Compression::None).producer(producer.0, producer.1, -1).position(range);
    for position in first..=last {
        builder.push(&Record::new("key", position.to_string(), NOW_MS));
    }
    builder.build()
}

pub(super) fn part(topic: &str, partition: i32, batch: Bytes) -> v1::ProducePartition {
    v1::ProducePartition { topic: topic.to_owned(), partition, batch: Some(batch), ..Default::default() }
}

pub(super) fn produce_request(parts: Vec<v1::ProducePartition>) -> v1::ProduceRequest {
    v1::ProduceRequest { correlation_id: 0, partitions: parts, ..Default::default() }
}

/// Appends to one partition.
pub(super) async fn produce(
    handle: &BrokerHandle,
    topic: &str,
    partition: i32,
    batch: Bytes,
) -> v1::ProduceResult {
    let request = produce_request(vec![part(topic, partition, batch)]);
    handle.produce(request).await.unwrap().results.pop().unwrap()
}

/// The code of a refusal inside a result.
pub(super) fn code(error: &Option<v1::Error>) -> Option<ErrorCode> {
    error.clone().map(|error| Error::from(error).code)
}

pub(super) fn asked(topic: &str, partition: i32, fetch_offset: i64) -> v1::FetchPartition {
    v1::FetchPartition {
        topic: topic.to_owned(),
        partition,
        fetch_offset,
        max_bytes: 1 << 20,
        current_leader_epoch: -1,
        ..Default::default()
    }
}

pub(super) fn fetch_request(partitions: Vec<v1::FetchPartition>, max_wait_ms: u32) -> v1::FetchRequest {
    v1::FetchRequest { max_wait_ms, min_bytes: 1, max_bytes: 8 << 20, partitions, ..Default::default() }
}

/// Reads one partition from an offset to its end; offsets and values.
pub(super) async fn read_from(
    handle: &BrokerHandle,
    topic: &str,
    partition: i32,
    from: i64,
) -> Vec<(i64, String)> {
    let bytes = bytes_from(handle, topic, partition, from).await;
    let batches = batch::batches(bytes).map(|batch| batch.unwrap().1);
    let records = batches.flat_map(|batch| batch::records(&batch).unwrap());
    let text = |value: Bytes| String::from_utf8(value.to_vec()).unwrap();
    let records = records.filter(|record| record.offset >= from);
    records.map(|record| (record.offset, text(record.value.unwrap()))).collect()
}

/// The batches of one partition from an offset to its end.
pub(super) async fn bytes_from(handle: &BrokerHandle, topic: &str, partition: i32, mut from: i64) -> Bytes {
    let mut all = Vec::new();
    loop {
        let response = handle.fetch(fetch_request(vec![asked(topic, partition, from)], 0)).await.unwrap();
        let result = &response.results[0];
        assert_eq!(result.error, None, "{topic}-{partition} from {from}");
        let Some(last) = batch::batches(result.batches.clone()).last() else { return all.into() };
        from = last.unwrap().0.next_offset();
        all.extend_from_slice(&result.batches);
    }
}

pub(super) async fn read(handle: &BrokerHandle, topic: &str, partition: i32) -> Vec<String> {
    read_from(handle, topic, partition, 0).await.into_iter().map(|(_, value)| value).collect()
}

pub(super) async fn named_producer(handle: &BrokerHandle, name: &str) -> (i64, i16) {
    let request = v1::InitProducerRequest { name: name.to_owned(), ..Default::default() };
    let response = handle.init_producer(request).await.unwrap();
    (response.producer_id, i16::try_from(response.producer_epoch).unwrap())
}

pub(super) async fn offset_at(handle: &BrokerHandle, topic: &str, partition: i32, timestamp_ms: i64) -> i64 {
    let asked =
        v1::ListOffsetsPartition { topic: topic.to_owned(), partition, timestamp_ms, ..Default::default() };
    let response = handle
        .list_offsets(v1::ListOffsetsRequest { partitions: vec![asked], ..Default::default() })
        .await
        .unwrap();
    assert_eq!(response.results[0].error, None);
    response.results[0].offset
}
