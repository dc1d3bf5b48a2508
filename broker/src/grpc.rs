//! The node's services over gRPC: a thin layer over [`BrokerHandle`].
//!
//! Streams are pipelined and bounded: a stream is not read while its requests or bytes in flight are at their limit, so a client that
//! sends too fast is slowed down by flow control and never refused. Produce answers leave in the order of the requests,
//! fetch answers as they become ready. A message that does not decode ends its stream, and nothing else.
//!
//! [`bounded()`] puts the bounds of the node before a service: the servers given here have them, those of other crates are wrapped by
//! whoever listens. [`connections`] accepts sockets within their own bounds.
//!
//! Not here: the server. Whoever listens gives it [`STREAM_WINDOW_BYTES`],
//! [`CONNECTION_WINDOW_BYTES`] and [`FRAME_BYTES_MAX`]; with tonic's own defaults a stream is thirty times slower.

mod bounded;
pub mod connections;
mod pipelined;
pub(crate) mod plain_records;
mod streams;

use futures::stream::BoxStream;
use sunseo_proto::error::Result;
use sunseo_proto::v1;
use sunseo_proto::v1::admin_server::{Admin, AdminServer};
use sunseo_proto::v1::broker_server::{Broker, BrokerServer};
use sunseo_proto::v1::groups_server::{Groups, GroupsServer};
use sunseo_proto::v1::transactions_server::{Transactions, TransactionsServer};
use tonic::{Extensions, Request, Response, Status, Streaming};

use self::bounded::Caller;
pub use self::bounded::{Bounded, bounded};
pub use self::pipelined::Pipelined;
use crate::BrokerHandle;

/// Bytes of one stream that may be under way before the receiver has taken them.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// The same for all streams of a connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Largest HTTP/2 frame.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;

/// Implements the four services.
#[derive(Clone, Debug)]
pub struct Service {
    handle: BrokerHandle,
}

type Answer<T> = std::result::Result<Response<T>, Status>;

fn answer<T>(result: Result<T>) -> Answer<T> {
    result.map(Response::new).map_err(Status::from)
}

/// Produce, fetch, metadata.
#[must_use]
pub fn broker_server(handle: BrokerHandle) -> Bounded<Pipelined<BrokerServer<Service>>> {
    let bytes = handle.limits().message_bytes_max;
    let server = BrokerServer::new(Service { handle: handle.clone() });
    let server = server.max_decoding_message_size(bytes).max_encoding_message_size(bytes);
    bounded(handle.clone(), Pipelined::new(handle, server))
}

/// Consumer groups.
#[must_use]
pub fn groups_server(handle: BrokerHandle) -> Bounded<GroupsServer<Service>> {
    let bytes = handle.limits().message_bytes_max;
    let server = GroupsServer::new(Service { handle: handle.clone() });
    bounded(handle, server.max_decoding_message_size(bytes).max_encoding_message_size(bytes))
}

/// Transactions.
#[must_use]
pub fn transactions_server(handle: BrokerHandle) -> Bounded<TransactionsServer<Service>> {
    let bytes = handle.limits().message_bytes_max;
    let server = TransactionsServer::new(Service { handle: handle.clone() });
    bounded(handle, server.max_decoding_message_size(bytes).max_encoding_message_size(bytes))
}

/// Topics, definitions, tier.
#[must_use]
pub fn admin_server(handle: BrokerHandle) -> Bounded<AdminServer<Service>> {
    let bytes = handle.limits().message_bytes_max;
    let server = AdminServer::new(Service { handle: handle.clone() });
    bounded(handle, server.max_decoding_message_size(bytes).max_encoding_message_size(bytes))
}

/// Who calls: every server made here stands behind [`bounded()`].
fn caller(extensions: &Extensions) -> std::result::Result<Caller, Status> {
    extensions.get::<Caller>().cloned().ok_or_else(|| Status::internal("a call without a caller"))
}

#[tonic::async_trait]
impl Broker for Service {
    type ProduceStream = BoxStream<'static, std::result::Result<v1::ProduceResponse, Status>>;
    type FetchStream = BoxStream<'static, std::result::Result<v1::FetchResponse, Status>>;

    async fn produce(&self, _: Request<Streaming<v1::ProduceRequest>>) -> Answer<Self::ProduceStream> {
        Err(Status::unimplemented("served by Pipelined"))
    }

    async fn fetch(&self, _: Request<Streaming<v1::FetchRequest>>) -> Answer<Self::FetchStream> {
        Err(Status::unimplemented("served by Pipelined"))
    }

    async fn metadata(&self, request: Request<v1::MetadataRequest>) -> Answer<v1::MetadataResponse> {
        answer(self.handle.metadata(request.into_inner()).await)
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Answer<v1::ListOffsetsResponse> {
        answer(self.handle.list_offsets(request.into_inner()).await)
    }

    async fn init_producer(
        &self,
        request: Request<v1::InitProducerRequest>,
    ) -> Answer<v1::InitProducerResponse> {
        answer(self.handle.init_producer(request.into_inner()).await)
    }
}

#[tonic::async_trait]
impl Groups for Service {
    async fn heartbeat(
        &self,
        request: Request<v1::GroupHeartbeatRequest>,
    ) -> Answer<v1::GroupHeartbeatResponse> {
        answer(self.handle.group_heartbeat(request.into_inner()).await)
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Answer<v1::CommitOffsetsResponse> {
        answer(self.handle.commit_offsets(request.into_inner()).await)
    }

    async fn fetch_offsets(
        &self,
        request: Request<v1::FetchOffsetsRequest>,
    ) -> Answer<v1::FetchOffsetsResponse> {
        answer(self.handle.fetch_offsets(request.into_inner()).await)
    }

    async fn list_groups(&self, request: Request<v1::ListGroupsRequest>) -> Answer<v1::ListGroupsResponse> {
        answer(self.handle.list_groups(request.into_inner()).await)
    }

    async fn describe_group(
        &self,
        request: Request<v1::DescribeGroupRequest>,
    ) -> Answer<v1::DescribeGroupResponse> {
        answer(self.handle.describe_group(request.into_inner()).await)
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Answer<v1::DeleteGroupResponse> {
        answer(self.handle.delete_group(request.into_inner()).await)
    }
}

#[tonic::async_trait]
impl Transactions for Service {
    async fn send_offsets(
        &self,
        request: Request<v1::SendOffsetsRequest>,
    ) -> Answer<v1::SendOffsetsResponse> {
        answer(self.handle.send_offsets(request.into_inner()).await)
    }

    async fn end_transaction(
        &self,
        request: Request<v1::EndTransactionRequest>,
    ) -> Answer<v1::EndTransactionResponse> {
        answer(self.handle.end_transaction(request.into_inner()).await)
    }

    async fn list_transactions(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Answer<v1::ListTransactionsResponse> {
        answer(self.handle.list_transactions(request.into_inner()).await)
    }

    async fn describe_transaction(
        &self,
        request: Request<v1::DescribeTransactionRequest>,
    ) -> Answer<v1::DescribeTransactionResponse> {
        answer(self.handle.describe_transaction(request.into_inner()).await)
    }

    async fn abort_transaction(
        &self,
        request: Request<v1::AbortTransactionRequest>,
    ) -> Answer<v1::AbortTransactionResponse> {
        answer(self.handle.abort_transaction(request.into_inner()).await)
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Answer<v1::CreateTopicResponse> {
        answer(self.handle.create_topic(request.into_inner()).await)
    }

    async fn list_topics(&self, request: Request<v1::ListTopicsRequest>) -> Answer<v1::ListTopicsResponse> {
        answer(self.handle.list_topics(request.into_inner()).await)
    }

    async fn describe_topic(
        &self,
        request: Request<v1::DescribeTopicRequest>,
    ) -> Answer<v1::DescribeTopicResponse> {
        answer(self.handle.describe_topic(request.into_inner()).await)
    }

    async fn alter_topic(&self, request: Request<v1::AlterTopicRequest>) -> Answer<v1::AlterTopicResponse> {
        answer(self.handle.alter_topic(request.into_inner()).await)
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Answer<v1::DeleteTopicResponse> {
        answer(self.handle.delete_topic(request.into_inner()).await)
    }

    async fn delete_records(
        &self,
        request: Request<v1::DeleteRecordsRequest>,
    ) -> Answer<v1::DeleteRecordsResponse> {
        answer(self.handle.delete_records(request.into_inner()).await)
    }

    async fn set_quota(&self, request: Request<v1::SetQuotaRequest>) -> Answer<v1::SetQuotaResponse> {
        answer(self.handle.set_quota(request.into_inner()).await)
    }

    async fn list_quotas(&self, request: Request<v1::ListQuotasRequest>) -> Answer<v1::ListQuotasResponse> {
        answer(self.handle.list_quotas(request.into_inner()).await)
    }

    async fn delete_quota(
        &self,
        request: Request<v1::DeleteQuotaRequest>,
    ) -> Answer<v1::DeleteQuotaResponse> {
        answer(self.handle.delete_quota(request.into_inner()).await)
    }

    async fn put_definition(
        &self,
        request: Request<v1::PutDefinitionRequest>,
    ) -> Answer<v1::PutDefinitionResponse> {
        answer(self.handle.put_definition(request.into_inner()).await)
    }

    async fn list_definitions(
        &self,
        request: Request<v1::ListDefinitionsRequest>,
    ) -> Answer<v1::ListDefinitionsResponse> {
        answer(self.handle.list_definitions(request.into_inner()).await)
    }

    async fn delete_definition(
        &self,
        request: Request<v1::DeleteDefinitionRequest>,
    ) -> Answer<v1::DeleteDefinitionResponse> {
        answer(self.handle.delete_definition(request.into_inner()).await)
    }

    async fn tier_status(&self, request: Request<v1::TierStatusRequest>) -> Answer<v1::TierStatusResponse> {
        answer(self.handle.tier_status(request.into_inner()).await)
    }

    async fn tier_verify(&self, request: Request<v1::TierVerifyRequest>) -> Answer<v1::TierVerifyResponse> {
        answer(self.handle.tier_verify(request.into_inner()).await)
    }

    async fn tier_restore(
        &self,
        request: Request<v1::TierRestoreRequest>,
    ) -> Answer<v1::TierRestoreResponse> {
        answer(self.handle.tier_restore(request.into_inner()).await)
    }

    async fn tier_flush(&self, request: Request<v1::TierFlushRequest>) -> Answer<v1::TierFlushResponse> {
        answer(self.handle.tier_flush(request.into_inner()).await)
    }
}
