//! Many syncs at once: a file system makes those that wait at the same time durable together, so sixteen cost little more than one.
//! For recovery, which has several for each partition; nothing there is relied on before all of them are done.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::LogError;
use crate::config::Background;
use crate::disk::{Context as _, Disk, SharedFile};

/// Syncs that are collected before they are done: their files are open until then.
pub(crate) const SYNCS_MAX: usize = 256;

/// Threads that wait for the disk at the same time.
const THREADS: usize = 16;

/// Something to be made durable.
#[derive(Debug)]
pub(crate) enum Unsynced {
    File(PathBuf, SharedFile),
    Directory(PathBuf),
}

impl Unsynced {
    fn sync(&self, disk: &dyn Disk) -> Result<(), LogError> {
        match self {
            Self::File(path, file) => file.sync_data().context("cannot sync", path),
            Self::Directory(path) => disk.sync_dir(path).context("cannot sync directory", path),
        }
    }
}

/// Makes everything durable, or says what is not.
pub(crate) fn sync_all(
    disk: &dyn Disk,
    unsynced: &[Unsynced],
    background: Background,
) -> Result<(), LogError> {
    if unsynced.len() < 2 || matches!(background, Background::Steps(_)) {
        return unsynced.iter().try_for_each(|one| one.sync(disk));
    }
    let (next, first_error) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || {
        while let Some(one) = unsynced.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = one.sync(disk) {
                let mut first = first_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                first.get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(unsynced.len()) {
            // where no more threads can be made, fewer do
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let error = first_error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    error.map_or(Ok(()), Err)
}
