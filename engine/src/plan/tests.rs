use std::collections::BTreeMap;

use super::*;
use crate::dsl::TopologyBuilder;
use sunseo_proto::ErrorCode;

fn plan(builder: TopologyBuilder, counts: &[(&str, i32)]) -> sunseo_proto::error::Result<Arc<Plan>> {
    let counts: BTreeMap<_, _> = counts.iter().copied().collect();
    Plan::new(&builder.build().unwrap(), &|topic| counts.get(topic).copied())
}

#[test]
fn topics_that_meet_must_have_equal_partitions() {
    let builder = TopologyBuilder::new("p");
    let orders = builder.stream::<String, String>("orders", "order-topic");
    let riders = builder.table::<String, String>("riders", "rider-topic");
    orders.join("meet", &riders, |_, l, _| Ok(l.clone())).to("sink", "out");
    let error = plan(builder, &[("order-topic", 4), ("rider-topic", 6), ("out", 1)]).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    for part in ["\"order-topic\" has 4 partitions", "\"rider-topic\" has 6", "operator \"meet\""] {
        assert!(error.message.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_topic_that_does_not_exist_is_named() {
    let builder = TopologyBuilder::new("p");
    builder.stream::<String, String>("in", "in").to("sink", "out");
    let error = plan(builder, &[("in", 4)]).unwrap_err();
    assert_eq!((error.code, error.message.contains("\"out\"")), (ErrorCode::UnknownTopic, true), "{error}");
}

#[test]
fn a_repartition_takes_the_count_of_what_it_meets() {
    let builder = TopologyBuilder::new("p");
    let orders = builder.stream::<String, String>("orders", "orders");
    let riders = builder.table::<String, String>("riders", "riders");
    let by_rider = orders.select_key("by-rider", |_, v| Ok(v.clone()));
    by_rider.join("meet", &riders, |_, l, _| Ok(l.clone())).to("sink", "out");
    let plan = plan(builder, &[("orders", 4), ("riders", 6), ("out", 1)]).unwrap();
    let topic = RepartitionTopic {
        topic: "__repartition.p.meet".to_owned(),
        operator: "meet:repartition".to_owned(),
        partitions: 6,
    };
    assert_eq!(plan.repartition_topics, [topic]);
    let names: Vec<_> = plan.sub_topologies.iter().map(|sub| (sub.name.as_str(), sub.partitions)).collect();
    assert_eq!(names, [("orders", 4), ("riders", 6)]);
    // The first writes what the second reads.
    let sub = &plan.sub_topologies;
    assert_eq!((sub[0].sinks.len(), sub[0].sinks[0].kind), (1, SinkKind::Repartition));
    assert!(sub[1].sources.iter().any(|source| source.repartition && source.topic == sub[0].sinks[0].topic));
    assert_eq!(sub[1].stores, [StoreIndex(0)]);
}

#[test]
fn a_repartition_that_meets_nothing_takes_the_count_it_comes_from() {
    let builder = TopologyBuilder::new("p");
    let (a, b) = (builder.stream::<String, String>("a", "a"), builder.stream("b", "b"));
    let counted = a.merge("both", &b).group_by("by", |_, v| Ok(v.clone())).count("first");
    counted.group_by("again", |_, n| Ok((*n, *n))).count("second");
    let plan = plan(builder, &[("a", 3), ("b", 5)]).unwrap();
    let counts: Vec<_> = plan.repartition_topics.iter().map(|topic| topic.partitions).collect();
    assert_eq!(counts, [5, 5]);
}

#[test]
fn a_given_count_is_kept_and_must_fit() {
    let build = |partitions| {
        let builder = TopologyBuilder::new("p");
        let stream = builder.stream::<String, String>("in", "in").repartition_with("spread", partitions);
        let table = builder.table::<String, String>("table", "table");
        stream.join("meet", &table, |_, l, _| Ok(l.clone())).to("sink", "out");
        plan(builder, &[("in", 2), ("table", 6), ("out", 1)])
    };
    assert_eq!(build(6).unwrap().repartition_topics[0].partitions, 6);
    let error = build(7).unwrap_err();
    assert!(
        error.message.contains("repartition \"spread\" has 7") || error.message.contains("has 7"),
        "{error}"
    );
    assert!(build(0).unwrap_err().message.contains("1 at least"));
}

#[test]
fn a_repartition_may_meet_the_stream_it_comes_from() {
    let builder = TopologyBuilder::new("p");
    let stream = builder.stream::<String, String>("in", "in");
    let table = stream.to_table("latest");
    stream
        .select_key("by", |_, v| Ok(v.clone()))
        .join("self", &table, |_, l, _| Ok(l.clone()))
        .to("s", "out");
    let plan = plan(builder, &[("in", 3), ("out", 1)]).unwrap();
    assert_eq!(plan.sub_topologies.len(), 1);
    assert_eq!(plan.repartition_topics[0].partitions, 3);
}

#[test]
fn one_sub_topology_does_not_read_a_topic_twice() {
    let builder = TopologyBuilder::new("p");
    let (a, b) = (builder.stream::<String, String>("a", "in"), builder.stream("b", "in"));
    a.merge("both", &b).to("sink", "out");
    let error = plan(builder, &[("in", 3), ("out", 1)]).unwrap_err();
    assert!(error.message.contains("sources \"a\" and \"b\" read topic \"in\""), "{error}");
}

#[test]
fn a_store_renders_its_entries_and_parses_its_keys() {
    let builder = TopologyBuilder::new("p");
    let stream = builder.stream::<String, String>("in", "in");
    stream.group_by_key().count("count");
    stream
        .collect_until("collect", crate::dsl::CollectOptions::timeout_ms(1), |_, _| Ok(true))
        .to("s", "out");
    let plan = plan(builder, &[("in", 3), ("out", 1)]).unwrap();
    let ids: Vec<_> = plan.stores.iter().map(|store| (store.id.as_str(), store.queryable())).collect();
    assert_eq!(ids, [("count", true), ("collect", true), ("collect:timers", false)]);
    let store = &plan.stores[0];
    let key = store.parse_key(&serde_json::json!("강남")).unwrap();
    assert_eq!(store.render_key(&key).unwrap(), "강남");
    assert_eq!(store.partition_of(&key), sunseo_proto::partitioner::partition_of(&key, 3));
    let stored = [&9_i64.to_be_bytes()[..], &crate::serde::ordered_i64(41)].concat().into();
    assert_eq!(store.render_value(&stored).unwrap(), 41);
    assert_eq!(store.split_value(&stored).unwrap().0, 9);
    let error = store.parse_key(&serde_json::json!(7)).unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidArgument, Some("key_json")));
    assert_eq!(plan.stores[2].split_value(&stored).unwrap_err().code, ErrorCode::Unsupported);
    assert_eq!(
        store.render_value(&bytes::Bytes::from_static(b"short")).unwrap_err().code,
        ErrorCode::CorruptLog
    );
}

#[test]
fn a_collection_that_is_not_complete_can_be_looked_at() {
    use crate::ops::collect::codec::{Entry, Open, encode_entry};
    let builder = TopologyBuilder::new("p");
    let stream = builder.stream::<String, String>("in", "in");
    stream
        .collect_until("collect", crate::dsl::CollectOptions::timeout_ms(1), |_, _| Ok(true))
        .to("s", "out");
    let plan = plan(builder, &[("in", 3), ("out", 1)]).unwrap();
    let events = vec!["created".into(), "assigned".into()];
    let open = encode_entry(&Entry::Open(Open { deadline_ms: 9, timestamp_ms: 4, events }));
    let store = &plan.stores[0];
    let expected = serde_json::json!({ "events": ["created", "assigned"], "deadline_ms": 9 });
    assert_eq!(store.render_value(&open).unwrap(), expected);
    assert_eq!(store.split_value(&open).unwrap(), (4, open));
    let mark = encode_entry(&Entry::Emitted { forget_ms: 7 });
    assert_eq!(store.render_value(&mark).unwrap(), serde_json::json!({ "emitted": true, "forget_ms": 7 }));
    let broken = bytes::Bytes::from_static(b"no");
    assert_eq!(store.render_value(&broken).unwrap_err().code, ErrorCode::CorruptLog);
}
