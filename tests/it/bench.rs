//! The measurements run, and say how they were made.

use serde_json::Value;

use crate::harness::{Node, command, run};

fn figures(report: &Value, positive: &[&str]) {
    for name in positive {
        assert!(report["figures"][name].as_f64().is_some_and(|value| value > 0.0), "{name}: {report}");
    }
    assert_eq!(report["durability"], "fsync");
}

#[test]
fn a_node_of_its_own_is_measured() {
    let arguments = ["bench", "produce", "--duration", "1", "--warm-up", "0", "--partitions", "4", "--json"];
    let report = run(&mut command(&arguments), b"").ok().json();
    figures(
        &report,
        &["throughput_records_per_s", "throughput_mb_per_s", "acknowledged_p99_ms", "node_rss_mb"],
    );
}

#[test]
fn a_server_is_measured_and_left_as_it_was() {
    let node = Node::start();
    let arguments = [
        "bench",
        "e2e",
        "--duration",
        "1",
        "--warm-up",
        "0",
        "--partitions",
        "4",
        "--rate",
        "2000",
        "--json",
    ];
    let report = node.run(&arguments).ok().json();
    figures(&report, &["latency_p50_ms", "latency_p99_ms", "throughput_records_per_s"]);
    assert_eq!(report["figures"]["records"], 2_000.0, "every record was received");
    let consume =
        ["bench", "consume", "--megabytes", "5", "--partitions", "4", "--duration", "1", "--warm-up", "0"];
    let report = node.run(&[&consume[..], &["--json"]].concat()).ok().json();
    figures(&report, &["throughput_records_per_s"]);
    let report = node.run(&[&consume[..], &["--once", "--json"]].concat()).ok().json();
    assert_eq!(
        report["figures"]["records"], 46_300.0,
        "a quarter of 5 MB by each producer, to the last record: {report}"
    );
    assert_eq!(node.run(&["topic", "list", "--json"]).ok().json(), serde_json::json!([]));
}

#[test]
fn a_named_topic_stays_and_is_ready() {
    let node = Node::start();
    let produce =
        ["bench", "produce", "--topic", "load", "--megabytes", "1", "--partitions", "4", "--record-bytes"];
    let rest = ["1000", "--key-bytes", "0", "--in-flight", "8", "--durability", "replicated", "--json"];
    let report = node.run(&[&produce[..], &rest].concat()).ok().json();
    assert_eq!(report["figures"]["records"], 1_000.0, "{report}");
    assert_eq!((&report["durability"], &report["key_bytes"]), (&"replicated".into(), &0.into()));
    let report = node.run(&["bench", "ready", "--topic", "load", "--json"]).ok().json();
    assert!(report["figures"]["ready_unix_ms"].as_f64().is_some_and(|at| at > 1e12), "{report}");
    assert_eq!(report["partitions"], 4);
}

#[test]
fn what_comes_and_goes_is_measured() {
    let node = Node::start();
    let common = ["--duration", "1", "--warm-up", "0", "--partitions", "6", "--json"];
    let groups =
        ["bench", "churn", "groups", "--members", "2", "--rate", "500", "--session-timeout-ms", "1000"];
    let report = node.run(&[&groups[..], &common].concat()).ok().json();
    figures(
        &report,
        &["formation_ms", "join_stable_p50_ms", "crash_gap_max_ms", "leave_moved_partitions", "records"],
    );
    let figure = |name: &str| report["figures"][name].as_f64().unwrap_or_default();
    assert!(figure("events") >= 4.0, "one of each kind: {report}");
    assert!(figure("crash_stable_max_ms") >= 500.0, "a crash is seen after the session time-out: {report}");
    let partitions = ["bench", "churn", "partitions", "--grow", "2", "--producers", "2"];
    let report = node.run(&[&partitions[..], &common].concat()).ok().json();
    figures(
        &report,
        &["topics_per_s", "create_p99_ms", "grow_p99_ms", "first_record_p99_ms", "delete_p99_ms"],
    );
    assert_eq!(node.run(&["topic", "list", "--json"]).ok().json(), serde_json::json!([]));
}
