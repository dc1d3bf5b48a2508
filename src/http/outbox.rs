//! Sources, and pushes into their shards: HTTP around the outbox's own JSON.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use sunseo_outbox::Outbox;
use sunseo_outbox::http::{self, Push};
use sunseo_proto::Error;

use super::{Gateway, Refused, Shared};

pub fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/v1/sources", get(list).post(add))
        .route("/v1/sources/{source}", get(describe).delete(remove))
        .route("/v1/sources/{source}/pause", post(pause))
        .route("/v1/sources/{source}/resume", post(resume))
        .route("/v1/sources/{source}/verify", post(verify))
        .route("/v1/sources/{source}/shards/{shard}/events", post(push))
        .route("/v1/sources/{source}/shards/{shard}/open", post(open))
        .route("/v1/sources/{source}/shards/{shard}/state", get(state))
}

type Answer = Result<Reply, Refused>;

/// What the outbox says.
struct Reply(http::Answer);

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let http::Answer { status, body, retry_after_s } = self.0;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(flat(body))).into_response();
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// An answer that is nothing but an error looks like every other error of the API.
fn flat(mut body: Value) -> Value {
    let alone = body.as_object().is_some_and(|object| object.len() == 1);
    match body.get_mut("error").filter(|error| alone && error.is_object()) {
        Some(error) => {
            let mut error = error.take();
            if error["field"] == "" {
                error["field"] = Value::Null;
            }
            error
        }
        None => body,
    }
}

fn outbox(gateway: &Gateway) -> Result<&Outbox, Refused> {
    Ok(&gateway.parts()?.outbox)
}

async fn list(State(gateway): Shared) -> Answer {
    Ok(Reply(http::list(outbox(&gateway)?).await))
}

async fn add(State(gateway): Shared, body: Bytes) -> Answer {
    Ok(Reply(http::add(outbox(&gateway)?, &body).await))
}

async fn describe(State(gateway): Shared, Path(source): Path<String>) -> Answer {
    Ok(Reply(http::describe(outbox(&gateway)?, &source).await))
}

async fn remove(State(gateway): Shared, Path(source): Path<String>) -> Answer {
    Ok(Reply(http::remove(outbox(&gateway)?, &source).await))
}

async fn pause(State(gateway): Shared, Path(source): Path<String>) -> Answer {
    Ok(Reply(http::pause(outbox(&gateway)?, &source).await))
}

async fn resume(State(gateway): Shared, Path(source): Path<String>) -> Answer {
    Ok(Reply(http::resume(outbox(&gateway)?, &source).await))
}

async fn verify(State(gateway): Shared, Path(source): Path<String>) -> Answer {
    Ok(Reply(http::verify(outbox(&gateway)?, &source).await))
}

async fn open(State(gateway): Shared, Path((source, shard)): Path<(String, String)>) -> Answer {
    Ok(Reply(http::open(outbox(&gateway)?, &source, &shard).await))
}

async fn state(State(gateway): Shared, Path((source, shard)): Path<(String, String)>) -> Answer {
    Ok(Reply(http::state(outbox(&gateway)?, &source, &shard).await))
}

async fn push(
    State(gateway): Shared,
    Path((source, shard)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let epoch = match text("sunseo-epoch").map(str::parse) {
        None => None,
        Some(Ok(epoch)) => Some(epoch),
        Some(Err(_)) => {
            let message = "the header sunseo-epoch is no whole number: send the epoch that open returned";
            return Err(Error::invalid("sunseo-epoch", message).into());
        }
    };
    let content_type = text(header::CONTENT_TYPE.as_str()).unwrap_or("application/json");
    let push = Push { content_type, epoch, traceparent: text("traceparent"), body: &body };
    Ok(Reply(http::push(outbox(&gateway)?, &source, &shard, push).await))
}
