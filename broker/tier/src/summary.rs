//! A summary of the tier's records: facts that add up to the manifest from nothing, in parts that each fit in a record. Pure.
//!
//! A summary stands for every record before it, so its first part says at which offset it must lie, and the others lie right
//! behind it. A part that is found anywhere else came late, or after something that the summary does not know of, and says
//! nothing: the records still there count instead. That also makes a summary that was cut off, or begun again, harmless.
//!
//! Not here: what facts do to a manifest (`manifest::facts`, `archive::ledger::facts`), which summary counts (`fold`).

use serde::{Deserialize, Serialize};
use sunseo_proto::TopicId;

use crate::archive::ledger::{ArchiveCut, ArchiveFile};
use crate::manifest::Manifest;
use crate::record::{PartitionRef, SegmentKey, SegmentObject, topic_id};

/// When records are summed up, and in what pieces.
#[derive(Clone, Copy, Debug)]
pub struct SummaryRule {
    /// Records between two summaries, unless the last one has more facts.
    pub records_min: u64,
    /// Bytes of facts in one part, unless a single fact is larger.
    pub part_bytes: usize,
}

impl SummaryRule {
    /// Whether so many records are enough for a new summary after one of so many facts. Writing it then costs a few facts
    /// for each record at most, and the topic is never much longer than what it comes to.
    #[must_use]
    pub fn is_due(self, records: u64, facts: u64) -> bool {
        records > self.records_min.max(facts)
    }
}

/// One piece of a manifest. None depends on those before it but for the order of incarnations and files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// What is known of a partition but for its segments and intents.
    Partition {
        #[serde(flatten)]
        partition: PartitionRef,
        topic: String,
        removed_to: i64,
        sequence: u64,
    },
    /// A segment in the store.
    Segment(SegmentObject),
    /// An announced upload.
    Intent(SegmentKey),
    /// A topic that was deleted.
    RemovedTopic {
        #[serde(with = "topic_id")]
        topic_id: TopicId,
    },
    /// An object to delete.
    Doomed { object: String, since_ms: i64 },
    /// An archive table.
    Table { table: String, topic: String },
    /// The next life of a table's topic.
    Incarnation {
        table: String,
        #[serde(with = "topic_id")]
        topic_id: TopicId,
    },
    /// How far a table is in a partition.
    Progress {
        table: String,
        #[serde(flatten)]
        partition: PartitionRef,
        through: i64,
        last_cut_ms: i64,
        incarnation: usize,
        open_cut: Option<ArchiveCut>,
    },
    /// The next file of a table.
    File { table: String, file: ArchiveFile },
    /// The next file of records that did not fit.
    BadFile { table: String, file: ArchiveFile },
}

impl Fact {
    fn stored_bytes(&self) -> usize {
        // what does not serialise is found when its part is encoded
        serde_json::to_vec(self).map_or(0, |json| json.len())
    }
}

/// Some facts of a summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryPart {
    /// Offset of the first part: the summary stands for what lies below.
    pub base: i64,
    /// Which part this is, from 0.
    pub index: u32,
    /// Parts of the summary.
    pub of: u32,
    pub facts: Vec<Fact>,
}

impl SummaryPart {
    /// The only offset at which it says anything.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.base.saturating_add(i64::from(self.index))
    }
}

/// The summary of a manifest as it is before offset `base`, at least one part.
#[must_use]
pub fn parts(manifest: &Manifest, base: i64, part_bytes: usize) -> Vec<SummaryPart> {
    let (mut chunks, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0);
    for fact in manifest.facts() {
        let more = fact.stored_bytes();
        if bytes + more > part_bytes && !chunk.is_empty() {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
        bytes += more;
        chunk.push(fact);
    }
    chunks.push(chunk);
    let of = chunks.len() as u32;
    (0..).zip(chunks).map(|(index, facts)| SummaryPart { base, index, of, facts }).collect()
}
