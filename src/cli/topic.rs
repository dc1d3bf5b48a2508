//! `sunseo topic`.

use std::collections::HashMap;

use clap::{Args, Subcommand};
use serde_json::Value;
use sunseo_client::NewTopic;
use sunseo_proto::v1;

use super::Context;
use super::failure::Outcome;
use super::output::bytes;
use crate::json;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a topic
    Create(Create),
    /// All topics
    List {
        /// Also those the server made for itself
        #[arg(long)]
        internal: bool,
    },
    /// Configuration, and each partition's offsets and bytes
    Describe { topic: String },
    /// Change the configuration, or add partitions
    Alter(Alter),
    /// Delete a topic and its records, for ever
    Delete { topic: String },
}

#[derive(Debug, Args)]
pub struct Create {
    topic: String,
    /// Number of partitions [default: the server's]
    #[arg(long, short, default_value_t = 0, hide_default_value = true)]
    partitions: i32,
    #[command(flatten)]
    config: Config,
    /// Finding it there already is success
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Debug, Args)]
pub struct Alter {
    topic: String,
    /// New number of partitions; it can only grow
    #[arg(long, short, default_value_t = 0, hide_default_value = true)]
    partitions: i32,
    #[command(flatten)]
    config: Config,
}

#[derive(Debug, Args)]
struct Config {
    /// retention_ms, retention_bytes, segment_bytes, segment_ms, max_batch_bytes, durability, tiered,
    /// local_retention_bytes, local_retention_ms, cleanup ("delete", "compact" or "compact,delete"), delete_retention_ms,
    /// min_compaction_lag_ms or min_dirty_ratio; may be given several times
    #[arg(long = "config", short, value_name = "NAME=VALUE", value_parser = super::place::pair)]
    config: Vec<(String, String)>,
}

pub async fn run(command: Command, context: &mut Context) -> Outcome {
    let admin = context.connect().await?.admin();
    match command {
        Command::Create(Create { topic, partitions, config, if_not_exists }) => {
            let config = HashMap::from_iter(config.config);
            let topic = NewTopic { name: topic, partitions, config, if_not_exists, internal: false };
            let made = admin.create_topic(topic).await?;
            said(context, &made, "created")
        }
        Command::List { internal } => list(context, &admin.topics(internal).await?),
        Command::Describe { topic } => describe(context, &admin.describe_topic(&topic).await?),
        Command::Alter(Alter { topic, partitions, config }) => {
            let altered = admin.alter_topic(&topic, HashMap::from_iter(config.config), partitions).await?;
            said(context, &altered, "altered")
        }
        Command::Delete { topic } => {
            admin.delete_topic(&topic).await?;
            super::place::done(context, "topic", &topic, "deleted")
        }
    }
}

fn said(context: &mut Context, topic: &v1::TopicMetadata, what: &str) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&json::topic(topic))?);
    }
    let partitions = topic.partitions.len();
    let plural = if partitions == 1 { "" } else { "s" };
    Ok(context.output.line(format!("topic {} {what}, {partitions} partition{plural}", topic.name))?)
}

fn list(context: &mut Context, topics: &[v1::TopicMetadata]) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&topics.iter().map(json::topic).collect())?);
    }
    let row = |topic: &v1::TopicMetadata| {
        let config = topic.config.clone().unwrap_or_default();
        vec![
            topic.name.clone(),
            topic.partitions.len().to_string(),
            config.durability,
            if config.tiered { "yes" } else { "no" }.to_owned(),
            kept(config.retention_ms, "ms"),
            kept(config.retention_bytes, "B"),
        ]
    };
    let headings = ["TOPIC", ">PARTITIONS", "DURABILITY", "TIERED", ">RETENTION", ">RETENTION BYTES"];
    Ok(context.output.table(&headings, topics.iter().map(row).collect())?)
}

fn kept(value: i64, unit: &str) -> String {
    if value < 0 { "for ever".to_owned() } else { format!("{value} {unit}") }
}

fn describe(context: &mut Context, description: &v1::DescribeTopicResponse) -> Outcome {
    let value = json::topic_description(description);
    if context.output.json {
        return Ok(context.output.json(&value)?);
    }
    let topic = description.topic.clone().unwrap_or_default();
    let mut pairs = vec![("topic", topic.name), ("topic_id", json::hex(&topic.topic_id))];
    let config = value["config"].as_object();
    pairs.extend(config.into_iter().flatten().map(|(name, value)| (name.as_str(), plain(value))));
    context.output.pairs(pairs)?;
    context.output.line("")?;
    let row = |p: &v1::PartitionDescription| {
        vec![
            p.partition.to_string(),
            p.log_start_offset.to_string(),
            p.local_start_offset.to_string(),
            p.high_watermark.to_string(),
            p.leader_epoch.to_string(),
            p.segments.to_string(),
            bytes(p.local_bytes),
            bytes(p.offloaded_bytes),
            p.failed.clone(),
        ]
    };
    let headings = [
        ">PARTITION",
        ">START",
        ">LOCAL START",
        ">HIGH WATERMARK",
        ">EPOCH",
        ">SEGMENTS",
        ">LOCAL",
        ">OFFLOADED",
        "FAILED",
    ];
    Ok(context.output.table(&headings, description.partitions.iter().map(row).collect())?)
}

/// A value without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
