//! Stream with table: each record of the stream meets the table as it is now. Changes of the table give no result.
//!
//! The result has the timestamp of the stream's record. A null key or value of the stream is left out.

use super::{Context, Getter, Joiner, Message, OpResult, Operator};

pub(crate) struct JoinStreamTable {
    pub table: Getter,
    pub joiner: Joiner,
    pub left: bool,
}

impl Operator for JoinStreamTable {
    fn process(&self, _port: usize, message: Message, ctx: &mut Context<'_>) -> OpResult<()> {
        let (Some(key), Some(_)) = (&message.key, &message.new) else {
            ctx.drop_record();
            return Ok(());
        };
        let right = (self.table)(key, ctx.state)?.map(|(value, _)| value);
        if right.is_none() && !self.left {
            return Ok(());
        }
        let new = (self.joiner)(key, message.new.as_ref(), right.as_ref())?;
        ctx.forward(Message { new, ..message });
        Ok(())
    }
}
