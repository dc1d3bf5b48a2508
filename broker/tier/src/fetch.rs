//! Cold reads: offsets below the local start come from the store, by aligned ranges, checked block by block.
//!
//! Invariants: what is returned is whole batches that begin with the one that holds the offset; no byte is given out whose
//! block checksum was not verified; at most `cold_reads_in_flight` ranges are fetched at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use sunseo_proto::PartitionId;
use sunseo_proto::batch::{BatchHeader, HEADER_BYTES};
use sunseo_proto::error::{Error, ErrorCode, Result};
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::config::TierConfig;
use crate::objects::Objects;
use crate::record::SegmentObject;
use crate::segment::{BLOCK_BYTES, SegmentFooter};

/// Sequential readers that are remembered.
const READERS_REMEMBERED: usize = 256;

type ChunkKey = (Arc<str>, u64);

/// Reads segments from the store.
#[derive(Debug)]
pub struct ColdReader {
    objects: Arc<Objects>,
    chunks: Cache<ChunkKey, Bytes>,
    footers: Cache<Arc<str>, Arc<SegmentFooter>>,
    permits: Arc<Semaphore>,
    chunk_bytes: u64,
    prefetch_chunks: u64,
    /// Where readers will go on if they read in sequence.
    expected: Mutex<VecDeque<(PartitionId, i64)>>,
    fetched_bytes: Arc<AtomicU64>,
    delivered_bytes: AtomicU64,
}

/// A segment that is being read.
struct Open<'a> {
    object: Arc<str>,
    segment: &'a SegmentObject,
    footer: Arc<SegmentFooter>,
}

impl ColdReader {
    pub fn new(objects: Arc<Objects>, config: &TierConfig) -> Self {
        let blocks = (config.chunk_bytes / BLOCK_BYTES).max(1);
        Self {
            objects,
            chunks: Cache::new(config.chunk_cache_bytes),
            footers: Cache::new(config.index_cache_bytes),
            permits: Arc::new(Semaphore::new(config.cold_reads_in_flight.max(1))),
            chunk_bytes: (blocks * BLOCK_BYTES) as u64,
            prefetch_chunks: config.prefetch_chunks as u64,
            expected: Mutex::new(VecDeque::new()),
            fetched_bytes: Arc::default(),
            delivered_bytes: AtomicU64::new(0),
        }
    }

    /// Bytes fetched from the store so far.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of batches given out so far.
    pub fn delivered_bytes(&self) -> u64 {
        self.delivered_bytes.load(Ordering::Relaxed)
    }

    /// Batches of `segment` from the one that holds `offset`; `next` is the segment after it, for reading ahead.
    pub async fn read(
        &self,
        segment: &SegmentObject,
        next: Option<&SegmentObject>,
        offset: i64,
        max_bytes: usize,
    ) -> Result<Bytes> {
        let id = segment.key.partition.id();
        let open = self.open(segment).await?;
        let (position, header) = self.find(&open, offset).await?;
        let (bytes, next_offset) = self.whole_batches(&open, position, &header, max_bytes).await?;
        if self.advance(id, offset, next_offset) {
            self.read_ahead(&open, next, position + bytes.len() as u64).await;
        }
        self.delivered_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        metrics::counter!("sunseo_tier_read_bytes_total").increment(bytes.len() as u64);
        Ok(bytes)
    }

    async fn open<'a>(&self, segment: &'a SegmentObject) -> Result<Open<'a>> {
        let object: Arc<str> = Arc::from(segment.key.object.as_str());
        let (objects, permits, fetched) =
            (Arc::clone(&self.objects), Arc::clone(&self.permits), Arc::clone(&self.fetched_bytes));
        let wanted = segment.clone();
        let load = || async move {
            let _permit = permits.acquire().await.map_err(closed)?;
            let footer = read_footer(&objects, &wanted).await?;
            fetched.fetch_add(wanted.tail_bytes, Ordering::Relaxed);
            Ok(Arc::new(footer))
        };
        let bytes = usize::try_from(segment.tail_bytes).unwrap_or(usize::MAX);
        let footer = self.footers.get(Arc::clone(&object), bytes, load).await?;
        Ok(Open { object, segment, footer })
    }

    fn load_chunk(
        &self,
        open: &Open<'_>,
        chunk: u64,
    ) -> (usize, impl FnOnce() -> futures::future::BoxFuture<'static, Result<Bytes>>) {
        let start = chunk * self.chunk_bytes;
        let end = (start + self.chunk_bytes).min(open.segment.data_bytes);
        let (object, footer) = (Arc::clone(&open.object), Arc::clone(&open.footer));
        let (objects, permits, fetched) =
            (Arc::clone(&self.objects), Arc::clone(&self.permits), Arc::clone(&self.fetched_bytes));
        let load = move || -> futures::future::BoxFuture<'static, Result<Bytes>> {
            Box::pin(async move {
                let _permit = permits.acquire().await.map_err(closed)?;
                let bytes = objects.get_range(&object, start, end).await?;
                footer.check(start, &bytes)?;
                fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                metrics::counter!("sunseo_tier_fetched_bytes_total").increment(bytes.len() as u64);
                Ok(bytes)
            })
        };
        ((end - start) as usize, load)
    }

    async fn chunk(&self, open: &Open<'_>, chunk: u64) -> Result<Bytes> {
        let (bytes, load) = self.load_chunk(open, chunk);
        self.chunks.get((Arc::clone(&open.object), chunk), bytes, load).await
    }

    /// Bytes of the data, copied only when they lie in more than one chunk.
    async fn range(&self, open: &Open<'_>, start: u64, end: u64) -> Result<Bytes> {
        if end > open.segment.data_bytes || start >= end {
            return Err(damaged(open.segment, "a batch goes beyond its end"));
        }
        let (first, last) = (start / self.chunk_bytes, (end - 1) / self.chunk_bytes);
        let begin = (start - first * self.chunk_bytes) as usize;
        if first == last {
            let chunk = self.chunk(open, first).await?;
            return Ok(chunk.slice(begin..begin + (end - start) as usize));
        }
        let mut out = BytesMut::with_capacity((end - start) as usize);
        for at in first..=last {
            let chunk = self.chunk(open, at).await?;
            let from = if at == first { begin } else { 0 };
            let wanted = ((end - start) as usize - out.len()).min(chunk.len() - from);
            out.extend_from_slice(&chunk[from..from + wanted]);
        }
        Ok(out.freeze())
    }

    async fn header_at(&self, open: &Open<'_>, position: u64) -> Result<BatchHeader> {
        let bytes = self.range(open, position, position + HEADER_BYTES as u64).await?;
        BatchHeader::parse(&bytes).map_err(|e| damaged(open.segment, &e.to_string()))
    }

    /// Position and header of the batch that holds `offset`.
    async fn find(&self, open: &Open<'_>, offset: i64) -> Result<(u64, BatchHeader)> {
        let mut position = open.footer.position_before(offset);
        loop {
            let header = self.header_at(open, position).await?;
            if offset < header.next_offset() {
                return Ok((position, header));
            }
            position += header.total_bytes as u64;
        }
    }

    /// The batch at `position` and those after it in the same chunk, up to `max_bytes`; and the offset after them.
    async fn whole_batches(
        &self,
        open: &Open<'_>,
        position: u64,
        first: &BatchHeader,
        max_bytes: usize,
    ) -> Result<(Bytes, i64)> {
        let mut end = position + first.total_bytes as u64;
        let mut next_offset = first.next_offset();
        let chunk_end = ((position / self.chunk_bytes + 1) * self.chunk_bytes).min(open.segment.data_bytes);
        let limit = chunk_end.min(position.saturating_add(max_bytes as u64));
        if end + HEADER_BYTES as u64 <= limit {
            let window = self.range(open, position, limit).await?;
            while let Some(rest) = window.get((end - position) as usize..).filter(|r| r.len() >= HEADER_BYTES)
            {
                let header = BatchHeader::parse(rest).map_err(|e| damaged(open.segment, &e.to_string()))?;
                if header.total_bytes > rest.len() {
                    break;
                }
                end += header.total_bytes as u64;
                next_offset = header.next_offset();
            }
        }
        Ok((self.range(open, position, end).await?, next_offset))
    }

    /// Whether the reader came from where another read of this partition ended.
    fn advance(&self, id: PartitionId, offset: i64, next_offset: i64) -> bool {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let known = expected.iter().position(|reader| *reader == (id, offset));
        if let Some(at) = known {
            expected.remove(at);
        }
        expected.truncate(READERS_REMEMBERED - 1);
        expected.push_front((id, next_offset));
        known.is_some()
    }

    async fn read_ahead(&self, open: &Open<'_>, next: Option<&SegmentObject>, position: u64) {
        let current = position.saturating_sub(1) / self.chunk_bytes;
        let chunks = open.segment.data_bytes.div_ceil(self.chunk_bytes);
        let wanted = current + 1 + self.prefetch_chunks;
        for chunk in current + 1..wanted.min(chunks) {
            let (bytes, load) = self.load_chunk(open, chunk);
            self.chunks.prefetch((Arc::clone(&open.object), chunk), bytes, load);
        }
        if wanted > chunks
            && self.prefetch_chunks > 0
            && let Some(next) = next
            && let Ok(following) = self.open(next).await
        {
            // a failure here is met again, and told, by the read itself
            let (bytes, load) = self.load_chunk(&following, 0);
            self.chunks.prefetch((Arc::clone(&following.object), 0), bytes, load);
        }
    }

    /// First offset of the index entry before which everything is older than `timestamp_ms`.
    pub async fn offset_for_time(&self, segment: &SegmentObject, timestamp_ms: i64) -> Result<i64> {
        let open = self.open(segment).await?;
        let at = open.footer.index.partition_point(|entry| entry.max_timestamp_ms < timestamp_ms);
        // an entry's timestamp is that of its own batch and all before; batches between it and the next may be newer
        let entry = open.footer.index.get(at.saturating_sub(1));
        Ok(entry.map_or(segment.key.base_offset, |entry| entry.offset))
    }

    /// A whole segment, every block, batch and offset checked; for restoring and verifying.
    pub async fn read_whole(&self, segment: &SegmentObject) -> Result<Bytes> {
        let footer = read_footer(&self.objects, segment).await?;
        let mut data = BytesMut::with_capacity(usize::try_from(segment.data_bytes).unwrap_or(0));
        while (data.len() as u64) < segment.data_bytes {
            let start = data.len() as u64;
            let end = (start + self.chunk_bytes).min(segment.data_bytes);
            let bytes = self.objects.get_range(&segment.key.object, start, end).await?;
            footer.check(start, &bytes)?;
            data.extend_from_slice(&bytes);
        }
        let data = data.freeze();
        let described = SegmentFooter::describe(&data, &sealed(segment))?;
        if described != footer {
            return Err(damaged(segment, "its footer does not describe its batches"));
        }
        Ok(data)
    }
}

/// The facts of a committed segment as the log knows them.
pub fn sealed(segment: &SegmentObject) -> crate::host::SealedSegment {
    crate::host::SealedSegment {
        base_offset: segment.key.base_offset,
        end_offset: segment.key.end_offset,
        bytes: segment.data_bytes,
        max_timestamp_ms: segment.max_timestamp_ms,
    }
}

async fn read_footer(objects: &Objects, segment: &SegmentObject) -> Result<SegmentFooter> {
    let tail = objects.get_range(&segment.key.object, segment.data_bytes, segment.object_bytes()).await?;
    let footer = SegmentFooter::decode(&tail)?;
    let expected = (segment.key.base_offset, segment.key.end_offset, segment.data_bytes);
    if (footer.base_offset, footer.end_offset, footer.data_bytes) != expected {
        return Err(damaged(segment, "it is the object of another segment"));
    }
    Ok(footer)
}

fn damaged(segment: &SegmentObject, what: &str) -> Error {
    Error::new(
        ErrorCode::CorruptLog,
        format!("object {} is damaged: {what}; run `sunseo tier verify`", segment.key.object),
    )
}

fn closed(_: tokio::sync::AcquireError) -> Error {
    Error::new(ErrorCode::Unavailable, "the tier is shutting down")
}
