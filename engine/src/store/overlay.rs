//! The state a task works on: what it wrote and did not commit yet, over what it committed, over the database.
//!
//! Two layers of writes: the batch that is being processed, and the one before it, whose commit is on its way. A read looks
//! at the batch, at the one before, at recently used values, then at the database. A layer holds each key once with its
//! last value, so a commit does too, however often the key changed.
//!
//! Invariants: nothing reaches the database before its commit is durable; queries read the database and so never see what
//! is not committed. Recently used values are bounded by a budget, the layers by the size of a batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::Error;
use sunseo_proto::error::Result;

use super::db::{StateDb, TaskPlace};
use super::position::StorePosition;
use crate::runtime::commit::{CommitHead, CommitWriter, Output};
use crate::state::StateAccess;
use crate::task::StoreIndex;

/// What an entry of a map costs beside its bytes.
const ENTRY_BYTES: usize = 96;

/// The stores of one task.
#[derive(Debug)]
pub(crate) struct TaskState {
    db: Arc<StateDb>,
    place: TaskPlace,
    /// By index in the plan; `None` for stores of other sub-topologies.
    stores: Vec<Option<Store>>,
    /// For keys of the database.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Store {
    id: String,
    family: String,
    current: Layer,
    pending: Layer,
    recent: Recent,
    /// Scans happen, so layers keep their keys in order.
    scanned: bool,
}

/// Writes of one batch.
#[derive(Debug, Default)]
struct Layer {
    writes: HashMap<Bytes, Option<Bytes>>,
    /// The same keys in order, once the store is scanned.
    order: BTreeSet<Bytes>,
    bytes: usize,
}

impl Layer {
    fn put(&mut self, key: Bytes, value: Option<Bytes>, ordered: bool) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len) + ENTRY_BYTES;
        if ordered {
            self.order.insert(key.clone());
        }
        self.writes.insert(key, value);
    }

    fn clear(&mut self) {
        self.writes.clear();
        self.order.clear();
        self.bytes = 0;
    }
}

/// Values that were read or written lately, `None` for keys that are known to be absent. Two halves: when the young one is
/// full, it becomes the old one and what was old is forgotten.
#[derive(Debug, Default)]
struct Recent {
    young: HashMap<Bytes, Option<Bytes>>,
    old: HashMap<Bytes, Option<Bytes>>,
    young_bytes: usize,
    bytes_max: usize,
}

impl Recent {
    fn get(&mut self, key: &[u8]) -> Option<Option<Bytes>> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.keep(key, value.clone());
        Some(value)
    }

    /// Copies: the bytes may be part of a large buffer that must not live on for their sake.
    fn learn(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.keep(Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
    }

    fn keep(&mut self, key: Bytes, value: Option<Bytes>) {
        self.young_bytes += key.len() + value.as_ref().map_or(0, Bytes::len) + ENTRY_BYTES;
        self.young.insert(key, value);
        if self.young_bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

impl TaskState {
    /// `stores`: index in the plan and id of each store of the task; `recent_bytes`: for recently used values of all of them.
    pub(crate) fn new(
        db: Arc<StateDb>,
        place: TaskPlace,
        stores: &[(StoreIndex, String)],
        recent_bytes: usize,
    ) -> Self {
        let length = stores.iter().map(|(index, _)| index.0 as usize + 1).max().unwrap_or_default();
        let mut slots: Vec<Option<Store>> = (0..length).map(|_| None).collect();
        let bytes_max = recent_bytes / stores.len().max(1);
        for (index, id) in stores {
            slots[index.0 as usize] = Some(Store {
                id: id.clone(),
                family: place.family(id),
                current: Layer::default(),
                pending: Layer::default(),
                recent: Recent { bytes_max, ..Recent::default() },
                scanned: false,
            });
        }
        Self { db, place, stores: slots, scratch: Vec::new() }
    }

    /// Bytes written by the batch that is being processed.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.stores.iter().flatten().map(|store| store.current.bytes).sum()
    }

    /// Ends the batch: its commit as bytes. The former batch must be [`applied`](Self::applied).
    pub(crate) fn seal(&mut self, head: &CommitHead, outputs: &[Output]) -> Vec<u8> {
        let mut changed = 0;
        for store in self.stores.iter_mut().flatten() {
            debug_assert!(store.pending.writes.is_empty(), "one commit at a time");
            std::mem::swap(&mut store.current, &mut store.pending);
            changed += usize::from(!store.pending.writes.is_empty());
        }
        let mut writer = CommitWriter::new(head, changed);
        for store in self.stores.iter().flatten().filter(|store| !store.pending.writes.is_empty()) {
            writer.store(&store.id, store.pending.writes.iter());
        }
        writer.outputs(outputs)
    }

    /// The sealed batch is durable: it goes to the database together with the position it leads to.
    pub(crate) fn applied(&mut self, position: &StorePosition) -> Result<()> {
        let changes = self.stores.iter().flatten().flat_map(|store| {
            // the memtable takes rising keys at a fraction of the cost of random ones
            let mut writes: Vec<_> = store.pending.writes.iter().collect();
            writes.sort_unstable_by_key(|(key, _)| *key);
            writes.into_iter().map(|(key, value)| (store.family.as_str(), key.as_ref(), value.as_deref()))
        });
        self.db.apply(&self.place, changes, position)?;
        for store in self.stores.iter_mut().flatten() {
            for (key, value) in &store.pending.writes {
                store.recent.learn(key, value.as_deref());
            }
            store.pending.clear();
        }
        Ok(())
    }

    fn store(&mut self, index: StoreIndex) -> Result<(&mut Store, &mut Vec<u8>, &StateDb)> {
        match self.stores.get_mut(index.0 as usize) {
            Some(Some(store)) => Ok((store, &mut self.scratch, &self.db)),
            _ => Err(Error::internal(format!("store {} does not belong to this task", index.0))),
        }
    }
}

impl StateAccess for TaskState {
    fn get(&mut self, index: StoreIndex, key: &[u8]) -> Result<Option<Bytes>> {
        let prefix = self.place.prefix();
        let (store, scratch, db) = self.store(index)?;
        for layer in [&store.current, &store.pending] {
            if let Some(value) = layer.writes.get(key) {
                return Ok(value.clone());
            }
        }
        if let Some(value) = store.recent.get(key) {
            return Ok(value);
        }
        scratch.clear();
        scratch.extend_from_slice(&prefix);
        scratch.extend_from_slice(key);
        let value = db.get(&store.family, scratch)?;
        store.recent.keep(Bytes::copy_from_slice(key), value.clone());
        Ok(value)
    }

    fn put(&mut self, index: StoreIndex, key: Bytes, value: Option<Bytes>) {
        let stored = self.store(index);
        debug_assert!(stored.is_ok(), "operators write only to their own stores");
        if let Ok((store, ..)) = stored {
            store.current.put(key, value, store.scanned);
        }
    }

    fn scan(
        &mut self,
        index: StoreIndex,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        if crate::state::memory::is_empty_range(from, to) || limit == 0 {
            return Ok(Vec::new());
        }
        let prefix = self.place.prefix();
        let (store, _, db) = self.store(index)?;
        store.keep_order();
        let mut written: BTreeMap<&[u8], Option<&Bytes>> = BTreeMap::new();
        for layer in [&store.pending, &store.current] {
            for key in layer.order.range::<[u8], _>((from, to)) {
                written.insert(key, layer.writes.get(key).and_then(Option::as_ref));
            }
        }
        let mut merge = Merge { written: written.into_iter().peekable(), found: Vec::new(), limit };
        let (low, high) = database_range(prefix, from, to);
        db.range(&store.family, &low, &high, |key, value| merge.stored(&key[prefix.len()..], value))?;
        merge.rest();
        Ok(merge.found)
    }
}

impl Store {
    fn keep_order(&mut self) {
        if !self.scanned {
            self.scanned = true;
            for layer in [&mut self.current, &mut self.pending] {
                layer.order = layer.writes.keys().cloned().collect();
            }
        }
    }
}

/// Merges writes over stored entries, both in key order.
struct Merge<'a, I: Iterator<Item = (&'a [u8], Option<&'a Bytes>)>> {
    written: std::iter::Peekable<I>,
    found: Vec<(Bytes, Bytes)>,
    limit: usize,
}

impl<'a, I: Iterator<Item = (&'a [u8], Option<&'a Bytes>)>> Merge<'a, I> {
    /// Takes the next stored entry; whether more are wanted.
    fn stored(&mut self, key: &[u8], value: &[u8]) -> bool {
        while self.found.len() < self.limit
            && let Some((written_key, written)) = self.written.next_if(|(written_key, _)| *written_key < key)
        {
            self.push(written_key, written);
        }
        if self.found.len() >= self.limit {
            return false;
        }
        match self.written.next_if(|(written_key, _)| *written_key == key) {
            Some((written_key, written)) => self.push(written_key, written),
            None => self.found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))),
        }
        self.found.len() < self.limit
    }

    fn rest(&mut self) {
        while self.found.len() < self.limit
            && let Some((key, written)) = self.written.next()
        {
            self.push(key, written);
        }
    }

    fn push(&mut self, key: &[u8], written: Option<&Bytes>) {
        self.found.extend(written.map(|value| (Bytes::copy_from_slice(key), value.clone())));
    }
}

/// The same bounds among the keys of the database, lower inclusive, upper exclusive.
pub(crate) fn database_range(prefix: [u8; 4], from: Bound<&[u8]>, to: Bound<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let key = |key: &[u8], after: bool| {
        let mut full = Vec::with_capacity(prefix.len() + key.len() + 1);
        full.extend_from_slice(&prefix);
        full.extend_from_slice(key);
        // the key that follows directly
        full.extend(after.then_some(0));
        full
    };
    let low = match from {
        Bound::Unbounded => prefix.to_vec(),
        Bound::Included(from) => key(from, false),
        Bound::Excluded(from) => key(from, true),
    };
    let high = match to {
        // partitions are not negative as i32, so this does not overflow
        Bound::Unbounded => (u32::from_be_bytes(prefix) + 1).to_be_bytes().to_vec(),
        Bound::Included(to) => key(to, true),
        Bound::Excluded(to) => key(to, false),
    };
    (low, high)
}
