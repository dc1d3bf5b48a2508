//! One sub-topology on one partition, pure.
//!
//! Invariant: what [`TaskCore`] does is a function of the state it is given, its [`TaskMeta`], the batch's `now_ms` and the
//! inputs in their order. The same calls on the same state give the same writes and the same outputs, so that a batch which
//! was not committed can be done again.
//!
//! Not here: where inputs come from, how state and outputs are committed.

mod core;
pub mod dead_letter;
mod dispatch;
mod record;
mod scope;
#[cfg(test)]
mod tests;

pub use core::TaskCore;
pub use record::{
    InputRecord, OutputRecord, Processed, Punctuation, SinkIndex, SourceIndex, StoreIndex, TaskMeta,
};
