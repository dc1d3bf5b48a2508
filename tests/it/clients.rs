//! Clients in other languages: the program of docs/clients.md, run as it stands there; reflection; records over HTTP.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Node, run};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn python() -> PathBuf {
    match std::env::var_os("SUNSEO_PYTHON") {
        Some(python) => python.into(),
        None => "python3".into(),
    }
}

/// The code blocks of a language, in their order.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let parts = text.split(&opening).skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Python with the messages of the `.proto` files, generated as the page says.
fn with_messages(dir: &Path) -> Command {
    let page = std::fs::read_to_string(root().join("docs/clients.md")).unwrap();
    let setup = blocks(&page, "sh").concat();
    let generate =
        setup.lines().find(|line| line.contains("grpc_tools.protoc")).expect("the page generates code");
    let mut words = generate.split_whitespace().skip(1).map(str::to_owned);
    let mut command = Command::new(python());
    let arguments = words.by_ref().map(|word| match word.strip_suffix("_out=.") {
        Some(flag) => format!("{flag}_out={}", dir.display()),
        None => word,
    });
    run(command.args(arguments).current_dir(root()), b"").ok();
    let mut command = Command::new(python());
    command.env("PYTHONPATH", dir);
    command
}

#[test]
fn the_program_of_the_page_runs_as_it_stands_there() {
    let node = Node::start();
    let dir = tempfile::tempdir().unwrap();
    let page = std::fs::read_to_string(root().join("docs/clients.md")).unwrap();
    let blocks = blocks(&page, "python");
    assert!(blocks.len() > 5, "the page has its program");
    let program = dir.path().join("program.py");
    std::fs::write(&program, blocks.join("\n")).unwrap();
    let mut command = with_messages(dir.path());
    command.arg(&program).env("SUNSEO_SERVER", node.address());
    run(&mut command, b"").ok();
    // what it wrote is there for everybody, and each key where the other clients look for it
    let read = node.run(&["consume", "orders", "--json"]).ok();
    let records: Vec<Value> =
        read.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(records.len(), 120);
    node.run_with(&["produce", "orders", "-k", "rider-3"], b"from here\n").ok();
    let read = node.run(&["consume", "orders", "--json"]).ok();
    let places = read.text().lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let of_key: std::collections::BTreeSet<String> =
        places.filter(|r| r["key"] == "rider-3").map(|r| r["partition"].to_string()).collect();
    assert_eq!(of_key.len(), 1, "one key, one partition, whoever writes");
}

#[test]
fn services_are_listed_by_reflection_and_health_follows_the_node() {
    let node = Node::start();
    let script = r#"
import grpc, os
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
channel = grpc.insecure_channel(os.environ["SUNSEO_SERVER"])
database = ProtoReflectionDescriptorDatabase(channel)
print(" ".join(sorted(database.get_services())))
pool = DescriptorPool(database)
print(pool.FindMessageTypeByName("sunseo.v1.ProduceRequest").fields_by_name["partitions"].number)
for service in ["", "sunseo.v1.Broker", "sunseo.v1.Query"]:
    print(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service)).status)
"#;
    let mut command = Command::new(python());
    let ran = run(command.args(["-c", script]).env("SUNSEO_SERVER", node.address()), b"").ok();
    let lines: Vec<&str> = ran.text().lines().collect();
    for service in ["sunseo.v1.Broker", "sunseo.v1.Admin", "sunseo.v1.Groups", "grpc.health.v1.Health"] {
        assert!(lines[0].contains(service), "{lines:?}");
    }
    assert_eq!(lines[1..], ["2", "1", "1", "1"]);
}

#[test]
fn records_go_in_and_come_out_over_http() {
    let node = Node::start();
    node.run(&["topic", "create", "orders", "-p", "2"]).ok();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let records = json!([
        {"key": "o-1", "value": {"won": 18000}, "headers": {"traceparent": trace}},
        {"key": "o-1", "value": null},
        {"partition": 1, "value_base64": "/w=="},
    ]);
    let (status, body) = node.request("POST", "/v1/topics/orders/records", &records.to_string());
    assert_eq!(status, 200, "{body}");
    let places: Value = serde_json::from_str(&body).unwrap();
    let partition = places["records"][0]["partition"].as_i64().expect("a partition");
    assert_eq!(places["records"][1], json!({"partition": partition, "offset": 1}));
    let (status, read) = node.get_json(&format!("/v1/topics/orders/records?partition={partition}&max=1"));
    assert_eq!((status, &read["next_offset"]), (200, &json!(1)), "{read}");
    let first = &read["records"][0];
    assert_eq!(first["headers"], json!([{"name": "traceparent", "value": trace}]));
    // the command line shows the same
    let shown = node.run(&["consume", "orders", "-p", &partition.to_string(), "-n", "1", "--json"]).ok();
    assert_eq!(&serde_json::from_str::<Value>(shown.text()).unwrap(), first);
    let (status, rest) = node.get_json(&format!("/v1/topics/orders/records?partition={partition}&offset=1"));
    assert_eq!((status, &rest["records"][0]["value"]), (200, &Value::Null), "{rest}");
    let lines = "{\"key\": \"a\", \"value\": \"1\"}\n\n{\"key\": \"b\", \"value\": \"2\"}\n";
    let kind = [("content-type", "application/x-ndjson")];
    let (status, body) = node.request_with("POST", "/v1/topics/orders/records", &kind, lines);
    assert_eq!(status, 200, "{body}");
    let (status, empty) = node.get_json("/v1/topics/orders/records?partition=0&offset=end&wait_ms=1");
    assert_eq!((status, &empty["records"]), (200, &json!([])), "{empty}");
}

#[test]
fn what_is_wrong_with_records_over_http_is_said() {
    let node = Node::start();
    node.run(&["topic", "create", "orders", "-p", "1", "-c", "max_batch_bytes=2000"]).ok();
    let refused = |method: &str, path: &str, body: &str, status: u16, code: &str| {
        let (answered, text) = node.request(method, path, body);
        let error: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
        assert_eq!((answered, error["code"].as_str()), (status, Some(code)), "{method} {path}: {error}");
    };
    let records = "/v1/topics/orders/records";
    refused("POST", "/v1/topics/nope/records", "[{}]", 404, "UNKNOWN_TOPIC");
    refused("POST", records, "[]", 400, "INVALID_ARGUMENT");
    refused("POST", records, "{", 400, "INVALID_ARGUMENT");
    refused("POST", records, r#"[{"valeu": 1}]"#, 400, "INVALID_ARGUMENT");
    refused("POST", records, r#"[{"value": 1, "partition": 7}]"#, 404, "UNKNOWN_PARTITION");
    let noise: String = (0..4_000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    refused("POST", records, &json!([{"value": noise}]).to_string(), 413, "BATCH_TOO_LARGE");
    let many = vec![json!({"value": ""}); 10_001];
    refused("POST", records, &Value::from(many).to_string(), 413, "BATCH_TOO_LARGE");
    refused("GET", &format!("{records}?offset=7"), "", 416, "OFFSET_OUT_OF_RANGE");
    refused("GET", &format!("{records}?offset=x"), "", 400, "INVALID_ARGUMENT");
    refused("GET", &format!("{records}?max=0"), "", 400, "INVALID_ARGUMENT");
    refused("GET", &format!("{records}?partition=4"), "", 404, "UNKNOWN_PARTITION");
}
