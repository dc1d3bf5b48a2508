//! One table's rows to the log.
//!
//! Invariant: `position` moves only when every row up to it is durable as a record or as a dead letter. Dead letters are sent
//! after the batch's records and in row order, because a partition takes positions of one producer rising only.

use std::collections::BTreeSet;
use std::sync::Arc;

use sunseo_client::retry::RetryPolicy;
use sunseo_client::{PositionedConfig, Record};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};

use super::Context;
use crate::appender::{Appender, Item};
use crate::definition::{Definition, OnBadRow};
use crate::names::producer_name;
use crate::position::Checkpoint;
use crate::read::repeat;
use crate::row::{Column, RawRow, Value, convert, dead_letter};
use crate::sqlite::reader::{TableRows, checksum_of_id};

/// Why a batch did not go through.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    /// Otherwise only this shard stops.
    pub stops_source: bool,
}

impl Failure {
    fn of_source(error: Error) -> Self {
        Self { error, stops_source: true }
    }

    fn of_shard(error: Error) -> Self {
        Self { error, stops_source: false }
    }
}

/// A row whose turn has come: a record, or the reason why not.
enum Turned {
    Item(Item),
    Bad(Box<(RawRow, Error)>),
}

/// The publisher of one table.
#[derive(Debug)]
pub struct Shard {
    context: Arc<Context>,
    definition: Arc<Definition>,
    table: String,
    appender: Appender,
    checkpoint: Checkpoint,
    dirty: bool,
    /// Pins changed and no note tells it yet: nothing may be sent.
    unnoted_pins: bool,
    /// Rows were published by this process.
    begun: bool,
}

impl Shard {
    /// Takes over the shard's producer; an earlier owner is fenced.
    pub async fn open(context: &Arc<Context>, definition: &Arc<Definition>, table: &str) -> Result<Self> {
        let name = producer_name(definition.name(), table);
        // a reader waits for its broker as long as it takes; the attempts end when the source is paused
        let config = PositionedConfig::default();
        let retry = RetryPolicy::default();
        let producer = repeat(retry, || context.client.positioned_with(&name, config.clone())).await?;
        let key = (definition.name().to_owned(), table.to_owned());
        let mut checkpoint =
            context.ledger().shards.get(&key).map(|stored| stored.checkpoint.clone()).unwrap_or_default();
        (checkpoint.producer_id, checkpoint.epoch) = (producer.producer_id(), producer.epoch());
        let partitions = match definition.raw.partitions {
            0 => context.config.default_partitions,
            partitions => partitions,
        };
        let pins = checkpoint.partitions.clone();
        let appender = Appender::new(producer, Arc::clone(&context.topics), partitions, pins);
        Ok(Self {
            context: Arc::clone(context),
            definition: Arc::clone(definition),
            table: table.to_owned(),
            appender,
            checkpoint,
            dirty: false,
            unnoted_pins: false,
            begun: false,
        })
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    /// Whether progress is not yet written down.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Writes progress down.
    pub async fn write_note(&mut self) -> Result<()> {
        if self.dirty {
            self.note().await?;
        }
        Ok(())
    }

    async fn note(&mut self) -> Result<()> {
        self.checkpoint.partitions.clone_from(self.appender.pins());
        self.context.checkpoints.write(self.definition.name(), &self.table, &self.checkpoint).await?;
        (self.dirty, self.unnoted_pins) = (false, false);
        self.show();
        Ok(())
    }

    /// What is durable is seen by `describe`, and by a task that takes over.
    fn show(&self) {
        let key = (self.definition.name().to_owned(), self.table.clone());
        self.context.ledger().shards.entry(key).or_default().checkpoint.clone_from(&self.checkpoint);
    }

    /// Appends rows and moves the position behind them.
    pub async fn publish(&mut self, batch: TableRows) -> std::result::Result<(), Failure> {
        // a session that began anew may be handed rows which this shard has already published
        let position = self.checkpoint.position;
        if !std::mem::replace(&mut self.begun, true) {
            // how far an earlier process was ahead of its last note is not known, but not farther than the table
            self.appender.sent_through(batch.last_key);
        }
        let rows: Vec<_> = batch.rows.into_iter().filter(|row| row.rowid > position).collect();
        // rows before a bad one are published before the shard stops
        let (turned, stop) = self.fit(self.turn(rows)).await?;
        let bytes = self.send(turned).await?;
        let (source, shard) = (self.definition.name().to_owned(), self.table.clone());
        let lag = (batch.last_key - self.checkpoint.position).max(0);
        metrics::gauge!("sunseo_outbox_lag_rows", "source" => source.clone(), "shard" => shard.clone())
            .set(lag as f64);
        metrics::counter!("sunseo_outbox_bytes_total", "source" => source, "shard" => shard)
            .increment(bytes as u64);
        stop.map_or(Ok(()), |error| Err(Failure::of_shard(error)))
    }

    fn turn(&self, rows: Vec<RawRow>) -> Vec<(Turned, Progress)> {
        let now_ms = self.context.clock.now_ms();
        let definition = &self.definition;
        let turned = rows.into_iter().map(|row| {
            let progress = Progress { rowid: row.rowid, id_checksum: checksum_of_id(&row) };
            let routed = convert(&definition.template, &row, now_ms).and_then(|routed| {
                // dead letters of later rows may be there already, which would make this record look like a repeat
                match routed.topic == definition.dead_letter_topic {
                    true => {
                        Err(Error::invalid("aggregatetype", "its topic is the source's dead-letter topic"))
                    }
                    false => Ok(routed),
                }
            });
            let turned = match routed {
                Ok(routed) => {
                    Turned::Item(Item { position: row.rowid, topic: routed.topic, record: routed.record })
                }
                Err(error) => Turned::Bad(Box::new((row, error))),
            };
            (turned, progress)
        });
        turned.collect()
    }

    /// Learns about the topics, finds rows that are too large, and cuts at the first bad row unless it is to be quarantined.
    async fn fit(
        &mut self,
        turned: Vec<(Turned, Progress)>,
    ) -> std::result::Result<(Vec<(Turned, Progress)>, Option<Error>), Failure> {
        let mut topics: BTreeSet<String> = turned
            .iter()
            .filter_map(|(turned, _)| match turned {
                Turned::Item(item) => Some(item.topic.clone()),
                Turned::Bad(..) => None,
            })
            .collect();
        if self.definition.on_bad_row == OnBadRow::Quarantine {
            topics.extend(
                turned.iter().any(|(t, _)| matches!(t, Turned::Bad(..))).then(|| self.dead_letters()),
            );
        }
        self.pin(topics).await?;
        let mut fitting = Vec::with_capacity(turned.len());
        for (turned, progress) in turned {
            let turned = match turned {
                Turned::Item(item) => match self.appender.check_size(&item.topic, &item.record) {
                    Ok(()) => Turned::Item(item),
                    Err(error) => Turned::Bad(Box::new((without_payload(&item), error))),
                },
                bad @ Turned::Bad(..) => bad,
            };
            if let Turned::Bad(bad) = &turned
                && self.definition.on_bad_row == OnBadRow::Stop
            {
                let stop = self.bad_row(bad.0.rowid, &bad.1);
                return Ok((fitting, Some(stop)));
            }
            fitting.push((turned, progress));
        }
        Ok((fitting, None))
    }

    fn dead_letters(&self) -> String {
        self.definition.dead_letter_topic.clone()
    }

    fn bad_row(&self, rowid: i64, error: &Error) -> Error {
        let (source, table) = (self.definition.name(), &self.table);
        let message = format!(
            "source {source}, table {table}, row {rowid}: {}; then `sunseo outbox resume {source}`, or let on_bad_row be \"quarantine\"",
            error.message
        );
        Error { code: error.code, message, field: error.field.clone() }
    }

    async fn pin(&mut self, topics: BTreeSet<String>) -> std::result::Result<(), Failure> {
        for topic in topics {
            let pinned = self.appender.pin(&topic, self.checkpoint.position).await;
            self.unnoted_pins |= pinned.map_err(|error| match error.retryable() {
                true => Failure::of_source(error),
                false => Failure::of_shard(error),
            })?;
        }
        if self.unnoted_pins {
            self.note().await.map_err(Failure::of_source)?;
        }
        Ok(())
    }

    /// Appends what fits and moves the position; bytes that were sent.
    async fn send(&mut self, turned: Vec<(Turned, Progress)>) -> std::result::Result<usize, Failure> {
        let Some((_, last)) = turned.last() else { return Ok(0) };
        let last = *last;
        let (mut items, mut bad) = (Vec::with_capacity(turned.len()), Vec::new());
        for (turned, _) in turned {
            match turned {
                Turned::Item(item) => items.push(item),
                Turned::Bad(row) => bad.push(*row),
            }
        }
        let last_timestamp_ms = items.last().map(|item| item.record.timestamp_ms);
        let bytes = items.iter().map(|item| item.record.value.as_ref().map_or(0, bytes::Bytes::len)).sum();
        let (published, quarantined) = (items.len() as i64, bad.len() as i64);
        let mut dropped = self.append(items).await?;
        if !bad.is_empty() {
            dropped += self.quarantine(bad).await?;
        }
        let rows = self.checkpoint.rows_mut();
        rows.published += published;
        rows.quarantined += quarantined;
        rows.dropped += dropped as i64;
        rows.id_checksum = last.id_checksum;
        rows.last_timestamp_ms = last_timestamp_ms.unwrap_or(rows.last_timestamp_ms);
        self.checkpoint.position = last.rowid;
        self.dirty = true;
        self.show();
        self.count("sunseo_outbox_rows_total", published);
        self.count("sunseo_outbox_quarantined_total", quarantined);
        self.count("sunseo_outbox_duplicates_total", dropped as i64);
        Ok(bytes)
    }

    fn count(&self, name: &'static str, count: i64) {
        let (source, shard) = (self.definition.name().to_owned(), self.table.clone());
        metrics::counter!(name, "source" => source, "shard" => shard).increment(count.max(0) as u64);
    }

    async fn append(&mut self, items: Vec<Item>) -> std::result::Result<u64, Failure> {
        let outcome = self.appender.append(items).await;
        let Some((position, error)) = outcome.failed else { return Ok(outcome.dropped) };
        let message = format!(
            "source {}, table {}: rows from {position} on could not be appended: {}",
            self.definition.name(),
            self.table,
            error.message
        );
        let failed = Error { code: error.code, message, field: error.field };
        Err(match failed.code {
            // deleted meanwhile: the next attempt makes them again
            ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => {
                outcome.unknown.iter().for_each(|topic| self.appender.unpin(topic));
                self.note().await.map_err(Failure::of_source)?;
                let again = format!("{}; trying again", failed.message);
                Failure::of_source(Error::new(ErrorCode::Unavailable, again))
            }
            // another reader of this source has begun
            ErrorCode::ProducerFenced => Failure::of_source(failed),
            _ if failed.retryable() => Failure::of_source(failed),
            _ => Failure::of_shard(failed),
        })
    }

    async fn quarantine(&mut self, bad: Vec<(RawRow, Error)>) -> std::result::Result<u64, Failure> {
        let now_ms = self.context.clock.now_ms();
        let topic = self.dead_letters();
        // rows that turned out too large are bad without having been so at first
        self.pin(BTreeSet::from([topic.clone()])).await?;
        let letters = bad.iter().map(|(row, error)| {
            let (source, table, rowid) = (self.definition.name(), &self.table, row.rowid);
            tracing::warn!(source, table, rowid, %error, "row quarantined");
            let letter = |row: &RawRow| dead_letter(source, table, row, error, now_ms);
            let fits = |record: &Record| self.appender.check_size(&topic, record).is_ok();
            // what is left out stays in the database
            let record = Some(letter(row))
                .filter(fits)
                .or_else(|| Some(letter(&row.without(Column::Payload))).filter(fits))
                .unwrap_or_else(|| letter(&RawRow { rowid, ..RawRow::default() }));
            Item { position: rowid, topic: topic.clone(), record }
        });
        let letters = letters.collect();
        self.append(letters).await
    }
}

/// What the position needs to know about a row.
#[derive(Clone, Copy, Debug)]
struct Progress {
    rowid: i64,
    id_checksum: u32,
}

/// What is left of a row whose record is too large even for the dead letters. Its payload stays in the database.
fn without_payload(item: &Item) -> RawRow {
    let mut row = RawRow { rowid: item.position, ..RawRow::default() };
    let mut set = |column: Column, value: Option<bytes::Bytes>| {
        if let Some(value) = value {
            row.values[column as usize] = Value::Text(value);
        }
    };
    set(Column::Id, item.record.header("id").cloned());
    set(Column::Type, item.record.header("type").cloned());
    set(Column::AggregateType, Some(item.topic.clone().into()));
    set(Column::AggregateId, item.record.key.clone());
    row
}
