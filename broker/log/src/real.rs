//! The machine's file system.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, OFlags};

use crate::direct::{PagesFile, Refused};
use crate::disk::{DirectoryLock, Disk, DiskFile, Entry, SharedFile, ends_before};

const LOCK_FILE: &str = "lock";

/// Files under one directory.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    /// Writing past the page cache.
    refused: Refused,
}

impl RealDisk {
    /// The disk of a directory, which is created when it is missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        std::fs::create_dir_all(&root)?;
        Ok(Self { root, refused: Refused::default() })
    }

    /// The disk of a directory that must exist; nothing is created.
    ///
    /// # Errors
    /// When it is not a directory.
    pub fn existing(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        if root.is_dir() {
            return Ok(Self { root, refused: Refused::default() });
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is not a directory", root.display())))
    }
}

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealLock {
    // the lock is released when the file is closed
    _file: File,
}

impl DirectoryLock for RealLock {}

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<SharedFile> {
        let path = self.root.join(path);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            // an offline reader may not be allowed to write
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                File::open(&path)?
            }
            other => other?,
        };
        Ok(Arc::new(RealFile(file)))
    }

    fn open_for_pages(&self, path: &Path) -> io::Result<SharedFile> {
        let path = self.root.join(path);
        let open = |flags: i32| OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path);
        let cached = open(0)?;
        if self.refused.is_set() {
            return Ok(Arc::new(RealFile(cached)));
        }
        // not every file system has a way past the cache
        match open(OFlags::DIRECT.bits().cast_signed()) {
            Ok(direct) => {
                let (direct, cached) = (Arc::new(RealFile(direct)), Arc::new(RealFile(cached)));
                Ok(Arc::new(PagesFile { direct, cached, refused: self.refused.clone(), path }))
            }
            Err(_) => Ok(Arc::new(RealFile(cached))),
        }
    }

    fn create(&self, path: &Path) -> io::Result<SharedFile> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(self.root.join(path))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(self.root.join(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(self.root.join(path))?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(self.root.join(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let names = match std::fs::read_dir(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut entries = Vec::new();
        for name in names {
            let name = name?;
            let facts = name.metadata()?;
            let is_dir = facts.is_dir();
            let bytes = if is_dir { 0 } else { facts.len() };
            entries.push(Entry { name: name.file_name().to_string_lossy().into_owned(), is_dir, bytes });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let facts = rustix::fs::statvfs(&self.root)?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        let file = File::open(self.root.join(path))?;
        if file.metadata()?.len() == 0 {
            return Ok(Bytes::new());
        }
        // SAFETY: a mapping is unsound when the file shrinks or changes under it. Callers map sealed files only, and the store, which
        // holds the directory's lock, never writes to a sealed file or cuts it: it only removes its name, after which the mapping
        // keeps the bytes. The port's contract (`Disk::map`) says so; another program that writes there breaks the directory anyway.
        #[allow(unsafe_code)]
        let mapped = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Bytes::from_owner(mapped))
    }

    fn lock(&self) -> io::Result<Box<dyn DirectoryLock>> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(self.root.join(LOCK_FILE))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn root(&self) -> PathBuf {
        self.root.clone()
    }
}

impl DiskFile for RealFile {
    fn pread(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(into, at)
    }

    /// Into memory that is not filled with zeros before.
    fn read_vec(&self, bytes: usize, at: u64) -> io::Result<Vec<u8>> {
        let mut read = Vec::with_capacity(bytes);
        while read.len() < bytes {
            let from = at + read.len() as u64;
            match rustix::io::pread(&self.0, rustix::buffer::spare_capacity(&mut read), from) {
                Ok(0) => return Err(ends_before()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // the memory may be larger than was asked for
        read.truncate(bytes);
        Ok(read)
    }

    fn pwrite(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.0.write_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let length = self.bytes()?;
        if length >= bytes {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), length, bytes - length) {
            // not every file system can reserve; growing is then all that can be done
            Err(rustix::io::Errno::OPNOTSUPP) => self.set_bytes(bytes),
            other => Ok(other?),
        }
    }
}
