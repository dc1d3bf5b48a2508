//! The fold of the tier's records: which segments are in the store, what was announced, what waits for deletion. Pure.
//!
//! Rules, the same on every node because only the order of the records decides:
//! - Of commits that overlap, the first one counts; the other object is doomed.
//! - A commit without a live intent is nothing: its object was abandoned and may be gone.
//! - A repeated record changes nothing (the append of a record whose outcome was unknown is repeated).
//! - An object that was named and is no longer needed is doomed until its deletion is recorded.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sunseo_proto::{PartitionId, TopicId};

use crate::archive::ledger::ArchiveLedger;
use crate::record::{SegmentKey, SegmentObject, TierRecord};

mod facts;

/// Everything the records say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    partitions: BTreeMap<PartitionId, PartitionManifest>,
    removed_topics: BTreeSet<TopicId>,
    doomed: BTreeMap<String, i64>,
    archive: ArchiveLedger,
}

/// One partition's segments in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionManifest {
    /// Name of the topic, for people.
    pub topic: String,
    segments: BTreeMap<i64, SegmentObject>,
    intents: BTreeMap<String, SegmentKey>,
    /// Records below it are gone for good.
    removed_to: i64,
    /// Counts the changes of `segments`; names the exported copy.
    sequence: u64,
}

impl PartitionManifest {
    /// Committed segments, oldest first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &SegmentObject> {
        self.segments.values()
    }

    /// Announced uploads without a commit.
    pub fn intents(&self) -> impl Iterator<Item = &SegmentKey> {
        self.intents.values()
    }

    /// Records below it are gone for good.
    #[must_use]
    pub fn removed_to(&self) -> i64 {
        self.removed_to
    }

    /// Counts the changes.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Offset after the last record in the store.
    #[must_use]
    pub fn offloaded_to(&self) -> i64 {
        self.segments
            .last_key_value()
            .map_or(self.removed_to, |(_, last)| last.key.end_offset.max(self.removed_to))
    }

    /// The segment that holds `offset`.
    #[must_use]
    pub fn find(&self, offset: i64) -> Option<&SegmentObject> {
        let (_, segment) = self.segments.range(..=offset).next_back()?;
        (offset < segment.key.end_offset && offset >= self.removed_to).then_some(segment)
    }

    /// Whether every offset of `from..to` is in the store.
    #[must_use]
    pub fn covers(&self, from: i64, to: i64) -> bool {
        let mut next = from;
        while next < to {
            match self.find(next) {
                Some(segment) => next = segment.key.end_offset,
                None => return false,
            }
        }
        true
    }

    /// Bytes of the committed objects.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(SegmentObject::object_bytes).sum()
    }

    fn accepts(&self, segment: &SegmentObject) -> bool {
        let follows = self.segments.last_key_value().is_none_or(|(&base, _)| segment.key.base_offset > base);
        follows && segment.key.end_offset > self.offloaded_to()
    }
}

impl Manifest {
    /// Takes one record in. A part of a summary changes nothing: the fold of the topic knows which of them count.
    pub fn apply(&mut self, record: &TierRecord) {
        match record {
            TierRecord::Intent(key) => self.intend(key),
            TierRecord::Committed(segment) => self.commit(segment),
            TierRecord::Abandoned { key, at_ms } => self.abandon(key, *at_ms),
            TierRecord::Removed { partition, through, at_ms } => {
                self.remove(partition.id(), *through, *at_ms)
            }
            TierRecord::Deleted { objects } => {
                for object in objects {
                    self.doomed.remove(object);
                }
            }
            TierRecord::TopicRemoved { topic_id, at_ms } => self.remove_topic(*topic_id, *at_ms),
            TierRecord::ArchiveOpened(_) | TierRecord::ArchiveCut(_) | TierRecord::ArchiveDone(_) => {
                self.archive.apply(record);
            }
            TierRecord::Summary(_) => {}
        }
    }

    fn partition_of(&mut self, key: &SegmentKey) -> Option<&mut PartitionManifest> {
        if self.removed_topics.contains(&key.partition.topic_id) {
            self.doomed.entry(key.object.clone()).or_insert(key.at_ms);
            return None;
        }
        let partition = self.partitions.entry(key.partition.id()).or_default();
        partition.topic.clone_from(&key.topic);
        Some(partition)
    }

    fn intend(&mut self, key: &SegmentKey) {
        if let Some(partition) = self.partition_of(key) {
            let known = partition.segments.get(&key.base_offset).is_some_and(|s| s.key.object == key.object);
            if !known {
                partition.intents.insert(key.object.clone(), key.clone());
            }
        }
    }

    fn commit(&mut self, segment: &SegmentObject) {
        let key = &segment.key;
        let Some(partition) = self.partition_of(key) else { return };
        if partition.intents.remove(&key.object).is_none() {
            return;
        }
        if partition.accepts(segment) {
            partition.segments.insert(key.base_offset, segment.clone());
            partition.sequence = partition.sequence.saturating_add(1);
        } else {
            self.doomed.entry(key.object.clone()).or_insert(key.at_ms);
        }
    }

    fn abandon(&mut self, key: &SegmentKey, at_ms: i64) {
        let partition = self.partitions.get_mut(&key.partition.id());
        if partition.and_then(|p| p.intents.remove(&key.object)).is_some() {
            self.doomed.entry(key.object.clone()).or_insert(at_ms);
        }
    }

    fn remove(&mut self, id: PartitionId, through: i64, at_ms: i64) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if through <= partition.removed_to {
            return;
        }
        partition.removed_to = through;
        partition.sequence = partition.sequence.saturating_add(1);
        let gone: Vec<i64> = partition
            .segments
            .values()
            .filter(|s| s.key.end_offset <= through)
            .map(|s| s.key.base_offset)
            .collect();
        for base in gone {
            if let Some(segment) = partition.segments.remove(&base) {
                self.doomed.insert(segment.key.object, at_ms);
            }
        }
    }

    fn remove_topic(&mut self, topic_id: TopicId, at_ms: i64) {
        if !self.removed_topics.insert(topic_id) {
            return;
        }
        let ids: Vec<PartitionId> =
            self.partitions.keys().filter(|id| id.topic_id == topic_id).copied().collect();
        for partition in ids.iter().filter_map(|id| self.partitions.remove(id)) {
            let committed = partition.segments.into_values().map(|s| s.key.object);
            for object in committed.chain(partition.intents.into_keys()) {
                self.doomed.insert(object, at_ms);
            }
        }
        self.archive.remove_topic(topic_id);
    }

    /// A partition, if anything was ever said about it.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionManifest> {
        self.partitions.get(&id)
    }

    /// Every partition.
    pub fn partitions(&self) -> impl Iterator<Item = (&PartitionId, &PartitionManifest)> {
        self.partitions.iter()
    }

    /// Objects to delete, with the time since when.
    #[must_use]
    pub fn doomed(&self) -> &BTreeMap<String, i64> {
        &self.doomed
    }

    /// Whether a topic was removed.
    #[must_use]
    pub fn is_removed(&self, topic_id: TopicId) -> bool {
        self.removed_topics.contains(&topic_id)
    }

    /// The archive's part.
    #[must_use]
    pub fn archive(&self) -> &ArchiveLedger {
        &self.archive
    }

    /// The records that fold to one partition's segments: its exported copy for the bucket.
    #[must_use]
    pub fn export(&self, id: PartitionId) -> Bytes {
        let Some(partition) = self.partitions.get(&id) else { return Bytes::new() };
        let mut out = Vec::new();
        for segment in partition.segments.values() {
            out.extend_from_slice(&TierRecord::Intent(segment.key.clone()).encode());
            out.extend_from_slice(&TierRecord::Committed(segment.clone()).encode());
        }
        let removed =
            TierRecord::Removed { partition: id.into(), through: partition.removed_to, at_ms: 0 }.encode();
        out.extend_from_slice(&removed);
        Bytes::from(out)
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
