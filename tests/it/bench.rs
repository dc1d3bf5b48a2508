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
    let report =
        node.run(&["bench", "consume", "--megabytes", "5", "--partitions", "4", "--json"]).ok().json();
    figures(&report, &["throughput_records_per_s"]);
    assert_eq!(node.run(&["topic", "list", "--json"]).ok().json(), serde_json::json!([]));
}
