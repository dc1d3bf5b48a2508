//! Tiered storage and archive: sealed segments go to an object store and come back when they are read; topics become
//! Parquet tables.
//!
//! - [`host`]: the broker as the tier sees it, a port. [`Tier`]: the handle the broker holds.
//! - Pure cores: [`manifest`] (what the tier's records come to), `summary` and `fold` (the same written down, so that the records
//!   before it can go), [`plan`] (facts to decisions), [`segment`] (the object's layout).
//! - Shells: [`store`] and `objects` (the object store), `journal` (records and their fold), `service` (the loop), `offload`
//!   (uploads), `fetch` and `cache` (cold reads), `check` (verify, restore).
//! - [`archive`]: records to Parquet.
//!
//! Invariants:
//! - The truth is the sequence of records in `__tier` (intent, PUT, commit) or a summary of them and what follows it. The bucket
//!   holds only what they name, and an exported copy of the manifest. No compare-and-swap of the store is relied on.
//! - A local copy is evicted only after the commit record is durable; the commit record is written only after the object was
//!   read back at its tail.
//! - The range of an archive file is durable before its PUT and its bytes are a function of the range, so a repetition writes
//!   the same bytes under the same name.
//! - A store that does not answer makes the local disk grow; it never loses a record and never blocks a producer here.
//!
//! Not here: the log, the metadata, permission checks.

pub mod archive;
mod cache;
mod check;
pub mod config;
mod core;
mod fetch;
mod fold;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz;
pub mod host;
mod journal;
pub mod manifest;
mod objects;
mod offload;
pub mod plan;
pub mod record;
pub mod report;
pub mod segment;
mod service;
mod status;
pub mod store;
mod summary;
#[cfg(test)]
mod testing;
mod tier;

pub use archive::Definition as ArchiveDefinition;
pub use config::TierConfig;
pub use store::ObjectStoreHandle;
pub use tier::Tier;

#[cfg(test)]
mod tests;
