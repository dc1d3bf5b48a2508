//! A disk in memory that loses power, for tests.
//!
//! Model: a file has bytes as written and bytes as durable; [`FaultyDisk::power_cut`] keeps each unsynced page of 4 KiB, or a prefix of
//! it in sectors, or loses it, as the seed says; one cut in four comes before anything unsynced was written back, and takes all of it.
//! A directory's unsynced changes (create, remove, rename) survive as a prefix of their order. A failed sync forgets what it should have
//! written: a later successful one does not bring it back, as on Linux. Everything is drawn from one seed.

mod port;
mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use state::{Cut, Node, State};

/// Chances and limits, of what can go wrong without a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Chance of 1,000 that a read or a write handles only some of its bytes.
    pub short_io_permille: u32,
    /// Every sync of a file whose path contains this fails.
    pub fail_sync_of: Option<&'static str>,
    /// The next sync of this directory fails, those after it do not.
    pub fail_sync_of_names_in: Option<&'static str>,
    /// Every write to a file whose path contains this fails.
    pub fail_write_to: Option<&'static str>,
    /// Files open for writing past the page cache, and refuse each such write.
    pub refuse_page_writes: bool,
    /// Bytes that fit on the disk altogether.
    pub capacity_bytes: Option<u64>,
    /// After this many further writes, syncs and name changes all operations fail, as when the process was killed just there.
    pub stop_after_operations: Option<u64>,
}

/// The disk. Clones share it; so does what [`FaultyDisk::power_cut`] leaves.
#[derive(Clone, Debug)]
pub struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State { rng: seed, ..State::default() })))
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
        self.state().cut(Cut::Power);
    }

    /// The same, before anything unsynced was written back: all of it is lost.
    pub fn early_power_cut(&self) {
        self.state().cut(Cut::EarlyPower);
    }

    /// The process is killed: everything written stays, open files are dead, the lock is free, faults are off.
    pub fn kill(&self) {
        self.state().cut(Cut::Kill);
    }

    /// Operations counted for [`Faults::stop_after_operations`] since [`FaultyDisk::set_faults`].
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Writes that [`Faults::refuse_page_writes`] has refused.
    #[must_use]
    pub fn page_writes_refused(&self) -> u64 {
        self.state().page_writes_refused
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
}
