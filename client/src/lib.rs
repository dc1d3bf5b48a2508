//! The client library: producer, consumer, admin and outbox push, over any [`Transport`].
//!
//! - [`transport`]: the one door to the log; in process or over gRPC, the rest of the crate cannot tell which.
//!
//! Not here: anything that touches a disk, and anything the broker decides.

pub mod transport;

pub use transport::Transport;
