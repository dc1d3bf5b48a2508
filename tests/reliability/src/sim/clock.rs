//! The node's clock: the run's own time, and how far the node's is off.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sunseo_proto::clock::Clock;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// When every run begins.
pub const BEGIN_MS: i64 = 1_750_000_000_000;

/// Shows the run's time plus a difference that can be changed, forwards and backwards.
#[derive(Debug)]
pub struct SkewedClock {
    runtime: Handle,
    begin: Instant,
    skew_ms: AtomicI64,
    latest_ms: AtomicI64,
}

impl SkewedClock {
    /// Must be made inside the run's runtime.
    #[must_use]
    pub fn new() -> Self {
        let (runtime, begin) = (Handle::current(), Instant::now());
        Self { runtime, begin, skew_ms: AtomicI64::new(0), latest_ms: AtomicI64::new(BEGIN_MS) }
    }

    /// The right time.
    #[must_use]
    pub fn true_ms(&self) -> i64 {
        // the log's thread is no thread of the runtime, whose time this is
        let _inside = self.runtime.enter();
        BEGIN_MS + i64::try_from(self.begin.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Puts the node's clock forward, or back.
    pub fn jump(&self, ms: i64) {
        self.skew_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// How far the node's clock is off.
    #[must_use]
    pub fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }

    /// The latest time it ever showed.
    #[must_use]
    pub fn latest_ms(&self) -> i64 {
        self.latest_ms.load(Ordering::Relaxed)
    }
}

impl Default for SkewedClock {
    fn default() -> Self {
        Self::new()
    }
}

/// The right time, for those who are not the node.
#[derive(Debug)]
pub struct TrueTime(pub Arc<SkewedClock>);

impl Clock for TrueTime {
    fn now_ms(&self) -> i64 {
        self.0.true_ms()
    }
}

impl Clock for SkewedClock {
    fn now_ms(&self) -> i64 {
        let now_ms = self.true_ms() + self.skew_ms();
        self.latest_ms.fetch_max(now_ms, Ordering::Relaxed);
        now_ms
    }
}
