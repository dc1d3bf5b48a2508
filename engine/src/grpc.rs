//! The services of `engine.proto` over an [`Engine`]. Each call is one method of the engine; what it answers is the answer.

use sunseo_proto::v1;
use sunseo_proto::v1::pipelines_server::{Pipelines, PipelinesServer};
use sunseo_proto::v1::query_server::{Query, QueryServer};
use tonic::{Request, Response, Status};

use crate::Engine;

/// Implements both services.
#[derive(Clone, Debug)]
pub struct EngineService {
    engine: Engine,
}

/// The service `sunseo.v1.Pipelines`.
#[must_use]
pub fn pipelines_server(engine: Engine) -> PipelinesServer<EngineService> {
    PipelinesServer::new(EngineService { engine })
}

/// The service `sunseo.v1.Query`.
#[must_use]
pub fn query_server(engine: Engine) -> QueryServer<EngineService> {
    QueryServer::new(EngineService { engine })
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Pipelines for EngineService {
    async fn list_pipelines(
        &self,
        _: Request<v1::ListPipelinesRequest>,
    ) -> Answer<v1::ListPipelinesResponse> {
        Ok(Response::new(self.engine.list()))
    }

    async fn describe_pipeline(
        &self,
        request: Request<v1::PipelineRequest>,
    ) -> Answer<v1::DescribePipelineResponse> {
        Ok(Response::new(self.engine.describe(&request.into_inner().name)?))
    }

    async fn pause_pipeline(&self, request: Request<v1::PipelineRequest>) -> Answer<v1::PipelineResponse> {
        Ok(Response::new(self.engine.pause(&request.into_inner().name).await?))
    }

    async fn resume_pipeline(&self, request: Request<v1::PipelineRequest>) -> Answer<v1::PipelineResponse> {
        Ok(Response::new(self.engine.resume(&request.into_inner().name).await?))
    }

    async fn reset_pipeline(&self, request: Request<v1::PipelineRequest>) -> Answer<v1::PipelineResponse> {
        Ok(Response::new(self.engine.reset(&request.into_inner().name).await?))
    }

    async fn diff_pipeline(&self, request: Request<v1::PipelineRequest>) -> Answer<v1::DiffPipelineResponse> {
        Ok(Response::new(self.engine.diff(&request.into_inner().name)?))
    }
}

#[tonic::async_trait]
impl Query for EngineService {
    async fn get(&self, request: Request<v1::QueryGetRequest>) -> Answer<v1::QueryGetResponse> {
        Ok(Response::new(self.engine.query_get(request.into_inner()).await?))
    }

    async fn scan(&self, request: Request<v1::QueryScanRequest>) -> Answer<v1::QueryScanResponse> {
        Ok(Response::new(self.engine.query_scan(request.into_inner()).await?))
    }

    async fn list_stores(&self, request: Request<v1::ListStoresRequest>) -> Answer<v1::ListStoresResponse> {
        Ok(Response::new(self.engine.list_stores(&request.into_inner().pipeline)?))
    }
}
