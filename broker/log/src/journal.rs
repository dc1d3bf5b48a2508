//! The journal of a data directory: preallocated files that are written one after the other and used again.
//!
//! A file begins with an envelope of kind `JOURNAL_HEADER` (sequence, nonce) on its own page; frames follow, each at a page of its own,
//! so that no write touches the page of an earlier frame, and whole pages go past the page cache. A file gets its name `SEQUENCE.journal` only after its header is durable, so a
//! live file without a right header is damaged. The nonce tells frames of this use of the file from those of an earlier one, and
//! cannot be guessed by who sends records.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use bytes::{BufMut as _, Bytes};
use sunseo_proto::envelope::{self, EnvelopeError, kind};
use uuid::Uuid;

use crate::LogError;
use crate::codec::Decoder;
use crate::disk::{Context as _, SharedDisk, SharedFile, write_all};
use crate::entry::{Frame, FrameBuilder, read_frame};

/// So many bytes that went straight to segments count as one of the journal for the next checkpoint.
const DIRECT_PART: u64 = 4;

pub(crate) const DIRECTORY: &str = "journal";
const SUFFIX: &str = ".journal";
const SPARE: &str = "spare";
/// The part of a file that appends leave when there is no next one.
const UPKEEP_PART: u64 = 4;
const VERSION: u8 = 1;

/// Frames begin at multiples of this.
pub(crate) const PAGE_BYTES: u64 = crate::pages::PAGE_BYTES as u64;

/// The journal that is written.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: SharedDisk,
    file_bytes: u64,
    files_max: usize,
    current: Open,
    spare: Option<Open>,
    /// Files before the current one that recovery would still read.
    older: VecDeque<u64>,
    /// Files that are free to be used again.
    free: Vec<PathBuf>,
    next_sequence: u64,
    next_frame: u64,
    /// What recovery would read, by the time it takes.
    bytes_since_checkpoint: u64,
}

/// A frame that has its place and is not written.
#[derive(Debug)]
pub(crate) struct FrameWrite {
    file: SharedFile,
    path: PathBuf,
    at: u64,
}

impl FrameWrite {
    /// Writes the frame and makes it durable.
    pub(crate) fn perform(&self, pages: &[u8]) -> Result<(), LogError> {
        write_all(self.file.as_ref(), pages, self.at).context("cannot write journal", &self.path)?;
        self.file.sync_data().context("cannot sync journal", &self.path)
    }
}

#[derive(Debug)]
struct Open {
    file: SharedFile,
    path: PathBuf,
    sequence: u64,
    nonce: u64,
    at: u64,
}

pub(crate) fn path_of(sequence: u64) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{sequence:020}{SUFFIX}"))
}

/// The sequence that a file's name says.
pub(crate) fn sequence_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

fn in_pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_BYTES) * PAGE_BYTES
}

impl Journal {
    /// Begins a new journal; frames are numbered from `next_frame` on.
    pub(crate) fn begin(
        disk: SharedDisk,
        file_bytes: u64,
        files_max: usize,
        next_sequence: u64,
        next_frame: u64,
    ) -> Result<Self, LogError> {
        let current = prepare(&disk, file_bytes, None, next_sequence)?;
        let mut journal = Self {
            disk,
            file_bytes,
            files_max,
            current,
            spare: None,
            older: VecDeque::new(),
            free: Vec::new(),
            next_sequence: next_sequence + 1,
            next_frame,
            bytes_since_checkpoint: 0,
        };
        journal.prepare_spare()?;
        Ok(journal)
    }

    /// Files of an earlier journal, to be used again after the next checkpoint.
    pub(crate) fn adopt(&mut self, sequences: impl IntoIterator<Item = u64>) {
        self.older.extend(sequences);
    }

    /// Number of the last frame that was written.
    pub(crate) fn last_frame(&self) -> u64 {
        self.next_frame - 1
    }

    /// The file recovery must begin with if a checkpoint is taken now.
    pub(crate) fn current_sequence(&self) -> u64 {
        self.current.sequence
    }

    pub(crate) fn bytes_since_checkpoint(&self) -> u64 {
        self.bytes_since_checkpoint
    }

    /// Bytes that went straight to segments. Recovery reads them as well, but a checkpoint finds them synced: it comes after more of them.
    pub(crate) fn count_direct(&mut self, bytes: usize) {
        self.bytes_since_checkpoint += bytes as u64 / DIRECT_PART;
    }

    /// Makes sure that `bytes` of payload, in frames of up to `frame_bytes`, can be written without asking the disk for room. Without a next
    /// file they leave a part of this one to what asks for no room: on a full disk, the upkeep that frees it.
    pub(crate) fn reserve(&mut self, bytes: u64, frame_bytes: u64) -> Result<(), LogError> {
        let frames = bytes / frame_bytes.max(1) + 1;
        let wanted = bytes + frames * PAGE_BYTES + self.file_bytes / UPKEEP_PART;
        if self.current.at + wanted <= self.file_bytes || self.spare.is_some() {
            return Ok(());
        }
        self.prepare_spare()
    }

    fn prepare_spare(&mut self) -> Result<(), LogError> {
        if self.older.len() + 2 > self.files_max {
            return Err(LogError::JournalFull { files: self.older.len() + 1 });
        }
        let free = self.free.pop();
        let spare = prepare(&self.disk, self.file_bytes, free, self.next_sequence)?;
        self.next_sequence += 1;
        self.spare = Some(spare);
        Ok(())
    }

    /// Numbers a frame and gives it its place. It must be written before the next one is; when that fails the journal has failed.
    pub(crate) fn place(&mut self, frame: &mut FrameBuilder, now_ms: i64) -> Result<FrameWrite, LogError> {
        let wanted = in_pages(frame.bytes() as u64);
        if self.current.at + wanted > self.file_bytes {
            self.turn(wanted)?;
        }
        frame.finish(self.current.nonce, self.next_frame, now_ms);
        let current = &mut self.current;
        let write = FrameWrite { file: current.file.clone(), path: current.path.clone(), at: current.at };
        current.at += wanted;
        self.next_frame += 1;
        self.bytes_since_checkpoint += wanted;
        Ok(write)
    }

    /// Goes on to the next file.
    fn turn(&mut self, wanted: u64) -> Result<(), LogError> {
        if PAGE_BYTES + wanted > self.file_bytes {
            let what = format!("a frame of {wanted} bytes does not fit into a file of {}", self.file_bytes);
            return Err(LogError::Corrupt { path: self.current.path.clone(), what });
        }
        if self.spare.is_none() {
            self.prepare_spare()?;
        }
        let Some(next) = self.spare.take() else { return Err(LogError::DiskFull) };
        let before = std::mem::replace(&mut self.current, next);
        self.older.push_back(before.sequence);
        Ok(())
    }

    /// Files before `sequence` are not needed for recovery any more, and of the bytes that were counted since the checkpoint before, this
    /// one has `bytes`.
    pub(crate) fn checkpointed(&mut self, sequence: u64, bytes: u64) {
        self.bytes_since_checkpoint -= bytes.min(self.bytes_since_checkpoint);
        while self.older.front().is_some_and(|oldest| *oldest < sequence) {
            if let Some(oldest) = self.older.pop_front() {
                self.free.push(path_of(oldest));
            }
        }
        // what was needed since the last checkpoint will be again: a file that is written over syncs faster than a new one
        let keep = 2 + usize::try_from(bytes / self.file_bytes.max(1)).unwrap_or(0);
        while self.free.len() > keep {
            if let Some(path) = self.free.pop()
                && let Err(error) = self.disk.remove(&path)
            {
                tracing::warn!(path = %path.display(), %error, "a journal file that is not needed stays");
            }
        }
    }

    /// Oldest file that recovery would read.
    pub(crate) fn oldest_sequence(&self) -> u64 {
        self.older.front().copied().unwrap_or(self.current.sequence)
    }
}

/// Makes a file ready under its live name: room, header, durable name.
fn prepare(
    disk: &SharedDisk,
    file_bytes: u64,
    free: Option<PathBuf>,
    sequence: u64,
) -> Result<Open, LogError> {
    let from = match free.filter(|path| disk.open(path).is_ok()) {
        Some(path) => path,
        None => {
            let path = Path::new(DIRECTORY).join(SPARE);
            disk.create(&path).context("cannot create", &path)?;
            path
        }
    };
    let file = disk.open_for_pages(&from).context("cannot open journal", &from)?;
    file.preallocate(file_bytes).context("cannot reserve room for journal", &from)?;
    let nonce = Uuid::new_v4().as_u64_pair().0;
    let mut payload = Vec::with_capacity(16);
    payload.put_u64(sequence);
    payload.put_u64(nonce);
    let mut page = Vec::with_capacity(PAGE_BYTES as usize);
    envelope::seal_into(&mut page, kind::JOURNAL_HEADER, VERSION, &payload);
    page.resize(PAGE_BYTES as usize, 0);
    write_all(file.as_ref(), &page, 0).context("cannot write journal", &from)?;
    file.sync_data().context("cannot sync journal", &from)?;
    let path = path_of(sequence);
    disk.rename(&from, &path).context("cannot rename journal", &from)?;
    let directory = Path::new(DIRECTORY);
    disk.sync_dir(directory).context("cannot sync directory", directory)?;
    Ok(Open { file, path, sequence, nonce, at: PAGE_BYTES })
}

/// What stands in one journal file.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) frames: Vec<Frame>,
    /// The header is damaged, so nothing is known of the frames.
    pub(crate) damaged: Option<EnvelopeError>,
}

/// Reads every frame of a file's bytes, also those behind one that does not read.
pub(crate) fn scan(bytes: &Bytes, sequence: u64) -> Scanned {
    let nonce = match read_header(bytes, sequence) {
        Ok(nonce) => nonce,
        Err(error) => return Scanned { frames: Vec::new(), damaged: Some(error) },
    };
    let mut frames = Vec::new();
    let mut at = PAGE_BYTES as usize;
    while at < bytes.len() {
        match read_frame(&bytes.slice(at..), nonce) {
            Ok(frame) => {
                at += in_pages(frame.bytes as u64) as usize;
                frames.push(frame);
            }
            Err(_) => at += PAGE_BYTES as usize,
        }
    }
    Scanned { frames, damaged: None }
}

fn read_header(bytes: &Bytes, sequence: u64) -> Result<u64, EnvelopeError> {
    let (_, payload) = envelope::open_as(bytes, kind::JOURNAL_HEADER, VERSION)?;
    let mut from = Decoder::new(payload);
    let (found, nonce) = (from.u64()?, from.u64()?);
    match found == sequence {
        true => Ok(nonce),
        false => Err(EnvelopeError::Payload(format!("header names file {found}"))),
    }
}
