//! How fast the pipeline delivery-day handles what waits for it: it is paused, riders' positions are written, it is resumed, and the time
//! until nothing is left is measured. Each record is decoded, located among polygons and compared with the rider's state.

use std::time::Duration;

use clap::Args;
use sunseo_client::{Client, ProducerConfig};
use sunseo_demo::event::{GpsPoint, RiderId};
use sunseo_demo::regions::{Position, RegionSource, Regions};
use sunseo_demo::topics;
use sunseo_proto::Record;
use sunseo_proto::clock::{Clock as _, SystemClock};
use sunseo_proto::v1::PipelineSummary;
use tokio::time::Instant;

use super::Report;
use super::load::Random;
use super::target::Target;
use crate::cli::failure::{Failure, Outcome};

/// Riders that move.
const RIDERS: u32 = 2_000;

/// Largest step between two positions of a rider, in 1e-7 degree: about 60 m.
const STEP_E7: u64 = 5_000;

/// Time without any progress after which the run has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub struct Arguments {
    /// Run on a node of its own, although a server is named
    #[arg(long)]
    pub embedded: bool,
    /// Partitions of the pipeline's topics on a node of its own
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub partitions: i32,
    /// Positions that are written and handled
    #[arg(long, default_value_t = 500_000, value_name = "N")]
    records: u64,
}

pub async fn run(arguments: &Arguments, target: &Target, report: &mut Report) -> Outcome {
    let client = Client::connect(target.address.clone()).await?;
    let pipelines = client.pipelines()?;
    report.fact("pipeline", topics::PIPELINE);
    report.fact("partitions", client.partitions(topics::RIDER_GPS).await?);
    pipelines.pause(topics::PIPELINE).await?;
    let written = fill(arguments, target, &client).await;
    let before = summary(&client).await?.records_processed;
    let start = Instant::now();
    // resumed also when the filling failed: the pipeline may be somebody's
    pipelines.resume(topics::PIPELINE).await?;
    written?;
    target.live.set_message("handling");
    let handled = drained(&client, before + arguments.records).await?;
    let seconds = start.elapsed().as_secs_f64();
    report.durability(&client, topics::RIDER_GPS).await?;
    report.figure("duration_s", seconds);
    report.figure("input_records", arguments.records as f64);
    report.figure("input_records_per_s", arguments.records as f64 / seconds);
    // with what passes between its parts
    report.figure("handled_records_per_s", (handled - before) as f64 / seconds);
    Ok(())
}

async fn summary(client: &Client) -> Outcome<PipelineSummary> {
    let description = client.pipelines()?.describe(topics::PIPELINE).await?;
    description.pipeline.ok_or_else(|| Failure::new("the server describes no pipeline: update it"))
}

async fn fill(arguments: &Arguments, target: &Target, client: &Client) -> Outcome {
    target.live.set_message("writing positions");
    let mut riders = Riders::new()?;
    let producer = client.producer(ProducerConfig::default())?;
    for _ in 0..arguments.records {
        drop(producer.send(topics::RIDER_GPS, riders.next()).await?);
    }
    Ok(producer.close().await?)
}

/// Waits until nothing is left; how many records were handled by then.
async fn drained(client: &Client, least: u64) -> Outcome<u64> {
    let (mut last, mut progress) = (0, Instant::now());
    loop {
        let now = summary(client).await?;
        if now.records_processed >= least && now.lag == 0 {
            return Ok(now.records_processed);
        }
        if now.state == "failed" {
            let why = now.error.map_or_else(String::new, |error| error.message);
            return Err(Failure::new(format!("the pipeline failed: {why}")));
        }
        if now.records_processed > last {
            (last, progress) = (now.records_processed, Instant::now());
        }
        if progress.elapsed() > PATIENCE {
            let (lag, seconds) = (now.lag, PATIENCE.as_secs());
            return Err(Failure::new(format!(
                "the pipeline made no progress for {seconds} s, {lag} records are left"
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Riders who wander through the city.
struct Riders {
    random: Random,
    at: Vec<Position>,
    at_ms: i64,
    low: Position,
    high: Position,
}

impl Riders {
    fn new() -> Outcome<Self> {
        let bounds = Regions::open(&RegionSource::Generated { seed: 1 })?.bounds();
        let (low, high) = (Position::from_degrees(bounds.min()), Position::from_degrees(bounds.max()));
        let mut random = Random::new(1);
        let mut between = |low: i32, high: i32| {
            let width = u64::from(high.abs_diff(low)).max(1);
            low.saturating_add_unsigned((random.next() % width) as u32)
        };
        let mut place = |_| Position {
            lon_e7: between(low.lon_e7, high.lon_e7),
            lat_e7: between(low.lat_e7, high.lat_e7),
        };
        let at = (0..RIDERS).map(&mut place).collect();
        Ok(Self { random, at, at_ms: SystemClock.now_ms(), low, high })
    }

    fn next(&mut self) -> Record {
        let rider = (self.random.next() % u64::from(RIDERS)) as u32;
        let mut moved = |from: i32, low: i32, high: i32| {
            let step = (self.random.next() % (2 * STEP_E7 + 1)) as i32 - STEP_E7 as i32;
            from.saturating_add(step).clamp(low, high)
        };
        let at = &mut self.at[rider as usize];
        at.lon_e7 = moved(at.lon_e7, self.low.lon_e7, self.high.lon_e7);
        at.lat_e7 = moved(at.lat_e7, self.low.lat_e7, self.high.lat_e7);
        self.at_ms += 1;
        let rider = RiderId(rider + 1);
        let point = GpsPoint { rider, at_ms: self.at_ms, at: *at };
        Record::new(rider.to_string(), point.to_json(), self.at_ms)
    }
}
