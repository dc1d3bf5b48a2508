//! All partitions of one data directory on one disk.
//!
//! - [`Store`]: the only writer. Synchronous, owned by one OS thread: append, group commit, retention, checkpoints. Two threads of its own
//!   wait for the disk: one writes journal frames while the log's thread fills segments, one syncs segments for the checkpoint.
//! - [`Reader`]: shared handles of one partition; they see what is durable and share no lock with the writer for long.
//! - [`Disk`]: the port to the file system. [`RealDisk`] is the machine's, [`faulty::FaultyDisk`] lives in memory and can lose power.
//! - [`sealed`]: small files written whole, for the directory's own properties. [`inspect`]: reads a directory offline.
//!
//! Invariants: what [`Store::sync`] reported durable is found again after a power cut at any point, in the same place; readers see
//! nothing else. Below the durable frontier nothing is truncated: bad bytes there quarantine the partition. A failed fsync is never
//! tried again. Records are never re-encoded: base offset and leader epoch are stamped, the rest is copied.
//!
//! Not here: who may append (leader epochs are stamped, not checked), the high watermark, the object store.

mod background;
mod checkpoint;
pub mod clean;
mod codec;
mod commit;
mod config;
mod direct;
pub mod disk;
mod entry;
mod epochs;
mod error;
pub mod faulty;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz;
mod index;
pub mod inspect;
mod journal;
mod lookup;
mod maintain;
mod open;
mod outcome;
mod pages;
mod partition;
mod pool;
mod producers;
mod reader;
mod real;
mod recover;
mod retention;
mod runs;
pub mod sealed;
mod segment;
mod segments;
mod settle;
mod state;
mod store;
mod together;
mod transactions;
mod view;
mod walk;
mod writer;

pub use config::{Background, Compaction, PartitionConfig, StoreConfig};
pub use disk::{Disk, DiskFile, SharedDisk, SharedFile};
pub use error::LogError;
pub use outcome::{
    Append, Outcome, PartitionFacts, Recovered, Refusal, RestoredSegment, SealedFacts, SyncFailure,
    SyncOutcome,
};
pub use reader::{Reader, TimedOffset};
pub use real::RealDisk;
pub use store::Store;
pub use transactions::AbortedRange;

#[cfg(test)]
mod tests;
