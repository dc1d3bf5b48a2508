//! The operators, one a file. Each is pure over a [`StateAccess`]: no clock, no random number, no memory of its own, so that
//! one instance serves all tasks.
//!
//! Messages of tables carry the old value beside the new one, so that everything behind can retract.

pub(crate) mod aggregate;
pub(crate) mod collect;
pub(crate) mod group_table;
pub(crate) mod join_stream_table;
pub(crate) mod join_table_table;
pub(crate) mod stateless;
pub(crate) mod store;
pub(crate) mod table;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::{Error, Header};

use crate::serde::datum::Datum;
use crate::serde::{UserError, UserResult};
use crate::state::StateAccess;
use crate::task::StoreIndex;

/// A record between two operators. In a stream `new` is the value and `old` is `None`.
#[derive(Clone)]
pub(crate) struct Message {
    pub key: Option<Datum>,
    pub new: Option<Datum>,
    pub old: Option<Datum>,
    pub timestamp_ms: i64,
}

/// Why an operator could not go on.
pub(crate) enum OpError {
    /// This record cannot be handled: it goes to the dead-letter topic.
    Record(UserError),
    /// The state cannot be read: the task fails.
    State(Error),
}

pub(crate) type OpResult<T> = Result<T, OpError>;

impl From<UserError> for OpError {
    fn from(error: UserError) -> Self {
        Self::Record(error)
    }
}

impl From<Error> for OpError {
    fn from(error: Error) -> Self {
        Self::State(error)
    }
}

/// Where the record that is being processed came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub headers: &'a [Header],
}

/// What an operator sees of its surroundings.
pub(crate) struct Context<'a> {
    pub state: &'a mut dyn StateAccess,
    /// `None` when a timer fired.
    pub origin: Option<Origin<'a>>,
    pub stream_time_ms: i64,
    pub now_ms: i64,
    /// Output of the operator and message, in order.
    pub forwarded: &'a mut Vec<(u16, Message)>,
    /// Deadlines that were set, for the task's memory of the next one.
    pub timers_set: &'a mut Vec<(StoreIndex, i64)>,
    pub dropped: &'a mut BTreeMap<String, u64>,
    pub counted: &'a mut BTreeMap<String, u64>,
    pub operator_id: &'a str,
}

impl Context<'_> {
    /// Hands a message to the operators behind.
    pub fn forward(&mut self, message: Message) {
        self.forwarded.push((0, message));
    }

    /// Notes that a record was left out.
    pub fn drop_record(&mut self) {
        bump(self.dropped, self.operator_id);
    }

    /// Notes that a record passed.
    pub fn count_record(&mut self) {
        bump(self.counted, self.operator_id);
    }
}

fn bump(counters: &mut BTreeMap<String, u64>, id: &str) {
    match counters.get_mut(id) {
        Some(n) => *n += 1,
        None => {
            counters.insert(id.to_owned(), 1);
        }
    }
}

/// An operator between sources and sinks.
pub(crate) trait Operator: Send + Sync {
    /// Handles a message that came in at `port` (the place among the node's inputs).
    fn process(&self, port: usize, message: Message, ctx: &mut Context<'_>) -> OpResult<()>;

    /// Handles a timer of this operator; must remove it from its store.
    fn fire(&self, timer: &Timer, ctx: &mut Context<'_>) -> OpResult<()> {
        let _ = (timer, ctx);
        Ok(())
    }
}

/// A timer that is due.
#[derive(Clone, Debug)]
pub(crate) struct Timer {
    pub deadline_ms: i64,
    /// Stored key of what it belongs to.
    pub key: Bytes,
}

/// What measures an operator's deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeKind {
    /// The largest timestamp the task has seen: a replay gives the same result whenever it runs.
    StreamTime,
    /// The node's clock at the batch that sets or fires the timer.
    WallClock,
}

/// An operator made of a function.
pub(crate) struct FnOperator<F>(pub F);

impl<F> Operator for FnOperator<F>
where
    F: Fn(Message, &mut Context<'_>) -> OpResult<()> + Send + Sync,
{
    fn process(&self, _port: usize, message: Message, ctx: &mut Context<'_>) -> OpResult<()> {
        (self.0)(message, ctx)
    }
}

/// Reads a table at a key (stored form of the key is computed inside): value and timestamp.
pub(crate) type Getter =
    Arc<dyn Fn(&Datum, &mut dyn StateAccess) -> OpResult<Option<(Datum, i64)>> + Send + Sync>;

/// A joiner of two optional sides, with types erased; `Ok(None)` is a null result.
pub(crate) type Joiner =
    Arc<dyn Fn(&Datum, Option<&Datum>, Option<&Datum>) -> UserResult<Option<Datum>> + Send + Sync>;
