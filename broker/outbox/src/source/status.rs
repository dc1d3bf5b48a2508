//! What a source shows of itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sunseo_proto::{Error, v1};

use crate::position::{Ledger, Stored};

/// State of a source, shared by its task and whoever describes it.
#[derive(Debug, Default)]
pub struct Status {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    paused: bool,
    /// Why the source does not read, or why it last was interrupted.
    error: Option<Error>,
    stopped: bool,
    /// Tables, with the reason of those that stopped.
    tables: BTreeMap<String, Option<Error>>,
}

impl Status {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn paused() -> Self {
        Self { state: Mutex::new(State { paused: true, ..State::default() }) }
    }

    pub fn stopped(&self, error: Error) {
        let mut state = self.lock();
        (state.error, state.stopped) = (Some(error), true);
    }

    /// An error that passes by itself.
    pub fn interrupted(&self, error: Error) {
        self.lock().error = Some(error);
    }

    /// Rows went through.
    pub fn running(&self) {
        self.lock().error = None;
    }

    pub fn found(&self, tables: Vec<String>) {
        let mut state = self.lock();
        state.error = None;
        for table in tables {
            state.tables.entry(table).or_default();
        }
    }

    pub fn shard_stopped(&self, table: &str, error: Error) {
        self.lock().tables.insert(table.to_owned(), Some(error));
    }

    pub fn is_stopped(&self, table: &str) -> bool {
        self.lock().tables.get(table).is_some_and(Option::is_some)
    }

    /// The wire form, with positions from the ledger.
    pub fn describe(&self, definition: &v1::SourceDefinition, ledger: &Ledger) -> v1::SourceStatus {
        let state = self.lock();
        let mut shards: BTreeMap<&str, v1::ShardStatus> = ledger
            .of_source(&definition.name)
            .map(|(shard, stored)| (shard, shard_status(shard, stored)))
            .collect();
        for (table, error) in &state.tables {
            let status = shards.entry(table).or_insert_with(|| shard_status(table, &Stored::default()));
            if let Some(error) = error {
                status.state = "stopped".to_owned();
                status.error = Some(error.clone().into());
            }
        }
        let all_stopped = !state.tables.is_empty() && state.tables.values().all(Option::is_some);
        let shown = match state.paused {
            true => "paused",
            false if state.stopped || all_stopped => "stopped",
            false => "running",
        };
        let error = state.error.clone().or_else(|| state.tables.values().flatten().next().cloned());
        v1::SourceStatus {
            definition: Some(definition.clone()),
            state: shown.to_owned(),
            error: error.map(Into::into),
            shards: shards.into_values().collect(),
        }
    }
}

/// A shard as its notes tell it.
pub fn shard_status(shard: &str, stored: &Stored) -> v1::ShardStatus {
    let rows = stored.checkpoint.rows.clone().unwrap_or_default();
    let published = match stored.checkpoint.events {
        Some(_) => stored.checkpoint.position,
        None => rows.published,
    };
    v1::ShardStatus {
        shard: shard.to_owned(),
        position: stored.checkpoint.position,
        rows_published: published,
        rows_quarantined: rows.quarantined,
        duplicates_dropped: rows.dropped,
        last_row_timestamp_ms: rows.last_timestamp_ms,
        state: "running".to_owned(),
        error: None,
    }
}
