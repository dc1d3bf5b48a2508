//! What a store answers when it cannot do what it was asked.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sunseo_proto::envelope::EnvelopeError;
use sunseo_proto::{Error, ErrorCode, PartitionId};

/// Refusals of everything but [`crate::Store::append`]. Becomes a [`sunseo_proto::Error`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    #[error("data directory {0} is in use by another process: stop it first")]
    Locked(PathBuf),
    #[error("{doing} {path}: {error}")]
    Io { doing: &'static str, path: PathBuf, error: Arc<io::Error> },
    #[error("{path}: {error}; restore it from a copy, or remove the data directory to start empty")]
    Damaged { path: PathBuf, error: EnvelopeError },
    #[error("{path}: {what}")]
    Corrupt { path: PathBuf, what: String },
    #[error("partition {0} does not exist on this disk")]
    UnknownPartition(PartitionId),
    #[error("partition {0} exists already")]
    Exists(PartitionId),
    /// Below the log start or above the end.
    #[error("offset {offset} is outside of partition {id}, which has {start} to {end}")]
    OutOfRange { id: PartitionId, offset: i64, start: i64, end: i64 },
    /// In the log, but no longer on this disk: the object store has it.
    #[error("offset {offset} of partition {id} is not on the local disk, which begins at {local_start}")]
    NotLocal { id: PartitionId, offset: i64, local_start: i64 },
    #[error(
        "partition {id} accepts no more changes since {reason}; what is durable can be read; mend the disk and restart"
    )]
    Failed { id: PartitionId, reason: Arc<str> },
    #[error("the disk has no room for that: free some, or shorten retention")]
    DiskFull,
    #[error("segment {base} of partition {id} cannot be put back: {what}")]
    Restore { id: PartitionId, base: i64, what: &'static str },
    #[error("journal holds {files} files because a failed partition needs them: mend the disk and restart")]
    JournalFull { files: usize },
}

impl LogError {
    /// The stable code of the refusal.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Locked(_) => ErrorCode::Unavailable,
            Self::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull => ErrorCode::DiskFull,
            Self::Io { .. } | Self::Failed { .. } | Self::JournalFull { .. } => ErrorCode::PartitionFailed,
            Self::Damaged { .. } | Self::Corrupt { .. } => ErrorCode::CorruptLog,
            Self::UnknownPartition(_) => ErrorCode::UnknownPartition,
            Self::Exists(_) => ErrorCode::AlreadyExists,
            Self::OutOfRange { .. } | Self::NotLocal { .. } => ErrorCode::OffsetOutOfRange,
            Self::DiskFull => ErrorCode::DiskFull,
            Self::Restore { .. } => ErrorCode::InvalidArgument,
        }
    }
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
