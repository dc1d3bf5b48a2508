//! `sunseo group`.

use clap::{Args, Subcommand};
use serde_json::Value;
use sunseo_client::admin::OffsetQuery;
use sunseo_client::{Admin, Client, StartFrom};
use sunseo_proto::v1;

use super::Context;
use super::failure::{Failure, Outcome};
use super::place::{From, TopicPart};
use crate::json;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All groups
    List,
    /// Members, what each owns, and the lag of every partition
    Describe { group: String },
    /// Set where a group without members goes on
    Seek(Seek),
    /// Delete a group without members, and its offsets
    Delete { group: String },
}

#[derive(Debug, Args)]
pub struct Seek {
    group: String,
    /// Topic, or one partition of it
    #[arg(value_name = "TOPIC[:PARTITION]", required = true)]
    topics: Vec<TopicPart>,
    /// start, end, OFFSET, -N (N records before the end), @TIME or @-1h
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    to: From,
}

pub async fn run(command: Command, context: &mut Context) -> Outcome {
    let client = context.connect().await?;
    let admin = client.admin();
    match command {
        Command::List => list(context, &admin.groups().await?),
        Command::Describe { group } => describe(context, &admin.describe_group(&group).await?),
        Command::Seek(arguments) => seek(arguments, context, &client).await,
        Command::Delete { group } => {
            admin.delete_group(&group).await?;
            super::place::done(context, "group", &group, "deleted")
        }
    }
}

fn list(context: &mut Context, groups: &[v1::GroupSummary]) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&groups.iter().map(json::group).collect())?);
    }
    let row = |g: &v1::GroupSummary| {
        vec![g.group.clone(), g.state.clone(), g.members.to_string(), g.group_epoch.to_string()]
    };
    let rows = groups.iter().map(row).collect();
    Ok(context.output.table(&["GROUP", "STATE", ">MEMBERS", ">EPOCH"], rows)?)
}

fn describe(context: &mut Context, description: &v1::DescribeGroupResponse) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&json::group_description(description))?);
    }
    let summary = description.summary.clone().unwrap_or_default();
    context.output.pairs(vec![
        ("group", summary.group),
        ("state", summary.state),
        ("epoch", summary.group_epoch.to_string()),
        ("members", description.members.len().to_string()),
        ("lag", total_lag(&description.partitions)),
    ])?;
    if !description.members.is_empty() {
        context.output.line("")?;
        let row = |m: &v1::GroupMember| {
            let (owned, target) = (m.owned.len().to_string(), m.target.len().to_string());
            vec![
                m.member_id.clone(),
                m.instance_id.clone(),
                m.member_epoch.to_string(),
                owned,
                target,
                m.topics.join(","),
            ]
        };
        let headings = ["MEMBER", "INSTANCE", ">EPOCH", ">OWNED", ">TARGET", "TOPICS"];
        context.output.table(&headings, description.members.iter().map(row).collect())?;
    }
    context.output.line("")?;
    let row = |p: &v1::GroupPartition| {
        let committed = if p.committed_offset < 0 { "-".to_owned() } else { p.committed_offset.to_string() };
        vec![
            p.topic.clone(),
            p.partition.to_string(),
            committed,
            p.high_watermark.to_string(),
            if p.lag < 0 { "-".to_owned() } else { p.lag.to_string() },
            p.owner.clone(),
        ]
    };
    let headings = ["TOPIC", ">PARTITION", ">COMMITTED", ">HIGH WATERMARK", ">LAG", "OWNER"];
    Ok(context.output.table(&headings, description.partitions.iter().map(row).collect())?)
}

/// Of the partitions with an offset, and how many have none.
fn total_lag(partitions: &[v1::GroupPartition]) -> String {
    let lag: i64 = partitions.iter().map(|partition| partition.lag.max(0)).sum();
    match partitions.iter().filter(|partition| partition.lag < 0).count() {
        0 => lag.to_string(),
        none => format!("{lag}, and {none} partitions without an offset"),
    }
}

async fn seek(Seek { group, topics, to }: Seek, context: &mut Context, client: &Client) -> Outcome {
    let admin = client.admin();
    let mut offsets = Vec::new();
    for TopicPart { topic, partition } in topics {
        let count = client.partitions(&topic).await?;
        let partitions = match partition {
            None => 0..count,
            Some(partition) if partition < count => partition..partition + 1,
            Some(partition) => {
                return Err(Failure::new(format!(
                    "topic {topic} has {count} partitions, there is no {partition}: use 0 to {}",
                    count - 1
                )));
            }
        };
        for partition in partitions {
            let offset = resolve(&admin, &topic, partition, to.0).await?;
            offsets.push(v1::OffsetCommit { topic: topic.clone(), partition, offset, ..Default::default() });
        }
    }
    admin.reset_offsets(&group, offsets.clone()).await?;
    if context.output.json {
        let offset = |o: &v1::OffsetCommit| serde_json::json!({"topic": o.topic, "partition": o.partition, "offset": o.offset});
        let offsets: Value = offsets.iter().map(offset).collect();
        return Ok(context.output.json(&serde_json::json!({"group": group, "offsets": offsets}))?);
    }
    let row = |o: &v1::OffsetCommit| vec![o.topic.clone(), o.partition.to_string(), o.offset.to_string()];
    Ok(context.output.table(&["TOPIC", ">PARTITION", ">OFFSET"], offsets.iter().map(row).collect())?)
}

/// An offset that lies in the log.
pub(super) async fn resolve(admin: &Admin, topic: &str, partition: i32, place: StartFrom) -> Outcome<i64> {
    let start = admin.offset(topic, partition, OffsetQuery::Start).await?.unwrap_or(0);
    let end = admin.offset(topic, partition, OffsetQuery::End).await?.unwrap_or(0);
    Ok(match place {
        StartFrom::Start => start,
        StartFrom::End => end,
        StartFrom::LastN(count) => (end - i64::try_from(count).unwrap_or(i64::MAX)).max(start),
        StartFrom::Timestamp(ms) => {
            admin.offset(topic, partition, OffsetQuery::Timestamp(ms)).await?.unwrap_or(end)
        }
        StartFrom::Offset(offset) if (start..=end).contains(&offset) => offset,
        StartFrom::Offset(offset) => {
            return Err(Failure::new(format!(
                "offset {offset} is not in partition {partition} of topic {topic}: use {start} to {end}"
            )));
        }
    })
}
