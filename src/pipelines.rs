//! The pipelines that come with the binary, by name.

use sunseo_client::Client;
use sunseo_engine::Engine;
use sunseo_proto::Error;
use sunseo_proto::error::Result;

use crate::config::Pipelines;

/// Deploys what the settings ask for: makes its topics, then starts it.
///
/// # Errors
/// A name that is unknown, districts that cannot be read, or what broker and engine say.
pub async fn deploy(engine: &Engine, client: &Client, settings: &Pipelines) -> Result<()> {
    let _ = (engine, client);
    match settings.run.first() {
        None => Ok(()),
        Some(name) => {
            let message = format!("pipeline {name:?} does not come with this binary: leave it out");
            Err(Error::invalid("pipelines.run", message))
        }
    }
}
