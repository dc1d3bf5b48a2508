//! When a server can be used again: the moment at which every partition of a topic has taken a record and given one. Started
//! before the server is, it measures a restart.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use sunseo_client::{Client, ConsumerConfig, ProducerConfig, Record};
use sunseo_proto::clock::{Clock as _, SystemClock};
use tokio::time::Instant;

use super::Report;
use crate::cli::failure::{Failure, Outcome};

/// Wait between two tries while nobody answers.
const PAUSE: Duration = Duration::from_millis(5);

/// Bytes of one partition that are asked for: one batch is enough.
const PARTITION_BYTES: u32 = 64 << 10;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The topic; it must exist and have records in every partition
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// Longest time to try
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    patience: u64,
}

pub async fn run(arguments: &Arguments, server: &str, report: &mut Report) -> Outcome {
    let start = Instant::now();
    let patience = Duration::from_secs(arguments.patience);
    let tried = tokio::time::timeout(patience, Box::pin(until_ready(server, &arguments.topic, report)));
    tried.await.map_err(|_| {
        Failure::new(format!("{server} could not be used within {} s: look at its log", patience.as_secs()))
    })??;
    report.figure("ready_unix_ms", SystemClock.now_ms() as f64);
    report.figure("duration_s", start.elapsed().as_secs_f64());
    Ok(())
}

async fn until_ready(server: &str, topic: &str, report: &mut Report) -> Outcome {
    let client = loop {
        match Client::connect(server).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    let count = loop {
        match client.partitions(topic).await {
            Ok(count) => break count,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    report.fact("partitions", count);
    let producer = client.producer(ProducerConfig { linger_ms: 0, ..ProducerConfig::default() })?;
    let mut acks = Vec::new();
    for partition in 0..count {
        let record = Record::new("ready", "ready", SystemClock.now_ms());
        acks.push(producer.send_to(topic, Some(partition), record).await?);
    }
    for ack in acks {
        ack.await?;
    }
    let mut config = ConsumerConfig::topics([topic]);
    config.partition_fetch_bytes = PARTITION_BYTES;
    let mut consumer = client.consumer(config).await?;
    let mut seen = HashSet::new();
    while seen.len() < count as usize {
        for consumed in consumer.poll(Duration::from_secs(1)).await? {
            seen.insert(consumed.partition);
        }
    }
    consumer.close().await?;
    Ok(producer.close().await?)
}
