//! The file system as a port. Paths are relative to the data directory.
//!
//! What an implementation promises: bytes are durable once [`DiskFile::sync_data`] returned; a name is durable once
//! [`Disk::sync_dir`] of its directory returned; `rename` replaces its target in one step. What it does not promise: anything about
//! bytes and names that were not synced.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::LogError;

/// A shared disk.
pub type SharedDisk = Arc<dyn Disk>;
/// A shared open file.
pub type SharedFile = Arc<dyn DiskFile>;

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
    /// Bytes of a file, 0 for a directory.
    pub bytes: u64,
}

/// Held while the directory is in use; dropping it lets the next one in.
pub trait DirectoryLock: Debug + Send + Sync {}

/// The operations on names.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<SharedFile>;
    /// As [`Disk::open`], for a file that is written in whole pages from memory that begins at a page: those go past the page cache where
    /// the machine can, which saves a copy. Other writes work too.
    fn open_for_pages(&self, path: &Path) -> io::Result<SharedFile> {
        self.open(path)
    }
    /// Creates a file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<SharedFile>;
    /// Creates a directory and its parents; one that is there is success.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name; who has it open or mapped keeps its bytes.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with everything in it; a missing one is success.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted; a missing directory is empty.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
    /// The bytes of a file that nobody writes any more, without copying them where the machine can.
    fn map(&self, path: &Path) -> io::Result<Bytes>;
    /// Takes the directory for this process.
    ///
    /// # Errors
    /// Of kind `WouldBlock` while another holds it.
    fn lock(&self) -> io::Result<Box<dyn DirectoryLock>>;
    /// Where the directory is, for messages.
    fn root(&self) -> PathBuf;
}

/// The operations on an open file. Reads and writes may be short.
pub trait DiskFile: Debug + Send + Sync + 'static {
    fn pread(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Exactly so many bytes; an error when the file ends before.
    fn read_vec(&self, bytes: usize, at: u64) -> io::Result<Vec<u8>> {
        let mut read = vec![0; bytes];
        read_exact(self, &mut read, at)?;
        Ok(read)
    }
    fn pwrite(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Makes bytes and length durable. After an error nothing is known about what was written since the last success.
    fn sync_data(&self) -> io::Result<()>;
    fn bytes(&self) -> io::Result<u64>;
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;
    /// Grows the file to `bytes` with room reserved on the disk; the new part reads as zeros. Never shrinks it.
    fn preallocate(&self, bytes: u64) -> io::Result<()>;
}

/// Reads until `into` is full.
pub(crate) fn read_exact(
    file: &(impl DiskFile + ?Sized),
    mut into: &mut [u8],
    mut at: u64,
) -> io::Result<()> {
    while !into.is_empty() {
        match file.pread(into, at) {
            Ok(0) => {
                return Err(ends_before());
            }
            Ok(n) => {
                into = &mut into[n..];
                at += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(crate) fn ends_before() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before the bytes asked for")
}

/// Writes all of `bytes`.
pub(crate) fn write_all(file: &dyn DiskFile, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.pwrite(bytes, at) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "the disk takes no more bytes")),
            Ok(n) => {
                bytes = &bytes[n..];
                at += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The whole file as bytes in memory.
pub(crate) fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Bytes> {
    let file = disk.open(path)?;
    let length = usize::try_from(file.bytes()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    read_exact(file.as_ref(), &mut bytes, 0)?;
    Ok(Bytes::from(bytes))
}

/// Names what was being done and where in an error of the disk.
pub(crate) trait Context<T> {
    fn context(self, doing: &'static str, path: &Path) -> Result<T, LogError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, doing: &'static str, path: &Path) -> Result<T, LogError> {
        self.map_err(|error| LogError::Io { doing, path: path.to_owned(), error: Arc::new(error) })
    }
}
