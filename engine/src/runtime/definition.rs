//! What the cluster keeps of a pipeline, as a definition of kind [`KIND`]: its description, its generation, whether it is paused.
//!
//! The code of a pipeline is in the binary. The description says which state it had at its last start, so that the next start
//! can tell what survives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sunseo_client::Client;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};

use super::provisional::Description;
use super::retry::again;
use crate::plan::Plan;

/// Kind of the definition.
pub(crate) const KIND: &str = "pipeline";

/// The body, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definition {
    /// Rises with each reset.
    pub generation: u64,
    #[serde(default)]
    pub paused: bool,
    /// Tasks of each sub-topology, by name.
    pub tasks: BTreeMap<String, i32>,
    pub description: Description,
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

/// Sub-topologies whose number of tasks is not what it was: keys lie in other partitions now.
pub(crate) fn repartitioned(old: &Definition, new: &BTreeMap<String, i32>) -> Vec<String> {
    let differs = |(name, tasks): (&String, &i32)| {
        let before = old.tasks.get(name).filter(|before| *before != tasks)?;
        Some(format!("{name} had {before} partitions and has {tasks}"))
    };
    new.iter().filter_map(differs).collect()
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
/// `VERSION_MISMATCH` when someone else was quicker, or what the broker says.
pub(crate) async fn save(client: &Client, name: &str, definition: &Definition, expected: i64) -> Result<i64> {
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
