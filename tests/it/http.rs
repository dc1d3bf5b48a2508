//! Health, metrics and the JSON API.

use serde_json::{Value, json};

use crate::harness::Node;

#[test]
fn health_readiness_and_metrics_are_there() {
    let node = Node::start();
    assert_eq!(node.request("GET", "/healthz", ""), (200, "alive\n".to_owned()));
    assert_eq!(node.request("GET", "/readyz", ""), (200, "ready\n".to_owned()));
    node.run(&["topic", "create", "t", "-p", "1"]).ok();
    node.run_with(&["produce", "t"], b"x\n").ok();
    let (status, metrics) = node.request("GET", "/metrics", "");
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE sunseo_"), "{metrics}");
}

#[test]
fn topics_and_groups_show_what_the_command_line_shows() {
    let node = Node::start();
    let body = r#"{"name": "t", "partitions": 2, "config": {"retention_ms": 60000}}"#;
    let (status, made) = node.request("POST", "/v1/topics", body);
    assert_eq!(status, 200, "{made}");
    node.run_with(&["produce", "t", "-k", "k"], b"x\n").ok();
    node.run(&["consume", "t", "--group", "g", "-n", "1"]).ok();
    for (path, arguments) in [
        ("/v1/topics", &["topic", "list"][..]),
        ("/v1/topics/t", &["topic", "describe", "t"]),
        ("/v1/groups", &["group", "list"]),
        ("/v1/groups/g", &["group", "describe", "g"]),
        ("/v1/tier", &["tier", "status"]),
        ("/v1/pipelines", &["pipeline", "list"]),
    ] {
        let shown = node.run(&[arguments, &["--json"]].concat()).ok().json();
        assert_eq!(node.get_json(path), (200, shown), "{path}");
    }
    assert_eq!(node.request("PATCH", "/v1/topics/t", r#"{"partitions": 3}"#).0, 200);
    assert_eq!(node.get_json("/v1/topics/t").1["partition_count"], 3);
    assert_eq!(node.request("DELETE", "/v1/groups/g", "").0, 200);
    assert_eq!(node.request("DELETE", "/v1/topics/t", "").0, 200);
    assert_eq!(node.get_json("/v1/topics"), (200, json!([])));
}

#[test]
fn a_refusal_has_its_status_and_its_code() {
    let node = Node::start();
    let refused = |method: &str, path: &str, body: &str, status: u16, code: &str| {
        let (answered, text) = node.request(method, path, body);
        let error: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
        assert_eq!((answered, error["code"].as_str()), (status, Some(code)), "{method} {path}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{error}");
        assert!(error["retryable"].is_boolean() && error.get("field").is_some(), "{error}");
    };
    refused("GET", "/v1/topics/nope", "", 404, "UNKNOWN_TOPIC");
    refused("GET", "/v1/groups/nope", "", 404, "UNKNOWN_GROUP");
    refused("GET", "/v1/pipelines/nope", "", 404, "UNKNOWN_PIPELINE");
    refused("GET", "/v1/query/nope/store?key=1", "", 404, "UNKNOWN_PIPELINE");
    refused("GET", "/v1/sources/nope", "", 404, "UNKNOWN_SOURCE");
    refused("POST", "/v1/topics", "{", 400, "INVALID_ARGUMENT");
    refused("POST", "/v1/topics", r#"{"name": "t", "partition": 1}"#, 400, "INVALID_ARGUMENT");
    refused("POST", "/v1/topics", r#"{"name": "", "partitions": 1}"#, 400, "INVALID_ARGUMENT");
    refused("GET", "/v1/nothing", "", 404, "UNSUPPORTED");
    refused("PUT", "/v1/topics", "", 405, "UNSUPPORTED");
}

#[test]
fn events_are_pushed_and_a_repeat_is_harmless() {
    let node = Node::start();
    let event = |sequence: u64| {
        json!({"sequence": sequence, "id": format!("e{sequence}"), "aggregate_type": "order",
               "aggregate_id": "o-1", "type": "OrderCreated", "payload": {"n": sequence}})
    };
    let push = |events: Value| node.request("POST", "/v1/sources/app/shards/0/events", &events.to_string());
    let (status, answer) = push(json!([event(1), event(2)]));
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = push(json!([event(1), event(2), event(3)]));
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = push(json!([event(7)]));
    assert_eq!(status, 409, "{answer}");
    let (status, state) = node.get_json("/v1/sources/app/shards/0/state");
    assert_eq!((status, &state["accepted_through"]), (200, &json!(3)), "{state}");
    let read = node.run(&["consume", "order", "-f", "%k %v\\n"]).ok();
    let lines: Vec<&str> = read.text().lines().collect();
    assert_eq!(lines.len(), 3, "{}", read.text());
    assert!(lines.iter().all(|line| line.starts_with("o-1 ")), "{}", read.text());
}
