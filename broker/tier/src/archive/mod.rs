//! Topics as Parquet tables: `tab/{table}/dt=YYYY-MM-DD/{partition}-{from}-{to}.parquet`.
//!
//! - [`definition`]: what a table is. [`row`]: one record's JSON to typed cells. [`mod@file`]: rows to Parquet bytes.
//! - [`cut`]: a range of records to the files of that range; a pure function of range, definition and [`WRITER_VERSION`].
//! - [`ledger`]: the fold that says how far each table is; [`plan`]: when to cut. `run`: the shell.
//!
//! A record is in exactly one row of exactly one file, or in one line under `bad/` when it does not fit the schema.
//! Not here: changing files that were written, merging small ones.

pub mod cut;
pub mod definition;
pub mod file;
pub mod ledger;
pub mod plan;
pub mod row;
pub(crate) mod run;

pub use definition::Definition;

/// Changes whenever the same records would become other bytes.
pub const WRITER_VERSION: u32 = 1;
