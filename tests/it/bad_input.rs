//! Everything that can be wrong with a request: one clear error each, and the server stays up with what it had.

use std::process::Command;

use bytes::Bytes;
use sunseo_client::{Client, Compression, NewTopic, Record};
use sunseo_proto::batch::BatchBuilder;
use sunseo_proto::{Error, ErrorCode, v1};
use tonic::transport::Endpoint;

use crate::harness::{Node, command, run};

/// A node with a topic that holds one record.
async fn node() -> (Node, Client) {
    let node = Node::start();
    let client = node.client().await;
    client.admin().create_topic(NewTopic::new("t", 1).with("max_batch_bytes", 10_000)).await.unwrap();
    let producer = client.producer(Default::default()).unwrap();
    producer.send("t", Record::new("k", "kept", 1)).await.unwrap().await.unwrap();
    (node, client)
}

/// The record is there, alone, and another can follow.
#[track_caller]
fn unharmed(node: &mut Node) {
    assert!(node.is_running(), "{}", node.log());
    assert_eq!(node.run(&["consume", "t", "-f", "%v "]).ok().text(), "kept ");
    node.run_with(&["produce", "t"], b"more\n").ok();
    assert_eq!(node.run(&["consume", "t", "-f", "%v "]).ok().text(), "kept more ");
}

fn batch(value_bytes: usize) -> Vec<u8> {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(&Record::new("k", vec![b'x'; value_bytes], 1));
    batch.build().to_vec()
}

async fn produce(client: &Client, topic: &str, partition: i32, batch: Vec<u8>) -> Error {
    let part = v1::ProducePartition {
        topic: topic.to_owned(),
        partition,
        batch: Some(Bytes::from(batch)),
        ..Default::default()
    };
    let request = v1::ProduceRequest { correlation_id: 0, partitions: vec![part], ..Default::default() };
    match client.transport().produce(request).await {
        Err(error) => error,
        Ok(v1::ProduceResponse { error: Some(error), .. }) => error.into(),
        Ok(answer) => answer.results[0].error.clone().expect("a refusal").into(),
    }
}

#[tokio::test]
async fn batches_that_are_not_right_are_refused() {
    let (mut node, client) = node().await;
    let mut wrong_checksum = batch(100);
    let last = wrong_checksum.len() - 1;
    wrong_checksum[last] ^= 1;
    let mut cut_off = batch(100);
    cut_off.truncate(80);
    let mut two = batch(10);
    two.extend_from_slice(&batch(10));
    for (name, topic, partition, bytes, code, said) in [
        ("wrong checksum", "t", 0, wrong_checksum, ErrorCode::CorruptBatch, "checksum"),
        ("cut off", "t", 0, cut_off, ErrorCode::CorruptBatch, "cut off"),
        ("two batches", "t", 0, two, ErrorCode::CorruptBatch, "one batch"),
        ("nothing", "t", 0, Vec::new(), ErrorCode::CorruptBatch, ""),
        ("noise", "t", 0, vec![0xa5; 300], ErrorCode::CorruptBatch, ""),
        ("too large", "t", 0, batch(20_000), ErrorCode::BatchTooLarge, "10000"),
        ("unknown topic", "nope", 0, batch(10), ErrorCode::UnknownTopic, "nope"),
        ("unknown partition", "t", 7, batch(10), ErrorCode::UnknownPartition, "7"),
        ("negative partition", "t", -1, batch(10), ErrorCode::UnknownPartition, "-1"),
    ] {
        let error = produce(&client, topic, partition, bytes).await;
        assert_eq!(error.code, code, "{name}: {error}");
        assert!(error.message.contains(said) && !error.retryable(), "{name}: {error}");
    }
    tokio::task::spawn_blocking(move || unharmed(&mut node)).await.unwrap();
}

/// A message of another shape than the method's: its first field has the wrong wire type.
#[tokio::test]
async fn messages_that_do_not_decode_are_refused() {
    let (mut node, client) = node().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", node.address())).unwrap();
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    for method in ["Broker/Metadata", "Admin/CreateTopic", "Groups/Heartbeat", "Outbox/State", "Query/Get"] {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<v1::ProduceRequest, v1::Definition>::default();
        let message = v1::ProduceRequest { correlation_id: 99, partitions: Vec::new(), ..Default::default() };
        let path = format!("/sunseo.v1.{method}").parse().unwrap();
        let status = grpc.unary(tonic::Request::new(message), path, codec).await.unwrap_err();
        let told = matches!(status.code(), tonic::Code::Internal | tonic::Code::InvalidArgument);
        assert!(told && status.message().contains("decode"), "{method}: {status}");
    }
    // in the middle of a stream it ends that stream, and no other
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<v1::TopicPartition, v1::ProduceResponse>::default();
    let message = v1::TopicPartition { topic: "no correlation id".to_owned(), partition: 0 };
    let requests = futures::stream::iter([message]);
    let path = "/sunseo.v1.Broker/Produce".parse().unwrap();
    let refused = match grpc.streaming(tonic::Request::new(requests), path, codec).await {
        Err(status) => status,
        Ok(answers) => answers.into_inner().message().await.unwrap_err(),
    };
    assert!(refused.message().contains("decode"), "{refused}");
    assert_eq!(client.partitions("t").await.unwrap(), 1, "the other connection goes on");
    tokio::task::spawn_blocking(move || unharmed(&mut node)).await.unwrap();
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused() {
    let (mut node, _client) = node().await;
    let limit = "limits.message_bytes_max";
    let config = node.run(&["server", "--print-config"]).ok();
    assert!(config.text().contains("message_bytes_max = 71303168"), "{limit} is 68 MiB: {}", config.text());
    let endpoint = Endpoint::from_shared(format!("http://{}", node.address())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut broker = v1::broker_client::BrokerClient::new(channel).max_encoding_message_size(1 << 30);
    let topics = vec!["x".repeat(1 << 20); 69];
    let status = broker.metadata(v1::MetadataRequest { topics }).await.unwrap_err();
    assert!(status.message().contains("71303168"), "{status}");
    tokio::task::spawn_blocking(move || unharmed(&mut node)).await.unwrap();
}

#[test]
fn a_source_with_a_column_that_is_not_there_is_refused() {
    let mut node = Node::start();
    let path = node.dir().join("application.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    let table = "CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, aggregatetype TEXT, order_id TEXT, type TEXT, payload TEXT)";
    database.execute(table, ()).unwrap();
    let url = path.to_str().unwrap();
    let add = ["outbox", "add", "s", "--url", url, "--table", "outbox"];
    let error = node.run(&add).fails_with(1);
    assert!(error.contains("aggregateid") && error.contains("outbox"), "{error}");
    let error = node.run(&[&add[..], &["--column", "aggregateid=orderid"]].concat()).fails_with(1);
    assert!(error.contains("orderid"), "{error}");
    let error = node.run(&[&add[..], &["--column", "agregateid=order_id"]].concat()).fails_with(1);
    assert!(error.contains("agregateid"), "{error}");
    node.run(&[&add[..], &["--column", "aggregateid=order_id"]].concat()).ok();
    let error =
        node.run(&["outbox", "add", "none", "--url", "/no/such/file.db", "--table", "outbox"]).fails_with(1);
    assert!(error.contains("/no/such/file.db"), "{error}");
    assert!(node.is_running());
}

#[test]
fn a_broken_polygon_file_is_refused_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("regions.geojson");
    let path = file.to_str().unwrap();
    for (content, said) in [
        ("{", "regions.geojson"),
        (r#"{"type": "FeatureCollection", "features": []}"#, "regions.geojson"),
        (
            r#"{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"name": "a"}, "geometry": {"type": "Point", "coordinates": [0, 0]}}]}"#,
            "Polygon",
        ),
    ] {
        std::fs::write(&file, content).unwrap();
        let error = run(&mut command(&["demo", "--regions", path, "--deliveries", "1"]), b"");
        assert_eq!(error.status.code(), Some(1), "{error:?}");
        assert!(error.stderr.contains(said), "{error:?}");
        let data = dir.path().join("data");
        let data = data.to_str().unwrap();
        let dev = ["dev", "--data-dir", data, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let dev = [&dev[..], &["--pipeline", "delivery-day", "--regions", path]].concat();
        let error = run(&mut command(&dev), b"");
        assert_eq!(error.status.code(), Some(1), "{error:?}");
        assert!(error.stderr.contains(said), "{error:?}");
    }
}

/// Mounts a small file system for one process, as root or in a namespace of its own.
fn small_disk(dir: &str) -> Option<Vec<String>> {
    let mount = format!("mount -t tmpfs -o size=384m sunseo-test {dir}");
    for unshare in [&["unshare", "-m"][..], &["unshare", "-Urm"]] {
        let tried = Command::new(unshare[0]).args(&unshare[1..]).args(["sh", "-c", &mount]).output();
        if tried.is_ok_and(|output| output.status.success()) {
            let script = format!("{mount} && exec \"$@\"");
            let words = unshare.iter().copied().chain(["sh", "-c", &script, "sh"]);
            return Some(words.map(str::to_owned).collect());
        }
    }
    eprintln!("skipped: this machine lets nobody mount a small file system (unshare -m)");
    None
}

/// Records of 1 MiB that are sent at a time.
const RECORDS: usize = 8;

#[test]
fn a_full_disk_refuses_appends_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let Some(wrapper) = small_disk(dir.path().to_str().unwrap()) else { return };
    let data_dir = dir.path().join("node");
    let mut node = Node::wrapped(&wrapper, &data_dir);
    node.run(&["topic", "create", "t", "-p", "1"]).ok();
    node.run_with(&["produce", "t"], b"kept\n").ok();
    // the node leaves 256 MiB free for itself
    let lines = format!("{}\n", "x".repeat(1 << 20)).repeat(RECORDS);
    let mut acknowledged = 0;
    let error = loop {
        let mut producing = node.command(&["produce", "t", "--timeout", "3"]);
        let ran = run(&mut producing, lines.as_bytes());
        if !ran.status.success() {
            break ran.fails_with(1);
        }
        acknowledged += RECORDS;
        assert!(acknowledged < 400, "384 MiB do not hold 400 records of 1 MiB");
    };
    assert!(error.contains("DISK_FULL"), "{error}");
    assert!(node.is_running(), "{}", node.log());
    let read = node.run(&["consume", "t", "-f", "%V "]).ok();
    let lengths: Vec<&str> = read.text().split_whitespace().collect();
    assert_eq!(lengths[0], "4");
    assert!(
        lengths.len() > acknowledged,
        "{acknowledged} were acknowledged, {} are there",
        lengths.len() - 1
    );
}
