//! What the disk is: files as written and as durable, names as they are and as durable, and what a cut leaves of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::Faults;
use crate::direct::Refused;

/// What survives or is lost as a whole, unless it is torn.
pub(super) const PAGE: usize = 4096;
/// What a torn page is torn into.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) rng: u64,
    pub(super) faults: Faults,
    /// Raised by a power cut: handles from before it are dead.
    pub(super) life: u64,
    pub(super) operations: u64,
    pub(super) page_writes_refused: u64,
    pub(super) refused: Refused,
    pub(super) locked: bool,
    pub(super) files: BTreeMap<u64, Inode>,
    pub(super) next_file: u64,
    pub(super) names: BTreeMap<PathBuf, Node>,
    pub(super) durable_names: BTreeMap<PathBuf, Node>,
    pub(super) unsynced_names: Vec<NameChange>,
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) bytes: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) dirty: BTreeSet<usize>,
}

impl Inode {
    /// The grown part is unsynced zeros: what was durable there before a cut must not come back with the next sync.
    pub(super) fn grow(&mut self, bytes: usize) {
        let before = self.bytes.len();
        self.bytes.resize(bytes, 0);
        self.dirty.extend(before / PAGE..bytes.div_ceil(PAGE));
    }

    fn forget_unsynced(&mut self) {
        self.dirty.clear();
        self.bytes.clone_from(&self.durable);
    }
}

/// How everything ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Kill,
    Power,
    /// Before anything unsynced was written back.
    EarlyPower,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(u64),
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
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
    pub(super) fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.faults.stop_after_operations {
            Some(limit) if self.operations > limit => Err(io::Error::other("scripted: stopped here")),
            _ => Ok(()),
        }
    }

    pub(super) fn short(&mut self, wanted: usize) -> usize {
        let short = wanted > 1 && self.below(1000) < self.faults.short_io_permille as usize;
        if short { 1 + self.below(wanted - 1) } else { wanted }
    }

    pub(super) fn used(&self) -> u64 {
        let live = self.names.values().filter_map(|node| match node {
            Node::File(file) => self.files.get(file),
            Node::Directory => None,
        });
        live.map(|inode| inode.bytes.len() as u64).sum()
    }

    pub(super) fn room_for(&self, more: u64) -> io::Result<()> {
        match self.faults.capacity_bytes {
            Some(capacity) if self.used() + more > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn inode(&mut self, file: u64) -> io::Result<&mut Inode> {
        self.files.get_mut(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn file_of(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(*file),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    pub(super) fn sync_names(&mut self, directory: &Path) {
        let (synced, rest) =
            std::mem::take(&mut self.unsynced_names).into_iter().partition(|c| c.directory() == directory);
        self.unsynced_names = rest;
        let synced: Vec<NameChange> = synced;
        synced.iter().for_each(|change| change.apply(&mut self.durable_names));
    }

    pub(super) fn cut(&mut self, cut: Cut) {
        self.life += 1;
        self.locked = false;
        self.faults = Faults::default();
        if cut == Cut::Kill {
            return;
        }
        let nothing_was_written_back = cut == Cut::EarlyPower || self.below(4) == 0;
        let directories: BTreeSet<PathBuf> =
            self.unsynced_names.iter().map(|change| change.directory().to_owned()).collect();
        for directory in directories {
            let changes: Vec<NameChange> =
                self.unsynced_names.iter().filter(|c| c.directory() == directory).cloned().collect();
            let kept = if nothing_was_written_back { 0 } else { self.below(changes.len() + 1) };
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
        for inode in files.values_mut() {
            if nothing_was_written_back {
                inode.forget_unsynced();
            } else {
                self.cut_file(inode);
            }
        }
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
