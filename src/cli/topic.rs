//! `sunseo topic`.

use std::collections::HashMap;
use std::ops::Range;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sunseo_client::admin::OffsetQuery;
use sunseo_client::{Client, NewTopic, StartFrom};
use sunseo_proto::{Error, v1};

use super::Context;
use super::failure::{Failure, Outcome};
use super::group::resolve;
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
    /// Delete the records of a topic before a place, for ever
    DeleteRecords(DeleteRecords),
    /// First and last offsets of each partition, or where a time begins
    Offsets(Offsets),
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
pub struct DeleteRecords {
    topic: String,
    /// One partition [default: every partition]
    #[arg(long, short, value_name = "N")]
    partition: Option<i32>,
    /// What is before it goes: end (everything), OFFSET, -N (all but the last N records), @TIME or @-1h
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    before: super::place::From,
}

#[derive(Debug, Args)]
pub struct Offsets {
    topic: String,
    /// One partition [default: every partition]
    #[arg(long, short, value_name = "N")]
    partition: Option<i32>,
    /// start, end, OFFSET, -N (N records before the end), @TIME or @-1h
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    at: Option<super::place::From>,
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
    let client = context.connect().await?;
    let admin = client.admin();
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
        Command::DeleteRecords(arguments) => delete_records(arguments, context, &client).await,
        Command::Offsets(arguments) => offsets(arguments, context, &client).await,
    }
}

/// The partitions that are meant.
async fn chosen(client: &Client, topic: &str, partition: Option<i32>) -> Outcome<Range<i32>> {
    let count = client.partitions(topic).await?;
    match partition {
        None => Ok(0..count),
        Some(partition) if (0..count).contains(&partition) => Ok(partition..partition + 1),
        Some(partition) => Err(Failure::new(format!(
            "topic {topic} has {count} partitions, there is no {partition}: use 0 to {}",
            count - 1
        ))),
    }
}

async fn delete_records(arguments: DeleteRecords, context: &mut Context, client: &Client) -> Outcome {
    let DeleteRecords { topic, partition, before } = arguments;
    let admin = client.admin();
    let mut places = Vec::new();
    for partition in chosen(client, &topic, partition).await? {
        let offset = match before.0 {
            // the server's end: what arrives meanwhile goes too, or stays, and is never counted twice
            StartFrom::End => None,
            place => Some(resolve(&admin, &topic, partition, place).await?),
        };
        places.push((partition, offset));
    }
    let results = admin.delete_records(&topic, places).await?;
    if let Some(error) = results.iter().find_map(|result| result.error.clone()) {
        return Err(Error::from(error).into());
    }
    if context.output.json {
        let result = |r: &v1::DeleteRecordsResult| json!({"partition": r.partition, "log_start_offset": r.log_start_offset});
        let partitions: Value = results.iter().map(result).collect();
        return Ok(context.output.json(&json!({"topic": topic, "partitions": partitions}))?);
    }
    let row = |r: &v1::DeleteRecordsResult| vec![r.partition.to_string(), r.log_start_offset.to_string()];
    Ok(context.output.table(&[">PARTITION", ">START"], results.iter().map(row).collect())?)
}

async fn offsets(
    Offsets { topic, partition, at }: Offsets,
    context: &mut Context,
    client: &Client,
) -> Outcome {
    let admin = client.admin();
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for partition in chosen(client, &topic, partition).await? {
        let start = admin.offset(&topic, partition, OffsetQuery::Start).await?.unwrap_or(0);
        let end = admin.offset(&topic, partition, OffsetQuery::End).await?.unwrap_or(0);
        let mut value = json!({"partition": partition, "start": start, "end": end});
        let mut row = vec![partition.to_string(), start.to_string(), end.to_string()];
        if let Some(at) = at {
            let offset = resolve(&admin, &topic, partition, at.0).await?;
            value["offset"] = offset.into();
            row.push(offset.to_string());
        }
        values.push(value);
        rows.push(row);
    }
    if context.output.json {
        return Ok(context.output.json(&json!({"topic": topic, "partitions": values}))?);
    }
    let headings = [">PARTITION", ">START", ">END", ">OFFSET"];
    let shown = if at.is_some() { 4 } else { 3 };
    Ok(context.output.table(&headings[..shown], rows)?)
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
