//! Opens a database for reading and proves that its tables can be read correctly.

use std::fs::Metadata;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode as Sqlite, OpenFlags};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};

use super::schema::{self, ColumnInfo, Table, TableInfo, quoted};
use crate::definition::Definition;

/// Tables of one source.
pub const SHARDS_MAX: usize = 1_000;

/// Refuses what cannot be opened at all, then opens it. The connection never writes.
pub fn open(path: &Path, busy_timeout: Duration) -> Result<Connection> {
    check_file(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| of_sqlite(path, &error))?;
    connection.busy_timeout(busy_timeout).map_err(|error| of_sqlite(path, &error))?;
    // the first look at the file's content: this is where a file that is no database is found
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .and_then(|mode| connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(mode)))
        .map_err(|error| of_sqlite(path, &error))?;
    if !mode.eq_ignore_ascii_case("wal") {
        tracing::warn!(
            database = %path.display(), mode,
            "readers and writers of this outbox wait for each other; PRAGMA journal_mode=WAL lets them run side by side"
        );
    }
    Ok(connection)
}

fn check_file(path: &Path) -> Result<()> {
    let metadata = metadata(path)?;
    if !metadata.is_file() {
        return Err(unreadable(format!("{} is no file: give the path of the database file", path.display())));
    }
    Ok(())
}

/// Of the database's file.
pub fn metadata(path: &Path) -> Result<Metadata> {
    std::fs::metadata(path).map_err(|error| {
        let remedy = "check the url of the source, and that the server may read it";
        unreadable(format!("database {} cannot be opened: {error}; {remedy}", path.display()))
    })
}

fn unreadable(message: String) -> Error {
    Error::new(ErrorCode::SourceUnreadable, message).at("url")
}

/// Errors that pass by themselves are retryable, the others stop the source.
pub fn of_sqlite(path: &Path, error: &rusqlite::Error) -> Error {
    let path = path.display();
    match error.sqlite_error_code() {
        Some(Sqlite::DatabaseBusy | Sqlite::DatabaseLocked) => {
            Error::new(ErrorCode::Unavailable, format!("database {path} is locked by a writer: {error}"))
        }
        // a writer that crashed left a journal which only a writer can roll back
        Some(Sqlite::ReadOnly | Sqlite::CannotOpen | Sqlite::SystemIoFailure) => {
            Error::new(ErrorCode::Unavailable, format!("database {path} cannot be read now: {error}"))
        }
        Some(Sqlite::NotADatabase) => {
            unreadable(format!("{path} is no SQLite database: {error}; give the path of the database file"))
        }
        _ => unreadable(format!(
            "database {path} cannot be read: {error}; check it with PRAGMA integrity_check"
        )),
    }
}

/// The tables of a source: those that can be read and those that cannot, with the reason.
pub fn tables(connection: &Connection, definition: &Definition) -> Result<Vec<(String, Result<Table>)>> {
    let sqlite = |error: rusqlite::Error| of_sqlite(&definition.path, &error);
    let mut statement = connection
        .prepare("SELECT name, sql, type = 'view' FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")
        .map_err(sqlite)?;
    let found = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get(2)?)))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .map_err(sqlite)?;
    let mut tables = Vec::new();
    for (name, sql, is_view) in found {
        if name.starts_with("sqlite_") || !definition.matches(&name) {
            continue;
        }
        let columns = columns(connection, &name).map_err(sqlite)?;
        let info = TableInfo { name, sql: sql.unwrap_or_default(), is_view, columns };
        tables.push((info.name.clone(), schema::check(&info, definition)));
    }
    if tables.len() > SHARDS_MAX {
        let message =
            format!("{} tables match, the limit is {SHARDS_MAX}: name them more narrowly", tables.len());
        return Err(Error::new(ErrorCode::SourceUnreadable, message).at("tables"));
    }
    Ok(tables)
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<ColumnInfo>> {
    let mut statement = connection.prepare(&format!("PRAGMA table_info({})", quoted(table)))?;
    let column =
        |row: &rusqlite::Row<'_>| Ok(ColumnInfo { name: row.get(1)?, kind: row.get(2)?, key: row.get(5)? });
    statement.query_map([], column)?.collect()
}

/// Every pattern must match something: a source that reads nothing is a mistake.
pub fn check_patterns(definition: &Definition, tables: &[(String, Result<Table>)]) -> Result<()> {
    let matched =
        |pattern: &str| tables.iter().any(|(table, _)| crate::definition::pattern_matches(pattern, table));
    match definition.raw.tables.iter().find(|pattern| !matched(pattern)) {
        None => Ok(()),
        Some(pattern) => {
            let path = definition.path.display();
            let message = format!(
                "no table of {path} matches {pattern:?}: create the outbox table, or correct the pattern"
            );
            Err(Error::new(ErrorCode::SourceUnreadable, message).at("tables"))
        }
    }
}

/// Everything that `add` checks: the first problem is the error.
pub fn preflight(definition: &Definition, busy_timeout: Duration) -> Result<Vec<Table>> {
    let connection = open(&definition.path, busy_timeout)?;
    let tables = tables(&connection, definition)?;
    check_patterns(definition, &tables)?;
    tables.into_iter().map(|(_, table)| table).collect()
}

/// Highest key that a table ever gave, 0 before the first.
pub fn last_key(connection: &Connection, table: &str) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?;
    let mut rows = statement.query([table])?;
    match rows.next()? {
        Some(row) => row.get(0),
        None => Ok(0),
    }
}
