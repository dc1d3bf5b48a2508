//! Pipelines: what runs, what state it is in, and the switches.

use std::sync::Arc;

use sunseo_proto::error::Result;
use sunseo_proto::v1;
use sunseo_proto::v1::pipelines_client::PipelinesClient as Grpc;

use crate::grpc_transport::GrpcTransport;

/// Pipeline calls over the connection of a client. Clones share it.
#[derive(Clone, Debug)]
pub struct PipelinesClient {
    transport: Arc<GrpcTransport>,
}

/// Every method fails with what the server says (`UNKNOWN_PIPELINE`, ..), or when there is no answer.
#[allow(clippy::missing_errors_doc)] // said once, above
impl PipelinesClient {
    pub(crate) fn new(transport: Arc<GrpcTransport>) -> Self {
        Self { transport }
    }

    pub async fn list(&self) -> Result<Vec<v1::PipelineSummary>> {
        let mut grpc = self.grpc();
        let call = grpc.list_pipelines(v1::ListPipelinesRequest {});
        Ok(self.transport.unary(call).await?.pipelines)
    }

    pub async fn describe(&self, name: &str) -> Result<v1::DescribePipelineResponse> {
        let mut grpc = self.grpc();
        self.transport.unary(grpc.describe_pipeline(self.named(name))).await
    }

    pub async fn pause(&self, name: &str) -> Result<v1::PipelineResponse> {
        let mut grpc = self.grpc();
        self.transport.unary(grpc.pause_pipeline(self.named(name))).await
    }

    pub async fn resume(&self, name: &str) -> Result<v1::PipelineResponse> {
        let mut grpc = self.grpc();
        self.transport.unary(grpc.resume_pipeline(self.named(name))).await
    }

    /// Drops the state and reads the inputs again from their start.
    pub async fn reset(&self, name: &str) -> Result<v1::PipelineResponse> {
        let mut grpc = self.grpc();
        self.transport.unary(grpc.reset_pipeline(self.named(name))).await
    }

    /// What changed since the last start, and what state survives.
    pub async fn diff(&self, name: &str) -> Result<Vec<v1::PipelineChange>> {
        let mut grpc = self.grpc();
        Ok(self.transport.unary(grpc.diff_pipeline(self.named(name))).await?.changes)
    }

    fn named(&self, name: &str) -> v1::PipelineRequest {
        v1::PipelineRequest { name: name.to_owned() }
    }

    fn grpc(&self) -> Grpc<crate::grpc_transport::Connection> {
        let limit = crate::grpc_transport::MAX_MESSAGE_BYTES;
        Grpc::new(self.transport.channel()).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }
}
