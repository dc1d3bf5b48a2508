//! Records of a task log. Pure.
//!
//! A task log holds three kinds of records: `Begin`, with which an incarnation of the task starts (its append fences every
//! earlier one in this partition); `Commit`, a whole commit; `Chunk`, a piece of a commit that is larger than the topic's
//! largest batch. Each record is a batch of its own.
//!
//! Invariant: a chunked commit takes effect with its last chunk. Chunks that are followed by anything but the next chunk of
//! the same commit are left over from a crash and mean nothing.
//!
//! Positions in the log are [`position`]: the epoch of the incarnation, then its own count, so that a new incarnation can
//! append without knowing where the former one stopped.

use bytes::{Bytes, BytesMut};
use sunseo_proto::envelope::{kind, open_as, seal};
use sunseo_proto::{Error, ErrorCode};

use super::commit::Commit;
use super::wire::{Fields, put_int};

const VERSION: u8 = 1;

const BEGIN: i64 = 0;
const COMMIT: i64 = 1;
const CHUNK: i64 = 2;

/// Most bytes of one commit, over all its chunks.
pub(crate) const COMMIT_BYTES_MAX: usize = 256 << 20;

/// Bits of a position that count the records of one incarnation.
const SEQUENCE_BITS: u32 = 48;

/// Position of the `sequence`-th record that an incarnation appends to its task log.
pub(crate) fn position(epoch: i32, sequence: i64) -> i64 {
    debug_assert!((0..1 << 15).contains(&epoch) && (0..1 << SEQUENCE_BITS).contains(&sequence));
    i64::from(epoch) << SEQUENCE_BITS | sequence
}

/// A record of a task log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Begin { epoch: i32 },
    Commit { epoch: i32, body: Bytes },
    Chunk(Chunk),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub epoch: i32,
    pub number: i64,
    pub index: i64,
    pub last: bool,
    pub piece: Bytes,
}

impl Entry {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        let body = match self {
            Self::Begin { epoch } => {
                put_int(&mut out, BEGIN);
                put_int(&mut out, i64::from(*epoch));
                &Bytes::new()
            }
            Self::Commit { epoch, body } => {
                out.reserve(body.len() + 4);
                put_int(&mut out, COMMIT);
                put_int(&mut out, i64::from(*epoch));
                body
            }
            Self::Chunk(chunk) => {
                out.reserve(chunk.piece.len() + 24);
                put_int(&mut out, CHUNK);
                put_int(&mut out, i64::from(chunk.epoch));
                put_int(&mut out, chunk.number);
                put_int(&mut out, chunk.index);
                put_int(&mut out, i64::from(chunk.last));
                &chunk.piece
            }
        };
        out.extend_from_slice(body);
        seal(kind::TASK_COMMIT, VERSION, &out)
    }

    /// # Errors
    /// `CORRUPT_LOG` with what does not decode.
    pub(crate) fn decode(value: &Bytes) -> Result<Self, Error> {
        let (_, payload) = open_as(value, kind::TASK_COMMIT, VERSION)
            .map_err(|error| Error::new(ErrorCode::CorruptLog, format!("task log: {error}")))?;
        let mut fields = Fields::new(payload, "task log record");
        let tag = fields.int()?;
        let epoch = fields.int32()?;
        match tag {
            BEGIN => Ok(Self::Begin { epoch }),
            COMMIT => Ok(Self::Commit { epoch, body: fields.rest() }),
            CHUNK => {
                let (number, index, last) = (fields.int()?, fields.int()?, fields.int()? == 1);
                Ok(Self::Chunk(Chunk { epoch, number, index, last, piece: fields.rest() }))
            }
            _ => Err(fields.broken("its type is unknown: use a newer binary")),
        }
    }
}

/// The entries that carry a commit: one, or chunks of at most `piece_bytes`.
///
/// # Errors
/// `BATCH_TOO_LARGE` over [`COMMIT_BYTES_MAX`].
pub(crate) fn entries(epoch: i32, number: i64, body: Bytes, piece_bytes: usize) -> Result<Vec<Entry>, Error> {
    if body.len() > COMMIT_BYTES_MAX {
        let message = format!(
            "a commit has {} bytes, the limit is {COMMIT_BYTES_MAX}: lower engine.batch_records_max, or emit less per record",
            body.len()
        );
        return Err(Error::new(ErrorCode::BatchTooLarge, message));
    }
    if body.len() <= piece_bytes {
        return Ok(vec![Entry::Commit { epoch, body }]);
    }
    let count = body.len().div_ceil(piece_bytes);
    let chunk = |index: usize| {
        let piece = body.slice(index * piece_bytes..body.len().min((index + 1) * piece_bytes));
        Entry::Chunk(Chunk { epoch, number, index: index as i64, last: index + 1 == count, piece })
    };
    Ok((0..count).map(chunk).collect())
}

/// A commit as it was found in the log.
#[derive(Debug)]
pub(crate) struct Found {
    pub commit: Commit,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset after its last record.
    pub next_offset: i64,
}

/// Puts the records of a task log together to commits.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    epoch: i32,
    number: i64,
    next_index: i64,
    first_offset: i64,
    body: BytesMut,
}

impl Assembler {
    /// Takes the record at `offset`; a commit when it is complete with it.
    ///
    /// # Errors
    /// `CORRUPT_LOG` when the record or the commit does not decode, or chunks do not fit together.
    pub(crate) fn take(&mut self, offset: i64, entry: Entry) -> Result<Option<Found>, Error> {
        match entry {
            Entry::Begin { .. } => {
                self.open = None;
                Ok(None)
            }
            Entry::Commit { body, .. } => {
                self.open = None;
                found(body, offset, offset)
            }
            Entry::Chunk(chunk) => self.chunk(offset, chunk),
        }
    }

    fn chunk(&mut self, offset: i64, chunk: Chunk) -> Result<Option<Found>, Error> {
        if chunk.index == 0 {
            let Chunk { epoch, number, .. } = chunk;
            let body = BytesMut::new();
            self.open = Some(Open { epoch, number, next_index: 0, first_offset: offset, body });
        }
        let expected = (chunk.epoch, chunk.number, chunk.index);
        let fits = |open: &Open| (open.epoch, open.number, open.next_index) == expected;
        let Some(mut open) = self.open.take().filter(fits) else {
            let message = format!(
                "task log: the record at offset {offset} is chunk {} of commit {}, which does not follow what is before it",
                chunk.index, chunk.number
            );
            return Err(Error::new(ErrorCode::CorruptLog, message));
        };
        if open.body.len() + chunk.piece.len() > COMMIT_BYTES_MAX {
            let message = format!("task log: commit {} is over {COMMIT_BYTES_MAX} bytes", chunk.number);
            return Err(Error::new(ErrorCode::CorruptLog, message));
        }
        open.body.extend_from_slice(&chunk.piece);
        open.next_index += 1;
        if chunk.last {
            return found(open.body.freeze(), open.first_offset, offset);
        }
        self.open = Some(open);
        Ok(None)
    }
}

fn found(body: Bytes, first_offset: i64, last_offset: i64) -> Result<Option<Found>, Error> {
    let commit = Commit::decode(body)?;
    Ok(Some(Found { commit, first_offset, next_offset: last_offset + 1 }))
}
