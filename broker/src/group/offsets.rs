//! How far a group has read.

use std::collections::BTreeMap;

use sunseo_proto::TopicId;
use sunseo_proto::error::{Error, ErrorCode, Result};

use super::membership::check_member_epoch;
use super::{Group, TopicPartition, Topics};

/// Bytes of the text that travels with a committed offset.
pub(crate) const METADATA_BYTES_MAX: usize = 4_096;

/// A committed offset. It names the topic's identity, so that it does not outlive the topic it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    pub(crate) topic_id: TopicId,
    /// The next offset to read.
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

/// Offsets of a transaction that has not ended: they count when it commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingOffsets {
    /// In which the transaction was begun.
    pub(crate) epoch: i16,
    pub(crate) offsets: BTreeMap<TopicPartition, CommittedOffset>,
}

impl Group {
    /// Keeps offsets until the transaction of this producer ends.
    pub(crate) fn hold(
        &mut self,
        producer_id: i64,
        epoch: i16,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) {
        let pending = self.pending.entry(producer_id).or_default();
        if pending.epoch != epoch {
            *pending = PendingOffsets { epoch, offsets: BTreeMap::new() };
        }
        pending.offsets.extend(offsets);
    }

    /// The transaction of a producer has ended; `epoch` is the one after it. Says whether the group held offsets of it.
    pub(crate) fn end_transaction(&mut self, producer_id: i64, epoch: i16, commits: bool) -> bool {
        if self.pending.get(&producer_id).is_none_or(|pending| pending.epoch >= epoch) {
            return false;
        }
        let pending = self.pending.remove(&producer_id).unwrap_or_default();
        if commits {
            self.offsets.extend(pending.offsets);
        }
        true
    }

    /// Whether a transaction that has not ended may still move the offset of a partition.
    pub(crate) fn is_unstable(&self, partition: &TopicPartition) -> bool {
        self.pending.values().any(|pending| pending.offsets.contains_key(partition))
    }

    /// Whether the sender may commit at all: a member with its epoch, or an administrator while there are no members.
    pub(crate) fn check_committer(&self, member_id: &str, member_epoch: i32) -> Result<()> {
        if member_id.is_empty() {
            return match self.members.len() {
                0 => Ok(()),
                members => Err(Error::new(
                    ErrorCode::GroupNotEmpty,
                    format!(
                        "the group has {members} members, offsets can be set from outside only while it has none: \
                         stop them first"
                    ),
                )),
            };
        }
        self.check_replaced(member_id)?;
        let member = self.members.get(member_id).ok_or_else(|| {
            let message = format!("member \"{member_id}\" is not in the group: join again with epoch 0");
            Error::new(ErrorCode::UnknownMember, message).at("member_id")
        })?;
        check_member_epoch(member, member_epoch)
    }

    /// Whether the member owns the partition it commits for, and did so when it made the commit.
    pub(crate) fn check_owner(
        &self,
        member_id: &str,
        member_epoch: i32,
        partition: &TopicPartition,
        topic_id: TopicId,
    ) -> Result<()> {
        let grant = self.members.get(member_id).and_then(|member| member.grants.get(partition));
        let holds = grant.is_some_and(|grant| grant.topic_id == topic_id && grant.since <= member_epoch);
        if member_id.is_empty() || holds {
            return Ok(());
        }
        let message = format!(
            "partition {} of topic \"{}\" is not this member's any more: another member goes on from the last commit",
            partition.partition, partition.topic
        );
        Err(Error::new(ErrorCode::FencedMember, message))
    }
}

/// Whether an offset and its text can be stored.
pub(crate) fn check_offset(offset: i64, metadata: &str) -> Result<()> {
    if offset < 0 {
        return Err(Error::invalid(
            "offset",
            format!("offset {offset} is negative: commit the next offset to read"),
        ));
    }
    if metadata.len() > METADATA_BYTES_MAX {
        let message = format!(
            "metadata of {} bytes is longer than {METADATA_BYTES_MAX}: keep a reference there, not the data",
            metadata.len()
        );
        return Err(Error::invalid("metadata", message));
    }
    Ok(())
}

impl Group {
    /// Forgets offsets of topics that are gone, also when another one has the name now. Says whether there were any.
    pub(crate) fn forget_gone(&mut self, topics: &dyn Topics) -> bool {
        let before = self.offsets.len();
        self.offsets.retain(|partition, committed| {
            topics.fact(&partition.topic).is_some_and(|fact| fact.id == committed.topic_id)
        });
        for pending in self.pending.values_mut() {
            pending.offsets.retain(|partition, committed| {
                topics.fact(&partition.topic).is_some_and(|fact| fact.id == committed.topic_id)
            });
        }
        self.offsets.len() != before
    }
}
