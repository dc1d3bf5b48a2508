//! The pipelines that come with the binary, by name: [`REGISTRY`].

use std::sync::Arc;

use sunseo_client::{Client, NewTopic};
use sunseo_demo::regions::{RegionSource, Regions};
use sunseo_demo::topics;
use sunseo_engine::{DeployOptions, Engine, Topology};
use sunseo_proto::Error;
use sunseo_proto::error::Result;

use crate::config::Pipelines;

/// Topics that must be there first, and the pipeline.
type Made = (Vec<NewTopic>, Topology);

/// How a pipeline is made.
struct Registered {
    name: &'static str,
    make: fn(&Pipelines) -> Result<Made>,
}

const REGISTRY: &[Registered] = &[Registered { name: topics::PIPELINE, make: delivery_day }];

/// Deploys what the settings ask for: makes its topics, then starts it. State that does not fit a changed pipeline stops the start;
/// `pipeline reset` is the user's decision.
///
/// # Errors
/// A name that is unknown, districts that cannot be read, or what broker and engine say.
pub async fn deploy(engine: &Engine, client: &Client, settings: &Pipelines) -> Result<()> {
    for name in &settings.run {
        let Some(registered) = REGISTRY.iter().find(|registered| registered.name == name) else {
            let known: Vec<_> = REGISTRY.iter().map(|registered| registered.name).collect();
            let known = known.join(", ");
            let message = format!("pipeline {name:?} does not come with this binary: use one of {known}");
            return Err(Error::invalid("pipelines.run", message));
        };
        let (make, settings) = (registered.make, settings.clone());
        // reading districts and building their index takes a while
        let made = tokio::task::spawn_blocking(move || make(&settings)).await;
        let (topics, topology) =
            made.map_err(|error| Error::internal(format!("pipeline {name}: {error}")))??;
        for topic in topics {
            client.admin().create_topic(topic).await?;
        }
        engine.deploy(topology, DeployOptions::default()).await?;
    }
    Ok(())
}

fn delivery_day(settings: &Pipelines) -> Result<Made> {
    let source = match &settings.regions {
        Some(file) => RegionSource::File(file.clone()),
        None => RegionSource::Generated { seed: settings.city_seed },
    };
    let regions =
        Regions::open(&source).map_err(|error| Error::invalid("pipelines.regions", error.to_string()))?;
    let topology = sunseo_demo::topology::topology(Arc::new(regions));
    let topology = topology.map_err(|error| Error::internal(error.to_string()))?;
    Ok((topics::topics(settings.partitions), topology))
}
