//! Failures: what a record leaves behind when it cannot be handled; and the overlay of one record.

use std::ops::Bound;

use bytes::Bytes;
use proptest::prelude::*;
use sunseo_proto::{ErrorCode, Header, Record};

use super::scope::RecordScope;
use super::{StoreIndex, dead_letter};
use crate::driver::{CrashPlan, Driver, OutputOf};
use crate::dsl::{CollectOptions, ErrorPolicy, TopologyBuilder};
use crate::state::{MemoryState, StateAccess};

/// Counts by key, then fails for the value `bad` and panics for `worse`, behind the count.
fn failing(dead_letter: Option<&str>, policy: Option<ErrorPolicy>) -> sunseo_proto::error::Result<Driver> {
    let mut builder = TopologyBuilder::new("p");
    if let Some(topic) = dead_letter {
        builder = builder.dead_letter(topic);
    }
    let stream = match policy {
        Some(policy) => builder.stream_with_policy::<String, String>("in", "in", policy),
        None => builder.stream("in", "in"),
    };
    stream
        .group_by_key()
        .aggregate("all", |_| Ok(String::new()), |_, v, all: &String| Ok(format!("{all}{v}")))
        .to_stream("changes")
        .map_values("fail", |all| match all {
            Some(all) if all.ends_with("bad") => Err("no good".into()),
            Some(all) if all.ends_with("worse") => panic!("even worse"),
            all => Ok(all.cloned()),
        })
        .to("sink", "out");
    Driver::new(&builder.build()?, 2)
}

fn header(record: &OutputOf<Bytes, Bytes>, key: &str) -> String {
    let header = record.headers.iter().find(|header| header.key == key).unwrap();
    String::from_utf8(header.value.clone().unwrap().to_vec()).unwrap()
}

#[test]
fn a_record_that_fails_leaves_nothing_but_its_dead_letter() {
    let mut driver = failing(Some("dead"), None).unwrap().crashes(CrashPlan::seeded(3, 40));
    let headers = vec![Header::new("trace", "t1"), Header::new("sunseo.own", "x")];
    for value in ["a", "bad", "worse", "b"] {
        let record = Record { headers: headers.clone(), ..Record::new("k", value, 7) };
        driver.pipe_record("in", Some(1), record).unwrap();
    }
    driver.pipe_record("in", Some(1), Record::new("k", vec![0xff], 8)).unwrap();
    driver.run().unwrap();
    // The aggregate was written before the failure; it is not there.
    assert_eq!(driver.get::<String, String>("all", &"k".to_owned()).unwrap().as_deref(), Some("ab"));
    let values: Vec<_> =
        driver.read::<String, String>("out").unwrap().into_iter().map(|r| r.value.unwrap()).collect();
    assert_eq!(values, ["a", "ab"]);
    let dead = driver.read::<Bytes, Bytes>("dead").unwrap();
    let shown: Vec<_> = dead
        .iter()
        .map(|r| {
            (
                header(r, dead_letter::STAGE),
                header(r, dead_letter::ERROR),
                header(r, dead_letter::ORIGIN_OFFSET),
            )
        })
        .collect();
    let expected =
        |stage: &str, error: &str, offset: &str| (stage.to_owned(), error.to_owned(), offset.to_owned());
    assert_eq!(shown[0], expected("fail", "no good", "1"));
    assert_eq!(shown[1], expected("fail", "panicked: even worse", "2"));
    assert_eq!((shown[2].0.as_str(), shown[2].2.as_str()), ("in", "4"));
    assert!(shown[2].1.starts_with("the value does not decode as utf8"), "{}", shown[2].1);
    assert_eq!(dead.len(), 3);
    assert_eq!((dead[0].key.clone(), dead[0].value.clone()), (Some("k".into()), Some("bad".into())));
    assert_eq!(
        (header(&dead[0], dead_letter::ORIGIN_TOPIC), header(&dead[0], "trace")),
        ("in".into(), "t1".into())
    );
    assert_eq!(header(&dead[0], dead_letter::ORIGIN_PARTITION), "1");
    assert!(dead[0].headers.iter().all(|header| header.key != "sunseo.own"));
    assert_eq!(driver.processed().dead_letters, 3);
}

#[test]
fn a_source_with_the_policy_stop_stops_its_task_and_names_the_record() {
    for (dead_letter, policy) in [(Some("dead"), Some(ErrorPolicy::Stop)), (None, None)] {
        let mut driver = failing(dead_letter, policy).unwrap();
        driver.pipe_record("in", Some(0), Record::new("k", "bad", 7)).unwrap();
        let error = driver.run().unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(error.message.contains("in/0@0") && error.message.contains("operator fail"), "{error}");
    }
}

#[test]
fn a_time_out_whose_result_fails_is_not_tried_for_ever() {
    let builder = TopologyBuilder::new("p").dead_letter("dead");
    builder
        .stream::<String, String>("in", "in")
        .collect_until("collect", CollectOptions::timeout_ms(10), |_, _| Ok(false))
        .map_values("fail", |_| Err::<String, _>("no good".into()))
        .to("sink", "out");
    let mut driver = Driver::new(&builder.build().unwrap(), 1).unwrap().crashes(CrashPlan::seeded(1, 50));
    driver.pipe("in", &"k".to_owned(), &"created".to_owned(), 1).unwrap();
    driver.run().unwrap();
    driver.advance_stream_time(1_000).unwrap();
    let dead = driver.read::<Bytes, Bytes>("dead").unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (header(&dead[0], dead_letter::STAGE), header(&dead[0], dead_letter::ERROR)),
        ("fail".into(), "no good".into())
    );
    assert_eq!(
        (header(&dead[0], dead_letter::ORIGIN_TIMER), dead[0].key.clone()),
        ("11".into(), Some("k".into()))
    );
    let stored = dead[0].value.clone().unwrap();
    assert!(stored.ends_with(b"created"), "what was collected is not lost: {stored:?}");
    assert_eq!(driver.count_all_entries(), 0);
}

fn key(n: u8) -> Bytes {
    Bytes::copy_from_slice(&[n])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The overlay of a record reads as if its writes were made below, and hands down all of them or none.
    #[test]
    fn a_record_scope_reads_as_the_state_it_will_make(
        below in prop::collection::vec((0_u8..8, 0_u8..9), 0..8),
        writes in prop::collection::vec((0_u8..8, prop::option::of(0_u8..9)), 0..8),
        (from, to, limit) in (0_u8..9, 0_u8..9, 0_usize..9),
        commits: bool,
    ) {
        let store = StoreIndex(3);
        let (mut base, mut expected) = (MemoryState::default(), MemoryState::default());
        for (k, v) in below {
            base.put(store, key(k), Some(key(v)));
            expected.put(store, key(k), Some(key(v)));
        }
        let untouched = base.entries(store);
        let mut scope = RecordScope::new(&mut base, Vec::new());
        for (k, v) in writes {
            scope.put(store, key(k), v.map(key));
            expected.put(store, key(k), v.map(key));
        }
        for k in 0..8 {
            prop_assert_eq!(scope.get(store, &[k]).unwrap(), expected.get(store, &[k]).unwrap());
        }
        for (from, to) in [
            (Bound::Included(&[from][..]), Bound::Excluded(&[to][..])),
            (Bound::Excluded(&[from][..]), Bound::Unbounded),
            (Bound::Unbounded, Bound::Included(&[to][..])),
        ] {
            prop_assert_eq!(
                scope.scan(store, from, to, limit).unwrap(),
                expected.scan(store, from, to, limit).unwrap()
            );
        }
        let buffer = if commits { scope.commit() } else { scope.discard() };
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(base.entries(store), if commits { expected.entries(store) } else { untouched });
    }
}

/// A value whose decoder panics for one text.
#[derive(Clone)]
struct Fragile(String);

impl crate::Serde for Fragile {
    fn type_name() -> String {
        "fragile".to_owned()
    }
    fn encode(&self, out: &mut Vec<u8>) -> crate::UserResult<()> {
        self.0.encode(out)
    }
    fn decode(bytes: &Bytes) -> crate::UserResult<Self> {
        assert_ne!(bytes.as_ref(), b"worse", "not expected");
        String::decode(bytes).map(Self)
    }
    fn to_json(&self) -> crate::UserResult<serde_json::Value> {
        self.0.to_json()
    }
    fn from_json(json: &serde_json::Value) -> crate::UserResult<Self> {
        String::from_json(json).map(Self)
    }
}

#[test]
fn a_decoder_that_panics_costs_its_record_only() {
    let builder = TopologyBuilder::new("p").dead_letter("dead");
    let stream = builder.stream::<String, Fragile>("in", "in");
    stream.map_values("text", |value| Ok(value.0.clone())).to("sink", "out");
    let mut driver = Driver::new(&builder.build().unwrap(), 1).unwrap();
    for value in ["a", "worse", "b"] {
        driver.pipe_record("in", Some(0), Record::new("k", value, 7)).unwrap();
    }
    driver.run().unwrap();
    let values: Vec<_> =
        driver.read::<String, String>("out").unwrap().into_iter().map(|r| r.value.unwrap()).collect();
    assert_eq!(values, ["a", "b"]);
    let dead = driver.read::<Bytes, Bytes>("dead").unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(header(&dead[0], dead_letter::STAGE), "in");
    assert!(header(&dead[0], dead_letter::ERROR).contains("panicked"));
}

#[test]
fn time_outs_of_the_wall_clock_fire_before_a_record_that_comes_later() {
    let builder = TopologyBuilder::new("p");
    builder
        .stream::<String, String>("in", "in")
        .collect_until("collect", CollectOptions::timeout_ms(10).wall_clock(), |_, _| Ok(false))
        .map_values("text", |collected| Ok(collected.events.join(",")))
        .to("sink", "out");
    let plan = crate::Plan::new(&builder.build().unwrap(), &|_| Some(1)).unwrap();
    let mut core = super::TaskCore::new(&plan, 0, 0).unwrap();
    let (mut state, mut out) = (MemoryState::default(), Vec::new());
    for (now_ms, value, emitted) in [(0, "a", 0), (9, "b", 0), (10, "c", 1)] {
        let record = super::InputRecord::new(super::SourceIndex(0), 0, Record::new("k", value, 5));
        core.process(now_ms, &[record], &mut state, &mut out).unwrap();
        assert_eq!(out.len(), emitted, "at {now_ms}");
    }
    assert_eq!(out[0].record.value.as_deref(), Some(&b"a,b"[..]));
}

/// 2,000 collections of 10 kB each, all due at 11, and the core that holds them.
fn many_due(plan: &std::sync::Arc<crate::Plan>) -> (super::TaskCore, MemoryState) {
    let mut core = super::TaskCore::new(plan, 0, 0).unwrap();
    let (mut state, mut out) = (MemoryState::default(), Vec::new());
    for n in 0..2_000 {
        let record = Record::new(format!("k{n:04}"), "x".repeat(10_000), 1);
        let record = super::InputRecord::new(super::SourceIndex(0), 0, record);
        assert_eq!(core.process(0, &[record], &mut state, &mut out).unwrap().records, 1);
    }
    assert!(out.is_empty());
    (core, state)
}

fn collecting() -> std::sync::Arc<crate::Plan> {
    let builder = TopologyBuilder::new("p");
    let options = CollectOptions::timeout_ms(10);
    let complete = |_: &String, events: &[String]| Ok(events.iter().any(|event| event == "end"));
    builder
        .stream::<String, String>("in", "in")
        .collect_until("collect", options, complete)
        .to("sink", "out");
    crate::Plan::new(&builder.build().unwrap(), &|_| Some(1)).unwrap()
}

fn keys(out: &[super::OutputRecord]) -> Vec<Bytes> {
    out.iter().map(|output| output.record.key.clone().unwrap()).collect()
}

#[test]
fn more_timers_than_a_commit_can_hold_fire_over_several_and_still_before_the_record() {
    const LARGEST: usize = 10 << 20;
    let plan = collecting();
    let (mut core, mut state) = many_due(&plan);
    let (mut all, mut calls) = (Vec::new(), 0);
    loop {
        let record = Record::new("late", "end", 5_000);
        let record = super::InputRecord::new(super::SourceIndex(0), 0, record);
        let mut out = Vec::new();
        let done = core.process(0, &[record], &mut state, &mut out).unwrap();
        assert!(out.iter().map(super::OutputRecord::bytes).sum::<usize>() < LARGEST);
        state.commit();
        all.extend(keys(&out));
        calls += 1;
        if done.records == 1 {
            break;
        }
        // what a crash keeps
        let meta = core.snapshot_meta();
        core = super::TaskCore::new(&plan, 0, 0).unwrap();
        core.restore_meta(meta);
    }
    assert!(calls > 2, "{calls} calls");
    let mut expected: Vec<_> = (0..2_000).map(|n| Bytes::from(format!("k{n:04}"))).collect();
    expected.push("late".into());
    assert_eq!(all, expected);
}

#[test]
fn a_punctuation_says_when_more_timers_are_due() {
    let (mut core, mut state) = many_due(&collecting());
    let (mut all, mut more_due, mut calls) = (Vec::new(), true, 0);
    while more_due {
        let mut out = Vec::new();
        let punctuation = super::Punctuation { stream_time_ms: Some(5_000), now_ms: 0 };
        more_due = core.punctuate(punctuation, &mut state, &mut out).unwrap().more_due;
        all.extend(keys(&out));
        calls += 1;
    }
    assert_eq!((all.len(), all.is_sorted()), (2_000, true));
    assert!(calls > 2, "{calls} calls");
}
