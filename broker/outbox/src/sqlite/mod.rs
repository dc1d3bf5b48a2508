//! Outbox tables in a SQLite database.
//!
//! SQLite lets one transaction write at a time, and an AUTOINCREMENT key is given under that lock, above every key the table
//! ever had. So key order is commit order: reading `key > last` misses nothing that is committed by ordinary inserts. What
//! it does not see, and this is the contract: a row that is deleted before it is read (a table that is emptied must keep a
//! row until the source's position has passed it), changes to a row that was read, and a row that is inserted with a key
//! of its own below the position (`verify` finds it).
//!
//! - [`schema`]: what a table must be; pure. [`connection`]: opens the database and proves it. [`reader`]: the thread that reads.

pub(crate) mod connection;
pub(crate) mod reader;
pub(crate) mod schema;

#[cfg(test)]
mod tests;
