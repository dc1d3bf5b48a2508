//! The newest offset of each key in the dirty part, bounded in bytes. Pure.
//!
//! Keys are held whole: two keys are never taken for one.

use std::collections::HashMap;

/// What an entry costs beside its key.
const ENTRY_BYTES: usize = 64;

#[derive(Debug)]
pub(crate) struct OffsetMap {
    newest: HashMap<Box<[u8]>, i64>,
    bytes: usize,
    limit_bytes: usize,
}

impl OffsetMap {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { newest: HashMap::new(), bytes: 0, limit_bytes }
    }

    /// Whether no further batch should be noted. The one that fills it still fits.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.limit_bytes
    }

    /// Offsets come rising.
    pub(crate) fn note(&mut self, key: &[u8], offset: i64) {
        match self.newest.get_mut(key) {
            Some(newest) => *newest = offset,
            None => {
                self.bytes += key.len() + ENTRY_BYTES;
                self.newest.insert(key.into(), offset);
            }
        }
    }

    /// Whether a newer record has this key.
    pub(crate) fn supersedes(&self, key: &[u8], offset: i64) -> bool {
        self.newest.get(key).is_some_and(|newest| *newest > offset)
    }
}
