//! HTTP/1: health, metrics, and the JSON API.
//!
//! | path | |
//! |---|---|
//! | `/healthz`, `/readyz`, `/metrics` | for supervisors and Prometheus |
//! | `/v1/topics`, `/v1/groups`, `/v1/tier` | what the command line shows with `--json`; POST, PATCH and DELETE change it |
//! | `/v1/topics/T/records` | records in and out, as the command line's ndjson |
//! | `/v1/pipelines`, `/v1/query` | pipelines and their live state |
//! | `/v1/sources` | outbox sources, and the door for pushes |
//!
//! Errors are `{code, message, retryable, field}` with the status of the code. The server listens before the node is ready, so that a
//! supervisor sees a long recovery as alive and not ready.
//! Not here: decisions. Every handler is one call of a part.

mod broker;
mod engine;
mod health;
mod listener;
mod outbox;
pub mod records;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use sunseo_broker::BrokerHandle;
use sunseo_client::Client;
use sunseo_engine::Engine;
use sunseo_outbox::Outbox;
use sunseo_outbox::config::INGEST_BYTES_MAX;
use sunseo_proto::{Error, ErrorCode};

pub use self::listener::HttpListener;
use crate::json::{http_status, refusal};

/// The parts that handlers call.
#[derive(Clone, Debug)]
pub struct Parts {
    pub client: Client,
    pub outbox: Outbox,
    pub engine: Engine,
    /// For the memory that bodies take.
    pub broker: BrokerHandle,
    /// Bytes of records in one request or answer.
    pub body_bytes_max: usize,
}

/// What the handlers share.
#[derive(Debug)]
pub struct Gateway {
    /// Set when the node is ready.
    parts: OnceLock<Parts>,
    stopping: AtomicBool,
    metrics: PrometheusHandle,
}

impl Gateway {
    pub fn new(metrics: PrometheusHandle) -> Self {
        Self { parts: OnceLock::new(), stopping: AtomicBool::new(false), metrics }
    }

    /// From now on requests are served.
    pub fn ready(&self, parts: Parts) {
        // ready once: a second call would be the same node
        let _ = self.parts.set(parts);
    }

    /// From now on the node is not ready; requests that come are still served.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn parts(&self) -> Result<&Parts, Refused> {
        self.parts.get().ok_or_else(|| {
            Refused(Error::new(ErrorCode::Unavailable, "the node is starting: try again in a moment"))
        })
    }
}

type Shared = State<Arc<Gateway>>;

/// A body, or a refusal with its status.
type Answer = Result<Json<Value>, Refused>;

/// A refusal on its way out.
#[derive(Debug)]
pub struct Refused(Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<JsonRejection> for Refused {
    fn from(rejection: JsonRejection) -> Self {
        let text = rejection.body_text();
        Self(Error::invalid("body", format!("{text}: send a JSON object with content-type application/json")))
    }
}

impl From<QueryRejection> for Refused {
    fn from(rejection: QueryRejection) -> Self {
        Self(Error::invalid("query", rejection.body_text()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(http_status(self.0.code));
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(refusal(&self.0))).into_response()
    }
}

/// All routes.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .merge(health::routes())
        .merge(broker::routes())
        .merge(records::routes())
        .merge(outbox::routes())
        .merge(engine::routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(INGEST_BYTES_MAX))
        .with_state(gateway)
}

fn nothing_there(status: StatusCode, request: &Request, hint: &str) -> Response {
    let message = format!("{} {}: {hint}", request.method(), request.uri().path());
    let body = json!({"code": ErrorCode::Unsupported.as_str(), "message": message, "retryable": false, "field": null});
    (status, Json(body)).into_response()
}

async fn unknown_path(request: Request) -> Response {
    let hint = "there is nothing here: the API begins at /v1/topics, /v1/groups, /v1/tier, /v1/pipelines, /v1/query and /v1/sources";
    nothing_there(StatusCode::NOT_FOUND, &request, hint)
}

async fn unknown_method(request: Request) -> Response {
    nothing_there(StatusCode::METHOD_NOT_ALLOWED, &request, "this path does not take this method")
}
