//! The one way to change the manifest: append a record to `__tier`, then fold it.
//!
//! Invariants: records are appended one at a time and folded in the order in which they lie in the topic; memory never holds what
//! is not durable. An append whose outcome is not known is repeated before any other record is appended; the fold ignores
//! repetitions. A part of a summary is not: without it that summary is void. Where the topic turns out to hold more than was
//! known, it is read on.
//!
//! Now and then what the records come to is written down as a summary, and what lies before it is deleted: never before the
//! summary was seen whole and in its place. So the topic, and the time that a start reads it for, follow the number of objects
//! and not the age of the node.

use std::sync::{Arc, PoisonError, RwLock};

use sunseo_proto::error::{Error, ErrorCode, Result};
use tokio::sync::Mutex;

use crate::fold::Fold;
use crate::host::{SharedTierHost, StoredRecord};
use crate::manifest::Manifest;
use crate::record::TierRecord;
use crate::summary::{SummaryRule, parts};

/// The records and their fold; cloning shares it.
#[derive(Clone, Debug)]
pub struct Journal {
    host: SharedTierHost,
    rule: SummaryRule,
    fold: Arc<RwLock<Fold>>,
    /// Held while records are appended.
    writer: Arc<Mutex<Writer>>,
}

#[derive(Debug)]
struct Writer {
    /// A record whose append has no known outcome.
    unsettled: Option<TierRecord>,
    /// First offset of the topic.
    start: i64,
    /// Records since the last summary when a newer one failed.
    failed_at: u64,
}

impl Journal {
    /// Reads every record of the host and folds it.
    pub async fn open(host: SharedTierHost, rule: SummaryRule) -> Result<Self> {
        let start = host.records_start().await?;
        let writer = Arc::new(Mutex::new(Writer { unsettled: None, start, failed_at: 0 }));
        let fold = Arc::new(RwLock::new(Fold::starting_at(start)));
        let journal = Self { host, rule, fold, writer };
        journal.read_on().await?;
        if start > 0 && journal.look(Fold::summary).is_none() {
            let message = format!(
                "__tier begins at offset {start}, and no summary there says what came before: the tier stays closed"
            );
            return Err(Error::new(ErrorCode::CorruptLog, message));
        }
        let mut writer = journal.writer.lock().await;
        journal.tidy(&mut writer).await;
        drop(writer);
        Ok(journal)
    }

    /// Looks at the manifest.
    pub fn with<T>(&self, look: impl FnOnce(&Manifest) -> T) -> T {
        self.look(|fold| look(fold.manifest()))
    }

    fn look<T>(&self, look: impl FnOnce(&Fold) -> T) -> T {
        // applying a record does not panic half-way in a way that matters: the fold is rebuilt at the next start
        look(&self.fold.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Fold)) {
        change(&mut self.fold.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Appends a record; it is durable and folded when this returns. Goes on to its end if the caller leaves.
    pub async fn append(&self, record: TierRecord) -> Result<()> {
        self.append_all(Some(record)).await
    }

    /// Repeats the append whose outcome is not known, if there is one: whoever plans must know what is in the records.
    pub async fn settle_earlier(&self) -> Result<()> {
        self.append_all(None).await
    }

    async fn append_all(&self, record: Option<TierRecord>) -> Result<()> {
        let journal = self.clone();
        tokio::spawn(async move {
            let mut writer = journal.writer.lock().await;
            for record in writer.unsettled.take().into_iter().chain(record) {
                if let Err(error) = journal.settle(record.clone()).await {
                    writer.unsettled = Some(record);
                    return Err(error);
                }
            }
            journal.tidy(&mut writer).await;
            Ok(())
        })
        .await
        .unwrap_or_else(|_| Err(Error::internal("a tier record was not appended: the tier is shutting down")))
    }

    /// Appends and folds one record; returns its offset.
    async fn settle(&self, record: TierRecord) -> Result<i64> {
        let offset = self.host.append_record(record.encode()).await?;
        let expected = self.look(Fold::next);
        if offset == expected {
            self.change(|fold| fold.apply(offset, record));
            return Ok(offset);
        }
        // what was appended earlier without an answer is there after all
        self.read_on().await?;
        if (expected..self.look(Fold::next)).contains(&offset) {
            return Ok(offset);
        }
        let message =
            format!("a tier record went to offset {offset} of __tier, {expected} or more was expected");
        Err(Error::internal(message))
    }

    /// Folds what the topic holds behind what was folded.
    async fn read_on(&self) -> Result<()> {
        loop {
            let stored = self.host.read_records(self.look(Fold::next)).await?;
            if stored.is_empty() {
                return Ok(());
            }
            let records = stored.iter().map(decode).collect::<Result<Vec<_>>>()?;
            self.change(|fold| records.into_iter().for_each(|(offset, record)| fold.apply(offset, record)));
        }
    }

    /// Writes a summary when it is due and deletes what it stands for. What fails is tried again later, a summary only after as
    /// many records as after one that went through: one that cannot be written must not fill the topic with its beginnings.
    async fn tidy(&self, writer: &mut Writer) {
        let (since, facts) = self.look(|fold| (fold.since(), fold.summary().map_or(0, |s| s.facts)));
        if self.rule.is_due(since.checked_sub(writer.failed_at).unwrap_or(since), facts) {
            let written = self.sum_up().await;
            writer.failed_at = if written.is_ok() { 0 } else { self.look(Fold::since) };
            if let Err(error) = written {
                tracing::warn!(%error, "the tier's records were not summed up, trying again later");
            }
        }
        let Some(before) = self.look(Fold::summary).map(|s| s.base).filter(|base| *base > writer.start)
        else {
            return;
        };
        match self.host.trim_records(before).await {
            Ok(()) => writer.start = before,
            Err(error) => {
                tracing::warn!(%error, before, "the tier's older records were not deleted, trying again");
            }
        }
    }

    async fn sum_up(&self) -> Result<()> {
        let (journal, part_bytes) = (self.clone(), self.rule.part_bytes);
        // a large manifest keeps a core busy, so it is done beside the runtime
        let work = move || journal.look(|fold| parts(fold.manifest(), fold.next(), part_bytes));
        let parts = tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| Error::internal(format!("summing up the tier's records stopped: {e}")))?;
        for part in parts {
            let expected = part.offset();
            let offset = self.settle(TierRecord::Summary(part)).await?;
            if offset != expected {
                let message = format!(
                    "__tier holds more than was known: offset {expected} was expected, it is {offset}"
                );
                return Err(Error::new(ErrorCode::Unavailable, message));
            }
        }
        Ok(())
    }
}

fn decode(stored: &StoredRecord) -> Result<(i64, TierRecord)> {
    let record = TierRecord::decode(&stored.value).map_err(|error| {
        let offset = stored.offset;
        let message = format!(
            "tier record at offset {offset} of __tier does not decode: {error}; the tier stays closed"
        );
        Error::new(ErrorCode::CorruptLog, message)
    })?;
    Ok((stored.offset, record))
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
