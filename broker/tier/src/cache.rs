//! A bounded cache whose entries are loaded once, however many ask at the same time.
//!
//! Invariants: bytes of entries, those on their way included, stay within the capacity (a single larger entry excepted); a load
//! goes on when the one who asked for it leaves; a failed load is told to everyone who waits and is not remembered.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use sunseo_proto::error::{Error, Result};

/// Least weight of an entry, so that many small ones stay bounded too.
const ENTRY_BYTES_MIN: usize = 4 << 10;

type Load<V> = Shared<BoxFuture<'static, Result<V>>>;

struct Slot<V: Clone> {
    load: Load<V>,
    bytes: usize,
    used: u64,
}

struct Slots<K, V: Clone> {
    by_key: HashMap<K, Slot<V>>,
    by_use: BTreeMap<u64, K>,
    bytes: usize,
    ticks: u64,
}

/// The cache; cloning shares it.
pub struct Cache<K, V: Clone> {
    slots: Arc<Mutex<Slots<K, V>>>,
    capacity_bytes: usize,
}

impl<K, V: Clone> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self { slots: Arc::clone(&self.slots), capacity_bytes: self.capacity_bytes }
    }
}

impl<K, V: Clone> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("capacity_bytes", &self.capacity_bytes).finish_non_exhaustive()
    }
}

impl<K, V> Cache<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub fn new(capacity_bytes: usize) -> Self {
        let slots = Slots { by_key: HashMap::new(), by_use: BTreeMap::new(), bytes: 0, ticks: 0 };
        Self { slots: Arc::new(Mutex::new(slots)), capacity_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Slots<K, V>> {
        // every change of the slots is complete before anything can panic
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry, loaded by `load` if nobody has. `bytes` is what it will take.
    pub async fn get<F>(&self, key: K, bytes: usize, load: impl FnOnce() -> F) -> Result<V>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        self.entry(key, bytes, load).await
    }

    /// Starts loading the entry if nobody has, without waiting for it.
    pub fn prefetch<F>(&self, key: K, bytes: usize, load: impl FnOnce() -> F)
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        drop(self.entry(key, bytes, load));
    }

    fn entry<F>(&self, key: K, bytes: usize, load: impl FnOnce() -> F) -> Load<V>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let mut slots = self.lock();
        if let Some(load) = slots.touch(&key) {
            return load;
        }
        let bytes = bytes.max(ENTRY_BYTES_MIN);
        slots.make_room(self.capacity_bytes.saturating_sub(bytes));
        let used = slots.next_tick();
        let (cache, failed_key) = (self.clone(), key.clone());
        let work = load();
        let task = tokio::spawn(async move {
            let outcome = work.await;
            if outcome.is_err() {
                cache.lock().remove_if(&failed_key, used);
            }
            outcome
        });
        let load = async move {
            match task.await {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::internal(
                    "a read from the object store was stopped: the tier is shutting down",
                )),
            }
        };
        let load = load.boxed().shared();
        slots.bytes += bytes;
        slots.by_use.insert(used, key.clone());
        slots.by_key.insert(key, Slot { load: load.clone(), bytes, used });
        load
    }

    /// Bytes accounted for.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Slots<K, V> {
    fn next_tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    fn touch(&mut self, key: &K) -> Option<Load<V>> {
        let now = self.next_tick();
        let slot = self.by_key.get_mut(key)?;
        self.by_use.remove(&slot.used);
        // the task that loads it names the slot by its first use, so a slot is only renamed when it is loaded
        if slot.load.peek().is_some() {
            slot.used = now;
        }
        self.by_use.insert(slot.used, key.clone());
        Some(slot.load.clone())
    }

    fn remove_if(&mut self, key: &K, used: u64) {
        if self.by_key.get(key).is_some_and(|slot| slot.used == used) {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(slot) = self.by_key.remove(key) {
            self.by_use.remove(&slot.used);
            self.bytes -= slot.bytes;
        }
    }

    fn make_room(&mut self, down_to_bytes: usize) {
        while self.bytes > down_to_bytes {
            let Some(oldest) = self.by_use.first_key_value().map(|(_, key)| key.clone()) else { return };
            self.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use sunseo_proto::ErrorCode;

    use super::*;

    #[tokio::test]
    async fn many_askers_cause_one_load() {
        let cache: Cache<u32, u32> = Cache::new(1 << 20);
        let loads = Arc::new(AtomicUsize::new(0));
        let (open, gate) = tokio::sync::watch::channel(false);
        let ask = || {
            let (cache, loads, mut gate) = (cache.clone(), Arc::clone(&loads), gate.clone());
            async move {
                let load = || async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    let _ = gate.wait_for(|open| *open).await;
                    Ok(7)
                };
                cache.get(1, 10, load).await
            }
        };
        let askers: Vec<_> = (0..20).map(|_| tokio::spawn(ask())).collect();
        tokio::task::yield_now().await;
        open.send(true).unwrap();
        for asker in askers {
            assert_eq!(asker.await.unwrap(), Ok(7));
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_is_told_and_forgotten() {
        let cache: Cache<u32, u32> = Cache::new(1 << 20);
        let failing = || async { Err(Error::new(ErrorCode::ObjectStore, "down")) };
        assert_eq!(cache.get(1, 10, failing).await.unwrap_err().code, ErrorCode::ObjectStore);
        assert_eq!(cache.bytes(), 0);
        assert_eq!(cache.get(1, 10, || async { Ok(3) }).await, Ok(3));
    }

    #[tokio::test]
    async fn the_least_recently_used_entry_leaves_first() {
        let cache: Cache<u32, u32> = Cache::new(3 * ENTRY_BYTES_MIN);
        for key in [1, 2, 3] {
            cache.get(key, ENTRY_BYTES_MIN, || async move { Ok(key) }).await.unwrap();
        }
        let never = || async { Err(Error::internal("it is in the cache")) };
        cache.get(1, ENTRY_BYTES_MIN, never).await.unwrap();
        cache.get(4, ENTRY_BYTES_MIN, || async { Ok(4) }).await.unwrap();
        assert_eq!(cache.bytes(), 3 * ENTRY_BYTES_MIN);
        cache.get(1, ENTRY_BYTES_MIN, never).await.unwrap();
        assert_eq!(
            cache.get(2, ENTRY_BYTES_MIN, || async { Ok(20) }).await,
            Ok(20),
            "2 was evicted and loaded anew"
        );
    }
}
