//! gRPC's length-prefixed messages for the two streams that carry record batches, without a copy of them.
//!
//! tonic's codec writes a message into one buffer and reads one out of one buffer, so every batch is copied once on each side beside what
//! the kernel copies. Here a message is sent as [`Pieces`]: a large batch goes out from where it lies, in a frame of its own, and what comes
//! in one frame is not copied again. What comes in several (it was larger than a frame may be, or the other side's window was nearly used
//! up) is put together once. What is on the wire is the same, so that any gRPC client or server may be at the other end.
//!
//! - [`Outgoing`]: messages to the body of a request or an answer.
//! - [`Incoming`]: such a body to messages.
//!
//! Not here: calls of one message, compression of messages (batches have their own), who may call.

#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod gather;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

pub use gather::{Gather, Pieces};
pub use incoming::Incoming;
pub use outgoing::Outgoing;

/// The call that appends.
pub const PRODUCE: &str = "/sunseo.v1.Broker/Produce";
/// The call that reads.
pub const FETCH: &str = "/sunseo.v1.Broker/Fetch";

/// Bytes before each message: whether it is compressed, and its length.
pub const PREFIX_BYTES: usize = 5;

/// Which side of a call a body belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    /// It ends with a status.
    Answer,
}
