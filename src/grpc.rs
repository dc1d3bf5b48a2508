//! The gRPC server: every service of the node, standard health and reflection.

use std::time::Duration;

use sunseo_broker::BrokerHandle;
use sunseo_engine::Engine;
use sunseo_outbox::Outbox;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Windows that keep a stream of large batches flowing; the default of 64 KiB makes it thirty times as slow.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const FRAME_BYTES_MAX: u32 = 1 << 20;
const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);

/// Streams of one connection.
const STREAMS_MAX: u32 = 1_024;

/// A silent connection is probed this often, and closed when a probe stays without answer for as long again.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Streams live as long as their clients; after this time a server that stops ends them.
const GRACE: Duration = Duration::from_millis(500);

/// A server that runs; dropped, it ends at once.
#[derive(Debug)]
pub struct GrpcServer {
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl GrpcServer {
    /// Serves on a socket that is bound already.
    ///
    /// # Errors
    /// When the descriptions of the services do not decode, which is a defect of the build.
    pub fn start(
        listener: TcpListener,
        broker: BrokerHandle,
        outbox: Outbox,
        engine: Engine,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(sunseo_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let (health, health_service) = tonic_health::server::health_reporter();
        let router = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_concurrent_streams(STREAMS_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_service(health_service)
            .add_service(reflection)
            .add_service(sunseo_broker::grpc::broker_server(broker.clone()))
            .add_service(sunseo_broker::grpc::groups_server(broker.clone()))
            .add_service(sunseo_broker::grpc::transactions_server(broker.clone()))
            .add_service(sunseo_broker::grpc::admin_server(broker))
            .add_service(sunseo_outbox::grpc::outbox_server(outbox))
            .add_service(sunseo_engine::grpc::pipelines_server(engine.clone()))
            .add_service(sunseo_engine::grpc::query_server(engine));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let task = tokio::spawn(async move {
            for service in SERVICES {
                health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
            }
            if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
                tracing::error!(%error, "the gRPC server ended");
            }
        });
        Ok(Self { stop, task: AbortOnDropHandle::new(task) })
    }

    /// Takes no new connection, tells the clients to go, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        // a client that stays is cut off when the handle is dropped
        let _ = tokio::time::timeout(GRACE, self.task).await;
    }
}

/// Names for the health service.
const SERVICES: [&str; 7] = [
    "sunseo.v1.Broker",
    "sunseo.v1.Groups",
    "sunseo.v1.Transactions",
    "sunseo.v1.Admin",
    "sunseo.v1.Outbox",
    "sunseo.v1.Pipelines",
    "sunseo.v1.Query",
];
