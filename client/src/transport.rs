//! The one door to the log.
//!
//! Outbox, engine, command line and applications reach a broker only through [`Transport`]. Inside the server the same
//! calls go straight to the broker's tasks, without a socket and without a copy of the batches.
//!
//! Invariants: `produce` and `fetch` take effect in the order they are called (the request is queued before the call
//! returns; only the answer is awaited), so a caller may pipeline. A future that is dropped does not take its request
//! back.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use sunseo_proto::{Error, ErrorCode, error::Result, v1};

/// Calls a macro with every request of a [`Transport`] but produce and fetch, as `name: Request -> Response;` each: for doors that hand
/// them on unchanged.
#[macro_export]
macro_rules! each_request {
    ($hand_on:ident) => {
        $hand_on! {
            metadata: MetadataRequest -> MetadataResponse;
            list_offsets: ListOffsetsRequest -> ListOffsetsResponse;
            init_producer: InitProducerRequest -> InitProducerResponse;
            group_heartbeat: GroupHeartbeatRequest -> GroupHeartbeatResponse;
            commit_offsets: CommitOffsetsRequest -> CommitOffsetsResponse;
            fetch_offsets: FetchOffsetsRequest -> FetchOffsetsResponse;
            list_groups: ListGroupsRequest -> ListGroupsResponse;
            describe_group: DescribeGroupRequest -> DescribeGroupResponse;
            delete_group: DeleteGroupRequest -> DeleteGroupResponse;
            create_topic: CreateTopicRequest -> CreateTopicResponse;
            list_topics: ListTopicsRequest -> ListTopicsResponse;
            describe_topic: DescribeTopicRequest -> DescribeTopicResponse;
            alter_topic: AlterTopicRequest -> AlterTopicResponse;
            delete_topic: DeleteTopicRequest -> DeleteTopicResponse;
            delete_records: DeleteRecordsRequest -> DeleteRecordsResponse;
            set_quota: SetQuotaRequest -> SetQuotaResponse;
            list_quotas: ListQuotasRequest -> ListQuotasResponse;
            delete_quota: DeleteQuotaRequest -> DeleteQuotaResponse;
            put_definition: PutDefinitionRequest -> PutDefinitionResponse;
            list_definitions: ListDefinitionsRequest -> ListDefinitionsResponse;
            delete_definition: DeleteDefinitionRequest -> DeleteDefinitionResponse;
            send_offsets: SendOffsetsRequest -> SendOffsetsResponse;
            end_transaction: EndTransactionRequest -> EndTransactionResponse;
            list_transactions: ListTransactionsRequest -> ListTransactionsResponse;
            describe_transaction: DescribeTransactionRequest -> DescribeTransactionResponse;
            abort_transaction: AbortTransactionRequest -> AbortTransactionResponse;
            tier_status: TierStatusRequest -> TierStatusResponse;
            tier_verify: TierVerifyRequest -> TierVerifyResponse;
            tier_restore: TierRestoreRequest -> TierRestoreResponse;
            tier_flush: TierFlushRequest -> TierFlushResponse;
        }
    };
}

/// A shared door.
pub type SharedTransport = Arc<dyn Transport>;

/// Requests to a broker. Each method is one RPC of `sunseo.v1`.
#[async_trait]
pub trait Transport: Debug + Send + Sync + 'static {
    /// Appends batches; correlation ids are set by the transport.
    fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>>;

    /// Reads batches, waiting up to `max_wait_ms`; correlation ids are set by the transport.
    fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>>;

    async fn metadata(&self, request: v1::MetadataRequest) -> Result<v1::MetadataResponse>;
    async fn list_offsets(&self, request: v1::ListOffsetsRequest) -> Result<v1::ListOffsetsResponse>;
    async fn init_producer(&self, request: v1::InitProducerRequest) -> Result<v1::InitProducerResponse>;

    async fn group_heartbeat(&self, request: v1::GroupHeartbeatRequest)
    -> Result<v1::GroupHeartbeatResponse>;
    async fn commit_offsets(&self, request: v1::CommitOffsetsRequest) -> Result<v1::CommitOffsetsResponse>;
    async fn fetch_offsets(&self, request: v1::FetchOffsetsRequest) -> Result<v1::FetchOffsetsResponse>;
    async fn list_groups(&self, request: v1::ListGroupsRequest) -> Result<v1::ListGroupsResponse>;
    async fn describe_group(&self, request: v1::DescribeGroupRequest) -> Result<v1::DescribeGroupResponse>;
    async fn delete_group(&self, request: v1::DeleteGroupRequest) -> Result<v1::DeleteGroupResponse>;

    async fn send_offsets(&self, request: v1::SendOffsetsRequest) -> Result<v1::SendOffsetsResponse>;
    async fn end_transaction(&self, request: v1::EndTransactionRequest)
    -> Result<v1::EndTransactionResponse>;
    async fn list_transactions(
        &self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse>;
    async fn describe_transaction(
        &self,
        request: v1::DescribeTransactionRequest,
    ) -> Result<v1::DescribeTransactionResponse>;
    async fn abort_transaction(
        &self,
        request: v1::AbortTransactionRequest,
    ) -> Result<v1::AbortTransactionResponse>;

    async fn create_topic(&self, request: v1::CreateTopicRequest) -> Result<v1::CreateTopicResponse>;
    async fn list_topics(&self, request: v1::ListTopicsRequest) -> Result<v1::ListTopicsResponse>;
    async fn describe_topic(&self, request: v1::DescribeTopicRequest) -> Result<v1::DescribeTopicResponse>;
    async fn alter_topic(&self, request: v1::AlterTopicRequest) -> Result<v1::AlterTopicResponse>;
    async fn delete_topic(&self, request: v1::DeleteTopicRequest) -> Result<v1::DeleteTopicResponse>;

    async fn delete_records(&self, _request: v1::DeleteRecordsRequest) -> Result<v1::DeleteRecordsResponse> {
        Err(not_served("DeleteRecords"))
    }
    async fn set_quota(&self, _request: v1::SetQuotaRequest) -> Result<v1::SetQuotaResponse> {
        Err(not_served("SetQuota"))
    }
    async fn list_quotas(&self, _request: v1::ListQuotasRequest) -> Result<v1::ListQuotasResponse> {
        Err(not_served("ListQuotas"))
    }
    async fn delete_quota(&self, _request: v1::DeleteQuotaRequest) -> Result<v1::DeleteQuotaResponse> {
        Err(not_served("DeleteQuota"))
    }

    async fn put_definition(&self, request: v1::PutDefinitionRequest) -> Result<v1::PutDefinitionResponse>;
    async fn list_definitions(
        &self,
        request: v1::ListDefinitionsRequest,
    ) -> Result<v1::ListDefinitionsResponse>;
    async fn delete_definition(
        &self,
        request: v1::DeleteDefinitionRequest,
    ) -> Result<v1::DeleteDefinitionResponse>;

    async fn tier_status(&self, request: v1::TierStatusRequest) -> Result<v1::TierStatusResponse>;
    async fn tier_verify(&self, request: v1::TierVerifyRequest) -> Result<v1::TierVerifyResponse>;
    async fn tier_restore(&self, request: v1::TierRestoreRequest) -> Result<v1::TierRestoreResponse>;
    async fn tier_flush(&self, request: v1::TierFlushRequest) -> Result<v1::TierFlushResponse>;
}

/// The refusal of a door that leads to less than a broker, as those in memory do.
fn not_served(call: &str) -> Error {
    Error::new(ErrorCode::Unsupported, format!("{call} is not served here: connect to a server"))
}
