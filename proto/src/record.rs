//! One record as a value.

use bytes::Bytes;

/// A key and bytes that travel beside the value. Keys that begin with `sunseo.` belong to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub key: String,
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    pub fn new(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }
}

/// Prefix of headers that only the server and its clients may set.
pub const RESERVED_HEADER_PREFIX: &str = "sunseo.";

/// A record. `value: None` is a tombstone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Set by the broker on the way out; ignored on the way in.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, UTC.
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl Record {
    /// A record with a key and a value.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>, timestamp_ms: i64) -> Self {
        Self { timestamp_ms, key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }

    /// Value of the first header with this key.
    #[must_use]
    pub fn header(&self, key: &str) -> Option<&Bytes> {
        self.headers.iter().find(|h| h.key == key).and_then(|h| h.value.as_ref())
    }
}
