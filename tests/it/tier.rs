//! Sealed segments go to the object store and are read back as if they were here.

use crate::harness::Node;

/// A topic whose records fill several segments; its records as they were sent.
pub fn fill(node: &Node) -> String {
    let config = ["-c", "tiered=true", "-c", "segment_bytes=65536"];
    node.run(&[&["topic", "create", "t", "-p", "2"][..], &config].concat()).ok();
    let lines: String = (0..4_000).map(|number| format!("k{}:{number:0100}\n", number % 20)).collect();
    // a batch is never divided: several sends make several segments
    let all: Vec<&str> = lines.split_inclusive('\n').collect();
    for part in all.chunks(1_000) {
        node.run_with(&["produce", "t", "-K", ":"], part.concat().as_bytes()).ok();
    }
    sorted(&lines)
}

pub fn sorted(lines: &str) -> String {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Offloads, drops the local copies, and reads everything from the store.
pub fn offload_and_read_back(node: &mut Node) {
    let sent = fill(node);
    node.run(&["tier", "flush", "t", "--seal", "--evict"]).ok();
    let topic = node.run(&["topic", "describe", "t", "--json"]).ok().json();
    let local = topic["partitions"][0]["local_start_offset"].as_i64().unwrap();
    assert!(local > 0, "local copies are gone: {topic}");
    assert_eq!(topic["partitions"][0]["log_start_offset"], 0, "{topic}");
    let read = |node: &Node| sorted(node.run(&["consume", "t", "-f", "%k:%v\\n"]).ok().text());
    assert_eq!(read(node), sent);
    node.kill();
    node.restart();
    assert_eq!(read(node), sent, "after a kill");
    let status = node.run(&["tier", "status", "--json"]).ok().json();
    assert!(status["reachable"].as_bool().unwrap() && status["objects"].as_u64().unwrap() >= 4, "{status}");
    let verified = node.run(&["tier", "verify", "t", "--json"]).ok().json();
    assert_eq!(verified["problems"], serde_json::json!([]), "{verified}");
    let restored = node.run(&["tier", "restore", "t", "--json"]).ok().json();
    assert!(restored["segments"].as_u64().unwrap() >= 4, "{restored}");
    assert_eq!(read(node), sent, "after the restore");
}

#[test]
fn offloaded_records_are_read_back_from_a_local_folder() {
    offload_and_read_back(&mut Node::start());
}

#[test]
fn a_damaged_object_is_found() {
    let node = Node::start();
    fill(&node);
    node.run(&["tier", "flush", "t", "--seal", "--evict"]).ok();
    let mut objects = Vec::new();
    segments(&node.data_dir().join("object-store"), &mut objects);
    let object = objects.first().expect("an object");
    let mut bytes = std::fs::read(object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(object, bytes).unwrap();
    let ran = node.run(&["tier", "verify", "t", "--json"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert_eq!(ran.json()["problems"].as_array().unwrap().len(), 1, "{ran:?}");
}

fn segments(dir: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            segments(&path, found);
        } else if path.components().any(|part| part.as_os_str() == "seg") {
            found.push(path);
        }
    }
}
