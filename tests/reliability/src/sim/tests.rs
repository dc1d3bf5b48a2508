//! A few seeds for every change; `make reliability` runs many more.

use std::time::{Duration, Instant};

use super::{Plan, payload, run};

/// Seeds that always run, and the time after which no further one begins.
const SEEDS: u64 = 12;
const TIME: Duration = Duration::from_secs(20);

#[test]
fn whatever_happens_to_the_node_clients_see_nothing_wrong() {
    let begin = Instant::now();
    for seed in 0..SEEDS {
        let report = run(seed, Plan::of(seed));
        assert_eq!(report.anomalies, [], "seed {seed}");
        let acked = report.counts()["records acknowledged"];
        assert!(acked > 100, "seed {seed}: {acked} records are no load");
        if begin.elapsed() > TIME {
            return;
        }
    }
}

#[test]
fn a_changed_byte_of_a_payload_is_seen() {
    let bytes = payload::encode(77, 100);
    assert_eq!(payload::decode(&bytes), Some(77));
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        assert_ne!(payload::decode(&changed), Some(77), "byte {at}");
    }
}
