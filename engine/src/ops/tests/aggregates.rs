//! Counts, reductions and aggregates, of streams and with retraction of tables.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{CASES, conditions, events, latest, play};
use crate::driver::{Driver, OutputOf};
use crate::dsl::TopologyBuilder;
use crate::state::MemoryState;
use crate::task::{InputRecord, SourceIndex, TaskCore};
use crate::{Plan, Topology};

/// Deliveries by district: the first letter of a delivery's value is its district.
fn district_counts() -> Topology {
    let builder = TopologyBuilder::new("p");
    builder
        .table::<String, String>("deliveries", "in")
        .group_by("by-district", |_, value| Ok((value[..1].to_owned(), 1_i64)))
        .count("count")
        .to_stream("changes")
        .to("sink", "out");
    builder.build().unwrap()
}

fn changes(driver: &mut Driver) -> Vec<String> {
    let records = driver.read::<String, i64>("out").unwrap();
    let show =
        |r: OutputOf<String, i64>| format!("{}={}@{}", r.key.unwrap(), r.value.unwrap(), r.timestamp_ms);
    let mut shown: Vec<_> = records.into_iter().map(show).collect();
    shown.sort();
    shown
}

#[test]
fn a_delivery_that_moves_leaves_one_count_and_enters_another() {
    let mut driver = Driver::new(&district_counts(), 1).unwrap();
    let mut step = |key: &str, value: Option<&str>, timestamp_ms, expected: &[&str]| {
        driver.pipe("in", &key.to_owned(), &value.map(str::to_owned), timestamp_ms).unwrap();
        driver.run().unwrap();
        assert_eq!(changes(&mut driver), expected, "{key} {value:?}");
    };
    step("d1", Some("Apgujeong"), 1, &["A=1@1"]);
    step("d2", Some("Apgujeong"), 2, &["A=2@2"]);
    step("d1", Some("Banpo"), 3, &["A=1@3", "B=1@3"]);
    // In its district nothing is taken out in between: one change.
    step("d1", Some("Banpo, later"), 4, &["B=1@4"]);
    step("d1", None, 5, &["B=0@5"]);
    step("d1", None, 6, &[]);
    // An older timestamp counts all the same, and does not make the result older.
    step("d2", Some("Banpo"), 1, &["A=0@3", "B=1@5"]);
}

#[test]
fn both_halves_of_a_move_are_in_one_batch() {
    let plan = Plan::new(&district_counts(), &|_| Some(4)).unwrap();
    let mut task = TaskCore::new(&plan, 0, 0).unwrap();
    let mut state = MemoryState::default();
    let input = |offset, value: &'static str| InputRecord {
        source: SourceIndex(0),
        partition: 0,
        offset,
        timestamp_ms: offset,
        key: Some("d".into()),
        value: Some(value.into()),
        headers: Vec::new(),
    };
    let mut out = Vec::new();
    task.process(0, &[input(0, "A")], &mut state, &mut out).unwrap();
    out.clear();
    task.process(0, &[input(1, "B")], &mut state, &mut out).unwrap();
    let keys: Vec<_> = out.iter().map(|output| output.record.key.clone().unwrap()).collect();
    assert_eq!(keys, ["A", "B"]);
}

#[test]
fn a_stream_count_leaves_nulls_out_and_keeps_the_largest_timestamp() {
    let builder = TopologyBuilder::new("p");
    builder.stream::<Option<String>, Option<String>>("in", "in").group_by_key().count("count");
    let mut driver = Driver::new(&builder.build().unwrap(), 2).unwrap();
    let (key, value) = (Some("k".to_owned()), Some("v".to_owned()));
    let null: Option<String> = None;
    for (key, value, timestamp_ms) in
        [(&key, &value, 7), (&key, &null, 8), (&null, &value, 9), (&key, &value, 3)]
    {
        driver.pipe("in", key, value, timestamp_ms).unwrap();
    }
    driver.run().unwrap();
    assert_eq!(driver.entries::<String, i64>("count").unwrap(), [("k".to_owned(), 2, 7)]);
    assert_eq!(driver.processed().dropped["count"], 2);
}

#[test]
fn an_aggregate_that_becomes_null_leaves_the_store() {
    let builder = TopologyBuilder::new("p");
    let sum = |_: &String, v: &i64, sum: &i64| Ok(Some(sum + v).filter(|sum| *sum != 0));
    builder.stream::<String, i64>("in", "in").group_by_key().aggregate("sum", |_| Ok(0_i64), sum);
    let mut driver = Driver::new(&builder.build().unwrap(), 2).unwrap();
    for (value, expected) in [(5, Some(5)), (-5, None), (2, Some(2))] {
        driver.pipe("in", &"k".to_owned(), &value, 0).unwrap();
        driver.run().unwrap();
        assert_eq!(driver.get::<String, i64>("sum", &"k".to_owned()).unwrap(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn counts_with_retraction(events in events(1, "[x-z]"), conditions in conditions()) {
        let mut driver = conditions.driver(&district_counts());
        let orders = play(&mut driver, &["in"], conditions.partitions, &events);
        // Every group that ever had a member, with the members it has at the end.
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        for order in &orders {
            for event in order {
                if let (Some(_), Some(value)) = (&event.key, &event.value) {
                    expected.entry(value.clone()).or_default();
                }
            }
            for key in ["a", "b", "c", "d"] {
                if let Some(event) = latest(order, 0, key) {
                    *expected.entry(event.value.clone().unwrap()).or_default() += 1;
                }
            }
        }
        let stored: BTreeMap<_, _> =
            driver.entries::<String, i64>("count").unwrap().into_iter().map(|(k, n, _)| (k, n)).collect();
        prop_assert_eq!(stored, expected);
    }

    /// Order matters to this aggregate: each key's values must be folded once and in the order of their partition.
    #[test]
    fn a_key_is_folded_in_order(events in events(1, "[x-z]{1,2}"), conditions in conditions()) {
        let builder = TopologyBuilder::new("p");
        let stream = builder.stream::<String, String>("in", "in");
        stream.group_by_key().reduce("reduced", |all, one| Ok(format!("{all}.{one}")));
        stream.group_by_key().aggregate(
            "folded", |key| Ok(key.clone()), |_, one, all: &String| Ok(format!("{all}/{one}")),
        );
        let mut driver = conditions.driver(&builder.build().unwrap());
        let orders = play(&mut driver, &["in"], conditions.partitions, &events);
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in orders.into_iter().flatten() {
            if let (Some(key), Some(value)) = (event.key, event.value) {
                expected.entry(key).or_default().push(value);
            }
        }
        let stored = |store| -> BTreeMap<String, String> {
            driver.entries::<String, String>(store).unwrap().into_iter().map(|(k, v, _)| (k, v)).collect()
        };
        let reduced: BTreeMap<_, _> = expected.iter().map(|(k, v)| (k.clone(), v.join("."))).collect();
        prop_assert_eq!(stored("reduced"), reduced);
        let folded: BTreeMap<_, _> =
            expected.iter().map(|(k, v)| (k.clone(), format!("{k}/{}", v.join("/")))).collect();
        prop_assert_eq!(stored("folded"), folded);
    }

    /// Through a repartition topic: each record is counted once under its new key.
    #[test]
    fn a_regrouped_stream_is_counted_once(events in events(1, "[x-z]"), conditions in conditions()) {
        let builder = TopologyBuilder::new("p");
        builder.stream::<Option<String>, String>("in", "in")
            .group_by("by-value", |_, value| Ok(value.clone()))
            .count("count");
        let mut driver = conditions.driver(&builder.build().unwrap());
        play(&mut driver, &["in"], conditions.partitions, &events);
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        for value in events.into_iter().filter_map(|event| event.value) {
            *expected.entry(value).or_default() += 1;
        }
        let stored: BTreeMap<_, _> =
            driver.entries::<String, i64>("count").unwrap().into_iter().map(|(k, n, _)| (k, n)).collect();
        prop_assert_eq!(stored, expected);
    }
}
