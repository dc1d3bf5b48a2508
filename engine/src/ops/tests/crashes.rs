//! A pipeline of several stages: what it writes and keeps does not depend on crashes or on the size of batches.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{CASES, Conditions, Event, conditions, events, play};
use crate::driver::Driver;
use crate::dsl::{CollectOptions, Collected, TopologyBuilder};
use crate::{Plan, Topology};

/// A table, a stream that meets it, changes its key and is counted; a regrouped table; a collection.
fn pipeline() -> Topology {
    let builder = TopologyBuilder::new("p").dead_letter("dead");
    let left = builder.stream::<String, String>("left", "left");
    let right = builder.table::<String, String>("right", "right");
    let joined = left.left_join("join", &right, |_, l, r| Ok(format!("{l}{}", r.map_or("", String::as_str))));
    joined.to("joined", "joined");
    // "xx" and what begins with it fails behind the join.
    let checked =
        joined.map_values("check", |v| if v.starts_with("xx") { Err("xx".into()) } else { Ok(v.clone()) });
    checked.group_by("by-value", |_, v| Ok(v.clone())).count("counted");
    right.group_by("by-right", |_, v| Ok((v.clone(), 1_i64))).reduce(
        "summed",
        |a, b| Ok(a + b),
        |a, b| Ok(a - b),
    );
    checked
        .collect_until("collected", CollectOptions::timeout_ms(9).drop_late(5), |_, events| {
            Ok(events.len() > 2)
        })
        .to("collections", "collections");
    builder.build().unwrap()
}

#[derive(Debug, PartialEq)]
struct Outcome {
    /// By topic and partition, in order.
    written: BTreeMap<(&'static str, i32), Vec<String>>,
    stores: BTreeMap<String, BTreeSet<String>>,
}

fn outcome(driver: &mut Driver) -> Outcome {
    let mut written: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for topic in ["joined", "dead"] {
        for record in driver.read::<String, String>(topic).unwrap() {
            written.entry((topic, record.partition)).or_default().push(format!("{record:?}"));
        }
    }
    for record in driver.read::<String, Collected<String>>("collections").unwrap() {
        written.entry(("collections", record.partition)).or_default().push(format!("{record:?}"));
    }
    let mut stores = BTreeMap::new();
    for store in ["counted", "summed"] {
        let entries = driver.entries::<String, i64>(store).unwrap();
        stores.insert(store.to_owned(), entries.iter().map(|entry| format!("{entry:?}")).collect());
    }
    let rows = driver.entries::<String, String>("right").unwrap();
    stores.insert("right".to_owned(), rows.iter().map(|row| format!("{row:?}")).collect());
    Outcome { written, stores }
}

fn run(conditions: Conditions, events: &[Event]) -> Outcome {
    let mut driver = conditions.driver(&pipeline());
    play(&mut driver, &["left", "right"], conditions.partitions, events);
    // Open collections time out, then the marks of emitted keys are forgotten.
    driver.advance_stream_time(1_000).unwrap();
    driver.advance_stream_time(2_000).unwrap();
    assert_eq!(driver.count_entries("collected").unwrap(), 0);
    outcome(&mut driver)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn crashes_and_batches_do_not_show(events in events(2, "[x-z]{1,2}"), conditions in conditions()) {
        let calm = Conditions { batch_records: 1, crash_percent: 0, ..conditions };
        prop_assert_eq!(run(conditions, &events), run(calm, &events));
    }
}

#[test]
fn the_pipeline_has_three_sub_topologies() {
    let plan = Plan::new(&pipeline(), &|_| Some(2)).unwrap();
    let names: Vec<_> = plan.sub_topologies.iter().map(|sub| sub.name.as_str()).collect();
    assert_eq!(names, ["left", "counted", "summed"]);
}
