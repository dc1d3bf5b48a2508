//! Drives the lanes of one call: what is ready shares a request, answers come back, refusals wait.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, v1};
use tokio::time::Instant;

use super::lane::{Lane, Step};
use super::{Appended, Inner};
use crate::producer::config::MAX_REQUEST_BYTES;
use crate::producer::produce;
use crate::retry::{Decision, draw};

/// A lane with its attempts.
struct Runner {
    lane: Lane,
    /// Failed attempts of the batch at hand.
    attempt: u32,
    first_failure: Instant,
    not_before: Instant,
}

/// The answers to one request, with the runners whose batches it carried.
type Answer = (Vec<Runner>, Vec<Result<v1::ProduceResult>>);

pub(super) async fn run(inner: &Inner, lanes: Vec<Lane>, results: &mut [Option<Result<Appended>>]) {
    let now = Instant::now();
    let runner = |lane| Runner { lane, attempt: 0, first_failure: now, not_before: now };
    let mut waiting: VecDeque<Runner> = lanes.into_iter().map(runner).collect();
    let mut in_flight: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
    loop {
        send_ready(inner, &mut waiting, &in_flight, results);
        let wake = waiting.iter().map(|runner| runner.not_before).min();
        if wake.is_none() && in_flight.is_empty() {
            return;
        }
        let pause = wake.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            Some((runners, answers)) = in_flight.next(), if !in_flight.is_empty() => {
                for (runner, answer) in runners.into_iter().zip(answers) {
                    waiting.extend(answered(inner, runner, answer, results));
                }
            }
            () = tokio::time::sleep_until(pause), if wake.is_some() => {}
        }
    }
}

/// Sends the next batch of every runner whose time has come, together while they fit a request.
fn send_ready(
    inner: &Inner,
    waiting: &mut VecDeque<Runner>,
    in_flight: &FuturesUnordered<BoxFuture<'static, Answer>>,
    results: &mut [Option<Result<Appended>>],
) {
    let now = Instant::now();
    let (mut runners, mut partitions, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..waiting.len() {
        let Some(mut runner) = waiting.pop_front() else { break };
        if runner.not_before > now {
            waiting.push_back(runner);
            continue;
        }
        let Some(batch) = runner.lane.batch(&inner.cut) else {
            runner.lane.collect(results);
            continue;
        };
        if bytes > 0 && bytes + batch.len() > MAX_REQUEST_BYTES {
            in_flight.push(request(inner, std::mem::take(&mut runners), std::mem::take(&mut partitions)));
            bytes = 0;
        }
        bytes += batch.len();
        let (topic, partition) = (runner.lane.topic.clone(), runner.lane.partition);
        let part = v1::ProducePartition { topic, partition, batch: Some(batch), ..Default::default() };
        partitions.push(part);
        runners.push(runner);
    }
    if !runners.is_empty() {
        in_flight.push(request(inner, runners, partitions));
    }
}

fn request(
    inner: &Inner,
    runners: Vec<Runner>,
    partitions: Vec<v1::ProducePartition>,
) -> BoxFuture<'static, Answer> {
    let answers = produce(&inner.transport, partitions, inner.config.request_timeout);
    Box::pin(async move { (runners, answers.await) })
}

/// The runner again when it has more to send.
fn answered(
    inner: &Inner,
    mut runner: Runner,
    answer: Result<v1::ProduceResult>,
    results: &mut [Option<Result<Appended>>],
) -> Option<Runner> {
    let now = Instant::now();
    match runner.lane.answered(answer, results) {
        Step::Done => None,
        Step::Next => {
            (runner.attempt, runner.not_before) = (0, now);
            Some(runner)
        }
        Step::Again(error) => {
            if runner.attempt == 0 {
                runner.first_failure = now;
                warn(inner, &runner.lane, &error);
            }
            runner.attempt += 1;
            match inner.config.retry.decide(runner.attempt, &error, now - runner.first_failure, draw()) {
                Decision::RetryAfter(wait) => runner.not_before = now + wait,
                Decision::GiveUp => {
                    runner.lane.fail(&error, results);
                    return None;
                }
            }
            Some(runner)
        }
    }
}

fn warn(inner: &Inner, lane: &Lane, error: &Error) {
    let (topic, partition) = (&lane.topic, lane.partition);
    tracing::warn!(producer = inner.name, topic, partition, %error, "append refused for now, trying again");
}
