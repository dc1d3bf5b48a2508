//! Decisions of a lane, one by one.

use std::sync::Arc;
use std::time::Duration;

use sunseo_proto::batch::{BatchBuilder, BatchHeader, Compression};
use sunseo_proto::{Error, ErrorCode, Record, v1};
use tokio::time::Instant;

use super::ack::Settle;
use super::lane::{Answer, Identity, Lane, LaneConfig, Outgoing};
use crate::batcher::ReadyBatch;
use crate::retry::RetryPolicy;

const TIMEOUT: Duration = Duration::from_secs(10);
const FIRST: Identity = Identity { producer_id: 1, epoch: 0 };
const SECOND: Identity = Identity { producer_id: 2, epoch: 0 };

struct Scene {
    lane: Lane,
    now: Instant,
}

impl Scene {
    /// Batches 0 to 3 of two records each; batch 0 has landed, the others are in flight.
    fn three_in_flight() -> Self {
        let retry = RetryPolicy::default();
        let lane = Lane::new(LaneConfig {
            max_in_flight: 5,
            delivery_timeout: TIMEOUT,
            retry,
            transactional: false,
        });
        let mut scene = Self { lane, now: Instant::now() };
        (0..4).for_each(|id| scene.enqueue(id));
        scene.lane.offer(FIRST);
        assert_eq!(scene.sent(), [(0, 1, 0)], "the first batch travels alone");
        scene.answer(0, Ok(v1::ProduceResult::default()));
        assert_eq!(scene.sent(), [(1, 1, 2), (2, 1, 4), (3, 1, 6)]);
        scene
    }

    fn enqueue(&mut self, id: u64) {
        let mut builder = BatchBuilder::new(Compression::Zstd);
        (0..2).for_each(|n| builder.push(&Record::new("key", format!("{id}.{n}"), 0)));
        let settle = Settle::new(Arc::from("orders"), 0);
        self.lane.enqueue(ReadyBatch { slot: 0, id, opened: self.now, bytes: 1, builder, settle });
    }

    fn expired(&mut self) -> Vec<u64> {
        self.lane.expire(self.now, None).into_iter().map(|done| done.id).collect()
    }

    /// Id, producer id and base sequence of what is sent now.
    fn sent(&mut self) -> Vec<(u64, i64, i32)> {
        let next = std::iter::from_fn(|| self.lane.next(self.now));
        next.map(|Outgoing { id, batch, .. }| {
            let header = BatchHeader::parse(&batch).expect("valid");
            (id, header.producer_id, header.base_sequence)
        })
        .collect()
    }

    /// Ids that have failed by an answer.
    fn answer(&mut self, id: u64, answer: Answer) -> Vec<u64> {
        let done = self.lane.answered(id, answer, self.now, 0.0);
        done.into_iter().filter(|done| done.outcome.is_err()).map(|done| done.id).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

fn refused(code: ErrorCode) -> Answer {
    Ok(v1::ProduceResult { error: Some(Error::new(code, "scripted").into()), ..Default::default() })
}

fn silence() -> Answer {
    Err(Error::new(ErrorCode::TimedOut, "scripted"))
}

#[test]
fn what_has_no_answer_goes_again_unchanged_and_nothing_new_before_it() {
    let mut scene = Scene::three_in_flight();
    scene.answer(2, Ok(v1::ProduceResult::default()));
    scene.answer(3, silence());
    assert_eq!(scene.sent(), [], "batch 1 is still in flight");
    scene.answer(1, silence());
    assert_eq!(scene.sent(), [], "after a pause");
    scene.pass(TIMEOUT / 2);
    assert_eq!(scene.sent(), [(1, 1, 2), (3, 1, 6)]);
}

#[test]
fn numbers_of_a_refused_batch_are_used_again() {
    let mut scene = Scene::three_in_flight();
    assert_eq!(scene.answer(1, refused(ErrorCode::BatchTooLarge)), [] as [u64; 0]);
    scene.answer(2, refused(ErrorCode::SequenceGap));
    assert_eq!(scene.answer(3, refused(ErrorCode::SequenceGap)), [1]);
    assert_eq!(scene.sent(), [(2, 1, 2), (3, 1, 4)]);
}

#[test]
fn a_batch_that_may_have_landed_is_not_renumbered_and_its_numbers_are_not_used_again() {
    let mut scene = Scene::three_in_flight();
    scene.pass(TIMEOUT);
    scene.answer(1, refused(ErrorCode::DiskFull));
    scene.answer(2, silence());
    assert_eq!(scene.answer(3, refused(ErrorCode::SequenceGap)), [1, 2]);
    assert_eq!(scene.sent(), []);
    scene.lane.offer(FIRST);
    assert!(scene.lane.needs_identity(), "its numbers are used up");
    scene.lane.offer(SECOND);
    assert_eq!(scene.sent(), [(3, 2, 0)]);
}

#[test]
fn a_broker_that_forgot_the_producer_gets_a_new_id() {
    let mut scene = Scene::three_in_flight();
    for id in 1..4 {
        assert_eq!(scene.answer(id, refused(ErrorCode::SequenceGap)), [] as [u64; 0]);
    }
    scene.lane.offer(SECOND);
    scene.pass(TIMEOUT / 2);
    assert_eq!(scene.sent(), [(1, 2, 0)]);
}

#[test]
fn what_failed_behind_a_batch_that_landed_keeps_its_numbers() {
    let mut scene = Scene::three_in_flight();
    scene.answer(2, Ok(v1::ProduceResult::default()));
    scene.answer(3, refused(ErrorCode::DiskFull));
    assert_eq!(scene.answer(1, refused(ErrorCode::BatchTooLarge)), [1]);
    scene.pass(TIMEOUT / 2);
    assert_eq!(scene.sent(), [(3, 1, 6)]);
}

#[test]
fn a_batch_that_later_ones_have_overtaken_is_not_sent_after_them() {
    let mut scene = Scene::three_in_flight();
    // the partition has forgotten the producer, and takes the second batch for its first
    scene.answer(1, refused(ErrorCode::DiskFull));
    scene.answer(2, Ok(v1::ProduceResult::default()));
    assert_eq!(scene.answer(3, Ok(v1::ProduceResult::default())), [1]);
    scene.pass(TIMEOUT / 2);
    assert_eq!(scene.sent(), []);
    scene.enqueue(4);
    assert_eq!(scene.sent(), [(4, 1, 8)], "the next one goes on");
}

#[test]
fn a_fenced_producer_goes_on_under_another_id() {
    let mut scene = Scene::three_in_flight();
    for id in 1..4 {
        assert_eq!(scene.answer(id, refused(ErrorCode::ProducerFenced)), [] as [u64; 0]);
    }
    scene.lane.offer(SECOND);
    scene.pass(TIMEOUT / 2);
    assert_eq!(scene.sent(), [(1, 2, 0)]);
}

#[test]
fn what_waits_behind_a_failure_fails_at_its_own_time() {
    let mut scene = Scene::three_in_flight();
    scene.pass(TIMEOUT / 2);
    scene.enqueue(4);
    scene.answer(1, silence());
    scene.pass(TIMEOUT / 2);
    assert_eq!(scene.expired(), [] as [u64; 0], "batch 4 is younger");
    scene.pass(TIMEOUT / 2);
    assert_eq!(scene.expired(), [4]);
}

#[test]
fn after_a_long_silence_a_batch_travels_alone_again() {
    let mut scene = Scene::three_in_flight();
    (1..4).for_each(|id| drop(scene.answer(id, Ok(v1::ProduceResult::default()))));
    scene.pass(Duration::from_secs(3600));
    (4..6).for_each(|id| scene.enqueue(id));
    assert_eq!(scene.sent(), [(4, 1, 8)]);
    scene.answer(4, Ok(v1::ProduceResult::default()));
    assert_eq!(scene.sent(), [(5, 1, 10)]);
}
