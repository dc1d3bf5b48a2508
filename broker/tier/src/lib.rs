//! Tiered storage and archive: sealed segments go to an object store and come back when they are read; topics become
//! Parquet tables.
//!
//! - [`host`]: the broker as the tier sees it, a port. [`Tier`]: the handle the broker holds.
//!
//! Invariants:
//! - The truth is the sequence of records in `__tier`: intent, PUT, commit. The bucket holds only what they name, and an
//!   exported copy of the manifest. No compare-and-swap of the store is relied on.
//! - A local copy is evicted only after the commit record is durable; the commit record is written only after the object was
//!   read back at its tail.
//! - The range of an archive file is durable before its PUT and its bytes are a function of the range, so a repetition writes
//!   the same bytes under the same name.
//! - A store that does not answer makes the local disk grow; it never loses a record and never blocks a producer here.
//!
//! Not here: the log, the metadata, permission checks.

pub mod config;
pub mod host;
pub mod report;
pub mod store;
mod tier;

pub use config::TierConfig;
pub use store::ObjectStoreHandle;
pub use tier::Tier;
