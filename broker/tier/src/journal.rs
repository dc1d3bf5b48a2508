//! The one way to change the manifest: append a record to `__tier`, then fold it.
//!
//! Invariants: records are appended one at a time and folded in the same order; memory never holds what is not durable. An
//! append whose outcome is not known is repeated before anything else is appended; the fold ignores repetitions.

use std::sync::{Arc, PoisonError, RwLock};

use sunseo_proto::error::{Error, Result};
use tokio::sync::Mutex;

use crate::host::SharedTierHost;
use crate::manifest::Manifest;
use crate::record::TierRecord;

/// The records and their fold; cloning shares it.
#[derive(Clone, Debug)]
pub struct Journal {
    host: SharedTierHost,
    manifest: Arc<RwLock<Manifest>>,
    /// Held while a record is appended; holds one whose outcome is not known.
    unsettled: Arc<Mutex<Option<TierRecord>>>,
}

impl Journal {
    /// Reads every record of the host and folds it.
    pub async fn open(host: SharedTierHost) -> Result<Self> {
        let mut manifest = Manifest::default();
        let mut from_offset = 0;
        loop {
            let records = host.read_records(from_offset).await?;
            let Some(last) = records.last() else { break };
            from_offset = last.offset + 1;
            for stored in &records {
                let record =
                    TierRecord::decode(&stored.value).map_err(|e| damaged(stored.offset, &e.to_string()))?;
                manifest.apply(&record);
            }
        }
        Ok(Self { host, manifest: Arc::new(RwLock::new(manifest)), unsettled: Arc::default() })
    }

    /// Looks at the manifest.
    pub fn with<T>(&self, look: impl FnOnce(&Manifest) -> T) -> T {
        // applying a record does not panic half-way in a way that matters: the fold is rebuilt at the next start
        look(&self.manifest.read().unwrap_or_else(PoisonError::into_inner))
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
            let mut unsettled = journal.unsettled.lock().await;
            for record in unsettled.take().into_iter().chain(record) {
                journal.settle(&mut unsettled, record).await?;
            }
            Ok(())
        })
        .await
        .unwrap_or_else(|_| Err(Error::internal("a tier record was not appended: the tier is shutting down")))
    }

    async fn settle(&self, unsettled: &mut Option<TierRecord>, record: TierRecord) -> Result<()> {
        match self.host.append_record(record.encode()).await {
            Ok(()) => {
                self.manifest.write().unwrap_or_else(PoisonError::into_inner).apply(&record);
                Ok(())
            }
            Err(error) => {
                *unsettled = Some(record);
                Err(error)
            }
        }
    }
}

fn damaged(offset: i64, what: &str) -> Error {
    Error::new(
        sunseo_proto::ErrorCode::CorruptLog,
        format!("tier record at offset {offset} of __tier does not decode: {what}; the tier stays closed"),
    )
}
