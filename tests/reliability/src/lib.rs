//! Reliability, counted: histories of what clients saw, a checker of them, and seeded runs that make histories.
//!
//! - [`history`]: operations as data. [`check`]: operations in, errors out; pure.
//!
//! - [`sim`]: whole nodes with their clients in one process, ruled by a seed.
//!
//! Not here: the product. Nothing depends on this crate.

pub mod check;
pub mod history;
pub mod sim;
