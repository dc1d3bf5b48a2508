//! The records of one partition of `__offsets`: read, append, snapshot, trim.

use std::collections::BTreeMap;

use bytes::Bytes;
use sunseo_proto::PartitionId;
use sunseo_proto::error::{Error, ErrorCode, Result};

use crate::group::Group;
use crate::group::record::GroupRecord;
use crate::internal::{PartitionSettings, SharedInternalLog};
use crate::metadata::internal_topics::{OFFSETS, system_config};

/// Bytes of records in one append, unless a single record is larger.
const APPEND_BYTES_MAX: usize = 8 << 20;
/// Offsets in one record of a snapshot.
const SNAPSHOT_OFFSETS: usize = 1_000;

#[derive(Debug)]
pub(super) struct Store {
    log: SharedInternalLog,
    id: PartitionId,
    /// Offset of the next record.
    next: i64,
    since_snapshot: u64,
    /// The log may hold more than was read and written here.
    unsure: bool,
    /// Offset below which the log is not needed and still there.
    trim_before: Option<i64>,
}

impl Store {
    pub(super) async fn open(log: SharedInternalLog, id: PartitionId) -> Result<Self> {
        log.ensure(id, PartitionSettings::new(OFFSETS.name, &system_config())).await?;
        Ok(Self { log, id, next: 0, since_snapshot: 0, unsure: true, trim_before: None })
    }

    pub(super) fn id(&self) -> PartitionId {
        self.id
    }

    /// Whether an append failed: what is stored may not be what is in memory, and must be read before anything else.
    pub(super) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Folds all records.
    pub(super) async fn load(&mut self) -> Result<BTreeMap<String, Group>> {
        let mut groups = BTreeMap::new();
        let mut next = self.log.start(self.id).await?;
        let mut read = 0;
        loop {
            let records = self.log.read(self.id, next).await?;
            let Some((last, _)) = records.last() else { break };
            next = last + 1;
            for (offset, bytes) in &records {
                read += 1;
                self.decode(*offset, bytes)?.apply(&mut groups);
            }
        }
        (self.next, self.since_snapshot, self.unsure) = (next, read, false);
        Ok(groups)
    }

    fn decode(&self, offset: i64, bytes: &Bytes) -> Result<GroupRecord> {
        GroupRecord::decode(bytes).map_err(|error| {
            let message = format!(
                "the record at offset {offset} of {}-{} does not decode: {error}; its groups stay closed",
                OFFSETS.name, self.id.partition
            );
            Error::new(ErrorCode::CorruptLog, message)
        })
    }

    /// Makes records durable, all before it returns. After an error any of them may be stored.
    pub(super) async fn append(&mut self, records: &[GroupRecord]) -> Result<()> {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for record in records {
            let encoded = record.encode();
            if bytes + encoded.len() > APPEND_BYTES_MAX && !chunk.is_empty() {
                self.append_chunk(std::mem::take(&mut chunk)).await?;
                bytes = 0;
            }
            bytes += encoded.len();
            chunk.push(encoded);
        }
        if chunk.is_empty() { Ok(()) } else { self.append_chunk(chunk).await }
    }

    async fn append_chunk(&mut self, values: Vec<Bytes>) -> Result<()> {
        let count = values.len();
        let last = self.next + i64::try_from(count).unwrap_or(i64::MAX) - 1;
        self.unsure = true;
        let at = self.log.append(self.id, values).await?;
        if at != last {
            // an earlier append whose outcome was unknown has arrived after all
            let message = format!(
                "{}-{} holds more than was known: offset {last} was expected, it is {at}; try again",
                OFFSETS.name, self.id.partition
            );
            return Err(Error::new(ErrorCode::Unavailable, message));
        }
        self.next = last + 1;
        self.since_snapshot += count as u64;
        self.unsure = false;
        Ok(())
    }

    /// Writes a snapshot when it is due, and drops what lies before it. What fails is tried again later.
    pub(super) async fn tidy(&mut self, groups: &BTreeMap<String, Group>, snapshot_records: u64) {
        if self.since_snapshot >= snapshot_records.max(1) {
            self.write_snapshot(&snapshot(groups)).await;
        }
        let Some(before) = self.trim_before else { return };
        match self.log.trim(self.id, before).await {
            Ok(()) => self.trim_before = None,
            Err(error) => {
                tracing::warn!(%error, partition = %self.id, before, "consumer groups' records were not trimmed, trying again");
            }
        }
    }

    async fn write_snapshot(&mut self, records: &[GroupRecord]) {
        let before = self.next;
        match self.append(records).await {
            // repeating everything that counts, it can stand in the place of all before it
            Ok(()) => (self.trim_before, self.since_snapshot) = (Some(before), 0),
            Err(error) => {
                tracing::warn!(%error, partition = %self.id, "no snapshot of the consumer groups, trying again");
            }
        }
    }
}

/// Everything that counts, as records.
fn snapshot(groups: &BTreeMap<String, Group>) -> Vec<GroupRecord> {
    let mut records = Vec::new();
    for (name, group) in groups {
        records.push(GroupRecord::membership(name, group));
        let offsets: Vec<_> = group.offsets.iter().collect();
        let chunks = offsets.chunks(SNAPSHOT_OFFSETS);
        records.extend(
            chunks.map(|chunk| GroupRecord::offsets(name, group.idle_since_ms, chunk.iter().copied())),
        );
        for (producer_id, pending) in &group.pending {
            let offsets: Vec<_> = pending.offsets.iter().collect();
            let chunks = offsets.chunks(SNAPSHOT_OFFSETS);
            records.extend(
                chunks.map(|chunk| {
                    GroupRecord::pending(name, *producer_id, pending.epoch, chunk.iter().copied())
                }),
            );
        }
    }
    records
}
