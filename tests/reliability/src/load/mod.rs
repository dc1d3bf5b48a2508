//! The clients of a run. They know a client library and a recorder, not where the node is.

mod auditor;
mod churn;
mod crew;
pub(crate) mod member;
pub(crate) mod mill;
mod plan;
mod positioned;
mod producer;
mod reader;
mod seeker;
mod teller;
mod topics;
mod transaction;

pub(crate) use crew::{Crew, Way};
pub use plan::{Load, Plan, Stress};
pub(crate) use topics::{
    CHURN_NUMBERS, KEPT, LATEST, MADE, PLAIN, SEGMENT_MS, STANDING, Topic, make_topics, number,
};
pub(crate) use transaction::TIMEOUT_MAX;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::{ConsumedRecord, Header, Record};
use sunseo_proto::clock::Clock;

use crate::history::{Fate, Place, Read, Sent, Value};
use crate::payload;
use crate::recorder::Recorder;

/// Header that says which value a tombstone is.
const TOMBSTONE: &str = "value";
/// Keys that one process writes at most.
const KEYS: u64 = 6;

/// What all clients of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub recorder: Recorder,
    /// The right time.
    pub clock: Arc<dyn Clock>,
    values: AtomicU64,
    transactions: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let (values, transactions) = (AtomicU64::new(1), AtomicU64::new(1));
        Self { recorder: Recorder::default(), clock, values, transactions, stop: AtomicBool::new(false) }
    }

    /// Everybody comes to an end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// The number of a transaction that is not begun yet.
    fn transaction(&self) -> u64 {
        self.transactions.fetch_add(1, Ordering::SeqCst)
    }

    /// A record that was never sent before, with the note of it.
    fn record(&self, rng: &mut StdRng, place: Place) -> (Record, Sent) {
        let sent = self.sent(place);
        let padding = match rng.random_range(0..40) {
            0 => rng.random_range(10_000..24_000),
            1..5 => rng.random_range(500..3_000),
            _ => rng.random_range(0..100),
        };
        let key = format!("k{}", sent.value % 17);
        (Record::new(key, payload::encode(sent.value, padding), sent.timestamp_ms), sent)
    }

    /// The same for a compacted topic: one of the keys that this process alone writes, and sometimes a tombstone.
    fn keyed(&self, rng: &mut StdRng, place: Place, process: u32) -> (Record, Sent) {
        let key = u64::from(process) * KEYS + rng.random_range(0..KEYS);
        let tombstone = rng.random_range(0..4) == 0;
        let sent = Sent { key: Some(key), tombstone, ..self.sent(place) };
        let mut record = Record::new(format!("key-{key}"), Bytes::new(), sent.timestamp_ms);
        record.value = (!tombstone).then(|| payload::encode(sent.value, rng.random_range(0..200)));
        if tombstone {
            record.headers.push(Header::new(TOMBSTONE, sent.value.to_be_bytes().to_vec()));
        }
        (record, sent)
    }

    /// What suits the topic.
    fn record_for(&self, rng: &mut StdRng, topic: Topic, partition: i32, process: u32) -> (Record, Sent) {
        let place = Place { topic: topic.number, partition };
        if topic == LATEST { self.keyed(rng, place, process) } else { self.record(rng, place) }
    }

    fn sent(&self, place: Place) -> Sent {
        let value = self.values.fetch_add(1, Ordering::SeqCst);
        let timestamp_ms = self.clock.now_ms();
        Sent { place, value, key: None, tombstone: false, source: None, timestamp_ms, fate: Fate::Unknown }
    }
}

/// A pause between two operations.
async fn pause(rng: &mut StdRng, ms: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(ms))).await;
}

/// The value of a record; 0, which nobody sends, when it is none of ours.
fn value_of(record: &Record) -> Value {
    let found = match &record.value {
        Some(bytes) => payload::decode(bytes),
        None => {
            record.header(TOMBSTONE).and_then(|bytes| Some(u64::from_be_bytes(bytes[..].try_into().ok()?)))
        }
    };
    found.unwrap_or(0)
}

/// What a consumer handed out, for the history.
pub(crate) fn reads(records: &[ConsumedRecord], number: impl Fn(&str) -> u32) -> Vec<Read> {
    let read = |consumed: &ConsumedRecord| Read {
        place: Place { topic: number(&consumed.topic), partition: consumed.partition },
        offset: consumed.record.offset,
        value: value_of(&consumed.record),
    };
    records.iter().map(read).collect()
}
