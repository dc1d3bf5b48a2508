//! How a collection lies in the store and on the wire.

use bytes::{Buf as _, BufMut as _, Bytes};
use serde_json::{Value, json};

use crate::serde::{Serde, UserResult, ordered_i64};

/// Why a collection was emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CollectEnd {
    /// The condition held.
    Complete,
    /// The time-out passed first.
    TimedOut,
    /// It reached the largest number of events.
    Full,
}

const ENDS: [(CollectEnd, u8, &str); 3] = [
    (CollectEnd::Complete, 0, "complete"),
    (CollectEnd::TimedOut, 1, "timed-out"),
    (CollectEnd::Full, 2, "full"),
];

/// The events of a key, in the order they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected<V> {
    pub events: Vec<V>,
    pub end: CollectEnd,
}

/// One byte for the end, then each event with its length before it.
impl<V: Serde> Serde for Collected<V> {
    fn type_name() -> String {
        format!("collected<{}>", V::type_name())
    }

    fn encode(&self, out: &mut Vec<u8>) -> UserResult<()> {
        out.extend(ENDS.iter().filter(|(end, ..)| *end == self.end).map(|(_, code, _)| *code));
        for event in &self.events {
            let mut bytes = Vec::new();
            event.encode(&mut bytes)?;
            out.put_u32(u32::try_from(bytes.len())?);
            out.extend(bytes);
        }
        Ok(())
    }

    fn decode(bytes: &Bytes) -> UserResult<Self> {
        let broken = || format!("{} bytes are no collection", bytes.len());
        let mut rest = bytes.clone();
        let code = rest.try_get_u8().map_err(|_| broken())?;
        let end = ENDS.iter().find(|(_, known, _)| *known == code).ok_or_else(broken)?.0;
        let events = take_list(rest).ok_or_else(broken)?.iter().map(V::decode).collect::<UserResult<_>>()?;
        Ok(Self { events, end })
    }

    fn to_json(&self) -> UserResult<Value> {
        let events = self.events.iter().map(V::to_json).collect::<UserResult<Vec<_>>>()?;
        let end = ENDS.iter().find(|(end, ..)| *end == self.end).map(|(_, _, name)| *name);
        Ok(json!({ "events": events, "end": end }))
    }

    fn from_json(json: &Value) -> UserResult<Self> {
        let end = ENDS
            .iter()
            .find(|(_, _, name)| json["end"].as_str() == Some(name))
            .ok_or("`end` is complete, timed-out or full")?
            .0;
        let events = json["events"].as_array().ok_or("`events` is an array")?;
        Ok(Self { events: events.iter().map(V::from_json).collect::<UserResult<_>>()?, end })
    }
}

/// What the store holds for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Open(Open),
    /// Emitted and remembered until then.
    Emitted {
        forget_ms: i64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub deadline_ms: i64,
    /// The largest timestamp among the events.
    pub timestamp_ms: i64,
    pub events: Vec<Bytes>,
}

const OPEN: u8 = 0;
const EMITTED: u8 = 1;

pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let mut out = Vec::new();
    match entry {
        Entry::Open(open) => {
            out.put_u8(OPEN);
            out.put_i64(open.deadline_ms);
            out.put_i64(open.timestamp_ms);
            for event in &open.events {
                // A record is far below 4 GiB; its batch's length is an i32.
                out.put_u32(event.len() as u32);
                out.put_slice(event);
            }
        }
        Entry::Emitted { forget_ms } => {
            out.put_u8(EMITTED);
            out.put_i64(*forget_ms);
        }
    }
    out.into()
}

pub(crate) fn decode_entry(stored: &Bytes) -> Option<Entry> {
    let mut rest = stored.clone();
    match rest.try_get_u8().ok()? {
        OPEN => {
            let deadline_ms = rest.try_get_i64().ok()?;
            let timestamp_ms = rest.try_get_i64().ok()?;
            Some(Entry::Open(Open { deadline_ms, timestamp_ms, events: take_list(rest)? }))
        }
        EMITTED => {
            let forget_ms = rest.try_get_i64().ok()?;
            rest.is_empty().then_some(Entry::Emitted { forget_ms })
        }
        _ => None,
    }
}

fn take_list(mut rest: Bytes) -> Option<Vec<Bytes>> {
    let mut items = Vec::new();
    while !rest.is_empty() {
        let length = rest.try_get_u32().ok()? as usize;
        if length > rest.len() {
            return None;
        }
        items.push(rest.split_to(length));
    }
    Some(items)
}

/// The key of a timer: deadlines sort first.
pub(crate) fn timer_key(deadline_ms: i64, key: &[u8]) -> Bytes {
    let mut out = ordered_i64(deadline_ms).to_vec();
    out.extend_from_slice(key);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn collections_survive_the_store_and_the_wire(
            events in prop::collection::vec(".{0,5}", 0..5), deadline_ms: i64, timestamp_ms: i64, end in 0_usize..3,
        ) {
            let bytes = events.iter().map(|e| Bytes::from(e.clone())).collect();
            let entry = Entry::Open(Open { deadline_ms, timestamp_ms, events: bytes });
            prop_assert_eq!(decode_entry(&encode_entry(&entry)), Some(entry));
            let mark = Entry::Emitted { forget_ms: deadline_ms };
            prop_assert_eq!(decode_entry(&encode_entry(&mark)), Some(mark));
            let collected = Collected { events, end: ENDS[end].0 };
            let mut out = Vec::new();
            collected.encode(&mut out).unwrap();
            prop_assert_eq!(&Collected::decode(&out.into()).unwrap(), &collected);
            prop_assert_eq!(&Collected::from_json(&collected.to_json().unwrap()).unwrap(), &collected);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            let _ = decode_entry(&bytes);
            let _ = Collected::<String>::decode(&bytes);
        }
    }
}
