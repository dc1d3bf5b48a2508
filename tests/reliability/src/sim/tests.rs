//! A few seeds for every change; `make reliability` runs many more.

use std::time::{Duration, Instant};

use super::run;
use crate::Plan;

/// Seeds that always run, and the time after which no further one begins.
const SEEDS: u64 = 12;
const TIME: Duration = Duration::from_secs(20);

#[test]
fn whatever_happens_to_the_node_clients_see_nothing_wrong() {
    let begin = Instant::now();
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let report = run(seed, Plan::of(seed));
        assert_eq!(report.anomalies, [], "seed {seed}");
        let acked = report.counts()["records acknowledged"];
        assert!(acked > 100, "seed {seed}: {acked} records are no load");
        if begin.elapsed() > TIME {
            return;
        }
    }
}
