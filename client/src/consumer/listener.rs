//! What an application is told when its partitions change.

use std::sync::Arc;

use async_trait::async_trait;

use super::Consumer;

/// Topic and partition number.
pub type AssignedPartition = (Arc<str>, i32);

/// Told of changes of the assignment, inside [`Consumer::poll`] or a stream's next step, and before any record of them: so state of a
/// partition can be loaded before its first record and saved after its last one. Keep it shorter than `max_poll_interval`.
#[async_trait]
pub trait RebalanceListener: Send + Sync {
    /// These begin. Their positions are known; [`Consumer::seek`] may move them.
    async fn assigned(&self, consumer: &Consumer, partitions: &[AssignedPartition]) {
        let _ = (consumer, partitions);
    }

    /// These will be let go when this returns: everything handed out of them counts as processed, and may still be committed here.
    /// With automatic commits that happens right after.
    async fn revoked(&self, consumer: &Consumer, partitions: &[AssignedPartition]) {
        let _ = (consumer, partitions);
    }

    /// These were given to others already, because this member was not heard for too long: nothing of them can be committed.
    async fn lost(&self, consumer: &Consumer, partitions: &[AssignedPartition]) {
        let _ = (consumer, partitions);
    }
}

/// A change that was not told yet. Revocations are not here: they wait in the member until they are let go.
#[derive(Debug)]
pub(super) enum Change {
    Assigned(Vec<AssignedPartition>),
    Lost(Vec<AssignedPartition>),
}
