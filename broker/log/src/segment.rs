//! One segment file as writer and readers share it: its names, its open handle or mapping, its index.
//!
//! Invariants: a file is mapped only after it was sealed, and a sealed file is never written or cut again; a handle with bytes that
//! were not synced is not closed, so that no error of the disk is lost between.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use sunseo_proto::{PartitionId, TopicId};

use crate::disk::{Context as _, Disk, SharedDisk, SharedFile, write_all};
use crate::index::{GrowingIndex, SparseIndex};
use crate::{LogError, SealedFacts};

pub(crate) const PARTITIONS: &str = "partitions";
pub(crate) const LOG_SUFFIX: &str = ".log";
pub(crate) const INDEX_SUFFIX: &str = ".index";

/// Directory of a partition.
pub(crate) fn directory_of(id: PartitionId) -> PathBuf {
    Path::new(PARTITIONS).join(id.to_string())
}

/// The partition that a directory's name says.
pub(crate) fn partition_of(name: &str) -> Option<PartitionId> {
    let (topic, partition) = name.split_once('-')?;
    let topic = (topic.len() == 32).then(|| u128::from_str_radix(topic, 16).ok())??;
    let topic_id = TopicId::from_slice(&topic.to_be_bytes())?;
    let id = PartitionId { topic_id, partition: partition.parse().ok()? };
    (id.to_string() == name).then_some(id)
}

/// Base offset and generation: what names a segment's files.
pub(crate) type Name = (i64, u32);

/// The segment as it was appended.
pub(crate) fn log_path(id: PartitionId, base: i64) -> PathBuf {
    path_of(id, (base, 0), LOG_SUFFIX)
}

pub(crate) fn index_path(id: PartitionId, base: i64) -> PathBuf {
    path_of(id, (base, 0), INDEX_SUFFIX)
}

pub(crate) fn path_of(id: PartitionId, (base, generation): Name, suffix: &str) -> PathBuf {
    let name = match generation {
        0 => format!("{base:020}{suffix}"),
        _ => format!("{base:020}.{generation:010}{suffix}"),
    };
    directory_of(id).join(name)
}

/// The name of a sealed segment.
pub(crate) fn name_of_facts(facts: &SealedFacts) -> Name {
    (facts.base_offset, facts.generation)
}

/// The segment that a file's name says.
pub(crate) fn name_of(file: &str, suffix: &str) -> Option<Name> {
    let stem = file.strip_suffix(suffix)?;
    let (base, generation) = match stem.split_once('.') {
        Some((base, generation)) => {
            let is_one = generation.len() == 10 && generation.bytes().all(|byte| byte.is_ascii_digit());
            (base, is_one.then(|| generation.parse().ok())??)
        }
        None => (stem, 0),
    };
    let base = (base.len() == 20).then(|| base.parse().ok())??;
    Some((base, generation))
}

/// Open files and mappings, bounded: the first opened go first unless they were used since.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) disk: SharedDisk,
    pub(crate) index_interval_bytes: u64,
    limit: usize,
    open: Mutex<VecDeque<Arc<Segment>>>,
}

impl Files {
    pub(crate) fn new(disk: SharedDisk, limit: usize, index_interval_bytes: u64) -> Self {
        Self { disk, index_interval_bytes, limit: limit.max(1), open: Mutex::new(VecDeque::new()) }
    }

    fn opened(&self, segment: &Arc<Segment>) {
        let mut open = lock(&self.open);
        open.push_back(segment.clone());
        // each is looked at twice at most, so that a queue of dirty ones ends the search
        let mut looks = open.len() * 2;
        while open.len() > self.limit && looks > 0 {
            looks -= 1;
            let Some(oldest) = open.pop_front() else { break };
            let was_used = oldest.used.swap(false, Ordering::Relaxed);
            if was_used || oldest.is_dirty() || Arc::ptr_eq(&oldest, segment) {
                open.push_back(oldest);
            } else {
                oldest.close();
            }
        }
    }

    /// Closes every file of a directory that is about to go, also those with bytes that were never synced: an open handle or a mapping
    /// keeps the room of a removed file.
    pub(crate) fn close_all_in(&self, directory: &Path) {
        let mut open = lock(&self.open);
        let is_gone = |segment: &Arc<Segment>| segment.path.parent() == Some(directory);
        let (gone, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut *open).into_iter().partition(is_gone);
        *open = kept;
        drop(open);
        gone.iter().for_each(|segment| segment.close());
    }

    fn forget(&self, segment: &Segment) {
        lock(&self.open).retain(|open| !std::ptr::eq(open.as_ref(), segment));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // nothing that holds these locks can leave half a change behind
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Opened {
    file: Option<SharedFile>,
    map: Option<Bytes>,
}

/// A segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: i64,
    pub(crate) generation: u32,
    pub(crate) path: PathBuf,
    pub(crate) index_path: PathBuf,
    opened: Mutex<Opened>,
    used: AtomicBool,
    dirty: AtomicBool,
    /// `None` until a reader needs it.
    pub(crate) index: RwLock<Option<SparseIndex>>,
    /// Whether the index beside it is the whole one: no earlier one is written over it.
    index_is_whole: Mutex<bool>,
}

impl Segment {
    /// A segment whose index, if it has one, is on the disk.
    pub(crate) fn new(id: PartitionId, base: i64) -> Arc<Self> {
        Self::named(id, (base, 0))
    }

    /// The same, of any generation.
    pub(crate) fn named(id: PartitionId, name: Name) -> Arc<Self> {
        Arc::new(Self {
            base: name.0,
            generation: name.1,
            path: path_of(id, name, LOG_SUFFIX),
            index_path: path_of(id, name, INDEX_SUFFIX),
            opened: Mutex::default(),
            used: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            index: RwLock::new(None),
            index_is_whole: Mutex::new(false),
        })
    }

    /// A segment that is written, with its index so far.
    pub(crate) fn growing(id: PartitionId, base: i64, index: GrowingIndex) -> Arc<Self> {
        let segment = Self::new(id, base);
        segment.set_index(Some(SparseIndex::Growing(index)));
        segment
    }

    pub(crate) fn set_index(&self, index: Option<SparseIndex>) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }

    /// Notes a batch in a growing index.
    pub(crate) fn note(&self, offset: i64, at: u64, max_timestamp_ms: i64, interval_bytes: u64) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(SparseIndex::Growing(index)) = index.as_mut() {
            index.note(offset, at, max_timestamp_ms, interval_bytes);
        }
    }

    /// The sealed form of a growing index.
    pub(crate) fn sealed_index(&self) -> Option<Bytes> {
        match self.index.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(SparseIndex::Growing(index)) => Some(index.seal()),
            _ => None,
        }
    }

    /// Writes the index beside the segment: that of a sealed segment to stay, an earlier one so that recovery reads less.
    pub(crate) fn write_index(&self, disk: &dyn Disk, index: &[u8], sealed: bool) -> Result<(), LogError> {
        let mut is_whole = lock(&self.index_is_whole);
        if *is_whole {
            return Ok(());
        }
        if sealed {
            crate::sealed::write_new(disk, &self.index_path, index)?;
            *is_whole = true;
            return Ok(());
        }
        let path = &self.index_path;
        let file = disk.create(path).context("cannot create", path)?;
        write_all(file.as_ref(), index, 0).context("cannot write", path)
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }

    pub(crate) fn set_dirty(&self, dirty: bool) {
        self.dirty.store(dirty, Ordering::Relaxed);
    }

    /// Creates the file, empty.
    pub(crate) fn create(self: &Arc<Self>, files: &Files) -> Result<SharedFile, LogError> {
        let file = files.disk.create(&self.path).context("cannot create segment", &self.path)?;
        lock(&self.opened).file = Some(file.clone());
        files.opened(self);
        Ok(file)
    }

    /// The file, opened when it is not.
    pub(crate) fn file(self: &Arc<Self>, files: &Files) -> io::Result<SharedFile> {
        self.used.store(true, Ordering::Relaxed);
        let mut opened = lock(&self.opened);
        if let Some(file) = &opened.file {
            return Ok(file.clone());
        }
        let file = files.disk.open(&self.path)?;
        let is_first = opened.map.is_none();
        opened.file = Some(file.clone());
        drop(opened);
        if is_first {
            files.opened(self);
        }
        Ok(file)
    }

    /// The bytes of a sealed segment, mapped when they are not.
    pub(crate) fn map(self: &Arc<Self>, files: &Files) -> io::Result<Bytes> {
        self.used.store(true, Ordering::Relaxed);
        let mut opened = lock(&self.opened);
        if let Some(map) = &opened.map {
            return Ok(map.clone());
        }
        let map = files.disk.map(&self.path)?;
        // the mapping does for reading what the handle did; bytes that are not synced keep theirs
        let is_first = opened.file.is_none();
        if !self.is_dirty() {
            opened.file = None;
        }
        opened.map = Some(map.clone());
        drop(opened);
        if is_first {
            files.opened(self);
        }
        Ok(map)
    }

    fn close(&self) {
        *lock(&self.opened) = Opened::default();
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(index.as_ref(), Some(SparseIndex::Sealed(_))) {
            *index = None;
        }
    }

    /// Removes both files; who holds bytes of them keeps those.
    pub(crate) fn remove(&self, files: &Files) {
        files.forget(self);
        self.close();
        for path in [&self.path, &self.index_path] {
            match files.disk.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a removed segment's file stays until the next start");
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_names_its_partition() {
        let id = PartitionId { topic_id: TopicId::random(), partition: 12 };
        assert_eq!(partition_of(&id.to_string()), Some(id));
        for other in ["", "x-1", "0123-1", &format!("{id}x"), &format!("{}-012", id.topic_id)] {
            assert_eq!(partition_of(other), None, "{other}");
        }
    }
}
