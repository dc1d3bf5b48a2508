//! Aggregation by key: of streams (each record is added) and of grouped tables (a change takes the old value out and puts
//! the new one in).
//!
//! The result has the largest timestamp that went in. An aggregate that becomes null leaves the store.

use std::sync::Arc;

use super::store::TimestampedStore;
use super::{Context, Message, OpResult, Operator};
use crate::serde::datum::Datum;
use crate::serde::{Serde, UserResult};

/// Key, value and the aggregate so far (`None` before the first) to the new aggregate.
pub(crate) type FoldFn =
    Arc<dyn Fn(&Datum, &Datum, Option<Datum>) -> UserResult<Option<Datum>> + Send + Sync>;

pub(crate) struct Aggregate<K, A> {
    pub store: TimestampedStore<K, A>,
    pub add: FoldFn,
    /// For tables; without an aggregate there is nothing to take out from, and it is not called.
    pub subtract: Option<FoldFn>,
}

impl<K: Serde, A: Serde> Operator for Aggregate<K, A> {
    fn process(&self, _port: usize, message: Message, ctx: &mut Context<'_>) -> OpResult<()> {
        let Some(key) = &message.key else {
            ctx.drop_record();
            return Ok(());
        };
        if message.new.is_none() && message.old.is_none() {
            ctx.drop_record();
            return Ok(());
        }
        let key_bytes = TimestampedStore::<K, A>::key_bytes(key)?;
        let before = self.store.get(ctx.state, &key_bytes)?;
        let timestamp_ms =
            before.as_ref().map_or(message.timestamp_ms, |(_, old_ms)| message.timestamp_ms.max(*old_ms));
        let old = before.map(|(aggregate, _)| aggregate);
        let mut aggregate = old.clone();
        if let (Some(subtract), Some(removed), Some(_)) = (&self.subtract, &message.old, &aggregate) {
            aggregate = subtract(key, removed, aggregate)?;
        }
        if let Some(added) = &message.new {
            aggregate = (self.add)(key, added, aggregate)?;
        }
        self.store.put(ctx.state, key_bytes, aggregate.as_ref(), timestamp_ms)?;
        ctx.forward(Message { key: message.key.clone(), new: aggregate, old, timestamp_ms });
        Ok(())
    }
}
