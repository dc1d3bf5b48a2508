//! One node out of its parts. The only file that knows every part, and the order in which they start and stop.
//!
//! Start: sockets are bound (a port that is taken is known before the disk is touched), HTTP answers "starting", the broker recovers
//! its logs, its handle becomes a client's transport, outbox and engine start as clients of it, pipelines are deployed, gRPC serves,
//! and the node is ready. Stop is the reverse, so that whoever produces ends before the log does.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sunseo_broker::Broker;
use sunseo_broker::grpc::connections::Connections;
use sunseo_client::Client;
use sunseo_engine::Engine;
use sunseo_outbox::Outbox;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::NodeConfig;
use crate::door::Door;
use crate::grpc::GrpcServer;
use crate::http::{Gateway, HttpListener, Parts};
use crate::pipelines;

/// A running node. Dropped without [`stop`](Self::stop) it ends as by a crash.
#[derive(Debug)]
pub struct Node {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    gateway: Arc<Gateway>,
    grpc_server: GrpcServer,
    http_stop: CancellationToken,
    http_task: AbortOnDropHandle<()>,
    _memory_task: AbortOnDropHandle<()>,
    outbox: Outbox,
    engine: Engine,
    broker: Broker,
}

impl Node {
    /// Starts everything; returns when requests are served.
    ///
    /// # Errors
    /// The first thing that stands in the way, with the remedy.
    pub async fn start(config: NodeConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let (grpc_listener, grpc) = bind("listen.grpc", config.listen.grpc).await?;
        let (http_listener, http) = bind("listen.http", config.listen.http).await?;
        let gateway = Arc::new(Gateway::new(metrics()?));
        let http_stop = CancellationToken::new();
        let seats = |name| Connections::new(name, config.listen.connections);
        let http_task = serve_http(HttpListener::new(http_listener, seats("http")), &gateway, &http_stop);

        let broker = Broker::start(config.broker, Arc::clone(&clock)).await?;
        let client = Client::new(Arc::new(Door(broker.handle())));
        let outbox = Outbox::start(config.outbox, client.clone(), Arc::clone(&clock)).await?;
        let engine = Engine::start(config.engine, client.clone(), clock).await?;
        pipelines::deploy(&engine, &client, &config.pipelines).await?;

        let (seats, http2) = (seats("grpc"), config.listen.http2);
        let served =
            GrpcServer::start(grpc_listener, seats, http2, broker.handle(), outbox.clone(), engine.clone());
        let grpc_server = served.map_err(|error| Error::internal(format!("gRPC reflection: {error}")))?;
        gateway.ready(Parts {
            client,
            outbox: outbox.clone(),
            engine: engine.clone(),
            broker: broker.handle(),
            body_bytes_max: config.listen.http_body_bytes_max,
        });
        let _memory_task = AbortOnDropHandle::new(tokio::spawn(crate::memory::give_back_when_quiet()));
        Ok(Self {
            grpc,
            http,
            gateway,
            grpc_server,
            http_stop,
            http_task,
            _memory_task,
            outbox,
            engine,
            broker,
        })
    }

    /// Stops in order; what was acknowledged is on disk in any case.
    ///
    /// # Errors
    /// When the last checkpoint could not be written; the next start recovers as after a crash.
    pub async fn stop(self) -> Result<()> {
        self.gateway.stopping();
        self.grpc_server.stopping().await;
        self.grpc_server.stop().await;
        if let Err(error) = self.engine.shutdown().await {
            tracing::warn!(%error, "the engine's state was not flushed: the next start replays more");
        }
        self.outbox.shutdown().await;
        self.http_stop.cancel();
        let served = self.broker.shutdown().await;
        drop(self.http_task);
        served
    }
}

async fn bind(key: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let refused = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another process has it, perhaps a node that runs already; choose another port, or 0 for a free one"
            }
            _ => "choose an address of this machine",
        };
        Error::new(ErrorCode::InvalidArgument, format!("cannot listen on {address}: {error}: {remedy}"))
            .at(key)
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

fn serve_http(
    listener: HttpListener,
    gateway: &Arc<Gateway>,
    stop: &CancellationToken,
) -> AbortOnDropHandle<()> {
    let router = crate::http::router(Arc::clone(gateway));
    let stopped = stop.clone().cancelled_owned();
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "the HTTP server ended");
        }
    }))
}

/// The recorder of this process; nodes of one process share it.
fn metrics() -> Result<PrometheusHandle> {
    static RECORDER: OnceLock<std::result::Result<PrometheusHandle, String>> = OnceLock::new();
    let install = || PrometheusBuilder::new().install_recorder().map_err(|error| error.to_string());
    RECORDER.get_or_init(install).clone().map_err(|error| Error::internal(format!("metrics: {error}")))
}
