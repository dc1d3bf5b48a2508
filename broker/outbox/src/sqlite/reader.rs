//! The thread that reads one database: it looks whether something was committed, and hands rows over in key order.
//!
//! Invariants: one read transaction sees all tables at the same commit. Rows of a table are handed over in key order, each
//! once per reader. The thread is at most [`AHEAD_MAX`] batches ahead; it ends when nobody listens any more.
//! Not here: what rows mean, and where a restart begins; the starting positions are given.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};
use tokio::sync::mpsc;

use super::connection::{check_patterns, last_key, metadata, of_sqlite, open, tables};
use super::schema::Table;
use crate::definition::Definition;
use crate::row::{RawRow, Value, id_text};

/// Batches that are read and not yet taken.
const AHEAD_MAX: usize = 2;
/// How often the file is compared with the one that was opened.
const FILE_CHECK: Duration = Duration::from_secs(1);
/// Looks without news after which the wait doubles.
const IDLE_LOOKS: u32 = 50;

/// Where a table is read on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    pub position: i64,
    /// CRC-32 of the id at `position`.
    pub id_checksum: u32,
}

/// Rows of one table.
#[derive(Debug)]
pub struct TableRows {
    pub table: String,
    pub rows: Vec<RawRow>,
    /// Highest key the table gave so far, to tell the lag.
    pub last_key: i64,
}

/// What the thread tells.
#[derive(Debug)]
pub enum Event {
    /// Tables that are read from now on.
    Found(Vec<String>),
    Rows(Vec<TableRows>),
    /// This table is not read any further, the others are.
    TableStopped(String, Error),
    /// The thread has ended.
    Failed(Error),
}

/// How the thread reads.
#[derive(Clone, Debug)]
pub struct Settings {
    pub poll_min: Duration,
    pub poll_max: Duration,
    pub batch_rows: usize,
    pub batch_bytes: usize,
    pub busy_timeout: Duration,
}

/// The listening end. Dropping it ends the thread.
#[derive(Debug)]
pub struct Reader {
    pub events: mpsc::Receiver<Event>,
    /// Tables that are not to be read any further.
    skip: Arc<Mutex<BTreeSet<String>>>,
    _alive: Sender<()>,
}

impl Reader {
    /// Starts the thread.
    pub fn spawn(
        definition: Arc<Definition>,
        settings: Settings,
        resume: BTreeMap<String, Resume>,
    ) -> Result<Self> {
        let (sender, events) = mpsc::channel(AHEAD_MAX);
        let (alive, gone) = channel();
        let skip = Arc::<Mutex<BTreeSet<String>>>::default();
        let name = format!("outbox-{}", definition.name());
        let mut thread = Thread {
            definition,
            settings,
            resume,
            skip: Arc::clone(&skip),
            events: sender,
            gone,
            tables: Vec::new(),
            stopped: BTreeSet::new(),
            schema_version: -1,
            turn: 0,
        };
        let run = move || {
            if let Err(error) = thread.run() {
                // nobody listens: the source was stopped meanwhile
                let _ = thread.events.blocking_send(Event::Failed(error));
            }
        };
        let spawned = std::thread::Builder::new().name(name).spawn(run);
        spawned.map_err(|error| {
            Error::new(ErrorCode::Overloaded, format!("no thread for an outbox source: {error}"))
        })?;
        Ok(Self { events, skip, _alive: alive })
    }

    /// A table is not read any further.
    pub fn skip(&self, table: &str) {
        self.skip.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned());
    }
}

struct Thread {
    definition: Arc<Definition>,
    settings: Settings,
    /// Where each table is read on; moves with what is handed over.
    resume: BTreeMap<String, Resume>,
    skip: Arc<Mutex<BTreeSet<String>>>,
    events: mpsc::Sender<Event>,
    /// Closes when the listening end is dropped.
    gone: Receiver<()>,
    tables: Vec<Table>,
    /// Tables that cannot be read.
    stopped: BTreeSet<String>,
    schema_version: i64,
    /// The table that is read first, so that a long one does not keep the others waiting.
    turn: usize,
}

/// Whether there may be more right away.
enum Looked {
    More,
    AllRead,
}

/// Nobody listens any more.
struct Gone;

impl Thread {
    fn run(&mut self) -> Result<()> {
        let path = self.definition.path.clone();
        let connection = open(&path, self.settings.busy_timeout)?;
        let (opened, mut checked) = (identity(&path)?, Instant::now());
        let (mut idle, mut wait) = (0, self.settings.poll_min);
        loop {
            let version = pragma(&connection, "data_version").map_err(|error| of_sqlite(&path, &error))?;
            loop {
                match self.look(&connection)? {
                    Ok(Looked::More) => (idle, wait) = (0, self.settings.poll_min),
                    Ok(Looked::AllRead) => break,
                    Err(Gone) => return Ok(()),
                }
            }
            while pragma(&connection, "data_version").map_err(|error| of_sqlite(&path, &error))? == version {
                match self.gone.recv_timeout(wait) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return Ok(()),
                }
                idle += 1;
                if idle % IDLE_LOOKS == 0 {
                    wait = (wait * 2).min(self.settings.poll_max);
                }
                if checked.elapsed() >= FILE_CHECK {
                    checked = Instant::now();
                    if identity(&path)? != opened {
                        // opened again, and proved again, by whoever started this thread
                        let message = format!("database {} was replaced by another file", path.display());
                        return Err(Error::new(ErrorCode::Unavailable, message));
                    }
                }
            }
            (idle, wait) = (0, self.settings.poll_min);
        }
    }

    /// Reads one batch of every table in one transaction and hands it over.
    fn look(&mut self, connection: &Connection) -> Result<std::result::Result<Looked, Gone>> {
        let path = self.definition.path.clone();
        let sqlite = |error: rusqlite::Error| of_sqlite(&path, &error);
        let transaction = connection.unchecked_transaction().map_err(sqlite)?;
        let schema_version = pragma(connection, "schema_version").map_err(sqlite)?;
        let mut events = Vec::new();
        if schema_version != self.schema_version {
            self.find_tables(connection, &mut events)?;
            self.schema_version = schema_version;
        }
        let (rows, more) = self.read(connection, &mut events)?;
        transaction.finish().map_err(sqlite)?;
        if !rows.is_empty() {
            events.push(Event::Rows(rows));
        }
        for event in events {
            if self.events.blocking_send(event).is_err() {
                return Ok(Err(Gone));
            }
        }
        Ok(Ok(if more { Looked::More } else { Looked::AllRead }))
    }

    fn find_tables(&mut self, connection: &Connection, events: &mut Vec<Event>) -> Result<()> {
        let found = tables(connection, &self.definition)?;
        if self.schema_version < 0 {
            check_patterns(&self.definition, &found)?;
        }
        let (mut readable, mut new) = (Vec::new(), Vec::new());
        for (name, table) in found {
            // a table that was read before may be another one under its name
            let table = table.and_then(|table| self.check_identity(connection, &table).map(|()| table));
            match table {
                Ok(table) => {
                    if !self.tables.iter().any(|known| known.name == name) {
                        new.push(name);
                    }
                    readable.push(table);
                }
                Err(error) if error.code == ErrorCode::SourceUnreadable => {
                    if self.stopped.insert(name.clone()) {
                        events.push(Event::TableStopped(name, error));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.tables = readable;
        if !new.is_empty() {
            events.insert(0, Event::Found(new));
        }
        Ok(())
    }

    /// The row at the position must still be the one that was published, unless it was deleted.
    fn check_identity(&self, connection: &Connection, table: &Table) -> Result<()> {
        let Some(&Resume { position, id_checksum }) = self.resume.get(&table.name) else { return Ok(()) };
        if position == 0 || id_checksum == 0 {
            return Ok(());
        }
        let sqlite = |error: rusqlite::Error| of_sqlite(&self.definition.path, &error);
        let (rows, _) = read_rows(connection, table, position - 1, (1, usize::MAX)).map_err(sqlite)?;
        match rows.first().filter(|row| row.rowid == position) {
            Some(row) if checksum_of_id(row) != id_checksum => {
                let what = format!("row {position} is not the one that was published from there");
                Err(self.diverged(&table.name, &what))
            }
            _ => Ok(()),
        }
    }

    fn diverged(&self, table: &str, what: &str) -> Error {
        let (source, path) = (self.definition.name(), self.definition.path.display());
        let message = format!(
            "source {source}: {path} is not the database that was read before: table {table}: {what}; \
             bring the former database back, or remove the source and add this one under another name, which publishes it from its start"
        );
        Error::new(ErrorCode::SourceDiverged, message)
    }

    fn read(&mut self, connection: &Connection, events: &mut Vec<Event>) -> Result<(Vec<TableRows>, bool)> {
        let path = self.definition.path.clone();
        let sqlite = |error: rusqlite::Error| of_sqlite(&path, &error);
        let skip = self.skip.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut batch, mut more, mut bytes) = (Vec::new(), false, 0);
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % self.tables.len().max(1);
        let (last, next) = self.tables.split_at(first);
        for table in next.iter().chain(last) {
            if skip.contains(&table.name) || self.stopped.contains(&table.name) {
                continue;
            }
            let position = self.resume.get(&table.name).map_or(0, |resume| resume.position);
            let last_key = last_key(connection, &table.name).map_err(sqlite)?;
            if last_key < position {
                let what = format!("its highest key is {last_key}, row {position} was published before");
                return Err(self.diverged(&table.name, &what));
            }
            let left = self.settings.batch_bytes.saturating_sub(bytes);
            if left == 0 {
                more = true;
                break;
            }
            let limits = (self.settings.batch_rows, left);
            let (rows, cut) = match read_rows(connection, table, position, limits) {
                Ok(rows) => rows,
                Err(error) => match of_sqlite(&path, &error) {
                    error if error.retryable() => return Err(error),
                    error => {
                        self.stopped.insert(table.name.clone());
                        events.push(Event::TableStopped(table.name.clone(), error));
                        continue;
                    }
                },
            };
            more |= cut;
            let Some(last) = rows.last() else { continue };
            bytes += rows.iter().map(RawRow::bytes).sum::<usize>();
            let resume = Resume { position: last.rowid, id_checksum: checksum_of_id(last) };
            self.resume.insert(table.name.clone(), resume);
            batch.push(TableRows { table: table.name.clone(), rows, last_key });
        }
        Ok((batch, more))
    }
}

/// Rows after a key, at least one if there is one, and whether a limit cut them.
pub fn read_rows(
    connection: &Connection,
    table: &Table,
    position: i64,
    (rows_max, bytes_max): (usize, usize),
) -> rusqlite::Result<(Vec<RawRow>, bool)> {
    let mut statement = connection.prepare_cached(&table.select)?;
    let mut found = statement.query((position, rows_max as i64))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let mut raw = RawRow { rowid: row.get(0)?, ..RawRow::default() };
        for (index, value) in raw.values.iter_mut().enumerate() {
            *value = value_of(row.get_ref(index + 1)?);
        }
        bytes += raw.bytes();
        if bytes > bytes_max && !rows.is_empty() {
            return Ok((rows, true));
        }
        rows.push(raw);
    }
    let cut = rows.len() == rows_max;
    Ok((rows, cut))
}

fn value_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(bytes) => Value::Text(Bytes::copy_from_slice(bytes)),
        ValueRef::Blob(bytes) => Value::Blob(Bytes::copy_from_slice(bytes)),
    }
}

/// Tells one row's id from another's; never 0, which stands for "not known".
pub fn checksum_of_id(row: &RawRow) -> u32 {
    let id = id_text(row).unwrap_or_default();
    crc32fast::hash(id.as_bytes()).max(1)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached(&format!("PRAGMA {name}"))?.query_row([], |row| row.get(0))
}

/// Tells a file from one that took its place.
fn identity(path: &Path) -> Result<(u64, u64)> {
    let metadata = metadata(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        Ok((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        Ok((0, 0))
    }
}
