//! The driver's calls with typed keys and values.

use std::collections::BTreeMap;

use bytes::Bytes;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Header, Record};

use super::Driver;
use crate::plan::{StoreFormat, StoreSpec, split_timestamped};
use crate::serde::{Field, Serde, UserError};

/// A record of an output topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputOf<K, V> {
    pub key: Option<K>,
    pub value: Option<V>,
    pub timestamp_ms: i64,
    pub partition: i32,
    pub headers: Vec<Header>,
}

fn bytes_of<T: Serde>(value: &T) -> Result<Bytes> {
    let mut out = Vec::new();
    value.encode(&mut out).map_err(|error| Error::new(ErrorCode::InvalidArgument, error.to_string()))?;
    Ok(out.into())
}

fn value_of<T: Serde>(bytes: &Bytes) -> Result<T> {
    let corrupt = |error: UserError| Error::new(ErrorCode::CorruptBatch, error.to_string());
    T::decode(bytes).map_err(corrupt)
}

impl Driver {
    /// Adds a record to the partition of its key. Key and value may be `Option`s.
    ///
    /// # Errors
    /// When the topic does not exist or a value has no encoding.
    pub fn pipe<K: Field + Clone, V: Field + Clone>(
        &mut self,
        topic: &str,
        key: &K,
        value: &V,
        timestamp_ms: i64,
    ) -> Result<i64> {
        let key = key.clone().into_inner().map(|key| bytes_of(&key)).transpose()?;
        let value = value.clone().into_inner().map(|value| bytes_of(&value)).transpose()?;
        self.pipe_record(topic, None, Record { timestamp_ms, key, value, ..Record::default() })
    }

    /// What was written to a topic since the last call, partition after partition.
    ///
    /// # Errors
    /// When the topic does not exist or a record does not decode.
    pub fn read<K: Serde, V: Serde>(&mut self, topic: &str) -> Result<Vec<OutputOf<K, V>>> {
        let records = self.topics.take(topic)?;
        records
            .into_iter()
            .map(|(partition, record)| {
                Ok(OutputOf {
                    key: record.key.as_ref().map(value_of).transpose()?,
                    value: record.value.as_ref().map(value_of).transpose()?,
                    timestamp_ms: record.timestamp_ms,
                    partition,
                    headers: record.headers,
                })
            })
            .collect()
    }

    /// The value of a key in a store.
    ///
    /// # Errors
    /// When there is no such store, or it does not hold these types.
    pub fn get<K: Serde, V: Serde>(&self, store: &str, key: &K) -> Result<Option<V>> {
        let key = bytes_of(key)?;
        let entries = self.raw_entries(store)?;
        let Some(stored) = entries.get(&key) else { return Ok(None) };
        let (_, value) = self.store(store)?.split_value(stored)?;
        value_of(&value).map(Some)
    }

    /// A store's entries over all partitions, ordered by the bytes of their keys: key, value, timestamp.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn entries<K: Serde, V: Serde>(&self, store: &str) -> Result<Vec<(K, V, i64)>> {
        let spec = self.store(store)?;
        if spec.format != StoreFormat::Timestamped {
            return Err(Error::new(
                ErrorCode::Unsupported,
                format!("store {store:?} is internal to its operator"),
            ));
        }
        let entries = self.raw_entries(store)?;
        entries
            .iter()
            .map(|(key, stored)| {
                let (timestamp_ms, value) = split_timestamped(stored).ok_or_else(|| {
                    Error::internal(format!("store {store:?} holds a value without a timestamp"))
                })?;
                Ok((value_of(key)?, value_of(&value)?, timestamp_ms))
            })
            .collect()
    }

    /// How many entries a store has, internal ones included.
    ///
    /// # Errors
    /// When there is no such store.
    pub fn count_entries(&self, store: &str) -> Result<usize> {
        self.raw_entries(store).map(|entries| entries.len())
    }

    /// Entries of all stores together, such as timers.
    #[must_use]
    pub fn count_all_entries(&self) -> usize {
        let stores = self.plan.stores.iter();
        stores
            .map(|spec| self.states(spec.sub_topology).map(|s| s.entries(spec.index).len()).sum::<usize>())
            .sum()
    }

    fn store(&self, id: &str) -> Result<&StoreSpec> {
        let known = self.plan.stores.iter().find(|store| store.id == id);
        known.ok_or_else(|| {
            let message = format!("pipeline {} has no store {id:?}", self.plan.pipeline);
            Error::new(ErrorCode::UnknownStore, message)
        })
    }

    fn raw_entries(&self, store: &str) -> Result<BTreeMap<Bytes, Bytes>> {
        let spec = self.store(store)?;
        Ok(self.states(spec.sub_topology).flat_map(|state| state.entries(spec.index)).collect())
    }
}
