//! The commands, as a user types them.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::harness::{Node, command, eventually, run, signal};

#[test]
fn what_goes_in_comes_out_byte_for_byte() {
    let node = Node::start();
    node.run(&["topic", "create", "raw", "-p", "1"]).ok();
    // every byte but the one that ends a record
    let every_byte: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    let input = [&every_byte[..], b"\n", b"\n", b"second\n"].concat();
    node.run_with(&["produce", "raw", "-k", "k"], &input).ok();
    assert_eq!(node.run(&["consume", "raw", "-f", "%v\\n"]).ok().stdout, input);
    let listed = node.run(&["consume", "raw", "-f", "%t %p %o %k %V\\n"]).ok();
    assert_eq!(listed.text(), "raw 0 0 k 255\nraw 0 1 k 0\nraw 0 2 k 6\n");
    // the first line is no text: JSON carries it as base64, and gives it back
    let lines = node.run(&["consume", "raw", "--json"]).ok();
    assert!(lines.text().contains("value_base64"), "{}", lines.text());
    node.run(&["topic", "create", "copy", "-p", "1"]).ok();
    node.run_with(&["produce", "copy", "--format", "ndjson"], &lines.stdout).ok();
    assert_eq!(node.run(&["consume", "copy", "-f", "%v\\n"]).ok().stdout, input);
}

#[test]
fn keys_headers_and_places_are_kept() {
    let node = Node::start();
    node.run(&["topic", "create", "t", "-p", "4"]).ok();
    let file = node.dir().join("input");
    std::fs::write(&file, "a:1\nb:2\na:3\n").unwrap();
    let file = file.to_str().unwrap();
    let arguments =
        ["produce", "t", "-K", ":", "-H", "kind=test", "-H", "n=1", "--file", file, "--places", "--json"];
    let places = node.run(&arguments).ok();
    assert_eq!(places.text().lines().count(), 3, "{places:?}");
    let read = node.run(&["consume", "t", "-f", "%k=%v %h\\n"]).ok();
    let mut lines: Vec<&str> = read.text().lines().collect();
    // one key, one partition: its records keep their order
    let of_a: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with('a')).collect();
    assert_eq!(of_a, ["a=1 kind=test,n=1", "a=3 kind=test,n=1"]);
    lines.sort_unstable();
    assert_eq!(lines, ["a=1 kind=test,n=1", "a=3 kind=test,n=1", "b=2 kind=test,n=1"]);
}

#[test]
fn reading_begins_where_it_is_told() {
    let node = Node::start();
    node.run(&["topic", "create", "t", "-p", "1"]).ok();
    node.run_with(&["produce", "t"], b"0\n1\n2\n3\n4\n").ok();
    let read = |from: &str, more: &[&str]| {
        let arguments = [&["consume", "t", "--from", from, "-f", "%v "], more].concat();
        node.run(&arguments).ok().text().to_owned()
    };
    assert_eq!(read("start", &[]), "0 1 2 3 4 ");
    assert_eq!(read("3", &[]), "3 4 ");
    assert_eq!(read("-2", &[]), "3 4 ");
    assert_eq!(read("end", &[]), "");
    assert_eq!(read("@-1h", &[]), "0 1 2 3 4 ");
    assert_eq!(read("start", &["-n", "2"]), "0 1 ");
    assert_eq!(read("start", &["-n", "2", "-p", "0"]), "0 1 ");
    let error = node.run(&["consume", "t", "--from", "99"]).fails_with(1);
    assert!(error.contains("99") && error.contains("highest is 5"), "{error}");
    let error = node.run(&["consume", "t", "--from", "soon"]).fails_with(2);
    assert!(error.contains("soon") && error.contains("@-1h"), "{error}");
}

#[test]
fn a_group_goes_on_where_it_was_and_can_be_moved() {
    let node = Node::start();
    node.run(&["topic", "create", "t", "-p", "1"]).ok();
    node.run_with(&["produce", "t"], b"0\n1\n2\n3\n4\n").ok();
    let read = |count: &str| {
        node.run(&["consume", "t", "--group", "g", "-n", count, "-f", "%v "]).ok().text().to_owned()
    };
    assert_eq!(read("2"), "0 1 ");
    assert_eq!(read("2"), "2 3 ");
    let group = node.run(&["group", "describe", "g", "--json"]).ok().json();
    assert_eq!(group["member_count"], 0, "{group}");
    assert_eq!(group["partitions"][0]["committed_offset"], 4, "{group}");
    assert_eq!(group["partitions"][0]["lag"], 1, "{group}");
    node.run(&["group", "seek", "g", "t", "--to", "start"]).ok();
    assert_eq!(read("1"), "0 ");
    node.run(&["group", "seek", "g", "t:0", "--to", "-1"]).ok();
    assert_eq!(
        node.run(&["consume", "t", "-g", "g", "-f", "%v "]).ok().text(),
        "4 ",
        "to the end and no further"
    );
    let groups = node.run(&["group", "list", "--json"]).ok().json();
    assert_eq!(groups[0]["group"], "g", "{groups}");
    node.run(&["group", "delete", "g"]).ok();
    assert_eq!(node.run(&["group", "list", "--json"]).ok().json(), json!([]));
    let error = node.run(&["group", "describe", "g"]).fails_with(1);
    assert!(error.contains("UNKNOWN_GROUP"), "{error}");
}

#[test]
fn ctrl_c_leaves_the_group_at_once_with_its_offsets() {
    let node = Node::start();
    node.run(&["topic", "create", "t", "-p", "2"]).ok();
    node.run_with(&["produce", "t", "-k", "k"], b"first\n").ok();
    let mut consumer = node.command(&["consume", "t", "--group", "g", "--follow"]);
    let mut consumer = consumer.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(consumer.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    signal(consumer.id(), "INT");
    let status = eventually("the consumer ends", || consumer.try_wait().unwrap());
    assert!(status.success(), "{status}");
    let group = node.run(&["group", "describe", "g", "--json"]).ok().json();
    assert_eq!(group["member_count"], 0, "{group}");
    let lags = group["partitions"].as_array().unwrap().iter().map(|p| p["lag"].as_i64().unwrap());
    assert_eq!(lags.sum::<i64>(), 0, "{group}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let node = Node::start();
    node.run(&["topic", "create", "t", "-p", "1"]).ok();
    let lines: String = (0..50_000).map(|number| format!("line {number} of many\n")).collect();
    node.run_with(&["produce", "t"], lines.as_bytes()).ok();
    let mut consumer = node.command(&["consume", "t"]);
    let mut consumer = consumer.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(32, consumer.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "line 0 of many\n");
    let output = consumer.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn topics_are_made_listed_changed_and_deleted() {
    let node = Node::start();
    assert_eq!(node.run(&["topic", "list", "--json"]).ok().json(), json!([]));
    node.run(&["topic", "create", "t", "-p", "2", "-c", "retention_ms=60000"]).ok();
    let error = node.run(&["topic", "create", "t", "-p", "2"]).fails_with(1);
    assert!(error.contains("ALREADY_EXISTS"), "{error}");
    node.run(&["topic", "create", "t", "-p", "2", "--if-not-exists"]).ok();
    let topic = node.run(&["topic", "describe", "t", "--json"]).ok().json();
    assert_eq!(topic["partition_count"], 2);
    assert_eq!(topic["config"]["retention_ms"], 60_000);
    assert_eq!(topic["config"]["durability"], "fsync");
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 2);
    node.run(&["topic", "alter", "t", "-p", "3", "-c", "retention_ms=-1"]).ok();
    let topics = node.run(&["topic", "list", "--json"]).ok().json();
    assert_eq!(topics[0]["partition_count"], 3);
    assert_eq!(topics[0]["config"]["retention_ms"], -1);
    let table = node.run(&["topic", "list"]).ok();
    assert!(table.text().starts_with("TOPIC"), "{}", table.text());
    let error = node.run(&["topic", "alter", "t", "-c", "retention=1"]).fails_with(1);
    assert!(error.contains("retention"), "{error}");
    node.run(&["topic", "delete", "t"]).ok();
    assert_eq!(node.run(&["topic", "list", "--json"]).ok().json(), json!([]));
}

#[test]
fn what_is_wrong_is_one_line_and_has_its_exit_status() {
    let refused = |arguments: &[&str], status: i32, parts: &[&str]| {
        let error = run(&mut command(arguments), b"").fails_with(status);
        for part in parts {
            assert!(error.contains(part), "{error} has no {part}");
        }
    };
    refused(&["topic", "list", "--server", "127.0.0.1:9"], 1, &["127.0.0.1:9", "sunseo dev"]);
    refused(&["topic", "list", "--server", "nowhere at all"], 1, &["nowhere at all", "host:port"]);
    refused(&["topic", "lst"], 2, &["lst", "--help"]);
    refused(&["produce"], 2, &["TOPIC"]);
    refused(&["consume", "t", "-f", "%q"], 2, &["%q", "%t"]);
    refused(&["produce", "t", "-K", ":", "-k", "a"], 2, &["--key"]);
    refused(&["demo", "--chaos", "10"], 2, &["kills=10"]);
    refused(&["demo", "--deliveries", "0"], 1, &["deliveries is 0"]);
    refused(&["bench", "produce", "--record-bytes", "1"], 2, &["record-bytes", "16"]);
}

#[test]
fn version_help_and_completions_need_no_server() {
    let version = run(&mut command(&["--version"]), b"").ok();
    assert!(version.text().starts_with(concat!("sunseo ", env!("CARGO_PKG_VERSION"), " (")), "{version:?}");
    let help = run(&mut command(&["--help"]), b"").ok();
    let named = [
        "dev", "demo", "topic", "produce", "consume", "group", "outbox", "pipeline", "query", "tier", "log",
        "bench",
    ];
    for name in named {
        assert!(help.text().contains(&format!("\n  {name} ")), "{name}: {}", help.text());
    }
    let bash = run(&mut command(&["completions", "bash"]), b"").ok();
    assert!(bash.text().contains("_sunseo"), "a script for bash");
}

#[test]
fn the_files_of_a_stopped_node_can_be_read_and_checked() {
    let mut node = Node::start();
    node.run(&["topic", "create", "t", "-p", "1"]).ok();
    node.run_with(&["produce", "t"], b"0\n1\n2\n").ok();
    assert!(node.terminate().success());
    let data_dir = node.data_dir();
    let dir = data_dir.to_str().unwrap();
    let report = run(&mut command(&["log", "verify", dir, "--json"]), b"").ok().json();
    assert_eq!(report["problems"], json!([]), "{report}");
    assert!(report["records"].as_u64().unwrap() >= 3, "{report}");
    let dump = run(&mut command(&["log", "dump", dir, "--json"]), b"").ok();
    let records: i64 = dump
        .text()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .flat_map(|segment| segment["batches"].as_array().unwrap().clone())
        .map(|batch| batch["records"].as_i64().unwrap())
        .sum();
    assert!(records >= 3, "{}", dump.text());
}
