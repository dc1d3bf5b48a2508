//! Reliability, counted: histories of what clients saw, a checker of them, and seeded runs that make histories.
//!
//! - [`history`]: operations as data. [`check`]: operations in, errors out; pure.
//! - [`sim`]: whole nodes with their clients in one process, ruled by a seed.
//! - [`process`]: the binary with the same clients.
//! - [`soak`]: a day of one node, and what grew.
//! - `load`: the clients, who do not know where their node is; `recorder`, `payload`, `verdict`: what they share.
//!
//! Not here: the product. Nothing depends on this crate.

pub mod check;
pub mod history;
mod load;
#[cfg(test)]
mod mutants;
pub mod payload;
pub mod process;
pub mod recorder;
mod report;
mod requests;
pub mod sim;
pub mod soak;
mod verdict;

pub use load::{Load, Plan, Stress};
pub use report::{Deeds, RunReport};
