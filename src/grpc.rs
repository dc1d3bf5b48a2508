//! The gRPC server: every service of the node behind the node's bounds, standard health and reflection.

use std::sync::Arc;
use std::time::Duration;

use sunseo_broker::BrokerHandle;
use sunseo_broker::grpc::connections::Connections;
use sunseo_broker::grpc::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, STREAM_WINDOW_BYTES, bounded};
use sunseo_engine::Engine;
use sunseo_outbox::Outbox;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::config::Http2;

const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);

/// Streams that a client has reset and the server has not noticed yet; beyond it the connection is closed (rapid reset).
const RESET_STREAMS_MAX: usize = 64;

/// Streams live as long as their clients; after this time a server that stops ends them.
const GRACE: Duration = Duration::from_millis(500);

/// A server that runs; dropped, it ends at once.
#[derive(Debug)]
pub struct GrpcServer {
    health: HealthReporter,
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
        connections: Arc<Connections>,
        http2: Http2,
        broker: BrokerHandle,
        outbox: Outbox,
        engine: Engine,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let descriptions = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(sunseo_proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        // many tools still ask for the older one
        let (reflection, older_reflection) = (descriptions().build_v1()?, descriptions().build_v1alpha()?);
        let (health, health_service) = tonic_health::server::health_reporter();
        let router = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_concurrent_streams(http2.streams_max)
            .http2_max_header_list_size(http2.header_bytes_max)
            .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_MAX))
            .http2_keepalive_interval(Some(http2.keepalive))
            .http2_keepalive_timeout(Some(http2.keepalive))
            .add_service(health_service)
            .add_service(reflection)
            .add_service(older_reflection)
            .add_service(sunseo_broker::grpc::broker_server(broker.clone()))
            .add_service(sunseo_broker::grpc::groups_server(broker.clone()))
            .add_service(sunseo_broker::grpc::transactions_server(broker.clone()))
            .add_service(sunseo_broker::grpc::admin_server(broker.clone()))
            .add_service(bounded(broker.clone(), sunseo_outbox::grpc::outbox_server(outbox)))
            .add_service(bounded(broker.clone(), sunseo_engine::grpc::pipelines_server(engine.clone())))
            .add_service(bounded(broker, sunseo_engine::grpc::query_server(engine)));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let incoming = connections.incoming(listener);
        let reporter = health.clone();
        let task = tokio::spawn(async move {
            set_all(&reporter, ServingStatus::Serving).await;
            if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
                tracing::error!(%error, "the gRPC server ended");
            }
        });
        Ok(Self { health, stop, task: AbortOnDropHandle::new(task) })
    }

    /// From now on the health service says that the node does not serve; requests that come are still served.
    pub async fn stopping(&self) {
        set_all(&self.health, ServingStatus::NotServing).await;
    }

    /// Takes no new connection, tells the clients to go, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        // a client that stays is cut off when the handle is dropped
        let _ = tokio::time::timeout(GRACE, self.task).await;
    }
}

async fn set_all(health: &HealthReporter, status: ServingStatus) {
    // the empty name is the node as a whole
    for service in SERVICES.into_iter().chain([""]) {
        health.set_service_status(service, status).await;
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
