//! All transactional ids of one shard. Pure: what changed becomes records, which the shard stores before it answers.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sunseo_proto::PartitionId;
use sunseo_proto::batch::Ending;
use sunseo_proto::error::{Error, ErrorCode, Result};

use super::record::TransactionRecord;
use super::state::{Change, Decided, Identity, Marker, Now, State, Step, Transaction};
use crate::TransactionConfig;

/// The outcome of a transaction on its way to partitions and groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finish {
    pub(crate) transactional_id: Arc<str>,
    /// Of the markers: the epoch after the transaction.
    pub(crate) identity: Identity,
    pub(crate) ending: Ending,
    pub(crate) partitions: Vec<PartitionId>,
    pub(crate) groups: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    transactions: BTreeMap<Arc<str>, Transaction>,
    /// Ids that changed since the records were taken, and what of them.
    changed: BTreeMap<Arc<str>, Change>,
    forgotten: Vec<(Arc<str>, i64)>,
}

impl Book {
    /// What is stored, after a start or when an append failed. Open transactions get their whole time again.
    pub(crate) fn open(mut transactions: BTreeMap<Arc<str>, Transaction>, now: Now) -> Self {
        for transaction in transactions.values_mut() {
            transaction.deadline_ms = now.elapsed_ms + i64::from(transaction.timeout_ms);
        }
        Self { transactions, ..Self::default() }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Transaction)> {
        self.transactions.iter()
    }

    pub(crate) fn get(&self, id: &str) -> Result<&Transaction> {
        self.transactions.get(id).ok_or_else(|| unknown(id))
    }

    fn get_mut(&mut self, id: &str) -> Result<(Arc<str>, &mut Transaction)> {
        let key =
            self.transactions.get_key_value(id).map(|(key, _)| Arc::clone(key)).ok_or_else(|| unknown(id))?;
        let transaction = self.transactions.get_mut(id).ok_or_else(|| unknown(id))?;
        Ok((key, transaction))
    }

    fn decided(&mut self, id: Arc<str>, decided: Decided) -> Step {
        if decided.changed {
            self.changed.insert(id, Change::Whole);
        }
        decided.step
    }

    /// A new instance of a producer.
    pub(crate) fn init(
        &mut self,
        id: &str,
        timeout_ms: u32,
        spare: i64,
        now: Now,
        config: &TransactionConfig,
    ) -> Result<Step> {
        if let Ok((key, transaction)) = self.get_mut(id) {
            let decided = transaction.init(timeout_ms, spare, now);
            return Ok(self.decided(key, decided));
        }
        if self.transactions.len() >= config.ids_max {
            let message = format!(
                "{} transactional ids share the partition of this one, no more are allowed: use fewer ids, each again and again",
                config.ids_max
            );
            return Err(Error::new(ErrorCode::Overloaded, message).at("transactional_id"));
        }
        let (key, transaction): (Arc<str>, _) = (Arc::from(id), Transaction::new(spare, timeout_ms, now));
        let identity = transaction.identity;
        self.transactions.insert(Arc::clone(&key), transaction);
        self.changed.insert(key, Change::Whole);
        Ok(Step::Done(identity))
    }

    /// Partitions and groups become part of a transaction.
    pub(crate) fn join(
        &mut self,
        id: &str,
        asked: Identity,
        (partitions, groups): (&[PartitionId], &[String]),
        now: Now,
        config: &TransactionConfig,
    ) -> Result<()> {
        let (key, transaction) = self.get_mut(id)?;
        let more = partitions.iter().filter(|id| !transaction.partitions.contains(id)).count();
        let count = transaction.partitions.len() + more;
        if count > config.partitions_max {
            let message = format!(
                "a transaction over {count} partitions, at most {} are allowed: make it smaller",
                config.partitions_max
            );
            return Err(Error::new(ErrorCode::TransactionState, message));
        }
        let Some(change) = transaction.join(asked, partitions, groups, now)? else { return Ok(()) };
        match self.changed.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(change);
            }
            Entry::Occupied(mut entry) => {
                let before = entry.insert(Change::Whole);
                entry.insert(before.and(change));
            }
        }
        Ok(())
    }

    /// A producer ends its transaction.
    pub(crate) fn end(
        &mut self,
        id: &str,
        asked: Identity,
        ending: Ending,
        spare: i64,
        now: Now,
    ) -> Result<Step> {
        let (key, transaction) = self.get_mut(id)?;
        let decided = transaction.end(asked, ending, spare, now)?;
        Ok(self.decided(key, decided))
    }

    /// An operator ends a transaction.
    pub(crate) fn abort(&mut self, id: &str, now: Now) -> Result<Step> {
        let (key, transaction) = self.get_mut(id)?;
        let decided = transaction.abort(now)?;
        Ok(self.decided(key, decided))
    }

    /// Everything has the outcome but the partitions that failed; the identity of the next transaction if that is news, may be used, and
    /// none failed.
    pub(crate) fn complete(
        &mut self,
        id: &str,
        marked: Identity,
        failed: &BTreeSet<PartitionId>,
        now: Now,
    ) -> Option<Identity> {
        let (key, transaction) = self.get_mut(id).ok()?;
        if !transaction.complete(marked, failed, now) {
            return None;
        }
        let is_told = transaction.identity == marked && failed.is_empty() && transaction.is_usable();
        let identity = is_told.then_some(transaction.identity);
        self.changed.insert(key, Change::Whole);
        identity
    }

    /// Ends what has had its time.
    pub(crate) fn expire(&mut self, now: Now) {
        for (id, transaction) in &mut self.transactions {
            if transaction.expire(now) {
                tracing::info!(transactional_id = %id, timeout_ms = transaction.timeout_ms, "a transaction is aborted by its time-out");
                self.changed.insert(Arc::clone(id), Change::Whole);
            }
        }
    }

    /// Forgets ids that were silent for long.
    pub(crate) fn forget_silent(&mut self, now: Now, config: &TransactionConfig) {
        let before_ms = now.wall_ms.saturating_sub(config.id_expiry_ms);
        let is_silent = |transaction: &Transaction| {
            matches!(transaction.state, State::Empty | State::Complete(_))
                && transaction.owed.is_empty()
                && transaction.changed_ms < before_ms
        };
        let silent = self.transactions.iter().filter(|(_, transaction)| is_silent(transaction));
        let silent: Vec<_> = silent.map(|(id, t)| (Arc::clone(id), t.identity.producer_id)).collect();
        for (id, producer_id) in silent {
            self.transactions.remove(&id);
            self.changed.remove(&id);
            self.forgotten.push((id, producer_id));
        }
    }

    /// Ids that changed, with their state and what of it changed.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&Arc<str>, &Transaction, &Change)> {
        self.changed.iter().filter_map(|(id, change)| Some((id, self.transactions.get(id)?, change)))
    }

    pub(crate) fn forgotten(&self) -> impl Iterator<Item = i64> {
        self.forgotten.iter().map(|(_, producer_id)| *producer_id)
    }

    /// What must be stored before anything is answered.
    pub(crate) fn records(&self) -> Vec<TransactionRecord> {
        let gone = self.forgotten.iter().map(|(id, _)| TransactionRecord::forgotten(id));
        let changed = self.changed().map(|(id, transaction, change)| match change {
            Change::Whole => TransactionRecord::of(id, transaction),
            Change::Joined(members) => TransactionRecord::joined(id, transaction, members),
        });
        gone.chain(changed).collect()
    }

    /// Everything that counts, as records.
    pub(crate) fn snapshot(&self) -> Vec<TransactionRecord> {
        self.transactions.iter().map(|(id, transaction)| TransactionRecord::of(id, transaction)).collect()
    }

    /// What changed is stored.
    pub(crate) fn stored(&mut self) {
        self.changed.clear();
        self.forgotten.clear();
    }
}

/// What an ended transaction still asks for.
pub(crate) fn finish_of(id: &Arc<str>, transaction: &Transaction) -> Option<Finish> {
    let State::Prepare(ending) = transaction.state else { return None };
    Some(Finish {
        transactional_id: Arc::clone(id),
        identity: transaction.identity,
        ending,
        partitions: transaction.partitions.iter().copied().collect(),
        groups: transaction.groups.iter().cloned().collect(),
    })
}

/// What partitions that failed are owed of earlier transactions.
pub(crate) fn owed_of(id: &Arc<str>, transaction: &Transaction) -> Vec<Finish> {
    let mut by_end: BTreeMap<Identity, Finish> = BTreeMap::new();
    for (partition, Marker { identity, ending }) in &transaction.owed {
        let finish = by_end.entry(*identity).or_insert_with(|| Finish {
            transactional_id: Arc::clone(id),
            identity: *identity,
            ending: *ending,
            partitions: Vec::new(),
            groups: Vec::new(),
        });
        finish.partitions.push(*partition);
    }
    by_end.into_values().collect()
}

pub(crate) fn unknown(id: &str) -> Error {
    let message = format!(
        "transactional id {id:?} is not known: take an identity with InitProducer, or check the name"
    );
    Error::new(ErrorCode::UnknownTransactionalId, message).at("transactional_id")
}
