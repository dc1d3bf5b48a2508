//! The ordering application, as a user of the outbox would write it: SQLite, and in every transaction the business row
//! and the outbox row that tells of it.
//!
//! Invariants: both rows or neither; events of one delivery go to one outbox table, in the order of their numbers. The
//! tables have Debezium's columns and an AUTOINCREMENT key, which is commit order in SQLite.
//!
//! The database runs in WAL mode, so that the outbox reader never blocks it, with `synchronous=NORMAL`: a commit survives
//! the death of every process, which is what the demo inflicts. An application whose orders must survive a power cut as
//! well sets FULL and pays one more fsync per transaction.
//! Not here: anything of Sunseo. The application does not know who reads its tables.

use std::path::Path;

use rusqlite::{Connection, params};
use sunseo_proto::partitioner::partition_of;

use crate::error::{DemoError, Result};
use crate::event::{DeliveryEvent, OrderStep, Transaction};
use crate::topics::{DELIVERY, OUTBOX_TABLE_PREFIX};

/// Pages of the write-ahead log before SQLite copies them into the database, 4 KiB each: copying rarely keeps commits even.
const CHECKPOINT_PAGES: u32 = 4_096;

const CREATE_ORDERS: &str = "CREATE TABLE orders (
    id TEXT PRIMARY KEY,
    shop TEXT NOT NULL,
    status TEXT NOT NULL,
    rider TEXT,
    price_krw INTEGER NOT NULL,
    fee_krw INTEGER NOT NULL,
    version INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) WITHOUT ROWID";

const INSERT_ORDER: &str =
    "INSERT INTO orders (id, shop, status, rider, price_krw, fee_krw, version, updated_at_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// The version keeps a late or repeated change from being applied.
const UPDATE_ORDER: &str = "UPDATE orders SET status = ?2, rider = ?3, version = ?4, updated_at_ms = ?5
    WHERE id = ?1 AND version = ?4 - 1";

/// What the tables hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    pub orders: u64,
    pub outbox: u64,
}

/// The application with its database.
#[derive(Debug)]
pub struct Application {
    database: Connection,
    /// By shard.
    insert_outbox: Vec<String>,
    orders_rolled_back: u64,
}

impl Application {
    /// Creates the database, which must not exist.
    ///
    /// # Errors
    /// When the database cannot be made.
    pub fn create(path: &Path, shards: u32) -> Result<Self> {
        let failed = || DemoError::database("making the tables");
        let database = Connection::open(path).map_err(failed())?;
        database.pragma_update(None, "journal_mode", "WAL").map_err(failed())?;
        database.pragma_update(None, "synchronous", "NORMAL").map_err(failed())?;
        database.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(failed())?;
        database.execute(CREATE_ORDERS, ()).map_err(failed())?;
        let tables: Vec<String> = (0..shards).map(|shard| format!("{OUTBOX_TABLE_PREFIX}{shard}")).collect();
        for table in &tables {
            let create = format!(
                "CREATE TABLE {table} (
                    position INTEGER PRIMARY KEY AUTOINCREMENT,
                    id TEXT NOT NULL,
                    aggregatetype TEXT NOT NULL,
                    aggregateid TEXT NOT NULL,
                    type TEXT NOT NULL,
                    payload TEXT NOT NULL,
                    timestamp INTEGER NOT NULL
                )"
            );
            database.execute(&create, ()).map_err(failed())?;
        }
        let insert = |table: &String| {
            format!(
                "INSERT INTO {table} (id, aggregatetype, aggregateid, type, payload, timestamp)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
            )
        };
        database.set_prepared_statement_cache_capacity(shards as usize + 8);
        Ok(Self { database, insert_outbox: tables.iter().map(insert).collect(), orders_rolled_back: 0 })
    }

    /// Performs one transaction. When it returns, the transaction is committed, or rolled back as the step says.
    ///
    /// # Errors
    /// When the database refuses; nothing of the step is there then.
    pub fn perform(&mut self, step: &OrderStep) -> Result<()> {
        let event = &step.event;
        let transaction = self.database.unchecked_transaction().map_err(DemoError::database("beginning"))?;
        self.write_order(event)?;
        if step.transaction == Transaction::CommitAfterSavepoint {
            self.execute("SAVEPOINT draft", ())?;
            self.write_outbox(event, "{\"draft\":true}")?;
            self.execute("ROLLBACK TO draft", ())?;
            self.execute("RELEASE draft", ())?;
        }
        self.write_outbox(event, &event.to_json())?;
        let ended = match step.transaction {
            Transaction::RollBack => {
                self.orders_rolled_back += u64::from(event.order.is_some());
                transaction.rollback()
            }
            Transaction::Commit | Transaction::CommitAfterSavepoint => transaction.commit(),
        };
        ended.map_err(DemoError::database("ending a transaction"))
    }

    fn write_order(&self, event: &DeliveryEvent) -> Result<()> {
        let (id, status) = (event.delivery.to_string(), event.status.as_str());
        let rider = event.rider.map(|rider| rider.to_string());
        let changed = match event.order {
            Some(order) => {
                let shop = event.shop.to_string();
                let prices = (order.price_krw, order.fee_krw);
                let row = params![id, shop, status, rider, prices.0, prices.1, event.seq, event.at_ms];
                self.execute(INSERT_ORDER, row)?
            }
            None => self.execute(UPDATE_ORDER, params![id, status, rider, event.seq, event.at_ms])?,
        };
        if changed == 1 {
            return Ok(());
        }
        Err(DemoError::Internal(format!("event {} of {id} does not follow its order's version", event.seq)))
    }

    fn write_outbox(&self, event: &DeliveryEvent, payload: &str) -> Result<()> {
        let key = event.delivery.to_string();
        // there are at most SHARDS_MAX tables
        let shard = partition_of(key.as_bytes(), self.insert_outbox.len() as i32) as usize;
        let id = format!("{key}-{}", event.seq);
        let row = params![id, DELIVERY, key, event.status.as_str(), payload, event.at_ms];
        self.execute(&self.insert_outbox[shard], row).map(drop)
    }

    fn execute(&self, statement: &str, row: impl rusqlite::Params) -> Result<usize> {
        let failed = || DemoError::database("writing an order");
        self.database.prepare_cached(statement).map_err(failed())?.execute(row).map_err(failed())
    }

    /// New orders that were written and rolled back.
    #[must_use]
    pub fn orders_rolled_back(&self) -> u64 {
        self.orders_rolled_back
    }

    /// Counts what is there.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn rows(&self) -> Result<Rows> {
        let count = |table: &str| -> Result<u64> {
            let statement = format!("SELECT count(*) FROM {table}");
            let counted = self.database.query_row(&statement, (), |row| row.get::<_, i64>(0));
            // a count is not negative
            counted.map(i64::unsigned_abs).map_err(DemoError::database("counting rows"))
        };
        let tables = 0..self.insert_outbox.len();
        let outbox: Result<u64> = tables.map(|shard| count(&format!("{OUTBOX_TABLE_PREFIX}{shard}"))).sum();
        Ok(Rows { orders: count("orders")?, outbox: outbox? })
    }
}

#[cfg(test)]
mod tests;
