//! Open loop: records have a time at which they should be sent, and their latency counts from it, whether or not the sender was late.
//! So a server that stops for a second shows as a second in every record of it, not in one (no coordinated omission).
//!
//! The sender wakes every millisecond: up to one is in every figure. It has a thread of its own, because the runtime's timers may be late by
//! another one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use clap::Args;
use sunseo_client::{Client, ConsumerConfig, Producer, StartFrom};
use sunseo_proto::clock::{Clock as _, SystemClock};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::live::Counted;
use super::load::{Load, stamp_of};
use super::produce::micros;
use super::target::Target;
use super::{Common, Report};
use crate::cli::failure::{Failure, Outcome};

/// How often a sender looks what is due.
const TICK: Duration = Duration::from_millis(1);

/// Longest wait for what is still on its way at the end.
const DRAIN: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    /// Records a second, over all producers
    #[arg(long, default_value_t = 20_000.0, value_name = "RECORDS")]
    rate: f64,
}

pub async fn run(arguments: &Arguments, target: &Target, report: &mut Report) -> Outcome {
    if !(arguments.rate.is_finite() && arguments.rate >= 1.0) {
        return Err(Failure::usage(format!(
            "--rate is {}: use records a second, at least 1",
            arguments.rate
        )));
    }
    let admin = Client::connect(target.address.clone()).await?;
    let topic = target.topic(&admin, &arguments.common, "e2e").await?;
    let outcome = Box::pin(measure(arguments, target, (&admin, &topic), report)).await;
    target.drop_topic(&admin, &arguments.common, &topic).await?;
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
    report.fact("rate_records_per_s", arguments.rate);
    let client = Client::connect(target.address.clone()).await?;
    let mut config = ConsumerConfig::topics([topic]).from(StartFrom::End);
    config.fetch_wait = Duration::from_secs(5);
    let consumer = client.consumer(config).await?;
    let start = Instant::now();
    let warm_up = Duration::from_secs(common.warm_up);
    let end = warm_up + Duration::from_secs(common.duration);
    let all_sent = CancellationToken::new();
    let counted = Counted::new(common.payload_bytes());
    let _shown = counted.show(&target.live);
    let receiving = receive(consumer, (start, warm_up), Arc::clone(&counted), all_sent.clone());
    let receiver = AbortOnDropHandle::new(tokio::spawn(receiving));
    let mut senders = Vec::new();
    for (number, client) in common.connections(target, common.producers).await?.into_iter().enumerate() {
        let plan = Plan {
            topic: topic.to_owned(),
            start,
            end,
            interval: Duration::from_secs_f64(common.producers as f64 / arguments.rate),
            // producers take turns
            first: Duration::from_secs_f64(number as f64 / arguments.rate),
        };
        let load = Load::new(number as u64, common.record_bytes, common.key_bytes);
        let producer = client.producer(common.producer())?;
        senders.push(AbortOnDropHandle::new(tokio::spawn(send(plan, producer, load))));
    }
    let mut sent = 0;
    for sender in senders {
        sent += sender.await.map_err(|error| Failure::new(format!("a producer ended: {error}")))??;
    }
    all_sent.cancel();
    let received = receiver.await.map_err(|error| Failure::new(format!("the consumer ended: {error}")))?;
    let records = received?;
    if records != sent {
        return Err(Failure::new(format!("{sent} records were acknowledged, {records} were received")));
    }
    let times = counted.times();
    report.throughput(times.count(), common.payload_bytes(), common.duration as f64);
    report.latency("latency", &times);
    Ok(())
}

/// When one producer sends.
struct Plan {
    topic: String,
    start: Instant,
    end: Duration,
    interval: Duration,
    first: Duration,
}

/// Sends what is due, every tick; how many.
async fn send(plan: Plan, producer: Producer, load: Load) -> Outcome<u64> {
    let runtime = Handle::current();
    // the thread cannot be aborted: it ends when this future does
    let (_alive, ended) = std::sync::mpsc::channel();
    let sending = tokio::task::spawn_blocking(move || plan.send(&producer, load, &runtime, &ended));
    sending.await.map_err(|error| Failure::new(format!("a producer ended: {error}")))?
}

impl Plan {
    fn send(
        self,
        producer: &Producer,
        mut load: Load,
        runtime: &Handle,
        ended: &Receiver<()>,
    ) -> Outcome<u64> {
        let (mut number, mut tick) = (0_u32, self.start);
        loop {
            // a tick that was missed is left out
            tick = (tick + TICK).max(Instant::now());
            let wait = tick.saturating_duration_since(Instant::now());
            let is_over = ended.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected);
            let (elapsed, now_ms) = (self.start.elapsed(), SystemClock.now_ms());
            loop {
                let due = self.first + self.interval * number;
                if due >= self.end || is_over {
                    runtime.block_on(producer.close())?;
                    return Ok(number.into());
                }
                if due > elapsed {
                    break;
                }
                drop(runtime.block_on(producer.send(&self.topic, load.stamped(micros(due), now_ms)))?);
                number += 1;
            }
        }
    }
}

/// Receives until everything was sent and nothing more comes; how many.
async fn receive(
    mut consumer: sunseo_client::Consumer,
    (start, warm_up): (Instant, Duration),
    counted: Arc<Counted>,
    all_sent: CancellationToken,
) -> Outcome<u64> {
    let mut received = 0;
    let mut last = Instant::now();
    loop {
        let batch = consumer.poll(Duration::from_millis(100)).await?;
        let now = start.elapsed();
        if now >= warm_up {
            counted.begin();
        }
        let dues = batch.iter().filter_map(|consumed| stamp_of(&consumed.record).map(Duration::from_micros));
        // a record that was due in the warm-up is not measured, whenever it comes
        let mut measured = 0;
        counted.time(dues.filter(|due| *due >= warm_up).map(|due| {
            measured += 1;
            now.saturating_sub(due)
        }));
        counted.add(measured);
        received += batch.len() as u64;
        if !batch.is_empty() {
            last = Instant::now();
        }
        let caught_up = || {
            consumer.assignment().iter().all(|(topic, partition)| consumer.lag(topic, *partition) == Some(0))
        };
        // acknowledged is readable: after the last acknowledgement a fetch that finds nothing is the end
        let silent = last.elapsed() >= Duration::from_secs(1) && caught_up();
        if all_sent.is_cancelled() && (silent || last.elapsed() >= DRAIN) {
            consumer.close().await?;
            return Ok(received);
        }
    }
}
