//! The requests about transactions.

use std::sync::Arc;

use sunseo_proto::PartitionId;
use sunseo_proto::error::{Error, Result};
use sunseo_proto::v1;

use crate::node::Node;
use crate::txn::coordinator::{check_id, identity};

impl Node {
    /// A producer id that nobody has, for a transactional id that is new or whose epochs are used up.
    pub(super) async fn spare_producer_id(&self) -> Result<i64> {
        Ok(self.metadata.init_producer(v1::InitProducerRequest::default()).await?.producer_id)
    }

    /// The group becomes part of the transaction, then it keeps the offsets until the end.
    pub(crate) async fn send_offsets(
        &self,
        request: v1::SendOffsetsRequest,
    ) -> Result<v1::SendOffsetsResponse> {
        check_id(&request.transactional_id)?;
        let asked = identity(request.producer_id, request.producer_epoch)?;
        self.coordinator.check_offsets(&request.group, &request.member_id, request.offsets.len())?;
        if request.offsets.is_empty() {
            return Err(Error::invalid("offsets", "there is no offset: send at least one"));
        }
        let group = request.group.clone();
        self.transactions.join(&request.transactional_id, asked, Vec::new(), vec![group]).await?;
        self.coordinator.send_offsets(request, Arc::clone(self.transactions.registry())).await
    }

    pub(crate) async fn end_transaction(
        &self,
        request: v1::EndTransactionRequest,
    ) -> Result<v1::EndTransactionResponse> {
        let spare = self.spare_producer_id().await?;
        self.transactions.end(request, spare).await
    }

    pub(crate) async fn list_transactions(
        &self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse> {
        self.transactions.list(request).await
    }

    pub(crate) async fn describe_transaction(
        &self,
        request: v1::DescribeTransactionRequest,
    ) -> Result<v1::DescribeTransactionResponse> {
        let (summary, transaction) = self.transactions.describe(&request.transactional_id).await?;
        Ok(v1::DescribeTransactionResponse {
            summary: Some(summary),
            timeout_ms: transaction.timeout_ms,
            changed_ms: transaction.changed_ms,
            partitions: transaction.partitions.iter().map(|id| self.described_partition(*id)).collect(),
            groups: transaction.groups.into_iter().collect(),
        })
    }

    /// A partition whose topic is gone has the topic's identity for a name.
    fn described_partition(&self, id: PartitionId) -> v1::TransactionPartition {
        let image = self.metadata.image();
        let topic =
            image.topic_by_id(id.topic_id).map_or_else(|| id.topic_id.to_string(), |t| t.name.to_string());
        let partition = self.partition(id).ok();
        let offset = |found: Option<Result<i64>>| found.and_then(Result::ok).unwrap_or(-1);
        v1::TransactionPartition {
            partition: Some(v1::TopicPartition { topic, partition: id.partition }),
            last_stable_offset: offset(partition.as_ref().map(|partition| partition.last_stable())),
            high_watermark: offset(partition.as_ref().map(|partition| partition.readable_end())),
        }
    }

    pub(crate) async fn abort_transaction(
        &self,
        request: v1::AbortTransactionRequest,
    ) -> Result<v1::AbortTransactionResponse> {
        self.transactions.abort(&request.transactional_id).await?;
        Ok(v1::AbortTransactionResponse {})
    }
}
