//! The first batch of a transaction in a partition: the partition becomes part of the transaction before the batch is queued.
//!
//! Only such requests wait for that, behind nobody and in front of nobody: a client that sends more to the same partition before the
//! answer may see its batches refused by their sequence, and nothing lost.

use std::collections::{BTreeMap, BTreeSet};

use sunseo_proto::PartitionId;
use sunseo_proto::error::{Error, Result};
use tokio::sync::oneshot;

use crate::gate::Permit;
use crate::log_thread::LogThread;
use crate::partition::{Append, Outcome};
use crate::txn::registry::Standing;
use crate::txn::{Identity, Transactions};

/// What a request's batches need before they may be queued.
#[derive(Debug, Default)]
pub(super) struct Joins {
    transactional_id: String,
    by_identity: BTreeMap<Identity, BTreeSet<PartitionId>>,
}

impl Joins {
    pub(super) fn new(transactional_id: String) -> Self {
        Self { transactional_id, by_identity: BTreeMap::new() }
    }

    /// Whether a batch may be queued, at once or after its partition has joined.
    pub(super) fn add(&mut self, transactions: &Transactions, append: &Append) -> Result<()> {
        let (header, id) = (&append.batch.header, append.partition.id);
        if header.is_transactional() && self.transactional_id.is_empty() {
            let message =
                "the batch is transactional and the request names no transactional id: set transactional_id";
            return Err(Error::invalid("transactional_id", message));
        }
        if transactions.registry().standing(&self.transactional_id, header, id)? == Standing::MustJoin {
            self.by_identity.entry(identity_of(append)).or_default().insert(id);
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_identity.is_empty()
    }

    /// Joins, then queues what may be; each append has its outcome, in their order.
    pub(super) async fn append(
        self,
        transactions: Transactions,
        log: LogThread,
        appends: Vec<Append>,
        reply: oneshot::Sender<Vec<Outcome>>,
        permit: Permit,
    ) {
        let mut refused: BTreeMap<Identity, Error> = BTreeMap::new();
        for (identity, partitions) in &self.by_identity {
            let partitions = partitions.iter().copied().collect();
            let joined = transactions.join(&self.transactional_id, *identity, partitions, Vec::new()).await;
            if let Err(error) = joined {
                refused.insert(*identity, error);
            }
        }
        let is_refused = |append: &Append| {
            let identity = identity_of(append);
            let waits = self.by_identity.get(&identity).is_some_and(|ids| ids.contains(&append.partition.id));
            refused.get(&identity).filter(|_| waits).cloned()
        };
        let verdicts: Vec<Option<Error>> = appends.iter().map(is_refused).collect();
        let verdict = |index: usize| verdicts[index].is_none();
        let kept =
            appends.into_iter().enumerate().filter(|(index, _)| verdict(*index)).map(|(_, append)| append);
        let Ok(outcomes) = log.append(kept.collect(), Some(permit)).await else { return };
        let mut outcomes = outcomes.into_iter();
        let unanswered = || Err(Error::internal("an append without an outcome").into());
        let merged = verdicts.into_iter().map(|verdict| match verdict {
            Some(error) => Err(error.into()),
            None => outcomes.next().unwrap_or_else(unanswered),
        });
        // who asked may have left; the appends stand all the same
        let _ = reply.send(merged.collect());
    }
}

fn identity_of(append: &Append) -> Identity {
    let header = &append.batch.header;
    Identity { producer_id: header.producer_id, epoch: header.producer_epoch }
}
