//! Operators through the whole pipeline: scripts with the results of Kafka's own tests, scenarios, and properties against
//! models that know nothing of stores.

mod aggregates;
mod collects;
mod crashes;
mod join_model;
mod join_script;
mod stateless;

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::driver::Driver;

/// Cases of each property: the whole suite must stay short.
const CASES: u32 = 96;

/// How a run is disturbed.
#[derive(Clone, Copy, Debug)]
struct Conditions {
    partitions: i32,
    batch_records: usize,
    crash_seed: u64,
    crash_percent: u8,
}

fn conditions() -> impl Strategy<Value = Conditions> {
    (1..5_i32, 1..9_usize, any::<u64>(), prop_oneof![Just(0_u8), 1..70_u8]).prop_map(
        |(partitions, batch_records, crash_seed, crash_percent)| Conditions {
            partitions,
            batch_records,
            crash_seed,
            crash_percent,
        },
    )
}

impl Conditions {
    fn driver(&self, topology: &crate::Topology) -> Driver {
        Driver::new(topology, self.partitions)
            .unwrap()
            .batch_records(self.batch_records)
            .crashes(crate::driver::CrashPlan::seeded(self.crash_seed, self.crash_percent))
    }
}

/// An input record of a model.
#[derive(Clone, Debug)]
struct Event {
    /// Which of the input topics.
    topic: usize,
    key: Option<String>,
    value: Option<String>,
    timestamp_ms: i64,
}

fn events(topics: usize, values: &'static str) -> impl Strategy<Value = Vec<Event>> {
    let key = prop_oneof![8 => "[a-d]".prop_map(Some), 1 => Just(None)];
    let value = prop_oneof![4 => values.prop_map(Some), 1 => Just(None)];
    let event = (0..topics, key, value, 0..40_i64);
    let event = event.prop_map(|(topic, key, value, timestamp_ms)| Event { topic, key, value, timestamp_ms });
    prop::collection::vec(event, 0..40)
}

/// Pipes the events and processes them. Gives what each partition's task saw, in its order: among the topics' next records
/// the smallest timestamp goes first.
fn play(driver: &mut Driver, topics: &[&str], partitions: i32, events: &[Event]) -> Vec<Vec<Event>> {
    let mut logs: BTreeMap<(i32, usize), Vec<Event>> = BTreeMap::new();
    for event in events {
        driver.pipe(topics[event.topic], &event.key, &event.value, event.timestamp_ms).unwrap();
        let partition = event
            .key
            .as_ref()
            .map_or(0, |key| sunseo_proto::partitioner::partition_of(key.as_bytes(), partitions));
        logs.entry((partition, event.topic)).or_default().push(event.clone());
    }
    driver.run().unwrap();
    let order = |partition| {
        let mut seen = Vec::new();
        let mut rest: Vec<Vec<Event>> = (0..topics.len())
            .map(|topic| logs.get(&(partition, topic)).cloned().unwrap_or_default())
            .collect();
        while let Some(next) = (0..rest.len())
            .filter(|topic| !rest[*topic].is_empty())
            .min_by_key(|topic| (rest[*topic][0].timestamp_ms, *topic))
        {
            seen.push(rest[next].remove(0));
        }
        seen
    };
    (0..partitions).map(order).collect()
}

/// The last value of a key in a topic before a place of the history.
fn latest<'a>(history: &'a [Event], topic: usize, key: &str) -> Option<&'a Event> {
    let event = history.iter().rev().find(|event| event.topic == topic && event.key.as_deref() == Some(key));
    event.filter(|event| event.value.is_some())
}
