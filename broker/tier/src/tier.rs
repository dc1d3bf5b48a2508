//! The handle.

use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{PartitionId, TopicId};
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::TierConfig;
use crate::core::Core;
use crate::host::SharedTierHost;
use crate::report::{FlushReport, FlushRequest, RestoreReport, TierStatus, VerifyReport};
use crate::service::{self, FLUSHES_WAITING, Flush};
use crate::store::ObjectStoreHandle;
use crate::{check, status};

/// The tier of one node. Cloning shares it; it stops with [`Tier::shutdown`].
#[derive(Clone, Debug)]
pub struct Tier {
    core: Arc<Core>,
    wake: Arc<Notify>,
    flushes: mpsc::Sender<Flush>,
    stop: watch::Sender<bool>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Tier {
    /// Folds the tier's records and starts its loop. A store that does not answer is no reason to fail: see
    /// [`TierStatus::reachable`].
    ///
    /// # Errors
    /// When the host's records cannot be read or do not decode, or the cluster's name cannot be part of an object's.
    pub async fn start(
        host: SharedTierHost,
        store: ObjectStoreHandle,
        config: TierConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let core = Arc::new(Core::open(host, store, config, clock).await?);
        let wake = Arc::new(Notify::new());
        let (flushes, waiting) = mpsc::channel(FLUSHES_WAITING);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(service::run(Arc::clone(&core), Arc::clone(&wake), waiting, stopped));
        wake.notify_one();
        Ok(Self { core, wake, flushes, stop, task: Arc::new(Mutex::new(Some(task))) })
    }

    /// Something changed (a segment was sealed, a definition was put): look at once instead of at the next interval.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whole record batches beginning with the one that holds `offset`, about `max_bytes`, at least one batch; `None` when no
    /// offloaded segment holds that offset.
    ///
    /// # Errors
    /// `OBJECT_STORE` when the store does not answer, `CORRUPT_LOG` when what it gives is damaged.
    pub async fn read(&self, id: PartitionId, offset: i64, max_bytes: usize) -> Result<Option<Bytes>> {
        let find = || {
            self.core.journal.with(|manifest| {
                let partition = manifest.partition(id)?;
                let segment = partition.find(offset)?.clone();
                let next = partition.find(segment.key.end_offset).cloned();
                Some((segment, next))
            })
        };
        let Some((segment, next)) = find() else { return Ok(None) };
        match Box::pin(self.core.reader.read(&segment, next.as_ref(), offset, max_bytes)).await {
            Ok(bytes) => Ok(Some(bytes)),
            // the segment was removed while it was read
            Err(_) if find().is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Offset range that is in the store for a partition, `None` when nothing is.
    #[must_use]
    pub fn offloaded(&self, id: PartitionId) -> Option<std::ops::Range<i64>> {
        self.core.journal.with(|manifest| {
            let partition = manifest.partition(id)?;
            let first = partition.segments().next()?;
            Some(first.key.base_offset.max(partition.removed_to())..partition.offloaded_to())
        })
    }

    /// Bytes that are in the store for a partition.
    #[must_use]
    pub fn offloaded_bytes(&self, id: PartitionId) -> u64 {
        self.core.journal.with(|manifest| manifest.partition(id).map_or(0, |partition| partition.bytes()))
    }

    /// First offset whose record is at or after `timestamp_ms` among the offloaded segments, by their index: an offset
    /// at or before the exact one, within one index interval. `None` when all of them are older.
    ///
    /// # Errors
    /// As [`Tier::read`].
    pub async fn offset_for_time(&self, id: PartitionId, timestamp_ms: i64) -> Result<Option<i64>> {
        let segment = self.core.journal.with(|manifest| {
            manifest.partition(id)?.segments().find(|s| s.max_timestamp_ms >= timestamp_ms).cloned()
        });
        match segment {
            None => Ok(None),
            Some(segment) => self.core.reader.offset_for_time(&segment, timestamp_ms).await.map(Some),
        }
    }

    /// State of the store, the partitions and the archive tables; an empty topic means all.
    ///
    /// # Errors
    /// When the host does not answer.
    pub async fn status(&self, topic: &str) -> Result<TierStatus> {
        status::status(&self.core, topic).await
    }

    /// Reads every committed object of a topic (empty: all) back and checks it; what is wrong is in the report.
    ///
    /// # Errors
    /// `OBJECT_STORE` when the store does not answer.
    pub async fn verify(&self, topic: &str) -> Result<VerifyReport> {
        Box::pin(check::verify(&self.core, topic)).await
    }

    /// Copies offloaded segments back to the local disk. `partition: None` means every partition. Local retention applies to them
    /// again at once: raise it before.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC` for a topic with nothing here to restore to, otherwise as [`Tier::read`].
    pub async fn restore(&self, topic: &str, partition: Option<i32>) -> Result<RestoreReport> {
        Box::pin(check::restore(&self.core, topic, partition)).await
    }

    /// Offloads and archives everything now and waits for it.
    ///
    /// # Errors
    /// The first thing that failed; what could be done is done, and the rest is tried again in the background.
    pub async fn flush(&self, request: FlushRequest) -> Result<FlushReport> {
        let stopped = || Error::new(ErrorCode::Unavailable, "the tier is shutting down");
        let (answer, answered) = oneshot::channel();
        self.flushes.send((request, answer)).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Forgets a deleted topic; its objects are deleted in the background. Durable when it returns.
    ///
    /// # Errors
    /// When the record cannot be appended.
    pub async fn remove_topic(&self, topic_id: TopicId) -> Result<()> {
        service::remove_topic(&self.core, topic_id).await?;
        self.wake();
        Ok(())
    }

    /// Stops the loop and waits until it has ended. What is unfinished goes on at the next start. Reads still work.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.lock().await.take() {
            // it only ends; a panic in it was reported by the runtime
            let _ = task.await;
        }
    }
}
