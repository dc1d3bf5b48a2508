//! One partition of a system topic whose records fold into a state: read, append, snapshot, trim. Its owner is one task.
//!
//! The owner works in turns: requests that wait are worked off in memory, what they changed is appended at once, then each is answered ([`Reply`]).
//!
//! Not here: what a record means ([`Fold`] of its type), when a turn ends.

use std::marker::PhantomData;

use bytes::Bytes;
use sunseo_proto::PartitionId;
use sunseo_proto::envelope::EnvelopeError;
use sunseo_proto::error::{Error, ErrorCode, Result};
use tokio::sync::oneshot;

use crate::internal::{PartitionSettings, SharedInternalLog};
use crate::metadata::internal_topics::{SystemTopic, system_config};

/// Bytes of records in one append, unless a single record is larger.
const APPEND_BYTES_MAX: usize = 8 << 20;

/// Answers when it is known whether the turn's records are stored.
pub(crate) type Reply = Box<dyn FnOnce(Result<()>) + Send>;

/// What a request came to, for when that is durable.
pub(crate) fn when_stored<T: Send + 'static>(reply: oneshot::Sender<Result<T>>, result: Result<T>) -> Reply {
    Box::new(move |stored| {
        // whoever asked may be gone
        let _ = reply.send(stored.and(result));
    })
}

/// What those are told whose request the log of the folds did not take, or could not say anything to. `PARTITION_FAILED` would name a
/// partition that they asked about, and be final: of this request nothing is known but that it may be repeated.
pub(crate) fn not_stored(what: &str, error: Error) -> Error {
    let code = if error.code == ErrorCode::PartitionFailed { ErrorCode::Unavailable } else { error.code };
    Error { message: format!("the {what}'s change was not stored: {}", error.message), code, ..error }
}

/// A fact that is stored, and what all of them come to.
pub(crate) trait Fold: Sized {
    const TOPIC: SystemTopic;
    /// What the facts are about, in messages.
    const WHAT: &'static str;
    type State: Default;

    /// The stored form.
    fn to_stored(&self) -> Bytes;

    /// Reads the stored form.
    fn from_stored(bytes: &Bytes) -> std::result::Result<Self, EnvelopeError>;

    /// Folds the fact in.
    fn fold(self, into: &mut Self::State) -> std::result::Result<(), EnvelopeError>;
}

#[derive(Debug)]
pub(crate) struct FoldedLog<R> {
    log: SharedInternalLog,
    id: PartitionId,
    /// Offset of the next record.
    next: i64,
    since_snapshot: u64,
    /// The log may hold more than was read and written here.
    unsure: bool,
    /// Offset below which the log is not needed and still there.
    trim_before: Option<i64>,
    records: PhantomData<fn() -> R>,
}

impl<R: Fold> FoldedLog<R> {
    pub(crate) async fn open(log: SharedInternalLog, id: PartitionId) -> Result<Self> {
        log.ensure(id, PartitionSettings::new(R::TOPIC.name, &system_config())).await?;
        let (next, since_snapshot, unsure, trim_before) = (0, 0, true, None);
        Ok(Self { log, id, next, since_snapshot, unsure, trim_before, records: PhantomData })
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.id
    }

    /// Whether an append failed: what is stored may not be what is in memory, and must be read before anything else.
    pub(crate) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Folds all records.
    pub(crate) async fn load(&mut self) -> Result<R::State> {
        let mut state = R::State::default();
        let mut next = self.log.start(self.id).await?;
        let mut read = 0;
        loop {
            let records = self.log.read(self.id, next).await?;
            let Some((last, _)) = records.last() else { break };
            next = last + 1;
            for (offset, bytes) in &records {
                read += 1;
                let folded = R::from_stored(bytes).and_then(|record| record.fold(&mut state));
                folded.map_err(|error| {
                    let message = format!(
                        "the record at offset {offset} of {}-{} does not decode: {error}; its {} stay closed",
                        R::TOPIC.name,
                        self.id.partition,
                        R::WHAT
                    );
                    Error::new(ErrorCode::CorruptLog, message)
                })?;
            }
        }
        (self.next, self.since_snapshot, self.unsure) = (next, read, false);
        Ok(state)
    }

    /// Makes records durable, all before it returns. After an error any of them may be stored.
    pub(crate) async fn append(&mut self, records: &[R]) -> Result<()> {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for record in records {
            let encoded = record.to_stored();
            if bytes + encoded.len() > APPEND_BYTES_MAX && !chunk.is_empty() {
                self.append_chunk(std::mem::take(&mut chunk)).await?;
                bytes = 0;
            }
            bytes += encoded.len();
            chunk.push(encoded);
        }
        if chunk.is_empty() { Ok(()) } else { self.append_chunk(chunk).await }
    }

    async fn append_chunk(&mut self, values: Vec<Bytes>) -> Result<()> {
        let count = values.len();
        let last = self.next + i64::try_from(count).unwrap_or(i64::MAX) - 1;
        self.unsure = true;
        let at = self.log.append(self.id, values).await?;
        if at != last {
            // an earlier append whose outcome was unknown has arrived after all
            let message = format!(
                "{}-{} holds more than was known: offset {last} was expected, it is {at}; try again",
                R::TOPIC.name,
                self.id.partition
            );
            return Err(Error::new(ErrorCode::Unavailable, message));
        }
        self.next = last + 1;
        self.since_snapshot += count as u64;
        self.unsure = false;
        Ok(())
    }

    /// Writes a snapshot when it is due, and drops what lies before it; nothing while the log is unsure. What fails is tried again later.
    pub(crate) async fn tidy(&mut self, snapshot_records: u64, snapshot: impl FnOnce() -> Vec<R>) {
        if !self.unsure && self.since_snapshot >= snapshot_records.max(1) {
            self.write_snapshot(&snapshot()).await;
        }
        let Some(before) = self.trim_before.filter(|_| !self.unsure) else { return };
        match self.log.trim(self.id, before).await {
            Ok(()) => self.trim_before = None,
            Err(error) => {
                tracing::warn!(%error, partition = %self.id, before, "records of {} were not trimmed, trying again", R::WHAT);
            }
        }
    }

    async fn write_snapshot(&mut self, records: &[R]) {
        let before = self.next;
        match self.append(records).await {
            // repeating everything that counts, it can stand in the place of all before it
            Ok(()) => (self.trim_before, self.since_snapshot) = (Some(before), 0),
            Err(error) => {
                tracing::warn!(%error, partition = %self.id, "no snapshot of the {}, trying again", R::WHAT)
            }
        }
    }
}
