//! Members, a faulty log and a node that dies, seeded: accepted commits of a partition never come from an earlier owner than the one
//! before them, acknowledged offsets stay, and calm days end with everything owned once.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::{Node, beat};
use crate::memory_log::Fault;

const CONSUMERS: usize = 4;
const SESSION: Duration = Duration::from_secs(45);

#[derive(Default)]
struct Consumer {
    alive: bool,
    epoch: i32,
    /// What it works on, each with a ticket that grows over all consumers.
    holds: BTreeMap<i32, u64>,
    told: Vec<i32>,
    last_answer: Option<tokio::time::Instant>,
}

struct World {
    node: Node,
    rng: StdRng,
    seed: u64,
    consumers: Vec<Consumer>,
    tickets: u64,
    partitions: i32,
    /// Ticket of the last accepted commit.
    accepted: BTreeMap<i32, u64>,
    /// What a fetch may answer.
    possible: BTreeMap<i32, Vec<i64>>,
    next_offset: i64,
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let snapshot_records = rng.random_range(3..40);
        let partitions = rng.random_range(1..7);
        let node =
            Node::start_with(partitions, |config| config.groups.snapshot_records = snapshot_records).await;
        Self {
            node,
            rng,
            seed,
            consumers: (0..CONSUMERS).map(|_| Consumer::default()).collect(),
            tickets: 0,
            partitions,
            accepted: BTreeMap::new(),
            possible: BTreeMap::new(),
            next_offset: 1,
        }
    }

    async fn beat(&mut self, index: usize, answer_lost: bool) {
        let consumer = &mut self.consumers[index];
        if !consumer.alive {
            return;
        }
        if consumer.last_answer.is_some_and(|at| at.elapsed() > SESSION) {
            (consumer.epoch, consumer.holds, consumer.told) = (0, BTreeMap::new(), Vec::new());
        }
        let owned: Vec<i32> = consumer.holds.keys().copied().collect();
        let sent = tokio::time::Instant::now();
        let told = self.node.send(beat(&format!("c{index}"), consumer.epoch, &owned)).await;
        if answer_lost {
            return;
        }
        match told {
            Ok((epoch, told)) => {
                (consumer.epoch, consumer.last_answer) = (epoch, Some(sent));
                for partition in &told {
                    consumer.holds.entry(*partition).or_insert_with(|| {
                        self.tickets += 1;
                        self.tickets
                    });
                }
                consumer.told = told;
            }
            Err(code) if code.retryable() => {}
            Err(_) => (consumer.epoch, consumer.holds, consumer.told) = (0, BTreeMap::new(), Vec::new()),
        }
    }

    fn let_go(&mut self, index: usize) {
        let consumer = &mut self.consumers[index];
        let told = std::mem::take(&mut consumer.told);
        consumer.holds.retain(|partition, _| told.contains(partition));
        consumer.told = told;
    }

    async fn commit(&mut self, index: usize) {
        let (epoch, holds) = (self.consumers[index].epoch, self.consumers[index].holds.clone());
        for (partition, ticket) in holds {
            let offset = self.next_offset;
            self.next_offset += 1;
            let result = self.node.commit(&format!("c{index}"), epoch, &[(partition, offset)]).await;
            let possible = self.possible.entry(partition).or_insert_with(|| vec![-1]);
            match result {
                Ok(results) if results == [None] => {
                    *possible = vec![offset];
                    let last = self.accepted.insert(partition, ticket).unwrap_or(0);
                    assert!(
                        ticket >= last,
                        "seed {}: c{index} commits {partition} with ticket {ticket} after {last}",
                        self.seed
                    );
                }
                Err(code) if code.retryable() => possible.push(offset),
                _ => {}
            }
        }
    }

    async fn check_offsets(&self, step: usize) {
        for (partition, possible) in &self.possible {
            // the log may be unreadable for the moment: then there is nothing to compare
            let request = sunseo_proto::v1::FetchOffsetsRequest {
                group: "g".to_owned(),
                partitions: vec![sunseo_proto::v1::TopicPartition {
                    topic: "orders".to_owned(),
                    partition: *partition,
                }],
                ..Default::default()
            };
            let Ok(answer) = self.node.groups.fetch_offsets(request).await else { continue };
            let offset = answer.offsets[0].offset;
            assert!(
                possible.contains(&offset),
                "seed {} step {step}: partition {partition} is at {offset}, possible {possible:?}",
                self.seed
            );
        }
    }

    async fn step(&mut self, step: usize) {
        let index = self.rng.random_range(0..CONSUMERS);
        if self.rng.random_bool(0.08) {
            let fault =
                *[Fault::Refused, Fault::AnswerLost, Fault::Late].choose(&mut self.rng).expect("some");
            self.node.log.script([fault]);
        }
        if self.rng.random_bool(0.02) {
            self.node.log.fail_reads(1);
        }
        match self.rng.random_range(0..20) {
            0..3 => self.consumers[index].alive = true,
            3 => self.consumers[index] = Consumer::default(),
            4 => {
                self.consumers[index] = Consumer::default();
                // lost or not, it is gone
                let _ = self.node.send(beat(&format!("c{index}"), -1, &[])).await;
            }
            5..10 => {
                let answer_lost = self.rng.random_bool(0.2);
                self.beat(index, answer_lost).await;
            }
            10..13 => self.let_go(index),
            13..16 => self.commit(index).await,
            16..18 => tokio::time::sleep(Duration::from_millis(self.rng.random_range(1..20_000))).await,
            18 => tokio::time::sleep(SESSION).await,
            _ => {
                self.node.restart().await;
                self.check_offsets(step).await;
                self.settle_offsets().await;
            }
        }
        self.check_offsets(step).await;
    }

    /// After a restart nothing is on its way any more.
    async fn settle_offsets(&mut self) {
        for (partition, possible) in &mut self.possible {
            *possible = vec![self.node.committed(*partition).await];
        }
    }

    async fn calm(&mut self) {
        self.node.restart().await;
        self.consumers[0].alive = true;
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            for index in 0..CONSUMERS {
                self.let_go(index);
                self.beat(index, false).await;
            }
        }
        let mut held: Vec<i32> = self.consumers.iter().flat_map(|c| c.holds.keys().copied()).collect();
        held.sort_unstable();
        assert_eq!(held, (0..self.partitions).collect::<Vec<_>>(), "seed {}", self.seed);
        assert_eq!(self.node.state().await, "stable", "seed {}", self.seed);
    }
}

#[tokio::test(start_paused = true)]
async fn one_owner_commits_and_nothing_acknowledged_is_lost() {
    for seed in 0..60 {
        let mut world = World::new(seed).await;
        for step in 0..120 {
            world.step(step).await;
        }
        world.calm().await;
    }
}
