//! A manifest as facts and back.

use sunseo_proto::PartitionId;

use super::{Manifest, PartitionManifest};
use crate::summary::Fact;

impl PartitionManifest {
    fn facts(&self, id: PartitionId) -> impl Iterator<Item = Fact> {
        // every field by name, here and below: one that is added cannot be forgotten
        let Self { topic, segments, intents, removed_to, sequence } = self;
        let (topic, removed_to, sequence) = (topic.clone(), *removed_to, *sequence);
        let head = Fact::Partition { partition: id.into(), topic, removed_to, sequence };
        let segments = segments.values().cloned().map(Fact::Segment);
        let intents = intents.values().cloned().map(Fact::Intent);
        std::iter::once(head).chain(segments).chain(intents)
    }
}

impl Manifest {
    /// Facts that add up to this manifest when an empty one takes them in, in their order.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact> {
        let Self { partitions, removed_topics, doomed, archive } = self;
        let mut facts: Vec<Fact> = partitions.iter().flat_map(|(id, p)| p.facts(*id)).collect();
        facts.extend(removed_topics.iter().map(|&topic_id| Fact::RemovedTopic { topic_id }));
        let doomed = doomed.iter().map(|(object, &since_ms)| (object.clone(), since_ms));
        facts.extend(doomed.map(|(object, since_ms)| Fact::Doomed { object, since_ms }));
        facts.extend(archive.facts());
        facts
    }

    /// Takes in one fact of a summary. Other than a record it decides nothing: all of that was done before it was written down.
    pub fn take_in(&mut self, fact: Fact) {
        match fact {
            Fact::Partition { partition, topic, removed_to, sequence } => {
                let into = self.partitions.entry(partition.id()).or_default();
                (into.topic, into.removed_to, into.sequence) = (topic, removed_to, sequence);
            }
            Fact::Segment(segment) => {
                let into = self.partitions.entry(segment.key.partition.id()).or_default();
                into.segments.insert(segment.key.base_offset, segment);
            }
            Fact::Intent(key) => {
                let into = self.partitions.entry(key.partition.id()).or_default();
                into.intents.insert(key.object.clone(), key);
            }
            Fact::RemovedTopic { topic_id } => {
                self.removed_topics.insert(topic_id);
            }
            Fact::Doomed { object, since_ms } => {
                self.doomed.insert(object, since_ms);
            }
            Fact::Table { .. }
            | Fact::Incarnation { .. }
            | Fact::Progress { .. }
            | Fact::File { .. }
            | Fact::BadFile { .. } => self.archive.take_in(fact),
        }
    }
}
