//! The one RocksDB of a node.
//!
//! A store is a column family, named `pipeline/generation/store`; its keys begin with the partition of the task that owns them.
//! So a reset drops whole families, a scan over one task is one range, and the number of families (and with it of memtables)
//! does not grow with partitions. The block cache and the memory of all memtables are one budget each.
//!
//! Positions of the tasks ([`StorePosition`]) lie in the default family. They are written in the same write batch as the changes
//! they cover, and flushes are atomic over all families: whatever a crash leaves, each task's data stands exactly at its position.
//! RocksDB's own log is off, the task log takes its place.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBWithThreadMode, FlushOptions,
    MultiThreaded, Options, ReadOptions, WriteBatch, WriteBufferManager, WriteOptions,
};
use sunseo_proto::{Error, ErrorCode};

use super::open::Mark;
use super::position::StorePosition;
use crate::runtime::commit::StoreDelta;

/// Bits per key of the bloom filters: about 1 % of false positives.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// A file is compacted when half of this many entries in a row are deletions.
const DELETIONS_WINDOW: usize = 1024;
/// Memtables of a store, those that are being flushed included; with fewer, a slow flush stops the tasks. Their memory is bounded
/// over all stores by the budget.
const WRITE_BUFFERS_MAX: i32 = 4;
/// Threads that flush and compact, over all stores.
const BACKGROUND_JOBS: i32 = 2;
/// Most files that are open at once.
const OPEN_FILES_MAX: i32 = 512;

/// The family of the positions: the one that is always there.
const POSITIONS: &str = "default";

type Rocks = DBWithThreadMode<MultiThreaded>;

/// Bytes of memory for all stores of a node together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub block_cache_bytes: usize,
    pub write_buffer_bytes: usize,
}

/// A task's place in the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskPlace {
    pub pipeline: String,
    pub generation: u64,
    /// Stable name of the sub-topology.
    pub sub_topology: String,
    pub partition: u32,
}

impl TaskPlace {
    pub(crate) fn family(&self, store: &str) -> String {
        family(&self.pipeline, self.generation, store)
    }

    fn key(&self) -> String {
        format!("{}/{}/{}/{}", self.pipeline, self.generation, self.sub_topology, self.partition)
    }

    /// What the task's keys begin with.
    pub(crate) fn prefix(&self) -> [u8; 4] {
        self.partition.to_be_bytes()
    }
}

/// Name of the column family of a store.
pub(crate) fn family(pipeline: &str, generation: u64, store: &str) -> String {
    format!("{pipeline}/{generation}/{store}")
}

pub(crate) struct StateDb {
    db: Rocks,
    options: Options,
    write: WriteOptions,
    /// Names of the column families that are there, the default one left out.
    families: Mutex<BTreeSet<String>>,
    /// Read for the metrics.
    buffers: WriteBufferManager,
    /// Last, so that it goes when everything of RocksDB is gone.
    _open: Mark,
}

impl std::fmt::Debug for StateDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateDb").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

pub(crate) fn failed(what: &str, error: &rocksdb::Error) -> Error {
    let message = format!(
        "state store: {what}: {error}. Check the disk; the state is rebuilt from the task log when the folder is removed"
    );
    Error::new(ErrorCode::Internal, message)
}

impl StateDb {
    /// Opens the database in `dir`, or makes it.
    pub(crate) fn open(dir: &Path, budget: Budget) -> Result<Self, Error> {
        let open = Mark::new();
        let cache = Cache::new_lru_cache(budget.block_cache_bytes);
        let buffers = WriteBufferManager::new_write_buffer_manager(budget.write_buffer_bytes, false);
        let options = options(&cache, &buffers, budget);
        let families = match Rocks::list_cf(&options, dir) {
            Ok(families) => families,
            // there is no database yet
            Err(_) if !dir.join("CURRENT").exists() => vec![POSITIONS.to_owned()],
            Err(error) => return Err(failed("list column families", &error)),
        };
        let descriptors = families.iter().map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
        let db = Rocks::open_cf_descriptors(&options, dir, descriptors)
            .map_err(|error| failed(&format!("open {}", dir.display()), &error))?;
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        write.set_memtable_insert_hint_per_batch(true);
        let families = families.into_iter().filter(|name| name != POSITIONS).collect();
        Ok(Self { db, options, write, families: Mutex::new(families), buffers, _open: open })
    }

    /// Makes the family of a store if it is not there.
    pub(crate) fn ensure(&self, family: &str) -> Result<(), Error> {
        let mut families = self.families();
        if families.contains(family) {
            return Ok(());
        }
        self.db
            .create_cf(family, &self.options)
            .map_err(|error| failed(&format!("create {family}"), &error))?;
        families.insert(family.to_owned());
        Ok(())
    }

    /// Drops every family and position of a pipeline whose generation is not `keep`.
    pub(crate) fn drop_generations(&self, pipeline: &str, keep: Option<u64>) -> Result<(), Error> {
        let of_pipeline = |name: &str| {
            let mut parts = name.splitn(3, '/');
            let ours = parts.next() == Some(pipeline);
            ours && parts.next().and_then(|text| text.parse().ok()) != keep
        };
        let mut batch = WriteBatch::default();
        for item in self.db.full_iterator(rocksdb::IteratorMode::Start) {
            let (key, _) = item.map_err(|error| failed("read positions", &error))?;
            if std::str::from_utf8(&key).is_ok_and(of_pipeline) {
                batch.delete(&key);
            }
        }
        self.db.write_opt(batch, &self.write).map_err(|error| failed("delete positions", &error))?;
        let mut families = self.families();
        for name in families.extract_if(.., |name| of_pipeline(name)) {
            self.db.drop_cf(&name).map_err(|error| failed(&format!("drop {name}"), &error))?;
        }
        Ok(())
    }

    /// Where the stores of a task stand, `None` when nothing was applied yet.
    pub(crate) fn position(&self, place: &TaskPlace) -> Result<Option<StorePosition>, Error> {
        let found = self.db.get(place.key()).map_err(|error| failed("read a position", &error))?;
        found.map(|bytes| StorePosition::decode(&Bytes::from(bytes))).transpose()
    }

    /// A value as of everything that was applied.
    pub(crate) fn get(&self, family: &str, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let handle = self.handle(family)?;
        let found = self.db.get_pinned_cf(&handle, key).map_err(|error| failed("read", &error))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Applies the deltas of one commit and the position it leads to, in one write.
    pub(crate) fn apply<'a>(
        &self,
        place: &TaskPlace,
        changes: impl Iterator<Item = (&'a str, &'a [u8], Option<&'a [u8]>)>,
        position: &StorePosition,
    ) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        let mut current: Option<(&str, _)> = None;
        let mut full_key = place.prefix().to_vec();
        for (family, key, value) in changes {
            if current.as_ref().is_none_or(|(name, _)| *name != family) {
                current = Some((family, self.handle(family)?));
            }
            let Some((_, handle)) = &current else { continue };
            full_key.truncate(4);
            full_key.extend_from_slice(key);
            match value {
                Some(value) => batch.put_cf(handle, &full_key, value),
                None => batch.delete_cf(handle, &full_key),
            }
        }
        batch.put(place.key(), position.encode());
        self.db.write_opt(batch, &self.write).map_err(|error| failed("write", &error))
    }

    /// Forgets everything of one task: its stores and its position.
    pub(crate) fn clear(&self, place: &TaskPlace, stores: &[String]) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        let (from, to) = (place.prefix(), (place.partition + 1).to_be_bytes());
        for family in stores.iter().map(|store| place.family(store)) {
            batch.delete_range_cf(&self.handle(&family)?, from, to);
        }
        batch.delete(place.key());
        self.db.write_opt(batch, &self.write).map_err(|error| failed("clear a task", &error))
    }

    /// Puts everything that was applied on disk, so that a restart replays less.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        // held to the end: a family that is made meanwhile would be left out, and its data part from the positions
        let families = self.families();
        let names = families.iter().map(String::as_str).chain([POSITIONS]);
        let handles: Vec<_> = names.filter_map(|name| self.db.cf_handle(name)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let handles: Vec<_> = handles.iter().collect();
        self.db.flush_cfs_opt(&handles, &options).map_err(|error| failed("flush", &error))
    }

    /// Copies the files as they are, as a killed process leaves them.
    #[cfg(test)]
    pub(crate) fn copy_files(&self, to: &Path) {
        copy_folder(self.db.path(), to);
    }

    /// About how many keys a family has, over all tasks.
    pub(crate) fn entries_estimate(&self, family: &str) -> u64 {
        let handle = self.db.cf_handle(family);
        let count = handle.and_then(|handle| {
            self.db.property_int_value_cf(&handle, "rocksdb.estimate-num-keys").ok().flatten()
        });
        count.unwrap_or_default()
    }

    /// Bytes of the memtables of all stores.
    pub(crate) fn memtable_bytes(&self) -> usize {
        self.buffers.get_usage()
    }

    /// A view of everything that is applied now; later writes do not show in it.
    pub(crate) fn snapshot(&self) -> View<'_> {
        View { db: self, snapshot: self.db.snapshot() }
    }

    fn families(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, family: &str) -> Result<std::sync::Arc<rocksdb::BoundColumnFamily<'_>>, Error> {
        self.db.cf_handle(family).ok_or_else(|| {
            let message =
                format!("store {family} has no column family: it was dropped by a reset, ask again");
            Error::new(ErrorCode::Unavailable, message)
        })
    }

    /// The keys from `from` up to `to` (exclusive) in order, with their values, until `each` answers false.
    pub(crate) fn range(
        &self,
        family: &str,
        from: &[u8],
        to: &[u8],
        each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.iterate(family, ReadOptions::default(), from, to, each)
    }

    fn iterate(
        &self,
        family: &str,
        mut options: ReadOptions,
        from: &[u8],
        to: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        if from >= to {
            return Ok(());
        }
        options.set_iterate_upper_bound(to);
        let mut iterator = self.db.raw_iterator_cf_opt(&self.handle(family)?, options);
        iterator.seek(from);
        while let Some((key, value)) = iterator.item() {
            if !each(key, value) {
                break;
            }
            iterator.next();
        }
        iterator.status().map_err(|error| failed("scan", &error))
    }
}

/// A consistent view, for queries.
#[allow(missing_debug_implementations)] // a snapshot has none
pub(crate) struct View<'a> {
    db: &'a StateDb,
    snapshot: rocksdb::SnapshotWithThreadMode<'a, Rocks>,
}

impl View<'_> {
    pub(crate) fn position(&self, place: &TaskPlace) -> Result<Option<StorePosition>, Error> {
        let found = self.snapshot.get(place.key()).map_err(|error| failed("read a position", &error))?;
        found.map(|bytes| StorePosition::decode(&Bytes::from(bytes))).transpose()
    }

    pub(crate) fn get(&self, family: &str, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let handle = self.db.handle(family)?;
        let found = self.snapshot.get_cf(&handle, key).map_err(|error| failed("read", &error))?;
        Ok(found.map(Bytes::from))
    }

    pub(crate) fn range(
        &self,
        family: &str,
        from: &[u8],
        to: &[u8],
        each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        self.db.iterate(family, options, from, to, each)
    }
}

fn options(cache: &Cache, buffers: &WriteBufferManager, budget: Budget) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_manager(buffers);
    options.set_write_buffer_size((budget.write_buffer_bytes / 2).max(1 << 20));
    options.set_atomic_flush(true);
    options.set_max_write_buffer_number(WRITE_BUFFERS_MAX);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.05);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_keep_log_file_num(2);
    // timers are written, read in order and deleted: without this, scans would walk over what was deleted
    options.add_compact_on_deletion_collector_factory(DELETIONS_WINDOW, DELETIONS_WINDOW / 2, 0.5);
    options
}

/// Copies the files of a database that may be at work. The manifest comes first, so that what it names is not newer than the copy; a
/// file that a compaction removed meanwhile means once more.
#[cfg(test)]
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(from).expect("lists").map(|file| file.expect("lists").file_name()).collect();
        names.sort_by_key(|name| !name.to_string_lossy().starts_with(['C', 'M']));
        names
    };
    while names().iter().any(|name| std::fs::copy(from.join(name), to.join(name)).is_err()) {
        std::fs::read_dir(to).expect("lists").for_each(|file| {
            std::fs::remove_file(file.expect("lists").path()).expect("removes");
        });
    }
}

/// Changes of decoded deltas, as [`StateDb::apply`] takes them; stores that are no longer there are left out.
pub(crate) fn changes_of<'a>(
    deltas: &'a [StoreDelta],
    families: &'a [(String, String)],
) -> impl Iterator<Item = (&'a str, &'a [u8], Option<&'a [u8]>)> {
    deltas.iter().flat_map(move |delta| {
        let family =
            families.iter().find(|(store, _)| *store == delta.store).map(|(_, family)| family.as_str());
        let changes = delta.changes.iter();
        family.into_iter().flat_map(move |family| {
            changes.clone().map(move |(key, value)| (family, key.as_ref(), value.as_deref()))
        })
    })
}
