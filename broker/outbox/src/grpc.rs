//! The service `sunseo.v1.Outbox` over [`Outbox`]: a thin layer.
//!
//! An ingest stream is not read while [`INGEST_IN_FLIGHT_MAX`] of its requests are without an answer, so a client that pushes
//! too fast is slowed down by flow control. Answers leave in the order of the requests; shards do not wait for each other.

use futures::FutureExt as _;
use futures::stream::{BoxStream, StreamExt as _};
use sunseo_proto::error::Result;
use sunseo_proto::v1;
use sunseo_proto::v1::outbox_server::{Outbox as Rpc, OutboxServer};
use tonic::{Request, Response, Status, Streaming};

use crate::Outbox;
use crate::config::{INGEST_BYTES_MAX, INGEST_IN_FLIGHT_MAX};

/// Implements the service.
#[derive(Clone, Debug)]
pub struct Service {
    outbox: Outbox,
}

/// Room for what surrounds the events of the largest push.
const MESSAGE_BYTES_MAX: usize = INGEST_BYTES_MAX + (1 << 20);

/// The service, for a tonic server.
#[must_use]
pub fn outbox_server(outbox: Outbox) -> OutboxServer<Service> {
    OutboxServer::new(Service { outbox })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

type Answer<T> = std::result::Result<Response<T>, Status>;

fn answer<T>(result: Result<T>) -> Answer<T> {
    result.map(Response::new).map_err(Status::from)
}

fn source(result: Result<v1::SourceStatus>) -> Answer<v1::SourceResponse> {
    answer(result.map(|source| v1::SourceResponse { source: Some(source) }))
}

#[tonic::async_trait]
impl Rpc for Service {
    type IngestStream = BoxStream<'static, std::result::Result<v1::IngestResponse, Status>>;

    async fn ingest(&self, request: Request<Streaming<v1::IngestRequest>>) -> Answer<Self::IngestStream> {
        let outbox = self.outbox.clone();
        // requests are queued one after the other, so that those of one shard keep their order
        let answers = request
            .into_inner()
            .then(move |request| {
                let outbox = outbox.clone();
                async move {
                    match request {
                        Ok(request) => outbox.submit(request).await.map(Ok).boxed(),
                        Err(status) => std::future::ready(Err(status)).boxed(),
                    }
                }
            })
            .buffered(INGEST_IN_FLIGHT_MAX);
        Ok(Response::new(answers.boxed()))
    }

    async fn state(&self, request: Request<v1::IngestStateRequest>) -> Answer<v1::IngestStateResponse> {
        let v1::IngestStateRequest { source, shard } = request.into_inner();
        answer(self.outbox.state(&source, &shard).await)
    }

    async fn open(&self, request: Request<v1::IngestOpenRequest>) -> Answer<v1::IngestStateResponse> {
        let v1::IngestOpenRequest { source, shard } = request.into_inner();
        answer(self.outbox.open(&source, &shard).await)
    }

    async fn list_sources(&self, _: Request<v1::ListSourcesRequest>) -> Answer<v1::ListSourcesResponse> {
        Ok(Response::new(v1::ListSourcesResponse { sources: self.outbox.list().await }))
    }

    async fn add_source(&self, request: Request<v1::AddSourceRequest>) -> Answer<v1::AddSourceResponse> {
        let definition = request.into_inner().definition.unwrap_or_default();
        let added = self.outbox.add(definition).await;
        answer(added.map(|source| v1::AddSourceResponse { source: Some(source) }))
    }

    async fn describe_source(
        &self,
        request: Request<v1::DescribeSourceRequest>,
    ) -> Answer<v1::DescribeSourceResponse> {
        let found = self.outbox.describe(&request.into_inner().name).await;
        answer(found.map(|source| v1::DescribeSourceResponse { source: Some(source) }))
    }

    async fn pause_source(&self, request: Request<v1::SourceRequest>) -> Answer<v1::SourceResponse> {
        source(self.outbox.pause(&request.into_inner().name).await)
    }

    async fn resume_source(&self, request: Request<v1::SourceRequest>) -> Answer<v1::SourceResponse> {
        source(self.outbox.resume(&request.into_inner().name).await)
    }

    async fn remove_source(&self, request: Request<v1::SourceRequest>) -> Answer<v1::SourceResponse> {
        source(self.outbox.remove(&request.into_inner().name).await)
    }

    async fn verify_source(&self, request: Request<v1::SourceRequest>) -> Answer<v1::VerifySourceResponse> {
        answer(self.outbox.verify(&request.into_inner().name).await)
    }
}
