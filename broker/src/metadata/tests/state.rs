//! The state machine alone: commands in, events and refusals out.

use proptest::prelude::*;
use sunseo_proto::{ErrorCode, TopicId, v1};

use crate::metadata::command::{
    AlterTopic, Change, Command, DeleteDefinition, DeleteTopic, PutDefinition, RegisterNode, StoredProducer,
    StoredTopic,
};
use crate::metadata::config::default_topic_config;
use crate::metadata::fold::Fold;
use crate::metadata::state::PRODUCER_EPOCH_MAX;
use crate::metadata::{Event, State};

fn id(number: u128) -> Vec<u8> {
    TopicId(uuid::Uuid::from_u128(number)).as_bytes().to_vec()
}

fn register(node_id: i32, at_ms: i64) -> Command {
    Change::RegisterNode(RegisterNode { node_id, cluster_id: format!("cluster-{at_ms}"), at_ms }).into()
}

fn create(name: &str, number: u128, partitions: i32) -> Command {
    Change::CreateTopic(StoredTopic {
        name: name.to_owned(),
        topic_id: id(number),
        partitions,
        config: Some(default_topic_config()),
        internal: number.is_multiple_of(2),
        replicas: vec![1],
        created_ms: 5,
        version: 1,
    })
    .into()
}

fn alter(number: u128, from_version: i64, partitions: i32) -> Command {
    let config = Some(v1::TopicConfig { segment_ms: 1_000 + from_version % 1_000, ..default_topic_config() });
    Change::AlterTopic(AlterTopic { topic_id: id(number), from_version, partitions, config }).into()
}

fn delete(number: u128) -> Command {
    Change::DeleteTopic(DeleteTopic { topic_id: id(number) }).into()
}

fn put(name: &str, expected_version: i64) -> Command {
    let (kind, name) = ("outbox".to_owned(), name.to_owned());
    Change::PutDefinition(PutDefinition { kind, name, body: bytes::Bytes::new(), expected_version }).into()
}

fn remove(name: &str) -> Command {
    let (kind, name) = ("outbox".to_owned(), name.to_owned());
    Change::DeleteDefinition(DeleteDefinition { kind, name, keeps_counting: true }).into()
}

fn named(name: &str) -> Command {
    Change::AllotProducer(name.to_owned()).into()
}

/// Applies, through the stored form.
fn apply(state: &mut State, command: &Command) -> Result<Event, ErrorCode> {
    let stored = Command::decode(&command.encode()).expect("reads what it wrote");
    assert_eq!(&stored, command);
    state.apply(&stored).map_err(|e| e.code)
}

fn partitions(state: &State, name: &str) -> Option<i32> {
    state.find(name).map(|topic| topic.partitions)
}

#[test]
fn the_system_topics_are_there_before_any_command_and_led_after_the_first() {
    let mut state = State::default();
    assert_eq!(state.partitions(), 14);
    assert_eq!(state.leader_epoch(state.topic("__tier").expect("there")), 0);
    apply(&mut state, &register(4, 7)).expect("registered");
    let offsets = state.topic("__offsets").expect("there");
    assert_eq!((offsets.replicas.as_slice(), state.leader_epoch(offsets)), (&[4][..], 1));
    apply(&mut state, &register(4, 8)).expect("registered");
    apply(&mut state, &register(5, 9)).expect("registered");
    assert_eq!(state.leader_epoch(state.topic("__offsets").expect("there")), 2);
    assert_eq!(state.cluster_id(), "cluster-7", "the first name stays");
    assert_eq!(state.node(4).map(|node| (node.epoch, node.started_ms)), Some((2, 8)));
    assert_eq!(state.node(5).map(|node| node.epoch), Some(1));
}

#[test]
fn a_topic_lives_from_its_creation_to_its_end() {
    let mut state = State::default();
    assert!(
        matches!(apply(&mut state, &create("a", 7, 2)), Ok(Event::TopicCreated(topic)) if topic.version == 1)
    );
    assert_eq!(apply(&mut state, &create("a", 9, 2)), Err(ErrorCode::AlreadyExists));
    assert_eq!(apply(&mut state, &create("b", 7, 2)), Err(ErrorCode::Internal), "an identity is given once");
    assert_eq!(apply(&mut state, &create("b", 9, 0)), Err(ErrorCode::Internal));
    let altered = apply(&mut state, &alter(7, 1, 5));
    let grew =
        |partitions_before, topic: &super::super::Topic| (partitions_before, topic.partitions, topic.version);
    assert!(
        matches!(altered, Ok(Event::TopicAltered { topic, partitions_before }) if grew(partitions_before, &topic) == (2, 5, 2))
    );
    assert_eq!(apply(&mut state, &alter(7, 1, 6)), Err(ErrorCode::Unavailable), "made from an old version");
    assert_eq!(apply(&mut state, &alter(7, 2, 4)), Err(ErrorCode::InvalidArgument));
    assert_eq!(partitions(&state, "a"), Some(5));
    assert!(matches!(apply(&mut state, &delete(7)), Ok(Event::TopicDeleted(_))));
    assert_eq!(apply(&mut state, &delete(7)), Err(ErrorCode::UnknownTopic));
    assert_eq!(apply(&mut state, &alter(7, 2, 9)), Err(ErrorCode::UnknownTopic));
    assert_eq!((partitions(&state, "a"), state.partitions()), (None, 14));
    for system in 1..5 {
        assert_eq!(apply(&mut state, &delete(system)), Err(ErrorCode::Unauthorized));
        assert_eq!(apply(&mut state, &alter(system, 1, 50)), Err(ErrorCode::Unauthorized));
    }
}

#[test]
fn a_producer_whose_epochs_are_used_up_gets_another_identity() {
    let mut state = State::default();
    let producer = StoredProducer { name: "p".to_owned(), id: 4, epoch: i32::from(PRODUCER_EPOCH_MAX) - 1 };
    let Some(Change::Snapshot(mut snapshot)) = state.snapshot(0).change else { panic!("a snapshot") };
    (snapshot.producers, snapshot.next_producer_id) = (vec![producer], 50);
    apply(&mut state, &Change::Snapshot(snapshot).into()).expect("restored");
    let allotted = |id, epoch| Ok(Event::ProducerAllotted { id, epoch });
    assert_eq!(apply(&mut state, &named("p")), allotted(4, PRODUCER_EPOCH_MAX));
    assert_eq!(apply(&mut state, &named("p")), allotted(50, 0));
    assert_eq!(apply(&mut state, &named("p")), allotted(50, 1));
    let block = Change::AllotProducerBlock(10).into();
    assert_eq!(apply(&mut state, &block), Ok(Event::ProducerBlockAllotted { first: 51, count: 10 }));
    assert_eq!(apply(&mut state, &named("q")), allotted(61, 0));
    for count in [0, -1, i64::MAX] {
        assert_eq!(apply(&mut state, &Change::AllotProducerBlock(count).into()), Err(ErrorCode::Internal));
    }
}

#[test]
fn a_version_that_cannot_rise_refuses_the_change() {
    let mut state = State::default();
    apply(&mut state, &create("a", 7, 1)).expect("made");
    apply(&mut state, &put("d", 0)).expect("made");
    let Some(Change::Snapshot(mut snapshot)) = state.snapshot(0).change else { panic!("a snapshot") };
    snapshot.topics[0].version = i64::MAX;
    snapshot.definitions[0].version = i64::MAX;
    snapshot.definition_version_floor = i64::MAX;
    apply(&mut state, &Change::Snapshot(snapshot).into()).expect("restored");
    for command in [alter(7, i64::MAX, 2), put("d", i64::MAX), put("new", 0)] {
        assert_eq!(apply(&mut state, &command), Err(ErrorCode::Internal), "{command:?}");
    }
    assert_eq!(partitions(&state, "a"), Some(1));
}

#[test]
fn a_snapshot_made_without_a_command_that_got_in_between_is_void() {
    let mut fold = Fold::default();
    fold.apply(0, &create("a", 7, 1)).expect("made");
    let snapshot = fold.state.snapshot(fold.applied);
    fold.apply(1, &create("b", 9, 1)).expect("made");
    assert!(fold.apply(2, &snapshot).is_err());
    assert_eq!(partitions(&fold.state, "b"), Some(1));
    let snapshot = fold.state.snapshot(fold.applied);
    assert_eq!(fold.apply(3, &snapshot), Ok(Event::Restored));
    let mut later = Fold::default();
    later.apply(3, &snapshot).expect("the first of a trimmed log");
    assert_eq!(later, fold);
}

fn any_command() -> impl Strategy<Value = Command> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let number = || 7..12_u128;
    prop_oneof![
        (1..3_i32, 0..9_i64).prop_map(|(node, at)| register(node, at)),
        (name(), number(), 1..4_i32).prop_map(|(name, number, partitions)| create(name, number, partitions)),
        (number(), 1..3_i64, 1..6_i32)
            .prop_map(|(number, version, partitions)| alter(number, version, partitions)),
        number().prop_map(delete),
        (name(), -1..3_i64).prop_map(|(name, version)| put(name, version)),
        name().prop_map(remove),
        name().prop_map(named),
        (1..9_i64).prop_map(|count| Change::AllotProducerBlock(count).into()),
    ]
}

proptest! {
    #[test]
    fn a_refusal_changes_nothing_and_names_and_identities_belong_together(
        commands in prop::collection::vec(any_command(), 1..60),
    ) {
        let mut state = State::default();
        for command in commands {
            let before = state.clone();
            if apply(&mut state, &command).is_err() {
                prop_assert_eq!(&state, &before);
            }
            for topic in state.topics() {
                let by_id = state.topic_by_id(topic.id).map(|found| found.name.clone());
                prop_assert_eq!(by_id, Some(topic.name.clone()));
            }
        }
    }

    #[test]
    fn a_snapshot_anywhere_gives_the_same_state_as_all_commands(
        commands in prop::collection::vec(any_command(), 1..40),
        at in any::<prop::sample::Index>(),
    ) {
        let mut whole = State::default();
        let mut cut = State::default();
        let at = at.index(commands.len());
        for (index, command) in commands.iter().enumerate() {
            if index == at {
                let snapshot = cut.snapshot(i64::try_from(index).expect("small") - 1);
                cut = State::default();
                apply(&mut cut, &snapshot).expect("restored");
            }
            prop_assert_eq!(apply(&mut whole, command), apply(&mut cut, command));
        }
        prop_assert_eq!(whole, cut);
    }
}
