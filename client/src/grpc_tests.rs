//! The gRPC door against a real tonic server over the fake broker, on a runtime of its own that can be killed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_proto::v1::broker_server::{Broker, BrokerServer};
use sunseo_proto::v1::outbox_server::{Outbox, OutboxServer};
use sunseo_proto::{Error, ErrorCode, Record, v1};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

use crate::ConsumerConfig;
use crate::client::Client;
use crate::producer::ProducerConfig;
use crate::testing::{Faults, MemoryTransport};
use crate::transport::Transport;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Reply<T> = Result<Response<T>, Status>;

/// Epoch, and the accepted sequences in order, per shard.
type Shards = Arc<Mutex<HashMap<String, (i32, Vec<i64>)>>>;

#[derive(Clone)]
struct Service {
    fake: MemoryTransport,
    shards: Shards,
}

#[tonic::async_trait]
impl Broker for Service {
    type ProduceStream = Answers<v1::ProduceResponse>;
    type FetchStream = Answers<v1::FetchResponse>;

    async fn metadata(&self, request: Request<v1::MetadataRequest>) -> Reply<v1::MetadataResponse> {
        Ok(Response::new(self.fake.metadata(request.into_inner()).await?))
    }

    async fn produce(&self, request: Request<Streaming<v1::ProduceRequest>>) -> Reply<Self::ProduceStream> {
        let fake = self.fake.clone();
        let answer = move |request: Result<v1::ProduceRequest, Status>| {
            let answer = request.map(|request| (request.correlation_id, fake.produce(request)));
            async move {
                let (correlation_id, answer) = answer?;
                Ok(v1::ProduceResponse { correlation_id, ..answer.await? })
            }
        };
        Ok(Response::new(request.into_inner().map(answer).buffered(64).boxed()))
    }

    async fn fetch(&self, request: Request<Streaming<v1::FetchRequest>>) -> Reply<Self::FetchStream> {
        let fake = self.fake.clone();
        let answer = move |request: Result<v1::FetchRequest, Status>| {
            let answer = request.map(|request| (request.correlation_id, fake.fetch(request)));
            async move {
                let (correlation_id, answer) = answer?;
                Ok(v1::FetchResponse { correlation_id, ..answer.await? })
            }
        };
        Ok(Response::new(request.into_inner().map(answer).buffer_unordered(64).boxed()))
    }

    async fn list_offsets(&self, request: Request<v1::ListOffsetsRequest>) -> Reply<v1::ListOffsetsResponse> {
        Ok(Response::new(self.fake.list_offsets(request.into_inner()).await?))
    }

    async fn init_producer(
        &self,
        request: Request<v1::InitProducerRequest>,
    ) -> Reply<v1::InitProducerResponse> {
        Ok(Response::new(self.fake.init_producer(request.into_inner()).await?))
    }
}

fn ingest(shards: &Shards, request: &v1::IngestRequest) -> v1::IngestResponse {
    let mut shards = shards.lock().expect("lock");
    let (epoch, accepted) = shards.entry(request.shard.clone()).or_default();
    let mut response = v1::IngestResponse::default();
    let refuse = |code| Some(Error::new(code, "scripted").into());
    for event in &request.events {
        let last = accepted.last().copied().unwrap_or_default();
        if request.epoch < *epoch {
            response.error = refuse(ErrorCode::ProducerFenced);
        } else if event.sequence > last + 1 {
            (response.error, response.expected) = (refuse(ErrorCode::SequenceGap), last + 1);
        } else if event.id == "poison" {
            response.error = refuse(ErrorCode::InvalidArgument);
        } else if event.sequence <= last {
            response.duplicates += 1;
        } else {
            accepted.push(event.sequence);
        }
    }
    response.accepted_through = accepted.last().copied().unwrap_or_default();
    response
}

macro_rules! not_served {
    ($($name:ident: $request:ident -> $response:ident;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            _request: Request<v1::$request>,
        ) -> futures::future::BoxFuture<'async_trait, Reply<v1::$response>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Status::unimplemented("not part of the fake")) })
        }
    )*};
}

#[tonic::async_trait]
impl Outbox for Service {
    type IngestStream = Answers<v1::IngestResponse>;

    async fn ingest(&self, request: Request<Streaming<v1::IngestRequest>>) -> Reply<Self::IngestStream> {
        let shards = Arc::clone(&self.shards);
        Ok(Response::new(request.into_inner().map(move |request| Ok(ingest(&shards, &request?))).boxed()))
    }

    async fn state(&self, request: Request<v1::IngestStateRequest>) -> Reply<v1::IngestStateResponse> {
        let mut shards = self.shards.lock().expect("lock");
        let (epoch, accepted) = shards.entry(request.into_inner().shard).or_default();
        let accepted_through = accepted.last().copied().unwrap_or_default();
        Ok(Response::new(v1::IngestStateResponse { epoch: *epoch, accepted_through }))
    }

    async fn open(&self, request: Request<v1::IngestOpenRequest>) -> Reply<v1::IngestStateResponse> {
        let v1::IngestOpenRequest { source, shard } = request.into_inner();
        self.shards.lock().expect("lock").entry(shard.clone()).or_default().0 += 1;
        self.state(Request::new(v1::IngestStateRequest { source, shard })).await
    }

    not_served! {
        list_sources: ListSourcesRequest -> ListSourcesResponse;
        add_source: AddSourceRequest -> AddSourceResponse;
        describe_source: DescribeSourceRequest -> DescribeSourceResponse;
        pause_source: SourceRequest -> SourceResponse;
        resume_source: SourceRequest -> SourceResponse;
        remove_source: SourceRequest -> SourceResponse;
        verify_source: SourceRequest -> VerifySourceResponse;
    }
}

/// A server that can be killed with all its connections and started again at the same address.
struct Server {
    service: Service,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    async fn start(topics: &[(&str, i32)]) -> Self {
        let service = Service {
            fake: MemoryTransport::new(1, Faults::default()).with_topics(topics),
            shards: Shards::default(),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { service, address, runtime: None };
        server.serve().await;
        server
    }

    async fn serve(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        let (address, service) = (self.address, self.service.clone());
        let bound = runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind(address).await.expect("the port is free");
            let address = listener.local_addr().expect("bound");
            let limit = crate::grpc_transport::MAX_MESSAGE_BYTES;
            let router = tonic::transport::Server::builder()
                .add_service(BrokerServer::new(service.clone()).max_decoding_message_size(limit))
                .add_service(OutboxServer::new(service));
            tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
            address
        });
        self.address = bound.await.expect("bound");
        self.runtime = Some(runtime);
    }

    async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // its connections are closed when this returns
            let killed =
                tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)));
            killed.await.expect("shut down");
        }
    }

    async fn connect(&self) -> Client {
        Client::connect(self.address.to_string()).await.expect("connects")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn values(fake: &MemoryTransport, partition: usize) -> Vec<usize> {
    let text = |r: Record| String::from_utf8(r.value.expect("value").to_vec()).expect("utf-8");
    fake.partition_records("orders", partition)
        .into_iter()
        .map(|r| text(r).parse().expect("number"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_land_once_and_in_order_though_the_server_is_killed_under_them() {
    let mut server = Server::start(&[("orders", 2)]).await;
    let client = server.connect().await;
    let config = ProducerConfig { batch_bytes: 2000, linger_ms: 0, ..ProducerConfig::default() };
    let producer = Arc::new(client.producer(config).expect("valid"));
    let sending = tokio::spawn({
        let producer = Arc::clone(&producer);
        async move {
            let mut acks = Vec::new();
            for n in 0..20_000 {
                let record = Record::new("key", n.to_string(), 0);
                acks.push(producer.send_to("orders", Some(n % 2), record).await.expect("queued"));
                if n % 1000 == 0 {
                    producer.flush().await.expect("delivered");
                }
            }
            acks
        }
    });
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..5 {
        let far = values(&server.service.fake, 0).len() + rng.random_range(1..1000);
        while values(&server.service.fake, 0).len() < far.min(9_000) {
            tokio::task::yield_now().await;
        }
        server.kill().await;
        server.serve().await;
    }
    for ack in sending.await.expect("sent") {
        ack.await.expect("delivered");
    }
    for partition in 0..2 {
        let expected: Vec<_> = (0..20_000).filter(|n| n % 2 == partition).collect();
        assert_eq!(values(&server.service.fake, partition), expected);
    }
    let mut consumer = client.consumer(ConsumerConfig::topics(["orders"])).await.expect("starts");
    let mut read = 0;
    while read < 20_000 {
        read += consumer.poll(Duration::from_secs(10)).await.expect("readable").len();
    }
}

fn events(count: usize) -> Vec<v1::OutboxEvent> {
    vec![v1::OutboxEvent { id: "id".to_owned(), ..Default::default() }; count]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_goes_on_after_the_server_is_killed() {
    let mut server = Server::start(&[]).await;
    let client = server.connect().await.outbox().expect("by gRPC");
    let mut pusher = client.open("shop", "0").await.expect("opens");
    for n in 0..400 {
        pusher.push(events(5)).await.expect("pushed");
        if n % 150 == 149 {
            server.kill().await;
            server.serve().await;
        }
    }
    assert_eq!(pusher.flush().await, Ok(2000));
    let accepted = server.service.shards.lock().expect("lock")["0"].1.clone();
    assert_eq!(accepted, (1..=2000).collect::<Vec<_>>());

    let mut second = client.open("shop", "0").await.expect("opens");
    assert_eq!((second.next_sequence(), second.epoch()), (2001, 2));
    second.push(events(1)).await.expect("pushed");
    second.flush().await.expect("accepted");
    let fenced = match pusher.push(events(1)).await {
        Ok(_) => pusher.flush().await,
        Err(error) => Err(error),
    };
    assert_eq!(fenced.map_err(|error| error.code), Err(ErrorCode::ProducerFenced));
    assert_eq!(
        pusher.push(events(1)).await.map_err(|error| error.code),
        Err(ErrorCode::ProducerFenced),
        "for good"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_event_ends_the_push_with_what_was_accepted() {
    let server = Server::start(&[]).await;
    let client = server.connect().await.outbox().expect("by gRPC");
    let mut pusher = client.open("shop", "0").await.expect("opens");
    let mut bad = events(3);
    bad[2].id = "poison".to_owned();
    pusher.push(bad).await.expect("sent");
    assert_eq!(pusher.flush().await.map_err(|error| error.code), Err(ErrorCode::InvalidArgument));
    assert_eq!(pusher.accepted_through(), 2);
    let mut again = client.open("shop", "0").await.expect("opens");
    let mut gap = events(1);
    gap[0].sequence = 9;
    assert_eq!(again.push(gap).await.map_err(|error| error.code), Err(ErrorCode::SequenceGap));
}

#[tokio::test]
async fn a_wrong_address_is_named_with_what_to_do() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let error = Client::connect(free.to_string()).await.map(drop).expect_err("nobody listens");
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains(&free.to_string()) && error.message.contains("refused"), "{error}");
    for bad in ["https://localhost:1", "not an address", ""] {
        let error = Client::connect(bad).await.map(drop).expect_err("no address");
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{bad}: {error}");
    }
    let in_process = MemoryTransport::new(1, Faults::default()).client();
    assert_eq!(in_process.query().map(drop).map_err(|error| error.code), Err(ErrorCode::Unsupported));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_does_not_serve_is_told() {
    let server = Server::start(&[("orders", 1)]).await;
    let client = server.connect().await;
    let error = client.admin().topics(false).await.expect_err("no Admin service here");
    assert_eq!(error.code, ErrorCode::Unsupported);
    assert!(error.message.contains(&server.address.to_string()), "{error}");
    assert_eq!(client.partitions("riders").await.map_err(|error| error.code), Err(ErrorCode::UnknownTopic));
}
