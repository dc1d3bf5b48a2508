//! Produce and fetch before tonic's codec, which would copy every batch once more ([`sunseo_proto::stream_codec`]).
//!
//! Everything else goes on to the service behind, which these two calls never reach.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use futures::stream::BoxStream;
use sunseo_proto::stream_codec::{FETCH, Gather, Incoming, Outgoing, PRODUCE};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{self, HeaderValue, header};
use tonic::metadata::MetadataValue;
use tonic::server::NamedService;

use super::{caller, streams};
use crate::BrokerHandle;

type Answer = Result<http::Response<Body>, Infallible>;

/// A broker's service with the two calls before it.
#[derive(Clone, Debug)]
pub struct Pipelined<S> {
    inner: S,
    handle: BrokerHandle,
}

impl<S> Pipelined<S> {
    pub(super) fn new(handle: BrokerHandle, inner: S) -> Self {
        Self { inner, handle }
    }

    /// The answer to one of the two calls.
    fn stream(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        if let Some(encoding) = request.headers().get("grpc-encoding")
            && encoding != "identity"
        {
            let message = format!("messages with encoding {encoding:?} are not read: send them as they are");
            let mut status = Status::unimplemented(message);
            status.metadata_mut().insert("grpc-accept-encoding", MetadataValue::from_static("identity"));
            return Err(status);
        }
        let (handle, bytes_max) = (self.handle.clone(), self.handle.limits().message_bytes_max);
        let (head, body) = request.into_parts();
        let caller = caller(&head.extensions)?;
        Ok(match head.uri.path() {
            PRODUCE => {
                respond(streams::produce(handle, caller, Incoming::request(body, bytes_max)), bytes_max)
            }
            _ => respond(streams::fetch(handle, caller, Incoming::request(body, bytes_max)), bytes_max),
        })
    }
}

fn respond<M: Gather + Send + 'static>(
    answers: BoxStream<'static, Result<M, Status>>,
    message_bytes_max: usize,
) -> http::Response<Body> {
    let mut response = http::Response::new(Body::new(Outgoing::answer(answers, message_bytes_max)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

impl<S: NamedService> NamedService for Pipelined<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Pipelined<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answer>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path() {
            PRODUCE | FETCH => {
                Either::Left(ready(Ok(self.stream(request).unwrap_or_else(Status::into_http))))
            }
            _ => Either::Right(self.inner.call(request)),
        }
    }
}
