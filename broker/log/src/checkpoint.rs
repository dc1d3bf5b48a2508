//! The checkpoint: everything the journal says up to a frame, as one file, after which recovery reads only later frames.
//!
//! The file is a head envelope (frame, first journal file to read, ids) and one envelope for each partition, so that damage to one section
//! is damage to one partition. Written beside and renamed. Before it: every segment and directory it speaks of is synced. After it:
//! journal files are free, and files of removed segments and partitions go.
//!
//! A failed partition keeps the section it had, and with it the journal files since.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use sunseo_proto::PartitionId;
use sunseo_proto::envelope::{self, EnvelopeError, kind};

use crate::codec::{Decoder, put_partition};
use crate::disk::{Context as _, Disk, read_all, write_all};
use crate::partition::Partition;
use crate::sealed;
use crate::segment::{PARTITIONS, directory_of};
use crate::state::PartitionState;
use crate::{LogError, Store};

pub(crate) const FILE: &str = "checkpoint";
const CLEAN_FILE: &str = "clean";
const VERSION: u8 = 1;

/// A checkpoint that was read.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    /// The last frame in it, for partitions it does not name.
    pub(crate) frame: u64,
    /// The first journal file that may hold later frames.
    pub(crate) journal_from: u64,
    pub(crate) partitions: Vec<(PartitionId, Result<PartitionState, EnvelopeError>)>,
}

/// Sections as they are stored.
struct Sections {
    frame: u64,
    journal_from: u64,
    sections: Vec<(PartitionId, Bytes)>,
}

fn encode(sections: &Sections) -> Vec<u8> {
    let mut head = Vec::new();
    head.put_u64(sections.frame);
    head.put_u64(sections.journal_from);
    head.put_u32(sections.sections.len() as u32);
    for (id, section) in &sections.sections {
        put_partition(&mut head, *id);
        head.put_u32(section.len() as u32);
    }
    let mut out = Vec::new();
    envelope::seal_into(&mut out, kind::LOG_CHECKPOINT, VERSION, &head);
    sections.sections.iter().for_each(|(_, section)| out.extend_from_slice(section));
    out
}

/// The places of the sections are in the head, so that one can be damaged alone.
fn split(bytes: &Bytes) -> Result<Sections, EnvelopeError> {
    let opened = envelope::open(bytes)?;
    let (_, payload) = envelope::open_as(bytes, kind::LOG_CHECKPOINT, VERSION)?;
    let mut head = Decoder::new(payload);
    let (frame, journal_from, count) = (head.u64()?, head.u64()?, head.u32()?);
    let mut at = opened.frame_bytes;
    let mut sections = Vec::new();
    for _ in 0..count {
        let (id, length) = (head.partition()?, head.u32()? as usize);
        let end = (at + length).min(bytes.len());
        sections.push((id, bytes.slice(at.min(end)..end)));
        at = end;
    }
    Ok(Sections { frame, journal_from, sections })
}

fn seal_section(state: &PartitionState) -> Bytes {
    envelope::seal(kind::LOG_CHECKPOINT, VERSION, &state.encode())
}

fn open_section(section: &Bytes) -> Result<PartitionState, EnvelopeError> {
    let (_, payload) = envelope::open_as(section, kind::LOG_CHECKPOINT, VERSION)?;
    PartitionState::decode(payload)
}

fn read_sections(disk: &dyn Disk) -> Result<Option<Sections>, LogError> {
    let path = Path::new(FILE);
    let bytes = match read_all(disk, path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        error @ Err(_) => error.context("cannot read", path)?,
    };
    split(&bytes).map(Some).map_err(|error| LogError::Damaged { path: path.to_owned(), error })
}

/// Reads the checkpoint of a directory; an empty one when there is none.
pub(crate) fn read(disk: &dyn Disk) -> Result<Checkpoint, LogError> {
    let Some(sections) = read_sections(disk)? else { return Ok(Checkpoint::default()) };
    let Sections { frame, journal_from, sections } = sections;
    let partitions = sections.into_iter().map(|(id, section)| (id, open_section(&section))).collect();
    Ok(Checkpoint { frame, journal_from, partitions })
}

/// Says that the directory was closed in order.
pub(crate) fn write_clean_marker(disk: &dyn Disk) -> Result<(), LogError> {
    sealed::write(disk, Path::new(CLEAN_FILE), kind::LOG_CHECKPOINT, VERSION, b"clean")
}

/// Whether the marker was there; it is gone afterwards.
pub(crate) fn take_clean_marker(disk: &dyn Disk) -> Result<bool, LogError> {
    let path = Path::new(CLEAN_FILE);
    let was_there = matches!(sealed::read(disk, path, kind::LOG_CHECKPOINT, VERSION), Ok(Some(_)));
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.context("cannot remove", path)?,
    }
    disk.sync_dir(Path::new("")).context("cannot sync directory", Path::new(""))?;
    Ok(was_there)
}

impl Store {
    /// Takes a checkpoint; what stands in the way is logged and the next one tries again, with new files.
    pub(crate) fn try_checkpoint(&mut self) {
        if let Err(error) = self.checkpoint() {
            tracing::warn!(%error, "no checkpoint was taken");
        }
    }

    /// Commits what is pending, makes every segment durable and writes the checkpoint.
    pub(crate) fn checkpoint(&mut self) -> Result<(), LogError> {
        self.commit();
        self.checkpointed_ms = self.now_ms;
        if let Some(reason) = &self.failed {
            let error = io::Error::other(reason.to_string());
            return Err(error).context("cannot take a checkpoint in", Path::new(""));
        }
        self.sync_partitions();
        if self.names_dirty {
            self.sync_names(Path::new(PARTITIONS))?;
            self.names_dirty = false;
        }
        let any_failed = self.partitions.values().any(is_failed);
        let journal_from = match any_failed {
            true => self.journal.oldest_sequence(),
            false => self.journal.current_sequence(),
        };
        let sections = self.sections(journal_from, any_failed)?;
        sealed::write_new(self.disk.as_ref(), Path::new(FILE), &encode(&sections))?;
        self.sync_names(Path::new(""))?;
        self.journal.checkpointed(journal_from);
        self.clean_up();
        Ok(())
    }

    /// Makes names durable. After an error nobody knows which are, so nothing may be built on a later success.
    fn sync_names(&mut self, directory: &Path) -> Result<(), LogError> {
        let synced = self.disk.sync_dir(directory).context("cannot sync directory", directory);
        if let Err(error) = &synced {
            self.fail_all(&error.to_string().into());
        }
        synced
    }

    fn sync_partitions(&mut self) {
        let mut failures: Vec<(PartitionId, Arc<str>)> = Vec::new();
        for (id, partition) in &mut self.partitions {
            if partition.failed.is_some() || !partition.changed {
                continue;
            }
            if let Err(error) = sync_partition(partition) {
                failures.push((*id, error.to_string().into()));
            }
        }
        for (id, reason) in failures {
            self.fail_partition(id, &reason);
        }
    }

    fn sections(&mut self, journal_from: u64, any_failed: bool) -> Result<Sections, LogError> {
        let frame = self.journal.last_frame();
        let mut old: BTreeMap<PartitionId, Bytes> = BTreeMap::new();
        if any_failed {
            old.extend(read_sections(self.disk.as_ref())?.into_iter().flat_map(|sections| sections.sections));
        }
        let mut sections = Vec::with_capacity(self.partitions.len());
        for (id, partition) in &mut self.partitions {
            let section = match (is_failed(partition), partition.created_after) {
                (false, _) => {
                    partition.state.frame = frame;
                    seal_section(&partition.state)
                }
                (true, Some(before)) => {
                    seal_section(&PartitionState::new(*id, partition.state.config, before))
                }
                (true, None) => match old.remove(id) {
                    Some(section) => section,
                    None => continue,
                },
            };
            sections.push((*id, section));
        }
        Ok(Sections { frame, journal_from, sections })
    }

    /// Removes the files of what is out of sight.
    fn clean_up(&mut self) {
        for partition in self.partitions.values_mut().filter(|partition| !is_failed(partition)) {
            partition.changed = false;
            partition.created_after = None;
            for segment in std::mem::take(&mut partition.doomed) {
                segment.remove(&self.files);
            }
        }
        for id in std::mem::take(&mut self.doomed) {
            let directory = directory_of(id);
            self.files.close_all_in(&directory);
            if let Err(error) = self.disk.remove_dir(&directory) {
                tracing::warn!(path = %directory.display(), %error, "a deleted partition's files stay until the next start");
            }
        }
    }
}

/// A quarantined partition is failed too, but its section is right.
pub(crate) fn is_failed(partition: &Partition) -> bool {
    partition.failed.is_some() && partition.state.quarantined.is_none()
}

fn sync_partition(partition: &mut Partition) -> Result<(), LogError> {
    for segment in partition.dirty.clone() {
        partition.sync_segment(&segment)?;
    }
    if partition.names_dirty {
        let directory = directory_of(partition.id());
        partition.files().disk.sync_dir(&directory).context("cannot sync directory", &directory)?;
        partition.names_dirty = false;
    }
    write_active_index(partition);
    Ok(())
}

/// The index so far, so that recovery reads only what was appended later. It may be lost: it can be built again.
fn write_active_index(partition: &Partition) {
    let Some(index) = partition.active.sealed_index() else { return };
    let disk = &partition.files().disk;
    let written =
        disk.create(&partition.active.index_path).and_then(|file| write_all(file.as_ref(), &index, 0));
    if let Err(error) = written {
        tracing::warn!(path = %partition.active.index_path.display(), %error, "index was not written");
    }
}
