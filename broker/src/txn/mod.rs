//! Transactions over several partitions and the offsets of consumer groups (KIP-98, KIP-447, KIP-890 part 2).
//!
//! - [`state`]: one transactional id as a state machine; [`book`]: all of a shard. Pure: requests and facts in, answers and records out.
//! - [`record`], [`crate::folded`]: the fold over `__transactions`. [`shard`]: the task that owns one partition of it and the ids in it.
//! - [`registry`]: which batches a partition may take, as the log's thread and the groups ask it; [`outcome`]: markers and pending
//!   offsets; [`coordinator`]: the requests.
//!
//! A transaction begins with its first batch or offsets: the partition (or group) is stored as part of it before anything is appended
//! there. Its end is stored first ("prepare"); then every partition gets a marker and every group is told; then it is complete.
//!
//! Invariants:
//! - No transactional batch is in a partition that the coordinator does not know as part of an open transaction of that very epoch: the
//!   log's thread asks the registry at the moment of the append, and the registry forgets a transaction before its end is stored. So no
//!   transaction hangs.
//! - Every transaction has its own producer epoch; markers carry the next one. A request about an earlier transaction can therefore
//!   never touch a later one.
//! - A new instance gets its epoch only when the transaction of the former one has ended everywhere.
//! - What is prepared is finished, also after a restart. A partition that is gone is finished. One that failed is owed its marker until the
//!   next start, and takes no other transaction of that producer before.

pub(crate) mod book;
pub(crate) mod coordinator;
pub(crate) mod outcome;
pub(crate) mod record;
pub(crate) mod registry;
pub(crate) mod shard;
pub(crate) mod state;

pub(crate) use coordinator::Transactions;
pub(crate) use registry::Registry;
pub(crate) use state::Identity;

#[cfg(test)]
mod tests;
