//! Fuzz targets of what people write: the configuration, the command line, records as JSON. For tests only (feature `testing`).

use clap::Parser as _;
use sunseo_proto::fuzz::{SMALL, Seal, Target};

use crate::cli::Cli;
use crate::config::{self, NodeConfig};
use crate::http::records;
use crate::json;

/// Memory of the description of every command, which is made for each command line.
const COMMANDS_BYTES_MAX: usize = 16 << 20;

/// Memory of one line of a message that quotes its input.
const QUOTED_BYTES_MAX: usize = 1 << 20;

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    target("config_file", QUOTED_BYTES_MAX, config_file, config_file_samples),
    target("config_environment", QUOTED_BYTES_MAX, config_environment, config_environment_samples),
    target("command_line", COMMANDS_BYTES_MAX, command_line, command_line_samples),
    target("record_json", SMALL, record_json, record_json_samples),
    target("records_http", QUOTED_BYTES_MAX, records_http, records_http_samples),
];

const fn target(
    name: &'static str,
    memory_bytes_max: usize,
    run: fn(&[u8]),
    samples: fn() -> Vec<Vec<u8>>,
) -> Target {
    Target { name, run, samples, seal: Seal::None, memory_bytes_max }
}

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A configuration that was taken is printed as a file that gives the same one.
fn config_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = |text: &str| config::validated(NodeConfig::default(), config::from_toml(text, "fuzz.toml")?);
    if let Ok(taken) = read(text) {
        let printed = taken.to_toml();
        let again = read(&printed).map(|config| config.to_toml());
        assert_eq!(again, Ok(printed), "what is printed can be read");
    }
}

fn config_file_samples() -> Vec<Vec<u8>> {
    let mut samples = bytes(&[
        "[broker]\ndata_dir = \"data\"\n[listen]\ngrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n",
        "[pipelines]\nrun = [\"delivery-day\"]\npartitions = 4\n",
    ]);
    samples.push(NodeConfig::default().to_toml().into_bytes());
    samples
}

/// One `NAME=VALUE` in each line.
fn config_environment(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let values = config::from_environment(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let _ = config::validated(NodeConfig::default(), values);
}

fn config_environment_samples() -> Vec<Vec<u8>> {
    bytes(&[
        "SUNSEO_LISTEN__GRPC=127.0.0.1:7411\nSUNSEO_LISTEN__HTTP=127.0.0.1:7412",
        "SUNSEO_LISTEN__KEEPALIVE_MS=20000\nSUNSEO_PIPELINES__PARTITIONS=8\nHOME=/root",
    ])
}

/// Words of a command line, one in each line. A refusal can be shown.
fn command_line(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(refused) = Cli::try_parse_from(std::iter::once("sunseo").chain(text.lines())) {
        assert!(!refused.render().to_string().is_empty(), "a refusal says something");
    }
}

fn command_line_samples() -> Vec<Vec<u8>> {
    bytes(&[
        "topic\ncreate\norders\n--partitions\n8\n-c\ndurability=fsync",
        "--server\n127.0.0.1:7411\n--json\nconsume\norders\n--group\nkitchen",
        "produce\norders\n--format\nndjson",
        "bench\nproduce\n--record-bytes\n100\n--duration\n5",
        "dev\n--data-dir\ndata\n--grpc\n127.0.0.1:0",
        "query\ndelivery-day\ndistricts\n--help",
    ])
}

/// A record that was taken is printed as one that is taken as the same.
fn record_json(bytes: &[u8]) {
    let Ok((partition, record)) = json::record::parse(bytes) else { return };
    let shown = json::record::shown("t", partition.unwrap_or(0), &record).to_string();
    let again = json::record::parse(shown.as_bytes()).map(|(_, record)| record);
    assert_eq!(again, Ok(record), "what is printed can be sent");
}

fn record_json_samples() -> Vec<Vec<u8>> {
    bytes(&[
        r#"{"key": "order-1", "value": {"state": "created"}, "headers": {"traceparent": "00-1-2-01"}}"#,
        r#"{"topic": "t", "partition": 3, "offset": 7, "timestamp_ms": 1700000000000, "key_base64": "/w==", "value": null,
            "headers": [{"name": "h", "value_base64": "AA=="}]}"#,
    ])
}

/// The body of a request, in both of its forms.
fn records_http(bytes: &[u8]) {
    for is_lines in [false, true] {
        let _ = records::parse(bytes, is_lines);
    }
}

fn records_http_samples() -> Vec<Vec<u8>> {
    let mut samples = bytes(&[
        r#"[{"key": "a", "value": 1}, {"value": "b", "partition": 2}]"#,
        "{\"key\": \"a\"}\n{\"value\": [1, 2]}\n",
    ]);
    samples.extend(record_json_samples());
    samples
}
