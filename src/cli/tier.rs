//! `sunseo tier`.

use clap::{Args, Subcommand};
use serde_json::json;
use sunseo_proto::v1;

use super::Context;
use super::failure::{Failure, Outcome};
use super::output::bytes;
use crate::json;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is in the object store, and what waits to go there
    Status {
        /// Only this topic
        topic: Option<String>,
    },
    /// Read every object back and compare it with its checksum
    Verify {
        /// Only this topic
        topic: Option<String>,
    },
    /// Copy offloaded segments back to the local disk
    Restore {
        topic: String,
        /// Only this partition
        #[arg(long, short)]
        partition: Option<i32>,
    },
    /// Offload, and write archive tables, without waiting for size or age
    Flush(Flush),
}

#[derive(Debug, Args)]
pub struct Flush {
    /// Only this topic, and the archive tables that read it
    topic: Option<String>,
    /// Seal the active segments first
    #[arg(long)]
    seal: bool,
    /// Drop local copies of what is offloaded
    #[arg(long)]
    evict: bool,
}

pub async fn run(command: Command, context: &mut Context) -> Outcome {
    let admin = context.connect().await?.admin();
    match command {
        Command::Status { topic } => {
            let status = admin.tier_status(&topic.unwrap_or_default()).await?;
            show(context, &status)
        }
        Command::Verify { topic } => {
            let answer = admin.tier_verify(&topic.unwrap_or_default()).await?;
            verified(context, &answer)
        }
        Command::Restore { topic, partition } => {
            let answer = admin.tier_restore(&topic, partition).await?;
            if context.output.json {
                let value = json!({"segments": answer.segments, "bytes": answer.bytes});
                return Ok(context.output.json(&value)?);
            }
            let text = format!("{} segments restored, {}", answer.segments, bytes(answer.bytes));
            Ok(context.output.line(text)?)
        }
        Command::Flush(Flush { topic, seal, evict }) => {
            let request = v1::TierFlushRequest { topic: topic.unwrap_or_default(), seal, evict };
            flushed(context, &admin.tier_flush(request).await?)
        }
    }
}

fn show(context: &mut Context, status: &v1::TierStatusResponse) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&json::tier_status(status))?);
    }
    context.output.pairs(vec![
        ("store", status.store.clone()),
        ("reachable", if status.reachable { "yes" } else { "no" }.to_owned()),
        ("objects", status.objects.to_string()),
        ("bytes", bytes(status.bytes)),
        ("bytes read back", bytes(status.bytes_read_back)),
        ("last error", status.last_error.clone()),
    ])?;
    if !status.partitions.is_empty() {
        context.output.line("")?;
        let row = |p: &v1::TierPartition| {
            let offsets = if p.segments == 0 {
                "-".to_owned()
            } else {
                format!("{}..{}", p.offloaded_from, p.offloaded_to)
            };
            vec![
                p.topic.clone(),
                p.partition.to_string(),
                p.segments.to_string(),
                bytes(p.bytes),
                offsets,
                bytes(p.pending_bytes),
            ]
        };
        let headings = ["TOPIC", ">PARTITION", ">SEGMENTS", ">BYTES", ">OFFSETS", ">PENDING"];
        context.output.table(&headings, status.partitions.iter().map(row).collect())?;
    }
    if !status.archives.is_empty() {
        context.output.line("")?;
        archives(context, &status.archives)?;
    }
    Ok(())
}

/// The archive tables as columns.
pub fn archives(context: &mut Context, tables: &[v1::ArchiveTable]) -> Outcome {
    let row = |a: &v1::ArchiveTable| {
        vec![
            a.table.clone(),
            a.topic.clone(),
            a.files.to_string(),
            a.rows.to_string(),
            bytes(a.bytes),
            a.bad_rows.to_string(),
            a.lag.to_string(),
        ]
    };
    let headings = ["TABLE", "TOPIC", ">FILES", ">ROWS", ">BYTES", ">BAD ROWS", ">LAG"];
    Ok(context.output.table(&headings, tables.iter().map(row).collect())?)
}

fn verified(context: &mut Context, answer: &v1::TierVerifyResponse) -> Outcome {
    if context.output.json {
        context.output.json(&json::tier_verification(answer))?;
    } else {
        let text = format!(
            "{} objects read back, {}, {} problems",
            answer.objects,
            bytes(answer.bytes),
            answer.problems.len()
        );
        context.output.line(text)?;
        for problem in &answer.problems {
            context.output.line(format!("{} ({})", problem.message, problem.code))?;
        }
    }
    if answer.problems.is_empty() { Ok(()) } else { Err(Failure::Reported) }
}

fn flushed(context: &mut Context, answer: &v1::TierFlushResponse) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&json::tier_flushed(answer))?);
    }
    context.output.pairs(vec![
        ("segments offloaded", answer.segments_offloaded.to_string()),
        ("bytes offloaded", bytes(answer.bytes_offloaded)),
        ("segments evicted", answer.segments_evicted.to_string()),
        ("archive files", answer.archive_files.to_string()),
        ("archive rows", answer.archive_rows.to_string()),
    ])?;
    Ok(())
}
