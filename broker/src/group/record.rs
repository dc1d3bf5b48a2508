//! Groups as they are stored in `__offsets`: each record says how one group's membership or some of its offsets are now; the last one
//! counts. Protocol buffers inside an envelope.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use sunseo_proto::TopicId;
use sunseo_proto::envelope::{self, EnvelopeError, kind};

use crate::folded::Fold;
use crate::metadata::internal_topics::{OFFSETS, SystemTopic};

use super::membership::JOIN_EPOCH;
use super::{Assignor, CommittedOffset, Grant, Group, Member, TopicFact, TopicPartition};

const RECORD_VERSION: u8 = 1;
/// Offsets in one record of a snapshot.
const SNAPSHOT_OFFSETS: usize = 1_000;

/// One stored fact.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GroupRecord {
    #[prost(string, tag = "1")]
    pub(crate) group: String,
    #[prost(oneof = "Change", tags = "2, 3, 4, 5, 6")]
    pub(crate) change: Option<Change>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Change {
    #[prost(message, tag = "2")]
    Membership(Membership),
    #[prost(message, tag = "3")]
    Offsets(Offsets),
    #[prost(bool, tag = "4")]
    Deleted(bool),
    #[prost(message, tag = "5")]
    Pending(Pending),
    #[prost(message, tag = "6")]
    Ended(Ended),
}

/// Offsets of a transaction that has not ended.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Pending {
    #[prost(int64, tag = "1")]
    producer_id: i64,
    #[prost(int32, tag = "2")]
    epoch: i32,
    #[prost(message, repeated, tag = "3")]
    offsets: Vec<StoredOffset>,
}

/// The end of a transaction; the epoch is the one after it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ended {
    #[prost(int64, tag = "1")]
    producer_id: i64,
    #[prost(int32, tag = "2")]
    epoch: i32,
    #[prost(bool, tag = "3")]
    commit: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Membership {
    #[prost(int32, tag = "1")]
    epoch: i32,
    #[prost(int32, tag = "2")]
    last_member_epoch: i32,
    #[prost(string, tag = "3")]
    assignor: String,
    #[prost(message, repeated, tag = "4")]
    facts: Vec<StoredFact>,
    #[prost(message, repeated, tag = "5")]
    members: Vec<StoredMember>,
    #[prost(int64, tag = "6")]
    idle_since_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredFact {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(bytes = "vec", tag = "2")]
    topic_id: Vec<u8>,
    #[prost(int32, tag = "3")]
    partitions: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredMember {
    #[prost(string, tag = "1")]
    member_id: String,
    #[prost(string, tag = "2")]
    instance_id: String,
    #[prost(int32, tag = "3")]
    epoch: i32,
    #[prost(int32, tag = "4")]
    previous_epoch: i32,
    #[prost(string, repeated, tag = "5")]
    topics: Vec<String>,
    #[prost(uint32, tag = "6")]
    session_timeout_ms: u32,
    #[prost(message, repeated, tag = "7")]
    grants: Vec<StoredGrants>,
    #[prost(message, repeated, tag = "8")]
    target: Vec<StoredPartitions>,
    #[prost(string, repeated, tag = "9")]
    replaced: Vec<String>,
}

/// Partitions of one topic that were given in the same epoch.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredGrants {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(bytes = "vec", tag = "2")]
    topic_id: Vec<u8>,
    #[prost(int32, tag = "3")]
    since: i32,
    #[prost(bool, tag = "4")]
    revoked: bool,
    #[prost(int32, repeated, tag = "5")]
    partitions: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredPartitions {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(int32, repeated, tag = "2")]
    partitions: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Offsets {
    #[prost(message, repeated, tag = "1")]
    offsets: Vec<StoredOffset>,
    /// Wall-clock time of the commit, of a group without members.
    #[prost(int64, tag = "2")]
    idle_since_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredOffset {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(bytes = "vec", tag = "2")]
    topic_id: Vec<u8>,
    #[prost(int32, tag = "3")]
    partition: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
    #[prost(string, tag = "5")]
    metadata: String,
}

impl GroupRecord {
    pub(crate) fn membership(name: &str, group: &Group) -> Self {
        let members = group.members.iter().map(|(id, member)| StoredMember::of(id, member)).collect();
        let facts = group.facts.iter().map(|(topic, fact)| StoredFact {
            topic: topic.to_string(),
            topic_id: fact.id.as_bytes().to_vec(),
            partitions: fact.partitions,
        });
        let membership = Membership {
            epoch: group.epoch,
            last_member_epoch: group.last_member_epoch,
            assignor: group.assignor.as_str().to_owned(),
            facts: facts.collect(),
            members,
            idle_since_ms: group.idle_since_ms,
        };
        Self { group: name.to_owned(), change: Some(Change::Membership(membership)) }
    }

    /// `idle_since_ms` is the group's.
    pub(crate) fn offsets<'a>(
        name: &str,
        idle_since_ms: i64,
        offsets: impl IntoIterator<Item = (&'a TopicPartition, &'a CommittedOffset)>,
    ) -> Self {
        let offsets = offsets.into_iter().map(StoredOffset::of).collect();
        let offsets = Offsets { offsets, idle_since_ms };
        Self { group: name.to_owned(), change: Some(Change::Offsets(offsets)) }
    }

    pub(crate) fn pending<'a>(
        name: &str,
        producer_id: i64,
        epoch: i16,
        offsets: impl IntoIterator<Item = (&'a TopicPartition, &'a CommittedOffset)>,
    ) -> Self {
        let offsets = offsets.into_iter().map(StoredOffset::of).collect();
        let pending = Pending { producer_id, epoch: epoch.into(), offsets };
        Self { group: name.to_owned(), change: Some(Change::Pending(pending)) }
    }

    pub(crate) fn ended(name: &str, producer_id: i64, epoch: i16, commit: bool) -> Self {
        let ended = Ended { producer_id, epoch: epoch.into(), commit };
        Self { group: name.to_owned(), change: Some(Change::Ended(ended)) }
    }

    pub(crate) fn deleted(name: &str) -> Self {
        Self { group: name.to_owned(), change: Some(Change::Deleted(true)) }
    }

    /// Everything that counts.
    pub(crate) fn snapshot(groups: &BTreeMap<String, Group>) -> Vec<Self> {
        let mut records = Vec::new();
        for (name, group) in groups {
            records.push(Self::membership(name, group));
            let offsets: Vec<_> = group.offsets.iter().collect();
            let chunks = offsets.chunks(SNAPSHOT_OFFSETS);
            records
                .extend(chunks.map(|chunk| Self::offsets(name, group.idle_since_ms, chunk.iter().copied())));
            for (producer_id, pending) in &group.pending {
                let offsets: Vec<_> = pending.offsets.iter().collect();
                let chunks = offsets.chunks(SNAPSHOT_OFFSETS);
                records
                    .extend(chunks.map(|chunk| {
                        Self::pending(name, *producer_id, pending.epoch, chunk.iter().copied())
                    }));
            }
        }
        records
    }
}

impl Fold for GroupRecord {
    const TOPIC: SystemTopic = OFFSETS;
    const WHAT: &'static str = "consumer groups";
    type State = BTreeMap<String, Group>;

    fn to_stored(&self) -> Bytes {
        envelope::seal(kind::GROUP_RECORD, RECORD_VERSION, &self.encode_to_vec())
    }

    fn from_stored(bytes: &Bytes) -> Result<Self, EnvelopeError> {
        let (_, payload) = envelope::open_as(bytes, kind::GROUP_RECORD, RECORD_VERSION)?;
        <Self as prost::Message>::decode(payload).map_err(|e| EnvelopeError::Payload(e.to_string()))
    }

    fn fold(self, groups: &mut Self::State) -> Result<(), EnvelopeError> {
        match self.change {
            Some(Change::Membership(membership)) => {
                membership.apply(groups.entry(self.group).or_default());
            }
            Some(Change::Offsets(offsets)) => offsets.apply(groups.entry(self.group).or_default()),
            Some(Change::Deleted(_)) => {
                groups.remove(&self.group);
            }
            Some(Change::Pending(Pending { producer_id, epoch, offsets })) => {
                let offsets = offsets.into_iter().filter_map(StoredOffset::open);
                groups.entry(self.group).or_default().hold(producer_id, stored_epoch(epoch), offsets);
            }
            Some(Change::Ended(Ended { producer_id, epoch, commit })) => {
                if let Some(group) = groups.get_mut(&self.group) {
                    group.end_transaction(producer_id, stored_epoch(epoch), commit);
                }
            }
            None => {}
        }
        Ok(())
    }
}

impl Membership {
    fn apply(self, group: &mut Group) {
        // one below it would be taken for that of a member who leaves
        group.epoch = self.epoch.max(JOIN_EPOCH);
        group.last_member_epoch = self.last_member_epoch.max(JOIN_EPOCH);
        group.assignor = Assignor::parse(&self.assignor).unwrap_or_default();
        let facts = self.facts.into_iter().filter_map(|stored| {
            let id = TopicId::from_slice(&stored.topic_id)?;
            Some((Arc::from(stored.topic), TopicFact { id, partitions: stored.partitions }))
        });
        group.facts = facts.collect();
        group.members = self.members.into_iter().map(StoredMember::open).collect();
        group.idle_since_ms = self.idle_since_ms;
    }
}

impl Offsets {
    fn apply(self, group: &mut Group) {
        if self.idle_since_ms > 0 {
            group.idle_since_ms = self.idle_since_ms;
        }
        group.offsets.extend(self.offsets.into_iter().filter_map(StoredOffset::open));
    }
}

/// Epochs are stored from 16 bits.
fn stored_epoch(epoch: i32) -> i16 {
    i16::try_from(epoch).unwrap_or(i16::MAX)
}

impl StoredOffset {
    fn of((partition, committed): (&TopicPartition, &CommittedOffset)) -> Self {
        Self {
            topic: partition.topic.to_string(),
            topic_id: committed.topic_id.as_bytes().to_vec(),
            partition: partition.partition,
            offset: committed.offset,
            metadata: committed.metadata.clone(),
        }
    }

    fn open(self) -> Option<(TopicPartition, CommittedOffset)> {
        let topic_id = TopicId::from_slice(&self.topic_id)?;
        let committed = CommittedOffset { topic_id, offset: self.offset, metadata: self.metadata };
        Some((TopicPartition::new(self.topic, self.partition), committed))
    }
}

impl StoredMember {
    fn of(member_id: &str, member: &Member) -> Self {
        Self {
            member_id: member_id.to_owned(),
            instance_id: member.instance_id.clone(),
            epoch: member.epoch,
            previous_epoch: member.previous_epoch,
            topics: member.topics.iter().map(ToString::to_string).collect(),
            session_timeout_ms: member.session_timeout_ms,
            grants: stored_grants(&member.grants),
            target: stored(&member.target),
            replaced: member.replaced.clone(),
        }
    }

    fn open(self) -> (String, Member) {
        let member = Member {
            instance_id: self.instance_id,
            replaced: self.replaced,
            epoch: self.epoch.max(JOIN_EPOCH),
            previous_epoch: self.previous_epoch.max(JOIN_EPOCH),
            topics: self.topics.into_iter().map(Arc::from).collect(),
            session_timeout_ms: self.session_timeout_ms,
            grants: self.grants.into_iter().flat_map(StoredGrants::open).collect(),
            target: opened(self.target),
            deadline_ms: 0,
        };
        (self.member_id, member)
    }
}

impl StoredGrants {
    fn open(self) -> impl Iterator<Item = (TopicPartition, Grant)> {
        let Self { topic, topic_id, since, revoked, partitions } = self;
        let topic: Arc<str> = Arc::from(topic);
        // an identity that is none of ours belongs to no topic: what was given under it is taken back
        let topic_id = TopicId::from_slice(&topic_id).unwrap_or(TopicId(uuid::Uuid::nil()));
        let grant = Grant { topic_id, since, revoked };
        partitions.into_iter().map(move |partition| (TopicPartition::new(topic.clone(), partition), grant))
    }
}

fn stored_grants(grants: &BTreeMap<TopicPartition, Grant>) -> Vec<StoredGrants> {
    let mut runs: Vec<StoredGrants> = Vec::new();
    for (TopicPartition { topic, partition }, grant) in grants {
        let same = |run: &&mut StoredGrants| {
            *run.topic == **topic
                && run.topic_id == grant.topic_id.as_bytes()
                && (run.since, run.revoked) == (grant.since, grant.revoked)
        };
        match runs.last_mut().filter(same) {
            Some(run) => run.partitions.push(*partition),
            None => runs.push(StoredGrants {
                topic: topic.to_string(),
                topic_id: grant.topic_id.as_bytes().to_vec(),
                since: grant.since,
                revoked: grant.revoked,
                partitions: vec![*partition],
            }),
        }
    }
    runs
}

fn stored(partitions: &BTreeSet<TopicPartition>) -> Vec<StoredPartitions> {
    let mut by_topic: Vec<StoredPartitions> = Vec::new();
    for TopicPartition { topic, partition } in partitions {
        match by_topic.last_mut().filter(|last| *last.topic == **topic) {
            Some(last) => last.partitions.push(*partition),
            None => {
                by_topic.push(StoredPartitions { topic: topic.to_string(), partitions: vec![*partition] })
            }
        }
    }
    by_topic
}

fn opened(stored: Vec<StoredPartitions>) -> BTreeSet<TopicPartition> {
    let partitions = stored.into_iter().flat_map(|StoredPartitions { topic, partitions }| {
        let topic: Arc<str> = Arc::from(topic);
        partitions.into_iter().map(move |partition| TopicPartition::new(topic.clone(), partition))
    });
    partitions.collect()
}
