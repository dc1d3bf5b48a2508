//! The replication core of one partition: facts in, effects out.
//!
//! [`Replica::step`] takes one [`Event`] and the time and returns what the owner of the partition must do, in order. The core decides who
//! may append, how far the high watermark reaches, which appends are acknowledged, and which in-sync set to propose. It
//! never sees a record, a disk, a network or a clock.
//!
//! Invariants:
//! - The high watermark is the minimum of the *durable* ends over the maximal in-sync set: the committed one and whoever is
//!   proposed to join it. It never goes back.
//! - It advances, and appends are acknowledged, only while the committed in-sync set has at least `min_in_sync` members.
//! - An append is acknowledged only when the high watermark passed it in the epoch in which it was made.
//! - A new leader's watermark is served only once it reached the first offset of its epoch.
//!
//! Not here yet: truncation by epoch divergence and the follower's side. A single node leads everything and its in-sync set
//! is itself.

mod event;
mod leader;
mod replica;

pub use event::{Effect, Event, FollowerReport, Leadership, Refusal, Token};
pub use replica::Replica;

/// Number of a node in its cluster.
pub type NodeId = i32;

/// A follower that was not level with the leader for this long leaves the in-sync set.
pub const LAG_MAX_MS: i64 = 10_000;
