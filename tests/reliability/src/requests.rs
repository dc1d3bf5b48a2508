//! The requests that a transport between a client and the node passes on unchanged: all but produce and fetch.

/// The methods of a `Transport` for them, each handing its request to `self.pass` with what to call.
macro_rules! pass_on_requests {
    () => {
        $crate::requests::pass_on_requests! {
            metadata: MetadataRequest -> MetadataResponse;
            list_offsets: ListOffsetsRequest -> ListOffsetsResponse;
            init_producer: InitProducerRequest -> InitProducerResponse;
            send_offsets: SendOffsetsRequest -> SendOffsetsResponse;
            end_transaction: EndTransactionRequest -> EndTransactionResponse;
            list_transactions: ListTransactionsRequest -> ListTransactionsResponse;
            describe_transaction: DescribeTransactionRequest -> DescribeTransactionResponse;
            abort_transaction: AbortTransactionRequest -> AbortTransactionResponse;
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
            put_definition: PutDefinitionRequest -> PutDefinitionResponse;
            list_definitions: ListDefinitionsRequest -> ListDefinitionsResponse;
            delete_definition: DeleteDefinitionRequest -> DeleteDefinitionResponse;
            tier_status: TierStatusRequest -> TierStatusResponse;
            tier_verify: TierVerifyRequest -> TierVerifyResponse;
            tier_restore: TierRestoreRequest -> TierRestoreResponse;
            tier_flush: TierFlushRequest -> TierFlushResponse;
        }
    };
    ($($name:ident: $request:ident -> $response:ident;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            request: sunseo_proto::v1::$request,
        ) -> futures::future::BoxFuture<'async_trait, sunseo_client::Result<sunseo_proto::v1::$response>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            self.pass(request, |to, request| async move { to.$name(request).await }.boxed())
        }
    )*};
}

pub(crate) use pass_on_requests;
