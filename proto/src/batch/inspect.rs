//! What a broker checks of the records of a batch before it takes it, without making values of them.

use bytes::Bytes;

use super::header::{BatchHeader, HEADER_BYTES};
use super::{BatchError, Compression};
use crate::position::{POSITION_HEADER, PositionRange};
use crate::record::RESERVED_HEADER_PREFIX;
use crate::varint::{take_i32, take_i64};

/// What a walk over the records of a batch found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Newest of the records' own timestamps; the header may say another.
    pub max_timestamp: i64,
    /// The source positions of a positioned batch.
    pub position: Option<PositionRange>,
    /// The first record without a key, which no compacted topic takes.
    pub without_key: Option<usize>,
    /// The first header that belongs to the server, beside the position of a positioned batch.
    pub reserved_header: Option<String>,
}

/// Walks over all records of a batch that [`validate`](super::validate) has passed. What is accepted here is decoded by
/// [`records`](super::records).
///
/// # Errors
/// What does not decode.
pub fn inspect(batch: &Bytes) -> Result<Inspection, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if batch.len() < header.total_bytes {
        return Err(BatchError::Torn { have: batch.len(), need: header.total_bytes });
    }
    if !header.is_dense() {
        return Err(BatchError::Header("last offset delta is not the record count less one"));
    }
    let block = batch.slice(HEADER_BYTES..header.total_bytes);
    let plain = Compression::of_attributes(header.attributes)?.decompress(&block)?;
    let found =
        Inspection { max_timestamp: i64::MIN, position: None, without_key: None, reserved_header: None };
    let (positioned, base_timestamp) = (header.is_positioned(), header.base_timestamp);
    let mut walk = Walk { rest: &plain, index: 0, positioned, base_timestamp, found };
    for index in 0..header.record_count as usize {
        walk.index = index;
        walk.record()?;
    }
    if !walk.rest.is_empty() {
        return Err(walk.broken("bytes follow the last record"));
    }
    if walk.positioned && walk.found.position.is_none() {
        return Err(BatchError::Position);
    }
    Ok(walk.found)
}

struct Walk<'a> {
    rest: &'a [u8],
    index: usize,
    positioned: bool,
    base_timestamp: i64,
    found: Inspection,
}

impl<'a> Walk<'a> {
    fn broken(&self, what: &'static str) -> BatchError {
        BatchError::Record { index: self.index, what }
    }

    fn int(&mut self) -> Result<i64, BatchError> {
        take_i64(&mut self.rest).map_err(|_| self.broken("a number is cut off"))
    }

    fn field(&mut self) -> Result<Option<&'a [u8]>, BatchError> {
        let length = take_i32(&mut self.rest).map_err(|_| self.broken("a length is cut off"))?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| self.broken("a length is negative"))?;
        let Some((field, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.broken("a length goes beyond the batch"));
        };
        self.rest = rest;
        Ok(Some(field))
    }

    fn record(&mut self) -> Result<(), BatchError> {
        let length = self.int()?;
        let left = self.rest.len();
        if !usize::try_from(length).is_ok_and(|l| l <= left) {
            return Err(self.broken("its length goes beyond the batch"));
        }
        let [_attributes, rest @ ..] = self.rest else { return Err(self.broken("it is empty")) };
        self.rest = rest;
        let timestamp = self.base_timestamp.wrapping_add(self.int()?);
        self.found.max_timestamp = self.found.max_timestamp.max(timestamp);
        if self.int()? != self.index as i64 {
            return Err(self.broken("offset deltas are not dense"));
        }
        let (key, _value) = (self.field()?, self.field()?);
        if key.is_none() {
            self.found.without_key.get_or_insert(self.index);
        }
        let count = self.int()?;
        if !usize::try_from(count).is_ok_and(|c| c <= self.rest.len() / 2) {
            return Err(self.broken("its header count goes beyond the batch"));
        }
        for _ in 0..count {
            self.header()?;
        }
        if (left - self.rest.len()) as i64 != length {
            return Err(self.broken("its length and its fields disagree"));
        }
        Ok(())
    }

    fn header(&mut self) -> Result<(), BatchError> {
        let key = self.field()?.ok_or_else(|| self.broken("a header has no key"))?;
        let key = std::str::from_utf8(key).map_err(|_| self.broken("a header's key is not UTF-8"))?;
        let value = self.field()?;
        if !key.starts_with(RESERVED_HEADER_PREFIX) {
            return Ok(());
        }
        let awaited = self.positioned && self.index == 0 && self.found.position.is_none();
        if awaited && key == POSITION_HEADER {
            let range = value.and_then(PositionRange::from_header_value).ok_or(BatchError::Position)?;
            self.found.position = Some(range);
        } else if self.found.reserved_header.is_none() {
            self.found.reserved_header = Some(key.to_owned());
        }
        Ok(())
    }
}
