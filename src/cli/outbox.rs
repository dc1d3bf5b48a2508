//! `sunseo outbox`.

use std::collections::HashMap;
use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use sunseo_proto::v1;

use super::Context;
use super::failure::{Failure, Outcome};
use super::output::error_text;
use super::place::done;
use crate::json;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All sources
    List,
    /// Read the outbox tables of a database
    Add(Add),
    /// One source, with the position of every table
    Describe { source: String },
    /// Stop reading, keep the position
    Pause { source: String },
    /// Go on after a pause, or after what stopped the source is mended
    Resume { source: String },
    /// Forget a source; what it published stays
    Remove { source: String },
    /// Compare the rows of the database with what is in the log
    Verify { source: String },
}

#[derive(Debug, Args)]
pub struct Add {
    source: String,
    /// Kind of the database
    #[arg(long, default_value = "sqlite")]
    kind: String,
    /// Path of the database's file, as the server sees it
    #[arg(long, alias = "path", value_name = "PATH")]
    url: String,
    /// Outbox table; a trailing * matches every shard, as in outbox_order_*; may be given several times
    #[arg(long = "table", short, required = true, value_name = "TABLE")]
    tables: Vec<String>,
    /// Topic of a row
    #[arg(long, default_value = "{aggregatetype}", value_name = "TEMPLATE")]
    topic_template: String,
    /// Partitions of topics made on the way [default: the server's]
    #[arg(long, short, default_value_t = 0, hide_default_value = true)]
    partitions: i32,
    /// What a row does that cannot become a record
    #[arg(long, value_enum, default_value_t = OnBadRow::Stop)]
    on_bad_row: OnBadRow,
    /// A column that differs from Debezium's name, as in aggregateid=order_id; may be given several times
    #[arg(long = "column", value_name = "NAME=COLUMN", value_parser = super::place::pair)]
    columns: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnBadRow {
    /// Stop the table until it is mended
    Stop,
    /// Send it to the dead-letter topic and go on
    Quarantine,
}

pub async fn run(command: Command, context: &mut Context) -> Outcome {
    let outbox = context.connect().await?.outbox()?;
    match command {
        Command::List => list(context, &outbox.sources().await?),
        Command::Add(arguments) => {
            let added = outbox.add_source(definition(arguments)?).await?;
            describe(context, &added.source.unwrap_or_default())
        }
        Command::Describe { source } => {
            let answer = outbox.describe_source(&source).await?;
            describe(context, &answer.source.unwrap_or_default())
        }
        Command::Pause { source } => {
            outbox.pause_source(&source).await?;
            done(context, "source", &source, "paused")
        }
        Command::Resume { source } => {
            outbox.resume_source(&source).await?;
            done(context, "source", &source, "resumed")
        }
        Command::Remove { source } => {
            outbox.remove_source(&source).await?;
            done(context, "source", &source, "removed")
        }
        Command::Verify { source } => verified(context, &outbox.verify_source(&source).await?),
    }
}

fn definition(add: Add) -> Outcome<v1::SourceDefinition> {
    let on_bad_row = match add.on_bad_row {
        OnBadRow::Stop => "stop",
        OnBadRow::Quarantine => "quarantine",
    };
    Ok(v1::SourceDefinition {
        name: add.source,
        kind: add.kind,
        url: absolute(add.url)?,
        tables: add.tables,
        topic_template: add.topic_template,
        partitions: add.partitions,
        on_bad_row: on_bad_row.to_owned(),
        columns: HashMap::from_iter(add.columns),
    })
}

/// A relative path means one from here, and the server stands somewhere else.
fn absolute(url: String) -> Outcome<String> {
    if url.contains("://") || Path::new(&url).is_absolute() {
        return Ok(url);
    }
    let path = std::path::absolute(&url).map_err(Failure::file("finding", Path::new(&url)))?;
    Ok(path.to_string_lossy().into_owned())
}

fn list(context: &mut Context, sources: &[v1::SourceStatus]) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&sources.iter().map(json::source).collect())?);
    }
    let row = |s: &v1::SourceStatus| {
        let definition = s.definition.clone().unwrap_or_default();
        let published: i64 = s.shards.iter().map(|shard| shard.rows_published).sum();
        vec![
            definition.name,
            s.state.clone(),
            definition.kind,
            definition.url,
            s.shards.len().to_string(),
            published.to_string(),
            error_text(s.error.as_ref()),
        ]
    };
    let headings = ["SOURCE", "STATE", "KIND", "URL", ">SHARDS", ">PUBLISHED", "ERROR"];
    Ok(context.output.table(&headings, sources.iter().map(row).collect())?)
}

fn describe(context: &mut Context, status: &v1::SourceStatus) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&json::source(status))?);
    }
    let definition = status.definition.clone().unwrap_or_default();
    context.output.pairs(vec![
        ("source", definition.name),
        ("state", status.state.clone()),
        ("kind", definition.kind),
        ("url", definition.url),
        ("tables", definition.tables.join(", ")),
        ("topic template", definition.topic_template),
        ("on bad row", definition.on_bad_row),
        ("error", error_text(status.error.as_ref())),
    ])?;
    context.output.line("")?;
    let row = |s: &v1::ShardStatus| {
        vec![
            s.shard.clone(),
            s.state.clone(),
            s.position.to_string(),
            s.rows_published.to_string(),
            s.rows_quarantined.to_string(),
            s.duplicates_dropped.to_string(),
            error_text(s.error.as_ref()),
        ]
    };
    let headings =
        ["SHARD", "STATE", ">POSITION", ">PUBLISHED", ">QUARANTINED", ">DUPLICATES DROPPED", "ERROR"];
    Ok(context.output.table(&headings, status.shards.iter().map(row).collect())?)
}

fn verified(context: &mut Context, answer: &v1::VerifySourceResponse) -> Outcome {
    if context.output.json {
        context.output.json(&json::verification(answer))?;
    } else {
        context.output.pairs(vec![
            ("rows", answer.rows.to_string()),
            ("published", answer.published.to_string()),
            ("missing", answer.missing.to_string()),
            ("duplicated", answer.duplicated.to_string()),
            ("out of order", answer.out_of_order.to_string()),
        ])?;
        for problem in &answer.problems {
            context.output.line(format!("{} ({})", problem.message, problem.code))?;
        }
    }
    let clean = answer.missing == 0 && answer.duplicated == 0 && answer.out_of_order == 0;
    if clean && answer.problems.is_empty() { Ok(()) } else { Err(Failure::Reported) }
}
