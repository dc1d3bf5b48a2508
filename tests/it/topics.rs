//! The life of a topic from outside, and what clients of a former topic see; quotas on the command line.

use std::time::Duration;

use serde_json::{Value, json};
use sunseo_client::{ConsumerConfig, ErrorCode, ProducerConfig, Record};

use crate::harness::Node;

#[test]
fn records_are_deleted_and_offsets_are_found_by_time() {
    let node = Node::start();
    node.run(&["topic", "create", "t", "-p", "2"]).ok();
    let lines: String = (1..=10)
        .map(|n| format!("{{\"value\": \"v{n}\", \"timestamp_ms\": {n}000, \"partition\": 0}}\n"))
        .collect();
    node.run_with(&["produce", "t", "--format", "ndjson"], lines.as_bytes()).ok();
    let offsets = |arguments: &[&str]| {
        node.run(&[&["topic", "offsets", "t", "--json"], arguments].concat()).ok().json()
    };
    assert_eq!(
        offsets(&[])["partitions"],
        json!([{"partition": 0, "start": 0, "end": 10}, {"partition": 1, "start": 0, "end": 0}])
    );
    let at = offsets(&["-p", "0", "--at", "@4000"]);
    assert_eq!(at["partitions"], json!([{"partition": 0, "start": 0, "end": 10, "offset": 3}]));
    let done =
        node.run(&["topic", "delete-records", "t", "-p", "0", "--before", "@4000", "--json"]).ok().json();
    assert_eq!(done["partitions"], json!([{"partition": 0, "log_start_offset": 3}]));
    let read = node.run(&["consume", "t", "-p", "0"]).ok();
    assert_eq!(read.text(), (4..=10).map(|n| format!("v{n}\n")).collect::<String>());
    node.run(&["topic", "delete-records", "t", "--before", "end"]).ok();
    assert_eq!(node.run(&["consume", "t"]).ok().text(), "");
    let error = node.run(&["topic", "delete-records", "t", "-p", "0", "--before", "11"]).fails_with(1);
    assert!(error.contains("11") && error.contains("10 to 10"), "{error}");
    node.run(&["topic", "delete-records", "t", "-p", "7", "--before", "end"]).fails_with(1);
}

#[test]
fn a_client_of_a_former_topic_is_told_and_the_new_one_is_neither_read_nor_written() {
    let mut node = Node::start();
    node.run(&["topic", "create", "t", "-p", "1"]).ok();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = node.client().await;
        let producer = client.producer(ProducerConfig::default()).unwrap();
        producer.send("t", Record::new("k", "old", 1)).await.unwrap().await.unwrap();
        let by_hand = ConsumerConfig::partitions([("t".to_owned(), 0)]);
        let mut consumer = client.consumer(by_hand).await.unwrap();
        assert_eq!(consumer.poll(Duration::from_secs(20)).await.unwrap().len(), 1);

        node.run(&["topic", "delete", "t"]).ok();
        node.run(&["topic", "create", "t", "-p", "1"]).ok();
        node.run_with(&["produce", "t"], b"new\nnew too\n").ok();
        let refused = producer.send("t", Record::new("k", "stray", 1)).await.unwrap().await.unwrap_err();
        assert!(
            matches!(refused.code, ErrorCode::TopicReplaced | ErrorCode::UnknownTopic),
            "it was meant for the former topic: {refused}"
        );
        let error = loop {
            match consumer.poll(Duration::from_secs(20)).await {
                Ok(records) => assert!(records.is_empty(), "nothing of the new topic: {records:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error.code, ErrorCode::TopicReplaced | ErrorCode::UnknownTopic), "{error}");
        // that was said; from now on the name means the new one
        let end = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            match producer.send("t", Record::new("k", "meant for it", 1)).await.unwrap().await {
                Ok(_) => break,
                Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
            }
        }
    });
    assert_eq!(node.run(&["consume", "t"]).ok().text(), "new\nnew too\nmeant for it\n");
    node.kill();
}

#[test]
fn quotas_are_set_shown_kept_and_respected() {
    let mut node = Node::start();
    node.run(&["topic", "create", "t", "-p", "1"]).ok();
    node.run(&["quota", "set", "loader", "--produce-bytes", "100000"]).ok();
    node.run(&["quota", "set", "--default", "--requests", "100000"]).ok();
    node.run(&["quota", "set", "loader"]).fails_with(1);
    node.run(&["quota", "set", "--produce-bytes", "1"]).fails_with(2);
    node.kill();
    node.restart();
    let list = node.run(&["quota", "list", "--json"]).ok().json();
    let produce: Vec<(&Value, &Value)> =
        list.as_array().unwrap().iter().map(|q| (&q["client"], &q["produce_bytes_per_second"])).collect();
    assert_eq!(produce, [(&Value::Null, &Value::Null), (&json!("loader"), &json!(100_000))]);
    let line = format!("{}\n", "x".repeat(999));
    let input = line.repeat(400).into_bytes();
    let begun = std::time::Instant::now();
    node.run_with(&["produce", "t"], &input).ok();
    let free = begun.elapsed();
    // 400 kB at 100 kB/s, of which a second's worth is free: the next ones wait for the other three
    node.run_with(&["produce", "t", "--client-id", "loader"], &input).ok();
    let begun = std::time::Instant::now();
    node.run_with(&["produce", "t", "--client-id", "loader"], &input).ok();
    let held = begun.elapsed();
    assert!(held > Duration::from_millis(1_000), "{held:?}, without a quota {free:?}");
    let (_, metrics) = node.request("GET", "/metrics", "");
    assert!(metrics.contains("sunseo_throttled_total"), "{metrics}");
    node.run(&["quota", "delete", "loader"]).ok();
    node.run(&["quota", "delete", "loader"]).fails_with(1);
    assert_eq!(node.run(&["consume", "t", "-f", "\\n"]).ok().text().len(), 1_200);
}
