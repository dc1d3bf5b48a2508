use super::*;
use crate::Plan;
use crate::dsl::{Table, TopologyBuilder};

/// The message of the refusal, with its code.
fn refusal(build: impl Fn(&TopologyBuilder)) -> String {
    let builder = TopologyBuilder::new("p");
    build(&builder);
    let error = builder.build().unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    error.message
}

fn table(builder: &TopologyBuilder, id: &str) -> Table<String, String> {
    builder.table(id, id)
}

#[test]
fn an_id_that_is_used_twice_is_refused_by_name() {
    let message = refusal(|builder| {
        let stream = builder.stream::<String, String>("in", "in");
        stream.filter("twice", |_, _| Ok(true)).filter("twice", |_, _| Ok(true)).to("sink", "out");
    });
    assert!(message.contains("operator id \"twice\" is used twice"), "{message}");
}

#[test]
fn empty_long_and_odd_ids_are_refused_all_at_once() {
    let long = "x".repeat(ID_CHARS_MAX + 1);
    let message = refusal(|builder| {
        builder.stream::<String, String>("", "in").to("a:b:c", "out");
        builder.table::<String, String>("white space", "in");
        builder.stream::<String, String>(&long, "in");
    });
    for part in ["id \"\" is empty", "a:b:c", "white space", "has 101 characters: use at most 100"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn a_dead_letter_policy_needs_a_topic() {
    let message = refusal(|builder| {
        builder.stream_with_policy::<String, String>("in", "in", ErrorPolicy::DeadLetter).to("sink", "out");
    });
    assert!(message.contains("source \"in\"") && message.contains("dead_letter(topic)"), "{message}");
}

#[test]
fn an_empty_topology_is_refused() {
    assert!(refusal(|_| ()).contains("no operators"));
}

/// Orders counted by region, and joined with a table.
fn version(value_filter: bool, group_by_id: &str) -> Topology {
    let builder = TopologyBuilder::new("p");
    let mut orders = builder.stream::<String, String>("orders", "orders");
    if value_filter {
        orders = orders.filter("only-some", |_, _| Ok(true));
    }
    let regions = table(&builder, "regions");
    orders.join("with-region", &regions, |_, l, r| Ok(format!("{l}{r}"))).to("joined", "out");
    orders.group_by(group_by_id, |_, v| Ok(v.clone())).count("count");
    builder.build().unwrap()
}

fn describe(topology: &Topology, partitions: i32) -> Description {
    Plan::new(topology, &|_| Some(partitions)).unwrap().describe()
}

fn changes(old: &Description, new: &Description) -> Vec<String> {
    let changes = diff(old, new).into_iter().filter(|change| change.change != ChangeKind::Unchanged);
    let show = |change: Change| {
        let state = if change.state_survives { "kept" } else { "lost" };
        format!("{} {} {state}: {}", change.change.as_str(), change.id, change.detail)
    };
    changes.map(show).collect()
}

#[test]
fn a_version_does_not_differ_from_itself() {
    let description = describe(&version(true, "by-value"), 4);
    assert_eq!(changes(&description, &description), [""; 0]);
    let stored = serde_json::to_string(&description).unwrap();
    assert_eq!(serde_json::from_str::<Description>(&stored).unwrap(), description);
}

#[test]
fn an_operator_in_between_keeps_the_state_behind_it() {
    let (old, new) = (version(false, "by-value"), version(true, "by-value"));
    assert_eq!(
        changes(&describe(&old, 4), &describe(&new, 4)),
        [
            "added only-some kept: ",
            "changed with-region kept: inputs was orders, regions, is only-some, regions",
            "changed by-value kept: inputs was orders, is only-some",
        ]
    );
    assert_eq!(changes(&describe(&new, 4), &describe(&old, 4)).last().unwrap(), "removed only-some kept: ");
}

#[test]
fn another_partition_count_loses_the_state_and_says_so() {
    let topology = version(false, "by-value");
    let changes = changes(&describe(&topology, 4), &describe(&topology, 8));
    assert_eq!(
        changes,
        [
            "changed regions lost: store regions had 4 partitions, would have 8",
            "changed count lost: store count had 4 partitions, would have 8",
        ]
    );
}

#[test]
fn other_types_and_a_removed_operator_lose_their_state() {
    let sum = |value_is_text: bool| {
        let builder = TopologyBuilder::new("p");
        let stream = builder.stream::<String, String>("in", "in");
        if value_is_text {
            stream.group_by_key().reduce("agg", |a, _| Ok(a.clone()));
            stream.group_by_key().count("extra");
        } else {
            stream
                .map_values("length", |v| Ok(v.len() as i64))
                .group_by_key()
                .reduce("agg", |a, b| Ok(a + b));
        }
        describe(&builder.build().unwrap(), 2)
    };
    let changes = changes(&sum(true), &sum(false));
    assert_eq!(changes[0], "added length kept: ");
    assert!(
        changes[1].starts_with("changed agg lost: inputs was in, is length; types was"),
        "{}",
        changes[1]
    );
    assert!(changes[1].ends_with("store agg held utf8 -> utf8, would hold utf8 -> i64"), "{}", changes[1]);
    assert_eq!(changes[2], "removed extra lost: store extra is dropped");
}

#[test]
fn the_description_reads_well() {
    let plan = Plan::new(&version(true, "by-value"), &|_| Some(4)).unwrap();
    let expected = "\
pipeline p

sub-topology 0 \"orders\", 4 tasks
  source                   orders (topic orders) [utf8 -> utf8]
  filter                   only-some <- orders [utf8 -> utf8]
  source                   regions:source (topic regions) [utf8 -> utf8]
  table                    regions <- regions:source (store regions) [utf8 -> utf8]
  stream-table join        with-region <- only-some, regions [utf8 -> utf8]
  sink                     joined <- with-region (topic out) [utf8 -> utf8]
  group-by                 by-value <- only-some [utf8 -> utf8]

sub-topology 1 \"count\", 4 tasks
  repartition              count:repartition <- by-value (topic __repartition.p.count) [utf8 -> utf8]
  aggregate                count <- count:repartition (store count) [utf8 -> i64]
";
    assert_eq!(plan.to_text(), expected);
    let mermaid = plan.to_mermaid();
    for line in ["subgraph s1[\"count (4 tasks)\"]", "n0[\"orders<br/>source\"]", "n6 --> n7"] {
        assert!(mermaid.contains(line), "{line} in {mermaid}");
    }
}
