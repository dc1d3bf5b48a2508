//! The client's broker in memory as this crate's tests use it.

use std::time::Duration;

use sunseo_client::testing::{Faults, MemoryTransport};

/// What goes wrong in the scenarios of crashes.
pub(crate) fn faults() -> Faults {
    Faults::each(5)
}

/// A broker that answers as fast as a real one, for tests in real time; without faults.
pub(crate) fn broker(seed: u64, topics: &[(&str, i32)]) -> MemoryTransport {
    let transport = MemoryTransport::new(seed, Faults::default()).with_topics(topics);
    transport.broker().append_time = Duration::from_millis(2);
    transport.broker().max_batch_bytes = 8 << 20;
    transport
}
