//! What goes into a task and what comes out.

use std::collections::BTreeMap;

use bytes::Bytes;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Header, Record};

/// What a write or an output costs beside its bytes.
pub(crate) const ENTRY_BYTES: usize = 64;

/// A store of the plan ([`Plan::stores`](crate::Plan)). A number of this plan only: what is stored, or must survive another
/// version of the topology, goes by the store's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreIndex(pub u32);

/// A source of a sub-topology, in the order of its `sources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceIndex(pub u32);

/// A sink of a sub-topology, in the order of its `sinks`. Repartition topics and the dead-letter topic are sinks too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SinkIndex(pub u32);

/// A record of one of the task's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRecord {
    pub source: SourceIndex,
    /// Partition of the source's topic.
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl InputRecord {
    /// The record as it was read.
    #[must_use]
    pub fn new(source: SourceIndex, partition: i32, record: Record) -> Self {
        let Record { offset, timestamp_ms, key, value, headers } = record;
        Self { source, partition, offset, timestamp_ms, key, value, headers }
    }
}

/// A record for the topic of a sink. The partition is decided here, so that doing a batch again gives the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRecord {
    pub sink: SinkIndex,
    pub partition: i32,
    /// `offset` has no meaning.
    pub record: Record,
}

impl OutputRecord {
    /// What it adds to a commit, about.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
        bytes(&self.record.key) + bytes(&self.record.value) + ENTRY_BYTES
    }
}

/// Time moves without a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Punctuation {
    /// Moves the stream time of an idle task; never backwards. `None` leaves it.
    pub stream_time_ms: Option<i64>,
    /// Wall clock; timers measured by it fire up to here.
    pub now_ms: i64,
}

/// What a batch did, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processed {
    pub records: u64,
    pub outputs: u64,
    /// Records that went to the dead-letter topic.
    pub dead_letters: u64,
    /// Operator id to records it left out: a null key or value where none can be used, or an event that came too late.
    pub dropped: BTreeMap<String, u64>,
    /// Operator id to records it let pass, for operators that count.
    pub counted: BTreeMap<String, u64>,
    /// Of a punctuation: more timers may be due than were fired.
    pub more_due: bool,
}

impl Processed {
    /// Adds another batch's figures.
    pub fn add(&mut self, other: Self) {
        self.more_due = other.more_due;
        self.records += other.records;
        self.outputs += other.outputs;
        self.dead_letters += other.dead_letters;
        for (id, n) in other.dropped {
            *self.dropped.entry(id).or_default() += n;
        }
        for (id, n) in other.counted {
            *self.counted.entry(id).or_default() += n;
        }
    }
}

/// What a task knows beside its stores; committed with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskMeta {
    /// The largest timestamp seen, or given by a [`Punctuation`].
    pub stream_time_ms: Option<i64>,
}

const META_VERSION: u8 = 1;

impl TaskMeta {
    /// Bytes for the commit. They go inside a structure that carries the checksum.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![META_VERSION];
        out.extend(self.stream_time_ms.iter().flat_map(|ms| ms.to_be_bytes()));
        out.into()
    }

    /// The reverse of [`encode`](Self::encode).
    ///
    /// # Errors
    /// [`ErrorCode::CorruptLog`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&META_VERSION, [])) => Ok(Self { stream_time_ms: None }),
            Some((&META_VERSION, rest)) if rest.len() == 8 => {
                let ms = rest.iter().fold(0_u64, |ms, byte| ms << 8 | u64::from(*byte));
                Ok(Self { stream_time_ms: Some(ms.cast_signed()) })
            }
            _ => Err(Error::new(
                ErrorCode::CorruptLog,
                format!(
                    "task meta of {} bytes is not of version {META_VERSION}: use a newer binary",
                    bytes.len()
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_survives_and_foreign_bytes_are_refused() {
        for stream_time_ms in [None, Some(0), Some(-1), Some(i64::MAX), Some(i64::MIN)] {
            let meta = TaskMeta { stream_time_ms };
            assert_eq!(TaskMeta::decode(&meta.encode()), Ok(meta));
        }
        for bad in [&[][..], &[2], &[1, 0], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(TaskMeta::decode(bad).is_err(), "{bad:?}");
        }
    }
}
