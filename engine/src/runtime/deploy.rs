//! What a deployment does before tasks start: compares the topology with what is stored, decides whether its state can be kept.

use std::sync::Arc;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::runtime::Handle;

use super::definition::{self, Definition, Stored, task_problems, tasks_of};
use super::pipeline::Pipeline;
use super::spec::Shared;
use crate::config::DeployOptions;
use crate::plan::Plan;
use crate::topology::{Change, ChangeKind, Description, OperatorDescription, Topology, diff};

/// The pipeline of a topology, with its definition stored. Nothing runs yet.
///
/// # Errors
/// `INVALID_ARGUMENT` when stored state does not fit the topology and may not be dropped, or what the broker says.
pub(crate) async fn pipeline(
    (topology, plan): (Topology, Arc<Plan>),
    shared: Shared,
    threads: Handle,
    options: DeployOptions,
) -> Result<Pipeline> {
    let name = topology.name().to_owned();
    let stored = definition::load(&shared.client, &name).await?;
    let description = plan.describe();
    let changes = diff(
        stored.as_ref().map_or(&Description::default(), |stored| &stored.definition.description),
        &description,
    );
    let fresh = Definition { generation: 0, paused: false, tasks: tasks_of(&plan), description };
    let (definition, version) = match stored {
        None => {
            let version = definition::save(&shared.client, &name, &fresh, 0).await?;
            (fresh, version)
        }
        Some(Stored { definition: old, version }) => {
            let mut definition = Definition { generation: old.generation, paused: old.paused, ..fresh };
            let problems = problems(&changes, &old, &definition);
            if !problems.is_empty() {
                if !options.reset_if_incompatible {
                    return Err(refusal(&name, &problems));
                }
                tracing::warn!(
                    pipeline = name,
                    ?problems,
                    "stored state does not fit the topology: starting anew"
                );
                definition.generation += 1;
            }
            let version = match definition == old {
                true => version,
                false => definition::save(&shared.client, &name, &definition, version).await?,
            };
            (definition, version)
        }
    };
    let changes = changes.into_iter().map(message).collect();
    Ok(Pipeline::new((topology, plan), shared, threads, changes, (definition, version)))
}

/// Why the stored state cannot be used by the new topology.
fn problems(changes: &[Change], old: &Definition, new: &Definition) -> Vec<String> {
    let changed =
        changes.iter().filter(|change| change.change == ChangeKind::Changed && !change.state_survives);
    changed
        .map(|change| format!("{}: {}", change.id, change.detail))
        .chain(task_problems(&old.tasks, &new.tasks))
        .collect()
}

fn refusal(name: &str, problems: &[String]) -> Error {
    let message = format!(
        "pipeline {name:?} cannot go on with its stored state ({}): reset it, or deploy the topology under another name",
        problems.join("; ")
    );
    Error::new(ErrorCode::InvalidArgument, message).at("topology")
}

fn message(change: Change) -> v1::PipelineChange {
    v1::PipelineChange {
        id: change.id,
        change: change.change.as_str().to_owned(),
        state_survives: change.state_survives,
        detail: change.detail,
    }
}

/// The operators of a pipeline.
pub(crate) fn operators(plan: &Plan) -> Vec<v1::Operator> {
    let operator = |operator: OperatorDescription| v1::Operator {
        id: operator.id,
        kind: operator.kind,
        inputs: operator.inputs,
        target: operator.target,
        sub_topology: operator.sub_topology,
    };
    plan.describe().operators.into_iter().map(operator).collect()
}
