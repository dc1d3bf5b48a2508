//! Compares a source's rows with what the log holds of them.
//!
//! Positions are read first, then the database, then the log: a row at or below its table's position must be in the log by
//! then. Rows above it are on their way. Records of rows that were deleted since are passed over: there is nothing to compare.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sunseo_client::admin::OffsetQuery;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record, batch, v1};

use crate::definition::Definition;
use crate::read::read_partition;
use crate::row::{convert, id_text};
use crate::source::Context;
use crate::sqlite::connection::{of_sqlite, open, tables};
use crate::sqlite::reader::read_rows;

/// Rows that are compared at a time: each takes about 150 bytes.
pub const ROWS_MAX: usize = 10_000_000;
/// Problems that are told one by one.
const PROBLEMS_MAX: usize = 20;
/// Rows of one read.
const CHUNK: (usize, usize) = (10_000, 64 << 20);

/// A row that should be in the log.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    rowid: i64,
    /// Rows with this id.
    rows: i64,
    /// Records with this id.
    seen: i64,
    /// Whether the position has passed it.
    due: bool,
}

/// One table.
#[derive(Debug, Default)]
struct Table {
    position: i64,
    /// By id; a row whose id does not read is `rowid N`.
    expected: HashMap<String, Expected>,
}

/// The comparison while it grows.
#[derive(Debug, Default)]
struct Comparison {
    answer: v1::VerifySourceResponse,
    tables: BTreeMap<String, Table>,
    /// Table by the producer of its records.
    producers: HashMap<i64, String>,
    /// Last row by table and key within the partition at hand.
    last: HashMap<(String, bytes::Bytes), i64>,
}

pub async fn verify(
    context: &Arc<Context>,
    definition: &Arc<Definition>,
) -> Result<v1::VerifySourceResponse> {
    let mut comparison = Comparison::default();
    let mut topics = BTreeSet::from([definition.dead_letter_topic.clone()]);
    for (table, stored) in context.ledger().of_source(definition.name()) {
        let checkpoint = &stored.checkpoint;
        comparison.producers.insert(checkpoint.producer_id, table.to_owned());
        topics.extend(checkpoint.partitions.keys().cloned());
        comparison.tables.entry(table.to_owned()).or_default().position = checkpoint.position;
    }
    let (read, busy_timeout) = (Arc::clone(definition), context.config.busy_timeout);
    let reading = tokio::task::spawn_blocking(move || {
        comparison.read_database(&read, busy_timeout).map(|()| comparison)
    });
    let mut comparison =
        reading.await.map_err(|error| Error::internal(format!("verify ended: {error}")))??;
    for topic in topics {
        comparison.read_topic(context, definition, &topic).await?;
    }
    Ok(comparison.finish())
}

impl Comparison {
    fn problem(&mut self, code: ErrorCode, message: String) {
        if self.answer.problems.len() < PROBLEMS_MAX {
            self.answer.problems.push(Error::new(code, message).into());
        }
    }

    fn read_database(&mut self, definition: &Definition, busy_timeout: Duration) -> Result<()> {
        let connection = open(&definition.path, busy_timeout)?;
        for (name, table) in tables(&connection, definition)? {
            let table = match table {
                Ok(table) => table,
                Err(error) => {
                    self.problem(error.code, error.message);
                    continue;
                }
            };
            let expected = self.tables.entry(name).or_default();
            // also rows whose key is below every position, which are never read
            let mut position = i64::MIN;
            loop {
                let read = read_rows(&connection, &table, position, CHUNK);
                let (rows, _) = read.map_err(|error| of_sqlite(&definition.path, &error))?;
                let Some(last) = rows.last() else { break };
                position = last.rowid;
                self.answer.rows += rows.len() as i64;
                if self.answer.rows > ROWS_MAX as i64 {
                    let message = format!(
                        "the source has more than {ROWS_MAX} rows, which is what verify compares: delete published rows first"
                    );
                    return Err(Error::new(ErrorCode::Unsupported, message));
                }
                for row in &rows {
                    let id = match convert(&definition.template, row, 0) {
                        Ok(_) => id_text(row).unwrap_or_else(|_| rowid_name(row.rowid)),
                        // in the dead letters, if anywhere
                        Err(_) => rowid_name(row.rowid),
                    };
                    let due = row.rowid <= expected.position;
                    let entry = expected.expected.entry(id).or_default();
                    entry.rows += 1;
                    entry.due |= due;
                    entry.rowid = row.rowid;
                }
            }
        }
        Ok(())
    }

    async fn read_topic(&mut self, context: &Context, definition: &Definition, topic: &str) -> Result<()> {
        let admin = context.client.admin();
        let metadata = admin.metadata(vec![topic.to_owned()]).await?;
        let found = metadata.topics.into_iter().find(|found| found.name == topic && found.error.is_none());
        let partitions = found.map_or(0, |found| found.partitions.len() as i32);
        let dead_letters = topic == definition.dead_letter_topic;
        if partitions == 0 && !dead_letters {
            self.problem(
                ErrorCode::UnknownTopic,
                format!("topic {topic} is gone, its rows count as missing"),
            );
        }
        for partition in 0..partitions {
            self.last.clear();
            let end = admin.offset(topic, partition, OffsetQuery::End).await?.unwrap_or(0);
            let start = read_partition(&context.client, topic, partition, end, |header, bytes| {
                let Some(table) = self.producers.get(&header.producer_id).cloned() else { return Ok(()) };
                let records = batch::records(bytes).map_err(|error| {
                    Error::new(ErrorCode::CorruptLog, format!("topic {topic} partition {partition}: {error}"))
                })?;
                records.iter().for_each(|record| self.see(&table, record, dead_letters));
                Ok(())
            })
            .await?;
            if start > 0 {
                let message = format!(
                    "topic {topic} partition {partition} begins at offset {start}: rows whose records retention removed count as missing"
                );
                self.problem(ErrorCode::OffsetOutOfRange, message);
            }
        }
        Ok(())
    }

    fn see(&mut self, table: &str, record: &Record, dead_letter: bool) {
        let Some(rows) = self.tables.get_mut(table) else { return };
        let text = |key: &str| record.header(key).map(|value| String::from_utf8_lossy(value).into_owned());
        let id = text("id").unwrap_or_default();
        if dead_letter {
            let rowid = rowid_name(text("rowid").and_then(|rowid| rowid.parse().ok()).unwrap_or(0));
            // a row that was too large has an id that reads
            let name = if rows.expected.contains_key(&rowid) { &rowid } else { &id };
            if let Some(expected) = rows.expected.get_mut(name) {
                expected.seen += 1;
            }
            return;
        }
        let Some(expected) = rows.expected.get_mut(&id) else { return };
        expected.seen += 1;
        if expected.seen > expected.rows {
            return;
        }
        let (rowid, unique) = (expected.rowid, expected.rows == 1);
        let key = (table.to_owned(), record.key.clone().unwrap_or_default());
        let last = self.last.insert(key, rowid);
        if unique && last.is_some_and(|last| last > rowid) {
            self.answer.out_of_order += 1;
            let message =
                format!("table {table}, row {rowid} (id {id}) follows row {} of its key", last.unwrap_or(0));
            self.problem(ErrorCode::SequenceConflict, message);
        }
    }

    fn finish(mut self) -> v1::VerifySourceResponse {
        let tables = std::mem::take(&mut self.tables);
        let mut waiting = 0;
        for (table, rows) in &tables {
            let mut expected: Vec<_> = rows.expected.iter().collect();
            expected.sort_by_key(|(_, expected)| expected.rowid);
            for (id, &Expected { rowid, rows, seen, due }) in expected {
                self.answer.published += seen.min(rows);
                let absent = (rows - seen).max(0);
                if absent > 0 && due {
                    self.answer.missing += absent;
                    self.problem(
                        ErrorCode::SequenceGap,
                        format!("table {table}, row {rowid} (id {id}) is not in the log"),
                    );
                } else {
                    waiting += absent;
                }
                if seen > rows {
                    self.answer.duplicated += seen - rows;
                    let message = format!("table {table}, row {rowid} (id {id}) is in the log {seen} times");
                    self.problem(ErrorCode::SequenceConflict, message);
                }
            }
        }
        if waiting > 0 {
            let message = format!(
                "{waiting} rows wait to be published: see `sunseo outbox describe`, then verify again"
            );
            self.problem(ErrorCode::Unavailable, message);
        }
        self.answer
    }
}

fn rowid_name(rowid: i64) -> String {
    format!("rowid {rowid}")
}
