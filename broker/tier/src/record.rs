//! The tier's records in the internal topic `__tier`: JSON inside an envelope. Not here: what a summary is made of (`summary`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sunseo_proto::envelope::{self, EnvelopeError, kind};
use sunseo_proto::{PartitionId, TopicId};

use crate::archive::ledger::{ArchiveCut, ArchiveDone, ArchiveOpened};
use crate::summary::SummaryPart;

/// What everything but a summary is written as, so that older binaries read it.
const RECORD_VERSION: u8 = 1;

/// What a summary is written as: a binary that knows none must not take what is left of the topic for the whole.
const SUMMARY_VERSION: u8 = 2;

const NEWEST_VERSION: u8 = SUMMARY_VERSION;

/// A partition's identity as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRef {
    #[serde(with = "topic_id")]
    pub topic_id: TopicId,
    pub partition: i32,
}

impl PartitionRef {
    /// As the rest of the server writes it.
    #[must_use]
    pub fn id(self) -> PartitionId {
        PartitionId { topic_id: self.topic_id, partition: self.partition }
    }
}

impl From<PartitionId> for PartitionRef {
    fn from(id: PartitionId) -> Self {
        Self { topic_id: id.topic_id, partition: id.partition }
    }
}

/// A segment and the name of its object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentKey {
    #[serde(flatten)]
    pub partition: PartitionRef,
    /// Name of the topic, for people.
    pub topic: String,
    pub base_offset: i64,
    /// Offset after the last record.
    pub end_offset: i64,
    /// Name of the object; never used twice for other bytes.
    pub object: String,
    /// When the upload was announced.
    pub at_ms: i64,
}

/// A segment that is in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentObject {
    #[serde(flatten)]
    pub key: SegmentKey,
    /// Bytes of record batches, from the start of the object.
    pub data_bytes: u64,
    /// Bytes of the footer after them.
    pub tail_bytes: u64,
    pub max_timestamp_ms: i64,
    pub first_epoch: i32,
    pub last_epoch: i32,
}

impl SegmentObject {
    /// Bytes of the whole object.
    #[must_use]
    pub fn object_bytes(&self) -> u64 {
        self.data_bytes + self.tail_bytes
    }
}

/// What happened to the tier, or what all of it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum TierRecord {
    /// An object of this name will be written.
    Intent(SegmentKey),
    /// The object is there and was read back.
    Committed(SegmentObject),
    /// The announced upload will not be committed.
    Abandoned { key: SegmentKey, at_ms: i64 },
    /// Segments that end at or below `through` are no longer part of the log.
    Removed {
        #[serde(flatten)]
        partition: PartitionRef,
        through: i64,
        at_ms: i64,
    },
    /// These objects were deleted from the store.
    Deleted { objects: Vec<String> },
    /// The topic was deleted.
    TopicRemoved {
        #[serde(with = "topic_id")]
        topic_id: TopicId,
        at_ms: i64,
    },
    /// An archive table takes up a partition.
    ArchiveOpened(ArchiveOpened),
    /// A range will become files.
    ArchiveCut(ArchiveCut),
    /// The range's files are there.
    ArchiveDone(ArchiveDone),
    /// A piece of what the records before it come to.
    Summary(SummaryPart),
}

impl TierRecord {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        // maps with text keys, numbers and text always serialise
        let json =
            serde_json::to_vec(self).unwrap_or_else(|e| unreachable!("a tier record is plain data: {e}"));
        envelope::seal(kind::TIER_RECORD, self.version(), &json)
    }

    fn version(&self) -> u8 {
        match self {
            Self::Summary(_) => SUMMARY_VERSION,
            _ => RECORD_VERSION,
        }
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// What does not fit.
    pub fn decode(bytes: &Bytes) -> Result<Self, EnvelopeError> {
        let (_, json) = envelope::open_as(bytes, kind::TIER_RECORD, NEWEST_VERSION)?;
        serde_json::from_slice(&json).map_err(|e| EnvelopeError::Payload(e.to_string()))
    }

    /// Reads the records of an exported manifest, back to back.
    ///
    /// # Errors
    /// What does not fit.
    pub fn decode_all(mut bytes: Bytes) -> Result<Vec<Self>, EnvelopeError> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let frame_bytes = envelope::open(&bytes)?.frame_bytes;
            records.push(Self::decode(&bytes.split_to(frame_bytes))?);
        }
        Ok(records)
    }
}

pub(crate) mod topic_id {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use sunseo_proto::TopicId;

    pub fn serialize<S: Serializer>(id: &TopicId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TopicId, D::Error> {
        let text = String::deserialize(deserializer)?;
        uuid::Uuid::parse_str(&text).map(TopicId).map_err(D::Error::custom)
    }
}
