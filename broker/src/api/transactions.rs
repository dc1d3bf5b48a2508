//! The requests about transactions.

use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::v1;

use crate::node::Node;

fn later<T>() -> Result<T> {
    Err(Error::new(
        ErrorCode::Unavailable,
        "transactions are not served yet by this build: update the server",
    ))
}

impl Node {
    pub(crate) async fn send_offsets(&self, _: v1::SendOffsetsRequest) -> Result<v1::SendOffsetsResponse> {
        later()
    }

    pub(crate) async fn end_transaction(
        &self,
        _: v1::EndTransactionRequest,
    ) -> Result<v1::EndTransactionResponse> {
        later()
    }

    pub(crate) async fn list_transactions(
        &self,
        _: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse> {
        later()
    }

    pub(crate) async fn describe_transaction(
        &self,
        _: v1::DescribeTransactionRequest,
    ) -> Result<v1::DescribeTransactionResponse> {
        later()
    }

    pub(crate) async fn abort_transaction(
        &self,
        _: v1::AbortTransactionRequest,
    ) -> Result<v1::AbortTransactionResponse> {
        later()
    }
}
