//! The requests, one file for each family: check, ask the owner, answer.

pub(crate) mod check;
pub(crate) mod delete_records;
mod describe;
pub(crate) mod fetch;
mod join;
pub(crate) mod keys;
mod offsets;
pub(crate) mod produce;
mod tier;
mod transactions;
