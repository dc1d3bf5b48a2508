//! Fields of the stored structures of a task: varints, texts, bytes and optional bytes, one after another. Pure.
//!
//! Invariant: reading shares memory with the bytes it reads, never panics, and never allocates by a length it has not checked.

use bytes::{Buf as _, Bytes};
use sunseo_proto::varint::{put_i64, take_i64};
use sunseo_proto::{Error, ErrorCode};

/// Appends fields to a buffer.
pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    put_i64(out, value);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_i64(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// `None` is length -1.
pub(crate) fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => put_bytes(out, bytes),
        None => put_i64(out, -1),
    }
}

/// Takes fields from the front of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    rest: Bytes,
    /// What is being read, for the message of an error.
    what: &'static str,
}

impl Fields {
    pub(crate) fn new(bytes: Bytes, what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn broken(&self, why: &str) -> Error {
        let message = format!("stored {} does not decode: {why}", self.what);
        Error::new(ErrorCode::CorruptLog, message)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn int(&mut self) -> Result<i64, Error> {
        let mut slice: &[u8] = &self.rest;
        let value = take_i64(&mut slice).map_err(|_| self.broken("a number is cut off"))?;
        let used = self.rest.len() - slice.len();
        self.rest.advance(used);
        Ok(value)
    }

    pub(crate) fn int32(&mut self) -> Result<i32, Error> {
        let value = self.int()?;
        i32::try_from(value).map_err(|_| self.broken("a number is too large"))
    }

    /// A number of items of at least `least_bytes` bytes each.
    pub(crate) fn count(&mut self, least_bytes: usize) -> Result<usize, Error> {
        let count = self.int()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.rest.len() / least_bytes.max(1))
            .ok_or_else(|| self.broken("a count goes beyond the bytes"))
    }

    pub(crate) fn optional(&mut self) -> Result<Option<Bytes>, Error> {
        let length = self.int()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= self.rest.len());
        let length = length.ok_or_else(|| self.broken("a length goes beyond the bytes"))?;
        Ok(Some(self.rest.split_to(length)))
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, Error> {
        self.optional()?.ok_or_else(|| self.broken("a field is absent"))
    }

    pub(crate) fn text(&mut self) -> Result<String, Error> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| self.broken("a text is not UTF-8"))
    }

    pub(crate) fn rest(self) -> Bytes {
        self.rest
    }
}
