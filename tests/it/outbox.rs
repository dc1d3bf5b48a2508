//! A real application database, read through the binary, while the node is killed.

use std::collections::HashMap;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::Connection;

use crate::harness::{Node, eventually};

const TABLES: usize = 2;
const KEYS: usize = 10;

fn database(path: &Path) -> Connection {
    let database = Connection::open(path).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    for table in 0..TABLES {
        let statement = format!(
            "CREATE TABLE outbox_order_{table} (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, aggregatetype TEXT,
             aggregateid TEXT, type TEXT, payload TEXT)"
        );
        database.execute(&statement, ()).unwrap();
    }
    database
}

/// Transactions of some rows each; one of five is rolled back. What was committed, per key in order.
struct Application {
    database: Connection,
    random: StdRng,
    committed: HashMap<String, Vec<String>>,
    rolled_back: usize,
    next: usize,
}

impl Application {
    fn work(&mut self, transactions: usize) {
        for _ in 0..transactions {
            let commit = !self.random.random_bool(0.2);
            let transaction = self.database.transaction().unwrap();
            for _ in 0..self.random.random_range(1..4) {
                let number = self.random.random_range(0..KEYS);
                let (key, value) = (format!("o-{number}"), format!("e-{}", self.next));
                self.next += 1;
                let statement = format!(
                    "INSERT INTO outbox_order_{} (id, aggregatetype, aggregateid, type, payload) VALUES (?, 'order', ?, 'Changed', ?)",
                    number % TABLES
                );
                transaction.execute(&statement, (&value, &key, &value)).unwrap();
                if commit {
                    self.committed.entry(key).or_default().push(value);
                } else {
                    self.rolled_back += 1;
                }
            }
            if commit { transaction.commit() } else { transaction.rollback() }.unwrap();
        }
    }

    fn rows(&self) -> usize {
        self.committed.values().map(Vec::len).sum()
    }
}

#[test]
fn every_committed_row_is_published_once_and_in_order_and_no_other() {
    let seed = 7;
    let mut node = Node::start();
    let path = node.dir().join("application.db");
    let random = StdRng::seed_from_u64(seed);
    let database = database(&path);
    let mut application =
        Application { database, random, committed: HashMap::new(), rolled_back: 0, next: 0 };
    application.work(50);
    let url = path.to_str().unwrap();
    let arguments =
        ["outbox", "add", "orders", "--url", url, "--table", "outbox_order_*", "--partitions", "4"];
    node.run(&arguments).ok();
    for _ in 0..3 {
        application.work(100);
        node.kill();
        application.work(20);
        node.restart();
    }
    application.work(50);
    assert!(application.rolled_back > 0);
    let rows = application.rows();
    let records = eventually("every row is published", || {
        let read = node.run(&["consume", "order", "-f", "%k %v\\n"]);
        (read.status.success() && read.text().lines().count() >= rows).then(|| read.text().to_owned())
    });
    let mut published: HashMap<String, Vec<String>> = HashMap::new();
    for line in records.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        published.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    assert_eq!(published, application.committed, "seed {seed}");
    let verified = node.run(&["outbox", "verify", "orders", "--json"]).ok().json();
    assert_eq!(
        (verified["rows"].as_u64(), verified["missing"].as_u64()),
        (Some(rows as u64), Some(0)),
        "{verified}"
    );
    let listed = node.run(&["outbox", "list", "--json"]).ok().json();
    assert_eq!(
        (listed[0]["definition"]["name"].as_str(), listed[0]["state"].as_str()),
        (Some("orders"), Some("running")),
        "{listed}"
    );
    node.run(&["outbox", "pause", "orders"]).ok();
    assert_eq!(node.run(&["outbox", "describe", "orders", "--json"]).ok().json()["state"], "paused");
    node.run(&["outbox", "resume", "orders"]).ok();
    node.run(&["outbox", "remove", "orders"]).ok();
    let error = node.run(&["outbox", "describe", "orders"]).fails_with(1);
    assert!(error.contains("UNKNOWN_SOURCE"), "{error}");
}
