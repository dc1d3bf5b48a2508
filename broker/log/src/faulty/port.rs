//! The port's operations on it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use super::FaultyDisk;
use super::state::{Inode, NameChange, Node, PAGE, State};
use crate::direct::PagesFile;
use crate::disk::{DirectoryLock, Disk, DiskFile, Entry, SharedFile};

impl FaultyDisk {
    fn handle(&self, file: u64, path: &Path) -> SharedFile {
        let life = self.state().life;
        Arc::new(FaultyFile { disk: self.clone(), file, path: path.to_owned(), life })
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

    fn open_for_pages(&self, path: &Path) -> io::Result<SharedFile> {
        let cached = self.open(path)?;
        let state = self.state();
        if !state.faults.refuse_page_writes || state.refused.is_set() {
            return Ok(cached);
        }
        let direct = Arc::new(NoPages { disk: self.clone() });
        Ok(Arc::new(PagesFile { direct, cached, refused: state.refused.clone(), path: path.to_owned() }))
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
        if state.faults.fail_sync_of_names_in.is_some_and(|directory| Path::new(directory) == path) {
            state.faults.fail_sync_of_names_in = None;
            return Err(io::Error::other("scripted: sync of names failed"));
        }
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

/// The way past the page cache of a file system that has none.
#[derive(Debug)]
struct NoPages {
    disk: FaultyDisk,
}

impl NoPages {
    fn refuse<T>() -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "scripted: not past the page cache"))
    }
}

impl DiskFile for NoPages {
    fn pread(&self, _into: &mut [u8], _at: u64) -> io::Result<usize> {
        Self::refuse()
    }

    fn pwrite(&self, _bytes: &[u8], _at: u64) -> io::Result<usize> {
        self.disk.state().page_writes_refused += 1;
        Self::refuse()
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::refuse()
    }

    fn bytes(&self) -> io::Result<u64> {
        Self::refuse()
    }

    fn set_bytes(&self, _bytes: u64) -> io::Result<()> {
        Self::refuse()
    }

    fn preallocate(&self, _bytes: u64) -> io::Result<()> {
        Self::refuse()
    }
}
