//! One run from its seed to its verdict.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_client::NewTopic;
use sunseo_proto::clock::Clock as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::door::Door;
use super::load::{self, KEPT, PLAIN, Shared};
use super::nemesis::{self, Deeds};
use super::node::{Death, World};
use super::pace::Pace;
use super::plan::Plan;
use super::verdict;
use crate::check::{Anomaly, check};
use crate::history::{Act, Fate, History, Outcome, Rules};

/// Time for the rest after the load; who is not done then hangs.
const REST: Duration = Duration::from_secs(300);

/// What came out of a run.
#[derive(Debug)]
pub struct RunReport {
    pub seed: u64,
    pub anomalies: Vec<Anomaly>,
    pub history: History,
    pub deeds: Deeds,
}

impl RunReport {
    /// Numbers worth printing.
    #[must_use]
    pub fn counts(&self) -> Deeds {
        let mut counts = self.deeds.clone();
        let mut add = |what, n: usize| *counts.entry(what).or_default() += n as u64;
        add("runs", 1);
        add("operations", self.history.ops.len());
        for op in &self.history.ops {
            match &op.act {
                Act::Send { records, .. } => {
                    let acked = records.iter().filter(|sent| matches!(sent.fate, Fate::Acked(_))).count();
                    add("records acknowledged", acked);
                    add(
                        "records of unknown fate",
                        records.iter().filter(|sent| sent.fate == Fate::Unknown).count(),
                    );
                }
                Act::Poll { records, .. } => add("records polled", records.len()),
                Act::Commit { outcome: Outcome::Done, .. } => add("commits", 1),
                Act::Acquire { .. } => add("changes of owner", 1),
                Act::EndTxn { commit: true, outcome: Outcome::Done, .. } => add("transactions committed", 1),
                Act::EndTxn { commit: false, outcome: Outcome::Done, .. } => add("transactions aborted", 1),
                _ => {}
            }
        }
        counts
    }
}

/// Runs a plan.
///
/// # Panics
/// When something hangs, or the node does not start.
#[must_use]
pub fn run(seed: u64, plan: Plan) -> RunReport {
    let (pace, timers) = Pace::new();
    let settle = Arc::clone(&pace);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .on_thread_park(move || settle.settle())
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::spawn(Arc::clone(&pace).run(timers));
        Box::pin(live(seed, plan, pace)).await
    })
}

async fn live(seed: u64, plan: Plan, pace: Arc<Pace>) -> RunReport {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed, pace);
    world.revive().await;
    let shared = Arc::new(Shared::new(Arc::clone(&world.clock)));
    let retention_ms = rng.random_range(10_000..60_000);
    make_topics(&world, &shared, &mut rng, retention_ms).await;
    let mut clients = begin(&world, &shared, &mut rng, plan);
    let until = Instant::now() + Duration::from_secs(plan.seconds);
    let deeds = nemesis::run(&mut world, &mut rng, plan.fault_pause_ms_max, until).await;
    shared.stop();
    world.entrance.calm();
    rest(seed, &mut clients).await;
    let quiet = world.quiet_client();
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
    RunReport { seed, anomalies: check(&history), history, deeds }
}

/// Waits for the clients' ends.
async fn rest(seed: u64, clients: &mut Clients) {
    let end = Instant::now() + REST;
    while !clients.names.is_empty() {
        match tokio::time::timeout_at(end, clients.tasks.join_next_with_id()).await {
            Ok(Some(done)) => {
                let (id, ()) = done.unwrap_or_else(|error| panic!("seed {seed}: a client ended: {error}"));
                clients.names.remove(&id);
            }
            Ok(None) => return,
            Err(_) => {
                let names: Vec<_> = clients.names.values().collect();
                panic!("seed {seed}: {names:?} hang {REST:?} after everything is well");
            }
        }
    }
}

/// Age of a segment's first record after which it is closed, in the topic that does not keep everything.
const SEGMENT_MS: i64 = 5_000;

async fn make_topics(world: &World, shared: &Shared, rng: &mut StdRng, retention_ms: i64) {
    let admin = world.quiet_client().admin();
    let segment_bytes = rng.random_range(4_000..40_000);
    let plain = NewTopic::new(PLAIN.name, PLAIN.partitions)
        .with("segment_bytes", segment_bytes)
        .with("retention_ms", -1);
    let kept = NewTopic::new(KEPT.name, KEPT.partitions)
        .with("segment_bytes", segment_bytes)
        .with("segment_ms", SEGMENT_MS)
        .with("retention_ms", retention_ms);
    for topic in [plain, kept] {
        let made = admin.create_topic(topic).await;
        made.unwrap_or_else(|error| panic!("a topic is not made: {error}"));
    }
    shared.recorder.rules(KEPT.number, Rules { retention_ms: Some(retention_ms), ..Rules::default() });
}

/// The running clients with their names.
#[derive(Default)]
struct Clients {
    tasks: JoinSet<()>,
    names: HashMap<tokio::task::Id, &'static str>,
}

impl Clients {
    fn spawn(&mut self, name: &'static str, client: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(client).id();
        self.names.insert(id, name);
    }
}

fn begin(world: &World, shared: &Arc<Shared>, rng: &mut StdRng, plan: Plan) -> Clients {
    let mut clients = Clients::default();
    let mut next = || {
        let (client, door) = world.client(rng.random_range(0..u64::MAX), plan.odds.odds());
        (Arc::clone(shared), client, door, StdRng::seed_from_u64(rng.random_range(0..u64::MAX)))
    };
    for _ in 0..plan.producers {
        let (shared, client, _, rng) = next();
        clients.spawn("producer", load::producer::run(shared, client, rng));
    }
    for number in 0..plan.positioned {
        let (shared, client, _, rng) = next();
        clients.spawn("source", load::positioned::run(shared, client, rng, format!("source-{number}")));
    }
    for _ in 0..plan.readers {
        let (shared, client, _, rng) = next();
        clients.spawn("reader", load::reader::run(shared, client, rng));
    }
    for _ in 0..plan.members {
        let (shared, client, door, rng): (_, _, Door, _) = next();
        clients.spawn("member", load::member::run(shared, client, door, rng));
    }
    let (shared, client, _, rng) = next();
    clients.spawn("churn", load::churn::run(shared, client, rng));
    clients
}

/// Lets so much time pass that retention must remove everything.
async fn age_everything(world: &mut World, retention_ms: i64) -> Option<i64> {
    // segments may have been begun while the clock was ahead
    let behind = world.clock.latest_ms() - world.clock.now_ms();
    world.clock.jump(behind + retention_ms + SEGMENT_MS + 60_000);
    tokio::time::sleep(Duration::from_secs(10)).await;
    Some(retention_ms + SEGMENT_MS)
}
