//! Closed loop: every producer sends as fast as its buffer (or `--in-flight`) lets it. What counts is what the high watermarks say.

use std::sync::Arc;
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

use super::live::Counted;
use super::load::Load;
use super::target::Target;
use super::{Common, Report};
use crate::cli::failure::{Failure, Outcome};

/// One of this many records has its acknowledgement timed; with `--in-flight` every one has.
const SAMPLE_EVERY: u64 = 128;

/// Acknowledgements waited for at the same time, per producer.
const SAMPLES_MAX: usize = 4_096;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    /// Records that a producer leaves unacknowledged; 0 for as many as its buffer takes
    #[arg(long, default_value_t = 0, value_name = "N")]
    in_flight: usize,
    /// End after this much instead of after --duration, without a warm-up
    #[arg(long, value_name = "MB")]
    megabytes: Option<u64>,
}

pub async fn run(arguments: &Arguments, target: &Target, report: &mut Report) -> Outcome {
    let common = &arguments.common;
    let admin = Client::connect(target.address.clone()).await?;
    let topic = target.topic(&admin, common, "produce").await?;
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
    report.fact("in_flight", arguments.in_flight);
    let stop = CancellationToken::new();
    let counted = Counted::new(common.payload_bytes());
    let _shown = counted.show(&target.live);
    let share =
        arguments.megabytes.map(|megabytes| common.records_of(megabytes).div_ceil(common.producers as u64));
    let first = durable_records(admin, topic).await?;
    let clients = common.connections(target, common.producers).await?;
    let mut start = Instant::now();
    if share.is_some() {
        counted.begin();
    }
    let mut senders = Vec::new();
    for (number, client) in clients.into_iter().enumerate() {
        let sender = Sender {
            producer: client.producer(common.producer())?,
            topic: topic.to_owned(),
            load: Load::new(number as u64, common.record_bytes, common.key_bytes),
            in_flight: arguments.in_flight,
            share: share.unwrap_or(u64::MAX),
            counted: Arc::clone(&counted),
            stop: stop.clone(),
        };
        senders.push(AbortOnDropHandle::new(tokio::spawn(async move { sender.run(client).await })));
    }
    let mut before = first;
    if share.is_some() {
        // all of it, acknowledged
        all(&mut senders).await?;
    } else {
        tokio::time::sleep(Duration::from_secs(common.warm_up)).await;
        before = durable_records(admin, topic).await?;
        start = Instant::now();
        counted.begin();
        tokio::time::sleep(Duration::from_secs(common.duration)).await;
    }
    let (after, seconds) = (durable_records(admin, topic).await?, start.elapsed().as_secs_f64());
    stop.cancel();
    all(&mut senders).await?;
    report.throughput(after - before, common.payload_bytes(), seconds);
    report.figure("records_in_all", (durable_records(admin, topic).await? - first) as f64);
    report.latency("acknowledged", &counted.times());
    Ok(())
}

/// Waits for every task, or the first failure.
pub async fn all(tasks: &mut Vec<AbortOnDropHandle<Outcome>>) -> Outcome {
    for task in tasks.drain(..) {
        task.await.map_err(|error| Failure::new(format!("a part of the load ended: {error}")))??;
    }
    Ok(())
}

struct Sender {
    producer: Producer,
    topic: String,
    load: Load,
    in_flight: usize,
    share: u64,
    counted: Arc<Counted>,
    stop: CancellationToken,
}

impl Sender {
    /// Sends until it is stopped or has sent its share. `client` is held until the end.
    async fn run(mut self, client: Client) -> Outcome {
        match self.in_flight {
            0 => self.buffered().await?,
            _ => self.bounded().await?,
        }
        self.producer.close().await?;
        drop(client);
        Ok(())
    }

    async fn buffered(&mut self) -> Outcome {
        let (samples, receiver) = mpsc::channel(SAMPLES_MAX);
        let timing = tokio::spawn(time(receiver, Arc::clone(&self.counted)));
        let timing = AbortOnDropHandle::new(timing);
        let mut left = self.share;
        while left > 0 && !self.stop.is_cancelled() {
            // the loop must not keep others from running while the buffer has room
            tokio::task::yield_now().await;
            let (now_ms, sent_at) = (SystemClock.now_ms(), Instant::now());
            let ack = self.producer.send(&self.topic, self.load.next(now_ms)).await?;
            if self.counted.measures(sent_at) {
                // with so many unanswered, one sample less changes nothing
                let _ = samples.try_send((sent_at, ack));
            }
            let group = left.min(SAMPLE_EVERY);
            for _ in 1..group {
                drop(self.producer.send(&self.topic, self.load.next(now_ms)).await?);
            }
            self.counted.add(group);
            left -= group;
        }
        self.producer.flush().await?;
        drop(samples);
        timing.await.map_err(|error| Failure::new(format!("timing ended: {error}")))
    }

    /// At most so many unacknowledged, each one timed.
    async fn bounded(&mut self) -> Outcome {
        let mut waiting = FuturesUnordered::new();
        let mut number = 0_u64;
        while number < self.share && !self.stop.is_cancelled() {
            if waiting.len() >= self.in_flight
                && let Some(answer) = waiting.next().await
            {
                self.acknowledged(answer)?;
            }
            let sent_at = Instant::now();
            let ack = self.producer.send(&self.topic, self.load.next(SystemClock.now_ms())).await?;
            waiting.push(async move { ack.await.map(|_| sent_at) });
            number += 1;
        }
        while let Some(answer) = waiting.next().await {
            self.acknowledged(answer)?;
        }
        Ok(())
    }

    fn acknowledged(&self, answer: sunseo_proto::error::Result<Instant>) -> Outcome {
        let sent_at = answer?;
        if self.counted.measures(sent_at) {
            self.counted.add(1);
            self.counted.time([sent_at.elapsed()]);
        }
        Ok(())
    }
}

/// Times the acknowledgements of samples. A refused record has no time; its error ends the producer, which reports it.
async fn time(mut samples: mpsc::Receiver<(Instant, Ack)>, counted: Arc<Counted>) {
    let mut waiting = FuturesUnordered::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        tokio::select! {
            sample = samples.recv(), if open && waiting.len() < SAMPLES_MAX => match sample {
                Some((sent_at, ack)) => waiting.push(async move { ack.await.map(|_| sent_at.elapsed()) }),
                None => open = false,
            },
            Some(time) = waiting.next() => counted.time(time.ok()),
        }
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
