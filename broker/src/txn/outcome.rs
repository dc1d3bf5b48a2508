//! How the outcome of a transaction reaches the partitions and groups that are part of it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sunseo_proto::PartitionId;
use sunseo_proto::batch::{self, end_marker};
use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, ErrorCode, Result};

use super::book::Finish;
use super::state::Identity;
pub(crate) use super::state::Marker;
use crate::api::check::CheckedBatch;
use crate::coordinator::Coordinator;
use crate::log_thread::LogThread;
use crate::metadata::Metadata;
use crate::partition::Append;

/// First and longest wait before what did not get its outcome is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// Partitions and groups, wherever they are. Every call may be repeated.
#[async_trait]
pub(crate) trait Outcomes: Debug + Send + Sync + 'static {
    /// Writes a marker into each partition, durable and below the high watermark; in their order. A partition that is gone is success.
    async fn mark(&self, ids: &[PartitionId], marker: Marker) -> Vec<Result<()>>;

    /// Moves a group to the offsets that it was sent, or drops them. A group that is gone is success.
    async fn settle(&self, group: &str, marker: Marker) -> Result<()>;
}

/// Brings an outcome to everyone; returns when all have it, with the partitions that failed: those take nothing before a restart.
pub(crate) async fn finish(outcomes: Arc<dyn Outcomes>, work: Finish) -> BTreeSet<PartitionId> {
    let Finish { transactional_id, identity, ending, mut partitions, mut groups } = work;
    let marker = Marker { identity, ending };
    let (mut wait, mut failed) = (RETRY_FIRST, BTreeSet::new());
    loop {
        let mut trouble = None;
        let mut keep = |result: &Result<()>| {
            if let Err(error) = result {
                trouble.get_or_insert_with(|| error.clone());
            }
            result.is_err()
        };
        let settled = futures::future::join_all(groups.iter().map(|group| outcomes.settle(group, marker)));
        let (marked, settled) = tokio::join!(outcomes.mark(&partitions, marker), settled);
        let mut results = marked.iter();
        partitions.retain(|id| match results.next() {
            Some(Err(error)) if error.code == ErrorCode::PartitionFailed => {
                tracing::error!(%transactional_id, partition = %id, %error, "a partition failed before it took the end of a transaction");
                failed.insert(*id);
                false
            }
            result => result.is_some_and(&mut keep),
        });
        let mut results = settled.iter();
        groups.retain(|_| results.next().is_some_and(&mut keep));
        let Some(error) = trouble else { return failed };
        tracing::warn!(
            %transactional_id, %error, partitions = partitions.len(), groups = groups.len(),
            "the end of a transaction has not reached everyone, trying again"
        );
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_LONGEST);
    }
}

/// Partitions and groups of this node.
#[derive(Debug)]
pub(crate) struct LocalOutcomes {
    pub(crate) log: LogThread,
    pub(crate) metadata: Metadata,
    pub(crate) groups: Coordinator,
    pub(crate) clock: Arc<dyn Clock>,
}

impl LocalOutcomes {
    fn is_gone(&self, id: PartitionId) -> bool {
        let image = self.metadata.image();
        image.topic_by_id(id.topic_id).is_none_or(|topic| id.partition >= topic.partitions)
    }

    fn append(&self, id: PartitionId, marker: Marker) -> Result<Append> {
        let partition = self.log.partitions().get(id).ok_or_else(|| {
            Error::new(ErrorCode::NotLeader, format!("partition {id} is not open on this node"))
        })?;
        let Marker { identity: Identity { producer_id, epoch }, ending } = marker;
        let bytes = end_marker(producer_id, epoch, ending, self.metadata.leader_epoch(), self.clock.now_ms());
        let header = batch::validate(&bytes)?;
        Ok(Append { partition, batch: CheckedBatch { bytes, header, position: None } })
    }
}

#[async_trait]
impl Outcomes for LocalOutcomes {
    async fn mark(&self, ids: &[PartitionId], marker: Marker) -> Vec<Result<()>> {
        let mut appends = Vec::with_capacity(ids.len());
        let queued: Vec<Result<()>> =
            ids.iter().map(|id| self.append(*id, marker).map(|append| appends.push(append))).collect();
        let outcomes = match self.log.append(appends, None).await {
            Ok(outcomes) => outcomes,
            Err(error) => return ids.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut outcomes = outcomes.into_iter();
        let result = |(id, queued): (&PartitionId, Result<()>)| {
            let result = queued.and_then(|()| match outcomes.next() {
                Some(Ok(_)) => Ok(()),
                Some(Err(refused)) => Err(refused.error),
                None => Err(Error::internal("a marker without an outcome")),
            });
            if self.is_gone(*id) { Ok(()) } else { result }
        };
        ids.iter().zip(queued).map(result).collect()
    }

    async fn settle(&self, group: &str, marker: Marker) -> Result<()> {
        self.groups.end_transaction(group, marker).await
    }
}
