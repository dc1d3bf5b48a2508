//! The closed list of refusals. A code says what the caller can do about it; the message names what, the value or
//! limit, and the remedy. On the wire an error is a `google.rpc.Status` with an `ErrorInfo` (reason = code, metadata
//! `retryable` and `field`), or a [`v1::Error`] inside a response that carries several results.

use std::collections::HashMap;
use std::fmt;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::v1;

/// `ErrorInfo.domain` of every error made here.
pub const ERROR_DOMAIN: &str = "sunseo";

/// The code and whether it is retryable once more, as trailing metadata: for clients that do not read `google.rpc.Status`.
pub const CODE_HEADER: &str = "sunseo-error-code";
/// `true` or `false`.
pub const RETRYABLE_HEADER: &str = "sunseo-error-retryable";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $grpc:ident, $retryable:literal;)*) => {
        /// Stable codes: names are never changed or reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// The stable text of the code.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The code of a text, `None` for one this version does not know.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }

            /// Whether the same request may succeed later without a change.
            #[must_use]
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }

            /// The gRPC code that carries it.
            #[must_use]
            pub fn grpc(self) -> Code {
                match self { $(Self::$name => Code::$grpc,)* }
            }

            /// Every code, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

codes! {
    /// A field's value is not acceptable.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument, false;
    /// The batch or record cannot be decoded.
    CorruptBatch = "CORRUPT_BATCH", InvalidArgument, false;
    /// The batch is larger than the topic or the node allows.
    BatchTooLarge = "BATCH_TOO_LARGE", InvalidArgument, false;
    UnknownTopic = "UNKNOWN_TOPIC", NotFound, false;
    UnknownPartition = "UNKNOWN_PARTITION", NotFound, false;
    UnknownGroup = "UNKNOWN_GROUP", NotFound, false;
    UnknownPipeline = "UNKNOWN_PIPELINE", NotFound, false;
    UnknownStore = "UNKNOWN_STORE", NotFound, false;
    UnknownSource = "UNKNOWN_SOURCE", NotFound, false;
    AlreadyExists = "ALREADY_EXISTS", AlreadyExists, false;
    /// The offset is below the log start or above the high watermark.
    OffsetOutOfRange = "OFFSET_OUT_OF_RANGE", OutOfRange, false;
    /// The partition is not led here, or not with this epoch.
    NotLeader = "NOT_LEADER", FailedPrecondition, true;
    FencedLeaderEpoch = "FENCED_LEADER_EPOCH", FailedPrecondition, true;
    /// A newer epoch of this producer, task or source exists.
    ProducerFenced = "PRODUCER_FENCED", FailedPrecondition, false;
    /// The batch's sequence does not follow the last one.
    SequenceGap = "SEQUENCE_GAP", FailedPrecondition, false;
    /// The same sequence or position came before with other content.
    SequenceConflict = "SEQUENCE_CONFLICT", FailedPrecondition, false;
    /// A positioned batch overlaps what the partition holds; `accepted_through` says how far.
    PartialDuplicate = "PARTIAL_DUPLICATE", FailedPrecondition, false;
    /// The member's epoch is not the current one: rejoin.
    FencedMember = "FENCED_MEMBER", FailedPrecondition, false;
    UnknownMember = "UNKNOWN_MEMBER", FailedPrecondition, false;
    /// An administrator's change to a group that has live members.
    GroupNotEmpty = "GROUP_NOT_EMPTY", FailedPrecondition, false;
    /// The topic of this name is not the one the request was made for: that was deleted, and another one made.
    TopicReplaced = "TOPIC_REPLACED", FailedPrecondition, false;
    /// A conditional change met another version.
    VersionMismatch = "VERSION_MISMATCH", FailedPrecondition, false;
    /// The disk has no room; nothing was appended.
    DiskFull = "DISK_FULL", ResourceExhausted, true;
    /// A bound on bytes or requests in flight was reached.
    Overloaded = "OVERLOADED", ResourceExhausted, true;
    /// The partition stopped after an IO error; its data up to the durable end can still be read.
    PartitionFailed = "PARTITION_FAILED", Unavailable, false;
    /// A checksum below the durable end does not match.
    CorruptLog = "CORRUPT_LOG", DataLoss, false;
    /// The object store does not answer or refuses.
    ObjectStore = "OBJECT_STORE", Unavailable, true;
    /// The database of a source is not the one that was read before.
    SourceDiverged = "SOURCE_DIVERGED", FailedPrecondition, false;
    /// The source cannot be read correctly as it is configured.
    SourceUnreadable = "SOURCE_UNREADABLE", FailedPrecondition, false;
    /// The server is starting, restoring or stopping.
    Unavailable = "UNAVAILABLE", Unavailable, true;
    /// No answer in time: the outcome is unknown.
    TimedOut = "TIMED_OUT", DeadlineExceeded, true;
    Unauthorized = "UNAUTHORIZED", PermissionDenied, false;
    Unsupported = "UNSUPPORTED", Unimplemented, false;
    /// The producer's transaction does not allow that now: none is open, or it ended another way.
    TransactionState = "TRANSACTION_STATE", FailedPrecondition, false;
    /// The transaction was aborted from outside, by its time-out or an operator: abort it and begin the next one.
    TransactionAborted = "TRANSACTION_ABORTED", FailedPrecondition, false;
    /// The former transaction of this producer is still being ended.
    ConcurrentTransactions = "CONCURRENT_TRANSACTIONS", Unavailable, true;
    UnknownTransactionalId = "UNKNOWN_TRANSACTIONAL_ID", NotFound, false;
    /// A transaction that has not ended may still move these offsets.
    UnstableOffsets = "UNSTABLE_OFFSETS", Unavailable, true;
    /// A defect of the server.
    Internal = "INTERNAL", Internal, false;
    /// Another process has taken the place of this static member: two run under one instance id.
    FencedInstance = "FENCED_INSTANCE", FailedPrecondition, false;
    /// A topic that keeps the newest record of each key was sent a record without one.
    KeyRequired = "KEY_REQUIRED", InvalidArgument, false;
    /// The partition remembers as many positioned producers as it may, all of them alive.
    TooManyProducers = "TOO_MANY_PRODUCERS", ResourceExhausted, false;
    /// The partition has let go of this positioned producer's position and cannot tell its repeats from news.
    ProducerRetired = "PRODUCER_RETIRED", FailedPrecondition, false;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub code: ErrorCode,
    pub message: String,
    /// The request field at fault, if one is.
    pub field: Option<String>,
}

/// A result whose error is a refusal with a code.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// `message` names what, the value or limit, and the remedy.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None }
    }

    /// The same error with the request field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Shorthand for [`ErrorCode::InvalidArgument`] at a field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message).at(field)
    }

    /// Shorthand for [`ErrorCode::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Whether the same request may succeed later without a change.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.code.retryable()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)?;
        match &self.field {
            Some(field) => write!(f, " at {field}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for v1::Error {
    fn from(error: Error) -> Self {
        Self {
            code: error.code.as_str().to_owned(),
            retryable: error.retryable(),
            message: error.message,
            field: error.field.unwrap_or_default(),
        }
    }
}

impl From<v1::Error> for Error {
    fn from(error: v1::Error) -> Self {
        let code = ErrorCode::parse(&error.code).unwrap_or(if error.retryable {
            ErrorCode::Unavailable
        } else {
            ErrorCode::Internal
        });
        Self { code, message: error.message, field: Some(error.field).filter(|f| !f.is_empty()) }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut metadata = HashMap::from([("retryable".to_owned(), error.retryable().to_string())]);
        if let Some(field) = &error.field {
            metadata.insert("field".to_owned(), field.clone());
        }
        let details = ErrorDetails::with_error_info(error.code.as_str(), ERROR_DOMAIN, metadata);
        let mut status = Status::with_error_details(error.code.grpc(), error.message, details);
        let metadata = status.metadata_mut();
        metadata.insert(CODE_HEADER, MetadataValue::from_static(error.code.as_str()));
        let retryable = if error.code.retryable() { "true" } else { "false" };
        metadata.insert(RETRYABLE_HEADER, MetadataValue::from_static(retryable));
        status
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let Some(info) = info else {
            return Self::new(code_of_foreign_status(status.code()), status.message());
        };
        let code = ErrorCode::parse(&info.reason).unwrap_or(ErrorCode::Internal);
        Self { code, message: status.message().to_owned(), field: info.metadata.get("field").cloned() }
    }
}

/// Statuses that tonic or a proxy made, without our details.
fn code_of_foreign_status(code: Code) -> ErrorCode {
    match code {
        Code::Unavailable | Code::Aborted | Code::Unknown => ErrorCode::Unavailable,
        Code::DeadlineExceeded | Code::Cancelled => ErrorCode::TimedOut,
        Code::InvalidArgument | Code::OutOfRange => ErrorCode::InvalidArgument,
        Code::ResourceExhausted => ErrorCode::Overloaded,
        Code::PermissionDenied | Code::Unauthenticated => ErrorCode::Unauthorized,
        Code::Unimplemented | Code::NotFound => ErrorCode::Unsupported,
        _ => ErrorCode::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire_in_both_forms() {
        for &code in ErrorCode::ALL {
            let error = Error::new(code, "what, the limit, the remedy").at("partitions[0].batch");
            assert_eq!(Error::from(v1::Error::from(error.clone())), error);
            assert_eq!(Error::from(Status::from(error.clone())), error);
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
        }
    }

    #[test]
    fn a_status_made_elsewhere_becomes_the_nearest_code() {
        assert_eq!(Error::from(Status::unavailable("connection refused")).code, ErrorCode::Unavailable);
        assert_eq!(Error::from(Status::resource_exhausted("quota")).code, ErrorCode::Overloaded);
    }
}
