//! Readers of one partition.
//!
//! A read looks at the view, lets go of it, and works on the segment's bytes. If the segment was removed in between, it looks again.
//! Every batch is checked before it is handed out: the checksum costs next to nothing, and damage is not passed on.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::PartitionId;
use sunseo_proto::batch::{self, BatchHeader, HEADER_BYTES};

use crate::LogError;
use crate::disk::Context as _;
use crate::lookup;
use crate::view::{Shared, Shown};

/// Bytes read at once while looking for a time.
const SEARCH_BYTES: u64 = 1 << 20;
/// Looks at the view before a segment that cannot be opened is an error.
const LOOKS_MAX: usize = 16;

/// A record's place and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    pub offset: i64,
    pub timestamp_ms: i64,
}

/// A shared handle. Sees what is durable; calls block on the disk. Stays usable after the partition was deleted, with an error.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
}

impl Reader {
    /// The partition.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.shared.id
    }

    /// Whole record batches beginning with the one that holds `from`, which may begin below it: at most `max_bytes` but at least one
    /// batch, none that reaches `until_offset` or beyond. Empty when there is nothing. Ends early where a segment ends.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] below the log start or above the durable end, [`LogError::NotLocal`] for what only the object store
    /// has, [`LogError::Corrupt`] when bytes on the disk are damaged.
    pub fn read(&self, from: i64, max_bytes: usize, until_offset: i64) -> Result<Bytes, LogError> {
        self.with_segment(
            || self.place(from),
            |shown| {
                if from >= shown.end || from >= until_offset {
                    return Ok(Bytes::new());
                }
                self.read_segment(shown, from, max_bytes, until_offset)
            },
        )
    }

    /// The first record on this disk, in offset order, whose timestamp is at or after `timestamp_ms`.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn find_by_time(&self, timestamp_ms: i64) -> Result<Option<TimedOffset>, LogError> {
        let mut from = self.log_start().max(self.local_start());
        let mut looks = 0;
        while let Some(shown) = self.next_in_time(from, timestamp_ms)? {
            let next = shown.end;
            let found =
                self.with_segment(|| Ok(shown.clone()), |shown| self.search_time(shown, from, timestamp_ms));
            match found {
                // removed or cleaned meanwhile: another one has these offsets, or what is left begins later
                Err(LogError::Io { error, .. })
                    if error.kind() == io::ErrorKind::NotFound && looks < LOOKS_MAX =>
                {
                    looks += 1;
                    continue;
                }
                Ok(None) => {}
                other => return other,
            }
            from = next;
        }
        Ok(None)
    }

    /// First offset of the log, on this disk or not.
    #[must_use]
    pub fn log_start(&self) -> i64 {
        self.shared.look().log_start
    }

    /// First offset on this disk.
    #[must_use]
    pub fn local_start(&self) -> i64 {
        self.shared.look().local_start()
    }

    /// Offset after the last durable record.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.shared.look().end()
    }

    fn place(&self, offset: i64) -> Result<Shown, LogError> {
        let (id, view) = (self.shared.id, self.shared.look());
        if view.deleted {
            return Err(LogError::UnknownPartition(id));
        }
        let (start, end, local_start) = (view.log_start, view.end(), view.local_start());
        if offset < start || offset > end {
            return Err(LogError::OutOfRange { id, offset, start, end });
        }
        view.holder(offset).cloned().ok_or(LogError::NotLocal { id, offset, local_start })
    }

    /// Does `work` on a segment, and once more on a newly found one when its file was removed in between.
    fn with_segment<T>(
        &self,
        find: impl Fn() -> Result<Shown, LogError>,
        work: impl Fn(&Shown) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut looks = 0;
        loop {
            looks += 1;
            match work(&find()?) {
                Err(LogError::Io { error, .. })
                    if error.kind() == io::ErrorKind::NotFound && looks < LOOKS_MAX => {}
                done => return done,
            }
        }
    }

    fn read_segment(
        &self,
        shown: &Shown,
        from: i64,
        max_bytes: usize,
        until: i64,
    ) -> Result<Bytes, LogError> {
        let files = &self.shared.files;
        let start = lookup::offset(shown, files, from)?;
        let ask = (max_bytes as u64).saturating_add(files.index_interval_bytes).max(HEADER_BYTES as u64);
        let mut bytes = self.bytes_at(shown, start, ask)?;
        // up to the batch that holds the offset
        let mut skipped = 0;
        let mut at = start;
        loop {
            let header = self.header(shown, &mut bytes, &mut skipped, at)?;
            if header.next_offset() > from {
                break;
            }
            skipped += header.total_bytes;
            at += header.total_bytes as u64;
        }
        let first = self.header(shown, &mut bytes, &mut skipped, at)?.total_bytes;
        if bytes.len() < skipped + first {
            bytes = self.bytes_at(shown, at, first as u64)?;
            skipped = 0;
        }
        let bytes = bytes.slice(skipped..);
        let taken = whole_batches(&bytes, max_bytes, until).map_err(|error| corrupt(shown, at, &error))?;
        Ok(bytes.slice(..taken))
    }

    /// The header at byte `at` of the segment, which is byte `skipped` of `bytes`; reads on when they end before it.
    fn header(
        &self,
        shown: &Shown,
        bytes: &mut Bytes,
        skipped: &mut usize,
        at: u64,
    ) -> Result<BatchHeader, LogError> {
        if bytes.len() < *skipped + HEADER_BYTES {
            *bytes = self.bytes_at(shown, at, SEARCH_BYTES)?;
            *skipped = 0;
        }
        BatchHeader::parse(&bytes[*skipped..]).map_err(|error| corrupt(shown, at, &error))
    }

    /// Up to `wanted` bytes from byte `at` of the durable part.
    fn bytes_at(&self, shown: &Shown, at: u64, wanted: u64) -> Result<Bytes, LogError> {
        let files = &self.shared.files;
        let end = at.saturating_add(wanted).min(shown.bytes);
        if at > end {
            return Err(corrupt(shown, at, &"a batch reaches beyond the segment"));
        }
        let path = &shown.segment.path;
        if shown.sealed {
            let map = shown.segment.map(files).context("cannot map", path)?;
            if (map.len() as u64) < end {
                return Err(corrupt(shown, at, &"the file is shorter than it was"));
            }
            return Ok(map.slice(at as usize..end as usize));
        }
        let file = shown.segment.file(files).context("cannot open", path)?;
        file.read_vec((end - at) as usize, at).map(Bytes::from).context("cannot read", path)
    }

    /// The first segment from `from` on that has a timestamp at or after the one looked for.
    fn next_in_time(&self, from: i64, timestamp_ms: i64) -> Result<Option<Shown>, LogError> {
        let view = self.shared.look();
        if view.deleted {
            return Err(LogError::UnknownPartition(self.shared.id));
        }
        let mut later = view.segments.iter().filter(|shown| shown.end > from);
        Ok(later.find(|shown| shown.max_timestamp_ms >= timestamp_ms).cloned())
    }

    fn search_time(
        &self,
        shown: &Shown,
        from: i64,
        timestamp_ms: i64,
    ) -> Result<Option<TimedOffset>, LogError> {
        let mut at = lookup::time(shown, &self.shared.files, timestamp_ms)?;
        let (mut bytes, mut skipped) = (Bytes::new(), 0);
        while at < shown.bytes {
            let header = self.header(shown, &mut bytes, &mut skipped, at)?;
            if header.max_timestamp >= timestamp_ms && header.next_offset() > from {
                let batch = self.bytes_at(shown, at, header.total_bytes as u64)?;
                let records = batch::records(&batch).map_err(|error| corrupt(shown, at, &error))?;
                let found = records.iter().find(|r| r.timestamp_ms >= timestamp_ms && r.offset >= from);
                if let Some(record) = found {
                    let (offset, timestamp_ms) = (record.offset, record.timestamp_ms);
                    return Ok(Some(TimedOffset { offset, timestamp_ms }));
                }
            }
            at += header.total_bytes as u64;
            skipped += header.total_bytes;
        }
        Ok(None)
    }
}

/// Bytes of the whole batches at the start of `bytes` that may be handed out, each checked.
fn whole_batches(bytes: &Bytes, max_bytes: usize, until: i64) -> Result<usize, batch::BatchError> {
    let mut taken = 0;
    while bytes.len() >= taken + HEADER_BYTES {
        let header = BatchHeader::parse(&bytes[taken..])?;
        let next = taken + header.total_bytes;
        let is_over = taken > 0 && next > max_bytes;
        if is_over || next > bytes.len() || header.next_offset() > until {
            break;
        }
        batch::validate(&bytes[taken..next])?;
        taken = next;
    }
    Ok(taken)
}

fn corrupt(shown: &Shown, at: u64, what: &dyn std::fmt::Display) -> LogError {
    LogError::Corrupt { path: shown.segment.path.clone(), what: format!("damaged at byte {at}: {what}") }
}
