//! The handle.

use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{PartitionId, TopicId};

use crate::config::TierConfig;
use crate::host::SharedTierHost;
use crate::report::{FlushReport, FlushRequest, RestoreReport, TierStatus, VerifyReport};
use crate::store::ObjectStoreHandle;

/// The tier of one node. Cloning shares it; it stops with [`Tier::shutdown`].
#[derive(Clone, Debug)]
pub struct Tier {
    _host: SharedTierHost,
}

fn starting() -> Error {
    Error::new(ErrorCode::Unavailable, "the tier is starting: try again")
}

impl Tier {
    /// Folds the tier's records and starts its loops. A store that does not answer is no reason to fail: see [`TierStatus::reachable`].
    ///
    /// # Errors
    /// When the host's records cannot be read or do not decode.
    pub async fn start(
        host: SharedTierHost,
        store: ObjectStoreHandle,
        config: TierConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let _ = (store, config, clock);
        Ok(Self { _host: host })
    }

    /// Something changed (a segment was sealed, a definition was put): look at once instead of at the next interval.
    pub fn wake(&self) {}

    /// Whole record batches beginning with the one that holds `offset`, about `max_bytes`, at least one batch; `None` when no
    /// offloaded segment holds that offset.
    ///
    /// # Errors
    /// `OBJECT_STORE` when the store does not answer, `CORRUPT_LOG` when what it gives is damaged.
    pub async fn read(&self, id: PartitionId, offset: i64, max_bytes: usize) -> Result<Option<Bytes>> {
        let _ = (id, offset, max_bytes);
        Err(starting())
    }

    /// State of the store, the partitions and the archive tables; an empty topic means all.
    pub async fn status(&self, topic: &str) -> Result<TierStatus> {
        let _ = topic;
        Err(starting())
    }

    /// Reads every committed object of a topic (empty: all) back and checks it.
    pub async fn verify(&self, topic: &str) -> Result<VerifyReport> {
        let _ = topic;
        Err(starting())
    }

    /// Copies offloaded segments back to the local disk. `partition: None` means every partition.
    pub async fn restore(&self, topic: &str, partition: Option<i32>) -> Result<RestoreReport> {
        let _ = (topic, partition);
        Err(starting())
    }

    /// Offloads and archives everything now and waits for it.
    pub async fn flush(&self, request: FlushRequest) -> Result<FlushReport> {
        let _ = request;
        Err(starting())
    }

    /// Forgets a deleted topic; its objects are deleted in the background. Durable when it returns.
    pub async fn remove_topic(&self, topic_id: TopicId) -> Result<()> {
        let _ = topic_id;
        Err(starting())
    }

    /// Stops the loops and waits until they have ended. What is unfinished goes on at the next start.
    pub async fn shutdown(&self) {}
}
