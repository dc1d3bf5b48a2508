//! Fuzz targets of the metadata.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message as _;
use sunseo_proto::{envelope, v1};

use super::command::{
    AlterTopic, Change, Command, DeleteDefinition, DeleteTopic, PutDefinition, RegisterNode, StoredTopic,
};
use super::config::{check, default_topic_config, with_changes};
use super::fold::Fold;
use super::names;

/// The commands of a log, in their order.
pub(crate) fn commands(bytes: &[u8]) {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut fold = Fold::default();
    let mut index = 0;
    while let Ok(opened) = envelope::open(&rest) {
        if let Ok(command) = Command::decode(&rest) {
            assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
            let before = fold.state.clone();
            if fold.apply(index, &command).is_err() {
                assert_eq!(fold.state, before, "a command that is refused changes nothing");
            }
            index += 1;
        }
        rest = rest.slice(opened.frame_bytes..);
    }
    let snapshot = fold.state.snapshot(index - 1);
    let mut again = Fold::default();
    again.apply(index, &snapshot).expect("a snapshot can be taken up");
    assert_eq!(again.state.snapshot(index - 1), snapshot);
}

const TOPIC_ID: [u8; 16] = [7; 16];

pub(crate) fn command_samples() -> Vec<Vec<u8>> {
    let topic = StoredTopic {
        name: "orders".into(),
        topic_id: TOPIC_ID.to_vec(),
        partitions: 4,
        config: Some(default_topic_config()),
        internal: false,
        replicas: vec![1],
        created_ms: 5,
        version: 1,
    };
    let node = RegisterNode { node_id: 1, cluster_id: "c".into(), at_ms: 5 };
    let altered = AlterTopic { topic_id: TOPIC_ID.to_vec(), partitions: 6, config: None, from_version: 1 };
    let put = PutDefinition {
        kind: "outbox".into(),
        name: "orders".into(),
        body: b"{}".to_vec().into(),
        ..PutDefinition::default()
    };
    let deleted =
        DeleteDefinition { kind: "outbox".into(), name: "orders".into(), ..DeleteDefinition::default() };
    let life = [
        Change::RegisterNode(node),
        Change::CreateTopic(topic),
        Change::AlterTopic(altered),
        Change::PutDefinition(put),
        Change::AllotProducer("app".into()),
        Change::AllotProducerBlock(1_000),
    ];
    let end =
        [Change::DeleteDefinition(deleted), Change::DeleteTopic(DeleteTopic { topic_id: TOPIC_ID.to_vec() })];
    let mut fold = Fold::default();
    let mut bytes = Vec::new();
    for (index, change) in (0..).zip(life) {
        let command = Command::from(change);
        fold.apply(index, &command).expect("taken");
        bytes.extend_from_slice(&command.encode());
    }
    let snapshot = fold.state.snapshot(5).encode();
    bytes.extend(end.into_iter().flat_map(|change| Command::from(change).encode()));
    vec![bytes, snapshot.to_vec()]
}

/// A request for a topic, as far as it is checked before the metadata decide.
pub(crate) fn create_topic(bytes: &[u8]) {
    let Ok(request) = v1::CreateTopicRequest::decode(bytes) else { return };
    let _ = names::check_topic_name(&request.name, request.internal);
    if let Ok(config) = with_changes(&default_topic_config(), &request.config) {
        assert_eq!(check(&config), Ok(()), "what is set is checked");
    }
}

pub(crate) fn create_topic_samples() -> Vec<Vec<u8>> {
    let settings = [
        ("retention_ms", "-1"),
        ("segment_bytes", "1048576"),
        ("cleanup", "compact,delete"),
        ("min_dirty_ratio", "0.5"),
        ("durability", "replicated"),
        ("max_batch_bytes", "1000000"),
    ];
    // one setting each: the order of a map in the message is not fixed
    let request = |(key, value): (&str, &str)| {
        let config: HashMap<_, _> = [(key.to_owned(), value.to_owned())].into();
        v1::CreateTopicRequest { name: "orders".into(), partitions: 3, config, ..Default::default() }
            .encode_to_vec()
    };
    settings.map(request).into()
}
