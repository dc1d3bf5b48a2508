//! The pipeline that comes with the binary: its live state over command line and HTTP, through kill, pause and reset.

use serde_json::{Value, json};

use crate::harness::{Node, eventually};

const STORE: &str = "rider-places";

fn rider_is_at(node: &Node, rider: &str, at_ms: i64) {
    let point = json!({"rider": rider, "at_ms": at_ms, "at": {"lon_e7": 1, "lat_e7": 1}});
    node.run_with(&["produce", "rider-gps", "-k", rider], format!("{point}\n").as_bytes()).ok();
}

fn place_of(node: &Node, rider: &str) -> Option<Value> {
    let ran = node.run(&["query", "delivery-day", STORE, rider, "--json"]);
    ran.status.success().then(|| ran.json()["entry"]["value"].clone())
}

fn state(node: &Node) -> Value {
    node.run(&["pipeline", "list", "--json"]).ok().json()[0].clone()
}

#[test]
fn state_is_queried_live_and_survives_a_kill() {
    let mut node = Node::start_with(&["--pipeline", "delivery-day", "--partitions", "2"]);
    for number in 1..=5 {
        rider_is_at(&node, &format!("R{number:05}"), 1_000);
    }
    let place = eventually("the last rider has a place", || place_of(&node, "R00005"));
    assert_eq!(place["record"]["district"], "outside", "{place}");
    let (status, over_http) = node.get_json(&format!("/v1/query/delivery-day/{STORE}?key=R00005"));
    assert_eq!((status, &over_http["entry"]["value"]), (200, &place));
    let scan = ["query", "delivery-day", STORE, "--from", "R00002", "--to", "R00004", "--json"];
    let found = eventually("a range of riders", || {
        let entries = node.run(&scan).ok().json()["entries"].as_array().unwrap().clone();
        (entries.len() == 2).then_some(entries)
    });
    assert_eq!((&found[0]["key"], &found[1]["key"]), (&json!("R00002"), &json!("R00003")));
    node.kill();
    node.restart();
    assert_eq!(eventually("the state is back", || place_of(&node, "R00005")), place);
    let error = node.run(&["query", "delivery-day", STORE, "R99999"]).fails_with(1);
    assert!(error.contains("R99999"), "{error}");
    let error = node.run(&["query", "delivery-day", "nope"]).fails_with(1);
    assert!(error.contains("UNKNOWN_STORE"), "{error}");
    let error = node.run(&["pipeline", "describe", "nope"]).fails_with(1);
    assert!(error.contains("UNKNOWN_PIPELINE"), "{error}");
}

#[test]
fn a_pause_holds_over_a_restart_and_a_reset_reads_everything_again() {
    let mut node = Node::start_with(&["--pipeline", "delivery-day", "--partitions", "2"]);
    rider_is_at(&node, "R00001", 1_000);
    eventually("the first rider has a place", || place_of(&node, "R00001"));
    node.run(&["pipeline", "pause", "delivery-day"]).ok();
    node.kill();
    node.restart();
    assert_eq!(state(&node)["state"], "paused");
    rider_is_at(&node, "R00002", 1_000);
    node.run(&["pipeline", "resume", "delivery-day"]).ok();
    eventually("the second rider has a place", || place_of(&node, "R00002"));
    node.run(&["pipeline", "reset", "delivery-day"]).ok();
    eventually("both are there again", || place_of(&node, "R00001").and(place_of(&node, "R00002")));
    assert_eq!(state(&node)["dead_letters"], 0);
}

#[test]
fn a_record_that_does_not_parse_goes_to_the_dead_letters() {
    let node = Node::start_with(&["--pipeline", "delivery-day", "--partitions", "1"]);
    node.run_with(&["produce", "rider-gps", "-k", "R00001"], b"no JSON\n").ok();
    rider_is_at(&node, "R00001", 1_000);
    eventually("the good record behind it is handled", || place_of(&node, "R00001"));
    let dead = eventually("the dead letter", || {
        let read = node.run(&["consume", "delivery-day-dead-letter", "-f", "%v %h\\n"]).ok();
        (!read.stdout.is_empty()).then(|| read.text().to_owned())
    });
    assert!(dead.starts_with("no JSON "), "{dead}");
    assert_eq!(state(&node)["dead_letters"], 1);
}
