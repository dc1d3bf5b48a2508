//! The faulty disk under a node: its syncs take time, and at a chosen operation the node is dead.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use sunseo_log::disk::{DirectoryLock, Disk, DiskFile, Entry, SharedFile};
use sunseo_log::faulty::FaultyDisk;
use tokio::sync::Notify;

use super::pace::Pace;

/// When the node dies.
#[derive(Debug)]
pub struct Fuse {
    /// Writes, syncs and name changes until then; below zero: never.
    left: AtomicI64,
    dead: AtomicBool,
    /// Told when it happens.
    pub burnt: Notify,
}

impl Fuse {
    /// One that does not burn.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(-1), dead: AtomicBool::new(false), burnt: Notify::new() })
    }

    /// The node dies at the operation after so many.
    pub fn light(&self, operations: i64) {
        self.left.store(operations, Ordering::SeqCst);
    }

    /// The node is dead now: nothing reaches the disk any more.
    pub fn burn(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    /// For the next start.
    pub fn renew(&self) {
        self.left.store(-1, Ordering::SeqCst);
        self.dead.store(false, Ordering::SeqCst);
    }

    /// Whether the node is dead.
    #[must_use]
    pub fn is_burnt(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn operate(&self) -> io::Result<()> {
        if self.left.load(Ordering::SeqCst) >= 0 && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.burn();
            self.burnt.notify_one();
        }
        if self.is_burnt() { Err(io::Error::other("the node is dead")) } else { Ok(()) }
    }
}

/// The disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    pub disk: FaultyDisk,
    pub pace: Arc<Pace>,
    pub fuse: Arc<Fuse>,
}

impl SimDisk {
    fn file(&self, inner: SharedFile) -> SharedFile {
        Arc::new(SimFile { inner, disk: self.clone() })
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<SharedFile> {
        self.disk.open(path).map(|file| self.file(file))
    }

    fn create(&self, path: &Path) -> io::Result<SharedFile> {
        self.fuse.operate()?;
        self.disk.create(path).map(|file| self.file(file))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.fuse.operate()?;
        self.disk.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.fuse.operate()?;
        self.disk.sync_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fuse.operate()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.fuse.operate()?;
        self.disk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.fuse.operate()?;
        self.disk.remove_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        self.disk.map(path)
    }

    fn lock(&self) -> io::Result<Box<dyn DirectoryLock>> {
        self.disk.lock()
    }

    fn root(&self) -> PathBuf {
        self.disk.root()
    }
}

#[derive(Debug)]
struct SimFile {
    inner: SharedFile,
    disk: SimDisk,
}

impl DiskFile for SimFile {
    fn pread(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.inner.pread(into, at)
    }

    fn pwrite(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.disk.fuse.operate()?;
        self.inner.pwrite(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        // what cleans is a thread of the runtime, whose time stands still while it works
        if tokio::runtime::Handle::try_current().is_err() {
            self.disk.pace.wait();
        }
        self.disk.fuse.operate()?;
        self.inner.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.disk.fuse.operate()?;
        self.inner.set_bytes(bytes)
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.fuse.operate()?;
        self.inner.preallocate(bytes)
    }
}
