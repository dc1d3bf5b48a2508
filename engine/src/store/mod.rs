//! Where the state of tasks lies: one RocksDB per node ([`db`]), and over it what a task has in memory ([`overlay`]).

pub(crate) mod db;
pub(crate) mod open;
pub(crate) mod overlay;
pub(crate) mod position;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use db::copy_folder;
