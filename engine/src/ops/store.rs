//! Typed access to a store of values with timestamps.

use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::{Error, ErrorCode};

use super::{Getter, OpResult};
use crate::plan::split_timestamped;
use crate::serde::Serde;
use crate::serde::datum::{Datum, Of, decode_datum, encode_datum};
use crate::state::StateAccess;
use crate::task::StoreIndex;

/// A store of `V` with timestamps by `K`.
pub(crate) struct TimestampedStore<K, V> {
    index: StoreIndex,
    types: Of<(K, V)>,
}

impl<K, V> Clone for TimestampedStore<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for TimestampedStore<K, V> {}

impl<K: Serde, V: Serde> TimestampedStore<K, V> {
    pub fn new(index: StoreIndex) -> Self {
        Self { index, types: Of::default() }
    }

    /// The stored form of a key.
    pub fn key_bytes(key: &Datum) -> OpResult<Bytes> {
        Ok(encode_datum::<K>(key)?)
    }

    pub fn get(&self, state: &mut dyn StateAccess, key: &[u8]) -> OpResult<Option<(Datum, i64)>> {
        let Some(stored) = state.get(self.index, key)? else { return Ok(None) };
        let corrupt = |what: String| {
            Error::new(ErrorCode::CorruptLog, format!("a stored {} does not decode: {what}", V::type_name()))
        };
        let (timestamp_ms, value) =
            split_timestamped(&stored).ok_or_else(|| corrupt("no timestamp".to_owned()))?;
        let value = decode_datum::<V>(&value).map_err(|error| corrupt(error.to_string()))?;
        Ok(Some((value, timestamp_ms)))
    }

    pub fn put(
        &self,
        state: &mut dyn StateAccess,
        key: Bytes,
        value: Option<&Datum>,
        timestamp_ms: i64,
    ) -> OpResult<()> {
        let stored = match value {
            None => None,
            Some(value) => {
                let mut out = timestamp_ms.to_be_bytes().to_vec();
                crate::serde::datum::downcast::<V>(value)?.encode(&mut out)?;
                Some(out.into())
            }
        };
        state.put(self.index, key, stored);
        Ok(())
    }

    pub fn getter(self) -> Getter {
        Arc::new(move |key, state| self.get(state, &Self::key_bytes(key)?))
    }
}
