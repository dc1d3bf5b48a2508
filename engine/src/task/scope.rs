//! The writes of one record, kept apart until the record has been handled to its end.

use std::ops::Bound;

use bytes::Bytes;
use sunseo_proto::error::Result;

use super::StoreIndex;
use super::record::ENTRY_BYTES;
use crate::state::StateAccess;

type Write = (StoreIndex, Bytes, Option<Bytes>);

/// State with the writes of one record over it. A record writes few keys, so they are a list.
pub(super) struct RecordScope<'a> {
    base: &'a mut dyn StateAccess,
    writes: Vec<Write>,
}

impl<'a> RecordScope<'a> {
    /// `writes` is an empty buffer that is used again.
    pub fn new(base: &'a mut dyn StateAccess, writes: Vec<Write>) -> Self {
        debug_assert!(writes.is_empty());
        Self { base, writes }
    }

    /// What the writes add to a commit, about.
    pub fn bytes(&self) -> usize {
        let bytes = |(_, key, value): &Write| key.len() + value.as_ref().map_or(0, Bytes::len) + ENTRY_BYTES;
        self.writes.iter().map(bytes).sum()
    }

    /// Hands the writes down; gives the buffer back.
    pub fn commit(mut self) -> Vec<Write> {
        for (store, key, value) in self.writes.drain(..) {
            self.base.put(store, key, value);
        }
        self.writes
    }

    /// Forgets the writes; gives the buffer back.
    pub fn discard(mut self) -> Vec<Write> {
        self.writes.clear();
        self.writes
    }
}

impl StateAccess for RecordScope<'_> {
    fn get(&mut self, store: StoreIndex, key: &[u8]) -> Result<Option<Bytes>> {
        match self.writes.iter().find(|(at, written, _)| *at == store && written == key) {
            Some((_, _, value)) => Ok(value.clone()),
            None => self.base.get(store, key),
        }
    }

    fn put(&mut self, store: StoreIndex, key: Bytes, value: Option<Bytes>) {
        match self.writes.iter_mut().find(|(at, written, _)| *at == store && *written == key) {
            Some(write) => write.2 = value,
            None => self.writes.push((store, key, value)),
        }
    }

    fn scan(
        &mut self,
        store: StoreIndex,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let within = |key: &[u8]| {
            let after = match from {
                Bound::Included(from) => key >= from,
                Bound::Excluded(from) => key > from,
                Bound::Unbounded => true,
            };
            after
                && match to {
                    Bound::Included(to) => key <= to,
                    Bound::Excluded(to) => key < to,
                    Bound::Unbounded => true,
                }
        };
        // Each write can hide one entry below, so that many more are read.
        let mut found = self.base.scan(store, from, to, limit.saturating_add(self.writes.len()))?;
        for (at, key, value) in &self.writes {
            if *at != store || !within(key) {
                continue;
            }
            let place = found.binary_search_by(|(known, _)| known.cmp(key));
            match (place, value) {
                (Ok(place), Some(value)) => found[place].1 = value.clone(),
                (Ok(place), None) => {
                    found.remove(place);
                }
                (Err(place), Some(value)) => found.insert(place, (key.clone(), value.clone())),
                (Err(_), None) => {}
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}
