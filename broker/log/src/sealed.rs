//! Small files that are replaced as a whole: written beside, synced, renamed over the old one, the directory synced. After a crash
//! at any point the old or the new content is there.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sunseo_proto::envelope;

use crate::LogError;
use crate::disk::{Context as _, Disk, read_all, write_all};

/// Writes `payload` as an envelope of `kind` and `version`.
///
/// # Errors
/// What the disk says; the old content is then still there, or the new one.
pub fn write(disk: &dyn Disk, path: &Path, kind: u8, version: u8, payload: &[u8]) -> Result<(), LogError> {
    replace(disk, path, &envelope::seal(kind, version, payload))
}

/// Reads the payload of an envelope of `kind`; `None` when the file is missing.
///
/// # Errors
/// When it is damaged, of another kind, or newer than `newest`.
pub fn read(disk: &dyn Disk, path: &Path, kind: u8, newest: u8) -> Result<Option<(u8, Bytes)>, LogError> {
    let bytes = match read_all(disk, path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        error @ Err(_) => error.context("cannot read", path)?,
    };
    match envelope::open_as(&bytes, kind, newest) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) => Err(LogError::Damaged { path: path.to_owned(), error }),
    }
}

/// Replaces the content of a file by `bytes`.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    write_new(disk, path, bytes)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    disk.sync_dir(directory).context("cannot sync directory", directory)
}

/// As [`replace`], but the new name is not durable before the directory is synced.
pub(crate) fn write_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    let beside = beside(path);
    let file = disk.create(&beside).context("cannot create", &beside)?;
    write_all(file.as_ref(), bytes, 0).context("cannot write", &beside)?;
    file.sync_data().context("cannot sync", &beside)?;
    disk.rename(&beside, path).context("cannot rename", &beside)
}

/// Suffix of files that were not finished.
pub(crate) const UNFINISHED: &str = ".new";

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(UNFINISHED);
    PathBuf::from(name)
}
