//! `sunseo pipeline`.

use clap::Subcommand;
use sunseo_proto::v1;

use super::Context;
use super::failure::Outcome;
use super::output::error_text;
use super::place::done;
use crate::json;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All pipelines
    List,
    /// Operators, stores and tasks
    Describe { pipeline: String },
    /// Stop handling records, keep the state
    Pause { pipeline: String },
    /// Go on after a pause or a failure
    Resume { pipeline: String },
    /// Drop the state and read the inputs again from their start
    Reset { pipeline: String },
    /// What changed since the last start, and which state survives it
    Diff { pipeline: String },
}

pub async fn run(command: Command, context: &mut Context) -> Outcome {
    let pipelines = context.connect().await?.pipelines()?;
    match command {
        Command::List => list(context, &pipelines.list().await?),
        Command::Describe { pipeline } => describe(context, &pipelines.describe(&pipeline).await?),
        Command::Pause { pipeline } => {
            pipelines.pause(&pipeline).await?;
            done(context, "pipeline", &pipeline, "paused")
        }
        Command::Resume { pipeline } => {
            pipelines.resume(&pipeline).await?;
            done(context, "pipeline", &pipeline, "resumed")
        }
        Command::Reset { pipeline } => {
            pipelines.reset(&pipeline).await?;
            done(context, "pipeline", &pipeline, "reset")
        }
        Command::Diff { pipeline } => diff(context, &pipelines.diff(&pipeline).await?),
    }
}

fn list(context: &mut Context, pipelines: &[v1::PipelineSummary]) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&pipelines.iter().map(json::pipeline).collect())?);
    }
    let row = |p: &v1::PipelineSummary| {
        vec![
            p.name.clone(),
            p.state.clone(),
            p.tasks.to_string(),
            p.lag.to_string(),
            p.records_processed.to_string(),
            p.dead_letters.to_string(),
            error_text(p.error.as_ref()),
        ]
    };
    let headings = ["PIPELINE", "STATE", ">TASKS", ">LAG", ">RECORDS", ">DEAD LETTERS", "ERROR"];
    Ok(context.output.table(&headings, pipelines.iter().map(row).collect())?)
}

fn describe(context: &mut Context, description: &v1::DescribePipelineResponse) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&json::pipeline_description(description))?);
    }
    let summary = description.pipeline.clone().unwrap_or_default();
    context.output.pairs(vec![
        ("pipeline", summary.name),
        ("state", summary.state),
        ("lag", summary.lag.to_string()),
        ("records", summary.records_processed.to_string()),
        ("dead letters", summary.dead_letters.to_string()),
        ("error", error_text(summary.error.as_ref())),
    ])?;
    context.output.line("")?;
    let operator = |o: &v1::Operator| {
        vec![o.id.clone(), o.kind.clone(), o.inputs.join(", "), o.target.clone(), o.sub_topology.to_string()]
    };
    let rows = description.operators.iter().map(operator).collect();
    context.output.table(&["OPERATOR", "KIND", "INPUTS", "TARGET", ">SUB-TOPOLOGY"], rows)?;
    context.output.line("")?;
    let store = |s: &v1::StoreDescription| {
        vec![
            s.store.clone(),
            s.operator.clone(),
            s.key_type.clone(),
            s.value_type.clone(),
            s.entries_estimate.to_string(),
        ]
    };
    let rows = description.stores.iter().map(store).collect();
    context.output.table(&["STORE", "OPERATOR", "KEY", "VALUE", ">ENTRIES ABOUT"], rows)?;
    context.output.line("")?;
    let task = |t: &v1::TaskStatus| {
        vec![
            format!("{}_{}", t.sub_topology, t.partition),
            t.state.clone(),
            t.worker.to_string(),
            t.commit_position.to_string(),
            t.lag.to_string(),
            t.records_processed.to_string(),
        ]
    };
    let rows = description.tasks.iter().map(task).collect();
    let headings = ["TASK", "STATE", ">WORKER", ">COMMIT", ">LAG", ">RECORDS"];
    Ok(context.output.table(&headings, rows)?)
}

fn diff(context: &mut Context, changes: &[v1::PipelineChange]) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&json::pipeline_changes(changes))?);
    }
    let row = |c: &v1::PipelineChange| {
        let survives = if c.state_survives { "yes" } else { "no" };
        vec![c.id.clone(), c.change.clone(), survives.to_owned(), c.detail.clone()]
    };
    let headings = ["OPERATOR", "CHANGE", "STATE SURVIVES", "DETAIL"];
    Ok(context.output.table(&headings, changes.iter().map(row).collect())?)
}
