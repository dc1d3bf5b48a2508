//! What an operator may do with state.
//!
//! A store is an ordered map of bytes. A task sees only its own partition's part of a store; how several tasks share one
//! database is the implementation's matter. Reads see the writes made before them in the same batch.

pub mod memory;

use std::ops::Bound;

use bytes::Bytes;
use sunseo_proto::error::Result;

use crate::task::StoreIndex;

pub use memory::MemoryState;

/// State as an operator sees it.
pub trait StateAccess {
    /// The value of a key.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&mut self, store: StoreIndex, key: &[u8]) -> Result<Option<Bytes>>;

    /// Sets a key; `None` removes it. Takes effect for later reads at once, durably with the batch's commit.
    fn put(&mut self, store: StoreIndex, key: Bytes, value: Option<Bytes>);

    /// Entries between the bounds in key order, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn scan(
        &mut self,
        store: StoreIndex,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>>;
}
