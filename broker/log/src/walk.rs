//! One batch after the other through a part of a segment, each checked.

use bytes::Bytes;
use sunseo_proto::batch::{self, BatchError, BatchHeader};

use crate::disk::DiskFile;

/// Bytes that are read at first, and twice as many each time up to the most: many walks end soon, in room that is only reserved.
const CHUNK_BYTES_MIN: usize = 64 << 10;
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Largest batch that is believed; a longer length is damage.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// A batch and where it stands.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) header: BatchHeader,
    pub(crate) at: u64,
    pub(crate) bytes: Bytes,
}

/// Why a walk ended before its limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error("{0}")]
    Batch(#[from] BatchError),
    #[error("offset {found} stands where {expected} belongs")]
    Offset { found: i64, expected: i64 },
    #[error("{0}")]
    Disk(String),
}

/// A walk from one place of a file to another.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    limit: u64,
    expected: Option<i64>,
    buffer: Bytes,
    chunk_bytes: usize,
}

impl<'a> Walk<'a> {
    /// From byte `at`, where the batch with offset `expected` stands if that is known, to byte `limit`.
    pub(crate) fn new(file: &'a dyn DiskFile, at: u64, limit: u64, expected: Option<i64>) -> Self {
        Self { file, at, limit, expected, buffer: Bytes::new(), chunk_bytes: CHUNK_BYTES_MIN }
    }

    /// The next batch; `None` at the limit.
    pub(crate) fn next(&mut self) -> Option<Result<Walked, Stop>> {
        if self.at >= self.limit {
            return None;
        }
        Some(self.step())
    }

    fn step(&mut self) -> Result<Walked, Stop> {
        self.fill(batch::HEADER_BYTES)?;
        let total_bytes = BatchHeader::parse(&self.buffer)?.total_bytes;
        if total_bytes > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge { limit: BATCH_BYTES_MAX }.into());
        }
        self.fill(total_bytes)?;
        let have = self.buffer.len();
        if have < total_bytes {
            return Err(BatchError::Torn { have, need: total_bytes }.into());
        }
        let bytes = self.buffer.split_to(total_bytes);
        let header = batch::validate(&bytes)?;
        if let Some(expected) = self.expected
            && expected != header.base_offset
        {
            return Err(Stop::Offset { found: header.base_offset, expected });
        }
        let at = self.at;
        self.at += total_bytes as u64;
        self.expected = Some(header.next_offset());
        Ok(Walked { header, at, bytes })
    }

    /// Has at least `wanted` bytes in the buffer, or all there are.
    fn fill(&mut self, wanted: usize) -> Result<(), Stop> {
        let left = usize::try_from(self.limit - self.at).unwrap_or(usize::MAX);
        if self.buffer.len() >= wanted.min(left) {
            return Ok(());
        }
        let bytes = self.file.read_vec(wanted.max(self.chunk_bytes).min(left), self.at);
        self.buffer = bytes.map_err(|error| Stop::Disk(error.to_string()))?.into();
        self.chunk_bytes = (2 * self.chunk_bytes).min(CHUNK_BYTES_MAX);
        Ok(())
    }
}
