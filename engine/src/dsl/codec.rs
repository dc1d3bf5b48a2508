//! Records to messages and back, for sources, sinks and repartition topics.

use std::sync::Arc;

use bytes::Bytes;

use crate::ops::group_table::{decode_change, encode_change};
use crate::serde::datum::{Datum, decode_datum, encode_datum};
use crate::serde::{Field, Serde, UserResult};
use crate::topology::graph::{DecodeFn, EncodeFn};

pub(super) fn decode<K: Field, V: Field>() -> DecodeFn {
    Arc::new(|key, value| Ok((field::<K::Inner>("key", key)?, field::<V::Inner>("value", value)?, None)))
}

pub(super) fn encode<K: Field, V: Field>() -> EncodeFn {
    Arc::new(|message| {
        let key = message.key.as_ref().map(encode_datum::<K::Inner>).transpose()?;
        let value = message.new.as_ref().map(encode_datum::<V::Inner>).transpose()?;
        Ok((key, value))
    })
}

/// For changes of a table on their way to another group.
pub(super) fn decode_table_change<K: Serde, V: Serde>() -> DecodeFn {
    Arc::new(|key, value| {
        let value = value.ok_or("a change of a table without a value")?;
        let (new, old) = decode_change::<V>(value)?;
        Ok((field::<K>("key", key)?, new, old))
    })
}

pub(super) fn encode_table_change<K: Serde, V: Serde>() -> EncodeFn {
    Arc::new(|message| {
        let key = message.key.as_ref().map(encode_datum::<K>).transpose()?;
        Ok((key, Some(encode_change::<V>(message.new.as_ref(), message.old.as_ref())?)))
    })
}

fn field<T: Serde>(what: &str, bytes: Option<&Bytes>) -> UserResult<Option<Datum>> {
    let decoded = bytes.map(decode_datum::<T>).transpose();
    decoded.map_err(|error| format!("the {what} does not decode as {}: {error}", T::type_name()).into())
}
