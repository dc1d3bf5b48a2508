//! Databases' outbox tables and pushed events to records.
//!
//! - [`Outbox`]: the sources a node reads and the shards that applications push, started from the broker's registry.
//! - [`grpc`], [`http`]: the two ways in; both are thin.
//! - `position`: where a shard stands, and why each row is in the log exactly once. `row`: a row to a record. Both pure.
//!
//! The log is reached only through [`sunseo_client::Client`].
//!
//! Not here: the HTTP server, and databases other than SQLite.

mod appender;
mod checkpoint;
pub mod config;
mod definition;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz;
pub mod grpc;
pub mod http;
mod ingest;
mod names;
mod outbox;
mod position;
mod read;
mod row;
mod source;
mod sqlite;
mod tasks;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod topics;
mod verify;

pub use config::OutboxConfig;
pub use outbox::Outbox;
