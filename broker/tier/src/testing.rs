//! For tests: a host in memory, and a store that fails on demand.
//!
//! [`Faults`] counts every step that leaves the tier (a record's append, a request that changes the store). At the chosen step
//! the world ends: the step happens or does not, the tier is told that it failed, and so does everything after it until
//! [`Faults::heal`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, UploadPart,
};
use sunseo_proto::batch::{self, BatchBuilder, BatchHeader, Compression};
use sunseo_proto::clock::ManualClock;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{PartitionId, Record, TopicId};

use crate::fold::Fold;
use crate::host::{
    ArchiveSource, PartitionFacts, RestoredSegment, SealedSegment, StoredRecord, TierHost, TierTopicConfig,
};
use crate::manifest::Manifest;
use crate::record::TierRecord;
use crate::{ObjectStoreHandle, Tier, TierConfig};

pub mod records;

pub const NOW_MS: i64 = 1_700_000_000_000;

/// A batch of `count` records with values of `value_bytes` that do not compress to nothing.
pub fn batch_of(base_offset: i64, count: usize, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for n in 0..count as i64 {
        let value: Vec<u8> =
            (0..value_bytes).map(|i| ((base_offset + n) as usize * 31 + i * 7) as u8).collect();
        builder.push(&Record::new(format!("k{n}"), value, NOW_MS + base_offset + n));
    }
    stamped(builder.build(), base_offset)
}

fn stamped(batch: Bytes, base_offset: i64) -> Bytes {
    let mut bytes = batch.to_vec();
    batch::stamp(&mut bytes, base_offset, 3);
    Bytes::from(bytes)
}

/// A segment of batches of 10 records.
pub fn segment_of(base_offset: i64, records: usize, value_bytes: usize) -> (SealedSegment, Bytes) {
    let mut data = Vec::new();
    for first in (0..records).step_by(10) {
        data.extend_from_slice(&batch_of(base_offset + first as i64, 10.min(records - first), value_bytes));
    }
    let end_offset = base_offset + records as i64;
    let segment = SealedSegment {
        base_offset,
        end_offset,
        bytes: data.len() as u64,
        max_timestamp_ms: NOW_MS + end_offset - 1,
    };
    (segment, Bytes::from(data))
}

pub fn topic(number: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(number))
}

pub fn partition(number: u128, partition: i32) -> PartitionId {
    PartitionId { topic_id: topic(number), partition }
}

/// What a failing step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Lost,
    /// Its work; only the answer is lost.
    Unanswered,
    /// Nothing; a record is appended all the same, right before the next one.
    Late,
}

/// When the world ends.
#[derive(Clone, Debug)]
pub struct Faults {
    left: Arc<AtomicI64>,
    kind: Arc<Mutex<Fault>>,
    pub steps: Arc<AtomicU64>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            left: Arc::new(AtomicI64::new(i64::MAX)),
            kind: Arc::new(Mutex::new(Fault::Lost)),
            steps: Arc::default(),
        }
    }
}

impl Faults {
    pub fn after(&self, steps: i64, kind: Fault) {
        *self.kind.lock().unwrap() = kind;
        self.left.store(steps, Ordering::SeqCst);
    }

    pub fn heal(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
    }

    /// Whether the end has come.
    pub fn struck(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// (do the work, answer)
    fn step(&self) -> (bool, bool) {
        self.steps.fetch_add(1, Ordering::SeqCst);
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1.. => (true, true),
            0 => (*self.kind.lock().unwrap() == Fault::Unanswered, false),
            _ => (false, false),
        }
    }

    /// Whether the step that just failed is done later.
    fn is_late(&self) -> bool {
        *self.kind.lock().unwrap() == Fault::Late && self.left.load(Ordering::SeqCst) == -1
    }

    fn alive(&self) -> bool {
        !self.struck()
    }
}

fn down() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "injected".into() }
}

/// A store that fails as [`Faults`] says.
#[derive(Debug)]
pub struct FaultyStore {
    pub inner: Arc<dyn ObjectStore>,
    pub faults: Faults,
    pub gets: Arc<AtomicU64>,
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

impl FaultyStore {
    async fn change<T>(
        &self,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let (work_is_done, answered) = self.faults.step();
        let outcome = if work_is_done { Some(work.await) } else { None };
        outcome.filter(|_| answered).unwrap_or_else(|| Err(down()))
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.change(self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let inner = self.change(self.inner.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(FaultyUpload { inner, faults: self.faults.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if !self.faults.alive() {
            return Err(down());
        }
        if !options.head {
            self.gets.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let (inner, faults) = (Arc::clone(&self.inner), self.faults.clone());
        let each = locations.then(move |location| {
            let (inner, faults) = (Arc::clone(&inner), faults.clone());
            async move {
                let location = location?;
                let (work_is_done, answered) = faults.step();
                if work_is_done {
                    object_store::ObjectStoreExt::delete(&inner, &location).await?;
                }
                if answered { Ok(location) } else { Err(down()) }
            }
        });
        each.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        if !self.faults.alive() {
            return futures::stream::once(async { Err(down()) }).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Faults,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (work_is_done, answered) = self.faults.step();
        let part = work_is_done.then(|| self.inner.put_part(data));
        Box::pin(async move {
            match part {
                Some(part) => part.await?,
                None => return Err(down()),
            }
            if answered { Ok(()) } else { Err(down()) }
        })
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let (work_is_done, answered) = self.faults.step();
        let outcome = if work_is_done { Some(self.inner.complete().await) } else { None };
        outcome.filter(|_| answered).unwrap_or_else(|| Err(down()))
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        if self.faults.alive() { self.inner.abort().await } else { Err(down()) }
    }
}

/// A partition's log in memory.
#[derive(Clone, Debug)]
pub struct MemPartition {
    pub topic: String,
    pub config: TierTopicConfig,
    pub log_start: i64,
    /// Everything that was ever appended.
    pub truth: Vec<(BatchHeader, Bytes)>,
    pub sealed: Vec<(SealedSegment, Bytes)>,
    active: Vec<(BatchHeader, Bytes)>,
}

impl MemPartition {
    fn high_watermark(&self) -> i64 {
        self.truth.last().map_or(0, |(header, _)| header.next_offset())
    }

    fn local_start(&self) -> i64 {
        let first = self.sealed.first().map(|(segment, _)| segment.base_offset);
        first
            .or(self.active.first().map(|(header, _)| header.base_offset))
            .unwrap_or_else(|| self.high_watermark())
    }

    fn seal(&mut self) {
        let Some((first, _)) = self.active.first() else { return };
        let base_offset = first.base_offset;
        let end_offset = self.high_watermark();
        let max_timestamp_ms = self.active.iter().map(|(header, _)| header.max_timestamp).max().unwrap();
        let data =
            Bytes::from(self.active.drain(..).flat_map(|(_, batch)| batch.to_vec()).collect::<Vec<u8>>());
        self.sealed.push((
            SealedSegment { base_offset, end_offset, bytes: data.len() as u64, max_timestamp_ms },
            data,
        ));
    }
}

#[derive(Debug, Default)]
pub struct MemState {
    pub partitions: BTreeMap<PartitionId, MemPartition>,
    /// What is left of `__tier`.
    pub records: Vec<Bytes>,
    pub records_start: i64,
    /// Records on their way.
    pub late: Vec<Bytes>,
    pub archives: Vec<ArchiveSource>,
    pub deleted: BTreeSet<TopicId>,
    pub epoch: i32,
}

impl MemState {
    fn records_end(&self) -> i64 {
        self.records_start + self.records.len() as i64
    }

    /// What the records come to.
    pub fn manifest(&self) -> Manifest {
        let mut fold = Fold::starting_at(self.records_start);
        for (offset, record) in (self.records_start..).zip(&self.records) {
            fold.apply(offset, TierRecord::decode(record).unwrap());
        }
        fold.manifest().clone()
    }
}

fn injected() -> Error {
    Error::new(ErrorCode::Unavailable, "injected")
}

/// A host in memory; what is in it survives the tier.
#[derive(Debug, Default)]
pub struct MemHost {
    pub state: Mutex<MemState>,
    pub faults: Faults,
    tier: Mutex<Option<Tier>>,
}

impl MemHost {
    pub fn state(&self) -> MutexGuard<'_, MemState> {
        self.state.lock().unwrap()
    }

    pub fn add(&self, id: PartitionId, topic: &str, config: TierTopicConfig) {
        let partition = MemPartition {
            topic: topic.to_owned(),
            config,
            log_start: 0,
            truth: Vec::new(),
            sealed: Vec::new(),
            active: Vec::new(),
        };
        self.state().partitions.insert(id, partition);
    }

    pub fn append(&self, id: PartitionId, batch: &Bytes) {
        let mut state = self.state();
        let partition = state.partitions.get_mut(&id).unwrap();
        let batch = stamped(batch.clone(), partition.high_watermark());
        let header = BatchHeader::parse(&batch).unwrap();
        partition.truth.push((header, batch.clone()));
        partition.active.push((header, batch));
    }

    pub fn append_values(&self, id: PartitionId, values: &[&str]) {
        let mut builder = BatchBuilder::new(Compression::Zstd);
        for value in values {
            builder.push(&Record::new("k", value.as_bytes().to_vec(), NOW_MS));
        }
        self.append(id, &builder.build());
    }

    /// Appends and seals a segment of this many batches.
    pub fn fill_segment(&self, id: PartitionId, batches: usize, value_bytes: usize) {
        for _ in 0..batches {
            let next = self.state().partitions[&id].high_watermark();
            self.append(id, &batch_of(next, 10, value_bytes));
        }
        self.state().partitions.get_mut(&id).unwrap().seal();
    }

    fn partition<T>(&self, id: PartitionId, change: impl FnOnce(&mut MemPartition) -> T) -> Result<T> {
        let mut state = self.state();
        let partition = state.partitions.get_mut(&id);
        partition.map(change).ok_or_else(|| Error::new(ErrorCode::UnknownPartition, id.to_string()))
    }
}

#[async_trait]
impl TierHost for MemHost {
    async fn partitions(&self) -> Result<Vec<PartitionFacts>> {
        let state = self.state();
        let facts = state.partitions.iter().map(|(id, p)| {
            let active: usize = p.active.iter().map(|(_, batch)| batch.len()).sum();
            PartitionFacts {
                id: *id,
                topic: p.topic.clone(),
                config: p.config,
                leader_epoch: state.epoch,
                log_start: p.log_start,
                local_start: p.local_start(),
                high_watermark: p.high_watermark(),
                last_stable: p.high_watermark(),
                local_bytes: p.sealed.iter().map(|(segment, _)| segment.bytes).sum::<u64>() + active as u64,
                sealed: p.sealed.iter().map(|(segment, _)| *segment).collect(),
            }
        });
        Ok(facts.collect())
    }

    async fn topic_exists(&self, topic_id: TopicId) -> Result<bool> {
        Ok(!self.state().deleted.contains(&topic_id))
    }

    async fn archives(&self) -> Result<Vec<ArchiveSource>> {
        Ok(self.state().archives.clone())
    }

    async fn segment_data(&self, id: PartitionId, base_offset: i64) -> Result<Bytes> {
        let find = |p: &mut MemPartition| {
            p.sealed.iter().find(|(s, _)| s.base_offset == base_offset).map(|(_, d)| d.clone())
        };
        self.partition(id, find)?
            .ok_or_else(|| Error::new(ErrorCode::OffsetOutOfRange, base_offset.to_string()))
    }

    async fn append_record(&self, record: Bytes) -> Result<i64> {
        let (work_is_done, answered) = self.faults.step();
        let mut state = self.state();
        if work_is_done {
            let late = std::mem::take(&mut state.late);
            state.records.extend(late.into_iter().chain([record]));
        } else if self.faults.is_late() {
            state.late.push(record);
        }
        if answered { Ok(state.records_end() - 1) } else { Err(injected()) }
    }

    async fn records_start(&self) -> Result<i64> {
        Ok(self.state().records_start)
    }

    async fn read_records(&self, from_offset: i64) -> Result<Vec<StoredRecord>> {
        let state = self.state();
        assert!(from_offset >= state.records_start, "read at {from_offset}, below the start");
        let rest = (state.records_start..).zip(&state.records).skip_while(|(at, _)| *at < from_offset);
        Ok(rest.take(3).map(|(offset, value)| StoredRecord { offset, value: value.clone() }).collect())
    }

    async fn trim_records(&self, before_offset: i64) -> Result<()> {
        let (work_is_done, answered) = self.faults.step();
        let mut state = self.state();
        if work_is_done && before_offset > state.records_start {
            assert!(before_offset <= state.records_end(), "trimmed beyond the end");
            let gone = before_offset - state.records_start;
            state.records.drain(..gone as usize);
            state.records_start = before_offset;
        }
        if answered { Ok(()) } else { Err(injected()) }
    }

    async fn seal(&self, id: PartitionId) -> Result<()> {
        self.partition(id, MemPartition::seal)
    }

    async fn evict_local(&self, id: PartitionId, before_offset: i64) -> Result<u32> {
        self.partition(id, |p| {
            let before = p.sealed.len();
            p.sealed.retain(|(segment, _)| segment.end_offset > before_offset);
            (before - p.sealed.len()) as u32
        })
    }

    async fn set_log_start(&self, id: PartitionId, offset: i64) -> Result<()> {
        self.partition(id, |p| {
            p.log_start = p.log_start.max(offset);
            let log_start = p.log_start;
            p.sealed.retain(|(segment, _)| segment.end_offset > log_start);
        })
    }

    async fn restore_segment(&self, id: PartitionId, segment: RestoredSegment) -> Result<()> {
        self.partition(id, |p| {
            assert_eq!(segment.segment.end_offset, p.local_start(), "a restored segment joins the local log");
            p.sealed.insert(0, (segment.segment, segment.data));
        })
    }

    async fn read(&self, id: PartitionId, from_offset: i64, max_bytes: usize) -> Result<Bytes> {
        let local_start = self.partition(id, |p| p.local_start())?;
        let tier = self.tier.lock().unwrap().clone();
        if from_offset < local_start
            && let Some(tier) = tier
        {
            let bytes = tier.read(id, from_offset, max_bytes).await?;
            return bytes.ok_or_else(|| Error::new(ErrorCode::OffsetOutOfRange, from_offset.to_string()));
        }
        self.partition(id, |p| {
            let mut out = Vec::new();
            for (_, batch) in p.truth.iter().filter(|(header, _)| header.last_offset() >= from_offset) {
                if !out.is_empty() && out.len() + batch.len() > max_bytes {
                    break;
                }
                out.extend_from_slice(batch);
            }
            Bytes::from(out)
        })
    }
}

/// Host, store and clock that outlive a tier.
#[derive(Debug)]
pub struct World {
    pub host: Arc<MemHost>,
    pub store: Arc<dyn ObjectStore>,
    pub faults: Faults,
    pub gets: Arc<AtomicU64>,
    pub clock: Arc<ManualClock>,
    pub config: TierConfig,
}

impl World {
    pub fn new() -> Self {
        Self::over(Arc::new(object_store::memory::InMemory::new()))
    }

    pub fn over(store: Arc<dyn ObjectStore>) -> Self {
        let faults = Faults::default();
        let config = TierConfig {
            interval_ms: 3_600_000,
            chunk_bytes: crate::segment::BLOCK_BYTES,
            backoff_min_ms: 3_600_000,
            backoff_max_ms: 3_600_000,
            seed: Some(7),
            ..TierConfig::default()
        };
        Self {
            host: Arc::new(MemHost { faults: faults.clone(), ..MemHost::default() }),
            store,
            faults,
            gets: Arc::default(),
            clock: Arc::new(ManualClock::new(NOW_MS)),
            config,
        }
    }

    /// A new life of the tier on the same host and store.
    pub async fn start(&mut self) -> Tier {
        self.host.state().epoch += 1;
        self.config.seed = self.config.seed.map(|seed| seed + 1);
        let store = FaultyStore {
            inner: Arc::clone(&self.store),
            faults: self.faults.clone(),
            gets: Arc::clone(&self.gets),
        };
        let handle = ObjectStoreHandle::new(Arc::new(store), "faulty");
        let host = Arc::clone(&self.host);
        let clock = Arc::clone(&self.clock);
        let tier = Tier::start(host, handle, self.config.clone(), clock).await.unwrap();
        *self.host.tier.lock().unwrap() = Some(tier.clone());
        tier
    }

    /// Names under a prefix of the store.
    pub async fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .store
            .list(Some(&Path::from(prefix)))
            .map(|meta| meta.unwrap().location.to_string())
            .collect()
            .await;
        names.sort();
        names
    }

    pub async fn object(&self, name: &str) -> Bytes {
        object_store::ObjectStoreExt::get(&self.store, &Path::from(name))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
    }
}

pub const TIERED: TierTopicConfig = TierTopicConfig {
    tiered: true,
    local_retention_bytes: None,
    local_retention_ms: None,
    retention_bytes: None,
    retention_ms: None,
};
