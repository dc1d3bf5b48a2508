//! A batch to values.

use bytes::Bytes;

use super::header::{BatchHeader, HEADER_BYTES, checksum};
use super::{BatchError, Compression};
use crate::position::{POSITION_HEADER, PositionRange};
use crate::record::{Header, Record};
use crate::varint::{take_i32, take_i64};

/// Checks that `bytes` are exactly one batch with a right checksum. The records themselves are not decoded.
///
/// # Errors
/// What is wrong with them.
pub fn validate(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    if bytes.len() < header.total_bytes {
        return Err(BatchError::Torn { have: bytes.len(), need: header.total_bytes });
    }
    if bytes.len() > header.total_bytes {
        return Err(BatchError::Trailing { extra: bytes.len() - header.total_bytes });
    }
    let computed = checksum(bytes);
    if computed != header.crc {
        return Err(BatchError::Checksum { stored: header.crc, computed });
    }
    Ok(header)
}

/// The batches that stand back to back in `bytes`, each checked as by [`validate`]. Ends after the first error.
pub fn batches(bytes: Bytes) -> impl Iterator<Item = Result<(BatchHeader, Bytes), BatchError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let next = next_batch(&mut rest);
        if next.is_err() {
            rest.clear();
        }
        Some(next)
    })
}

fn next_batch(rest: &mut Bytes) -> Result<(BatchHeader, Bytes), BatchError> {
    let total_bytes = BatchHeader::parse(rest)?.total_bytes;
    if rest.len() < total_bytes {
        return Err(BatchError::Torn { have: rest.len(), need: total_bytes });
    }
    let batch = rest.split_to(total_bytes);
    let header = validate(&batch)?;
    Ok((header, batch))
}

/// Decodes the records of one batch, with their offsets, which rise but have gaps when the batch was cleaned. Keys and values share memory with `batch` when it is not compressed.
///
/// # Errors
/// What does not decode; the checksum is not looked at.
pub fn records(batch: &Bytes) -> Result<Vec<Record>, BatchError> {
    let decoding = iterate(batch)?;
    // a record has at least 7 bytes, so a small batch cannot ask for a large vector
    let mut records = Vec::with_capacity(decoding.count.min(decoding.plain.len() / 7 + 1));
    for record in decoding {
        records.push(record?);
    }
    Ok(records)
}

/// As [`records`], one at a time: values take memory as they are made, about 120 bytes each beside their own, which for a batch of
/// many small records is far more than the batch has.
///
/// # Errors
/// When the block of records cannot be decompressed; of each record when it does not decode, after which there is none.
pub fn iterate(batch: &Bytes) -> Result<Records, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let plain = plain_records(batch, &header)?;
    Ok(Records {
        at: 0,
        index: 0,
        least: header.base_offset,
        count: header.record_count as usize,
        plain,
        header,
    })
}

/// The records of one batch, decoded as they are asked for.
#[derive(Debug)]
pub struct Records {
    header: BatchHeader,
    plain: Bytes,
    at: usize,
    index: usize,
    /// The next record's offset is at least this one.
    least: i64,
    count: usize,
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            return None;
        }
        let decoded = self.decode();
        match &decoded {
            Ok(_) => self.index += 1,
            Err(_) => self.count = 0,
        }
        Some(decoded)
    }
}

impl Records {
    fn decode(&mut self) -> Result<Record, BatchError> {
        let mut cursor = Cursor { plain: &self.plain, rest: &self.plain[self.at..], index: self.index };
        let record = cursor.record(&self.header)?;
        if record.offset < self.least || record.offset > self.header.last_offset() {
            return Err(cursor.broken("its offset does not follow the one before, or lies beyond the batch"));
        }
        if self.index + 1 == self.count && !cursor.rest.is_empty() {
            return Err(cursor.broken("bytes follow the last record"));
        }
        self.at = self.plain.len() - cursor.rest.len();
        self.least = record.offset + 1;
        Ok(record)
    }
}

/// The source positions of a batch, `None` when it carries none.
///
/// # Errors
/// When the batch says that it carries one and its first record does not.
pub fn position_of(batch: &Bytes) -> Result<Option<PositionRange>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if !header.is_positioned() {
        return Ok(None);
    }
    if header.record_count == 0 {
        // the log remembers a producer's last position only, so one number is enough (`rebuild`)
        let position = header.base_timestamp;
        return PositionRange::new(position, position).map(Some).ok_or(BatchError::Position);
    }
    let plain = plain_records(batch, &header)?;
    let first = Cursor { plain: &plain, rest: &plain, index: 0 }.record(&header)?;
    let value = first.header(POSITION_HEADER).ok_or(BatchError::Position)?;
    PositionRange::from_header_value(value).map(Some).ok_or(BatchError::Position)
}

fn plain_records(batch: &Bytes, header: &BatchHeader) -> Result<Bytes, BatchError> {
    if batch.len() < header.total_bytes {
        return Err(BatchError::Torn { have: batch.len(), need: header.total_bytes });
    }
    Compression::of_attributes(header.attributes)?.decompress(&batch.slice(HEADER_BYTES..header.total_bytes))
}

struct Cursor<'a> {
    plain: &'a Bytes,
    rest: &'a [u8],
    index: usize,
}

impl Cursor<'_> {
    fn broken(&self, what: &'static str) -> BatchError {
        BatchError::Record { index: self.index, what }
    }

    fn int(&mut self) -> Result<i64, BatchError> {
        take_i64(&mut self.rest).map_err(|_| self.broken("a number is cut off"))
    }

    fn field(&mut self) -> Result<Option<Bytes>, BatchError> {
        let length = take_i32(&mut self.rest).map_err(|_| self.broken("a length is cut off"))?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| self.broken("a length is negative"))?;
        if length > self.rest.len() {
            return Err(self.broken("a length goes beyond the batch"));
        }
        let start = self.plain.len() - self.rest.len();
        self.rest = &self.rest[length..];
        Ok(Some(self.plain.slice(start..start + length)))
    }

    fn record(&mut self, header: &BatchHeader) -> Result<Record, BatchError> {
        let length = self.int()?;
        let left = self.rest.len();
        if !usize::try_from(length).is_ok_and(|l| l <= left) {
            return Err(self.broken("its length goes beyond the batch"));
        }
        let [_attributes, ..] = self.rest else { return Err(self.broken("it is empty")) };
        self.rest = &self.rest[1..];
        let timestamp_delta = self.int()?;
        let offset_delta = self.int()?;
        let (key, value) = (self.field()?, self.field()?);
        let headers = self.headers()?;
        if (left - self.rest.len()) as i64 != length {
            return Err(self.broken("its length and its fields disagree"));
        }
        let timestamp_ms = match header.has_log_append_time() {
            true => header.max_timestamp,
            false => header.base_timestamp.wrapping_add(timestamp_delta),
        };
        Ok(Record {
            offset: header.base_offset.wrapping_add(offset_delta),
            timestamp_ms,
            key,
            value,
            headers,
        })
    }

    fn headers(&mut self) -> Result<Vec<Header>, BatchError> {
        let count = self.int()?;
        // a header has at least two bytes
        if !usize::try_from(count).is_ok_and(|c| c <= self.rest.len() / 2) {
            return Err(self.broken("its header count goes beyond the batch"));
        }
        let mut headers = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let key = self.field()?.ok_or_else(|| self.broken("a header has no key"))?;
            let key =
                String::from_utf8(key.to_vec()).map_err(|_| self.broken("a header's key is not UTF-8"))?;
            headers.push(Header { key, value: self.field()? });
        }
        Ok(headers)
    }
}
