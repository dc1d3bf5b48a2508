//! What the cluster keeps of a pipeline, as a definition of kind [`KIND`]: its description, its generation, whether it is paused.
//!
//! The code of a pipeline is in the binary. The description says which state it had at its last start, so that the next start
//! can tell what survives.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use sunseo_client::Client;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};

use super::retry::again;
use crate::plan::Plan;
use crate::topology::Description;

/// Kind of the definition.
pub(crate) const KIND: &str = "pipeline";

/// The body, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definition {
    /// Rises with each reset.
    #[serde(deserialize_with = "generation")]
    pub generation: u64,
    #[serde(default)]
    pub paused: bool,
    /// Tasks of each sub-topology, by name.
    pub tasks: BTreeMap<String, i32>,
    pub description: Description,
}

/// The last generation: anybody may store a definition, and its number must not overflow.
const GENERATION_MAX: u64 = u32::MAX as u64;

fn generation<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<u64, D::Error> {
    u32::deserialize(from).map(u64::from)
}

/// A definition with the version under which it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub definition: Definition,
    pub version: i64,
}

pub(crate) fn tasks_of(plan: &Plan) -> BTreeMap<String, i32> {
    plan.sub_topologies.iter().map(|sub| (sub.name.clone(), sub.partitions)).collect()
}

/// Why the task logs of the old version cannot be continued by the new one, as far as the division into tasks goes.
pub(crate) fn task_problems(old: &BTreeMap<String, i32>, new: &BTreeMap<String, i32>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, tasks) in new {
        if let Some(before) = old.get(name).filter(|before| *before != tasks) {
            problems
                .push(format!("sub-topology {name} had {before} tasks and has {tasks}: keys lie elsewhere"));
        }
    }
    // a task log goes by the name; under another one the same inputs would be read again from their start
    let missing = |from: &BTreeMap<String, i32>, of: &BTreeMap<String, i32>| -> Vec<String> {
        of.keys().filter(|name| !from.contains_key(*name)).cloned().collect()
    };
    let (gone, come) = (missing(new, old), missing(old, new));
    if !gone.is_empty() && !come.is_empty() {
        problems.push(format!("sub-topology {} became {}", gone.join(", "), come.join(", ")));
    }
    problems
}

/// The definition of a pipeline, `None` before its first start.
///
/// # Errors
/// `CORRUPT_LOG` when it does not decode, or what the broker says.
pub(crate) async fn load(client: &Client, name: &str) -> Result<Option<Stored>> {
    let admin = client.admin();
    let Some(found) = again(|| admin.definition(KIND, name)).await? else { return Ok(None) };
    let definition = serde_json::from_slice(&found.body).map_err(|error| {
        let message =
            format!("definition of pipeline {name:?} does not decode: {error}: use the binary that wrote it");
        Error::new(ErrorCode::CorruptLog, message)
    })?;
    Ok(Some(Stored { definition, version: found.version }))
}

/// Stores a definition in the place of version `expected` (0: there is none) and returns its version.
///
/// # Errors
/// `VERSION_MISMATCH` when someone else was quicker, `INVALID_ARGUMENT` after the last generation, or what the broker says.
pub(crate) async fn save(client: &Client, name: &str, definition: &Definition, expected: i64) -> Result<i64> {
    if definition.generation > GENERATION_MAX {
        let message =
            format!("pipeline {name:?} was reset {GENERATION_MAX} times: deploy it under another name");
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    let body = serde_json::to_vec(definition)
        .map_err(|error| Error::internal(format!("definition of pipeline {name:?}: {error}")))?;
    let (admin, body) = (client.admin(), bytes::Bytes::from(body));
    let answer = again(|| admin.put_definition(KIND, name, body.clone(), expected)).await;
    match answer {
        // the answer to an attempt of this call may have been lost
        Err(error) if error.code == ErrorCode::VersionMismatch => match load(client, name).await? {
            Some(stored) if stored.definition == *definition => Ok(stored.version),
            _ => Err(error),
        },
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_go_on_when_names_and_numbers_stay_and_when_some_are_only_added_or_removed() {
        let tasks =
            |entries: &[(&str, i32)]| entries.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let old: BTreeMap<String, i32> = tasks(&[("orders", 4), ("riders", 2)]);
        for fits in [
            &[("orders", 4), ("riders", 2)][..],
            &[("orders", 4)],
            &[("orders", 4), ("riders", 2), ("new", 1)],
        ] {
            assert_eq!(task_problems(&old, &tasks(fits)), Vec::<String>::new(), "{fits:?}");
        }
        for other in [&[("orders", 8), ("riders", 2)][..], &[("orders", 4), ("couriers", 2)]] {
            assert_eq!(task_problems(&old, &tasks(other)).len(), 1, "{other:?}");
        }
    }
}
