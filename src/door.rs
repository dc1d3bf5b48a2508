//! The broker as the clients' transport: the same requests, in process, without a socket and without a copy.

use futures::future::BoxFuture;
use sunseo_broker::BrokerHandle;
use sunseo_client::Transport;
use sunseo_proto::error::Result;
use sunseo_proto::v1;

/// A broker in this process.
#[derive(Clone, Debug)]
pub struct Door(pub BrokerHandle);

macro_rules! forward {
    ($($name:ident: $request:ident -> $response:ident;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            request: v1::$request,
        ) -> BoxFuture<'async_trait, Result<v1::$response>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(self.0.$name(request))
        }
    )*};
}

impl Transport for Door {
    fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>> {
        self.0.produce(request)
    }

    fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>> {
        self.0.fetch(request)
    }

    forward! {
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
}
