//! `sunseo bench`: what one node does, measured from outside through gRPC.
//!
//! Against `--server`, or on a node of its own: a child process on a temporary folder, so that its memory is its own. A topic is made for the
//! run and deleted after it. Figures count payload bytes (keys and values) and say which durability they were made with.
//! Not here: a comparison with anything else, and micro benches of single parts (`benches/`).

mod churn;
mod consume;
mod e2e;
mod histogram;
mod live;
mod load;
mod pipeline;
mod produce;
mod ready;
mod report;
mod target;

use clap::{Args, Subcommand, ValueEnum};
use sunseo_client::{Client, Compression, ProducerConfig};

pub use self::report::Report;
use self::target::Target;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::produce::Acks;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// How many records a second become durable
    Produce(produce::Arguments),
    /// How many records a second are read
    Consume(consume::Arguments),
    /// Time from the moment a record should be sent until a consumer has it, at a fixed rate
    E2e(e2e::Arguments),
    /// What the coming and going of members, topics and partitions costs
    #[command(subcommand)]
    Churn(churn::Command),
    /// Waits until every partition of a topic takes and gives a record; for measuring restarts of the server that is named
    Ready(ready::Arguments),
    /// How many records a second the pipeline delivery-day handles
    Pipeline(pipeline::Arguments),
}

#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Run on a node of its own, although a server is named
    #[arg(long)]
    embedded: bool,
    /// Bytes of a record's value
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    record_bytes: usize,
    /// Bytes of a record's key, 0 to 8; 0 for records without a key
    #[arg(long, default_value_t = KEY_BYTES, value_name = "BYTES")]
    key_bytes: usize,
    #[arg(long, default_value_t = 16, value_name = "N", help = "Partitions of the topic")]
    partitions: i32,
    /// Use this topic, made if it is not there, and leave it
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Connections that send, each with a producer
    #[arg(long, default_value_t = 4, value_name = "N")]
    producers: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    duration: u64,
    /// Seconds before that are not
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    warm_up: u64,
    /// Milliseconds that a batch waits for more records
    #[arg(long, default_value_t = 5, value_name = "MS")]
    linger_ms: u64,
    /// Bytes at which a batch is closed
    #[arg(long, default_value_t = 256 << 10, value_name = "BYTES")]
    batch_bytes: usize,
    /// Batches sent and not yet answered, per partition
    #[arg(long, default_value_t = ProducerConfig::default().max_in_flight, value_name = "N")]
    batches_in_flight: usize,
    /// Codec of the batches
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// Who must have a record before it is acknowledged; what having it means is the durability of the topic
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// Durability of the topic
    #[arg(long, value_enum, default_value_t = Durability::Fsync)]
    durability: Durability,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    None,
    Lz4,
    Zstd,
    Snappy,
    Gzip,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Durability {
    /// Acknowledged is on disk
    Fsync,
    /// Acknowledged is in memory of every in-sync replica
    Replicated,
}

/// Bytes of a key, unless it is said otherwise; also the most.
const KEY_BYTES: usize = 8;

impl Common {
    fn check(&self) -> Outcome {
        let range = |name: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Failure::usage(format!("--{name} is {value}: use a value from {least} to {most}")))
        };
        range("record-bytes", self.record_bytes as u64, 16, 8 << 20)?;
        range("key-bytes", self.key_bytes as u64, 0, KEY_BYTES as u64)?;
        range("partitions", self.partitions.max(0) as u64, 1, 10_000)?;
        range("producers", self.producers as u64, 1, 256)?;
        range("duration", self.duration, 1, 86_400)?;
        range("warm-up", self.warm_up, 0, 3_600)
    }

    /// Bytes of a key and a value.
    fn payload_bytes(&self) -> usize {
        self.key_bytes + self.record_bytes
    }

    fn records_of(&self, megabytes: u64) -> u64 {
        (megabytes * 1_000_000).div_ceil(self.payload_bytes() as u64)
    }

    fn durability(&self) -> &'static str {
        match self.durability {
            Durability::Fsync => "fsync",
            Durability::Replicated => "replicated",
        }
    }

    fn producer(&self) -> ProducerConfig {
        let compression = match self.compression {
            Codec::None => Compression::None,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
            Codec::Snappy => Compression::Snappy,
            Codec::Gzip => Compression::Gzip,
        };
        ProducerConfig {
            compression,
            linger_ms: self.linger_ms,
            batch_bytes: self.batch_bytes,
            max_in_flight: self.batches_in_flight,
            ..ProducerConfig::default()
        }
    }

    /// What was measured, for the report.
    fn describe(&self, report: &mut Report) {
        report.fact("record_bytes", self.record_bytes);
        report.fact("key_bytes", self.key_bytes);
        report.fact("partitions", self.partitions);
        report.fact("producers", self.producers);
        report.fact("linger_ms", self.linger_ms);
        report.fact("batch_bytes", self.batch_bytes);
        report.fact("batches_in_flight", self.batches_in_flight);
        report.fact("acks", format!("{:?}", self.acks).to_lowercase());
        report.fact("compression", format!("{:?}", self.compression).to_lowercase());
    }

    async fn connections(&self, target: &Target, count: usize) -> Outcome<Vec<Client>> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(Client::connect(target.address.clone()).await?);
        }
        Ok(clients)
    }
}

impl Command {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Produce(_) => "produce",
            Self::Consume(_) => "consume",
            Self::E2e(_) => "e2e",
            Self::Churn(churn) => churn.name(),
            Self::Ready(_) => "ready",
            Self::Pipeline(_) => "pipeline",
        }
    }

    fn common(&self) -> Option<&Common> {
        match self {
            Self::Produce(arguments) => Some(&arguments.common),
            Self::Consume(arguments) => Some(&arguments.common),
            Self::E2e(arguments) => Some(&arguments.common),
            Self::Churn(churn) => Some(churn.common()),
            Self::Ready(_) | Self::Pipeline(_) => None,
        }
    }
}

/// Measures, and says what was found.
pub async fn run(command: Command, server: Option<&str>, quiet: bool) -> Outcome<Report> {
    if let Command::Ready(arguments) = &command {
        let server = server.ok_or_else(|| Failure::usage("bench ready needs --server HOST:PORT"))?;
        let mut report = Report::new(server);
        Box::pin(ready::run(arguments, server, &mut report)).await?;
        return Ok(report);
    }
    let common = command.common();
    let (embedded, pipeline) = match &command {
        Command::Pipeline(arguments) => (arguments.embedded, Some(arguments.partitions)),
        _ => (common.is_some_and(|common| common.embedded), None),
    };
    common.map_or(Ok(()), Common::check)?;
    let target = Target::open(server.filter(|_| !embedded), pipeline, quiet).await?;
    let mut report = Report::new(target.name());
    if let Some(common) = common {
        common.describe(&mut report);
    }
    let outcome = match &command {
        Command::Produce(arguments) => Box::pin(produce::run(arguments, &target, &mut report)).await,
        Command::Consume(arguments) => Box::pin(consume::run(arguments, &target, &mut report)).await,
        Command::E2e(arguments) => Box::pin(e2e::run(arguments, &target, &mut report)).await,
        Command::Churn(churn) => Box::pin(churn.run(&target, &mut report)).await,
        Command::Pipeline(arguments) => Box::pin(pipeline::run(arguments, &target, &mut report)).await,
        // needs no topic of its own: answered above
        Command::Ready(_) => Ok(()),
    };
    if let Some(bytes) = target.resident_bytes() {
        report.figure("node_rss_mb", bytes as f64 / 1e6);
    }
    target.close().await?;
    outcome.map(|()| report)
}
