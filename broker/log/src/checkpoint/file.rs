//! The checkpoint's file and the marker of a directory that was closed in order, as bytes.

use std::io;
use std::path::Path;

use bytes::{BufMut as _, Bytes};
use sunseo_proto::PartitionId;
use sunseo_proto::envelope::{self, EnvelopeError, kind};

use crate::LogError;
use crate::codec::{Decoder, put_partition};
use crate::disk::{Context as _, Disk, read_all};
use crate::sealed;
use crate::state::{self, PartitionState};

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
pub(super) struct Sections {
    pub(super) frame: u64,
    pub(super) journal_from: u64,
    pub(super) sections: Vec<(PartitionId, Bytes)>,
}

pub(super) fn encode(sections: &Sections) -> Vec<u8> {
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

pub(crate) fn seal_section(state: &PartitionState) -> Bytes {
    envelope::seal(kind::LOG_CHECKPOINT, state::VERSION, &state.encode())
}

pub(crate) fn open_section(section: &Bytes) -> Result<PartitionState, EnvelopeError> {
    let (version, payload) = envelope::open_as(section, kind::LOG_CHECKPOINT, state::VERSION)?;
    PartitionState::decode(payload, version)
}

pub(super) fn read_sections(disk: &dyn Disk) -> Result<Option<Sections>, LogError> {
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
    Ok(read_sections(disk)?.map_or_else(Checkpoint::default, opened))
}

fn opened(Sections { frame, journal_from, sections }: Sections) -> Checkpoint {
    let partitions = sections.into_iter().map(|(id, section)| (id, open_section(&section))).collect();
    Checkpoint { frame, journal_from, partitions }
}

/// Reads the content of the file.
#[cfg(feature = "testing")]
pub(crate) fn decode(bytes: &Bytes) -> Result<Checkpoint, EnvelopeError> {
    split(bytes).map(opened)
}

/// The content of a file with these partitions.
#[cfg(feature = "testing")]
pub(crate) fn sample(frame: u64, journal_from: u64, states: &[PartitionState]) -> Vec<u8> {
    let sections = states.iter().map(|state| (state.id, seal_section(state))).collect();
    encode(&Sections { frame, journal_from, sections })
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
