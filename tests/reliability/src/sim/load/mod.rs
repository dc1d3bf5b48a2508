//! The clients of a run.

pub(super) mod churn;
pub(super) mod member;
pub(super) mod positioned;
pub(super) mod producer;
pub(super) mod reader;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::{ConsumedRecord, Record};

use super::clock::SkewedClock;
use super::payload;
use super::recorder::Recorder;
use crate::history::{Fate, Place, Read, Sent};

/// A topic of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Topic {
    pub name: &'static str,
    pub number: u32,
    pub partitions: i32,
}

/// Keeps everything.
pub(super) const PLAIN: Topic = Topic { name: "plain", number: 0, partitions: 3 };
/// Keeps records for some time.
pub(super) const KEPT: Topic = Topic { name: "kept", number: 1, partitions: 2 };
/// Numbers of topics that are made and deleted begin here.
pub(super) const CHURN_NUMBERS: u32 = 100;

/// What all clients of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub recorder: Recorder,
    pub clock: Arc<SkewedClock>,
    values: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    pub(super) fn new(clock: Arc<SkewedClock>) -> Self {
        Self { recorder: Recorder::default(), clock, values: AtomicU64::new(1), stop: AtomicBool::new(false) }
    }

    /// Everybody comes to an end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// A record that was never sent before, with the note of it.
    pub(super) fn record(&self, rng: &mut StdRng, place: Place) -> (Record, Sent) {
        let value = self.values.fetch_add(1, Ordering::SeqCst);
        let padding = match rng.random_range(0..40) {
            0 => rng.random_range(10_000..24_000),
            1..5 => rng.random_range(500..3_000),
            _ => rng.random_range(0..100),
        };
        let timestamp_ms = self.clock.true_ms();
        let record = Record::new(format!("k{}", value % 17), payload::encode(value, padding), timestamp_ms);
        let sent = Sent { place, value, key: None, tombstone: false, timestamp_ms, fate: Fate::Unknown };
        (record, sent)
    }
}

/// A pause between two operations.
pub(super) async fn pause(rng: &mut StdRng, ms: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(ms))).await;
}

/// What a consumer handed out, for the history. A value that is none of ours becomes 0, which nobody sends.
pub(super) fn reads(records: &[ConsumedRecord], number: impl Fn(&str) -> u32) -> Vec<Read> {
    let read = |consumed: &ConsumedRecord| Read {
        place: Place { topic: number(&consumed.topic), partition: consumed.partition },
        offset: consumed.record.offset,
        value: consumed.record.value.as_ref().map(|bytes| payload::decode(bytes).unwrap_or(0)),
    };
    records.iter().map(read).collect()
}

/// The number of a topic that is there for the whole run.
pub(super) fn number(name: &str) -> u32 {
    [PLAIN, KEPT].iter().find(|topic| topic.name == name).map_or(u32::MAX, |topic| topic.number)
}
