//! The producer of transactions: which phase it is in, and the calls to the coordinator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record, v1};

use super::{GroupMetadata, Remedy, TransactionalConfig};
use crate::metadata::SharedMetadata;
use crate::producer::lane::Identity;
use crate::producer::{Ack, Producer};
use crate::retry::repeat;
use crate::transport::SharedTransport;

/// Where the producer stands.
#[derive(Clone, Debug)]
enum Phase {
    /// Between two transactions.
    Ready,
    Open,
    /// Between two as well; the last one is committed, though its producer was told of an error: whoever aborts it must hear that.
    Committed,
    /// Another instance has the name.
    Fenced(Error),
}

/// Sends records in transactions. One transaction at a time; records may be sent from several tasks by reference.
#[derive(Debug)]
pub struct TransactionalProducer {
    transport: SharedTransport,
    transactional_id: Arc<str>,
    config: TransactionalConfig,
    producer: Producer,
    identity: Identity,
    /// Counts the transactions.
    number: u64,
    phase: Phase,
    /// The broker may know of the open transaction.
    touched: AtomicBool,
}

impl TransactionalProducer {
    pub(crate) async fn open(
        transport: SharedTransport,
        metadata: SharedMetadata,
        transactional_id: &str,
        config: TransactionalConfig,
    ) -> Result<Self> {
        config.validate()?;
        if transactional_id.is_empty() {
            return Err(Error::invalid("transactional_id", "the transactional id is empty: give it a name"));
        }
        let transactional_id: Arc<str> = Arc::from(transactional_id);
        let identity = identify(&transport, &transactional_id, &config).await?;
        let as_whom = Some(Arc::clone(&transactional_id));
        let producer =
            Producer::start_as(Arc::clone(&transport), metadata, config.producer.clone(), as_whom)?;
        Ok(Self {
            transport,
            transactional_id,
            config,
            producer,
            identity,
            number: 0,
            phase: Phase::Ready,
            touched: AtomicBool::new(false),
        })
    }

    /// Begins a transaction. Nothing is sent by this: the broker learns of it with the first record or offsets.
    ///
    /// # Errors
    /// `TRANSACTION_STATE` when one is open, `PRODUCER_FENCED` when another instance has the name.
    pub fn begin(&mut self) -> Result<()> {
        match &self.phase {
            Phase::Fenced(error) => Err(error.clone()),
            Phase::Open => {
                Err(state("a transaction is open: commit or abort it before the next one is begun"))
            }
            Phase::Ready | Phase::Committed => {
                self.number += 1;
                self.phase = Phase::Open;
                *self.touched.get_mut() = false;
                self.producer.begin(self.number, self.identity);
                Ok(())
            }
        }
    }

    /// Queues a record of the open transaction for the partition of its key; see [`Producer::send`]. A commit waits for all of them,
    /// so the [`Ack`] need not be awaited.
    ///
    /// # Errors
    /// As [`Producer::send`]; `TRANSACTION_STATE` when no transaction is open; what an earlier record of it failed with.
    pub async fn send(&self, topic: &str, record: Record) -> Result<Ack> {
        self.send_to(topic, None, record).await
    }

    /// [`send`](Self::send) with a partition of one's own choice.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_to(&self, topic: &str, partition: Option<i32>, record: Record) -> Result<Ack> {
        self.check_open()?;
        self.touched.store(true, Ordering::Relaxed);
        self.producer.send_to(topic, partition, record).await
    }

    /// Adds consumed offsets (topic, partition, next offset to read): the group goes on there if and only if the transaction commits.
    ///
    /// # Errors
    /// `FENCED_MEMBER` or `UNKNOWN_MEMBER` when the member no longer owns the partitions; `INVALID_ARGUMENT` without offsets; what the broker
    /// says. After an error the transaction can only be aborted.
    pub async fn send_offsets(&self, member: &GroupMetadata, offsets: &[(String, i32, i64)]) -> Result<()> {
        self.check_open()?;
        if offsets.is_empty() {
            let message = "no offsets to send: a member that has lost its partitions has none, and what was made from their records must not \
                           be committed without them";
            let error = Error::invalid("offsets", message);
            self.producer.doom(error.clone()).await;
            return Err(error);
        }
        self.touched.store(true, Ordering::Relaxed);
        let offsets = offsets.iter().map(|(topic, partition, offset)| v1::OffsetCommit {
            topic: topic.clone(),
            partition: *partition,
            offset: *offset,
            ..Default::default()
        });
        let request = v1::SendOffsetsRequest {
            transactional_id: self.transactional_id.to_string(),
            producer_id: self.identity.producer_id,
            producer_epoch: self.identity.epoch.into(),
            group: member.group.clone(),
            member_id: member.member_id.clone(),
            member_epoch: member.member_epoch,
            offsets: offsets.collect(),
        };
        let answer = repeat(self.config.retry, || self.transport.send_offsets(request.clone())).await;
        let sent = answer.and_then(|answer| {
            let refused = answer.results.into_iter().find_map(|result| result.error);
            refused.map_or(Ok(()), |error| Err(error.into()))
        });
        if let Err(error) = &sent {
            // without them the same input would be read again behind output that is committed
            self.producer.doom(error.clone()).await;
        }
        sent
    }

    /// Waits for every record and commits: when it returns, readers of committed records can see all of it.
    ///
    /// # Errors
    /// What a record or [`send_offsets`](Self::send_offsets) failed with, and `TRANSACTION_ABORTED` when the broker has aborted it: then
    /// [`abort`](Self::abort) and go on. `PARTITION_FAILED` when it is committed and a partition shows it only after its disk is mended:
    /// begin the next one. An error to be retried leaves the outcome open: commit again. See [`Remedy`].
    pub async fn commit(&mut self) -> Result<()> {
        self.check_open()?;
        self.producer.flush().await?;
        self.producer.doomed().map_or(Ok(()), Err)?;
        self.end(true).await
    }

    /// Takes everything back that was sent since [`begin`](Self::begin). Does nothing when no transaction is open.
    ///
    /// # Errors
    /// `PRODUCER_FENCED` when another instance has the name; `TRANSACTION_STATE` when a commit whose answer was lost has come first, or that
    /// said `PARTITION_FAILED`: the transaction is committed, and what it did must not be done again.
    pub async fn abort(&mut self) -> Result<()> {
        match &self.phase {
            Phase::Fenced(error) => return Err(error.clone()),
            Phase::Ready => return Ok(()),
            Phase::Committed => return Err(state("the transaction is committed: begin the next one")),
            Phase::Open => {}
        }
        self.producer.doom(state("the transaction was aborted by its producer")).await;
        self.end(false).await
    }

    /// The transactional id.
    #[must_use]
    pub fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    /// Whether a transaction is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    fn check_open(&self) -> Result<()> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Fenced(error) => Err(error.clone()),
            Phase::Ready | Phase::Committed => Err(state("no transaction is open: begin one first")),
        }
    }

    async fn end(&mut self, commit: bool) -> Result<()> {
        if !*self.touched.get_mut() {
            self.phase = Phase::Ready;
            return Ok(());
        }
        let request = v1::EndTransactionRequest {
            transactional_id: self.transactional_id.to_string(),
            producer_id: self.identity.producer_id,
            producer_epoch: self.identity.epoch.into(),
            commit,
        };
        let ended = repeat(self.config.retry, || self.transport.end_transaction(request.clone())).await;
        match ended {
            Ok(answer) => {
                self.identity = identity_of(answer.producer_id, answer.producer_epoch)?;
                self.phase = Phase::Ready;
                Ok(())
            }
            Err(error) if Remedy::of(&error) == Remedy::Stop => {
                self.phase = Phase::Fenced(error.clone());
                Err(error)
            }
            // it ended the other way, or a partition that failed does not show how: this one is over, the next needs an identity
            Err(error) if matches!(error.code, ErrorCode::TransactionState | ErrorCode::PartitionFailed) => {
                self.identity = identify(&self.transport, &self.transactional_id, &self.config).await?;
                let committed = commit == (error.code == ErrorCode::PartitionFailed);
                self.phase = if committed { Phase::Committed } else { Phase::Ready };
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

fn state(message: &str) -> Error {
    Error::new(ErrorCode::TransactionState, message)
}

async fn identify(
    transport: &SharedTransport,
    transactional_id: &str,
    config: &TransactionalConfig,
) -> Result<Identity> {
    let request = v1::InitProducerRequest {
        transactional_id: transactional_id.to_owned(),
        transaction_timeout_ms: config.timeout_ms(),
        ..Default::default()
    };
    let answer = repeat(config.retry, || transport.init_producer(request.clone())).await?;
    identity_of(answer.producer_id, answer.producer_epoch)
}

fn identity_of(producer_id: i64, epoch: i32) -> Result<Identity> {
    let epoch = i16::try_from(epoch).map_err(|_| {
        Error::internal(format!("producer epoch {epoch} does not fit a batch: update client and server"))
    })?;
    Ok(Identity { producer_id, epoch })
}
