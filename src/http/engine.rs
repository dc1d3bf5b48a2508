//! Pipelines and their live state.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use sunseo_proto::{Error, v1};

use super::{Answer, Gateway, Shared};
use crate::json;

pub fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/v1/pipelines", get(list))
        .route("/v1/pipelines/{pipeline}", get(describe))
        .route("/v1/pipelines/{pipeline}/diff", get(diff))
        .route("/v1/pipelines/{pipeline}/pause", post(pause))
        .route("/v1/pipelines/{pipeline}/resume", post(resume))
        .route("/v1/pipelines/{pipeline}/reset", post(reset))
        .route("/v1/query/{pipeline}", get(stores))
        .route("/v1/query/{pipeline}/{store}", get(query))
}

async fn list(State(gateway): Shared) -> Answer {
    let pipelines = gateway.parts()?.engine.list().pipelines;
    Ok(Json(pipelines.iter().map(json::pipeline).collect()))
}

async fn describe(State(gateway): Shared, Path(pipeline): Path<String>) -> Answer {
    let description = gateway.parts()?.engine.describe(&pipeline)?;
    Ok(Json(json::pipeline_description(&description)))
}

async fn diff(State(gateway): Shared, Path(pipeline): Path<String>) -> Answer {
    Ok(Json(json::pipeline_changes(&gateway.parts()?.engine.diff(&pipeline)?.changes)))
}

fn changed(answer: v1::PipelineResponse) -> Answer {
    Ok(Json(json::pipeline(&answer.pipeline.unwrap_or_default())))
}

async fn pause(State(gateway): Shared, Path(pipeline): Path<String>) -> Answer {
    changed(gateway.parts()?.engine.pause(&pipeline).await?)
}

async fn resume(State(gateway): Shared, Path(pipeline): Path<String>) -> Answer {
    changed(gateway.parts()?.engine.resume(&pipeline).await?)
}

async fn reset(State(gateway): Shared, Path(pipeline): Path<String>) -> Answer {
    changed(gateway.parts()?.engine.reset(&pipeline).await?)
}

async fn stores(State(gateway): Shared, Path(pipeline): Path<String>) -> Answer {
    let stores = gateway.parts()?.engine.list_stores(&pipeline)?.stores;
    Ok(Json(stores.iter().map(json::store).collect()))
}

/// Entries of one answer unless it is said otherwise.
const LIMIT: u32 = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// One key.
    key: Option<String>,
    /// A range of keys.
    from: Option<String>,
    to: Option<String>,
    limit: Option<u32>,
}

/// Keys are JSON or plain text.
async fn query(
    State(gateway): Shared,
    Path((pipeline, store)): Path<(String, String)>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Answer {
    let Query(Asked { key, from, to, limit }) = asked?;
    let engine = &gateway.parts()?.engine;
    if let Some(key) = key {
        if from.is_some() || to.is_some() {
            let message = "key and a range are both given: ask for one of them";
            return Err(Error::invalid("key", message).into());
        }
        let keys = [Some(key.as_str())];
        let answer = json::first_accepted(&keys, |forms| {
            let (engine, pipeline, store) = (engine.clone(), pipeline.clone(), store.clone());
            let key_json = forms[0].clone();
            async move { engine.query_get(v1::QueryGetRequest { pipeline, store, key_json }).await }
        });
        return Ok(Json(json::query_found(&answer.await?)));
    }
    let keys = [from.as_deref(), to.as_deref()];
    let answer = json::first_accepted(&keys, |forms| {
        let (engine, pipeline, store) = (engine.clone(), pipeline.clone(), store.clone());
        let (from_json, to_json) = (forms[0].clone(), forms[1].clone());
        let limit = limit.unwrap_or(LIMIT);
        let request = v1::QueryScanRequest { pipeline, store, from_json, to_json, limit };
        async move { engine.query_scan(request).await }
    });
    Ok(Json(json::query_scan(&answer.await?)))
}
