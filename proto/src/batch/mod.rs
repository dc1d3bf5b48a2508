//! The record batch: Kafka's v2 layout, byte for byte (Apache Kafka documentation, "Record Batch").
//!
//! ```text
//!  0 base offset        i64     23 last offset delta i32     51 producer epoch i16
//!  8 batch length       i32     27 base timestamp    i64     53 base sequence  i32
//! 12 leader epoch       i32     35 max timestamp     i64     57 record count   i32
//! 16 magic = 2          i8      43 producer id       i64     61 records, compressed as one block
//! 17 CRC-32C            u32
//! 21 attributes         i16     the checksum covers everything from 21 on
//! ```
//!
//! Invariants: base offset and leader epoch lie outside the checksum, so the broker stamps them and copies the rest as
//! it came; a decoder never panics and never allocates more than [`MAX_RECORDS_BYTES`], whatever the bytes are.
//! Not here: what an attribute means to a partition (the log's business).

mod build;
mod compress;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod header;
mod inspect;
mod marker;
mod read;
mod rebuild;

pub use build::BatchBuilder;
pub use compress::Compression;
pub use header::{BatchHeader, HEADER_BYTES, stamp};
pub use inspect::{Inspection, inspect};
pub use marker::{Ending, end_marker};
pub use read::{Records, batches, iterate, position_of, records, validate};
pub use rebuild::{gap, rebuild};

/// Largest uncompressed size of one batch's records that a decoder accepts: 64 MiB.
pub const MAX_RECORDS_BYTES: usize = 64 << 20;

/// Producer id of a batch without one.
pub const NO_PRODUCER: i64 = -1;

/// Why bytes are not a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("record batch is cut off: {have} bytes of {need}")]
    Torn { have: usize, need: usize },
    #[error("record batch has magic {found}, only 2 is supported")]
    Magic { found: i8 },
    #[error(
        "record batch has checksum {stored:#010x} but its bytes give {computed:#010x}: it was damaged on the way"
    )]
    Checksum { stored: u32, computed: u32 },
    #[error("record batch is followed by {extra} bytes: send one batch per partition")]
    Trailing { extra: usize },
    #[error("record batch header is inconsistent: {0}")]
    Header(&'static str),
    #[error("record {index} of the batch does not decode: {what}")]
    Record { index: usize, what: &'static str },
    #[error("{codec} block of the batch does not decompress: {what}")]
    Decompress { codec: &'static str, what: String },
    #[error("records of the batch are larger than {limit} bytes uncompressed: send smaller batches")]
    TooLarge { limit: usize },
    #[error("compression codec {0} is unknown: use none, gzip, snappy, lz4 or zstd")]
    Codec(i16),
    #[error("batch says it carries a position but its first record has no valid sunseo.position header")]
    Position,
}

impl From<BatchError> for crate::Error {
    fn from(error: BatchError) -> Self {
        let code = match error {
            BatchError::TooLarge { .. } => crate::ErrorCode::BatchTooLarge,
            _ => crate::ErrorCode::CorruptBatch,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests;
