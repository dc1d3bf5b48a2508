//! A file with two ways to the disk: whole pages go past the page cache, everything else through it.
//!
//! A file system may take the open and refuse the write, because it wants larger blocks or has no such way after all. Then that write and all
//! later ones go through the cache, also in files that are opened later ([`Refused`]).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::{DiskFile, SharedFile};
use crate::pages::are_pages;

/// Whether a disk has refused to write past the page cache. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refused(Arc<AtomicBool>);

impl Refused {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns whether that is news.
    fn set(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct PagesFile {
    pub(crate) direct: SharedFile,
    pub(crate) cached: SharedFile,
    pub(crate) refused: Refused,
    pub(crate) path: PathBuf,
}

/// Whether an error says that the file cannot be written in this way, rather than that it cannot be written.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

impl DiskFile for PagesFile {
    fn pread(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.cached.pread(into, at)
    }

    fn pwrite(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        // what is left of a write that was cut short is no page
        if self.refused.is_set() || !are_pages(bytes, at) {
            return self.cached.pwrite(bytes, at);
        }
        match self.direct.pwrite(bytes, at) {
            Err(error) if is_refusal(&error) => {
                if self.refused.set() {
                    tracing::warn!(
                        path = %self.path.display(), %error,
                        "the file system refuses to write past the page cache, the journal goes through it: more CPU time for each byte"
                    );
                }
                self.cached.pwrite(bytes, at)
            }
            written => written,
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.cached.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        self.cached.bytes()
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.cached.set_bytes(bytes)
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.cached.preallocate(bytes)
    }
}
