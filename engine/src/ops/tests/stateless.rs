//! Operators without state, and what they do with null.

use crate::driver::Driver;
use crate::dsl::{Stream, TopologyBuilder};
use sunseo_proto::{Header, Record};

fn run(build: impl Fn(&Stream<String, i64>), values: &[i64]) -> Driver {
    let builder = TopologyBuilder::new("p");
    build(&builder.stream("in", "in"));
    let mut driver = Driver::new(&builder.build().unwrap(), 1).unwrap();
    for value in values {
        driver.pipe("in", &"k".to_owned(), value, *value).unwrap();
    }
    driver.run().unwrap();
    driver
}

fn read(driver: &mut Driver, topic: &str) -> Vec<String> {
    let records = driver.read::<String, String>(topic).unwrap();
    records
        .into_iter()
        .map(|r| format!("{}={}@{}", r.key.unwrap(), r.value.unwrap(), r.timestamp_ms))
        .collect()
}

#[test]
fn maps_filters_and_flat_maps_keep_timestamps() {
    let build = |stream: &Stream<String, i64>| {
        stream
            .filter("odd", |_, v| Ok(v % 2 == 1))
            .map_values("text", |v| Ok(v.to_string()))
            .flat_map_values("twice", |v| Ok(vec![v.clone(), format!("{v}'")]))
            .map("exclaim", |k, v| Ok((format!("{k}!"), format!("{v}!"))))
            .to("sink", "out");
    };
    let mut driver = run(build, &[1, 2, 3]);
    assert_eq!(read(&mut driver, "out"), ["k!=1!@1", "k!=1'!@1", "k!=3!@3", "k!=3'!@3"]);
}

#[test]
fn branches_take_each_record_once_and_merge_brings_them_together() {
    let build = |stream: &Stream<String, i64>| {
        let [small, large] = stream.branch("by-size", |_, v| Ok(*v as usize / 10));
        small.map_values("s", |v| Ok(format!("small {v}"))).to("small", "small");
        let large = large.map_values("l", |v| Ok(format!("large {v}")));
        let small = small.map_values("s2", |v| Ok(format!("again {v}")));
        large.merge("merged", &small).counted("passed").to("out", "out");
    };
    let mut driver = run(build, &[1, 12, 99, 3]);
    assert_eq!(read(&mut driver, "small"), ["k=small 1@1", "k=small 3@3"]);
    assert_eq!(read(&mut driver, "out"), ["k=again 1@1", "k=large 12@12", "k=again 3@3"]);
    assert_eq!(driver.processed().dropped["by-size"], 1, "99 belongs to no branch");
    assert_eq!(driver.processed().counted["passed"], 3);
}

#[test]
fn a_topic_can_be_passed_through() {
    let build = |stream: &Stream<String, i64>| {
        stream.map_values("double", |v| Ok(v * 2)).through("between", "between").to("sink", "out");
    };
    let mut driver = run(build, &[1, 2]);
    let values = |driver: &mut Driver, topic| -> Vec<_> {
        driver.read::<String, i64>(topic).unwrap().into_iter().map(|r| r.value.unwrap()).collect()
    };
    assert_eq!(values(&mut driver, "between"), [2, 4]);
    assert_eq!(values(&mut driver, "out"), [2, 4]);
}

#[test]
fn null_is_left_out_unless_the_type_expects_it() {
    let builder = TopologyBuilder::new("p");
    builder
        .stream::<String, String>("strict", "a")
        .map_values("strict-map", |v| Ok(v.clone()))
        .to("strict-out", "strict");
    builder
        .stream::<Option<String>, Option<String>>("open", "b")
        .map("open-map", |k, v| Ok((k.cloned(), Some(v.map_or("null".to_owned(), String::clone)))))
        .to("open-out", "open");
    let mut driver = Driver::new(&builder.build().unwrap(), 1).unwrap();
    let null: Option<String> = None;
    for topic in ["a", "b"] {
        driver.pipe(topic, &null, &"v".to_owned(), 1).unwrap();
        driver.pipe(topic, &"k".to_owned(), &null, 2).unwrap();
        driver.pipe(topic, &"k".to_owned(), &"v".to_owned(), 3).unwrap();
    }
    driver.run().unwrap();
    assert_eq!(driver.read::<String, String>("strict").unwrap().len(), 1);
    assert_eq!(driver.processed().dropped["strict-map"], 2);
    let open = driver.read::<String, String>("open").unwrap();
    let open: Vec<_> = open.into_iter().map(|r| (r.key, r.value.unwrap())).collect();
    let k = || Some("k".to_owned());
    assert_eq!(open, [(None, "v".to_owned()), (k(), "null".to_owned()), (k(), "v".to_owned())]);
}

#[test]
fn headers_travel_except_the_servers_own() {
    let builder = TopologyBuilder::new("p");
    builder
        .stream::<String, String>("in", "in")
        .map_values_record("see", |record| {
            let origin = record.origin.ok_or("no origin")?;
            let header = origin.headers.iter().find(|h| h.key == "type").ok_or("no header")?;
            let kind = String::from_utf8(header.value.clone().unwrap_or_default().to_vec())?;
            Ok(format!("{kind} {}/{}@{}", origin.topic, origin.partition, origin.offset))
        })
        .to("sink", "out");
    let mut driver = Driver::new(&builder.build().unwrap(), 1).unwrap();
    let headers = vec![Header::new("type", "created"), Header::new("sunseo.position", "7")];
    let record = Record { headers, ..Record::new("k", "v", 1) };
    driver.pipe_record("in", None, record).unwrap();
    driver.run().unwrap();
    let written = driver.read::<String, String>("out").unwrap();
    assert_eq!(written[0].value.as_deref(), Some("created in/0@0"));
    assert_eq!(written[0].headers, [Header::new("type", "created")]);
}

#[test]
fn a_null_key_does_not_go_through_a_repartition_that_the_engine_put_in() {
    let builder = TopologyBuilder::new("p");
    builder
        .stream::<String, String>("in", "in")
        .select_key("maybe", |_, v| Ok((v != "nobody").then(|| v.clone())))
        .group_by_key()
        .count("count");
    let mut driver = Driver::new(&builder.build().unwrap(), 3).unwrap();
    for value in ["a", "nobody", "a"] {
        driver.pipe("in", &"k".to_owned(), &value.to_owned(), 1).unwrap();
    }
    driver.run().unwrap();
    assert_eq!(driver.entries::<String, i64>("count").unwrap(), [("a".to_owned(), 2, 1)]);
    assert_eq!(driver.processed().dropped["count:repartition"], 1);
}
