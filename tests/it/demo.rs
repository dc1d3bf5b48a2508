//! The delivery day, small: in one process, and with a node that is killed.

use serde_json::Value;

use crate::harness::{Ran, command, run};

const DAY: [&str; 6] = ["demo", "--json", "--deliveries", "300", "--riders", "50"];

/// The Parquet files are read by Python, which a machine without preparation lacks.
fn python_is_there() -> bool {
    let python = std::env::var("SUNSEO_PYTHON").unwrap_or_default();
    let there = std::path::Path::new(&python).exists();
    let message = "SUNSEO_PYTHON names no Python: scripts/prepare.sh installs one with DuckDB";
    assert!(there || std::env::var("CI").as_deref() != Ok("true"), "{message}");
    if !there {
        eprintln!("skipped: {message}");
    }
    there
}

#[track_caller]
fn all_equal(ran: Ran) -> Value {
    let report = ran.json();
    let different: Vec<&Value> =
        report["checks"].as_array().unwrap().iter().filter(|check| check["ok"] != true).collect();
    assert!(different.is_empty(), "{different:#?}\n{}", ran.stderr);
    assert_eq!(report["ok"], true);
    ran.ok();
    report
}

#[test]
fn the_day_ends_as_the_simulator_says() {
    if !python_is_there() {
        return;
    }
    let report = all_equal(run(&mut command(&[&DAY[..], &["--seed", "3"]].concat()), b""));
    assert_eq!(report["seed"], 3);
    assert!(report["checks"].as_array().unwrap().len() >= 8, "{report}");
    assert!(report["figures"]["latency_p99_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{report}");
}

#[test]
fn the_day_ends_the_same_when_the_node_is_killed() {
    if !python_is_there() {
        return;
    }
    all_equal(run(&mut command(&[&DAY[..], &["--seed", "4", "--chaos", "kills=3"]].concat()), b""));
}
