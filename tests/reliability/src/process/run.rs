//! One run from its seed to its verdict.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_client::{Client, GrpcConfig, GrpcTransport};
use sunseo_proto::clock::{Clock as _, SystemClock};
use tokio::time::Instant;

use super::node::Node;
use super::way::Gated;
use crate::load::{Crew, Load, Plan, Shared, TIMEOUT_MAX, Way, make_topics};
use crate::report::{Deeds, RunReport};
use crate::verdict;

/// Time for the clients' ends after the load.
const REST: Duration = Duration::from_secs(180);
/// How far the clock is put wrong at most, in seconds.
const SKEW_MAX: i64 = 6 * 3_600;

/// What to run.
#[derive(Clone, Debug)]
pub struct Process {
    pub binary: PathBuf,
    pub faketime: Option<PathBuf>,
    /// Time of load.
    pub load: Duration,
}

/// Runs a seed.
///
/// # Errors
/// When the node cannot be started, or does not do as it is told.
///
/// # Panics
/// When something hangs.
pub fn run(process: &Process, seed: u64) -> io::Result<RunReport> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(Box::pin(live(process, seed)))
}

async fn live(process: &Process, seed: u64) -> io::Result<RunReport> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut node = Node::new(&process.binary, process.faketime.as_deref())?;
    node.start().await?;
    let address = node.address();
    let connect = move |_seed| {
        let grpc = GrpcTransport::connect_lazy(GrpcConfig::new(address.clone())).expect("a local address");
        let way = Gated::new(Arc::new(grpc));
        (Client::new(Arc::new(way.clone())), Arc::new(way) as Arc<dyn Way>)
    };
    let shared = Arc::new(Shared::new(Arc::new(SystemClock)));
    let (quiet, _) = connect(0);
    let retention_ms = rng.random_range(10_000..60_000);
    make_topics(&quiet, &shared, &mut rng, retention_ms).await.map_err(io::Error::other)?;
    let load = Load {
        producers: rng.random_range(1..3),
        positioned: 1,
        readers: rng.random_range(1..3),
        seekers: 1,
        members: rng.random_range(2..4),
        tellers: rng.random_range(1..3),
        rivals: rng.random_range(1..3),
        mills: rng.random_range(1..3),
    };
    // what happens to the node is drawn below
    let plan = Plan { load, ..Plan::of(seed) };
    let mut crew = Crew::begin(plan, &shared, &mut rng, connect);
    let until = Instant::now() + process.load;
    let mut deeds = Deeds::new();
    let mut latest_skew = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..4_000))).await;
        latest_skew = torment(&mut node, &mut rng, &mut deeds).await?.max(latest_skew);
    }
    shared.stop();
    crew.rest(seed, REST).await;
    // what nobody ends, the node does
    tokio::time::sleep(TIMEOUT_MAX + Duration::from_secs(4)).await;
    verdict::read_everything(&shared, &quiet, false).await;
    if rng.random_range(0..2) == 0 {
        node.kill().await?
    } else {
        node.terminate().await?
    }
    node.start().await?;
    verdict::read_commits(&shared, &quiet).await;
    verdict::read_everything(&shared, &quiet, true).await;
    let mut history = shared.recorder.take();
    history.clock_end_ms = SystemClock.now_ms();
    history.clock_max_ms = history.clock_end_ms + latest_skew * 1_000;
    node.terminate().await?;
    Ok(RunReport::of(seed, history, deeds))
}

/// One thing that happens to the node, which runs before and after it. How far its clock is ahead then, in seconds.
async fn torment(node: &mut Node, rng: &mut StdRng, deeds: &mut Deeds) -> io::Result<i64> {
    let mut did = |what: &'static str| *deeds.entry(what).or_default() += 1;
    let mut skew = 0;
    match rng.random_range(0..10) {
        0..4 => {
            did("kills");
            node.kill().await?;
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..1_500))).await;
            node.start().await?;
        }
        4 => {
            did("shutdowns");
            node.terminate().await?;
            node.start().await?;
        }
        5..8 => {
            // often longer than sessions and transactions last
            let longest = [500, 5_000, 12_000][rng.random_range(0..3)];
            did("stops");
            node.signal("STOP").await?;
            tokio::time::sleep(Duration::from_millis(rng.random_range(100..longest))).await;
            node.signal("CONT").await?;
        }
        _ => {
            skew = rng.random_range(-SKEW_MAX..SKEW_MAX);
            if node.set_skew(skew)? {
                did("clock jumps");
            }
        }
    }
    Ok(skew)
}
