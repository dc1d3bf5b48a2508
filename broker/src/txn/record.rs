//! Transactional ids as they are stored in `__transactions`: a record says how one id is now, that it is forgotten, or what became part of
//! its open transaction since; the last one counts. Protocol buffers inside an envelope.
//!
//! What becomes part of a transaction is stored alone: with the whole state each time a transaction over many partitions would store their
//! square. Version 1 knew only whole states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use sunseo_proto::batch::Ending;
use sunseo_proto::envelope::{self, EnvelopeError, kind};
use sunseo_proto::{PartitionId, TopicId};

use crate::folded::Fold;
use crate::metadata::internal_topics::{SystemTopic, TRANSACTIONS};

use super::state::{By, EPOCH_LAST, Ended, Identity, Marker, Members, State, Transaction};

const RECORD_VERSION: u8 = 2;

/// One stored fact.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TransactionRecord {
    #[prost(string, tag = "1")]
    transactional_id: String,
    #[prost(message, optional, tag = "2")]
    state: Option<Stored>,
    /// With neither of the two the id is forgotten.
    #[prost(message, optional, tag = "3")]
    joined: Option<StoredJoin>,
}

/// What became part of a transaction that was open before.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredJoin {
    #[prost(int64, tag = "1")]
    producer_id: i64,
    #[prost(int32, tag = "2")]
    epoch: i32,
    #[prost(message, repeated, tag = "3")]
    topics: Vec<StoredTopic>,
    #[prost(string, repeated, tag = "4")]
    groups: Vec<String>,
    #[prost(int64, tag = "5")]
    changed_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(int64, tag = "1")]
    producer_id: i64,
    #[prost(int32, tag = "2")]
    epoch: i32,
    #[prost(string, tag = "3")]
    state: String,
    #[prost(uint32, tag = "4")]
    timeout_ms: u32,
    #[prost(message, repeated, tag = "5")]
    topics: Vec<StoredTopic>,
    #[prost(string, repeated, tag = "6")]
    groups: Vec<String>,
    #[prost(message, optional, tag = "7")]
    ended: Option<StoredEnded>,
    #[prost(int64, tag = "8")]
    changed_ms: i64,
    #[prost(int64, tag = "9")]
    begun_ms: i64,
    #[prost(message, repeated, tag = "10")]
    owed: Vec<StoredOwed>,
}

/// Partitions that failed before they took the end of a transaction.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredOwed {
    #[prost(message, repeated, tag = "1")]
    topics: Vec<StoredTopic>,
    /// Of the marker.
    #[prost(int64, tag = "2")]
    producer_id: i64,
    #[prost(int32, tag = "3")]
    epoch: i32,
    #[prost(bool, tag = "4")]
    commit: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredTopic {
    #[prost(bytes = "vec", tag = "1")]
    topic_id: Vec<u8>,
    #[prost(int32, repeated, tag = "2")]
    partitions: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredEnded {
    #[prost(int64, tag = "1")]
    producer_id: i64,
    #[prost(int32, tag = "2")]
    epoch: i32,
    #[prost(bool, tag = "3")]
    commit: bool,
    #[prost(uint32, tag = "4")]
    by: u32,
}

impl TransactionRecord {
    pub(crate) fn of(transactional_id: &str, transaction: &Transaction) -> Self {
        let state = Some(Stored::of(transaction));
        Self { transactional_id: transactional_id.to_owned(), state, joined: None }
    }

    /// What became part of the open transaction, which is stored without it.
    pub(crate) fn joined(transactional_id: &str, transaction: &Transaction, members: &Members) -> Self {
        let Identity { producer_id, epoch } = transaction.identity;
        let joined = StoredJoin {
            producer_id,
            epoch: epoch.into(),
            topics: stored(members.partitions.iter()),
            groups: members.groups.iter().cloned().collect(),
            changed_ms: transaction.changed_ms,
        };
        Self { transactional_id: transactional_id.to_owned(), state: None, joined: Some(joined) }
    }

    pub(crate) fn forgotten(transactional_id: &str) -> Self {
        Self { transactional_id: transactional_id.to_owned(), state: None, joined: None }
    }
}

impl Fold for TransactionRecord {
    const TOPIC: SystemTopic = TRANSACTIONS;
    const WHAT: &'static str = "transactions";
    type State = BTreeMap<Arc<str>, Transaction>;

    fn to_stored(&self) -> Bytes {
        envelope::seal(kind::TRANSACTION_RECORD, RECORD_VERSION, &self.encode_to_vec())
    }

    fn from_stored(bytes: &Bytes) -> Result<Self, EnvelopeError> {
        let (_, payload) = envelope::open_as(bytes, kind::TRANSACTION_RECORD, RECORD_VERSION)?;
        <Self as prost::Message>::decode(payload).map_err(|e| EnvelopeError::Payload(e.to_string()))
    }

    fn fold(self, into: &mut Self::State) -> Result<(), EnvelopeError> {
        let id: Arc<str> = Arc::from(self.transactional_id);
        match (self.state, self.joined) {
            (Some(stored), _) => drop(into.insert(id, stored.open()?)),
            (None, Some(joined)) => joined.fold(into.get_mut(&id))?,
            (None, None) => drop(into.remove(&id)),
        }
        Ok(())
    }
}

impl StoredJoin {
    fn fold(self, into: Option<&mut Transaction>) -> Result<(), EnvelopeError> {
        let (identity, partitions) = (identity(self.producer_id, self.epoch)?, opened(self.topics)?);
        // one that came late, after its transaction has ended, is about nothing
        let open = into.filter(|found| found.state == State::Ongoing && found.identity == identity);
        if let Some(transaction) = open {
            transaction.partitions.extend(partitions);
            transaction.groups.extend(self.groups);
            transaction.changed_ms = self.changed_ms;
        }
        Ok(())
    }
}

impl StoredOwed {
    fn of(id: PartitionId, marker: Marker) -> Self {
        let Identity { producer_id, epoch } = marker.identity;
        let topics = stored(std::iter::once(&id));
        Self { topics, producer_id, epoch: epoch.into(), commit: marker.ending == Ending::Commit }
    }
}

impl Stored {
    fn of(transaction: &Transaction) -> Self {
        let ended = transaction.ended.map(|ended| StoredEnded {
            producer_id: ended.identity.producer_id,
            epoch: ended.identity.epoch.into(),
            commit: ended.ending == Ending::Commit,
            by: match ended.by {
                By::Producer => 0,
                By::Timeout => 1,
                By::Operator => 2,
                By::Successor => 3,
            },
        });
        Self {
            producer_id: transaction.identity.producer_id,
            epoch: transaction.identity.epoch.into(),
            state: transaction.state.as_str().to_owned(),
            timeout_ms: transaction.timeout_ms,
            topics: stored(transaction.partitions.iter()),
            groups: transaction.groups.iter().cloned().collect(),
            ended,
            changed_ms: transaction.changed_ms,
            begun_ms: transaction.begun_ms,
            owed: transaction.owed.iter().map(|(id, marker)| StoredOwed::of(*id, *marker)).collect(),
        }
    }

    fn open(self) -> Result<Transaction, EnvelopeError> {
        let ended = self.ended.map(|ended| {
            let by = match ended.by {
                0 => By::Producer,
                1 => By::Timeout,
                2 => By::Operator,
                3 => By::Successor,
                other => return Err(unknown(&format!("ender {other}"))),
            };
            let ending = if ended.commit { Ending::Commit } else { Ending::Abort };
            Ok(Ended { identity: identity(ended.producer_id, ended.epoch)?, ending, by })
        });
        let mut owed = BTreeMap::new();
        for found in self.owed {
            let ending = if found.commit { Ending::Commit } else { Ending::Abort };
            let marker = Marker { identity: identity(found.producer_id, found.epoch)?, ending };
            owed.extend(opened(found.topics)?.into_iter().map(|id| (id, marker)));
        }
        let identity = identity(self.producer_id, self.epoch)?;
        let state = State::parse(&self.state).ok_or_else(|| unknown(&format!("state {:?}", self.state)))?;
        if state == State::Ongoing && identity.epoch > EPOCH_LAST {
            return Err(no_epoch(self.epoch));
        }
        Ok(Transaction {
            identity,
            state,
            timeout_ms: self.timeout_ms,
            partitions: opened(self.topics)?,
            groups: self.groups.into_iter().collect(),
            ended: ended.transpose()?,
            owed,
            changed_ms: self.changed_ms,
            begun_ms: self.begun_ms,
            deadline_ms: 0,
        })
    }
}

fn unknown(what: &str) -> EnvelopeError {
    EnvelopeError::Payload(format!("{what} is not known"))
}

fn opened(topics: Vec<StoredTopic>) -> Result<BTreeSet<PartitionId>, EnvelopeError> {
    let mut partitions = BTreeSet::new();
    for topic in topics {
        let topic_id = TopicId::from_slice(&topic.topic_id).ok_or_else(|| unknown("a topic's identity"))?;
        partitions.extend(topic.partitions.into_iter().map(|partition| PartitionId { topic_id, partition }));
    }
    Ok(partitions)
}

fn identity(producer_id: i64, epoch: i32) -> Result<Identity, EnvelopeError> {
    // the last epoch of a transaction and the one of its end: nothing is stored in the one above them
    let read = i16::try_from(epoch).ok().filter(|epoch| *epoch <= EPOCH_LAST + 1);
    read.map(|epoch| Identity { producer_id, epoch }).ok_or_else(|| no_epoch(epoch))
}

fn no_epoch(epoch: i32) -> EnvelopeError {
    EnvelopeError::Payload(format!("epoch {epoch} is none"))
}

fn stored<'a>(partitions: impl Iterator<Item = &'a PartitionId>) -> Vec<StoredTopic> {
    let mut topics: Vec<StoredTopic> = Vec::new();
    for id in partitions {
        match topics.last_mut().filter(|topic| topic.topic_id == id.topic_id.as_bytes()) {
            Some(topic) => topic.partitions.push(id.partition),
            None => {
                let topic_id = id.topic_id.as_bytes().to_vec();
                topics.push(StoredTopic { topic_id, partitions: vec![id.partition] });
            }
        }
    }
    topics
}
