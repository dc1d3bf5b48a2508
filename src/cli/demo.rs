//! `sunseo demo`: the delivery day on a node of its own, compared with the simulator's truth. Exit status 1 on any difference.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::Value;
use sunseo_demo::{DemoConfig, Progress, Rate, Report, topics};

use super::Context;
use super::failure::{Failure, Outcome};
use super::output;
use super::progress::Stages;
use super::stop::Stop;
use crate::config::NodeConfig;
use crate::node::{ChildNode, EmbeddedNode, Scratch, free_addresses};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Deliveries of the day
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    deliveries: u32,
    #[arg(long, default_value_t = 2_000, value_name = "N", help = "Riders")]
    riders: u32,
    /// Decides city, day and kills
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Deliveries per second, or max
    #[arg(long, default_value = "max", value_name = "R|max", value_parser = rate)]
    rate: Rate,
    /// Districts from a GeoJSON file instead of a city made from the seed
    #[arg(long, value_name = "FILE")]
    regions: Option<PathBuf>,
    /// The ordering application's database
    #[arg(long, value_enum, default_value_t = Source::Sqlite)]
    source: Source,
    /// Kill the node (SIGKILL) this often while the day runs, as in kills=10
    #[arg(long, value_name = "kills=N", value_parser = kills)]
    chaos: Option<u32>,
    /// Leave the node running at the end, until ctrl-c, and keep its folder
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Source {
    Sqlite,
}

fn rate(text: &str) -> Result<Rate, String> {
    text.parse().map_err(|error: sunseo_demo::DemoError| error.to_string())
}

fn kills(text: &str) -> Result<u32, String> {
    let count = text.strip_prefix("kills=").and_then(|count| count.parse().ok());
    count.ok_or_else(|| format!("{text:?} is no plan for chaos: write kills=N, as in kills=10"))
}

impl From<sunseo_demo::DemoError> for Failure {
    fn from(error: sunseo_demo::DemoError) -> Self {
        Self::Message(error.to_string())
    }
}

/// The two kinds of node, until they stop.
enum Node {
    Embedded(Arc<EmbeddedNode>),
    Child(Arc<ChildNode>),
}

impl Node {
    fn port(&self) -> Arc<dyn sunseo_demo::Node> {
        match self {
            Self::Embedded(node) => Arc::clone(node) as _,
            Self::Child(node) => Arc::clone(node) as _,
        }
    }

    async fn stop(&self) -> Outcome {
        match self {
            Self::Embedded(node) => Ok(node.stop().await?),
            Self::Child(node) => Ok(node.stop().await?),
        }
    }
}

pub async fn run(arguments: Arguments, context: &mut Context) -> Outcome {
    let Source::Sqlite = arguments.source;
    let mut stop = Stop::listen()?;
    let scratch = Scratch::create("demo", arguments.keep)
        .map_err(|error| Failure::new(format!("making a temporary folder: {error}")))?;
    let demo = demo_config(&arguments, &scratch)?;
    demo.validate()?;
    let node = make_node(&demo, &scratch)?;
    let progress: Arc<dyn Progress> = Arc::new(Stages::new(context.output.json));
    let played = tokio::select! {
        played = Box::pin(sunseo_demo::run(demo, node.port(), progress)) => played.map_err(Failure::from),
        () = stop.requested() => Err(Failure::new("interrupted before the comparison: run it again to its end")),
    };
    let outcome = match &played {
        Ok(report) => show(context, report),
        Err(_) => Ok(()),
    };
    if arguments.keep && played.is_ok() {
        let address = node.port().address();
        let folder = scratch.path().display();
        super::note(&format!("the node stays at {address}, its folder is {folder}; ctrl-c ends it"));
        stop.requested().await;
    }
    let stopped = node.stop().await;
    let report = played?;
    outcome?;
    stopped?;
    if report.ok { Ok(()) } else { Err(Failure::Reported) }
}

fn demo_config(arguments: &Arguments, scratch: &Scratch) -> Outcome<DemoConfig> {
    let work_dir = scratch.path().join("application");
    std::fs::create_dir(&work_dir).map_err(Failure::file("making", &work_dir))?;
    Ok(DemoConfig {
        deliveries: arguments.deliveries,
        riders: arguments.riders,
        seed: arguments.seed,
        rate: arguments.rate,
        regions: arguments.regions.clone(),
        chaos_kills: arguments.chaos.unwrap_or(0),
        work_dir,
        ..DemoConfig::default()
    })
}

fn make_node(demo: &DemoConfig, scratch: &Scratch) -> Outcome<Node> {
    let addresses = free_addresses();
    let (grpc, http) = addresses.map_err(|error| Failure::new(format!("finding free ports: {error}")))?;
    let object_store = scratch.path().join("object-store");
    std::fs::create_dir(&object_store).map_err(Failure::file("making", &object_store))?;
    let mut config = NodeConfig::in_directory(scratch.path().join("node"));
    config.listen.grpc = grpc;
    config.listen.http = http;
    config.broker.object_store_url = Some(format!("file://{}", object_store.display()));
    config.broker.default_partitions = demo.partitions;
    config.pipelines.run = vec![topics::PIPELINE.to_owned()];
    config.pipelines.regions.clone_from(&demo.regions);
    config.pipelines.city_seed = demo.seed;
    config.pipelines.partitions = demo.partitions;
    Ok(if demo.chaos_kills > 0 {
        Node::Child(Arc::new(ChildNode::new(config, object_store, scratch.path().join("node.log"))))
    } else {
        Node::Embedded(Arc::new(EmbeddedNode::new(config, object_store)))
    })
}

fn show(context: &mut Context, report: &Report) -> Outcome {
    if context.output.json {
        let value = serde_json::to_value(report)
            .map_err(|error| Failure::new(format!("the report as JSON: {error}")))?;
        context.output.json_line(&value)?;
        return Ok(context.output.flush()?);
    }
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let check = |check: &sunseo_demo::Check| {
        let verdict = if check.ok { "equal" } else { "DIFFERENT" };
        vec![check.name.clone(), plain(&check.expected), plain(&check.actual), verdict.to_owned()]
    };
    let rows = report.checks.iter().map(check).collect();
    context.output.report(&["COMPARISON", ">EXPECTED", ">ACTUAL", ""], rows)?;
    let figure = |(name, value): (&String, &f64)| vec![name.clone(), output::figure(*value)];
    context.output.report(&["FIGURE", ">VALUE"], report.figures.iter().map(figure).collect())?;
    let different = report.checks.iter().filter(|check| !check.ok).count();
    let total = report.checks.len();
    let verdict = if different == 0 {
        format!("all {total} comparisons are equal (seed {})", report.seed)
    } else {
        format!("{different} of {total} comparisons differ (seed {})", report.seed)
    };
    Ok(context.output.line(verdict)?)
}
