//! One instance under a transactional name, and its transactions from their begin to what is known of their end.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::retry::RetryPolicy;
use sunseo_client::{
    Ack, Client, ErrorCode, GroupMetadata, Record, Remedy, Result, TransactionalConfig, TransactionalProducer,
};

use super::{Shared, number, pause, producer};
use crate::history::{Act, Fate, Moment, Outcome, Place, Sent};

/// Longest time that a transaction of a run may ask for.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(8);

/// What a transaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Committed,
    Aborted,
    /// Nobody knows, or another instance has the name: this one is of no use any more.
    Lost,
}

/// Records that were sent together.
type Step = (Moment, Vec<(Sent, Option<Ack>)>);

#[derive(Debug)]
pub(super) struct Instance<'a> {
    shared: &'a Shared,
    producer: TransactionalProducer,
    pub process: u32,
    txn: u64,
    steps: Vec<Step>,
}

impl<'a> Instance<'a> {
    pub(super) async fn open(
        shared: &'a Shared,
        client: &Client,
        name: u32,
        rng: &mut StdRng,
    ) -> Result<Self> {
        let config = TransactionalConfig {
            producer: producer::config(rng),
            transaction_timeout: [Duration::from_secs(2), TIMEOUT_MAX][rng.random_range(0..2)],
            retry: RetryPolicy::default().until(Duration::from_secs(rng.random_range(2..20))),
        };
        let (process, start) = (shared.recorder.process(), shared.recorder.now());
        let producer = client.transactional(&format!("name-{name}"), config).await?;
        shared.recorder.done(process, start, Act::Register { name });
        Ok(Self { shared, producer, process, txn: 0, steps: Vec::new() })
    }

    /// Begins the next transaction.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.producer.begin()?;
        self.txn = self.shared.transaction();
        Ok(())
    }

    /// Sends records to one partition of a topic.
    pub(super) async fn send(&mut self, topic: &str, records: Vec<(Record, Sent)>) {
        let start = self.shared.recorder.now();
        let mut step = Vec::with_capacity(records.len());
        for (record, mut sent) in records {
            let ack = self.producer.send_to(topic, Some(sent.place.partition), record).await.ok();
            if ack.is_none() {
                // it was never queued
                sent.fate = Fate::Refused;
            }
            step.push((sent, ack));
        }
        self.steps.push((start, step));
    }

    /// Whether the offsets were taken; otherwise the transaction can only be aborted.
    pub(super) async fn send_offsets(
        &mut self,
        group: u32,
        member: &GroupMetadata,
        offsets: &[(String, i32, i64)],
    ) -> bool {
        let start = self.shared.recorder.now();
        let sent = self.producer.send_offsets(member, offsets).await.is_ok();
        let place = |topic: &str, partition| Place { topic: number(topic), partition };
        let offsets = offsets.iter().map(|(topic, partition, offset)| (place(topic, *partition), *offset));
        let act = Act::SendOffsets { txn: self.txn, group, offsets: offsets.collect() };
        self.shared.recorder.done(self.process, start, act);
        sent
    }

    /// Commits or aborts, and notes what came of it.
    pub(super) async fn end(&mut self, commit: bool, rng: &mut StdRng) -> Ended {
        let (recorder, start) = (&self.shared.recorder, self.shared.recorder.now());
        let (commit, outcome) = end(&mut self.producer, commit, rng).await;
        recorder.done(self.process, start, Act::EndTxn { txn: self.txn, commit, outcome });
        self.settle().await;
        match (commit, outcome) {
            (true, Outcome::Done) => Ended::Committed,
            (false, Outcome::Done) => Ended::Aborted,
            _ => Ended::Lost,
        }
    }

    /// Leaves the transaction open, as a process does that dies.
    pub(super) async fn leave(mut self) {
        self.settle().await;
    }

    /// What became of the records.
    async fn settle(&mut self) {
        for (start, step) in std::mem::take(&mut self.steps) {
            let records = producer::settled(step).await;
            let act = Act::Send { txn: Some(self.txn), records };
            self.shared.recorder.done(self.process, start, act);
        }
    }
}

/// Whether it was a commit, and what is known of it. A transaction whose commit may have come through is one that was to be committed, unless an
/// abort came through for certain.
async fn end(producer: &mut TransactionalProducer, commit: bool, rng: &mut StdRng) -> (bool, Outcome) {
    if commit {
        for _ in 0..4 {
            match producer.commit().await {
                Ok(()) => return (true, Outcome::Done),
                Err(error) => match Remedy::of(&error) {
                    Remedy::Retry => pause(rng, 10..500).await,
                    Remedy::Abort => break,
                    Remedy::Stop => return (true, Outcome::Unknown),
                },
            }
        }
    }
    for _ in 0..4 {
        match producer.abort().await {
            Ok(()) => return (false, Outcome::Done),
            // the commit came first
            Err(error) if error.code == ErrorCode::TransactionState && commit => {
                return (true, Outcome::Done);
            }
            Err(error) if Remedy::of(&error) == Remedy::Retry => pause(rng, 10..500).await,
            Err(_) => break,
        }
    }
    (commit, Outcome::Unknown)
}
