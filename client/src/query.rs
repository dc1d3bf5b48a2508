//! Live queries of a pipeline's stores. Keys and values travel as JSON, as the store's declared types render them.

use std::sync::Arc;

use sunseo_proto::error::Result;
use sunseo_proto::v1;
use sunseo_proto::v1::query_client::QueryClient as Grpc;

use crate::grpc_transport::GrpcTransport;

/// Queries over the connection of a client. Clones share it.
#[derive(Clone, Debug)]
pub struct QueryClient {
    transport: Arc<GrpcTransport>,
}

/// Every method fails with what the server says (`UNKNOWN_PIPELINE`, `UNKNOWN_STORE`, ..), or when there is no answer.
#[allow(clippy::missing_errors_doc)] // said once, above
impl QueryClient {
    pub(crate) fn new(transport: Arc<GrpcTransport>) -> Self {
        Self { transport }
    }

    /// One key; `key_json` is its JSON form, as `"abc"` or `17`.
    pub async fn get(&self, pipeline: &str, store: &str, key_json: &str) -> Result<v1::QueryGetResponse> {
        let request = v1::QueryGetRequest {
            pipeline: pipeline.to_owned(),
            store: store.to_owned(),
            key_json: key_json.to_owned(),
        };
        let mut grpc = self.grpc();
        self.transport.unary(grpc.get(request)).await
    }

    /// A range of keys.
    pub async fn scan(&self, request: v1::QueryScanRequest) -> Result<v1::QueryScanResponse> {
        let mut grpc = self.grpc();
        self.transport.unary(grpc.scan(request)).await
    }

    pub async fn stores(&self, pipeline: &str) -> Result<Vec<v1::StoreDescription>> {
        let mut grpc = self.grpc();
        let request = v1::ListStoresRequest { pipeline: pipeline.to_owned() };
        Ok(self.transport.unary(grpc.list_stores(request)).await?.stores)
    }

    fn grpc(&self) -> Grpc<crate::grpc_transport::Connection> {
        let limit = crate::grpc_transport::MAX_MESSAGE_BYTES;
        Grpc::new(self.transport.channel()).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }
}
