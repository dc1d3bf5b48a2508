//! Topics come and go: each is made, grown, written to (which shows that it can be used) and deleted, on several connections at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use sunseo_client::{Client, NewTopic};
use sunseo_proto::clock::{Clock as _, SystemClock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::bench::histogram::Histogram;
use crate::bench::load::Load;
use crate::bench::produce::{all, micros};
use crate::bench::target::Target;
use crate::bench::{Common, Report};
use crate::cli::failure::Outcome;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    /// Partitions that each topic grows by
    #[arg(long, default_value_t = 4, value_name = "N")]
    grow: i32,
}

/// Times of the steps of a topic's life.
#[derive(Debug, Default)]
struct Times {
    create: Histogram,
    grow: Histogram,
    first_record: Histogram,
    delete: Histogram,
}

#[derive(Debug, Default)]
struct Shared {
    times: Mutex<Times>,
    stop: CancellationToken,
}

impl Shared {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub async fn run(arguments: &Arguments, target: &Target, report: &mut Report) -> Outcome {
    let common = &arguments.common;
    report.fact("durability", common.durability());
    report.fact("grow", arguments.grow);
    let shared = Arc::new(Shared::default());
    let mut lives = Vec::new();
    for (number, client) in common.connections(target, common.producers).await?.into_iter().enumerate() {
        let (shared, common, grow) = (Arc::clone(&shared), common.clone(), arguments.grow);
        let lives_of_topics =
            async move { lives_of_topics(number, &client, &common, grow.max(0), &shared).await };
        lives.push(AbortOnDropHandle::new(tokio::spawn(lives_of_topics)));
    }
    tokio::time::sleep(Duration::from_secs(common.warm_up)).await;
    *shared.times() = Times::default();
    let begun = Instant::now();
    let end = begun + Duration::from_secs(common.duration);
    while Instant::now() < end {
        let next = Instant::now() + Duration::from_millis(250);
        tokio::time::sleep_until(next.min(end)).await;
        let topics = shared.times().delete.count() as f64;
        target.live.set_message(format!("{:.0} topics/s", topics / begun.elapsed().as_secs_f64()));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let times = std::mem::take(&mut *shared.times());
    shared.stop.cancel();
    all(&mut lives).await?;
    report.figure("duration_s", seconds);
    report.figure("topics", times.delete.count() as f64);
    report.figure("topics_per_s", times.delete.count() as f64 / seconds);
    let partitions = common.partitions + arguments.grow.max(0);
    report.figure("partitions_per_s", times.delete.count() as f64 * f64::from(partitions) / seconds);
    report.latency("create", &times.create);
    report.latency("grow", &times.grow);
    report.latency("first_record", &times.first_record);
    report.latency("delete", &times.delete);
    Ok(())
}

async fn lives_of_topics(
    number: usize,
    client: &Client,
    common: &Common,
    grow: i32,
    shared: &Shared,
) -> Outcome {
    let admin = client.admin();
    let producer = client.producer(sunseo_client::ProducerConfig { linger_ms: 0, ..common.producer() })?;
    let mut load = Load::new(number as u64, common.record_bytes, common.key_bytes);
    let prefix = format!("bench-churn-{}-{}-{number}", SystemClock.now_ms(), std::process::id());
    let mut life = 0_u64;
    while !shared.stop.is_cancelled() {
        let name = format!("{prefix}-{life}");
        let begun = Instant::now();
        let topic = NewTopic::new(name.clone(), common.partitions).with("durability", common.durability());
        admin.create_topic(topic).await?;
        let created = Instant::now();
        let grown = if grow > 0 {
            admin.alter_topic(&name, HashMap::new(), common.partitions + grow).await.map(drop)
        } else {
            Ok(())
        };
        let altered = Instant::now();
        let written = async {
            grown?;
            let last = common.partitions + grow - 1;
            let record = load.next(SystemClock.now_ms());
            producer.send_to(&name, Some(last), record).await?.await
        };
        let written = written.await;
        let used = Instant::now();
        // it goes also when it could not be used
        admin.delete_topic(&name).await?;
        written?;
        let mut times = shared.times();
        times.create.record(micros(created - begun));
        times.grow.record(micros(altered - created));
        times.first_record.record(micros(used - altered));
        times.delete.record(micros(used.elapsed()));
        life += 1;
    }
    Ok(producer.close().await?)
}
