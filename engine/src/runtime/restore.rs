//! How a task comes back.
//!
//! 1. Fence: a new epoch of the task's producer, and a first record in the task log with it. From here nobody else commits.
//! 2. Replay the log from where the store stands up to that record. Normally that is the tail since the last flush.
//! 3. Hand over what may not be forwarded yet; what already is, is dropped by the partitions that have it.
//!
//! Records are not processed again: a commit holds their effect.

use std::collections::VecDeque;

use sunseo_client::PositionedProducer;
use sunseo_client::admin::OffsetQuery;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};

use super::entry::{Assembler, Found};
use super::forward::Outputs;
use super::log::{self, TaskLog};
use super::retry::again;
use super::spec::TaskSpec;
use crate::store::db::changes_of;
use crate::store::position::StorePosition;

/// A task that may go on.
#[derive(Debug)]
pub(crate) struct Restored {
    pub producer: PositionedProducer,
    pub log: TaskLog,
    /// Where the store stands: at the last commit; `None` when there was none.
    pub position: Option<StorePosition>,
    pub unforwarded: Unforwarded,
    /// Commits that were applied to the store.
    pub replayed: u64,
}

/// Durable commits whose outputs are not all known to be in their topics.
#[derive(Debug, Default)]
pub(crate) struct Unforwarded {
    /// Number of the output after the commit's last one, offset of the commit in the log.
    commits: VecDeque<(i64, i64)>,
}

impl Unforwarded {
    /// A commit became durable.
    pub(crate) fn add(&mut self, next_output: i64, first_offset: i64) {
        self.commits.push_back((next_output, first_offset));
    }

    /// The offset from which the log must be read to find every output from `forwarded` on; `end` when there is none.
    pub(crate) fn replay_from(&mut self, forwarded: i64, end: i64) -> i64 {
        while self.commits.pop_front_if(|(next_output, _)| *next_output <= forwarded).is_some() {}
        self.commits.front().map_or(end, |(_, first_offset)| *first_offset)
    }
}

/// Restores a task; its outputs that may be missing come second.
///
/// # Errors
/// `PRODUCER_FENCED` when a later incarnation has begun, `CORRUPT_LOG` for a log that does not decode, or what the broker or
/// the state store say.
pub(crate) async fn restore(spec: &TaskSpec) -> Result<(Restored, Vec<Outputs>)> {
    let client = &spec.shared.client;
    let name = spec.producer_name();
    let producer = again(|| client.positioned_with(&name, spec.producer_config())).await?;
    let log = TaskLog::begin(client, producer.clone(), spec.log.clone()).await?;
    let position = usable_position(spec, log.end())?;
    let from = match &position {
        Some(position) => position.replay_from,
        None => {
            let admin = client.admin();
            let start = again(|| admin.offset(&spec.log.topic, spec.log.partition, OffsetQuery::Start));
            start.await?.unwrap_or_default()
        }
    };
    let mut replay = Replay::new(spec, position);
    let mut assembler = Assembler::default();
    log::read(client, &spec.log, (from, log.end()), |offset, entry| match assembler.take(offset, entry)? {
        Some(found) => replay.take(found),
        None => Ok(()),
    })
    .await?;
    let Replay { position, outputs, forwarded, replayed, .. } = replay;
    let mut unforwarded = Unforwarded::default();
    for (first_offset, outputs) in &outputs {
        unforwarded.add(outputs.next(), *first_offset);
    }
    let outputs = outputs.into_iter().map(|(_, outputs)| outputs.from(forwarded)).collect();
    Ok((Restored { producer, log, position, unforwarded, replayed }, outputs))
}

/// The position of the store, if the store is a part of this log.
fn usable_position(spec: &TaskSpec, log_end: i64) -> Result<Option<StorePosition>> {
    let (db, place) = (&spec.shared.db, &spec.place);
    let position = db.position(place)?;
    let usable =
        position.filter(|position| position.log_id == spec.log_id && position.next_offset <= log_end);
    if usable.is_none() {
        // whatever is there comes from elsewhere
        let stores: Vec<String> = spec.stores.iter().map(|(_, id)| id.clone()).collect();
        db.clear(place, &stores)?;
    }
    Ok(usable)
}

/// Folds commits into the store.
struct Replay<'a> {
    spec: &'a TaskSpec,
    families: Vec<(String, String)>,
    position: Option<StorePosition>,
    /// Outputs that may be missing, with the offset of their commit.
    outputs: VecDeque<(i64, Outputs)>,
    forwarded: i64,
    replayed: u64,
}

impl<'a> Replay<'a> {
    fn new(spec: &'a TaskSpec, position: Option<StorePosition>) -> Self {
        let forwarded = position.as_ref().map_or(0, |position| position.head.forwarded);
        let families = spec.families();
        Self { spec, families, position, outputs: VecDeque::new(), forwarded, replayed: 0 }
    }

    fn take(&mut self, found: Found) -> Result<()> {
        let Found { commit, first_offset, next_offset } = found;
        let next_output = commit.next_output();
        self.forwarded = self.forwarded.max(commit.head.forwarded);
        let outputs = Outputs { first: commit.head.first_output, outputs: commit.outputs };
        if outputs.next() > self.forwarded {
            self.outputs.push_back((first_offset, outputs));
        }
        while self.outputs.pop_front_if(|(_, outputs)| outputs.next() <= self.forwarded).is_some() {}
        let applied = self.position.as_ref().map_or(-1, |position| position.head.number);
        if commit.head.number <= applied {
            return Ok(());
        }
        if commit.head.number != applied + 1 {
            let message = format!(
                "task log {}-{}: commit {} at offset {first_offset} follows commit {applied}: commits are missing",
                self.spec.log.topic, self.spec.log.partition, commit.head.number
            );
            return Err(Error::new(ErrorCode::CorruptLog, message));
        }
        let replay_from = self.outputs.front().map_or(next_offset, |(offset, _)| *offset);
        let log_id = self.spec.log_id.clone();
        let position = StorePosition { log_id, next_offset, replay_from, next_output, head: commit.head };
        let changes = changes_of(&commit.deltas, &self.families);
        self.spec.shared.db.apply(&self.spec.place, changes, &position)?;
        self.replayed += 1;
        self.position = Some(position);
        Ok(())
    }
}
