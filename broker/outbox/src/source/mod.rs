//! A source that runs: its reader's rows to the log, its shards' progress to notes, and what `describe` shows.
//!
//! One task per source. Shards of one batch are published side by side, batches one after the other, so the order of a
//! shard is the order of its rows. Errors that pass by themselves begin the session anew at what is durable; the others
//! stop the source until `resume`.

mod shard;
#[cfg(test)]
mod shard_tests;
mod status;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use sunseo_client::Client;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::Result;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::shard::Shard;
pub use self::status::{Status, shard_status};
use crate::checkpoint::{Checkpoints, stopping};
use crate::config::OutboxConfig;
use crate::definition::Definition;
use crate::position::Ledger;
use crate::sqlite::reader::{Event, Reader, Resume, Settings, TableRows};
use crate::topics::Topics;

/// Waits between two attempts of a session, doubling.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// How long a batch that is under way may go on after the source was told to end.
const FINISH: Duration = Duration::from_secs(2);

/// What every source and shard of a node shares.
#[derive(Debug)]
pub struct Context {
    pub config: OutboxConfig,
    pub client: Client,
    pub clock: Arc<dyn Clock>,
    pub topics: Arc<Topics>,
    pub checkpoints: Checkpoints,
    ledger: Mutex<Ledger>,
}

impl Context {
    pub fn new(
        config: OutboxConfig,
        client: Client,
        clock: Arc<dyn Clock>,
        (checkpoints, ledger): (Checkpoints, Ledger),
    ) -> Self {
        let topics = Arc::new(Topics::new(client.clone()));
        Self { config, client, clock, topics, checkpoints, ledger: Mutex::new(ledger) }
    }

    /// Where every shard stands now; at least as far as its notes say.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one source.
#[derive(Debug)]
pub struct Runner {
    context: Arc<Context>,
    definition: Arc<Definition>,
    status: Arc<Status>,
    cancel: CancellationToken,
}

impl Runner {
    pub fn new(
        context: Arc<Context>,
        definition: Arc<Definition>,
        status: Arc<Status>,
        cancel: CancellationToken,
    ) -> Self {
        Self { context, definition, status, cancel }
    }

    /// Reads until it is cancelled or cannot go on.
    pub async fn run(self) {
        let mut wait = AGAIN_MIN;
        let source = self.definition.name().to_owned();
        // kept over interruptions: opening a shard again would use up one of its epochs
        let mut session = Session { runner: &self, shards: BTreeMap::new(), progress: false };
        loop {
            session.progress = false;
            let ended = session.run().await;
            session.note_all().await;
            let Err(error) = ended else { return };
            metrics::counter!("sunseo_outbox_errors_total", "source" => source.clone(), "code" => error.code.as_str())
                .increment(1);
            if !error.retryable() {
                tracing::error!(source, %error, "outbox source stopped");
                self.status.stopped(error);
                return;
            }
            tracing::warn!(source, %error, "outbox source interrupted, trying again");
            self.status.interrupted(error);
            wait = if session.progress { AGAIN_MIN } else { (wait * 2).min(AGAIN_MAX) };
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// The life of readers, one after the other.
struct Session<'a> {
    runner: &'a Runner,
    shards: BTreeMap<String, Shard>,
    progress: bool,
}

impl Session<'_> {
    async fn run(&mut self) -> Result<()> {
        let mut reader = self.reader()?;
        let interval = self.runner.context.config.checkpoint_interval;
        let mut note_at = Instant::now() + interval;
        loop {
            let dirty = self.shards.values().any(Shard::is_dirty);
            let event = tokio::select! {
                biased;
                () = self.runner.cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(note_at), if dirty => {
                    self.write_notes().await?;
                    note_at = Instant::now() + interval;
                    continue;
                }
                event = reader.events.recv() => event.ok_or_else(stopping)?,
            };
            if !dirty {
                note_at = Instant::now() + interval;
            }
            match event {
                Event::Found(tables) => self.runner.status.found(tables),
                Event::TableStopped(table, error) => self.stop_shard(&table, error),
                Event::Failed(error) => return Err(error),
                Event::Rows(batch) => {
                    let cancel = self.runner.cancel.clone();
                    let given_up = async {
                        cancel.cancelled().await;
                        tokio::time::sleep(FINISH).await;
                    };
                    tokio::select! {
                        biased;
                        published = self.publish(&reader, batch) => published?,
                        () = given_up => return Ok(()),
                    }
                }
            }
        }
    }

    fn reader(&self) -> Result<Reader> {
        let Runner { context, definition, .. } = self.runner;
        let config = &context.config;
        let settings = Settings {
            poll_min: config.poll_min,
            poll_max: config.poll_max,
            batch_rows: config.batch_rows,
            batch_bytes: config.batch_bytes,
            busy_timeout: config.busy_timeout,
        };
        let ledger = context.ledger();
        let resume = ledger.of_source(definition.name()).map(|(table, stored)| {
            let checkpoint = &stored.checkpoint;
            let id_checksum = checkpoint.rows.as_ref().map_or(0, |rows| rows.id_checksum);
            (table.to_owned(), Resume { position: checkpoint.position, id_checksum })
        });
        let resume = resume.collect();
        drop(ledger);
        Reader::spawn(Arc::clone(definition), settings, resume)
    }

    async fn publish(&mut self, reader: &Reader, batch: Vec<TableRows>) -> Result<()> {
        let Runner { context, definition, status, .. } = self.runner;
        let mut work = Vec::with_capacity(batch.len());
        for rows in batch {
            if status.is_stopped(&rows.table) {
                continue;
            }
            let shard = match self.shards.remove(&rows.table) {
                Some(shard) => shard,
                None => Shard::open(context, definition, &rows.table).await?,
            };
            work.push(async move {
                let mut shard = shard;
                let published = shard.publish(rows).await;
                (shard, published)
            });
        }
        let mut failed = Ok(());
        for (shard, published) in join_all(work).await {
            let table = shard.table().to_owned();
            self.shards.insert(table.clone(), shard);
            match published {
                Ok(()) => self.progress = true,
                Err(error) if error.stops_source => failed = Err(error.error),
                Err(error) => {
                    reader.skip(&table);
                    self.stop_shard(&table, error.error);
                }
            }
        }
        if failed.is_ok() && self.progress {
            status.running();
        }
        failed
    }

    fn stop_shard(&self, table: &str, error: sunseo_proto::Error) {
        let source = self.runner.definition.name();
        tracing::error!(source, table, %error, "outbox shard stopped, the others go on");
        metrics::counter!("sunseo_outbox_errors_total", "source" => source.to_owned(), "code" => error.code.as_str())
            .increment(1);
        self.runner.status.shard_stopped(table, error);
    }

    async fn write_notes(&mut self) -> Result<()> {
        let notes = self.shards.values_mut().map(Shard::write_note);
        join_all(notes).await.into_iter().collect()
    }

    /// At the end: what is durable need not be read again.
    async fn note_all(&mut self) {
        if let Err(error) = self.write_notes().await {
            tracing::warn!(source = self.runner.definition.name(), %error, "last progress was not written down");
        }
    }
}
