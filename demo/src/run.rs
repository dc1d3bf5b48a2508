//! One run: the day is played against the node, then everything is compared with the truth.
//!
//! Stages: set up, play (with kills, if asked for), wait until all is through, compare, figures. Nothing here decides what is
//! right: that is [`crate::truth`] and [`crate::verify`].

pub mod canary;
pub mod chaos;
mod compare;
pub mod drain;
pub mod patience;
pub mod play;
pub mod setup;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sunseo_client::Client;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::canary::Moments;
use self::patience::insist;
use crate::config::DemoConfig;
use crate::error::{DemoError, Result};
use crate::node::{Node, Progress};
use crate::regions::Regions;
use crate::report::Report;
use crate::simulator::Simulator;
use crate::truth::Truth;

/// A day of this many deliveries, in its own time, is what the last figure compares with.
const LARGE_DAY_DELIVERIES: f64 = 1_000_000.0;
const SECONDS_PER_DAY: f64 = 86_400.0;

/// The memory of the node is looked at this often.
const MEMORY_EVERY: Duration = Duration::from_millis(500);
const BYTES_PER_MIB: f64 = 1_048_576.0;

/// What was measured.
type Figures = BTreeMap<String, f64>;

/// Plays the day and compares. The node is started if it does not run, and left running.
///
/// # Errors
/// When the day could not be played to its end. Differences from the truth are failed checks in the report.
pub async fn run(config: DemoConfig, node: Arc<dyn Node>, progress: Arc<dyn Progress>) -> Result<Report> {
    config.validate()?;
    let source = config.region_source();
    let open = tokio::task::spawn_blocking(move || Regions::open(&source));
    let regions = open.await.map_err(|e| DemoError::Internal(format!("opening the regions: {e}")))??;
    let regions = Arc::new(regions);
    progress.stage("starting the node", None);
    node.start().await?;
    let address = node.address();
    let client = insist("connecting", || Client::connect(address.clone())).await?;
    let memory = MemoryPeak::watch(Arc::clone(&node));

    let mut truth = Truth::new(Arc::clone(&regions));
    let mut figures = Figures::new();
    let (application, kills) =
        play_and_drain(&config, (&client, &node, &progress), regions, &mut truth, &mut figures).await?;

    progress.stage("comparing with the truth", None);
    let begin = Instant::now();
    let checks =
        compare::compare(&config, (&client, node.as_ref()), &truth, (&application, kills), &mut figures)
            .await?;
    figures.insert("comparing_s".to_owned(), begin.elapsed().as_secs_f64());
    if let Some(bytes) = memory.bytes() {
        figures.insert("node_memory_peak_mib".to_owned(), bytes as f64 / BYTES_PER_MIB);
    }
    Ok(Report::new(config.seed, checks, figures))
}

async fn play_and_drain(
    config: &DemoConfig,
    (client, node, progress): (&Client, &Arc<dyn Node>, &Arc<dyn Progress>),
    regions: Arc<Regions>,
    truth: &mut Truth,
    figures: &mut Figures,
) -> Result<(crate::app::Application, u32)> {
    let application = setup::set_up(client, config).await?;
    let (orders, orders_made) = watch::channel(0);
    let (seen_by, seen) = watch::channel(0);
    let (committed, visible) = (Moments::default(), Moments::default());
    let canaries =
        AbortOnDropHandle::new(tokio::spawn(canary::watch_count(client.clone(), visible.clone(), seen_by)));
    let plan = chaos::plan(config.chaos_kills, config.deliveries, config.seed);
    let kills = chaos::perform(plan, Arc::clone(node), Arc::clone(progress), orders_made);
    let kills = AbortOnDropHandle::new(tokio::spawn(kills));

    progress.stage("the day", Some(config.deliveries.into()));
    let begin = Instant::now();
    let signals = play::Signals { orders, seen, committed: committed.clone() };
    let simulator = Simulator::new(config.day(), regions);
    let play = play::play(client, config, simulator, truth, (application, signals), progress);
    let (application, kills) = both(play, kills).await?;
    let played = begin.elapsed();

    progress.stage("waiting until all is through", Some(truth.ended()));
    let patience = Duration::from_secs(config.patience_s);
    let complete = drain::drain(client, truth, patience, progress.as_ref()).await?;
    drop(canaries);
    let through = complete.map_or_else(|| begin.elapsed(), |complete| complete.duration_since(begin));
    let mut figure = |name: &str, value: f64| {
        figures.insert(name.to_owned(), value);
    };
    figure("day_s", played.as_secs_f64());
    figure("day_until_through_s", through.as_secs_f64());
    let per_second = |count: u64| count as f64 / through.as_secs_f64().max(f64::EPSILON);
    figure("deliveries_per_s", per_second(truth.orders()));
    figure("events_per_s", per_second(truth.events() + truth.positions()));
    figure("large_day_ratio", per_second(truth.orders()) * SECONDS_PER_DAY / LARGE_DAY_DELIVERIES);
    let latencies = canary::latencies_ms(&committed, &visible);
    figure("latency_samples", latencies.len() as f64);
    for (name, part) in [("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99)] {
        if let Some(latency) = canary::percentile(&latencies, part) {
            figure(name, latency);
        }
    }
    Ok((application, kills))
}

/// The outcome of both. A node that does not come up again ends the run at once, not at the end of everybody's patience.
async fn both<T>(
    play: impl Future<Output = Result<T>>,
    mut kills: AbortOnDropHandle<Result<u32>>,
) -> Result<(T, u32)> {
    let killed = |outcome: std::result::Result<Result<u32>, tokio::task::JoinError>| {
        outcome.map_err(|e| DemoError::Internal(format!("killing the node: {e}")))?
    };
    let mut play = std::pin::pin!(play);
    tokio::select! {
        played = &mut play => Ok((played?, killed(kills.await)?)),
        outcome = &mut kills => {
            let kills = killed(outcome)?;
            Ok((play.await?, kills))
        }
    }
}

/// Looks at the node's memory until it is dropped.
struct MemoryPeak {
    bytes: watch::Receiver<Option<u64>>,
    _watcher: AbortOnDropHandle<()>,
}

impl MemoryPeak {
    fn watch(node: Arc<dyn Node>) -> Self {
        let (sender, bytes) = watch::channel(None);
        let watcher = tokio::spawn(async move {
            loop {
                let now = node.resident_bytes();
                sender.send_modify(|peak| *peak = now.max(*peak));
                tokio::time::sleep(MEMORY_EVERY).await;
            }
        });
        Self { bytes, _watcher: AbortOnDropHandle::new(watcher) }
    }

    fn bytes(&self) -> Option<u64> {
        *self.bytes.borrow()
    }
}
