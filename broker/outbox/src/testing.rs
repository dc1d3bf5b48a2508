//! The client's broker in memory as this crate's tests use it, and an application with a database.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use sunseo_client::testing::{Faults, MemoryTransport};
use sunseo_proto::clock::ManualClock;
use sunseo_proto::error::Result;
use sunseo_proto::{Record, v1};

use crate::{Outbox, OutboxConfig};

/// What goes wrong in the scenarios of crashes.
pub(crate) fn faults() -> Faults {
    Faults { lose_request: 8, lose_answer: 8, late: 5, refuse: 5 }
}

/// A broker that answers as fast as a real one, for tests in real time, with small answers; everything that the outbox
/// appends has positions.
pub(crate) fn broker(seed: u64, faults: Faults) -> MemoryTransport {
    let transport = MemoryTransport::new(seed, faults);
    {
        let mut broker = transport.broker();
        broker.append_time = Duration::from_micros(1500);
        broker.max_fetch_bytes = 4096;
        broker.positions_only = true;
    }
    transport
}

pub(crate) fn header(record: &Record, key: &str) -> String {
    record.header(key).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

/// Header `id` of every record, sorted.
pub(crate) fn event_ids(fake: &MemoryTransport, topic: &str) -> Vec<String> {
    let mut ids: Vec<_> = fake.all(topic).iter().map(|record| header(record, "id")).collect();
    ids.sort();
    ids
}

/// An application with its database, in a directory of its own.
#[derive(Debug)]
pub(crate) struct App {
    pub db: Connection,
    dir: tempfile::TempDir,
}

pub(crate) const OUTBOX_COLUMNS: &str = "id TEXT NOT NULL, aggregatetype TEXT, aggregateid TEXT, type TEXT, payload TEXT, timestamp INTEGER, headers TEXT";

impl App {
    /// With tables `outbox_0` ..
    pub(crate) fn new(shards: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Connection::open(dir.path().join("app.db")).expect("opens");
        db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE business (x)")
            .expect("made");
        let app = Self { db, dir };
        (0..shards).for_each(|shard| app.make_table(&format!("outbox_{shard}")));
        app
    }

    /// The application ends.
    pub(crate) fn close(&mut self) {
        self.db = Connection::open_in_memory().expect("opens");
    }

    pub(crate) fn reopen(&mut self) {
        self.db = Connection::open(self.path()).expect("opens");
        self.db.busy_timeout(Duration::from_secs(10)).expect("set");
    }

    pub(crate) fn make_table(&self, name: &str) {
        let columns = format!("seq INTEGER PRIMARY KEY AUTOINCREMENT, {OUTBOX_COLUMNS}");
        self.sql(&format!("CREATE TABLE {name} ({columns})"));
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    pub(crate) fn sql(&self, sql: &str) {
        self.db.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// One row; id and payload are the same.
    pub(crate) fn insert(&self, table: &str, id: &str, key: &str) {
        insert(&self.db, table, id, key);
    }

    pub(crate) fn definition(&self) -> v1::SourceDefinition {
        v1::SourceDefinition {
            name: "orders".to_owned(),
            kind: "sqlite".to_owned(),
            url: self.path().display().to_string(),
            tables: vec!["outbox_*".to_owned()],
            partitions: 4,
            ..Default::default()
        }
    }
}

pub(crate) fn insert(db: &Connection, table: &str, id: &str, key: &str) {
    let sql = format!(
        "INSERT INTO {table} (id, aggregatetype, aggregateid, type, payload) VALUES (?1, 'delivery', ?2, 'PLACED', ?1)"
    );
    db.execute(&sql, (id, key)).expect("inserted");
}

/// An outbox that looks often and writes progress down often.
pub(crate) async fn start(fake: &MemoryTransport) -> Outbox {
    start_with(fake, OutboxConfig::default()).await.expect("starts")
}

pub(crate) async fn start_with(fake: &MemoryTransport, config: OutboxConfig) -> Result<Outbox> {
    let config = OutboxConfig {
        poll_min: Duration::from_millis(1),
        poll_max: Duration::from_millis(5),
        checkpoint_interval: Duration::from_millis(20),
        ..config
    };
    Outbox::start(config, fake.client(), Arc::new(ManualClock::new(1_000))).await
}

/// Waits until something holds, half a minute at most.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = tokio::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
