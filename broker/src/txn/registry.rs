//! What the coordinator lets pass, for those who take appends: the log's thread asks before each transactional batch, a group before
//! offsets. This is the seam behind which a coordinator on another node comes.
//!
//! A permission is published after it is stored; it is taken back before the end of a transaction is stored. So at any time the registry
//! permits no more than what is stored and not ended.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sunseo_proto::PartitionId;
use sunseo_proto::batch::BatchHeader;
use sunseo_proto::error::{Error, ErrorCode, Result};

use super::state::{Ended, Identity, Members, State, Transaction, refuse};

/// A producer id that belongs to a transactional id.
#[derive(Debug)]
struct Entry {
    transactional_id: Arc<str>,
    epoch: i16,
    ended: Option<Ended>,
    /// Of the open transaction.
    partitions: BTreeSet<PartitionId>,
    groups: BTreeSet<String>,
}

/// What a batch needs before it may be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ready,
    /// Its partition must become part of the transaction first.
    MustJoin,
}

#[derive(Debug, Default)]
struct Entries {
    by_producer: HashMap<i64, Entry>,
    /// The producer id that each transactional id has now.
    producers: HashMap<Arc<str>, i64>,
}

/// Shared by the coordinator, which changes it, and those who ask.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: RwLock<Entries>,
}

impl Registry {
    /// Takes back whatever the transaction does not permit any more; permits nothing new.
    pub(crate) fn restrict(&self, transaction: &Transaction) {
        let mut entries = self.write();
        let Identity { producer_id, epoch } = transaction.identity;
        if let Some(entry) = entries.by_producer.get_mut(&producer_id)
            && (transaction.state != State::Ongoing || entry.epoch != epoch)
        {
            (entry.epoch, entry.ended) = (epoch, transaction.ended);
            entry.partitions.clear();
            entry.groups.clear();
        }
    }

    /// Says how a transactional id stands now that it is stored.
    pub(crate) fn publish(&self, transactional_id: &Arc<str>, transaction: &Transaction) {
        let mut entries = self.write();
        let Identity { producer_id, epoch } = transaction.identity;
        let before = entries.producers.insert(Arc::clone(transactional_id), producer_id);
        if let Some(before) = before.filter(|before| *before != producer_id) {
            entries.by_producer.remove(&before);
        }
        let is_open = transaction.state == State::Ongoing;
        let entry = Entry {
            transactional_id: Arc::clone(transactional_id),
            epoch,
            ended: transaction.ended,
            partitions: if is_open { transaction.partitions.clone() } else { BTreeSet::new() },
            groups: if is_open { transaction.groups.clone() } else { BTreeSet::new() },
        };
        entries.by_producer.insert(producer_id, entry);
    }

    /// Permits more of a transaction that is published, now that it is stored.
    pub(crate) fn permit(&self, of: Identity, members: &Members) {
        let mut entries = self.write();
        if let Some(entry) =
            entries.by_producer.get_mut(&of.producer_id).filter(|entry| entry.epoch == of.epoch)
        {
            entry.partitions.extend(&members.partitions);
            entry.groups.extend(members.groups.iter().cloned());
        }
    }

    pub(crate) fn forget(&self, producer_id: i64) {
        let mut entries = self.write();
        if let Some(gone) = entries.by_producer.remove(&producer_id) {
            entries.producers.remove(&gone.transactional_id);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        // nothing panics while it holds the lock
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a batch may be queued, before its partition is known to take it.
    pub(crate) fn standing(
        &self,
        transactional_id: &str,
        header: &BatchHeader,
        id: PartitionId,
    ) -> Result<Standing> {
        let entries = self.read();
        let entries = &entries.by_producer;
        if !header.is_transactional() {
            return check(entries, header, id).map(|()| Standing::Ready);
        }
        let entry = entries.get(&header.producer_id).ok_or_else(|| unknown(header))?;
        if *entry.transactional_id != *transactional_id {
            let message = format!(
                "producer {} belongs to transactional id {:?}, the request names {transactional_id:?}",
                header.producer_id, entry.transactional_id
            );
            return Err(Error::invalid("transactional_id", message));
        }
        check_epoch(entry, header)?;
        Ok(if entry.partitions.contains(&id) { Standing::Ready } else { Standing::MustJoin })
    }

    /// Whether a partition may take a batch. Asked at the moment of the append, where its order is decided.
    pub(crate) fn check(&self, header: &BatchHeader, id: PartitionId) -> Result<()> {
        check(&self.read().by_producer, header, id)
    }

    /// Whether a group may take offsets of this transaction.
    pub(crate) fn check_group(&self, asked: Identity, group: &str) -> Result<()> {
        let entries = self.read();
        match entries.by_producer.get(&asked.producer_id) {
            Some(entry) if entry.epoch == asked.epoch && entry.groups.contains(group) => Ok(()),
            Some(entry) if entry.epoch == asked.epoch => Err(not_open()),
            Some(entry) => {
                let current = Identity { producer_id: asked.producer_id, epoch: entry.epoch };
                Err(refuse(current, entry.ended, asked))
            }
            None => Err(not_open()),
        }
    }
}

fn check(entries: &HashMap<i64, Entry>, header: &BatchHeader, id: PartitionId) -> Result<()> {
    // markers are the coordinator's own
    if header.is_control() {
        return Ok(());
    }
    match entries.get(&header.producer_id) {
        None if !header.is_transactional() => Ok(()),
        None => Err(unknown(header)),
        Some(entry) if !header.is_transactional() => {
            let message = format!(
                "producer {} belongs to transactional id {:?}: send its batches as transactional (attribute bit 4)",
                header.producer_id, entry.transactional_id
            );
            Err(Error::new(ErrorCode::TransactionState, message))
        }
        Some(entry) => {
            check_epoch(entry, header)?;
            if entry.partitions.contains(&id) { Ok(()) } else { Err(not_open()) }
        }
    }
}

fn check_epoch(entry: &Entry, header: &BatchHeader) -> Result<()> {
    let asked = Identity { producer_id: header.producer_id, epoch: header.producer_epoch };
    if entry.epoch == asked.epoch {
        return Ok(());
    }
    let current = Identity { producer_id: header.producer_id, epoch: entry.epoch };
    Err(refuse(current, entry.ended, asked))
}

fn unknown(header: &BatchHeader) -> Error {
    let message = format!(
        "producer {} has no transactional id: it was replaced or forgotten; take an identity with InitProducer and a transactional id",
        header.producer_id
    );
    Error::new(ErrorCode::ProducerFenced, message)
}

fn not_open() -> Error {
    let message =
        "the transaction is not open any more: it was ended meanwhile; abort it and begin the next one";
    Error::new(ErrorCode::TransactionState, message)
}
