//! Databases' outbox tables and pushed events to records.
//!
//! - [`Outbox`]: the sources a node reads and the shards that applications push, started from the broker's registry.
//! - [`grpc`], [`http`]: the two ways in; both are thin.
//!
//! The log is reached only through [`sunseo_client::Client`].
//!
//! Not here: the HTTP server, and databases other than SQLite.

pub mod config;
pub mod grpc;
pub mod http;
mod outbox;

pub use config::OutboxConfig;
pub use outbox::Outbox;
