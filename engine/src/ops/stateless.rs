//! Operators of streams without state: each message gives messages.
//!
//! A null key or value that the declared type does not expect is left out and counted.

use std::sync::Arc;

use super::{Context, FnOperator, Message, OpResult, Operator, Origin};
use crate::serde::datum::{field_datum, view};
use crate::serde::{Field, UserResult};

/// A record as a function sees it that asks for more than key and value.
#[derive(Debug)]
pub struct RecordView<'a, K: Field, V: Field> {
    pub key: K::Ref<'a>,
    pub value: V::Ref<'a>,
    pub timestamp_ms: i64,
    /// The input record this one comes from; `None` when a timer made it.
    pub origin: Option<Origin<'a>>,
}

/// One record to any number of records.
pub(crate) fn flat_map<K: Field, V: Field, K2: Field, V2: Field>(
    function: impl Fn(RecordView<'_, K, V>) -> UserResult<Vec<(K2, V2)>> + Send + Sync + 'static,
) -> Arc<dyn Operator> {
    each::<K, V>(move |record, _, ctx| {
        let timestamp_ms = record.timestamp_ms;
        for (key, value) in function(record)? {
            let (key, new) = (field_datum(key), field_datum(value));
            ctx.forward(Message { key, new, old: None, timestamp_ms });
        }
        Ok(())
    })
}

/// One value to one value, the key stays.
pub(crate) fn map_values<K: Field, V: Field, V2: Field>(
    function: impl Fn(RecordView<'_, K, V>) -> UserResult<V2> + Send + Sync + 'static,
) -> Arc<dyn Operator> {
    each::<K, V>(move |record, message, ctx| {
        let new = field_datum(function(record)?);
        ctx.forward(Message { new, ..message.clone() });
        Ok(())
    })
}

/// One value to any number of values, the key stays.
pub(crate) fn flat_map_values<K: Field, V: Field, V2: Field>(
    function: impl Fn(RecordView<'_, K, V>) -> UserResult<Vec<V2>> + Send + Sync + 'static,
) -> Arc<dyn Operator> {
    each::<K, V>(move |record, message, ctx| {
        for value in function(record)? {
            ctx.forward(Message { new: field_datum(value), ..message.clone() });
        }
        Ok(())
    })
}

/// A new key, the value stays.
pub(crate) fn select_key<K: Field, V: Field, K2: Field>(
    function: impl Fn(K::Ref<'_>, V::Ref<'_>) -> UserResult<K2> + Send + Sync + 'static,
) -> Arc<dyn Operator> {
    each::<K, V>(move |record, message, ctx| {
        let key = field_datum(function(record.key, record.value)?);
        ctx.forward(Message { key, ..message.clone() });
        Ok(())
    })
}

/// Records that the predicate accepts.
pub(crate) fn filter<K: Field, V: Field>(
    predicate: impl Fn(K::Ref<'_>, V::Ref<'_>) -> UserResult<bool> + Send + Sync + 'static,
) -> Arc<dyn Operator> {
    each::<K, V>(move |record, message, ctx| {
        if predicate(record.key, record.value)? {
            ctx.forward(message.clone());
        }
        Ok(())
    })
}

/// Each record to the output that the function names; beyond `outputs` it is left out.
pub(crate) fn branch<K: Field, V: Field>(
    outputs: usize,
    choose: impl Fn(K::Ref<'_>, V::Ref<'_>) -> UserResult<usize> + Send + Sync + 'static,
) -> Arc<dyn Operator> {
    each::<K, V>(move |record, message, ctx| {
        let chosen = choose(record.key, record.value)?;
        match u16::try_from(chosen) {
            Ok(output) if chosen < outputs => ctx.forwarded.push((output, message.clone())),
            _ => ctx.drop_record(),
        }
        Ok(())
    })
}

/// Everything, counted.
pub(crate) fn count_records() -> Arc<dyn Operator> {
    Arc::new(FnOperator(|message: Message, ctx: &mut Context<'_>| {
        ctx.count_record();
        ctx.forward(message);
        Ok(())
    }))
}

/// Everything, as it is.
pub(crate) fn pass() -> Arc<dyn Operator> {
    Arc::new(FnOperator(|message: Message, ctx: &mut Context<'_>| {
        ctx.forward(message);
        Ok(())
    }))
}

/// A table's changes as a stream of its new values.
pub(crate) fn to_stream() -> Arc<dyn Operator> {
    Arc::new(FnOperator(|message: Message, ctx: &mut Context<'_>| {
        ctx.forward(Message { old: None, ..message });
        Ok(())
    }))
}

fn each<K: Field, V: Field>(
    body: impl Fn(RecordView<'_, K, V>, &Message, &mut Context<'_>) -> OpResult<()> + Send + Sync + 'static,
) -> Arc<dyn Operator> {
    Arc::new(FnOperator(move |message: Message, ctx: &mut Context<'_>| {
        let (Some(key), Some(value)) = (view::<K>(message.key.as_ref())?, view::<V>(message.new.as_ref())?)
        else {
            ctx.drop_record();
            return Ok(());
        };
        let record = RecordView { key, value, timestamp_ms: message.timestamp_ms, origin: ctx.origin };
        body(record, &message, ctx)
    }))
}
