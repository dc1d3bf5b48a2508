//! Fills a topic, then reads it from start to end again and again. The records are in the page cache, as those of a consumer that keeps
//! up are. Every pass must find every record.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sunseo_client::{Client, Consumer, ConsumerConfig, Producer};
use sunseo_proto::clock::{Clock as _, SystemClock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::live::Counted;
use super::load::Load;
use super::produce::{all, durable_records};
use super::target::Target;
use super::{Common, Report};
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
    /// Megabytes that are written before; a topic of --topic that has records is read as it is
    #[arg(long, default_value_t = 512, value_name = "MB")]
    megabytes: u64,
    /// Read everything once instead of for --duration, without a warm-up
    #[arg(long)]
    once: bool,
}

pub async fn run(arguments: &Arguments, target: &Target, report: &mut Report) -> Outcome {
    let common = &arguments.common;
    let admin = Client::connect(target.address.clone()).await?;
    let topic = target.topic(&admin, common, "consume").await?;
    let outcome = Box::pin(measure(arguments, target, (&admin, &topic), report)).await;
    target.drop_topic(&admin, common, &topic).await?;
    outcome
}

async fn measure(
    arguments: &Arguments,
    target: &Target,
    (admin, topic): (&Client, &str),
    report: &mut Report,
) -> Outcome {
    let common = &arguments.common;
    report.durability(admin, topic).await?;
    if durable_records(admin, topic).await? == 0 {
        target.live.set_message("filling the topic");
        fill(arguments, target, topic).await?;
    }
    let counted = Counted::new(common.payload_bytes());
    let _shown = counted.show(&target.live);
    let count = admin.partitions(topic).await?;
    let consumers = arguments.consumers.clamp(1, count.max(1) as usize);
    report.fact("consumers", consumers);
    let stop = CancellationToken::new();
    let clients = common.connections(target, consumers).await?;
    if arguments.once {
        counted.begin();
    }
    let mut readers = Vec::new();
    for (number, client) in clients.into_iter().enumerate() {
        let partitions = (0..count).skip(number).step_by(consumers);
        let reader = Reader {
            partitions: partitions.map(|partition| (topic.to_owned(), partition)).collect(),
            once: arguments.once,
            counted: Arc::clone(&counted),
            stop: stop.clone(),
        };
        readers.push(AbortOnDropHandle::new(tokio::spawn(async move { reader.run(client).await })));
    }
    if !arguments.once {
        tokio::time::sleep(Duration::from_secs(common.warm_up)).await;
        counted.begin();
        tokio::time::sleep(Duration::from_secs(common.duration)).await;
        stop.cancel();
    } else {
        all(&mut readers).await?;
    }
    let (records, seconds) = (counted.records(), counted.seconds());
    all(&mut readers).await?;
    report.throughput(records, common.payload_bytes(), seconds);
    Ok(())
}

async fn fill(arguments: &Arguments, target: &Target, topic: &str) -> Outcome {
    let common = &arguments.common;
    let share = common.records_of(arguments.megabytes).div_ceil(common.producers as u64);
    let mut senders = Vec::new();
    for (number, client) in common.connections(target, common.producers).await?.into_iter().enumerate() {
        let producer: Producer = client.producer(common.producer())?;
        let (topic, mut load) =
            (topic.to_owned(), Load::new(number as u64, common.record_bytes, common.key_bytes));
        senders.push(AbortOnDropHandle::new(tokio::spawn(async move {
            let now_ms = SystemClock.now_ms();
            for _ in 0..share {
                drop(producer.send(&topic, load.next(now_ms)).await?);
            }
            Ok(producer.close().await?)
        })));
    }
    all(&mut senders).await
}

/// Reads partitions from their starts to what were their ends when it began.
struct Reader {
    partitions: Vec<(String, i32)>,
    once: bool,
    counted: Arc<Counted>,
    stop: CancellationToken,
}

impl Reader {
    async fn run(self, client: Client) -> Outcome {
        use sunseo_client::admin::OffsetQuery::{End, Start};
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for (topic, partition) in &self.partitions {
            starts.push(client.admin().offset(topic, *partition, Start).await?.unwrap_or(0));
            ends.push(client.admin().offset(topic, *partition, End).await?.unwrap_or(0));
        }
        let expected: i64 = ends.iter().zip(&starts).map(|(end, start)| end - start).sum();
        let mut consumer = client.consumer(ConsumerConfig::partitions(self.partitions.clone())).await?;
        while !self.stop.is_cancelled() {
            let read = self.pass(&mut consumer, &ends).await?;
            if !self.stop.is_cancelled() && read != expected as u64 {
                return Err(Failure::new(format!("{expected} records are there, {read} were read")));
            }
            if self.once {
                break;
            }
            for ((topic, partition), start) in self.partitions.iter().zip(&starts) {
                consumer.seek(topic, *partition, *start)?;
            }
        }
        Ok(consumer.close().await?)
    }

    /// Once through all partitions, or until it is stopped; how many records.
    async fn pass(&self, consumer: &mut Consumer, ends: &[i64]) -> Outcome<u64> {
        let mut records = 0;
        loop {
            let mut positions = self.partitions.iter().zip(ends);
            let done =
                positions.all(|((topic, partition), end)| consumer.position(topic, *partition) >= Some(*end));
            if done || self.stop.is_cancelled() {
                return Ok(records);
            }
            match consumer.poll(PATIENCE).await?.len() as u64 {
                0 => {
                    let seconds = PATIENCE.as_secs();
                    return Err(Failure::new(format!(
                        "no record came for {seconds} s although some are left"
                    )));
                }
                count => {
                    records += count;
                    self.counted.add(count);
                }
            }
        }
    }
}
