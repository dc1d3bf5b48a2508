//! The node's requests, in process. Names and shapes are those of the client's transport.

use futures::future::BoxFuture;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::v1;

/// Requests to a running node. Cloning shares the node.
#[derive(Clone, Debug)]
pub struct BrokerHandle {}

fn starting<T>() -> Result<T> {
    Err(Error::new(ErrorCode::Unavailable, "the node is starting: try again"))
}

impl BrokerHandle {
    /// The bounds the node was started with.
    #[must_use]
    pub fn limits(&self) -> crate::Limits {
        crate::Limits::default()
    }

    /// Appends; takes effect in the order of the calls, whenever the answers are awaited.
    pub fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>> {
        let _ = request;
        Box::pin(async { starting() })
    }

    /// Reads, waiting up to `max_wait_ms` for `min_bytes`.
    pub fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>> {
        let _ = request;
        Box::pin(async { starting() })
    }

    pub async fn metadata(&self, request: v1::MetadataRequest) -> Result<v1::MetadataResponse> {
        let _ = request;
        starting()
    }

    pub async fn list_offsets(&self, request: v1::ListOffsetsRequest) -> Result<v1::ListOffsetsResponse> {
        let _ = request;
        starting()
    }

    pub async fn init_producer(&self, request: v1::InitProducerRequest) -> Result<v1::InitProducerResponse> {
        let _ = request;
        starting()
    }

    pub async fn commit_offsets(
        &self,
        request: v1::CommitOffsetsRequest,
    ) -> Result<v1::CommitOffsetsResponse> {
        let _ = request;
        starting()
    }

    pub async fn fetch_offsets(&self, request: v1::FetchOffsetsRequest) -> Result<v1::FetchOffsetsResponse> {
        let _ = request;
        starting()
    }

    pub async fn list_groups(&self, request: v1::ListGroupsRequest) -> Result<v1::ListGroupsResponse> {
        let _ = request;
        starting()
    }

    pub async fn describe_group(
        &self,
        request: v1::DescribeGroupRequest,
    ) -> Result<v1::DescribeGroupResponse> {
        let _ = request;
        starting()
    }

    pub async fn delete_group(&self, request: v1::DeleteGroupRequest) -> Result<v1::DeleteGroupResponse> {
        let _ = request;
        starting()
    }

    pub async fn create_topic(&self, request: v1::CreateTopicRequest) -> Result<v1::CreateTopicResponse> {
        let _ = request;
        starting()
    }

    pub async fn list_topics(&self, request: v1::ListTopicsRequest) -> Result<v1::ListTopicsResponse> {
        let _ = request;
        starting()
    }

    pub async fn describe_topic(
        &self,
        request: v1::DescribeTopicRequest,
    ) -> Result<v1::DescribeTopicResponse> {
        let _ = request;
        starting()
    }

    pub async fn alter_topic(&self, request: v1::AlterTopicRequest) -> Result<v1::AlterTopicResponse> {
        let _ = request;
        starting()
    }

    pub async fn delete_topic(&self, request: v1::DeleteTopicRequest) -> Result<v1::DeleteTopicResponse> {
        let _ = request;
        starting()
    }

    pub async fn put_definition(
        &self,
        request: v1::PutDefinitionRequest,
    ) -> Result<v1::PutDefinitionResponse> {
        let _ = request;
        starting()
    }

    pub async fn tier_status(&self, request: v1::TierStatusRequest) -> Result<v1::TierStatusResponse> {
        let _ = request;
        starting()
    }

    pub async fn tier_verify(&self, request: v1::TierVerifyRequest) -> Result<v1::TierVerifyResponse> {
        let _ = request;
        starting()
    }

    pub async fn tier_restore(&self, request: v1::TierRestoreRequest) -> Result<v1::TierRestoreResponse> {
        let _ = request;
        starting()
    }

    pub async fn tier_flush(&self, request: v1::TierFlushRequest) -> Result<v1::TierFlushResponse> {
        let _ = request;
        starting()
    }

    pub async fn group_heartbeat(
        &self,
        request: v1::GroupHeartbeatRequest,
    ) -> Result<v1::GroupHeartbeatResponse> {
        let _ = request;
        starting()
    }

    pub async fn list_definitions(
        &self,
        request: v1::ListDefinitionsRequest,
    ) -> Result<v1::ListDefinitionsResponse> {
        let _ = request;
        starting()
    }

    pub async fn delete_definition(
        &self,
        request: v1::DeleteDefinitionRequest,
    ) -> Result<v1::DeleteDefinitionResponse> {
        let _ = request;
        starting()
    }
}
