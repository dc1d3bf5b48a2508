//! Table with table by the same key: inner, left, outer.
//!
//! A change on either side gives a change of the result; its timestamp is the larger of both sides. When nothing can be there
//! before or after, there is no result; otherwise a null result is passed on, as Kafka Streams does.

use std::sync::Arc;

use super::{Context, Getter, Joiner, Message, OpResult, Operator};
use crate::serde::datum::Datum;

/// Which sides may be absent in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinKind {
    Inner,
    Left,
    Outer,
}

impl JoinKind {
    /// Whether a result exists for these sides.
    fn joins(self, left: bool, right: bool) -> bool {
        match self {
            Self::Inner => left && right,
            Self::Left => left,
            Self::Outer => left || right,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Inner => "table-table join",
            Self::Left => "table-table left join",
            Self::Outer => "table-table outer join",
        }
    }
}

/// Port 0 is left, port 1 is right.
pub(crate) struct JoinTableTable {
    pub left: Getter,
    pub right: Getter,
    pub joiner: Joiner,
    pub kind: JoinKind,
}

impl JoinTableTable {
    fn result(&self, key: &Datum, left: Option<&Datum>, right: Option<&Datum>) -> OpResult<Option<Datum>> {
        if !self.kind.joins(left.is_some(), right.is_some()) {
            return Ok(None);
        }
        Ok((self.joiner)(key, left, right)?)
    }
}

impl Operator for JoinTableTable {
    fn process(&self, port: usize, message: Message, ctx: &mut Context<'_>) -> OpResult<()> {
        let Some(key) = &message.key else {
            ctx.drop_record();
            return Ok(());
        };
        let from_left = port == 0;
        let other = if from_left { &self.right } else { &self.left };
        let other = other(key, ctx.state)?;
        // Where this side alone can never make a row, only the other side's presence can; where it can, its change counts.
        let alone_matters = self.kind.joins(from_left, !from_left);
        let changes = message.new.is_some() || message.old.is_some();
        if other.is_none() && !(alone_matters && changes) {
            return Ok(());
        }
        let other_value = other.as_ref().map(|(value, _)| value);
        let join = |this: Option<&Datum>| {
            if from_left { self.result(key, this, other_value) } else { self.result(key, other_value, this) }
        };
        let (new, old) = (join(message.new.as_ref())?, join(message.old.as_ref())?);
        let timestamp_ms =
            other.as_ref().map_or(message.timestamp_ms, |(_, other_ms)| message.timestamp_ms.max(*other_ms));
        ctx.forward(Message { key: message.key.clone(), new, old, timestamp_ms });
        Ok(())
    }
}

/// Reads the joined table through both sides.
pub(crate) fn joined_getter(join: &Arc<JoinTableTable>) -> Getter {
    let join = join.clone();
    Arc::new(move |key, state| {
        let (left, right) = ((join.left)(key, state)?, (join.right)(key, state)?);
        let value = join.result(key, left.as_ref().map(|(v, _)| v), right.as_ref().map(|(v, _)| v))?;
        let timestamps = [left, right].into_iter().flatten().map(|(_, timestamp_ms)| timestamp_ms);
        Ok(value.zip(timestamps.max()))
    })
}
