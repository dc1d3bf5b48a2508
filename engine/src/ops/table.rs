//! Tables: the latest value by key in the order of offsets, and values derived from them without a store.
//!
//! A later record replaces an earlier one even when its timestamp is older, as in Kafka Streams without versioned stores.

use std::sync::Arc;

use super::store::TimestampedStore;
use super::{Context, Getter, Message, OpResult, Operator};
use crate::serde::datum::Datum;
use crate::serde::{Serde, UserResult};

/// Keeps what it is given and adds the old value to the message. A null value removes the key and is passed on even when
/// there was nothing to remove.
pub(crate) struct Materialize<K, V> {
    pub store: TimestampedStore<K, V>,
}

impl<K: Serde, V: Serde> Operator for Materialize<K, V> {
    fn process(&self, _port: usize, mut message: Message, ctx: &mut Context<'_>) -> OpResult<()> {
        let Some(key) = &message.key else {
            ctx.drop_record();
            return Ok(());
        };
        let key_bytes = TimestampedStore::<K, V>::key_bytes(key)?;
        message.old = self.store.get(ctx.state, &key_bytes)?.map(|(old, _)| old);
        self.store.put(ctx.state, key_bytes, message.new.as_ref(), message.timestamp_ms)?;
        ctx.forward(message);
        Ok(())
    }
}

/// A function on one value of a table; `None` means that the key is absent from the derived table.
pub(crate) type DeriveFn = Arc<dyn Fn(&Datum, &Datum) -> UserResult<Option<Datum>> + Send + Sync>;

/// A table whose values are computed from another's: map and filter.
pub(crate) struct Derive {
    pub function: DeriveFn,
    /// Kafka's filter stays silent when the key is absent before and after; its map does not.
    pub silent_when_absent: bool,
}

impl Operator for Derive {
    fn process(&self, _port: usize, message: Message, ctx: &mut Context<'_>) -> OpResult<()> {
        let Some(key) = &message.key else {
            ctx.drop_record();
            return Ok(());
        };
        let apply = |value: Option<&Datum>| match value {
            Some(value) => (self.function)(key, value),
            None => Ok(None),
        };
        let (new, old) = (apply(message.new.as_ref())?, apply(message.old.as_ref())?);
        if self.silent_when_absent && new.is_none() && old.is_none() {
            return Ok(());
        }
        ctx.forward(Message { new, old, ..message });
        Ok(())
    }
}

/// Reads the derived table through the one it is derived from.
pub(crate) fn derived_getter(parent: Getter, function: DeriveFn) -> Getter {
    Arc::new(move |key, state| match parent(key, state)? {
        Some((value, timestamp_ms)) => Ok(function(key, &value)?.map(|value| (value, timestamp_ms))),
        None => Ok(None),
    })
}
