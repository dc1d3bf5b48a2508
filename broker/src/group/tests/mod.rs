//! Scenarios of one group.

mod simulation;

use std::collections::BTreeSet;
use std::sync::Arc;

use sunseo_proto::{ErrorCode, TopicId};

use super::membership::{Facts, Heartbeat, Told};
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
fn a_member_that_joins_again_under_its_id_keeps_its_place_and_not_its_commits() {
    let mut scene = Scene::new(1);
    let (first, _) = scene.beat("a", 0, &[]);
    let (again, held) = scene.beat("a", 0, &[]);
    assert_eq!(held, [0]);
    let partition = TopicPartition::new("orders", 0);
    let owns = |epoch| scene.group.check_owner("a", epoch, &partition, TOPIC).map_err(|e| e.code);
    // it has read the committed offset again since then
    assert_eq!(owns(first), Err(ErrorCode::FencedMember));
    assert_eq!(owns(again), Ok(()));
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
    assert_eq!(scene.send(&named("a", first.member_epoch)), Err(ErrorCode::FencedInstance));
    assert_eq!(scene.send(&named("a", 0)), Err(ErrorCode::FencedInstance), "nor does it take its place back");
    assert!(scene.send(&named("a2", again.member_epoch)).is_ok());
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
    let many: BTreeSet<Arc<str>> = (0..=1_000).map(|n| Arc::from(format!("t{n}"))).collect();
    let many = Heartbeat { topics: many, ..beat("a", 0, &numbers(&[])) };
    assert_eq!(scene.send(&many), Err(ErrorCode::InvalidArgument));
    assert!(!scene.group.unsaved, "a refusal changes nothing");
    let (epoch, _) = scene.beat("a", 0, &[]);
    let later = Heartbeat { member_epoch: epoch, ..many };
    assert_eq!(scene.send(&later), Err(ErrorCode::InvalidArgument), "nor may it grow so later");
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

#[test]
fn an_epoch_that_cannot_rise_stays_what_it_is() {
    let mut scene = Scene::new(2);
    (scene.group.epoch, scene.group.last_member_epoch) = (i32::MAX, i32::MAX - 1);
    assert_eq!(scene.beat("a", 0, &[]).0, i32::MAX);
    assert_eq!(scene.beat("b", 0, &[]).0, i32::MAX);
}
