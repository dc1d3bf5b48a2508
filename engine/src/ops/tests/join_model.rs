//! Joins against a model that looks through the whole history for each record.

use proptest::prelude::*;

use super::{CASES, Event, conditions, events, latest, play};
use crate::driver::Driver;
use crate::dsl::{Table, TopologyBuilder};

/// Key, value (`None` is null) and timestamp, partition after partition.
type Rows = Vec<(String, Option<String>, i64)>;

fn read(driver: &mut Driver) -> Rows {
    let records = driver.read::<String, String>("out").unwrap();
    records.into_iter().map(|r| (r.key.unwrap(), r.value, r.timestamp_ms)).collect()
}

fn text(left: Option<&str>, right: Option<&str>) -> String {
    format!("{}+{}", left.unwrap_or("null"), right.unwrap_or("null"))
}

fn stream_table_model(orders: &[Vec<Event>], left_join: bool) -> Rows {
    let mut rows = Rows::new();
    for order in orders {
        for (place, event) in order.iter().enumerate() {
            let (0, Some(key), Some(value)) = (event.topic, &event.key, &event.value) else { continue };
            let right = latest(&order[..place], 1, key).and_then(|event| event.value.as_deref());
            if left_join || right.is_some() {
                rows.push((key.clone(), Some(text(Some(value), right)), event.timestamp_ms));
            }
        }
    }
    rows
}

/// Rows of a join of tables: what the row is before and after each event; nulls only where a row was. A row is as young as
/// the event that made it, or as the other side if that is younger; a deletion is an event too.
fn table_table_model(orders: &[Vec<Event>], joins: fn(bool, bool) -> bool) -> Rows {
    let row = |history: &[Event], key: &str| {
        let sides = [latest(history, 0, key), latest(history, 1, key)];
        let value = |side: usize| sides[side].and_then(|event| event.value.as_deref());
        let joined = joins(sides[0].is_some(), sides[1].is_some());
        joined.then(|| (text(value(0), value(1)), sides.map(|side| side.map(|event| event.timestamp_ms))))
    };
    let mut rows = Rows::new();
    for order in orders {
        for (place, event) in order.iter().enumerate() {
            let Some(key) = &event.key else { continue };
            match (row(&order[..place], key), row(&order[..=place], key)) {
                (_, Some((value, timestamps))) => {
                    let other_ms = timestamps[1 - event.topic].unwrap_or(i64::MIN);
                    rows.push((key.clone(), Some(value), event.timestamp_ms.max(other_ms)));
                }
                (Some(_), None) => rows.push((key.clone(), None, 0)),
                (None, None) => {}
            }
        }
    }
    rows
}

/// Without nulls for rows that were not there (Kafka writes some of those), and without the timestamps of nulls.
fn without_idle_nulls(rows: Rows) -> Rows {
    let mut present = std::collections::BTreeSet::new();
    rows.into_iter()
        .filter_map(|(key, value, timestamp_ms)| match value {
            Some(_) => {
                present.insert(key.clone());
                Some((key, value, timestamp_ms))
            }
            None => present.remove(&key).then_some((key, None, 0)),
        })
        .collect()
}

fn table_pair(builder: &TopologyBuilder) -> (Table<String, String>, Table<String, String>) {
    (builder.table("left", "left"), builder.table("right", "right"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn stream_table(events in events(2, "[x-z]"), left_join: bool, conditions in conditions()) {
        let builder = TopologyBuilder::new("p");
        let left = builder.stream::<String, String>("left", "left");
        let right = builder.table::<String, String>("right", "right");
        if left_join {
            let joined = left.left_join("join", &right, |_, l, r| Ok(text(Some(l), r.map(String::as_str))));
            joined.to("sink", "out");
        } else {
            left.join("join", &right, |_, l, r| Ok(text(Some(l), Some(r)))).to("sink", "out");
        }
        let mut driver = conditions.driver(&builder.build().unwrap());
        let orders = play(&mut driver, &["left", "right"], conditions.partitions, &events);
        prop_assert_eq!(read(&mut driver), stream_table_model(&orders, left_join));
    }

    #[test]
    fn table_table(events in events(2, "[x-z]"), kind in 0..3_usize, conditions in conditions()) {
        let builder = TopologyBuilder::new("p");
        let (left, right) = table_pair(&builder);
        let joined = match kind {
            0 => left.join("join", &right, |_, l, r| Ok(text(Some(l), Some(r)))),
            1 => left.left_join("join", &right, |_, l, r| Ok(text(Some(l), r.map(String::as_str)))),
            _ => left.outer_join("join", &right, |_, l, r| {
                Ok(text(l.map(String::as_str), r.map(String::as_str)))
            }),
        };
        let joins = [|l, r| l && r, |l, _| l, |l: bool, r: bool| l || r][kind];
        joined.to_stream("changes").to("sink", "out");
        joined.materialize("joined");
        let mut driver = conditions.driver(&builder.build().unwrap());
        let orders = play(&mut driver, &["left", "right"], conditions.partitions, &events);
        let expected = table_table_model(&orders, joins);
        prop_assert_eq!(without_idle_nulls(read(&mut driver)), expected.clone());
        // What the store holds is the last of what was written.
        let mut last = std::collections::BTreeMap::new();
        for (key, value, timestamp_ms) in expected {
            match value {
                Some(value) => last.insert(key, (value, timestamp_ms)),
                None => last.remove(&key),
            };
        }
        let stored = driver.entries::<String, String>("joined").unwrap();
        let stored: std::collections::BTreeMap<_, _> = stored.into_iter().map(|(k, v, t)| (k, (v, t))).collect();
        prop_assert_eq!(stored, last);
    }

    /// A join reads derived tables through their functions, not through a store of their own.
    #[test]
    fn a_stream_meets_a_derived_table(events in events(2, "[x-z]"), conditions in conditions()) {
        let builder = TopologyBuilder::new("p");
        let left = builder.stream::<String, String>("left", "left");
        let derived = builder.table::<String, String>("right", "right")
            .filter("no-x", |_, v| Ok(v != "x"))
            .map_values("double", |_, v| Ok(format!("{v}{v}")));
        left.join("join", &derived, |_, l, r| Ok(text(Some(l), Some(r)))).to("sink", "out");
        let mut driver = conditions.driver(&builder.build().unwrap());
        let orders = play(&mut driver, &["left", "right"], conditions.partitions, &events);
        let derive = |order: &Vec<Event>| order.iter().map(|event| match event {
            Event { topic: 1, value: Some(v), .. } => {
                Event { value: (v != "x").then(|| format!("{v}{v}")), ..event.clone() }
            }
            _ => event.clone(),
        }).collect();
        let orders: Vec<Vec<Event>> = orders.iter().map(derive).collect();
        prop_assert_eq!(read(&mut driver), stream_table_model(&orders, false));
    }
}
