//! What is known about a store beside its bytes.

use bytes::{Buf as _, Bytes};
use serde_json::{Value, json};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, partitioner};

use crate::ops::collect::codec::{Entry, decode_entry};
use crate::serde::{SerdeRef, UserResult};
use crate::task::StoreIndex;

/// How a value lies in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFormat {
    /// Eight bytes of timestamp (milliseconds, big endian), then the value.
    Timestamped,
    /// What collect-until has gathered of a key; as JSON `{"events", "deadline_ms"}`, or `{"emitted": true}` while a key that
    /// was emitted is remembered.
    Collection,
    /// An operator's own structure; not rendered, not queried.
    Internal,
}

/// A store of the plan.
#[derive(Clone, Debug)]
pub struct StoreSpec {
    /// Stable over versions of the topology.
    pub id: String,
    pub index: StoreIndex,
    /// Id of the operator that writes it.
    pub operator: String,
    pub sub_topology: i32,
    /// Partitions of the sub-topology: each task has its own part of the store.
    pub partitions: i32,
    pub key: SerdeRef,
    pub value: SerdeRef,
    pub format: StoreFormat,
}

impl StoreSpec {
    /// Whether users may query it.
    #[must_use]
    pub fn queryable(&self) -> bool {
        self.format != StoreFormat::Internal
    }

    /// The partition that holds a key, given that producers placed it by murmur2 as Sunseo's do. A key that is not found
    /// there may still be elsewhere when its producer chose partitions by other rules.
    #[must_use]
    pub fn partition_of(&self, key: &[u8]) -> i32 {
        partitioner::partition_of(key, self.partitions)
    }

    /// A stored key as JSON.
    ///
    /// # Errors
    /// [`ErrorCode::CorruptLog`] when it does not decode.
    pub fn render_key(&self, key: &Bytes) -> Result<Value> {
        self.key.to_json(key).map_err(|error| self.corrupt("key", &error))
    }

    /// A stored value as JSON, without its timestamp.
    ///
    /// # Errors
    /// [`ErrorCode::CorruptLog`] when it does not decode.
    pub fn render_value(&self, stored: &Bytes) -> Result<Value> {
        if self.format == StoreFormat::Collection {
            return self.render_collection(stored);
        }
        let (_, value) = self.split_value(stored)?;
        self.value.to_json(&value).map_err(|error| self.corrupt("value", &error))
    }

    fn render_collection(&self, stored: &Bytes) -> Result<Value> {
        match self.entry(stored)? {
            Entry::Emitted { forget_ms } => Ok(json!({ "emitted": true, "forget_ms": forget_ms })),
            Entry::Open(open) => {
                let events = open.events.iter().map(|event| self.value.to_json(event));
                let events = events.collect::<UserResult<Vec<_>>>();
                let events = events.map_err(|error| self.corrupt("collected event", &error))?;
                Ok(json!({ "events": events, "deadline_ms": open.deadline_ms }))
            }
        }
    }

    fn entry(&self, stored: &Bytes) -> Result<Entry> {
        decode_entry(stored).ok_or_else(|| self.corrupt("collection", &"its structure is broken"))
    }

    /// The timestamp and the bytes of a stored value. Of a collection: the largest timestamp among its events, and all
    /// bytes.
    ///
    /// # Errors
    /// [`ErrorCode::CorruptLog`] when it is shorter than a timestamp, [`ErrorCode::Unsupported`] for internal stores.
    pub fn split_value(&self, stored: &Bytes) -> Result<(i64, Bytes)> {
        if !self.queryable() {
            let message =
                format!("store {} is internal to operator {}: query another store", self.id, self.operator);
            return Err(Error::new(ErrorCode::Unsupported, message));
        }
        if self.format == StoreFormat::Collection {
            let timestamp_ms = match self.entry(stored)? {
                Entry::Open(open) => open.timestamp_ms,
                Entry::Emitted { forget_ms } => forget_ms,
            };
            return Ok((timestamp_ms, stored.clone()));
        }
        split_timestamped(stored).ok_or_else(|| self.corrupt("value", &"it has no timestamp"))
    }

    /// The stored form of a key that a query gives as JSON.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] at `key_json`, naming the key type.
    pub fn parse_key(&self, json: &Value) -> Result<Bytes> {
        self.key.from_json(json).map_err(|error| {
            let message = format!("keys of store {} are {}: {error}", self.id, self.key.type_name());
            Error::invalid("key_json", message)
        })
    }

    fn corrupt(&self, what: &str, error: &dyn std::fmt::Display) -> Error {
        let message = format!("a {what} of store {} does not decode: {error}", self.id);
        Error::new(ErrorCode::CorruptLog, message)
    }
}

/// Timestamp and value of a timestamped entry.
pub(crate) fn split_timestamped(stored: &Bytes) -> Option<(i64, Bytes)> {
    let mut rest = stored.clone();
    (rest.len() >= 8).then(|| (rest.get_i64(), rest))
}
