//! Members, heartbeats that are lost, late or doubled, restarts and topics that change, by lot: no partition ever has two owners, nobody
//! commits for a period that is over, and calm days end with everything owned once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sunseo_proto::{ErrorCode, TopicId};

use super::super::TopicPartition;
use super::super::membership::{Heartbeat, LEAVE_EPOCH, Told};
use super::super::record::GroupRecord;
use super::{SESSION_MS, Scene, TOPIC, beat, topics_as};
use crate::folded::Fold as _;

/// A consumer as the protocol asks for it.
#[derive(Debug, Default)]
struct Consumer {
    alive: bool,
    /// Goes on with what it holds however long nobody answers it: wrong, and the reason why commits are checked.
    stubborn: bool,
    epoch: i32,
    /// What it works on, each with the period of ownership in which it began.
    holds: BTreeMap<TopicPartition, u64>,
    told: BTreeSet<TopicPartition>,
    /// When the last answered heartbeat was sent.
    answered_ms: i64,
}

impl Consumer {
    fn drop_everything(&mut self) {
        (self.epoch, self.holds, self.told) = (0, BTreeMap::new(), BTreeSet::new());
    }

    fn hear(&mut self, told: Result<Told, ErrorCode>, sent_ms: i64, period: impl Fn(&TopicPartition) -> u64) {
        match told {
            Ok(told) => {
                (self.epoch, self.told, self.answered_ms) = (told.member_epoch, told.assignment, sent_ms);
                for partition in &self.told {
                    self.holds.entry(partition.clone()).or_insert_with(|| period(partition));
                }
            }
            Err(_) => self.drop_everything(),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Crash(usize),
    Leave(usize),
    LetGo(usize),
    Beat {
        consumer: usize,
        answer_lost: bool,
    },
    /// A heartbeat sent earlier arrives again.
    Again(prop::sample::Index),
    Pass(i64),
    Restart,
    Resize(i32),
    /// The topic is deleted and made again.
    Recreate,
    /// A commit that was sent earlier arrives now.
    LateCommit(prop::sample::Index),
    Stubborn(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let who = 0..4_usize;
    prop_oneof![
        3 => who.clone().prop_map(Step::Join),
        1 => who.clone().prop_map(Step::Crash),
        1 => who.clone().prop_map(Step::Leave),
        5 => who.clone().prop_map(Step::LetGo),
        10 => (who, prop::bool::weighted(0.2)).prop_map(|(consumer, answer_lost)| Step::Beat { consumer, answer_lost }),
        2 => any::<prop::sample::Index>().prop_map(Step::Again),
        3 => prop_oneof![Just(3_000), Just(20_000), Just(SESSION_MS)].prop_map(Step::Pass),
        1 => Just(Step::Restart),
        1 => (1..7_i32).prop_map(Step::Resize),
        1 => Just(Step::Recreate),
        1 => (0..4_usize).prop_map(Step::Stubborn),
        2 => any::<prop::sample::Index>().prop_map(Step::LateCommit),
    ]
}

/// A commit as it was sent.
#[derive(Clone)]
struct SentCommit {
    member: String,
    epoch: i32,
    partition: TopicPartition,
    period: u64,
}

/// A period of ownership ends when the partition is given anew, to whomever.
type Period = (u64, Option<(String, i32, TopicId)>);

struct World {
    scene: Scene,
    consumers: Vec<Consumer>,
    sent: Vec<Heartbeat>,
    commits: Vec<SentCommit>,
    periods: BTreeMap<TopicPartition, Period>,
    topic_id: TopicId,
    assignor: &'static str,
}

impl World {
    fn new(assignor: &'static str) -> Self {
        let consumers = (0..4).map(|_| Consumer::default()).collect();
        Self {
            scene: Scene::new(5),
            consumers,
            sent: Vec::new(),
            commits: Vec::new(),
            periods: BTreeMap::new(),
            topic_id: TOPIC,
            assignor,
        }
    }

    fn note_periods(&mut self) {
        let mut now = BTreeMap::new();
        for (id, member) in &self.scene.group.members {
            for (partition, grant) in &member.grants {
                now.insert(partition.clone(), (id.clone(), grant.since, grant.topic_id));
            }
        }
        let known: BTreeSet<TopicPartition> = self.periods.keys().chain(now.keys()).cloned().collect();
        for partition in known {
            let owner = now.remove(&partition);
            let period = self.periods.entry(partition).or_default();
            if owner.is_some() && period.1 != owner {
                *period = (period.0 + 1, owner);
            }
        }
    }

    fn period(&self, partition: &TopicPartition) -> u64 {
        self.periods.get(partition).map_or(0, |period| period.0)
    }

    /// Everybody tries to commit what it holds; nobody succeeds whose time is over.
    fn commit_all(&mut self) -> Result<(), TestCaseError> {
        let mut commits = Vec::new();
        for (index, consumer) in self.consumers.iter().enumerate().filter(|(_, c)| c.alive) {
            for (partition, period) in &consumer.holds {
                commits.push(SentCommit {
                    member: format!("c{index}"),
                    epoch: consumer.epoch,
                    partition: partition.clone(),
                    period: *period,
                });
            }
        }
        for commit in &commits {
            self.try_commit(commit)?;
        }
        self.commits.extend(commits);
        Ok(())
    }

    fn try_commit(&self, commit: &SentCommit) -> Result<(), TestCaseError> {
        let SentCommit { member, epoch, partition, period } = commit;
        let group = &self.scene.group;
        let accepted = group.check_committer(member, *epoch).is_ok()
            && group.check_owner(member, *epoch, partition, self.topic_id).is_ok();
        if accepted {
            prop_assert_eq!(*period, self.period(partition), "{} commits for an earlier period", member);
        }
        Ok(())
    }

    fn beat(&mut self, index: usize, answer_lost: bool) {
        let consumer = &mut self.consumers[index];
        if !consumer.alive {
            return;
        }
        let owned = consumer.holds.keys().cloned().collect();
        let mut heartbeat = beat(&format!("c{index}"), consumer.epoch, &owned);
        heartbeat.assignor = self.assignor.to_owned();
        self.sent.push(heartbeat.clone());
        let told = self.scene.send(&heartbeat);
        self.note_periods();
        if !answer_lost {
            let periods = &self.periods;
            let period = |partition: &TopicPartition| periods.get(partition).map_or(0, |period| period.0);
            self.consumers[index].hear(told, self.scene.now_ms, period);
        }
    }

    fn pass(&mut self, ms: i64) {
        self.scene.now_ms += ms;
        for consumer in self.consumers.iter_mut().filter(|c| c.alive) {
            // whoever had no answer for a whole session stops working by itself, not later than the group gives up on it
            if !consumer.stubborn && self.scene.now_ms - consumer.answered_ms > SESSION_MS {
                consumer.drop_everything();
            }
        }
        self.scene.expire();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join(index) if !self.consumers[index].alive => {
                self.consumers[index] =
                    Consumer { alive: true, answered_ms: self.scene.now_ms, ..Consumer::default() };
                self.beat(index, false);
            }
            Step::Crash(index) => self.consumers[index] = Consumer::default(),
            Step::Leave(index) if self.consumers[index].alive => {
                self.consumers[index] = Consumer::default();
                let leave = beat(&format!("c{index}"), LEAVE_EPOCH, &BTreeSet::new());
                self.scene.send(&leave).expect("leaving is always accepted");
            }
            Step::LetGo(index) => {
                let consumer = &mut self.consumers[index];
                let told = consumer.told.clone();
                consumer.holds.retain(|partition, _| told.contains(partition));
            }
            Step::Beat { consumer, answer_lost } => self.beat(consumer, answer_lost),
            Step::Again(index) if !self.sent.is_empty() => {
                let heartbeat = self.sent[index.index(self.sent.len())].clone();
                // a join that arrives twice is a join of somebody who is already gone: its place ends with its session
                let _ = self.scene.send(&heartbeat);
            }
            Step::Pass(ms) => self.pass(ms),
            Step::Restart => self.restart(),
            Step::Resize(partitions) => self.become_topic(self.topic_id, partitions),
            Step::Recreate => {
                self.topic_id = TopicId(uuid::Uuid::from_u128(self.topic_id.0.as_u128() + 1));
                let partitions = self.scene.topics.values().map(|fact| fact.partitions).sum();
                self.become_topic(self.topic_id, partitions);
            }
            Step::Stubborn(index) => self.consumers[index].stubborn = true,
            _ => {}
        }
    }

    fn become_topic(&mut self, id: TopicId, partitions: i32) {
        self.scene.topics = topics_as(id, partitions);
        self.scene.group.refresh(&self.scene.topics.clone());
    }

    fn restart(&mut self) {
        let record = GroupRecord::from_stored(&GroupRecord::membership("g", &self.scene.group).to_stored())
            .expect("reads");
        let mut groups = BTreeMap::new();
        record.fold(&mut groups).expect("folds");
        self.scene.group = groups.remove("g").expect("there");
        self.scene.group.restart_sessions(self.scene.now_ms);
    }

    fn check_one_owner(&self) -> Result<(), TestCaseError> {
        let mut owners: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
        for (index, consumer) in self.consumers.iter().enumerate().filter(|(_, c)| !c.stubborn) {
            for partition in consumer.holds.keys() {
                if let Some(other) = owners.insert(partition, index) {
                    return Err(TestCaseError::fail(format!("{partition:?} is held by {other} and {index}")));
                }
                let (owner, holder) = (self.scene.group.owner_of(partition), format!("c{index}"));
                prop_assert_eq!(owner, Some(holder.as_str()), "held but not owned");
            }
        }
        Ok(())
    }

    /// Calm days: everybody heartbeats, nothing is lost.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.pass(3_000);
            for index in 0..self.consumers.len() {
                self.step(Step::LetGo(index));
                self.beat(index, false);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn never_two_owners_and_in_the_end_exactly_one(
        steps in prop::collection::vec(any_step(), 1..120),
        assignor in prop_oneof![Just(""), Just("uniform")],
    ) {
        let mut world = World::new(assignor);
        for step in steps {
            match step {
                Step::LateCommit(index) if !world.commits.is_empty() => {
                    world.try_commit(&world.commits[index.index(world.commits.len())].clone())?;
                }
                step => world.step(step),
            }
            world.note_periods();
            world.check_one_owner()?;
            world.commit_all()?;
        }
        world.settle();
        world.check_one_owner()?;
        let held: usize = world.consumers.iter().map(|c| c.holds.len()).sum();
        let partitions: i32 = world.scene.topics.values().map(|fact| fact.partitions).sum();
        if world.consumers.iter().any(|c| c.alive) {
            prop_assert_eq!(held, usize::try_from(partitions).expect("positive"), "somebody owns each partition");
            prop_assert_eq!(world.scene.group.state(), "stable");
        }
    }
}
