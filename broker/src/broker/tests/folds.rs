//! Metadata and groups over real partitions whose power goes at any operation of the disk.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_log::faulty::Faults;
use sunseo_proto::v1;

use super::support::{World, create};
use crate::BrokerHandle;

/// Operations of the disk in which the power goes.
const OPERATIONS_MAX: u64 = 160;

/// What something may be by now; several when an outcome is open. -1: not there.
#[derive(Default)]
struct Model(BTreeMap<String, Vec<i64>>);

impl Model {
    fn note<T>(&mut self, what: String, value: i64, result: &Result<T, sunseo_proto::Error>) {
        let possible = self.0.entry(what).or_insert_with(|| vec![-1]);
        match result {
            Ok(_) => *possible = vec![value],
            // a disk that fails leaves the outcome open, whatever it is called
            Err(_) => possible.push(value),
        }
    }

    /// What is there is what counts from now on.
    fn settle(&mut self, found: &BTreeMap<String, i64>, context: &str) {
        for (what, possible) in &mut self.0 {
            let is = found.get(what).copied().unwrap_or(-1);
            assert!(possible.contains(&is), "{context}: {what} is {is}, possible {possible:?}");
            *possible = vec![is];
        }
        for what in found.keys() {
            assert!(self.0.contains_key(what), "{context}: nobody asked for {what}");
        }
    }
}

async fn act(handle: &BrokerHandle, model: &mut Model, rng: &mut StdRng, next: &mut i64) {
    let name = format!("t{}", rng.random_range(0..4));
    *next += 1;
    let known = model.0.get(&format!("topic {name}")).cloned().unwrap_or_else(|| vec![-1]);
    match rng.random_range(0..8) {
        0..2 if known == [-1] => {
            let partitions = rng.random_range(1..3);
            let request = v1::CreateTopicRequest {
                name: name.clone(),
                partitions,
                ..v1::CreateTopicRequest::default()
            };
            let result = handle.create_topic(request).await;
            model.note(format!("topic {name}"), partitions.into(), &result);
        }
        2 if known.len() == 1 && known != [-1] => {
            let result = handle.delete_topic(v1::DeleteTopicRequest { name: name.clone() }).await;
            model.note(format!("topic {name}"), -1, &result);
        }
        3 => {
            let request = v1::PutDefinitionRequest {
                kind: "pipeline".to_owned(),
                name: name.clone(),
                body: bytes::Bytes::from(next.to_string()),
                expected_version: -1,
            };
            let result = handle.put_definition(request).await;
            model.note(format!("definition {name}"), *next, &result);
        }
        _ => {
            let partition = rng.random_range(0..2);
            let offsets = vec![v1::OffsetCommit {
                topic: "base".to_owned(),
                partition,
                // nothing is in the topic: the number is told apart by its text
                offset: 0,
                metadata: next.to_string(),
                ..Default::default()
            }];
            let request = v1::CommitOffsetsRequest { group: name.clone(), offsets, ..Default::default() };
            let result = handle.commit_offsets(request).await;
            let result = result.map(|answer| assert_eq!(answer.results[0].error, None));
            model.note(format!("offset {name} {partition}"), *next, &result);
        }
    }
}

async fn found(handle: &BrokerHandle) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for topic in handle.list_topics(v1::ListTopicsRequest::default()).await.unwrap().topics {
        let described = handle.describe_topic(v1::DescribeTopicRequest { name: topic.name.clone() }).await;
        let partitions = described.unwrap().partitions.len();
        assert_eq!(partitions, topic.partitions.len(), "{} is open with all its partitions", topic.name);
        if topic.name != "base" {
            found.insert(format!("topic {}", topic.name), i64::try_from(partitions).unwrap());
        }
    }
    for definition in
        handle.list_definitions(v1::ListDefinitionsRequest::default()).await.unwrap().definitions
    {
        let value = String::from_utf8(definition.body.to_vec()).unwrap().parse().unwrap();
        found.insert(format!("definition {}", definition.name), value);
    }
    for group in handle.list_groups(v1::ListGroupsRequest {}).await.unwrap().groups {
        let request = v1::FetchOffsetsRequest {
            group: group.group.clone(),
            partitions: Vec::new(),
            ..Default::default()
        };
        for offset in handle.fetch_offsets(request).await.unwrap().offsets {
            let value = offset.metadata.parse().unwrap();
            found.insert(format!("offset {} {}", group.group, offset.partition), value);
        }
    }
    found
}

async fn run(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed);
    world.config.metadata_snapshot_commands = rng.random_range(2..8);
    world.config.groups.snapshot_records = rng.random_range(2..8);
    let mut broker = world.start().await;
    create(&broker.handle(), "base", &[]).await;
    let (mut model, mut next, mut epoch) = (Model::default(), 0, 0);
    for life in 0..3 {
        let context = format!("seed {seed}, life {life}");
        let stop_after = rng.random_range(1..OPERATIONS_MAX);
        world.disk.set_faults(Faults { stop_after_operations: Some(stop_after), ..Faults::default() });
        for _ in 0..40 {
            act(&broker.handle(), &mut model, &mut rng, &mut next).await;
            if world.disk.operations() > stop_after {
                break;
            }
        }
        drop(broker);
        world.disk.power_cut();
        broker = world.start().await;
        let handle = broker.handle();
        model.settle(&found(&handle).await, &context);
        let base = handle.describe_topic(v1::DescribeTopicRequest { name: "base".to_owned() }).await.unwrap();
        let now = base.topic.unwrap().partitions[0].leader_epoch;
        assert!(now > epoch, "{context}: leader epoch {now} after {epoch}");
        epoch = now;
    }
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn whatever_the_power_cut_leaves_metadata_and_groups_are_what_was_acknowledged() {
    for seed in 0..40 {
        run(seed).await;
    }
}
