//! Push of an application's own outbox, and the sources that the server reads.

mod push;

pub use self::push::{OutboxPusher, PushConfig};

use std::sync::Arc;

use sunseo_proto::error::Result;
use sunseo_proto::v1;
use sunseo_proto::v1::outbox_client::OutboxClient as Grpc;

use crate::grpc_transport::GrpcTransport;

/// Outbox calls over the connection of a client. Clones share it.
#[derive(Clone, Debug)]
pub struct OutboxClient {
    transport: Arc<GrpcTransport>,
}

/// Every method fails with what the server says (`UNKNOWN_SOURCE`, ..), or when there is no answer.
#[allow(clippy::missing_errors_doc)] // said once, above
impl OutboxClient {
    pub(crate) fn new(transport: Arc<GrpcTransport>) -> Self {
        Self { transport }
    }

    pub async fn sources(&self) -> Result<Vec<v1::SourceStatus>> {
        let mut grpc = self.grpc();
        let call = grpc.list_sources(v1::ListSourcesRequest {});
        Ok(self.transport.unary(call).await?.sources)
    }

    pub async fn add_source(&self, definition: v1::SourceDefinition) -> Result<v1::AddSourceResponse> {
        let mut grpc = self.grpc();
        let request = v1::AddSourceRequest { definition: Some(definition) };
        self.transport.unary(grpc.add_source(request)).await
    }

    pub async fn describe_source(&self, name: &str) -> Result<v1::DescribeSourceResponse> {
        let mut grpc = self.grpc();
        let request = v1::DescribeSourceRequest { name: name.to_owned() };
        self.transport.unary(grpc.describe_source(request)).await
    }

    pub async fn pause_source(&self, name: &str) -> Result<v1::SourceResponse> {
        let mut grpc = self.grpc();
        self.transport.unary(grpc.pause_source(self.named(name))).await
    }

    pub async fn resume_source(&self, name: &str) -> Result<v1::SourceResponse> {
        let mut grpc = self.grpc();
        self.transport.unary(grpc.resume_source(self.named(name))).await
    }

    pub async fn remove_source(&self, name: &str) -> Result<v1::SourceResponse> {
        let mut grpc = self.grpc();
        self.transport.unary(grpc.remove_source(self.named(name))).await
    }

    /// Compares the rows of the database with the positions in the log.
    pub async fn verify_source(&self, name: &str) -> Result<v1::VerifySourceResponse> {
        let mut grpc = self.grpc();
        self.transport.unary(grpc.verify_source(self.named(name))).await
    }

    /// Epoch and last accepted sequence of a shard.
    pub async fn state(&self, source: &str, shard: &str) -> Result<v1::IngestStateResponse> {
        let mut grpc = self.grpc();
        let request = v1::IngestStateRequest { source: source.to_owned(), shard: shard.to_owned() };
        self.transport.unary(grpc.state(request)).await
    }

    /// Takes over the push of a shard: whoever pushed it before is fenced. Go on after
    /// [`accepted_through`](OutboxPusher::accepted_through).
    pub async fn open(&self, source: &str, shard: &str) -> Result<OutboxPusher> {
        self.open_with(source, shard, PushConfig::default()).await
    }

    /// [`open`](Self::open) with a configuration of one's own.
    pub async fn open_with(&self, source: &str, shard: &str, config: PushConfig) -> Result<OutboxPusher> {
        let mut grpc = self.grpc();
        let request = v1::IngestOpenRequest { source: source.to_owned(), shard: shard.to_owned() };
        let state = self.transport.unary(grpc.open(request)).await?;
        Ok(OutboxPusher::new(self.clone(), (source, shard), state, config))
    }

    fn named(&self, name: &str) -> v1::SourceRequest {
        v1::SourceRequest { name: name.to_owned() }
    }

    fn grpc(&self) -> Grpc<crate::grpc_transport::Connection> {
        let limit = crate::grpc_transport::MAX_MESSAGE_BYTES;
        Grpc::new(self.transport.channel()).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }
}
