//! The HTTP server's socket, within the bounds of connections.

use std::net::SocketAddr;
use std::sync::Arc;

use sunseo_broker::grpc::connections::{Connections, Guarded};
use tokio::net::TcpListener;

/// A socket that takes no more connections than it may.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    connections: Arc<Connections>,
}

impl HttpListener {
    pub fn new(listener: TcpListener, connections: Arc<Connections>) -> Self {
        Self { listener, connections }
    }
}

impl axum::serve::Listener for HttpListener {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        let guarded = self.connections.accept(&self.listener).await;
        let peer = guarded.peer();
        (guarded, peer)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
