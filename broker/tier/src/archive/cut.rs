//! A range of records to the objects of that range.
//!
//! Invariants: the objects are a function of (definition, partition, incarnation, from, to) and the records; records are taken
//! one by one, so it does not matter in which pieces they were read. Memory is bounded by the limits of a cut.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{PartitionId, Record, batch};

use super::WRITER_VERSION;
use super::definition::Definition;
use super::file::FileBuilder;
use super::ledger::ArchiveFile;
use super::row::RowReader;

/// Days in one cut; a further one begins the next cut.
pub const DATES_MAX: usize = 64;

/// Where a cut may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutLimits {
    /// Offset that is not taken any more.
    pub end: i64,
    pub records: i64,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl CutLimits {
    /// Exactly up to `end`, for a cut that was committed.
    #[must_use]
    pub fn exactly(end: i64) -> Self {
        Self { end, records: i64::MAX, bytes: usize::MAX }
    }
}

/// Where the records come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutSource {
    pub partition: PartitionId,
    /// Which life of the topic this is, from 1.
    pub incarnation: usize,
    /// First offset.
    pub from: i64,
}

/// A cut that is being filled.
#[derive(Debug)]
pub struct CutBuilder {
    definition: Definition,
    source: CutSource,
    limits: CutLimits,
    next_offset: i64,
    records: i64,
    bytes: usize,
    full: bool,
    files: BTreeMap<String, FileBuilder>,
    bad: Vec<u8>,
    bad_rows: u64,
}

/// One object to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutObject {
    pub file: ArchiveFile,
    pub bytes: Bytes,
}

/// What a cut becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutObjects {
    pub files: Vec<CutObject>,
    pub bad: Option<CutObject>,
}

/// A record that did not fit, as a line of JSON.
#[derive(Serialize)]
struct BadLine<'a> {
    topic_id: String,
    offset: i64,
    timestamp_ms: i64,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

impl CutBuilder {
    #[must_use]
    pub fn new(definition: Definition, source: CutSource, limits: CutLimits) -> Self {
        Self {
            definition,
            source,
            limits,
            next_offset: source.from,
            records: 0,
            bytes: 0,
            full: source.from >= limits.end,
            files: BTreeMap::new(),
            bad: Vec::new(),
            bad_rows: 0,
        }
    }

    /// Offset after the last record that was taken: the end of the cut so far.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The partition that is cut.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.source.partition
    }

    /// Whether a limit was reached.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Takes the records of whole batches until a limit is reached; what was taken before is passed over.
    ///
    /// # Errors
    /// `CORRUPT_BATCH` when a batch does not decode.
    pub fn push(&mut self, batches: Bytes) -> Result<()> {
        // the reader borrows the definition while the builder changes
        let definition = self.definition.clone();
        let reader = RowReader::new(&definition);
        for batch in batch::batches(batches) {
            let (header, bytes) = batch?;
            if self.full || header.last_offset() < self.next_offset {
                continue;
            }
            if header.base_offset > self.next_offset {
                let message =
                    format!("offset {} was expected, the log gives {}", self.next_offset, header.base_offset);
                return Err(Error::new(ErrorCode::CorruptLog, message));
            }
            if header.is_control() {
                self.next_offset = header.next_offset().min(self.limits.end);
                self.full = self.next_offset >= self.limits.end;
                continue;
            }
            for record in batch::records(&bytes)? {
                if !self.full && record.offset >= self.next_offset {
                    self.take(&reader, &record)?;
                }
            }
            // compaction and aborted transactions leave offsets without records
            if !self.full {
                self.next_offset = header.next_offset().min(self.limits.end);
                self.full = self.next_offset >= self.limits.end;
            }
        }
        Ok(())
    }

    fn take(&mut self, reader: &RowReader<'_>, record: &Record) -> Result<()> {
        match reader.read(record) {
            Ok(row) => {
                if !self.files.contains_key(&row.date) {
                    if self.files.len() >= DATES_MAX && self.limits.records != i64::MAX {
                        self.full = true;
                        return Ok(());
                    }
                    self.files.insert(row.date.clone(), FileBuilder::new(&self.definition)?);
                }
                if let Some(file) = self.files.get_mut(&row.date) {
                    file.push(row, self.source.partition.partition, record.offset)?;
                }
            }
            Err(reason) => self.take_bad(record, &reason),
        }
        self.next_offset = record.offset + 1;
        self.records += 1;
        self.bytes += [&record.key, &record.value].into_iter().flatten().map(Bytes::len).sum::<usize>();
        self.full = self.next_offset >= self.limits.end
            || self.records >= self.limits.records
            || self.bytes >= self.limits.bytes;
        Ok(())
    }

    fn take_bad(&mut self, record: &Record, reason: &str) {
        let text = record.value.as_ref().map(|value| std::str::from_utf8(value));
        let line = BadLine {
            topic_id: self.source.partition.topic_id.to_string(),
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            reason,
            key_hex: record.key.as_deref().map(hex),
            value: text.and_then(Result::ok),
            value_hex: text.filter(|t| t.is_err()).and(record.value.as_deref()).map(hex),
        };
        // numbers and text always serialise
        let json = serde_json::to_vec(&line).unwrap_or_else(|e| unreachable!("a line is plain data: {e}"));
        self.bad.extend_from_slice(&json);
        self.bad.push(b'\n');
        self.bad_rows += 1;
    }

    /// The objects of everything that was taken.
    ///
    /// # Errors
    /// `INTERNAL` when a file cannot be encoded.
    pub fn finish(self) -> Result<CutObjects> {
        let (from, to) = (self.source.from, self.next_offset);
        let partition = self.source.partition;
        let life = match self.source.incarnation {
            1 => String::new(),
            further => format!("-i{further}"),
        };
        let range = format!("{}-{from:020}-{to:020}{life}", partition.partition);
        let table = &self.definition.table;
        let about = [
            ("sunseo.table", table.clone()),
            ("sunseo.topic", self.definition.topic.clone()),
            ("sunseo.topic_id", partition.topic_id.to_string()),
            ("sunseo.range", range.clone()),
            ("sunseo.writer_version", WRITER_VERSION.to_string()),
        ];
        let mut files = Vec::with_capacity(self.files.len());
        for (date, file) in self.files {
            let finished = file.finish(&about)?;
            files.push(object(
                format!("tab/{table}/dt={date}/{range}.parquet"),
                finished.rows,
                finished.bytes,
            ));
        }
        let bad = (self.bad_rows > 0)
            .then(|| object(format!("bad/{table}/{range}.ndjson"), self.bad_rows, Bytes::from(self.bad)));
        Ok(CutObjects { files, bad })
    }
}

fn object(name: String, rows: u64, bytes: Bytes) -> CutObject {
    let checksum = crc32fast::hash(&bytes);
    CutObject { file: ArchiveFile { object: name, rows, bytes: bytes.len() as u64, checksum }, bytes }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // writing into a String does not fail
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
