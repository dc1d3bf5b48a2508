//! `sunseo log`: reads a data directory without a server, and changes nothing in it.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use sunseo_log::inspect::{self, BatchDump, SegmentDump, VerifyReport};
use sunseo_proto::batch::Ending;

use super::Context;
use super::failure::{Failure, Outcome};
use super::output::bytes;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every segment with its batches
    Dump { dir: PathBuf },
    /// Check every checksum, offset, index and file of aborted transactions; exit status 1 when something is wrong
    Verify { dir: PathBuf },
}

pub fn run(command: Command, context: &mut Context) -> Outcome {
    match command {
        Command::Dump { dir } => {
            let mut outcome = Ok(());
            let mut each = |segment: SegmentDump| {
                if outcome.is_ok() {
                    outcome = show(context, &segment);
                }
            };
            inspect::dump(&dir, &mut each).map_err(|error| Failure::new(error.to_string()))?;
            outcome
        }
        Command::Verify { dir } => {
            let report = inspect::verify(&dir).map_err(|error| Failure::new(error.to_string()))?;
            verified(context, &report)
        }
    }
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Commit => "commit",
        Ending::Abort => "abort",
    }
}

fn batch(b: &BatchDump) -> Value {
    json!({
        "base_offset": b.base_offset,
        "last_offset": b.last_offset,
        "records": b.records,
        "bytes": b.bytes,
        "at": b.at,
        "leader_epoch": b.leader_epoch,
        "producer_id": b.producer_id,
        "producer_epoch": b.producer_epoch,
        "base_sequence": b.base_sequence,
        "max_timestamp_ms": b.max_timestamp_ms,
        "compression": b.compression,
        "transactional": b.transactional,
        "marker": b.marker.map(ending),
    })
}

fn show(context: &mut Context, s: &SegmentDump) -> Outcome {
    if context.output.json {
        let value = json!({
            "topic_id": s.id.topic_id.to_string(),
            "partition": s.id.partition,
            "base_offset": s.base_offset,
            "end_offset": s.end_offset,
            "bytes": s.bytes,
            "tail_bytes": s.tail_bytes,
            "generation": s.generation,
            "sealed": s.sealed,
            "index_entries": s.index_entries,
            "problems": s.problems,
            "batches": s.batches.iter().map(batch).collect::<Value>(),
        });
        return Ok(context.output.json_line(&value)?);
    }
    let state = if s.sealed { "sealed" } else { "active" };
    context.output.line(format!(
        "{} offsets {}..{} {state}, {}, {} batches, {} index entries, {} bytes after the last batch",
        s.id,
        s.base_offset,
        s.end_offset,
        bytes(s.bytes),
        s.batches.len(),
        s.index_entries,
        s.tail_bytes
    ))?;
    for b in &s.batches {
        let kind = match b.marker {
            Some(ended) => format!(" {} marker", ending(ended)),
            None if b.transactional => " transactional".to_owned(),
            None => String::new(),
        };
        context.output.line(format!(
            "  {}..{} at {} {} bytes epoch {} producer {}/{} sequence {} {}{kind}",
            b.base_offset,
            b.last_offset,
            b.at,
            b.bytes,
            b.leader_epoch,
            b.producer_id,
            b.producer_epoch,
            b.base_sequence,
            b.compression
        ))?;
    }
    for problem in &s.problems {
        context.output.line(format!("  problem: {problem}"))?;
    }
    Ok(())
}

fn verified(context: &mut Context, report: &VerifyReport) -> Outcome {
    if context.output.json {
        context.output.json(&json!({
            "partitions": report.partitions,
            "segments": report.segments,
            "batches": report.batches,
            "records": report.records,
            "bytes": report.bytes,
            "journal_frames": report.journal_frames,
            "aborted_ranges": report.aborted_ranges,
            "problems": report.problems,
        }))?;
    } else {
        context.output.pairs(vec![
            ("partitions", report.partitions.to_string()),
            ("segments", report.segments.to_string()),
            ("batches", report.batches.to_string()),
            ("records", report.records.to_string()),
            ("bytes", bytes(report.bytes)),
            ("journal frames", report.journal_frames.to_string()),
            ("aborted transactions in files", report.aborted_ranges.to_string()),
            ("problems", report.problems.len().to_string()),
        ])?;
        for problem in &report.problems {
            context.output.line(problem)?;
        }
    }
    if report.problems.is_empty() { Ok(()) } else { Err(Failure::Reported) }
}
