//! Collect-until: condition, time-out, late events, eviction.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{CASES, Event, conditions, events, play};
use crate::driver::Driver;
use crate::dsl::{CollectEnd, CollectOptions, Collected, TopologyBuilder};
use crate::{Topology, UserResult};

const TIMEOUT_MS: i64 = 10;

fn has_end(_: &String, events: &[String]) -> UserResult<bool> {
    Ok(events.iter().any(|event| event == "end"))
}

fn collecting(options: CollectOptions) -> Topology {
    let builder = TopologyBuilder::new("p");
    builder.stream::<String, String>("in", "in").collect_until("collect", options, has_end).to("sink", "out");
    builder.build().unwrap()
}

fn show(end: CollectEnd, events: &[String], timestamp_ms: i64) -> String {
    format!("{end:?} {}@{timestamp_ms}", events.join(","))
}

fn emitted(driver: &mut Driver) -> Vec<String> {
    let records = driver.read::<String, Collected<String>>("out").unwrap();
    records
        .into_iter()
        .map(|record| {
            let collected = record.value.unwrap();
            format!("{} {}", record.key.unwrap(), show(collected.end, &collected.events, record.timestamp_ms))
        })
        .collect()
}

fn step(driver: &mut Driver, key: &str, value: &str, timestamp_ms: i64) -> Vec<String> {
    driver.pipe("in", &key.to_owned(), &value.to_owned(), timestamp_ms).unwrap();
    driver.run().unwrap();
    emitted(driver)
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_complete_key_is_emitted_once_and_forgotten() {
    let mut driver = Driver::new(&collecting(CollectOptions::timeout_ms(TIMEOUT_MS)), 1).unwrap();
    assert_eq!(step(&mut driver, "d1", "created", 1), NOTHING);
    assert_eq!(step(&mut driver, "d2", "created", 2), NOTHING);
    assert_eq!(step(&mut driver, "d1", "assigned", 3), NOTHING);
    assert_eq!(driver.count_all_entries(), 4, "two collections with a timer each");
    assert_eq!(step(&mut driver, "d1", "end", 4), ["d1 Complete created,assigned,end@4"]);
    assert_eq!(driver.count_all_entries(), 2);
    driver.crash();
    assert_eq!(step(&mut driver, "d2", "end", 5), ["d2 Complete created,end@5"]);
    assert_eq!(driver.count_all_entries(), 0, "nothing is left");
}

#[test]
fn stream_time_fires_the_time_out_before_the_record_that_moved_it() {
    let mut driver = Driver::new(&collecting(CollectOptions::timeout_ms(TIMEOUT_MS)), 1).unwrap();
    assert_eq!(step(&mut driver, "d1", "created", 100), NOTHING);
    assert_eq!(step(&mut driver, "d2", "created", 109), NOTHING);
    driver.crash();
    // At the deadline itself it is over; the event begins a collection of its own.
    assert_eq!(step(&mut driver, "d1", "end", 110), ["d1 TimedOut created@110", "d1 Complete end@110"]);
    driver.advance_stream_time(118).unwrap();
    assert_eq!(emitted(&mut driver), NOTHING);
    driver.advance_stream_time(119).unwrap();
    assert_eq!(emitted(&mut driver), ["d2 TimedOut created@119"]);
    assert_eq!(driver.count_all_entries(), 0);
}

#[test]
fn the_wall_clock_does_not_look_at_timestamps() {
    let options = CollectOptions::timeout_ms(TIMEOUT_MS).wall_clock();
    let mut driver = Driver::new(&collecting(options), 1).unwrap();
    assert_eq!(step(&mut driver, "d1", "created", 5), NOTHING);
    assert_eq!(step(&mut driver, "d1", "much later", 5_000), NOTHING);
    driver.advance_wall_clock(9).unwrap();
    assert_eq!(emitted(&mut driver), NOTHING);
    driver.advance_wall_clock(1).unwrap();
    assert_eq!(emitted(&mut driver), ["d1 TimedOut created,much later@5000"]);
    assert_eq!(driver.count_all_entries(), 0);
}

#[test]
fn late_events_are_left_out_while_the_key_is_remembered() {
    let options = CollectOptions::timeout_ms(TIMEOUT_MS).drop_late(50);
    let mut driver = Driver::new(&collecting(options), 1).unwrap();
    assert_eq!(step(&mut driver, "d1", "end", 100), ["d1 Complete end@100"]);
    assert_eq!(step(&mut driver, "d1", "late", 149), NOTHING);
    assert_eq!(driver.processed().dropped["collect"], 1);
    assert_eq!(driver.count_all_entries(), 2, "the mark and its timer");
    // Forgotten: the key may come again.
    assert_eq!(step(&mut driver, "d1", "new", 150), NOTHING);
    assert_eq!(step(&mut driver, "d1", "end", 151), ["d1 Complete new,end@151"]);
    driver.advance_stream_time(1_000).unwrap();
    assert_eq!(driver.count_all_entries(), 0);
}

#[test]
fn too_many_events_are_emitted_as_full() {
    let options = CollectOptions::timeout_ms(TIMEOUT_MS).events_max(2);
    let mut driver = Driver::new(&collecting(options), 1).unwrap();
    assert_eq!(step(&mut driver, "d1", "a", 1), NOTHING);
    assert_eq!(step(&mut driver, "d1", "b", 2), ["d1 Full a,b@2"]);
    assert_eq!(driver.count_all_entries(), 0);
}

#[test]
fn more_timers_than_one_scan_reads_all_fire() {
    let mut driver = Driver::new(&collecting(CollectOptions::timeout_ms(TIMEOUT_MS)), 1).unwrap();
    for n in 0..1_000 {
        driver.pipe("in", &format!("d{n}"), &"created".to_owned(), n % 7).unwrap();
    }
    driver.run().unwrap();
    driver.advance_stream_time(100).unwrap();
    assert_eq!(emitted(&mut driver).len(), 1_000);
    assert_eq!(driver.count_all_entries(), 0);
}

/// What a task emits for its events in their order, and then for the end of time. Looks at every open key each time.
fn model(order: &[Event], remember_ms: Option<i64>, out: &mut BTreeMap<String, Vec<String>>) {
    struct Open {
        deadline_ms: i64,
        timestamp_ms: i64,
        events: Vec<String>,
    }
    let mut open: BTreeMap<String, Open> = BTreeMap::new();
    let mut remembered: BTreeMap<String, i64> = BTreeMap::new();
    let mut now_ms = i64::MIN;
    let end = Event { topic: 0, key: None, value: None, timestamp_ms: i64::MAX };
    for event in order.iter().chain([&end]) {
        now_ms = now_ms.max(event.timestamp_ms);
        let due: Vec<_> =
            open.iter().filter(|(_, o)| o.deadline_ms <= now_ms).map(|(k, _)| k.clone()).collect();
        remembered.retain(|_, forget_ms| *forget_ms > now_ms);
        for key in due {
            let done = open.remove(&key).unwrap();
            let text = show(CollectEnd::TimedOut, &done.events, done.deadline_ms);
            out.entry(key.clone()).or_default().push(text);
            if let Some(forget_ms) = remember_ms.map(|ms| now_ms.saturating_add(ms)) {
                remembered.insert(key, forget_ms);
            }
        }
        let (Some(key), Some(value)) = (&event.key, &event.value) else { continue };
        if remembered.contains_key(key) {
            continue;
        }
        let fresh = || Open { deadline_ms: now_ms + TIMEOUT_MS, timestamp_ms: i64::MIN, events: Vec::new() };
        let collection = open.entry(key.clone()).or_insert_with(fresh);
        collection.timestamp_ms = collection.timestamp_ms.max(event.timestamp_ms);
        collection.events.push(value.clone());
        if value == "end" {
            let done = open.remove(key).unwrap();
            let text = show(CollectEnd::Complete, &done.events, done.timestamp_ms);
            out.entry(key.clone()).or_default().push(text);
            if let Some(ms) = remember_ms {
                remembered.insert(key.clone(), now_ms + ms);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn collections_match_the_model_and_leave_nothing(
        events in events(1, "(x|y|end)"),
        remember_ms in prop::option::of(1..20_i64),
        conditions in conditions(),
    ) {
        let options = CollectOptions::timeout_ms(TIMEOUT_MS);
        let options = remember_ms.map_or(options, |ms| options.drop_late(ms));
        let mut driver = conditions.driver(&collecting(options));
        let orders = play(&mut driver, &["in"], conditions.partitions, &events);
        driver.advance_stream_time(i64::MAX).unwrap();
        let mut expected = BTreeMap::new();
        for order in &orders {
            model(order, remember_ms, &mut expected);
        }
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in emitted(&mut driver) {
            let (key, rest) = line.split_once(' ').unwrap();
            found.entry(key.to_owned()).or_default().push(rest.to_owned());
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(driver.count_all_entries(), 0);
    }
}
