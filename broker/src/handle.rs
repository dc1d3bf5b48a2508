//! The node's requests, in process. Names and shapes are those of the client's transport.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sunseo_proto::error::Result;
use sunseo_proto::v1;

use crate::api::fetch::{Fetched, Room};
use crate::api::produce::Origin;
use crate::budget::Budget;
use crate::metadata::quotas::check_client_id;
use crate::node::Node;
use crate::quota::Kind;

/// What bytes were used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Produce,
    Fetch,
}

/// Requests to a running node. Cloning shares the node.
#[derive(Clone, Debug)]
pub struct BrokerHandle {
    node: Arc<Node>,
}

impl BrokerHandle {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// The memory that requests and answers may take together.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.node.budget
    }

    /// Counts bytes, and one request, against the quota of a client that came another way than by gRPC; how long it is to wait, in milliseconds.
    ///
    /// # Errors
    /// When no client can be called so.
    pub fn throttle_ms(&self, client: &str, used: Use, bytes: u64) -> Result<u32> {
        check_client_id(client)?;
        let client = Arc::from(client);
        let kind = match used {
            Use::Produce => Kind::ProduceBytes,
            Use::Fetch => Kind::FetchBytes,
        };
        Ok(self.charge(&client, kind, bytes).max(self.charge(&client, Kind::Requests, 1)))
    }

    /// Counts an amount against a client's quota; how long it is to wait, in milliseconds.
    pub(crate) fn charge(&self, client: &Arc<str>, kind: Kind, amount: u64) -> u32 {
        self.node.quotas.charge(&self.node.metadata.image(), client, kind, amount)
    }

    /// The bounds the node was started with.
    #[must_use]
    pub fn limits(&self) -> crate::Limits {
        self.node.limits.clone()
    }

    /// Appends; takes effect in the order of the calls, whenever the answers are awaited. Waits for room instead of refusing, so a
    /// caller bounds what it sends without awaiting.
    pub fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>> {
        self.node.produce(request, Origin::Internal).answer
    }

    /// As [`BrokerHandle::produce`], in the network's share of the memory. The first future resolves when the request has room.
    pub(crate) fn produce_from_network(
        &self,
        request: v1::ProduceRequest,
    ) -> (BoxFuture<'static, ()>, BoxFuture<'static, Result<v1::ProduceResponse>>) {
        let queued = self.node.produce(request, Origin::Network);
        (queued.admitted, queued.answer)
    }

    /// Reads, waiting up to `max_wait_ms` for `min_bytes`.
    pub fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>> {
        let node = Arc::clone(&self.node);
        async move { node.fetch(request, None).await.map(|(response, _)| response) }.boxed()
    }

    /// As [`BrokerHandle::fetch`], for a stream whose answers together have this room.
    pub(crate) fn fetch_from_network(
        &self,
        request: v1::FetchRequest,
        room: Room,
    ) -> BoxFuture<'static, Result<Fetched>> {
        let node = Arc::clone(&self.node);
        async move { node.fetch(request, Some(room)).await }.boxed()
    }

    pub async fn metadata(&self, request: v1::MetadataRequest) -> Result<v1::MetadataResponse> {
        Ok(self.node.metadata.metadata(&request))
    }

    pub async fn list_offsets(&self, request: v1::ListOffsetsRequest) -> Result<v1::ListOffsetsResponse> {
        self.node.list_offsets(request).await
    }

    pub async fn init_producer(&self, request: v1::InitProducerRequest) -> Result<v1::InitProducerResponse> {
        self.node.init_producer(request).await
    }

    pub async fn group_heartbeat(
        &self,
        request: v1::GroupHeartbeatRequest,
    ) -> Result<v1::GroupHeartbeatResponse> {
        self.node.coordinator.heartbeat(request).await
    }

    pub async fn commit_offsets(
        &self,
        request: v1::CommitOffsetsRequest,
    ) -> Result<v1::CommitOffsetsResponse> {
        self.node.coordinator.commit_offsets(request).await
    }

    pub async fn fetch_offsets(&self, request: v1::FetchOffsetsRequest) -> Result<v1::FetchOffsetsResponse> {
        self.node.coordinator.fetch_offsets(request).await
    }

    pub async fn list_groups(&self, request: v1::ListGroupsRequest) -> Result<v1::ListGroupsResponse> {
        self.node.coordinator.list_groups(request).await
    }

    pub async fn describe_group(
        &self,
        request: v1::DescribeGroupRequest,
    ) -> Result<v1::DescribeGroupResponse> {
        self.node.coordinator.describe_group(request).await
    }

    pub async fn delete_group(&self, request: v1::DeleteGroupRequest) -> Result<v1::DeleteGroupResponse> {
        self.node.coordinator.delete_group(request).await
    }

    pub async fn send_offsets(&self, request: v1::SendOffsetsRequest) -> Result<v1::SendOffsetsResponse> {
        self.node.send_offsets(request).await
    }

    pub async fn end_transaction(
        &self,
        request: v1::EndTransactionRequest,
    ) -> Result<v1::EndTransactionResponse> {
        self.node.end_transaction(request).await
    }

    pub async fn list_transactions(
        &self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse> {
        self.node.list_transactions(request).await
    }

    pub async fn describe_transaction(
        &self,
        request: v1::DescribeTransactionRequest,
    ) -> Result<v1::DescribeTransactionResponse> {
        self.node.describe_transaction(request).await
    }

    pub async fn abort_transaction(
        &self,
        request: v1::AbortTransactionRequest,
    ) -> Result<v1::AbortTransactionResponse> {
        self.node.abort_transaction(request).await
    }

    pub async fn create_topic(&self, request: v1::CreateTopicRequest) -> Result<v1::CreateTopicResponse> {
        self.node.metadata.create_topic(request).await
    }

    pub async fn list_topics(&self, request: v1::ListTopicsRequest) -> Result<v1::ListTopicsResponse> {
        Ok(self.node.metadata.list_topics(request))
    }

    pub async fn describe_topic(
        &self,
        request: v1::DescribeTopicRequest,
    ) -> Result<v1::DescribeTopicResponse> {
        self.node.describe_topic(request).await
    }

    pub async fn alter_topic(&self, request: v1::AlterTopicRequest) -> Result<v1::AlterTopicResponse> {
        self.node.alter_topic(request).await
    }

    pub async fn delete_topic(&self, request: v1::DeleteTopicRequest) -> Result<v1::DeleteTopicResponse> {
        self.node.delete_topic(request).await
    }

    pub async fn delete_records(
        &self,
        request: v1::DeleteRecordsRequest,
    ) -> Result<v1::DeleteRecordsResponse> {
        self.node.delete_records(request).await
    }

    pub async fn set_quota(&self, request: v1::SetQuotaRequest) -> Result<v1::SetQuotaResponse> {
        self.node.metadata.set_quota(request).await
    }

    pub async fn list_quotas(&self, request: v1::ListQuotasRequest) -> Result<v1::ListQuotasResponse> {
        Ok(self.node.metadata.list_quotas(request))
    }

    pub async fn delete_quota(&self, request: v1::DeleteQuotaRequest) -> Result<v1::DeleteQuotaResponse> {
        self.node.metadata.delete_quota(request).await
    }

    pub async fn put_definition(
        &self,
        request: v1::PutDefinitionRequest,
    ) -> Result<v1::PutDefinitionResponse> {
        self.node.put_definition(request).await
    }

    pub async fn list_definitions(
        &self,
        request: v1::ListDefinitionsRequest,
    ) -> Result<v1::ListDefinitionsResponse> {
        self.node.metadata.list_definitions(&request)
    }

    pub async fn delete_definition(
        &self,
        request: v1::DeleteDefinitionRequest,
    ) -> Result<v1::DeleteDefinitionResponse> {
        self.node.metadata.delete_definition(request).await
    }

    pub async fn tier_status(&self, request: v1::TierStatusRequest) -> Result<v1::TierStatusResponse> {
        self.node.tier_status(request).await
    }

    pub async fn tier_verify(&self, request: v1::TierVerifyRequest) -> Result<v1::TierVerifyResponse> {
        self.node.tier_verify(request).await
    }

    pub async fn tier_restore(&self, request: v1::TierRestoreRequest) -> Result<v1::TierRestoreResponse> {
        self.node.tier_restore(request).await
    }

    pub async fn tier_flush(&self, request: v1::TierFlushRequest) -> Result<v1::TierFlushResponse> {
        self.node.tier_flush(request).await
    }
}
