//! One run from its seed to its verdict.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_proto::clock::Clock as _;
use tokio::time::Instant;

use super::clock::TrueTime;
use super::door::Odds;
use super::nemesis;
use super::node::{Death, World};
use super::pace::Pace;
use crate::history::Rules;
use crate::load::{Crew, KEPT, Plan, SEGMENT_MS, Shared, TIMEOUT_MAX, Way, make_topics};
use crate::report::RunReport;
use crate::verdict;

/// Time for the rest after the load; who is not done then hangs.
const REST: Duration = Duration::from_secs(300);

/// Real time of a whole run, of which it needs a hundredth. Simulated time may stand still for ever when something asks again and again.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a plan. Ends the process when the run takes far longer than any does: whatever keeps it busy cannot be interrupted.
///
/// # Panics
/// When something hangs, or the node does not start.
#[must_use]
pub fn run(seed: u64, plan: Plan) -> RunReport {
    let (done, running) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if running.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            eprintln!(
                "seed {seed}: not at its end after {PATIENCE:?}, something goes round in circles: {plan:?}"
            );
            std::process::abort();
        }
    });
    let report = Pace::live(|pace| live(seed, plan, pace));
    drop(done);
    report
}

async fn live(seed: u64, plan: Plan, pace: Arc<Pace>) -> RunReport {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed, pace);
    world.revive().await;
    let shared = Arc::new(Shared::new(Arc::new(TrueTime(Arc::clone(&world.clock)))));
    let retention_ms = rng.random_range(10_000..60_000);
    let quiet = world.quiet_client();
    make_topics(&quiet, &shared, &mut rng, retention_ms).await.expect("topics are made");
    let odds = if plan.bad_way { Odds::BAD } else { Odds::GOOD };
    let mut crew = Crew::begin(plan, &shared, &mut rng, |seed| {
        let (client, door) = world.client(seed, odds);
        (client, Arc::new(door) as Arc<dyn Way>)
    });
    let until = Instant::now() + Duration::from_secs(plan.seconds);
    let deeds = nemesis::run(&mut world, &mut rng, &plan, until).await;
    shared.stop();
    world.entrance.calm();
    crew.rest(seed, REST).await;
    // what nobody ends, the node does
    tokio::time::sleep(TIMEOUT_MAX * 2).await;
    verdict::read_everything(&shared, &quiet, false).await;
    let death = [Death::Kill, Death::PowerCut, Death::Shutdown][rng.random_range(0..3)];
    world.end(death).await;
    world.revive().await;
    if rng.random_range(0..2) == 0 {
        let gone_after_ms = age_everything(&mut world, retention_ms).await;
        let rules = Rules { retention_ms: Some(retention_ms), gone_after_ms, ..Rules::default() };
        shared.recorder.rules(KEPT.number, rules);
    }
    verdict::read_commits(&shared, &quiet).await;
    verdict::read_everything(&shared, &quiet, true).await;
    let mut history = shared.recorder.take();
    history.clock_end_ms = world.clock.now_ms();
    history.clock_max_ms = world.clock.latest_ms();
    world.end(Death::Shutdown).await;
    RunReport::of(seed, history, deeds)
}

/// Lets so much time pass that retention must remove everything.
async fn age_everything(world: &mut World, retention_ms: i64) -> Option<i64> {
    // segments may have been begun while the clock was ahead
    let behind = world.clock.latest_ms() - world.clock.now_ms();
    world.clock.jump(behind + retention_ms + SEGMENT_MS + 60_000);
    tokio::time::sleep(Duration::from_secs(10)).await;
    Some(retention_ms + SEGMENT_MS)
}
