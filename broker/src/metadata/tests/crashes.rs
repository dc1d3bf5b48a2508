//! A node that loses answers and dies at any point keeps exactly what it acknowledged, and possibly what it left open.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_proto::error::Result;

use super::Node;
use crate::memory_log::Fault;

/// What a topic may be by now; several when an outcome is open. 0 partitions: not there.
type Possible = Vec<i32>;

#[derive(Default)]
struct Model {
    topics: BTreeMap<String, Possible>,
    /// Highest epoch that was acknowledged.
    producers: BTreeMap<String, (i64, i32)>,
    definition_version: i64,
    starts: i32,
}

impl Model {
    fn possible(&self, name: &str) -> Possible {
        self.topics.get(name).cloned().unwrap_or_else(|| vec![0])
    }

    /// A request that makes `after` of it: done, refused for a reason, or left open.
    fn note(&mut self, name: &str, after: i32, result: &Result<()>) {
        let mut possible = self.possible(name);
        match result {
            Ok(()) => possible = vec![after],
            Err(error) if error.retryable() => possible.push(after),
            // a refusal rests on something that is durable, or on nothing: what was possible stays possible
            Err(_) => {}
        }
        self.topics.insert(name.to_owned(), possible);
    }

    fn check(&mut self, node: &Node, context: &str) {
        let image = node.metadata.image();
        for (name, possible) in &mut self.topics {
            let is = image.find(name).map_or(0, |topic| topic.partitions);
            assert!(possible.contains(&is), "{context}: {name} has {is} partitions, possible {possible:?}");
        }
        let known = image.topics().filter(|topic| !topic.is_internal());
        for topic in known {
            assert!(self.topics.contains_key(&*topic.name), "{context}: nobody asked for {}", topic.name);
            for id in topic.partition_ids() {
                assert!(node.disk().contains(&id), "{context}: {id} is visible and not open");
            }
        }
    }

    /// After a restart nothing is on its way any more: what is there stays.
    fn settle(&mut self, node: &Node) {
        let image = node.metadata.image();
        for (name, possible) in &mut self.topics {
            *possible = vec![image.find(name).map_or(0, |topic| topic.partitions)];
        }
    }
}

fn any_fault(rng: &mut StdRng) -> Fault {
    *[Fault::Refused, Fault::AnswerLost, Fault::Late].choose(rng).expect("some")
}

async fn act(node: &Node, model: &mut Model, rng: &mut StdRng, context: &str) {
    let name = format!("t{}", rng.random_range(0..6));
    match rng.random_range(0..10) {
        0..4 => {
            let partitions = rng.random_range(1..4);
            let result = node.create(&name, partitions).await.map(drop);
            model.note(&name, partitions, &result);
        }
        4..6 => {
            let result = node.delete(&name).await;
            model.note(&name, 0, &result);
        }
        6 => {
            let partitions = rng.random_range(1..7);
            let result = node.alter(&name, partitions, &[]).await.map(drop);
            model.note(&name, partitions, &result);
        }
        7 => {
            if let Ok(version) = node.put("d", "{}", -1).await {
                assert!(version > model.definition_version, "{context}: version {version} was given before");
                model.definition_version = version;
            }
        }
        _ => {
            let request = sunseo_proto::v1::InitProducerRequest { name: name.clone(), ..Default::default() };
            if let Ok(given) = node.metadata.init_producer(request).await {
                let given = (given.producer_id, given.producer_epoch);
                let last = model.producers.insert(name, given).unwrap_or((given.0, -1));
                assert_eq!(given.0, last.0, "{context}: a name keeps its identity");
                assert!(given.1 > last.1, "{context}: epoch {given:?} after {last:?}");
            }
        }
    }
}

async fn run(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let snapshot_commands = rng.random_range(2..12);
    let mut node = Node::start_with(|config| config.snapshot_commands = snapshot_commands).await;
    let mut model = Model { starts: 1, ..Model::default() };
    for step in 0..80 {
        let context = format!("seed {seed}, step {step}");
        if rng.random_bool(0.15) {
            let fault = any_fault(&mut rng);
            node.log.script([fault]);
        }
        if rng.random_bool(0.05) {
            node.log.fail_ensures(1);
        }
        if rng.random_bool(0.05) {
            node.log.fail_reads(1);
        }
        act(&node, &mut model, &mut rng, &context).await;
        model.check(&node, &context);
        if rng.random_bool(0.1) {
            node.restart().await;
            model.check(&node, &context);
            model.settle(&node);
            let epoch = node.metadata.leader_epoch();
            assert!(epoch > model.starts, "{context}: leader epoch {epoch} after {}", model.starts);
            model.starts = epoch;
            assert_eq!(node.disk(), node.wanted(), "{context}");
        }
    }
    let kept = node.log.records(crate::metadata::internal_topics::METADATA.partition(0)).len();
    // snapshots that failed are tried again; a few commands and one snapshot beyond the bound may be there
    let bound = usize::try_from(snapshot_commands).expect("small") + 25;
    assert!(kept <= bound, "seed {seed}: {kept} commands are kept, snapshots every {snapshot_commands}");
}

#[tokio::test(start_paused = true)]
async fn exactly_what_was_acknowledged_is_there_after_any_crash() {
    for seed in 0..150 {
        run(seed).await;
    }
}

#[tokio::test]
async fn a_log_that_is_cut_by_snapshots_starts_with_the_same_image() {
    let mut node = Node::start_with(|config| config.snapshot_commands = 4).await;
    for n in 0..30 {
        node.create(&format!("t{n}"), 1 + n % 3).await.expect("made");
        if n % 4 == 3 {
            node.delete(&format!("t{n}")).await.expect("deleted");
        }
    }
    let before = node.metadata.image();
    node.restart().await;
    let after = node.metadata.image();
    assert!(before.topics().eq(after.topics()));
    let kept = node.log.records(crate::metadata::internal_topics::METADATA.partition(0));
    assert!(kept.len() <= 6, "{} commands are kept", kept.len());
    assert!(kept[0].0 > 30, "the log begins at {}", kept[0].0);
}
