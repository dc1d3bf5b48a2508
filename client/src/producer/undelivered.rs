//! What a producer could not deliver: partition by partition, so that a caller can say what is missing, and send it again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sunseo_proto::Error;

/// Records that failed since the last [`flush`](super::Producer::flush). The records themselves are the caller's: each one's
/// [`Ack`](super::Ack) carries its own error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undelivered {
    /// In the order of topic and partition; never empty in an error.
    pub partitions: Vec<UndeliveredPartition>,
}

/// What one partition did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndeliveredPartition {
    pub topic: Arc<str>,
    pub partition: i32,
    /// Records that were not acknowledged.
    pub records: u64,
    /// Those among them that may be in the log nevertheless: no answer came. The others are certainly not there.
    pub unknown: u64,
    pub first_error: Error,
}

impl Undelivered {
    /// Records of all partitions.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.records).sum()
    }

    /// Records of all partitions that may be in the log nevertheless.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.unknown).sum()
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (records, unknown, partitions) = (self.records(), self.unknown(), self.partitions.len());
        write!(f, "{records} records of {partitions} partitions were not delivered")?;
        if unknown > 0 {
            write!(f, " ({unknown} of them may have landed)")?;
        }
        match self.partitions.first() {
            Some(first) => {
                write!(f, ", the first of {}-{}: {}", first.topic, first.partition, first.first_error)
            }
            None => Ok(()),
        }
    }
}

impl std::error::Error for Undelivered {}

/// The first error with the whole count in its message.
impl From<Undelivered> for Error {
    fn from(undelivered: Undelivered) -> Self {
        let message = undelivered.to_string();
        match undelivered.partitions.into_iter().next() {
            Some(first) => Self { code: first.first_error.code, message, field: first.first_error.field },
            None => Self::internal(message),
        }
    }
}

/// Counts failures until somebody asks. Bounded by the partitions that were ever written to.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<(Arc<str>, i32), (u64, u64, Error)>);

impl Failures {
    pub(super) fn add(
        &mut self,
        (topic, partition): (&Arc<str>, i32),
        records: u64,
        unknown: bool,
        error: Error,
    ) {
        let entry = self.0.entry((Arc::clone(topic), partition)).or_insert((0, 0, error));
        entry.0 += records;
        entry.1 += if unknown { records } else { 0 };
    }

    /// What failed since the last call.
    pub(super) fn take(&mut self) -> Result<(), Undelivered> {
        if self.0.is_empty() {
            return Ok(());
        }
        let partition = |((topic, partition), (records, unknown, first_error))| UndeliveredPartition {
            topic,
            partition,
            records,
            unknown,
            first_error,
        };
        Err(Undelivered { partitions: std::mem::take(&mut self.0).into_iter().map(partition).collect() })
    }
}
