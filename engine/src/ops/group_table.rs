//! Regrouping of a table: a change goes to the group it leaves as a removal and to the group it enters as an addition, both
//! in one commit. A change inside a group stays one message, so that nobody sees the group without its member.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes};

use super::{Context, Message, OpResult, Operator};
use crate::serde::datum::{Datum, Of, decode_datum, encode_datum};
use crate::serde::{Serde, UserResult};

/// Key and value of a table to the group's key and the value to aggregate.
pub(crate) type GroupFn = Arc<dyn Fn(&Datum, &Datum) -> UserResult<Option<(Datum, Datum)>> + Send + Sync>;

pub(crate) struct GroupTable<K2> {
    pub group: GroupFn,
    pub key: Of<K2>,
}

impl<K2: Serde> Operator for GroupTable<K2> {
    fn process(&self, _port: usize, message: Message, ctx: &mut Context<'_>) -> OpResult<()> {
        let Some(key) = &message.key else {
            ctx.drop_record();
            return Ok(());
        };
        let group = |value: Option<&Datum>| match value {
            Some(value) => (self.group)(key, value),
            None => Ok(None),
        };
        let (left, entered) = (group(message.old.as_ref())?, group(message.new.as_ref())?);
        let timestamp_ms = message.timestamp_ms;
        let change = |key, new, old| Message { key: Some(key), new, old, timestamp_ms };
        match (left, entered) {
            (Some((old_key, old)), Some((new_key, new))) => {
                if encode_datum::<K2>(&old_key)? == encode_datum::<K2>(&new_key)? {
                    ctx.forward(change(new_key, Some(new), Some(old)));
                } else {
                    ctx.forward(change(old_key, None, Some(old)));
                    ctx.forward(change(new_key, Some(new), None));
                }
            }
            (Some((old_key, old)), None) => ctx.forward(change(old_key, None, Some(old))),
            (None, Some((new_key, new))) => ctx.forward(change(new_key, Some(new), None)),
            (None, None) => {}
        }
        Ok(())
    }
}

const HAS_NEW: u8 = 1;
const HAS_OLD: u8 = 2;

/// A change as the value of a repartition record: flags, length of the new value when both are there, new, old.
pub(crate) fn encode_change<V: Serde>(new: Option<&Datum>, old: Option<&Datum>) -> UserResult<Bytes> {
    let new = new.map(encode_datum::<V>).transpose()?;
    let old = old.map(encode_datum::<V>).transpose()?;
    let mut out = vec![u8::from(new.is_some()) * HAS_NEW + u8::from(old.is_some()) * HAS_OLD];
    if let (Some(new), Some(_)) = (&new, &old) {
        out.put_u32(u32::try_from(new.len())?);
    }
    out.extend(new.iter().flatten());
    out.extend(old.iter().flatten());
    Ok(out.into())
}

/// The reverse of [`encode_change`]: new and old.
pub(crate) fn decode_change<V: Serde>(bytes: &Bytes) -> UserResult<(Option<Datum>, Option<Datum>)> {
    let broken = || format!("{} bytes are no change of a table", bytes.len());
    let (flags, rest) = (*bytes.first().ok_or_else(broken)?, bytes.slice(1.min(bytes.len())..));
    let decode = |bytes: Bytes| decode_datum::<V>(&bytes).map(Some);
    match flags {
        HAS_NEW => Ok((decode(rest)?, None)),
        HAS_OLD => Ok((None, decode(rest)?)),
        3 => {
            let (length, _) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
            let end = 4_usize.saturating_add(u32::from_be_bytes(*length) as usize);
            if end > rest.len() {
                return Err(broken().into());
            }
            Ok((decode(rest.slice(4..end))?, decode(rest.slice(end..))?))
        }
        _ => Err(broken().into()),
    }
}
