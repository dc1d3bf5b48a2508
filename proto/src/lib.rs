//! Bytes and values: everything Sunseo puts on the wire or on a disk is defined here and nowhere else.
//!
//! - [`v1`]: the gRPC messages and services, generated from `sunseo/v1/*.proto`.
//! - [`batch`]: the record batch, Kafka's v2 layout, and [`record`], one record as a value.
//! - [`codec`]: how messages become bytes of a gRPC stream; [`stream_codec`]: the same without a copy for the two streams of batches.
//! - [`envelope`]: version and checksum around every small structure that is stored.
//! - [`partitioner`]: key to partition, as Java's clients compute it.
//! - [`error`]: the closed list of error codes and their mapping to gRPC.
//!
//! Nothing here does IO, reads a clock or draws a random number ([`clock`] only names the port).

pub mod batch;
pub mod clock;
pub mod codec;
pub mod envelope;
pub mod error;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz;
pub mod ids;
pub mod partitioner;
pub mod position;
pub mod record;
pub mod stream_codec;
pub mod varint;

pub use error::{Error, ErrorCode};
pub use ids::{PartitionId, TopicId};
pub use record::{Header, Record};

/// Generated from `sunseo/v1/*.proto`.
#[allow(missing_debug_implementations, clippy::all)]
pub mod v1 {
    tonic::include_proto!("sunseo.v1");
}

/// The encoded `FileDescriptorSet` of [`v1`], for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Version of the product, shown by `--version` and in the metadata.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
