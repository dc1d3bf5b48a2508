//! Scenarios of one group, and the property that no partition ever has two owners.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use sunseo_proto::{ErrorCode, TopicId};

use super::membership::{Facts, Heartbeat, Told};
use super::record::GroupRecord;
use super::{Group, TopicFact, TopicFacts, TopicPartition};
use crate::GroupConfig;

const SESSION_MS: i64 = 45_000;

const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));
const RECREATED: TopicId = TopicId(uuid::Uuid::from_u128(8));

fn topics_as(id: TopicId, partitions: i32) -> TopicFacts {
    TopicFacts::from([(Arc::from("orders"), TopicFact { id, partitions })])
}

fn topics(partitions: i32) -> TopicFacts {
    topics_as(TOPIC, partitions)
}

fn beat(member: &str, epoch: i32, owned: &BTreeSet<TopicPartition>) -> Heartbeat {
    Heartbeat {
        member_id: member.to_owned(),
        member_epoch: epoch,
        instance_id: String::new(),
        topics: BTreeSet::from([Arc::from("orders")]),
        owned: owned.clone(),
        session_timeout_ms: 0,
        assignor: String::new(),
    }
}

struct Scene {
    group: Group,
    topics: TopicFacts,
    config: GroupConfig,
    now_ms: i64,
}

impl Scene {
    fn new(partitions: i32) -> Self {
        Self {
            group: Group::default(),
            topics: topics(partitions),
            config: GroupConfig::default(),
            now_ms: 0,
        }
    }

    fn send(&mut self, beat: &Heartbeat) -> Result<Told, ErrorCode> {
        let facts = Facts { topics: &self.topics, config: &self.config, now_ms: self.now_ms };
        self.group.heartbeat(beat, facts).map_err(|e| e.code)
    }

    fn beat(&mut self, member: &str, epoch: i32, owned: &[i32]) -> (i32, Vec<i32>) {
        let told = self.send(&beat(member, epoch, &numbers(owned))).expect("accepted");
        (told.member_epoch, told.assignment.iter().map(|p| p.partition).collect())
    }

    fn expire(&mut self) -> Vec<String> {
        let facts = Facts { topics: &self.topics, config: &self.config, now_ms: self.now_ms };
        self.group.expire(facts)
    }
}

fn numbers(partitions: &[i32]) -> BTreeSet<TopicPartition> {
    partitions.iter().map(|partition| TopicPartition::new("orders", *partition)).collect()
}

#[test]
fn a_partition_moves_only_after_its_owner_let_go() {
    let mut scene = Scene::new(4);
    let (a, held) = scene.beat("a", 0, &[]);
    assert_eq!(held, [0, 1, 2, 3]);
    let (b, held) = scene.beat("b", 0, &[]);
    assert_eq!((held, scene.group.state()), (vec![], "reconciling"));
    let (a_new, held) = scene.beat("a", a, &[0, 1, 2, 3]);
    assert_eq!(held, [0, 1], "told to let go of 2 and 3");
    assert_eq!(scene.beat("b", b, &[]), (b, vec![]), "not before they are free");
    assert_eq!(scene.beat("a", a_new, &[0, 1, 3]), (a_new, vec![0, 1]));
    let (b, held) = scene.beat("b", b, &[]);
    assert_eq!(held, [2], "one is free");
    scene.beat("a", a_new, &[0, 1]);
    let (b, held) = scene.beat("b", b, &[2]);
    assert_eq!((held, scene.group.state()), (vec![2, 3], "stable"));
    assert_eq!(scene.beat("b", b, &[2, 3]).0, b, "a calm heartbeat changes no epoch");
}

#[test]
fn a_late_heartbeat_confirms_nothing() {
    let mut scene = Scene::new(2);
    let (a, _) = scene.beat("a", 0, &[]);
    let (b, _) = scene.beat("b", 0, &[]);
    // sent before `a` took partition 1, delivered after it was told to give it back
    let late = beat("a", a, &numbers(&[]));
    let (a_new, held) = scene.beat("a", a, &[0, 1]);
    assert_eq!(held, [0]);
    scene.send(&late).expect("the previous epoch is understood");
    assert_eq!(scene.beat("b", b, &[]).1, [] as [i32; 0], "a still holds partition 1");
    scene.beat("a", a_new, &[0]);
    assert_eq!(scene.beat("b", b, &[]).1, [1]);
}

#[test]
fn a_lost_answer_is_given_again() {
    let mut scene = Scene::new(2);
    let (a, _) = scene.beat("a", 0, &[]);
    scene.beat("b", 0, &[]);
    let lost = scene.beat("a", a, &[0, 1]);
    assert_eq!(scene.beat("a", a, &[0, 1]), lost);
    assert_eq!(scene.send(&beat("a", a - 1, &numbers(&[0]))), Err(ErrorCode::FencedMember));
    assert_eq!(scene.send(&beat("nobody", 3, &numbers(&[]))), Err(ErrorCode::UnknownMember));
}

#[test]
fn a_session_that_ended_frees_its_partitions() {
    let mut scene = Scene::new(2);
    let (a, _) = scene.beat("a", 0, &[]);
    scene.now_ms = SESSION_MS;
    let (b, _) = scene.beat("b", 0, &[]);
    assert_eq!(scene.expire(), [] as [&str; 0]);
    scene.now_ms += 1;
    assert_eq!(scene.expire(), ["a"]);
    assert_eq!(scene.beat("b", b, &[]).1, [0, 1]);
    assert_eq!(scene.send(&beat("a", a, &numbers(&[0, 1]))), Err(ErrorCode::UnknownMember));
}

#[test]
fn a_static_member_comes_back_to_what_it_had_and_fences_its_former_self() {
    let mut scene = Scene::new(4);
    let named =
        |id: &str, epoch| Heartbeat { instance_id: "pod-1".to_owned(), ..beat(id, epoch, &numbers(&[])) };
    let first = scene.send(&named("a", 0)).expect("joins");
    scene.beat("b", 0, &[]);
    scene.send(&Heartbeat { owned: numbers(&[0, 1, 2, 3]), ..named("a", first.member_epoch) }).expect("told");
    scene.send(&named("a", super::membership::LEAVE_EPOCH)).expect("its place is kept");
    let again = scene.send(&named("a2", 0)).expect("joins");
    assert_eq!(again.assignment, numbers(&[2, 3]).into_iter().collect());
    assert_eq!(scene.send(&named("a", first.member_epoch)), Err(ErrorCode::UnknownMember));
}

#[test]
fn joining_is_refused_with_what_is_wrong() {
    let mut scene = Scene::new(2);
    scene.config.members_max = 1;
    let none = Heartbeat { topics: BTreeSet::new(), ..beat("a", 0, &numbers(&[])) };
    assert_eq!(scene.send(&none), Err(ErrorCode::InvalidArgument));
    let short = Heartbeat { session_timeout_ms: 10, ..beat("a", 0, &numbers(&[])) };
    assert_eq!(scene.send(&short), Err(ErrorCode::InvalidArgument));
    let other = Heartbeat { assignor: "sticky".to_owned(), ..beat("a", 0, &numbers(&[])) };
    assert_eq!(scene.send(&other), Err(ErrorCode::InvalidArgument));
    assert!(!scene.group.unsaved, "a refusal changes nothing");
    scene.beat("a", 0, &[]);
    assert_eq!(scene.send(&beat("b", 0, &numbers(&[]))), Err(ErrorCode::Overloaded));
    let uniform = Heartbeat { assignor: "uniform".to_owned(), ..beat("a", 0, &numbers(&[])) };
    assert_eq!(scene.send(&uniform), Err(ErrorCode::InvalidArgument));
}

#[test]
fn a_topic_that_grows_or_goes_is_followed() {
    let mut scene = Scene::new(2);
    let (a, _) = scene.beat("a", 0, &[]);
    scene.topics = topics(3);
    scene.group.refresh(&scene.topics.clone());
    let (a, held) = scene.beat("a", a, &[0, 1]);
    assert_eq!(held, [0, 1, 2]);
    scene.topics.clear();
    scene.group.refresh(&scene.topics.clone());
    assert_eq!(scene.beat("a", a, &[0, 1, 2]).1, [] as [i32; 0]);
}

#[test]
fn only_the_owner_commits_and_an_administrator_only_while_nobody_is_there() {
    let mut scene = Scene::new(2);
    assert!(scene.group.check_committer("", 0).is_ok());
    let (a, _) = scene.beat("a", 0, &[]);
    scene.beat("b", 0, &[]);
    let (a_new, _) = scene.beat("a", a, &[0, 1]);
    let code = |result: sunseo_proto::error::Result<()>| result.expect_err("refused").code;
    assert_eq!(code(scene.group.check_committer("", 0)), ErrorCode::GroupNotEmpty);
    assert_eq!(code(scene.group.check_committer("c", 1)), ErrorCode::UnknownMember);
    assert_eq!(code(scene.group.check_committer("a", a - 1)), ErrorCode::FencedMember);
    assert!(scene.group.check_committer("a", a).is_ok(), "its heartbeat and its commit may cross");
    let one = TopicPartition::new("orders", 1);
    assert!(scene.group.check_owner("a", a, &one, TOPIC).is_ok(), "until it let go");
    scene.beat("a", a_new, &[0]);
    assert_eq!(code(scene.group.check_owner("a", a_new, &one, TOPIC)), ErrorCode::FencedMember);
}

#[test]
fn a_commit_from_an_earlier_time_of_owning_the_partition_is_refused() {
    let mut scene = Scene::new(1);
    let one = TopicPartition::new("orders", 0);
    let (old, _) = scene.beat("b", 0, &[]);
    // the range goes to the first by name, and comes back when it leaves
    scene.beat("a", 0, &[]);
    let (b, held) = scene.beat("b", old, &[0]);
    assert_eq!(held, [] as [i32; 0]);
    scene.beat("b", b, &[]);
    scene.send(&beat("a", super::membership::LEAVE_EPOCH, &numbers(&[]))).expect("leaves");
    let (again, held) = scene.beat("b", b, &[]);
    assert_eq!(held, [0]);
    assert!(scene.group.check_committer("b", b).is_ok(), "its epoch alone is understood");
    let late = scene.group.check_owner("b", b, &one, TOPIC).expect_err("refused");
    assert_eq!(late.code, ErrorCode::FencedMember);
    assert!(scene.group.check_owner("b", again, &one, TOPIC).is_ok());
}

#[test]
fn a_topic_made_again_under_its_name_is_another_one() {
    let mut scene = Scene::new(2);
    let zero = TopicPartition::new("orders", 0);
    let (a, _) = scene.beat("a", 0, &[]);
    let committed = super::CommittedOffset { topic_id: TOPIC, offset: 9, metadata: String::new() };
    scene.group.offsets.insert(zero.clone(), committed);
    scene.topics = topics_as(RECREATED, 2);
    scene.group.refresh(&scene.topics.clone());
    assert!(scene.group.forget_gone(&scene.topics.clone()));
    assert!(scene.group.offsets.is_empty());
    let refused = scene.group.check_owner("a", a, &zero, RECREATED).expect_err("refused");
    assert_eq!(refused.code, ErrorCode::FencedMember, "what it read belongs to the former topic");
    let (a, held) = scene.beat("a", a, &[0, 1]);
    assert_eq!(held, [] as [i32; 0], "told to let go first");
    let (a, held) = scene.beat("a", a, &[]);
    assert_eq!(held, [0, 1], "then the new topic's partitions are given");
    assert!(scene.group.check_owner("a", a, &zero, RECREATED).is_ok());
    assert!(scene.group.check_owner("a", a, &zero, TOPIC).is_err());
}

#[test]
fn a_topic_that_was_away_between_two_heartbeats_is_noticed() {
    let mut scene = Scene::new(1);
    let (a, _) = scene.beat("a", 0, &[]);
    scene.topics.clear();
    scene.group.refresh(&scene.topics.clone());
    scene.topics = topics_as(RECREATED, 1);
    scene.group.refresh(&scene.topics.clone());
    let (a, held) = scene.beat("a", a, &[0]);
    assert_eq!(held, [] as [i32; 0]);
    assert_eq!(scene.beat("a", a, &[]).1, [0]);
}

#[test]
fn a_session_is_extended_by_the_time_in_which_nobody_could_be_heard() {
    let mut scene = Scene::new(1);
    scene.beat("a", 0, &[]);
    scene.group.extend_sessions(SESSION_MS);
    scene.now_ms = 2 * SESSION_MS;
    assert_eq!(scene.expire(), [] as [&str; 0]);
    scene.now_ms += 1;
    assert_eq!(scene.expire(), ["a"]);
}

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
                let leave = beat(&format!("c{index}"), super::membership::LEAVE_EPOCH, &BTreeSet::new());
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
        let record =
            GroupRecord::decode(&GroupRecord::membership("g", &self.scene.group).encode()).expect("reads");
        let mut groups = BTreeMap::new();
        record.apply(&mut groups);
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
