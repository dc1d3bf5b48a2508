//! Topics, groups, tier.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use sunseo_client::NewTopic;
use sunseo_proto::Error;

use super::{Answer, Gateway, Refused, Shared};
use crate::json;

pub fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/v1/topics", get(topics).post(create))
        .route("/v1/topics/{topic}", get(topic).patch(alter).delete(delete_topic))
        .route("/v1/groups", get(groups))
        .route("/v1/groups/{group}", get(group).delete(delete_group))
        .route("/v1/tier", get(tier))
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    internal: bool,
}

async fn topics(State(gateway): Shared, query: Result<Query<List>, QueryRejection>) -> Answer {
    let topics = gateway.parts()?.client.admin().topics(query?.internal).await?;
    Ok(Json(topics.iter().map(json::topic).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    partitions: i32,
    #[serde(default)]
    config: HashMap<String, Value>,
    #[serde(default)]
    if_not_exists: bool,
}

/// Values as the protocol takes them: `60000` and `"60000"` are the same.
fn texts(config: HashMap<String, Value>) -> Result<HashMap<String, String>, Refused> {
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
        other => Err(Refused(Error::invalid(
            format!("config.{name}"),
            format!("config.{name} is {other}: use text, a number, true or false"),
        ))),
    };
    config.into_iter().map(text).collect()
}

async fn create(State(gateway): Shared, body: Result<Json<Create>, JsonRejection>) -> Answer {
    let Json(Create { name, partitions, config, if_not_exists }) = body?;
    let topic = NewTopic { name, partitions, config: texts(config)?, if_not_exists, internal: false };
    let made = gateway.parts()?.client.admin().create_topic(topic).await?;
    Ok(Json(json::topic(&made)))
}

async fn topic(State(gateway): Shared, Path(topic): Path<String>) -> Answer {
    let description = gateway.parts()?.client.admin().describe_topic(&topic).await?;
    Ok(Json(json::topic_description(&description)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alter {
    #[serde(default)]
    partitions: i32,
    #[serde(default)]
    config: HashMap<String, Value>,
}

async fn alter(
    State(gateway): Shared,
    Path(topic): Path<String>,
    body: Result<Json<Alter>, JsonRejection>,
) -> Answer {
    let Json(Alter { partitions, config }) = body?;
    let admin = gateway.parts()?.client.admin();
    Ok(Json(json::topic(&admin.alter_topic(&topic, texts(config)?, partitions).await?)))
}

async fn delete_topic(State(gateway): Shared, Path(topic): Path<String>) -> Answer {
    gateway.parts()?.client.admin().delete_topic(&topic).await?;
    Ok(Json(json!({"topic": topic, "result": "deleted"})))
}

async fn groups(State(gateway): Shared) -> Answer {
    let groups = gateway.parts()?.client.admin().groups().await?;
    Ok(Json(groups.iter().map(json::group).collect()))
}

async fn group(State(gateway): Shared, Path(group): Path<String>) -> Answer {
    let description = gateway.parts()?.client.admin().describe_group(&group).await?;
    Ok(Json(json::group_description(&description)))
}

async fn delete_group(State(gateway): Shared, Path(group): Path<String>) -> Answer {
    gateway.parts()?.client.admin().delete_group(&group).await?;
    Ok(Json(json!({"group": group, "result": "deleted"})))
}

#[derive(Deserialize)]
struct Tier {
    #[serde(default)]
    topic: String,
}

async fn tier(State(gateway): Shared, query: Result<Query<Tier>, QueryRejection>) -> Answer {
    let status = gateway.parts()?.client.admin().tier_status(&query?.topic).await?;
    Ok(Json(json::tier_status(&status)))
}
