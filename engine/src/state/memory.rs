//! State in memory with the same commit semantics as the durable one: what a batch wrote is visible to it at once, and
//! kept only by [`MemoryState::commit`]; [`MemoryState::rollback`] is what a crash does.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use sunseo_proto::error::Result;

use super::StateAccess;
use crate::task::StoreIndex;

type Entries = BTreeMap<Bytes, Bytes>;
type Writes = BTreeMap<Bytes, Option<Bytes>>;

/// The stores of one task.
#[derive(Clone, Debug, Default)]
pub struct MemoryState {
    committed: BTreeMap<StoreIndex, Entries>,
    pending: BTreeMap<StoreIndex, Writes>,
}

impl MemoryState {
    /// Makes the writes since the last commit permanent.
    pub fn commit(&mut self) {
        for (store, writes) in std::mem::take(&mut self.pending) {
            let entries = self.committed.entry(store).or_default();
            for (key, value) in writes {
                match value {
                    Some(value) => entries.insert(key, value),
                    None => entries.remove(&key),
                };
            }
        }
    }

    /// Forgets the writes since the last commit.
    pub fn rollback(&mut self) {
        self.pending.clear();
    }

    /// What a store holds, uncommitted writes included.
    #[must_use]
    pub fn entries(&self, store: StoreIndex) -> BTreeMap<Bytes, Bytes> {
        let mut entries = self.committed.get(&store).cloned().unwrap_or_default();
        for (key, value) in self.pending.get(&store).into_iter().flatten() {
            match value {
                Some(value) => entries.insert(key.clone(), value.clone()),
                None => entries.remove(key),
            };
        }
        entries
    }
}

impl StateAccess for MemoryState {
    fn get(&mut self, store: StoreIndex, key: &[u8]) -> Result<Option<Bytes>> {
        if let Some(written) = self.pending.get(&store).and_then(|writes| writes.get(key)) {
            return Ok(written.clone());
        }
        Ok(self.committed.get(&store).and_then(|entries| entries.get(key)).cloned())
    }

    fn put(&mut self, store: StoreIndex, key: Bytes, value: Option<Bytes>) {
        self.pending.entry(store).or_default().insert(key, value);
    }

    fn scan(
        &mut self,
        store: StoreIndex,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let (no_entries, no_writes) = (Entries::new(), Writes::new());
        let committed = self.committed.get(&store).unwrap_or(&no_entries);
        let pending = self.pending.get(&store).unwrap_or(&no_writes);
        if is_empty_range(from, to) {
            return Ok(Vec::new());
        }
        let mut old = committed.range::<[u8], _>((from, to)).peekable();
        let mut new = pending.range::<[u8], _>((from, to)).peekable();
        let mut found = Vec::new();
        while found.len() < limit {
            let take_new = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some((old_key, _)), Some((new_key, _))) => new_key <= old_key,
            };
            if !take_new {
                found.extend(old.next().map(|(key, value)| (key.clone(), value.clone())));
            } else if let Some((key, value)) = new.next() {
                old.next_if(|(old_key, _)| *old_key == key);
                found.extend(value.clone().map(|value| (key.clone(), value)));
            }
        }
        Ok(found)
    }
}

/// Whether `BTreeMap::range` would panic on, or find nothing between, these bounds.
#[must_use]
pub fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STORE: StoreIndex = StoreIndex(0);

    fn key(n: u8) -> Bytes {
        Bytes::copy_from_slice(&[n])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn reads_see_the_batch_and_a_rollback_forgets_it(
            steps in prop::collection::vec((0_u8..8, prop::option::of(0_u8..4), 0_u8..10), 0..40),
            from in 0_u8..8, to in 0_u8..9, limit in 0_usize..9,
        ) {
            let mut state = MemoryState::default();
            let (mut model, mut kept) = (BTreeMap::new(), BTreeMap::new());
            for (k, v, what) in steps {
                match what {
                    0 => { state.commit(); kept = model.clone(); }
                    1 => { state.rollback(); model = kept.clone(); }
                    _ => {
                        state.put(STORE, key(k), v.map(key));
                        match v { Some(v) => model.insert(key(k), key(v)), None => model.remove(&key(k)) };
                    }
                }
                prop_assert_eq!(state.get(STORE, &[k]).unwrap(), model.get(&key(k)).cloned());
            }
            prop_assert_eq!(&state.entries(STORE), &model);
            let found = state.scan(STORE, Bound::Included(&[from]), Bound::Excluded(&[to]), limit).unwrap();
            let expected: Vec<_> = model.into_iter().filter(|(k, _)| (from..to).contains(&k[0])).take(limit).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
