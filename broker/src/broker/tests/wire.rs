//! The node over real sockets, with the generated client and with raw bytes.

use std::net::SocketAddr;

use bytes::{Buf as _, BufMut as _, Bytes};
use futures::stream;
use sunseo_proto::error::{Error, ErrorCode};
use sunseo_proto::v1;
use sunseo_proto::v1::broker_client::BrokerClient;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Server};
use tonic::{Request, Status};

use super::support::*;
use crate::grpc::connections::{ConnectionLimits, Connections};
use crate::{Broker, BrokerHandle, grpc};

pub(super) struct Wire {
    _broker: Broker,
    pub(super) handle: BrokerHandle,
    pub(super) channel: Channel,
    server: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Wire {
    pub(super) async fn start(world: &World) -> Self {
        let broker = world.start().await;
        let handle = broker.handle();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let services = Server::builder()
            .initial_stream_window_size(grpc::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(grpc::CONNECTION_WINDOW_BYTES)
            .max_frame_size(grpc::FRAME_BYTES_MAX)
            .add_service(grpc::broker_server(handle.clone()))
            .add_service(grpc::admin_server(handle.clone()))
            .add_service(grpc::groups_server(handle.clone()));
        let server = tokio::spawn(async move {
            let connections = Connections::new("test", ConnectionLimits::default());
            services.serve_with_incoming(connections.incoming(listener)).await.unwrap();
        });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { _broker: broker, handle, channel, server }
    }

    pub(super) fn broker(&self) -> BrokerClient<Channel> {
        BrokerClient::new(self.channel.clone())
            .max_decoding_message_size(128 << 20)
            .max_encoding_message_size(128 << 20)
    }

    async fn produce_all(
        &self,
        requests: Vec<v1::ProduceRequest>,
    ) -> Vec<Result<v1::ProduceResponse, Status>> {
        let mut answers = match self.broker().produce(stream::iter(requests)).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return vec![Err(status)],
        };
        let mut all = Vec::new();
        loop {
            match answers.message().await {
                Ok(Some(answer)) => all.push(Ok(answer)),
                Ok(None) => return all,
                Err(status) => {
                    all.push(Err(status));
                    return all;
                }
            }
        }
    }

    /// The next good request works: one value in, the same value out.
    async fn still_works(&self, topic: &str) {
        let request = v1::ProduceRequest {
            correlation_id: 77,
            partitions: vec![part(topic, 0, batch_of(["good"]))],
            ..Default::default()
        };
        let answer = self.produce_all(vec![request]).await.remove(0).unwrap();
        assert_eq!((answer.correlation_id, &answer.error, &answer.results[0].error), (77, &None, &None));
        let from = answer.results[0].base_offset;
        let request =
            v1::FetchRequest { correlation_id: 78, ..fetch_request(vec![asked(topic, 0, from)], 1_000) };
        let mut answers = self.broker().fetch(stream::iter([request])).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.correlation_id, &answer.results[0].error), (78, &None));
        assert!(!answer.results[0].batches.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipelined_stream_is_answered_in_order() {
    let world = World::new(21);
    let wire = Wire::start(&world).await;
    create(&wire.handle, "orders", &[]).await;
    let request = |n: u64| v1::ProduceRequest {
        correlation_id: 1_000 + n,
        partitions: vec![part("orders", (n % 2) as i32, batch_of([n.to_string()]))],
        ..Default::default()
    };
    let answers = wire.produce_all((0..1_000).map(request).collect()).await;
    assert_eq!(answers.len(), 1_000);
    for (n, answer) in answers.into_iter().enumerate() {
        let answer = answer.unwrap();
        assert_eq!((answer.correlation_id, answer.results[0].base_offset), (1_000 + n as u64, n as i64 / 2));
    }
    let values: Vec<String> = (0..1_000).filter(|n| n % 2 == 1).map(|n| n.to_string()).collect();
    assert_eq!(read(&wire.handle, "orders", 1).await, values);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_share_of_memory_slows_a_stream_down_and_stops_nothing() {
    let mut world = World::new(22);
    world.config.limits.stream_bytes_in_flight_max = 4_000;
    world.config.limits.produce_bytes_in_flight_max = 3_000;
    world.config.limits.produce_requests_in_flight_max = 4;
    let wire = Wire::start(&world).await;
    create(&wire.handle, "orders", &[]).await;
    let request = |n: u64| v1::ProduceRequest {
        correlation_id: n,
        partitions: vec![part("orders", 0, batch_of([vec![b'x'; 10 + (n as usize * 37) % 5_000]]))],
        ..Default::default()
    };
    let several = (0..4).map(|_| wire.produce_all((0..100).map(request).collect()));
    for answers in futures::future::join_all(several).await {
        let ids: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().correlation_id).collect();
        assert_eq!(ids, (0..100).collect::<Vec<u64>>());
    }
    assert_eq!(offset_at(&wire.handle, "orders", 0, -1).await, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetches_are_answered_as_they_become_ready() {
    let world = World::new(23);
    let wire = Wire::start(&world).await;
    create(&wire.handle, "orders", &[]).await;
    produce(&wire.handle, "orders", 1, batch_of(["there"])).await;
    let (requests, stream) = mpsc::channel(4);
    let waits = v1::FetchRequest { correlation_id: 1, ..fetch_request(vec![asked("orders", 0, 0)], 60_000) };
    let ready = v1::FetchRequest { correlation_id: 2, ..fetch_request(vec![asked("orders", 1, 0)], 60_000) };
    requests.send(waits).await.unwrap();
    requests.send(ready).await.unwrap();
    let mut answers = wire.broker().fetch(ReceiverStream::new(stream)).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().correlation_id, 2);
    produce(&wire.handle, "orders", 0, batch_of(["now"])).await;
    let late = answers.message().await.unwrap().unwrap();
    assert_eq!(late.correlation_id, 1);
    assert!(!late.results[0].batches.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_request_has_one_clear_error_and_the_next_good_one_works() {
    let mut world = World::new(24);
    world.config.limits.request_partitions_max = 3;
    let wire = Wire::start(&world).await;
    create(&wire.handle, "orders", &[("max_batch_bytes", "2000")]).await;
    let good = batch_of(["v"]);
    let mut damaged = good.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let mut control = good.to_vec();
    control[22] |= 1 << 5;
    let empty_list = v1::ProducePartition {
        topic: "orders".into(),
        records: Some(v1::RecordList::default()),
        ..Default::default()
    };
    use ErrorCode::{BatchTooLarge, CorruptBatch, InvalidArgument, UnknownPartition, UnknownTopic};
    let bad = [
        ("wrong checksum", part("orders", 0, damaged.into()), CorruptBatch),
        ("cut off", part("orders", 0, good.slice(..good.len() - 3)), CorruptBatch),
        ("noise", part("orders", 0, Bytes::from_static(&[7; 100])), CorruptBatch),
        ("too large", part("orders", 0, batch_of([[0; 2_000]])), BatchTooLarge),
        ("two batches", part("orders", 0, [good.clone(), good.clone()].concat().into()), CorruptBatch),
        ("control batch under a wrong checksum", part("orders", 0, control.into()), CorruptBatch),
        ("unknown topic", part("nowhere", 0, good.clone()), UnknownTopic),
        ("negative partition", part("orders", -1, good.clone()), UnknownPartition),
        ("no records", empty_list, InvalidArgument),
        (
            "neither form",
            v1::ProducePartition { topic: "orders".into(), ..Default::default() },
            InvalidArgument,
        ),
    ];
    for (name, bad, expected) in bad {
        let requests =
            vec![produce_request(vec![bad]), produce_request(vec![part("orders", 0, good.clone())])];
        let answers = wire.produce_all(requests).await;
        let results: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().results.remove(0)).collect();
        assert_eq!(code(&results[0].error), Some(expected), "{name}");
        assert!(results[0].error.as_ref().unwrap().field.starts_with("partitions[0]."), "{name}");
        assert_eq!(results[1].error, None, "{name}");
    }
    let many = produce_request(vec![part("orders", 0, good.clone()); 4]);
    let answer = wire.produce_all(vec![many]).await.remove(0).unwrap();
    assert_eq!((code(&answer.error), answer.results.len()), (Some(InvalidArgument), 0));
    wire.still_works("orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_the_limit_ends_its_stream_with_a_reason() {
    let mut world = World::new(25);
    world.config.limits.message_bytes_max = 66 << 20;
    let wire = Wire::start(&world).await;
    create(&wire.handle, "orders", &[]).await;
    let good = produce_request(vec![part("orders", 0, batch_of(["v"]))]);
    let large = produce_request(vec![part("orders", 0, batch_of([vec![0; 67 << 20]]))]);
    let answers = wire.produce_all(vec![good, large]).await;
    assert_eq!(answers[0].as_ref().unwrap().results[0].error, None);
    let error = Error::from(answers[1].clone().unwrap_err());
    assert_eq!(error.code, ErrorCode::BatchTooLarge, "{error}");
    wire.still_works("orders").await;
}

/// Sends bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_message_end_their_stream_and_nothing_else() {
    let world = World::new(26);
    let wire = Wire::start(&world).await;
    create(&wire.handle, "orders", &[]).await;
    // another stream on the same connection is open all the while
    let (requests, stream) = mpsc::channel(4);
    let good = produce_request(vec![part("orders", 0, batch_of(["v"]))]);
    requests.send(good.clone()).await.unwrap();
    let mut bystander = wire.broker().produce(ReceiverStream::new(stream)).await.unwrap().into_inner();
    bystander.message().await.unwrap().unwrap();
    for method in ["Produce", "Fetch", "ListOffsets"] {
        let path = PathAndQuery::try_from(format!("/sunseo.v1.Broker/{method}")).unwrap();
        let mut raw = tonic::client::Grpc::new(wire.channel.clone());
        raw.ready().await.unwrap();
        let bytes = stream::iter([Bytes::from_static(&[0xFF; 40])]);
        let error = match raw.streaming(Request::new(bytes), path, Raw).await {
            Err(status) => status,
            Ok(answers) => answers.into_inner().message().await.unwrap_err(),
        };
        if method != "ListOffsets" {
            // a unary call is refused by the framework, in its own words
            let error = Error::from(error);
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{method}: {error}");
        }
        requests.send(good.clone()).await.unwrap();
        assert_eq!(bystander.message().await.unwrap().unwrap().results[0].error, None, "{method}");
    }
    wire.still_works("orders").await;
}
