//! Collect-until: gathers the events of a key until a condition holds, a time-out passes, or there are too many; emits them
//! once and forgets them.
//!
//! - The time-out counts from the key's first event, in stream time or by the wall clock. An event whose time is the deadline
//!   or later does not belong to the collection: the time-out fires first.
//! - Late events, of a key that was emitted before, follow [`LateEvents`].
//! - State: the open collection (or the mark of an emitted one) by key, and timers by deadline and key. Nothing is left when
//!   every key was emitted and, with [`LateEvents::Drop`], the time to remember has passed.

pub(crate) mod codec;

use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::{Error, ErrorCode};

use self::codec::{Entry, Open, decode_entry, encode_entry, timer_key};
use super::{Context, Message, OpError, OpResult, Operator, TimeKind, Timer};
use crate::serde::datum::{Datum, Of, datum, decode_datum, downcast, encode_datum};
use crate::serde::{Serde, UserResult};
use crate::task::StoreIndex;

pub use codec::{CollectEnd, Collected};

/// What happens to an event of a key whose collection was emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateEvents {
    /// It begins a new collection of the key: nothing is lost, the key may be emitted again.
    BeginAnew,
    /// It is left out and counted for as long as the key is remembered: emitted once within that time.
    Drop { remember_ms: i64 },
}

/// Most events of one collection, unless set otherwise; with one more it is emitted as [`CollectEnd::Full`].
pub const COLLECT_EVENTS_MAX: usize = 10_000;

/// Settings of one collect-until.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectOptions {
    pub timeout_ms: i64,
    pub time: TimeKind,
    pub late: LateEvents,
    pub events_max: usize,
}

impl CollectOptions {
    /// Emits at the latest `timeout_ms` of stream time after the key's first event; late events begin anew.
    #[must_use]
    pub fn timeout_ms(timeout_ms: i64) -> Self {
        let (time, late) = (TimeKind::StreamTime, LateEvents::BeginAnew);
        Self { timeout_ms, time, late, events_max: COLLECT_EVENTS_MAX }
    }

    /// Measures by the wall clock.
    #[must_use]
    pub fn wall_clock(mut self) -> Self {
        self.time = TimeKind::WallClock;
        self
    }

    /// Leaves late events out, for as long as the key is remembered.
    #[must_use]
    pub fn drop_late(mut self, remember_ms: i64) -> Self {
        self.late = LateEvents::Drop { remember_ms };
        self
    }

    /// Emits when there are this many events.
    #[must_use]
    pub fn events_max(mut self, events_max: usize) -> Self {
        self.events_max = events_max;
        self
    }
}

/// Whether the key's events are complete.
pub(crate) type CompleteFn<V> = Arc<dyn Fn(&Datum, &[V]) -> UserResult<bool> + Send + Sync>;

pub(crate) struct CollectUntil<K, V> {
    pub collections: StoreIndex,
    pub timers: StoreIndex,
    pub complete: CompleteFn<V>,
    pub options: CollectOptions,
    pub types: Of<K>,
}

impl<K: Serde, V: Serde> Operator for CollectUntil<K, V> {
    fn process(&self, _port: usize, message: Message, ctx: &mut Context<'_>) -> OpResult<()> {
        let (Some(key), Some(value)) = (&message.key, &message.new) else {
            ctx.drop_record();
            return Ok(());
        };
        let key_bytes = encode_datum::<K>(key)?;
        let mut open = match self.load(&key_bytes, ctx)? {
            None => self.begin(&key_bytes, ctx),
            Some(Entry::Open(open)) => open,
            Some(Entry::Emitted { .. }) => {
                ctx.drop_record();
                return Ok(());
            }
        };
        open.timestamp_ms = open.timestamp_ms.max(message.timestamp_ms);
        open.events.push(encode_datum::<V>(value)?);
        let mut events = self.decode_events(&open)?;
        let end = if (self.complete)(key, &events)? {
            CollectEnd::Complete
        } else if events.len() >= self.options.events_max {
            CollectEnd::Full
        } else {
            ctx.state.put(self.collections, key_bytes, Some(encode_entry(&Entry::Open(open))));
            return Ok(());
        };
        ctx.state.put(self.timers, timer_key(open.deadline_ms, &key_bytes), None);
        self.close(key_bytes, ctx);
        let collected = Collected { events: std::mem::take(&mut events), end };
        self.emit(key.clone(), collected, open.timestamp_ms, ctx);
        Ok(())
    }

    fn fire(&self, timer: &Timer, ctx: &mut Context<'_>) -> OpResult<()> {
        ctx.state.put(self.timers, timer_key(timer.deadline_ms, &timer.key), None);
        match self.load(&timer.key, ctx)? {
            None => {}
            Some(Entry::Emitted { .. }) => ctx.state.put(self.collections, timer.key.clone(), None),
            Some(Entry::Open(open)) => {
                let events = self.decode_events(&open)?;
                self.close(timer.key.clone(), ctx);
                let key = decode_datum::<K>(&timer.key).map_err(|error| corrupt("key", &error))?;
                let timestamp_ms = match self.options.time {
                    TimeKind::StreamTime => timer.deadline_ms,
                    TimeKind::WallClock => open.timestamp_ms,
                };
                self.emit(key, Collected { events, end: CollectEnd::TimedOut }, timestamp_ms, ctx);
            }
        }
        Ok(())
    }
}

impl<K: Serde, V: Serde> CollectUntil<K, V> {
    fn now(&self, ctx: &Context<'_>) -> i64 {
        match self.options.time {
            TimeKind::StreamTime => ctx.stream_time_ms,
            TimeKind::WallClock => ctx.now_ms,
        }
    }

    fn load(&self, key: &[u8], ctx: &mut Context<'_>) -> OpResult<Option<Entry>> {
        let Some(stored) = ctx.state.get(self.collections, key)? else { return Ok(None) };
        Ok(Some(decode_entry(&stored).ok_or_else(|| corrupt("collection", &"its structure is broken"))?))
    }

    fn begin(&self, key: &Bytes, ctx: &mut Context<'_>) -> Open {
        let deadline_ms = self.now(ctx).saturating_add(self.options.timeout_ms);
        self.set_timer(deadline_ms, key, ctx);
        Open { deadline_ms, timestamp_ms: i64::MIN, events: Vec::new() }
    }

    /// Removes the collection, or leaves the mark that it was emitted.
    fn close(&self, key: Bytes, ctx: &mut Context<'_>) {
        let mark = match self.options.late {
            LateEvents::BeginAnew => None,
            LateEvents::Drop { remember_ms } => {
                let forget_ms = self.now(ctx).saturating_add(remember_ms);
                self.set_timer(forget_ms, &key, ctx);
                Some(encode_entry(&Entry::Emitted { forget_ms }))
            }
        };
        ctx.state.put(self.collections, key, mark);
    }

    fn set_timer(&self, deadline_ms: i64, key: &Bytes, ctx: &mut Context<'_>) {
        ctx.state.put(self.timers, timer_key(deadline_ms, key), Some(Bytes::new()));
        ctx.timers_set.push((self.timers, deadline_ms));
    }

    fn decode_events(&self, open: &Open) -> OpResult<Vec<V>> {
        open.events
            .iter()
            .map(|event| V::decode(event).map_err(|error| corrupt("collected event", &error)))
            .collect()
    }

    fn emit(&self, key: Datum, collected: Collected<V>, timestamp_ms: i64, ctx: &mut Context<'_>) {
        ctx.forward(Message { key: Some(key), new: Some(datum(collected)), old: None, timestamp_ms });
    }
}

fn corrupt(what: &str, error: &dyn std::fmt::Display) -> OpError {
    OpError::State(Error::new(
        ErrorCode::CorruptLog,
        format!("a {what} of a collect-until store does not decode: {error}"),
    ))
}

/// The typed condition with its key's type erased.
pub(crate) fn complete_fn<K: Serde, V: Serde>(
    complete: impl Fn(&K, &[V]) -> UserResult<bool> + Send + Sync + 'static,
) -> CompleteFn<V> {
    Arc::new(move |key, events| complete(downcast::<K>(key)?, events))
}
