//! The step table of Kafka Streams' join integration tests: nulls, tombstones and out-of-order timestamps on one key.
//!
//! A line is one step: side, value (`-` is null), timestamp; then for each join what it writes (`.` nothing, `-@7` a null with
//! timestamp 7).

use crate::driver::Driver;
use crate::dsl::{Stream, Table, TopologyBuilder};

const STEPS: &str = "
    #          stream-table              table-table
    # step     inner       left       |  inner       left        outer
    L -  1     .           .             .           .           .
    R -  2     .           .             .           .           .
    L A  3     .           A-null@3      .           A-null@3    A-null@3
    R a  4     .           .             A-a@4       A-a@4       A-a@4
    L B  5     B-a@5       B-a@5         B-a@5       B-a@5       B-a@5
    R b  6     .           .             B-b@6       B-b@6       B-b@6
    L -  7     .           .             -@7         -@7         null-b@7
    R -  8     .           .             .           .           -@8
    L C  9     .           C-null@9      .           C-null@9    C-null@9
    R c 10     .           .             C-c@10      C-c@10      C-c@10
    R - 11     .           .             -@11        C-null@11   C-null@11
    L - 12     .           .             .           -@12        -@12
    R - 13     .           .             .           .           .
    R d  7     .           .             .           .           null-d@7
    L D  6     D-d@6       D-d@6         D-d@7       D-d@7       D-d@7
    L -  2     .           .             -@7         -@7         null-d@7
    R -  3     .           .             .           .           -@3
    R e 14     .           .             .           .           null-e@14
    L E 15     E-e@15      E-e@15        E-e@15      E-e@15      E-e@15
    L - 10     .           .             -@14        -@14        null-e@14
    R -  9     .           .             .           .           -@9
    L F  4     .           F-null@4      .           F-null@4    F-null@4
    R f  3     .           .             F-f@4       F-f@4       F-f@4
";

struct Step {
    topic: &'static str,
    value: Option<String>,
    timestamp_ms: i64,
    expected: String,
}

fn steps(column: usize) -> Vec<Step> {
    let lines = STEPS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            Step {
                topic: if words[0] == "L" { "left" } else { "right" },
                value: (words[1] != "-").then(|| words[1].to_owned()),
                timestamp_ms: words[2].parse().unwrap(),
                expected: words[3 + column].to_owned(),
            }
        })
        .collect()
}

/// Builds a join and plays the steps; compares with a column.
fn check(column: usize, build: impl Fn(&TopologyBuilder)) {
    let builder = TopologyBuilder::new("joins");
    build(&builder);
    let mut driver = Driver::new(&builder.build().unwrap(), 3).unwrap();
    for (number, step) in steps(column).into_iter().enumerate() {
        driver.pipe(step.topic, &"k".to_owned(), &step.value, step.timestamp_ms).unwrap();
        driver.run().unwrap();
        let written: Vec<_> = driver
            .read::<String, String>("out")
            .unwrap()
            .iter()
            .map(|r| format!("{}@{}", r.value.as_deref().unwrap_or("-"), r.timestamp_ms))
            .collect();
        let written = if written.is_empty() { ".".to_owned() } else { written.join(",") };
        assert_eq!(written, step.expected, "step {}", number + 1);
    }
}

fn sides(left: Option<&String>, right: Option<&String>) -> crate::UserResult<String> {
    let text = |side: Option<&String>| side.map_or("null", String::as_str).to_owned();
    Ok(format!("{}-{}", text(left), text(right)))
}

fn stream_and_table(builder: &TopologyBuilder) -> (Stream<String, String>, Table<String, String>) {
    (builder.stream("left", "left"), builder.table("right", "right"))
}

fn tables(builder: &TopologyBuilder) -> (Table<String, String>, Table<String, String>) {
    (builder.table("left", "left"), builder.table("right", "right"))
}

#[test]
fn stream_table_inner() {
    check(0, |builder| {
        let (left, right) = stream_and_table(builder);
        left.join("join", &right, |_, l, r| sides(Some(l), Some(r))).to("sink", "out");
    });
}

#[test]
fn stream_table_left() {
    check(1, |builder| {
        let (left, right) = stream_and_table(builder);
        left.left_join("join", &right, |_, l, r| sides(Some(l), r)).to("sink", "out");
    });
}

#[test]
fn table_table_inner() {
    check(2, |builder| {
        let (left, right) = tables(builder);
        let joined = left.join("join", &right, |_, l, r| sides(Some(l), Some(r)));
        joined.to_stream("changes").to("sink", "out");
    });
}

#[test]
fn table_table_left() {
    check(3, |builder| {
        let (left, right) = tables(builder);
        let joined = left.left_join("join", &right, |_, l, r| sides(Some(l), r));
        joined.to_stream("changes").to("sink", "out");
    });
}

#[test]
fn table_table_outer() {
    check(4, |builder| {
        let (left, right) = tables(builder);
        let joined = left.outer_join("join", &right, |_, l, r| sides(l, r));
        joined.to_stream("changes").to("sink", "out");
    });
}

#[test]
fn a_materialized_join_changes_nothing_of_the_results_and_can_be_read() {
    check(4, |builder| {
        let (left, right) = tables(builder);
        let joined = left.outer_join("join", &right, |_, l, r| sides(l, r)).materialize("joined");
        joined.to_stream("changes").to("sink", "out");
    });
}
