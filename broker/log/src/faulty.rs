//! A disk in memory that loses power, for tests.
//!
//! Model: a file has bytes as written and bytes as durable; [`FaultyDisk::power_cut`] keeps each unsynced page of 4 KiB, or a prefix of
//! it in sectors, or loses it, as the seed says. A directory's unsynced changes (create, remove, rename) survive as a prefix
//! of their order. A failed sync forgets what it should have written: a later successful one does not bring it back, as on
//! Linux. Everything is drawn from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::disk::{DirectoryLock, Disk, DiskFile, Entry, SharedFile};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// Chances and limits, of what can go wrong without a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Chance of 1,000 that a read or a write handles only some of its bytes.
    pub short_io_permille: u32,
    /// Every sync of a file whose path contains this fails.
    pub fail_sync_of: Option<&'static str>,
    /// Every write to a file whose path contains this fails.
    pub fail_write_to: Option<&'static str>,
    /// Bytes that fit on the disk altogether.
    pub capacity_bytes: Option<u64>,
    /// After this many further writes, syncs and name changes all operations fail, as when the process was killed just there.
    pub stop_after_operations: Option<u64>,
}

/// The disk. Clones share it; so does what [`FaultyDisk::power_cut`] leaves.
#[derive(Clone, Debug)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: u64,
    faults: Faults,
    /// Raised by a power cut: handles from before it are dead.
    life: u64,
    operations: u64,
    locked: bool,
    files: BTreeMap<u64, Inode>,
    next_file: u64,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    unsynced_names: Vec<NameChange>,
}

#[derive(Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Inode {
    /// The grown part is unsynced zeros: what was durable there before a cut must not come back with the next sync.
    fn grow(&mut self, bytes: usize) {
        let before = self.bytes.len();
        self.bytes.resize(bytes, 0);
        self.dirty.extend(before / PAGE..bytes.div_ceil(PAGE));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(u64),
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

impl NameChange {
    fn directory(&self) -> &Path {
        let (Self::Add(path, _) | Self::Remove(path) | Self::Rename(_, path, _)) = self;
        path.parent().unwrap_or(Path::new(""))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Add(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

impl FaultyDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: seed,
            faults: Faults::default(),
            life: 0,
            operations: 0,
            locked: false,
            files: BTreeMap::new(),
            next_file: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // a panic with the lock held is a test that fails anyway
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
        state.operations = 0;
    }

    /// The power goes and comes back: unsynced pages and names are lost or kept as the seed says, open files are dead, the lock is
    /// free, faults are off.
    pub fn power_cut(&self) {
        self.state().cut(true);
    }

    /// The process is killed: everything written stays, open files are dead, the lock is free, faults are off.
    pub fn kill(&self) {
        self.state().cut(false);
    }

    /// Operations counted for [`Faults::stop_after_operations`] since [`FaultyDisk::set_faults`].
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Flips one bit of a file's durable bytes, as a bad disk does.
    ///
    /// # Errors
    /// When there is no such byte.
    pub fn flip_bit(&self, path: &Path, at: u64) -> io::Result<()> {
        let mut state = self.state();
        let file = state.file_of(path)?;
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let inode = state.inode(file)?;
        let byte = inode.bytes.get_mut(at).ok_or(io::ErrorKind::UnexpectedEof)?;
        *byte ^= 1;
        if let Some(byte) = inode.durable.get_mut(at) {
            *byte ^= 1;
        }
        Ok(())
    }

    /// Paths of all files, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state();
        state
            .names
            .iter()
            .filter(|(_, node)| **node != Node::Directory)
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used()
    }

    fn handle(&self, file: u64, path: &Path) -> SharedFile {
        let life = self.state().life;
        Arc::new(FaultyFile { disk: self.clone(), file, path: path.to_owned(), life })
    }
}

impl State {
    /// splitmix64: enough for choosing faults, and no dependency.
    fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random() % limit.max(1) as u64) as usize
    }

    /// Counts an operation that changes something.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.faults.stop_after_operations {
            Some(limit) if self.operations > limit => Err(io::Error::other("scripted: stopped here")),
            _ => Ok(()),
        }
    }

    fn short(&mut self, wanted: usize) -> usize {
        let short = wanted > 1 && self.below(1000) < self.faults.short_io_permille as usize;
        if short { 1 + self.below(wanted - 1) } else { wanted }
    }

    fn used(&self) -> u64 {
        let live = self.names.values().filter_map(|node| match node {
            Node::File(file) => self.files.get(file),
            Node::Directory => None,
        });
        live.map(|inode| inode.bytes.len() as u64).sum()
    }

    fn room_for(&self, more: u64) -> io::Result<()> {
        match self.faults.capacity_bytes {
            Some(capacity) if self.used() + more > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn inode(&mut self, file: u64) -> io::Result<&mut Inode> {
        self.files.get_mut(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file_of(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(*file),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn sync_names(&mut self, directory: &Path) {
        let (synced, rest) =
            std::mem::take(&mut self.unsynced_names).into_iter().partition(|c| c.directory() == directory);
        self.unsynced_names = rest;
        let synced: Vec<NameChange> = synced;
        synced.iter().for_each(|change| change.apply(&mut self.durable_names));
    }

    fn cut(&mut self, power: bool) {
        self.life += 1;
        self.locked = false;
        self.faults = Faults::default();
        if !power {
            return;
        }
        let directories: BTreeSet<PathBuf> =
            self.unsynced_names.iter().map(|change| change.directory().to_owned()).collect();
        for directory in directories {
            let changes: Vec<NameChange> =
                self.unsynced_names.iter().filter(|c| c.directory() == directory).cloned().collect();
            let kept = self.below(changes.len() + 1);
            changes[..kept].iter().for_each(|change| change.apply(&mut self.durable_names));
        }
        self.unsynced_names.clear();
        self.names = self.durable_names.clone();
        // what lies in a directory that is not there is not there either
        let names = self.names.clone();
        self.names.retain(|path, _| {
            path.ancestors().skip(1).all(|up| up == Path::new("") || names.contains_key(up))
        });
        self.durable_names = self.names.clone();
        let mut files = std::mem::take(&mut self.files);
        files.retain(|file, _| self.names.values().any(|node| *node == Node::File(*file)));
        files.values_mut().for_each(|inode| self.cut_file(inode));
        self.files = files;
    }

    fn cut_file(&mut self, inode: &mut Inode) {
        let mut survived = inode.durable.clone();
        // the new length may have reached the disk or not
        if inode.bytes.len() != survived.len() && self.below(2) == 0 {
            survived.resize(inode.bytes.len(), 0);
        }
        for page in std::mem::take(&mut inode.dirty) {
            let start = page * PAGE;
            let end = (start + PAGE).min(inode.bytes.len());
            let kept = match self.below(3) {
                0 => 0,
                1 => self.below(PAGE / SECTOR + 1) * SECTOR,
                _ => PAGE,
            };
            let end = end.min(start + kept);
            if end <= start {
                continue;
            }
            if survived.len() < end {
                survived.resize(end, 0);
            }
            survived[start..end].copy_from_slice(&inode.bytes[start..end]);
        }
        inode.bytes.clone_from(&survived);
        inode.durable = survived;
    }
}

#[derive(Debug)]
struct FaultyLock {
    disk: FaultyDisk,
    life: u64,
}

impl DirectoryLock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locked = false;
        }
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<SharedFile> {
        let file = self.state().file_of(path)?;
        Ok(self.handle(file, path))
    }

    fn create(&self, path: &Path) -> io::Result<SharedFile> {
        let mut state = self.state();
        state.operate()?;
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent != Path::new("") && state.names.get(parent) != Some(&Node::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Ok(file) = state.file_of(path) {
            let inode = state.inode(file)?;
            inode.bytes.clear();
            inode.dirty.clear();
            drop(state);
            return Ok(self.handle(file, path));
        }
        let file = state.next_file;
        state.next_file += 1;
        state.files.insert(file, Inode::default());
        state.change(NameChange::Add(path.to_owned(), Node::File(file)));
        drop(state);
        Ok(self.handle(file, path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        let mut missing: Vec<&Path> = path.ancestors().filter(|up| *up != Path::new("")).collect();
        missing.reverse();
        for directory in missing {
            if !state.names.contains_key(directory) {
                state.change(NameChange::Add(directory.to_owned(), Node::Directory));
            }
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        state.sync_names(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        let node = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change(NameChange::Rename(from.to_owned(), to.to_owned(), node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        state.file_of(path)?;
        state.change(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        let inside: Vec<PathBuf> =
            state.names.keys().filter(|name| name.starts_with(path)).cloned().collect();
        for name in inside.into_iter().rev() {
            state.change(NameChange::Remove(name));
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        let inside = state.names.iter().filter(|(name, _)| name.parent() == Some(path));
        let entries = inside.map(|(name, node)| Entry {
            name: name.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            is_dir: *node == Node::Directory,
            bytes: match node {
                Node::File(file) => state.files.get(file).map_or(0, |inode| inode.bytes.len() as u64),
                Node::Directory => 0,
            },
        });
        Ok(entries.collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state.faults.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        let mut state = self.state();
        let file = state.file_of(path)?;
        Ok(Bytes::from(state.inode(file)?.bytes.clone()))
    }

    fn lock(&self) -> io::Result<Box<dyn DirectoryLock>> {
        let mut state = self.state();
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(FaultyLock { disk: self.clone(), life: state.life }))
    }

    fn root(&self) -> PathBuf {
        PathBuf::from("(memory)")
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    file: u64,
    path: PathBuf,
    life: u64,
}

impl FaultyFile {
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        match state.life == self.life {
            true => Ok(state),
            false => Err(io::Error::other("this file was open when the power went")),
        }
    }

    fn is_hit_by(&self, fault: Option<&'static str>) -> bool {
        fault.is_some_and(|part| self.path.to_string_lossy().contains(part))
    }
}

impl DiskFile for FaultyFile {
    fn pread(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.alive()?;
        let wanted = state.short(into.len());
        let bytes = &state.inode(self.file)?.bytes;
        let at = usize::try_from(at).map_err(io::Error::other)?.min(bytes.len());
        let read = wanted.min(bytes.len() - at);
        into[..read].copy_from_slice(&bytes[at..at + read]);
        Ok(read)
    }

    fn pwrite(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut state = self.alive()?;
        state.operate()?;
        if self.is_hit_by(state.faults.fail_write_to) {
            return Err(io::Error::other("scripted: write failed"));
        }
        let written = state.short(bytes.len());
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let more = (at + written).saturating_sub(state.inode(self.file)?.bytes.len());
        state.room_for(more as u64)?;
        let inode = state.inode(self.file)?;
        if more > 0 {
            inode.grow(at + written);
        }
        inode.bytes[at..at + written].copy_from_slice(&bytes[..written]);
        if written > 0 {
            inode.dirty.extend(at / PAGE..=(at + written - 1) / PAGE);
        }
        Ok(written)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        state.operate()?;
        let fails = self.is_hit_by(state.faults.fail_sync_of);
        let inode = state.inode(self.file)?;
        let dirty = std::mem::take(&mut inode.dirty);
        if fails {
            return Err(io::Error::other("scripted: sync failed"));
        }
        inode.durable.resize(inode.bytes.len(), 0);
        for page in dirty {
            let start = (page * PAGE).min(inode.bytes.len());
            let end = (start + PAGE).min(inode.bytes.len());
            inode.durable[start..end].copy_from_slice(&inode.bytes[start..end]);
        }
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.alive()?.inode(self.file)?.bytes.len() as u64)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.alive()?;
        state.operate()?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        let more = bytes.saturating_sub(state.inode(self.file)?.bytes.len());
        state.room_for(more as u64)?;
        let inode = state.inode(self.file)?;
        if more > 0 {
            inode.grow(bytes);
        } else {
            inode.bytes.truncate(bytes);
            let pages = bytes.div_ceil(PAGE);
            inode.dirty.retain(|page| *page < pages);
        }
        Ok(())
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let length = self.bytes()?;
        if length >= bytes { Ok(()) } else { self.set_bytes(bytes) }
    }
}
