//! A whole pipeline over a broker in memory: killed at seeded moments with requests lost and late, its outputs and its state are
//! those of an undisturbed run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sunseo_client::testing::MemoryTransport;
use sunseo_proto::clock::ManualClock;
use sunseo_proto::{ErrorCode, Record, v1};
use tempfile::TempDir;

use crate::config::{DeployOptions, EngineConfig};
use crate::dsl::{CollectOptions, TopologyBuilder};
use crate::engine::Engine;
use crate::testing;
use crate::topology::Topology;

const DAY: &str = "day";
const STATUSES: [&str; 4] = ["created", "assigned", "picked", "done"];
/// Longest wait for a pipeline to get somewhere.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events keyed by rider, `delivery/status`, to counts of deliveries by status and one summary for each delivery.
fn topology() -> Topology {
    let builder = TopologyBuilder::new(DAY).dead_letter("dead");
    let events = builder
        .stream::<String, String>("events", "events")
        .select_key("by-delivery", |_, event| Ok(event.split('/').next().ok_or("no delivery")?.to_owned()));
    let statuses = events.map_values("status", |event| {
        Ok(event.split('/').nth(1).ok_or("the event has no status")?.to_owned())
    });
    let statuses = statuses.repartition("shuffle");
    statuses
        .to_table("latest")
        .group_by("by-status", |_, status: &String| Ok((status.clone(), status.clone())))
        .count("counts")
        .to_stream("count-changes")
        .to("counts-out", "counts");
    statuses
        .collect_until("collect", CollectOptions::timeout_ms(1 << 40), |_, events| {
            Ok(events.last().is_some_and(|status| status == "done"))
        })
        .map_values("summary", |collected| Ok(collected.events.join(",")))
        .to("summaries-out", "summaries");
    builder.build().expect("a topology")
}

fn broker(seed: u64) -> MemoryTransport {
    testing::broker(seed, &[("events", 3), ("counts", 2), ("summaries", 2), ("dead", 1)])
}

fn config(dir: &TempDir) -> EngineConfig {
    EngineConfig {
        threads: 2,
        commit_interval: Duration::from_millis(2),
        batch_records_max: 64,
        block_cache_bytes: 1 << 20,
        write_buffer_bytes: 1 << 20,
        flush_interval: Duration::from_millis(25),
        tick_interval: Duration::from_millis(20),
        ..EngineConfig::new(dir.path())
    }
}

async fn start(transport: &MemoryTransport, dir: &TempDir) -> Engine {
    let client = transport.client();
    let engine = Engine::start(config(dir), client, Arc::new(ManualClock::new(1_000))).await.expect("starts");
    engine.deploy(topology(), DeployOptions::default()).await.expect("deploys");
    engine
}

/// The status changes of `deliveries`, interleaved; some deliveries are not done.
fn events(deliveries: usize) -> Vec<Record> {
    let mut events = Vec::new();
    for status in STATUSES {
        for delivery in (0..deliveries).filter(|delivery| status != "done" || delivery % 5 > 0) {
            let event = format!("d{delivery}/{status}");
            events.push(Record::new(format!("r{}", delivery % 17), event, events.len() as i64));
        }
    }
    events
}

fn expected_counts(deliveries: usize) -> BTreeMap<String, i64> {
    let open = (0..deliveries).filter(|delivery| delivery % 5 == 0).count() as i64;
    [("picked", open), ("done", deliveries as i64 - open)].map(|(s, n)| (format!("\"{s}\""), n)).into()
}

async fn counts(engine: &Engine) -> Result<BTreeMap<String, i64>, sunseo_proto::Error> {
    let request = v1::QueryScanRequest { pipeline: DAY.into(), store: "counts".into(), ..Default::default() };
    let answer = engine.query_scan(request).await?;
    let count = |entry: v1::QueryEntry| (entry.key_json, entry.value_json.parse::<i64>().expect("a number"));
    Ok(answer.entries.into_iter().map(count).filter(|(_, n)| *n != 0).collect())
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until everything is counted, and every output is out.
async fn settle(what: &str, engine: &Engine, transport: &MemoryTransport, deliveries: usize) {
    let expected = expected_counts(deliveries);
    let done = deliveries - (0..deliveries).filter(|delivery| delivery % 5 == 0).count();
    let changes = change_count(deliveries);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let counted = counts(engine).await;
        let out = (transport.len("summaries"), transport.len("counts"));
        if counted.as_ref() == Ok(&expected) && out.0 >= done && out.1 >= changes {
            break;
        }
        let tasks = || engine.describe(DAY).map(|described| described.tasks);
        let late = tokio::time::Instant::now() > deadline;
        assert!(!late, "{what}: {counted:?} of {expected:?}, {out:?} of {done}, {changes}: {:#?}", tasks());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // time for what should not come
    tokio::time::sleep(Duration::from_millis(30)).await;
}

/// Each status of a delivery adds to one count, and takes from another unless it is the first.
fn change_count(deliveries: usize) -> usize {
    events(deliveries).len() * 2 - deliveries
}

/// The summaries of the deliveries that are done, and that counts moved by one with every record.
fn check_outputs(what: &str, transport: &MemoryTransport, deliveries: usize) {
    let mut summaries: Vec<(String, String)> = Vec::new();
    let text =
        |field: Option<bytes::Bytes>| String::from_utf8(field.expect("a field").into()).expect("UTF-8");
    for record in transport.records("summaries").into_iter().flatten() {
        summaries.push((text(record.key), text(record.value)));
    }
    summaries.sort();
    let mut expected: Vec<_> = (0..deliveries)
        .filter(|delivery| delivery % 5 > 0)
        .map(|delivery| (format!("d{delivery}"), STATUSES.join(",")))
        .collect();
    expected.sort();
    assert_eq!(summaries, expected, "{what}");
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for record in transport.records("counts").into_iter().flatten() {
        let value = record.value.map_or(0, |value| {
            i64::from_be_bytes(value.as_ref().try_into().expect("eight bytes")) ^ i64::MIN
        });
        let status = text(record.key);
        let before = counts.insert(status.clone(), value).unwrap_or_default();
        assert_eq!((value - before).abs(), 1, "{what}: {status} went from {before} to {value}");
    }
    assert_eq!(transport.len("counts"), change_count(deliveries), "{what}");
    assert_eq!(transport.len("dead"), 0, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undisturbed_pipeline_counts_collects_and_answers() {
    let (transport, dir) = (broker(1), TempDir::new().expect("a folder"));
    let engine = start(&transport, &dir).await;
    for event in events(40) {
        transport.put("events", &event);
    }
    settle("undisturbed", &engine, &transport, 40).await;
    check_outputs("undisturbed", &transport, 40);

    let get = |key: &str| v1::QueryGetRequest {
        pipeline: DAY.into(),
        store: "counts".into(),
        key_json: key.into(),
    };
    let found = engine.query_get(get("\"done\"")).await.expect("answers");
    assert_eq!(found.entry.expect("an entry").value_json, "32");
    assert!(found.position.expect("a position").commit_position >= 0);
    assert!(!engine.query_get(get("\"lost\"")).await.expect("answers").found);
    let refused = engine.query_get(get("done")).await.expect_err("no JSON");
    assert_eq!((refused.code, refused.field.as_deref()), (ErrorCode::InvalidArgument, Some("key_json")));
    let scan = v1::QueryScanRequest {
        pipeline: DAY.into(),
        store: "latest".into(),
        from_json: "\"d10\"".into(),
        to_json: "\"d14\"".into(),
        limit: 3,
    };
    let scanned = engine.query_scan(scan).await.expect("answers");
    let keys: Vec<_> = scanned.entries.iter().map(|entry| entry.key_json.as_str()).collect();
    assert_eq!((keys, scanned.truncated), (vec!["\"d10\"", "\"d11\"", "\"d12\""], true));

    let described = engine.describe(DAY).expect("describes");
    assert_eq!(described.pipeline.as_ref().map(|p| (p.state.as_str(), p.lag)), Some(("running", 0)));
    assert!(described.tasks.iter().all(|task| task.state == "running"));
    let unknown = engine.describe("night").expect_err("not deployed");
    assert_eq!(unknown.code, ErrorCode::UnknownPipeline);
    engine.shutdown().await.expect("flushes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_handled_is_put_aside_with_the_reason_and_the_others_go_on() {
    let (transport, dir) = (broker(2), TempDir::new().expect("a folder"));
    let engine = start(&transport, &dir).await;
    transport.put("events", &Record::new("r1", "no status", 0));
    for event in events(10) {
        transport.put("events", &event);
    }
    settle("a bad record", &engine, &transport, 10).await;
    until("the dead letter", async || transport.len("dead") == 1).await;
    let letter = transport.records("dead").remove(0).remove(0);
    assert_eq!(letter.value.as_deref(), Some(&b"no status"[..]));
    let header = |key: &str| letter.header(key).map(|value| String::from_utf8_lossy(value).into_owned());
    assert_eq!(header("dead-letter.stage").as_deref(), Some("status"));
    assert_eq!(header("dead-letter.error").as_deref(), Some("the event has no status"));
    assert_eq!(header("dead-letter.topic").as_deref(), Some("events"));
    assert_eq!(engine.list().pipelines[0].dead_letters, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_and_with_requests_lost_it_ends_as_if_nothing_had_happened() {
    futures::future::join_all((0..3).map(killed_again_and_again)).await;
}

async fn killed_again_and_again(seed: u64) {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};
    let what = format!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let transport = broker(seed);
    transport.broker().faults = testing::faults();
    let mut dir = TempDir::new().expect("a folder");
    // kept: the databases share their threads, and one whose folder is gone would hold up the others with failing flushes
    let mut former = Vec::new();
    let events = events(300);
    let mut parts = events.chunks(events.len().div_ceil(12));
    for kill in 0..12 {
        let engine = start(&transport, &dir).await;
        for event in parts.next().unwrap_or_default() {
            transport.put("events", event);
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..120))).await;
        let left = TempDir::new().expect("a folder");
        engine.kill(left.path()).await;
        // now and then the state is lost altogether
        let next = if kill % 5 == 4 { TempDir::new().expect("a folder") } else { left };
        former.push(std::mem::replace(&mut dir, next));
    }
    let engine = start(&transport, &dir).await;
    settle(&what, &engine, &transport, 300).await;
    check_outputs(&what, &transport, 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_engine_fences_the_first_which_writes_nothing_more() {
    let (transport, dirs) = (broker(3), [(); 2].map(|()| TempDir::new().expect("a folder")));
    let first = start(&transport, &dirs[0]).await;
    let events = events(60);
    let (early, late) = events.split_at(100);
    for event in early {
        transport.put("events", event);
    }
    until("the first works", async || transport.len("counts") > 20).await;
    let second = start(&transport, &dirs[1]).await;
    for event in late {
        transport.put("events", event);
    }
    settle("two engines", &second, &transport, 60).await;
    until("the first is fenced", async || first.list().pipelines[0].state == "failed").await;
    let error = first.list().pipelines[0].error.clone().expect("the reason");
    assert_eq!(error.code, "PRODUCER_FENCED");
    check_outputs("two engines", &transport, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_holds_and_survives_a_restart_and_queries_go_on() {
    let (transport, dir) = (broker(4), TempDir::new().expect("a folder"));
    let engine = start(&transport, &dir).await;
    let events = events(40);
    let (early, late) = events.split_at(80);
    for event in early {
        transport.put("events", event);
    }
    until("half is counted", async || transport.len("counts") == 80 + 40).await;
    let paused = engine.pause(DAY).await.expect("pauses").pipeline.expect("a summary");
    assert_eq!(paused.state, "paused");
    for event in late {
        transport.put("events", event);
    }
    let before = counts(&engine).await.expect("answers");
    engine.shutdown().await.expect("flushes");
    drop(engine);

    let dir = reopened(&dir);
    let engine = start(&transport, &dir).await;
    assert_eq!(engine.list().pipelines[0].state, "paused");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(counts(&engine).await.expect("answers"), before);
    assert_eq!(transport.len("counts"), 80 + 40);
    engine.resume(DAY).await.expect("resumes");
    settle("after the pause", &engine, &transport, 40).await;
    check_outputs("after the pause", &transport, 40);
}

/// The same files under another path: the lock of an engine that is going away is not waited for.
fn reopened(dir: &TempDir) -> TempDir {
    let copy = TempDir::new().expect("a folder");
    crate::store::copy_folder(dir.path(), copy.path());
    copy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_reads_everything_again_and_what_it_emits_is_not_taken_for_a_repetition() {
    let (transport, dir) = (broker(5), TempDir::new().expect("a folder"));
    let engine = start(&transport, &dir).await;
    for event in events(40) {
        transport.put("events", &event);
    }
    settle("before the reset", &engine, &transport, 40).await;
    let summaries = transport.len("summaries");
    engine.reset(DAY).await.expect("resets");
    until("summaries come again", async || transport.len("summaries") == 2 * summaries).await;
    settle("after the reset", &engine, &transport, 40).await;
    until("counts come again", async || transport.len("counts") == 2 * change_count(40)).await;
    let logs = transport.topic_names().into_iter().filter(|name| name.starts_with("__"));
    assert!(logs.clone().all(|name| name.ends_with(".g1")), "{:?}", logs.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_during_processing_see_each_task_exactly_at_a_commit() {
    let (transport, dir) = (broker(6), TempDir::new().expect("a folder"));
    let client = transport.client();
    let engine =
        Engine::start(config(&dir), client, Arc::new(ManualClock::new(1_000))).await.expect("starts");
    let builder = TopologyBuilder::new(DAY);
    builder.stream::<String, String>("events", "events").group_by_key().count("counts");
    engine.deploy(builder.build().expect("a topology"), DeployOptions::default()).await.expect("deploys");
    let all = events(300);
    let total = all.len() as i64;
    let feeder = tokio::spawn({
        let transport = transport.clone();
        async move {
            for events in all.chunks(20) {
                events.iter().for_each(|event| transport.put("events", event));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    // task and commit to the sum of its counts: the same commit must always show the same sum, a later one a larger sum
    let mut seen: BTreeMap<(i32, i64), i64> = BTreeMap::new();
    until("all is counted", async || {
        let request =
            v1::QueryScanRequest { pipeline: DAY.into(), store: "counts".into(), ..Default::default() };
        let Ok(answer) = engine.query_scan(request).await else { return false };
        let mut sums: BTreeMap<i32, i64> = BTreeMap::new();
        for entry in &answer.entries {
            let task = sunseo_proto::partitioner::partition_of(&entry.key, 3);
            *sums.entry(task).or_default() += entry.value_json.parse::<i64>().expect("a number");
        }
        for position in &answer.positions {
            let sum = sums.get(&position.task_partition).copied().unwrap_or_default();
            let at = (position.task_partition, position.commit_position);
            assert_eq!(*seen.entry(at).or_insert(sum), sum, "task and commit {at:?}");
        }
        sums.values().sum::<i64>() == total
    })
    .await;
    feeder.await.expect("feeds");
    for task in 0..3 {
        let sums: Vec<i64> = seen.iter().filter(|((of, _), _)| *of == task).map(|(_, sum)| *sum).collect();
        assert!(sums.is_sorted_by(|a, b| a < b), "task {task}: {sums:?}");
    }
    assert!(seen.len() > 10, "{} commits seen", seen.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topology_whose_state_does_not_fit_is_refused_unless_it_may_begin_anew() {
    let (transport, dir) = (broker(7), TempDir::new().expect("a folder"));
    let engine = start(&transport, &dir).await;
    engine.shutdown().await.expect("flushes");
    drop(engine);
    let changed = || {
        let builder = TopologyBuilder::new(DAY);
        // the store was one of texts
        builder.table::<String, i64>("latest", "events");
        builder.build().expect("a topology")
    };
    let dir = reopened(&dir);
    let client = transport.client();
    let engine =
        Engine::start(config(&dir), client, Arc::new(ManualClock::new(1_000))).await.expect("starts");
    let refused = engine.deploy(changed(), DeployOptions::default()).await.expect_err("state does not fit");
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    assert!(refused.message.contains("latest"), "{refused}");
    engine.deploy(changed(), DeployOptions { reset_if_incompatible: true }).await.expect("begins anew");
    let changes = engine.diff(DAY).expect("answers").changes;
    let latest = changes.iter().find(|change| change.id == "latest").expect("the store");
    assert_eq!((latest.change.as_str(), latest.state_survives), ("changed", false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_outs_fire_by_the_wall_clock_and_when_an_input_is_idle() {
    let (transport, dir) = (broker(8), TempDir::new().expect("a folder"));
    let clock = Arc::new(ManualClock::new(1_000));
    let client = transport.client();
    let engine = Engine::start(config(&dir), client, Arc::clone(&clock) as _).await.expect("starts");
    let builder = TopologyBuilder::new(DAY).idle_after_ms(500);
    let events = builder.stream::<String, String>("events", "events");
    let never = |_: &String, _: &[String]| Ok(false);
    let wall = events.collect_until("wall", CollectOptions::timeout_ms(5_000).wall_clock(), never);
    wall.map_values("wall-text", |collected| Ok(collected.events.join(","))).to("wall-out", "summaries");
    let stream = events.collect_until("stream", CollectOptions::timeout_ms(9_000), never);
    stream.map_values("stream-text", |collected| Ok(collected.events.join(","))).to("stream-out", "counts");
    engine.deploy(builder.build().expect("a topology"), DeployOptions::default()).await.expect("deploys");
    transport.put("events", &Record::new("r1", "a", 10));
    transport.put("events", &Record::new("r1", "b", 20));
    until("events are read", async || {
        let pipeline = engine.list().pipelines.remove(0);
        (pipeline.records_processed, pipeline.lag) == (2, 0)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!((transport.len("summaries"), transport.len("counts")), (0, 0), "no time has passed");
    clock.advance(6_000);
    until("the wall clock's time-out", async || transport.len("summaries") == 1).await;
    assert_eq!(transport.len("counts"), 0, "stream time moved by six seconds only");
    clock.advance(4_000);
    until("stream time follows the wall clock of an idle task", async || transport.len("counts") == 1).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!((transport.len("summaries"), transport.len("counts")), (1, 1), "once each");
}

/// Panics when it is told to.
#[derive(Debug, Default)]
struct BrokenClock(std::sync::atomic::AtomicBool);

impl sunseo_proto::clock::Clock for BrokenClock {
    fn now_ms(&self) -> i64 {
        assert!(!self.0.load(std::sync::atomic::Ordering::SeqCst), "scripted");
        1_000
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_panics_is_told_as_failed_and_resumed() {
    let (transport, dir) = (broker(9), TempDir::new().expect("a folder"));
    let (client, clock) = (transport.client(), Arc::new(BrokenClock::default()));
    let engine = Engine::start(config(&dir), client, Arc::clone(&clock) as _).await.expect("starts");
    engine.deploy(topology(), DeployOptions::default()).await.expect("deploys");
    clock.0.store(true, std::sync::atomic::Ordering::SeqCst);
    transport.put_all("events", &events(10));
    until("the panic is told", async || engine.list().pipelines[0].state == "failed").await;
    let error = engine.list().pipelines[0].error.clone().expect("the reason");
    assert!(error.message.contains("panicked"), "{}", error.message);
    clock.0.store(false, std::sync::atomic::Ordering::SeqCst);
    engine.resume(DAY).await.expect("resumes");
    settle("after the panic", &engine, &transport, 10).await;
    check_outputs("after the panic", &transport, 10);
}
