//! Closed loop: every producer sends as fast as its buffer takes records. What counts is what the high watermarks say.

use std::time::Duration;

use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt as _};
use sunseo_client::admin::OffsetQuery;
use sunseo_client::{Ack, Client, Producer};
use sunseo_proto::clock::{Clock as _, SystemClock};
use sunseo_proto::v1;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::histogram::Histogram;
use super::load::Load;
use super::target::Target;
use super::{Common, KEY_BYTES, Report};
use crate::cli::failure::{Failure, Outcome};

/// One of this many records has its acknowledgement timed.
const SAMPLE_EVERY: u64 = 128;

/// Acknowledgements waited for at the same time, per producer.
const SAMPLES_MAX: usize = 4_096;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
}

pub async fn run(arguments: &Arguments, target: &Target, report: &mut Report) -> Outcome {
    let common = &arguments.common;
    let admin = Client::connect(target.address.clone()).await?;
    let topic = target.topic(&admin, common, "produce").await?;
    let outcome = Box::pin(measure(common, target, (&admin, &topic), report)).await;
    admin.admin().delete_topic(&topic).await?;
    outcome
}

async fn measure(
    common: &Common,
    target: &Target,
    (admin, topic): (&Client, &str),
    report: &mut Report,
) -> Outcome {
    report.durability(admin, topic).await?;
    let stop = CancellationToken::new();
    let mut senders = Vec::new();
    for (number, client) in common.connections(target, common.producers).await?.into_iter().enumerate() {
        let producer = client.producer(common.producer())?;
        let load = Load::new(number as u64, common.record_bytes);
        let sending = send(client, producer, topic.to_owned(), load, stop.clone());
        senders.push(AbortOnDropHandle::new(tokio::spawn(sending)));
    }
    wait(target, (admin, topic), Duration::from_secs(common.warm_up), "warming up").await?;
    let (before, start) = (durable_records(admin, topic).await?, Instant::now());
    wait(target, (admin, topic), Duration::from_secs(common.duration), "producing").await?;
    let (after, seconds) = (durable_records(admin, topic).await?, start.elapsed().as_secs_f64());
    stop.cancel();
    let mut times = Histogram::default();
    for sender in senders {
        let sent = sender.await.map_err(|error| Failure::new(format!("a producer ended: {error}")))?;
        times.merge(&sent?);
    }
    report.throughput(after - before, common.record_bytes + KEY_BYTES, seconds);
    report.latency("acknowledged", &times);
    Ok(())
}

/// Sends until it is stopped; the times of acknowledgements.
async fn send(
    client: Client,
    producer: Producer,
    topic: String,
    mut load: Load,
    stop: CancellationToken,
) -> Outcome<Histogram> {
    let (samples, receiver) = mpsc::channel(SAMPLES_MAX);
    let timing = AbortOnDropHandle::new(tokio::spawn(time(receiver)));
    let mut number = 0_u64;
    let mut now_ms = SystemClock.now_ms();
    while !stop.is_cancelled() {
        if number.is_multiple_of(SAMPLE_EVERY) {
            now_ms = SystemClock.now_ms();
            // the loop must not keep others from running while the buffer has room
            tokio::task::yield_now().await;
        }
        let sent_at = Instant::now();
        let ack = producer.send(&topic, load.next(now_ms)).await?;
        if number.is_multiple_of(SAMPLE_EVERY) {
            // with so many unanswered, one sample less changes nothing
            let _ = samples.try_send((sent_at, ack));
        }
        number += 1;
    }
    producer.close().await?;
    drop(samples);
    drop(client);
    timing.await.map_err(|error| Failure::new(format!("timing ended: {error}")))
}

async fn time(mut samples: mpsc::Receiver<(Instant, Ack)>) -> Histogram {
    let mut times = Histogram::default();
    let mut waiting = FuturesUnordered::new();
    loop {
        tokio::select! {
            sample = samples.recv(), if waiting.len() < SAMPLES_MAX => match sample {
                Some((sent_at, ack)) => waiting.push(async move { ack.await.map(|_| sent_at.elapsed()) }),
                None => break,
            },
            Some(time) = waiting.next() => count(&mut times, time),
        }
    }
    while let Some(time) = waiting.next().await {
        count(&mut times, time);
    }
    times
}

/// A refused record has no time; its error ends the producer, which reports it.
fn count(times: &mut Histogram, time: sunseo_proto::error::Result<Duration>) {
    if let Ok(time) = time {
        times.record(micros(time));
    }
}

pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Sum of the high watermarks: records that are durable and can be read.
pub async fn durable_records(client: &Client, topic: &str) -> Outcome<u64> {
    let partition = |partition| v1::ListOffsetsPartition {
        topic: topic.to_owned(),
        partition,
        timestamp_ms: OffsetQuery::End.timestamp_ms(),
        ..Default::default()
    };
    let count = client.partitions(topic).await?;
    let request =
        v1::ListOffsetsRequest { partitions: (0..count).map(partition).collect(), ..Default::default() };
    let answer = client.transport().list_offsets(request).await?;
    if let Some(error) = answer.results.iter().find_map(|result| result.error.clone()) {
        return Err(sunseo_proto::Error::from(error).into());
    }
    Ok(answer.results.iter().map(|result| result.offset.max(0) as u64).sum())
}

/// Lets the load run, and shows how it goes.
async fn wait(target: &Target, (admin, topic): (&Client, &str), time: Duration, doing: &str) -> Outcome {
    let end = Instant::now() + time;
    let mut before = durable_records(admin, topic).await?;
    while Instant::now() < end {
        let start = Instant::now();
        tokio::time::sleep_until((start + Duration::from_secs(1)).min(end)).await;
        if !target.live.is_hidden() {
            let now = durable_records(admin, topic).await?;
            let rate = (now - before) as f64 / start.elapsed().as_secs_f64();
            target.live.set_message(format!("{doing}: {rate:.0} records/s"));
            before = now;
        }
    }
    Ok(())
}
