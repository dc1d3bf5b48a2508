//! `sunseo dev` and `sunseo server`: one node in the foreground, until ctrl-c or SIGTERM.
//!
//! One line on stdout says that it is ready and where: programs wait for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use sunseo_proto::clock::SystemClock;
use toml::Value;

use super::Context;
use super::failure::{Failure, Outcome};
use super::stop::Stop;
use crate::assemble::Node;
use crate::config::{self, NodeConfig, Raw};

#[derive(Debug, Args)]
pub struct Dev {
    /// Directory of the node [default: ./sunseo-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where segments and tables go: file:///path or s3://bucket/prefix [default: a folder in the data directory]
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
    /// Address of the gRPC server, port 0 for a free one [default: 127.0.0.1:7411]
    #[arg(long, value_name = "ADDRESS:PORT")]
    grpc: Option<String>,
    /// Address of the HTTP server, port 0 for a free one [default: 127.0.0.1:7412]
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<String>,
    /// Partitions of topics that name no number, and of the topics of --pipeline
    #[arg(long, value_name = "N")]
    partitions: Option<i32>,
    /// Run a pipeline that comes with the binary: delivery-day
    #[arg(long = "pipeline", value_name = "NAME")]
    pipelines: Vec<String>,
    /// GeoJSON file with the districts of delivery-day
    #[arg(long, value_name = "FILE")]
    regions: Option<PathBuf>,
    /// Seed of the districts of delivery-day without a file
    #[arg(long, value_name = "SEED", conflicts_with = "regions")]
    city_seed: Option<u64>,
    /// TOML file; every key also as SUNSEO_SECTION__KEY
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
struct Settings {
    /// One setting; may be given several times
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = super::place::pair)]
    set: Vec<(String, String)>,
    /// End when standard input does, so that a node does not outlive whoever started it
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

#[derive(Debug, Args)]
pub struct Server {
    /// TOML file; every key also as SUNSEO_SECTION__KEY
    #[arg(long, value_name = "FILE", required_unless_present = "print_config")]
    config: Option<PathBuf>,
    /// Print every setting with its value as a TOML file, and end
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    settings: Settings,
}

pub async fn run_dev(dev: Dev, context: &mut Context) -> Outcome {
    let until_stdin_closes = dev.settings.until_stdin_closes;
    run(dev.config()?, until_stdin_closes, context).await
}

pub async fn run_server(server: Server, context: &mut Context) -> Outcome {
    let config = resolve(server.config.as_deref(), &server.settings, Vec::new())?;
    if server.print_config {
        return Ok(context.output.bytes(config.to_toml().as_bytes())?);
    }
    run(config, server.settings.until_stdin_closes, context).await
}

impl Dev {
    fn config(self) -> Outcome<NodeConfig> {
        let mut raw = Vec::new();
        let mut set = |flag: &str, key: &str, value: Value| {
            raw.push(Raw { origin: format!("--{flag}"), key: key.to_owned(), value });
        };
        let path = |path: PathBuf| Value::String(path.to_string_lossy().into_owned());
        if let Some(dir) = self.data_dir {
            set("data-dir", "node.data_dir", path(dir));
        }
        if let Some(url) = self.object_store {
            set("object-store", "tier.object_store", Value::String(url));
        }
        if let Some(address) = self.grpc {
            set("grpc", "listen.grpc", Value::String(address));
        }
        if let Some(address) = self.http {
            set("http", "listen.http", Value::String(address));
        }
        if let Some(partitions) = self.partitions {
            set("partitions", "node.default_partitions", Value::Integer(partitions.into()));
            set("partitions", "pipelines.partitions", Value::Integer(partitions.into()));
        }
        if !self.pipelines.is_empty() {
            set("pipeline", "pipelines.run", Value::from(self.pipelines));
        }
        if let Some(file) = self.regions {
            set("regions", "pipelines.regions", path(file));
        }
        if let Some(seed) = self.city_seed {
            set("city-seed", "pipelines.city_seed", Value::String(seed.to_string()));
        }
        resolve(self.config.as_deref(), &self.settings, raw)
    }
}

/// Default, file, environment, flags.
fn resolve(file: Option<&Path>, settings: &Settings, flags: Vec<Raw>) -> Outcome<NodeConfig> {
    let mut raw = match file {
        Some(file) => config::from_file(file).map_err(Failure::usage)?,
        None => Vec::new(),
    };
    raw.extend(config::from_environment(std::env::vars()));
    raw.extend(flags);
    raw.extend(settings.set.iter().map(|(key, value)| Raw {
        origin: format!("--set {key}"),
        key: key.clone(),
        value: Value::String(value.clone()),
    }));
    config::validated(NodeConfig::default(), raw).map_err(Failure::usage)
}

async fn run(config: NodeConfig, until_stdin_closes: bool, context: &mut Context) -> Outcome {
    super::logging::start("info");
    let mut stop = Stop::listen()?;
    let data_dir = config.broker.data_dir.clone();
    let mut closed = std::pin::pin!(stdin_closes(until_stdin_closes));
    let node = tokio::select! {
        started = Box::pin(Node::start(config, Arc::new(SystemClock))) => started?,
        () = stop.requested() => return Ok(()),
        () = &mut closed => return Ok(()),
    };
    // a supervisor that does not listen is no reason to stop
    let _ = ready(context, &node, &data_dir);
    tokio::select! {
        () = stop.requested() => tracing::info!("stopping"),
        () = &mut closed => tracing::info!("standard input has closed, stopping"),
    }
    Ok(Box::pin(node.stop()).await?)
}

fn ready(context: &mut Context, node: &Node, data_dir: &Path) -> std::io::Result<()> {
    let (grpc, http) = (node.grpc, node.http);
    if context.output.json {
        let value = json!({
            "ready": true,
            "grpc": grpc.to_string(),
            "http": http.to_string(),
            "data_dir": data_dir.to_string_lossy(),
            "pid": std::process::id(),
        });
        context.output.json_line(&value)?;
        return context.output.flush();
    }
    context.output.line(format!("sunseo ready grpc={grpc} http={http} data={}", data_dir.display()))
}

async fn stdin_closes(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let read = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    // an error is as good as the end: nobody is there any more
    let _ = read.await;
}
