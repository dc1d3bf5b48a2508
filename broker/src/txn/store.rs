//! The records of one partition of `__transactions`: read, append, snapshot, trim.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::PartitionId;
use sunseo_proto::error::{Error, ErrorCode, Result};

use super::record::TransactionRecord;
use super::state::Transaction;
use crate::internal::{PartitionSettings, SharedInternalLog};
use crate::metadata::internal_topics::{TRANSACTIONS, system_config};

/// Bytes of records in one append, unless a single record is larger.
const APPEND_BYTES_MAX: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct Store {
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
    pub(crate) async fn open(log: SharedInternalLog, id: PartitionId) -> Result<Self> {
        log.ensure(id, PartitionSettings::new(TRANSACTIONS.name, &system_config())).await?;
        Ok(Self { log, id, next: 0, since_snapshot: 0, unsure: true, trim_before: None })
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.id
    }

    /// Whether an append failed: what is stored may not be what is in memory, and must be read before anything else.
    pub(crate) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Whether the whole state is to be written anew.
    pub(crate) fn is_snapshot_due(&self, snapshot_records: u64) -> bool {
        self.since_snapshot >= snapshot_records.max(1)
    }

    /// Folds all records.
    pub(crate) async fn load(&mut self) -> Result<BTreeMap<Arc<str>, Transaction>> {
        let mut transactions = BTreeMap::new();
        let mut next = self.log.start(self.id).await?;
        let mut read = 0;
        loop {
            let records = self.log.read(self.id, next).await?;
            let Some((last, _)) = records.last() else { break };
            next = last + 1;
            for (offset, bytes) in &records {
                read += 1;
                let folded =
                    TransactionRecord::decode(bytes).and_then(|record| record.apply(&mut transactions));
                folded.map_err(|error| {
                    let message = format!(
                        "the record at offset {offset} of {}-{} does not decode: {error}; its transactions stay closed",
                        TRANSACTIONS.name, self.id.partition
                    );
                    Error::new(ErrorCode::CorruptLog, message)
                })?;
            }
        }
        (self.next, self.since_snapshot, self.unsure) = (next, read, false);
        Ok(transactions)
    }

    /// Makes records durable, all before it returns. After an error any of them may be stored.
    pub(crate) async fn append(&mut self, records: &[TransactionRecord]) -> Result<()> {
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
                TRANSACTIONS.name, self.id.partition
            );
            return Err(Error::new(ErrorCode::Unavailable, message));
        }
        self.next = last + 1;
        self.since_snapshot += count as u64;
        self.unsure = false;
        Ok(())
    }

    /// Writes everything that counts, and drops what lies before it. What fails is tried again later.
    pub(crate) async fn write_snapshot(&mut self, records: &[TransactionRecord]) {
        let before = self.next;
        match self.append(records).await {
            // repeating everything that counts, it can stand in the place of all before it
            Ok(()) => (self.trim_before, self.since_snapshot) = (Some(before), 0),
            Err(error) => {
                tracing::warn!(%error, partition = %self.id, "no snapshot of the transactions, trying again")
            }
        }
    }

    /// Drops what a snapshot stands for.
    pub(crate) async fn trim(&mut self) {
        let Some(before) = self.trim_before else { return };
        match self.log.trim(self.id, before).await {
            Ok(()) => self.trim_before = None,
            Err(error) => {
                tracing::warn!(%error, partition = %self.id, before, "records of transactions were not trimmed, trying again");
            }
        }
    }
}
