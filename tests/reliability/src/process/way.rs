//! The way of one client to a real node: gRPC that stands still at times.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sunseo_client::{Error, ErrorCode, Result, SharedTransport, Transport};
use sunseo_proto::v1;

use crate::load::Way;
use crate::requests::pass_on;

/// Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Gated {
    inner: SharedTransport,
    /// Held while the way stands still; fair, so that requests keep their order.
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Gated {
    pub(super) fn new(inner: SharedTransport) -> Self {
        Self { inner, gate: Arc::default() }
    }

    /// Sends a request on its way; it arrives even if nobody waits for its answer any more.
    fn pass<Q, R>(
        &self,
        request: Q,
        call: fn(SharedTransport, Q) -> BoxFuture<'static, Result<R>>,
    ) -> BoxFuture<'static, Result<R>>
    where
        Q: Send + 'static,
        R: Send + 'static,
    {
        let (inner, gate) = (Arc::clone(&self.inner), Arc::clone(&self.gate));
        let arrives = tokio::spawn(async move {
            drop(gate.lock().await);
            call(inner, request).await
        });
        let lost = |_| Err(Error::new(ErrorCode::Unavailable, "the request was given up"));
        async move { arrives.await.unwrap_or_else(lost) }.boxed()
    }
}

impl Way for Gated {
    fn stand_still(&self, time: Duration) {
        let gate = Arc::clone(&self.gate);
        tokio::spawn(async move {
            let _held = gate.lock().await;
            tokio::time::sleep(time).await;
        });
    }
}

impl Transport for Gated {
    fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>> {
        self.inner.produce(request)
    }

    fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>> {
        self.inner.fetch(request)
    }

    sunseo_client::each_request!(pass_on);
}
