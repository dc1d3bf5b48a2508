//! Opening a data directory: lock, checkpoint, journal, segments; afterwards everything is durable and the journal is new.
//!
//! The decisions are in `recover.rs`; this is their shell. It can be interrupted anywhere and begun again: until the new checkpoint
//! is in place nothing that the old one or the journal needs is removed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use sunseo_proto::PartitionId;
use sunseo_proto::batch;

use crate::checkpoint::{self, Checkpoint};
use crate::config::Background;
use crate::disk::{Context as _, Disk, SharedDisk, SharedFile, read_all, write_all};
use crate::journal::{self, Journal};
use crate::recover::{Action, Replay};
use crate::segment::{Files, PARTITIONS, directory_of, log_path, partition_of};
use crate::settle::{self, Settle};
use crate::store::Parts;
use crate::together::{self, SYNCS_MAX, Unsynced};
use crate::walk::Walk;
use crate::{LogError, Recovered, Store, StoreConfig};

/// Segment files that are written during recovery and open at once.
const OPEN_FILES_MAX: usize = 256;

pub(crate) fn open(
    disk: SharedDisk,
    config: StoreConfig,
    now_ms: i64,
) -> Result<(Store, Vec<Recovered>), LogError> {
    let lock = disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => LogError::Locked(disk.root()),
        _ => LogError::Io { doing: "cannot lock", path: disk.root(), error: Arc::new(error) },
    })?;
    for directory in [PARTITIONS, journal::DIRECTORY] {
        disk.create_dir(Path::new(directory)).context("cannot create", Path::new(directory))?;
    }
    disk.sync_dir(Path::new("")).context("cannot sync directory", Path::new(""))?;
    let was_clean = checkpoint::take_clean_marker(disk.as_ref())?;
    let checkpoint = checkpoint::read(disk.as_ref())?;
    refuse_lost_checkpoint(disk.as_ref(), &checkpoint)?;
    let journal_from = checkpoint.journal_from;
    let sequences = journal_files(disk.as_ref())?;
    let (background, replay) = (config.background, Replay::new(checkpoint));
    let mut shell = Shell { disk: disk.as_ref(), background, replay, open: BTreeMap::new() };
    if !was_clean {
        sequences.iter().filter(|n| **n >= journal_from).try_for_each(|n| shell.file(*n))?;
    }
    shell.sync_open()?;
    let replay = shell.replay;
    let files =
        Arc::new(Files::new(disk.clone(), config.open_files_max.max(1), config.index_interval_bytes.max(1)));
    let last_frame = replay.last_frame();
    let keep_unknown = replay.journal_damage.is_some();
    let share = config.verify_bytes / replay.partitions.len().max(1) as u64;
    let verify_bytes = if was_clean { 0 } else { share };
    let how = Settle {
        files: &files,
        verify_bytes,
        now_ms,
        journal_damage: replay.journal_damage.as_deref(),
        unsynced: RefCell::default(),
    };
    let sync_from = |count: usize| -> Result<(), LogError> {
        let mut unsynced = how.unsynced.borrow_mut();
        if unsynced.len() >= count {
            together::sync_all(disk.as_ref(), &unsynced, config.background)?;
            unsynced.clear();
        }
        Ok(())
    };
    let (mut partitions, mut recovered) = (BTreeMap::new(), Vec::new());
    for (id, replayed) in replay.partitions {
        let (partition, report) = settle::settle(&how, replayed)?;
        partitions.insert(id, partition);
        recovered.push(report);
        sync_from(SYNCS_MAX)?;
    }
    sync_from(0)?;
    let next_sequence = sequences.last().map_or(1, |last| last + 1);
    let (file_bytes, files_max) = (config.journal_file_bytes, config.journal_files_max);
    let mut journal = Journal::begin(disk.clone(), file_bytes, files_max, next_sequence, last_frame + 1)?;
    journal.adopt(sequences);
    let parts = Parts { disk, config, files, journal, partitions, was_clean, lock };
    let mut store = Store::assemble(parts, now_ms);
    if !keep_unknown {
        store.doomed = unknown_directories(&store)?;
    }
    store.names_dirty = true;
    store.checkpoint()?;
    Ok((store, recovered))
}

/// Without the checkpoint nothing tells which bytes of the partitions are records: that is damage, not an empty directory.
fn refuse_lost_checkpoint(disk: &dyn Disk, checkpoint: &Checkpoint) -> Result<(), LogError> {
    let path = Path::new(checkpoint::FILE);
    let is_lost = checkpoint.journal_from == 0
        && !disk.list(Path::new(PARTITIONS)).context("cannot list", Path::new(PARTITIONS))?.is_empty();
    if is_lost {
        let what = "it is missing, but there are partitions: restore it from a copy".into();
        return Err(LogError::Corrupt { path: path.to_owned(), what });
    }
    Ok(())
}

/// Sequences of the journal's files, rising.
pub(crate) fn journal_files(disk: &dyn Disk) -> Result<Vec<u64>, LogError> {
    let directory = Path::new(journal::DIRECTORY);
    let names = disk.list(directory).context("cannot list", directory)?;
    let mut sequences: Vec<u64> =
        names.iter().filter_map(|entry| journal::sequence_of(&entry.name)).collect();
    sequences.sort_unstable();
    Ok(sequences)
}

fn unknown_directories(store: &Store) -> Result<std::collections::BTreeSet<PartitionId>, LogError> {
    let directory = Path::new(PARTITIONS);
    let names = store.disk.list(directory).context("cannot list", directory)?;
    let ids = names.iter().filter_map(|entry| partition_of(&entry.name));
    Ok(ids.filter(|id| !store.partitions.contains_key(id)).collect())
}

struct Shell<'a> {
    disk: &'a dyn Disk,
    background: Background,
    replay: Replay,
    open: BTreeMap<(PartitionId, i64), SharedFile>,
}

impl Shell<'_> {
    fn file(&mut self, sequence: u64) -> Result<(), LogError> {
        let path = journal::path_of(sequence);
        let bytes = read_all(self.disk, &path).context("cannot read", &path)?;
        let scanned = journal::scan(&bytes, sequence);
        if let Some(error) = scanned.damaged {
            self.replay.damage_journal(format!("{}: {error}", path.display()));
        }
        for frame in scanned.frames {
            self.replay.frame(frame.number);
            for (id, entry) in frame.entries {
                match self.replay.apply(frame.number, frame.now_ms, id, entry) {
                    None => {}
                    Some(Action::Write { base, at, batches }) => {
                        let path = log_path(id, base);
                        let file = self.open(id, base, true)?;
                        write_all(file.as_ref(), &batches, at).context("cannot write", &path)?;
                    }
                    Some(Action::Scan { base, from, to, end }) => {
                        self.scan(id, frame.now_ms, base, (from, to, end))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn scan(
        &mut self,
        id: PartitionId,
        now_ms: i64,
        base: i64,
        (from, to, end): (u64, u64, i64),
    ) -> Result<(), LogError> {
        let damaged = |what: &dyn std::fmt::Display| {
            format!("segment {base} is damaged below byte {to}, which was durable: {what}")
        };
        let file = match self.open(id, base, false) {
            Ok(file) => file,
            Err(LogError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                self.replay.damage(id, damaged(&"the file is missing"));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let expected = self.replay.partitions.get(&id).map(|known| known.state.end());
        let mut walk = Walk::new(file.as_ref(), from, to, expected);
        while let Some(step) = walk.next() {
            let batch = step.map_err(|stop| stop.to_string()).and_then(|walked| {
                let position = batch::position_of(&walked.bytes).map_err(|error| error.to_string())?;
                Ok((walked.header, position))
            });
            match batch {
                Ok((header, position)) => self.replay.scanned(id, &header, position, now_ms),
                Err(what) => {
                    self.replay.damage(id, damaged(&what));
                    return Ok(());
                }
            }
        }
        let found = self.replay.partitions.get(&id).map_or(end, |known| known.state.end());
        if found != end {
            self.replay.damage(id, damaged(&format!("it ends at offset {found}, not at {end}")));
        }
        Ok(())
    }

    fn open(&mut self, id: PartitionId, base: i64, create: bool) -> Result<SharedFile, LogError> {
        if let Some(file) = self.open.get(&(id, base)) {
            return Ok(file.clone());
        }
        if self.open.len() >= OPEN_FILES_MAX {
            self.sync_open()?;
        }
        let path = log_path(id, base);
        let file = match self.disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                let directory = directory_of(id);
                self.disk.create_dir(&directory).context("cannot create", &directory)?;
                self.disk.create(&path).context("cannot create", &path)?
            }
            other => other.context("cannot open", &path)?,
        };
        self.open.insert((id, base), file.clone());
        Ok(file)
    }

    /// Makes what was written so far durable, while the handles that would tell of an error are open.
    fn sync_open(&mut self) -> Result<(), LogError> {
        let open = std::mem::take(&mut self.open).into_iter();
        let unsynced: Vec<Unsynced> =
            open.map(|((id, base), file)| Unsynced::File(log_path(id, base), file)).collect();
        together::sync_all(self.disk, &unsynced, self.background)
    }
}
