//! A broker in memory with the rules of the real one, and faults drawn from a seed: requests and answers get lost, requests
//! arrive late, appends are refused for now. For tests only, of this crate and (feature `testing`) of crates that use the
//! client; never part of the product.
//!
//! - `transport`: [`MemoryTransport`], the door, and what tests do behind its back. `broker`: topics, reads, registry.
//! - `partition`: what an append does. `groups`: who reads what. `faults`: what goes wrong, and when.
//!
//! Invariants: a late request takes effect once or never; what is refused has no effect.
//!
//! Not here: a disk, more than one node, retention, tiering; the rules of a group's assignment (the test sets it).

mod broker;
mod faults;
mod groups;
mod partition;
mod transport;

pub use broker::{Broker, Topic};
pub use faults::Faults;
pub use groups::Groups;
pub use partition::Partition;
pub use transport::MemoryTransport;
