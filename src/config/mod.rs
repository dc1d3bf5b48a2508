//! Settings of a node: raw text from a file, the environment and flags becomes a checked [`NodeConfig`].
//!
//! Later sources win: default, TOML file, `SUNSEO_SECTION__KEY`, flags. A key that does not exist is refused with the nearest one that
//! does, wherever it comes from; a value is refused with its source, its key and what it should be.
//! Not here: what the values do; each part checks its own.

mod keys;
mod nearest;
#[cfg(test)]
mod tests;
mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sunseo_broker::BrokerConfig;
use sunseo_broker::grpc::connections::ConnectionLimits;
use sunseo_engine::EngineConfig;
use sunseo_outbox::OutboxConfig;
use toml::Value;

use self::nearest::nearest;
use self::value::shown;

/// Everything a node is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub broker: BrokerConfig,
    pub outbox: OutboxConfig,
    /// Its folder is always `engine` in the data directory.
    pub engine: EngineConfig,
    pub listen: Listen,
    pub pipelines: Pipelines,
}

/// Where the node is reached; port 0 takes a free one.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    /// Of each of the two.
    pub connections: ConnectionLimits,
    pub http2: Http2,
    /// Bytes of the body of one HTTP request with records, and of records in one answer.
    pub http_body_bytes_max: usize,
}

/// What a connection of the gRPC server may be.
#[derive(Clone, Copy, Debug)]
pub struct Http2 {
    /// Calls that are open at once.
    pub streams_max: u32,
    /// Bytes of the headers of one call.
    pub header_bytes_max: u32,
    /// A silent connection is probed this often, and closed when a probe stays without answer for as long again.
    pub keepalive: Duration,
}

/// Pipelines that come with the binary.
#[derive(Clone, Debug)]
pub struct Pipelines {
    /// Their names.
    pub run: Vec<String>,
    /// GeoJSON file with the districts of `delivery-day`.
    pub regions: Option<PathBuf>,
    /// Seed of the districts without a file.
    pub city_seed: u64,
    /// Partitions of their topics.
    pub partitions: i32,
}

/// Ports of a node, on this machine only unless it is said otherwise.
pub const GRPC_PORT: u16 = 7411;
pub const HTTP_PORT: u16 = 7412;

/// Directory of a node that is told none.
pub const DATA_DIR: &str = "sunseo-data";

/// The engine's folder in it.
const ENGINE_DIR: &str = "engine";

impl Default for NodeConfig {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            broker: BrokerConfig::new(DATA_DIR),
            outbox: OutboxConfig::default(),
            engine: EngineConfig::new(Path::new(DATA_DIR).join(ENGINE_DIR)),
            listen: Listen {
                grpc: local(GRPC_PORT),
                http: local(HTTP_PORT),
                connections: ConnectionLimits::default(),
                http2: Http2 {
                    streams_max: 1_024,
                    header_bytes_max: 16 << 10,
                    keepalive: Duration::from_secs(20),
                },
                http_body_bytes_max: 16 << 20,
            },
            pipelines: Pipelines { run: Vec::new(), regions: None, city_seed: 1, partitions: 8 },
        }
    }
}

/// One value on its way into the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// What the user wrote, for the message: `sunseo.toml: limits.x` or `SUNSEO_LIMITS__X`.
    pub origin: String,
    /// `section.key`.
    pub key: String,
    pub value: Value,
}

/// The values of a TOML file.
///
/// # Errors
/// When it cannot be read or is not TOML.
pub fn from_file(path: &Path) -> Result<Vec<Raw>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("configuration {}: {error}: check the path", path.display()))?;
    from_toml(&text, &path.display().to_string())
}

/// The values of TOML text; `name` for messages.
///
/// # Errors
/// When it is not TOML.
pub fn from_toml(text: &str, name: &str) -> Result<Vec<Raw>, String> {
    let table: toml::Table =
        text.parse().map_err(|error| format!("configuration {name} is not TOML: {error}"))?;
    let mut raw = Vec::new();
    for (section, value) in table {
        match value {
            Value::Table(keys) => raw.extend(keys.into_iter().map(|(key, value)| {
                let key = format!("{section}.{key}");
                Raw { origin: format!("{name}: {key}"), key, value }
            })),
            value => raw.push(Raw { origin: format!("{name}: {section}"), key: section, value }),
        }
    }
    Ok(raw)
}

/// The values among these variables: `SUNSEO_SECTION__KEY`. Others that begin with `SUNSEO_` have one underscore and other uses.
pub fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Vec<Raw> {
    let read = |(name, value): (String, String)| {
        let (section, key) = name.strip_prefix("SUNSEO_")?.split_once("__")?;
        let key = format!("{}.{}", section.to_lowercase(), key.to_lowercase());
        Some(Raw { origin: name, key, value: Value::String(value) })
    };
    variables.into_iter().filter_map(read).collect()
}

/// Applies values in their order.
///
/// # Errors
/// The first that is unknown, malformed or out of its range.
pub fn validated(mut config: NodeConfig, values: Vec<Raw>) -> Result<NodeConfig, String> {
    for Raw { origin, key, value } in values {
        let Some(known) = keys::KEYS.iter().find(|known| known.name == key) else {
            let hint = nearest(&key, keys::KEYS.iter().map(|known| known.name));
            return Err(format!(
                "{origin} is no setting: did you mean {hint}? `sunseo server --print-config` lists all"
            ));
        };
        (known.set)(&mut config, &value).map_err(|what| format!("{origin} is {}: {what}", shown(&value)))?;
    }
    config.engine.data_dir = config.broker.data_dir.join(ENGINE_DIR);
    config.check()?;
    Ok(config)
}

impl Listen {
    fn check(&self) -> Result<(), String> {
        let connections = &self.connections;
        let keepalive_ms = u64::try_from(self.http2.keepalive.as_millis()).unwrap_or(u64::MAX);
        let bounds = [
            ("connections_max", connections.connections_max as u64, 1, 1_000_000),
            ("connections_per_address_max", connections.connections_per_address_max as u64, 1, 1_000_000),
            ("connections_per_second_max", connections.connections_per_second_max, 1, 1_000_000),
            ("connection_idle_ms_max", connections.connection_idle_ms_max, 0, 30 * 24 * 3_600_000),
            ("streams_max", self.http2.streams_max.into(), 1, 1 << 20),
            ("header_bytes_max", self.http2.header_bytes_max.into(), 1 << 10, 1 << 20),
            ("keepalive_ms", keepalive_ms, 100, 24 * 3_600_000),
            ("http_body_bytes_max", self.http_body_bytes_max as u64, 1 << 10, 64 << 20),
        ];
        for (name, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                return Err(format!("listen.{name} is {value}: use a value from {min} to {max}"));
            }
        }
        Ok(())
    }
}

impl NodeConfig {
    /// The defaults, with everything in another directory.
    pub fn in_directory(data_dir: PathBuf) -> Self {
        let mut config = Self::default();
        config.engine.data_dir = data_dir.join(ENGINE_DIR);
        config.broker.data_dir = data_dir;
        config
    }

    fn check(&self) -> Result<(), String> {
        let Listen { grpc, http, .. } = self.listen;
        if grpc == http && grpc.port() != 0 {
            return Err(format!("listen.grpc and listen.http are both {grpc}: give them different ports"));
        }
        self.listen.check()?;
        if !(1..=10_000).contains(&self.pipelines.partitions) {
            let partitions = self.pipelines.partitions;
            return Err(format!("pipelines.partitions is {partitions}: use a value from 1 to 10000"));
        }
        self.engine.validate().map_err(|error| error.to_string())?;
        self.outbox.validate().map_err(|error| format!("outbox: {error}"))
    }

    /// Every setting with its value and what it means, as a TOML file.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in keys::KEYS {
            let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
            if of != section {
                section = of;
                text += &format!("{}[{section}]\n", if text.is_empty() { "" } else { "\n" });
            }
            let value = (key.show)(self);
            // a setting without a value is shown as one that is not set
            text += &match value {
                Some(value) => format!("{name} = {value}  # {}\n", key.about),
                None => format!("# {name} =  # {}\n", key.about),
            };
        }
        text
    }
}
