//! Fills a topic, then reads it once from its start. The records are in the page cache, as those of a consumer that keeps up are.

use std::time::Duration;

use clap::Args;
use sunseo_client::{Client, ConsumerConfig};
use sunseo_proto::clock::{Clock as _, SystemClock};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::load::Load;
use super::produce::durable_records;
use super::target::Target;
use super::{Common, KEY_BYTES, Report};
use crate::cli::failure::{Failure, Outcome};

/// Longest silence while records are left.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    /// Connections that read, each its share of the partitions
    #[arg(long, default_value_t = 2, value_name = "N")]
    consumers: usize,
    /// Megabytes that are written and read
    #[arg(long, default_value_t = 512, value_name = "MB")]
    megabytes: u64,
}

pub async fn run(arguments: &Arguments, target: &Target, report: &mut Report) -> Outcome {
    let common = &arguments.common;
    let consumers = arguments.consumers.clamp(1, common.partitions as usize);
    report.fact("consumers", consumers);
    let admin = Client::connect(target.address.clone()).await?;
    let topic = target.topic(&admin, common, "consume").await?;
    let outcome = async {
        report.durability(&admin, &topic).await?;
        target.live.set_message("filling the topic");
        fill(arguments, target, &topic).await?;
        let records = durable_records(&admin, &topic).await?;
        target.live.set_message("reading");
        let start = Instant::now();
        let clients = common.connections(target, consumers).await?;
        let mut readers = Vec::new();
        for (number, client) in clients.into_iter().enumerate() {
            let partitions = (0..common.partitions).skip(number).step_by(consumers);
            let partitions: Vec<_> = partitions.map(|partition| (topic.clone(), partition)).collect();
            readers.push(AbortOnDropHandle::new(tokio::spawn(read(client, partitions))));
        }
        let mut read = 0;
        for reader in readers {
            read += reader.await.map_err(|error| Failure::new(format!("a consumer ended: {error}")))??;
        }
        let seconds = start.elapsed().as_secs_f64();
        if read != records {
            return Err(Failure::new(format!("{records} records were written, {read} were read")));
        }
        report.throughput(records, common.record_bytes + KEY_BYTES, seconds);
        Ok(())
    };
    let outcome = Box::pin(outcome).await;
    admin.admin().delete_topic(&topic).await?;
    outcome
}

async fn fill(arguments: &Arguments, target: &Target, topic: &str) -> Outcome {
    let common = &arguments.common;
    let record_bytes = common.record_bytes + KEY_BYTES;
    let records = (arguments.megabytes * 1_000_000).div_ceil(record_bytes as u64);
    let share = records.div_ceil(common.producers as u64);
    let mut senders = Vec::new();
    for (number, client) in common.connections(target, common.producers).await?.into_iter().enumerate() {
        let producer = client.producer(common.producer())?;
        let (topic, mut load) = (topic.to_owned(), Load::new(number as u64, common.record_bytes));
        senders.push(AbortOnDropHandle::new(tokio::spawn(async move {
            let now_ms = SystemClock.now_ms();
            for _ in 0..share {
                drop(producer.send(&topic, load.next(now_ms)).await?);
            }
            producer.close().await
        })));
    }
    for sender in senders {
        sender.await.map_err(|error| Failure::new(format!("a producer ended: {error}")))??;
    }
    Ok(())
}

/// Reads partitions to their end.
async fn read(client: Client, partitions: Vec<(String, i32)>) -> Outcome<u64> {
    let mut ends = Vec::new();
    for (topic, partition) in &partitions {
        let end = client.admin().offset(topic, *partition, sunseo_client::admin::OffsetQuery::End).await?;
        ends.push(end.unwrap_or(0));
    }
    let mut consumer = client.consumer(ConsumerConfig::partitions(partitions.clone())).await?;
    let mut records = 0;
    loop {
        let mut positions = partitions.iter().zip(&ends);
        let done =
            positions.all(|((topic, partition), end)| consumer.position(topic, *partition) >= Some(*end));
        if done {
            consumer.close().await?;
            return Ok(records);
        }
        match consumer.poll(PATIENCE).await?.len() {
            0 => {
                let seconds = PATIENCE.as_secs();
                return Err(Failure::new(format!("no record came for {seconds} s although some are left")));
            }
            count => records += count as u64,
        }
    }
}
