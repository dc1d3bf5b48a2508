//! What clients ask for, one scenario each.

use std::time::Duration;

use sunseo_proto::error::Result;
use sunseo_proto::{ErrorCode, TopicId, v1};

use super::{Node, map, open};
use crate::memory_log::Fault;
use crate::metadata::definitions::{DEFINITION_BYTES_MAX, DEFINITIONS_BYTES_MAX};
use crate::metadata::internal_topics::METADATA;

fn code<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    result.expect_err("refused").code
}

#[tokio::test]
async fn a_topic_is_made_with_what_was_asked_and_the_rest_from_the_node() {
    let node = Node::start_with(|config| config.default_partitions = 3).await;
    let request = v1::CreateTopicRequest {
        name: "orders".to_owned(),
        config: map(&[("retention_ms", "-1"), ("tiered", "true")]),
        ..v1::CreateTopicRequest::default()
    };
    let topic = node.create_as(request).await.expect("made");
    assert_eq!(topic.partitions.len(), 3);
    let expected = v1::TopicConfig { retention_ms: -1, tiered: true, ..node.config.topic_defaults.clone() };
    assert_eq!(topic.config, Some(expected));
    let partition = &topic.partitions[2];
    let facts = (partition.partition, partition.leader, partition.leader_epoch);
    assert_eq!((facts, &partition.isr[..], &partition.replicas[..]), ((2, 1, 1), &[1][..], &[1][..]));
    assert_eq!(node.disk(), node.wanted(), "its partitions are open");
    let id = TopicId::from_slice(&topic.topic_id).expect("16 bytes");
    let image = node.metadata.image();
    assert_eq!(image.topic_by_id(id).map(|t| &*t.name), Some("orders"));
    let settings = node.log.settings(image.topic("orders").expect("there").partition(1).expect("there"));
    assert_eq!(settings.map(|s| (s.tiered, s.retention_ms)), Some((true, None)));
}

#[tokio::test]
async fn making_it_twice_is_refused_or_accepted_as_asked() {
    let node = Node::start().await;
    node.create("orders", 4).await.expect("made");
    assert_eq!(code(node.create("orders", 4).await), ErrorCode::AlreadyExists);
    let again = |partitions| v1::CreateTopicRequest {
        name: "orders".to_owned(),
        partitions,
        if_not_exists: true,
        ..v1::CreateTopicRequest::default()
    };
    let appends = node.log.appends();
    assert_eq!(node.create_as(again(4)).await.expect("the same").partitions.len(), 4);
    assert_eq!(node.create_as(again(0)).await.expect("any number").partitions.len(), 4);
    assert_eq!(code(node.create_as(again(5)).await), ErrorCode::AlreadyExists);
    assert_eq!(node.log.appends(), appends, "nothing was appended");
    assert_eq!(node.disk(), node.wanted(), "and no partitions were left behind");
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_before_anything_is_done() {
    let node = Node::start_with(|config| config.partitions_max = 20).await;
    let (disk, appends) = (node.disk(), node.log.appends());
    let refused = async |name: &str, partitions, config: &[(&str, &str)]| {
        let request = v1::CreateTopicRequest {
            name: name.to_owned(),
            partitions,
            config: map(config),
            ..v1::CreateTopicRequest::default()
        };
        let error = node.create_as(request).await.expect_err("refused");
        (error.code, error.field.unwrap_or_default())
    };
    let invalid = |field: &str| (ErrorCode::InvalidArgument, field.to_owned());
    assert_eq!(refused("a/b", 1, &[]).await, invalid("name"));
    assert_eq!(refused("__mine", 1, &[]).await, invalid("name"));
    assert_eq!(refused("__offsets", 1, &[]).await, invalid("name"));
    assert_eq!(refused("orders", -1, &[]).await, invalid("partitions"));
    assert_eq!(refused("orders", 7, &[]).await, invalid("partitions"), "14 are the system's");
    assert_eq!(refused("orders", i32::MAX, &[]).await, invalid("partitions"));
    assert_eq!(refused("orders", 1, &[("retention", "1")]).await, invalid("config.retention"));
    assert_eq!((node.disk(), node.log.appends()), (disk, appends));
    node.create("orders", 6).await.expect("there is room for exactly these");
    assert_eq!(code(node.alter("orders", 11, &[]).await), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn internal_topics_are_hidden_and_the_servers_own_are_protected() {
    let node = Node::start().await;
    node.create("orders", 1).await.expect("made");
    let internal = v1::CreateTopicRequest {
        name: "__tasks.demo".to_owned(),
        partitions: 2,
        internal: true,
        ..v1::CreateTopicRequest::default()
    };
    let internal = node.create_as(internal).await.expect("made");
    assert!(internal.internal);
    assert_eq!(internal.config.expect("settings").retention_ms, -1, "kept for ever");
    assert_eq!(node.names(false), ["orders"]);
    assert_eq!(
        node.names(true),
        ["__metadata", "__offsets", "__tasks.demo", "__tier", "__transactions", "orders"]
    );
    let image = node.metadata.image();
    let writable = |name: &str| image.topic(name).expect("there").check_writable();
    assert!(writable("orders").is_ok() && writable("__tasks.demo").is_ok());
    for system in ["__metadata", "__offsets", "__tier", "__transactions"] {
        assert_eq!(code(writable(system)), ErrorCode::Unauthorized);
        assert_eq!(code(node.delete(system).await), ErrorCode::Unauthorized);
        assert_eq!(code(node.alter(system, 20, &[]).await), ErrorCode::Unauthorized);
        let again = v1::CreateTopicRequest {
            name: system.to_owned(),
            internal: true,
            if_not_exists: true,
            ..v1::CreateTopicRequest::default()
        };
        assert_eq!(code(node.create_as(again).await), ErrorCode::Unauthorized);
    }
    let asked = v1::MetadataRequest { topics: vec!["__offsets".to_owned(), "nothing".to_owned()] };
    let answer = node.metadata.metadata(&asked);
    assert_eq!(answer.topics[0].partitions.len(), 8);
    assert_eq!(answer.topics[0].partitions[0].leader, 1);
    let unknown = answer.topics[1].error.as_ref().expect("inside its entry");
    assert_eq!((unknown.code.as_str(), answer.topics[1].name.as_str()), ("UNKNOWN_TOPIC", "nothing"));
    assert_eq!(node.metadata.metadata(&v1::MetadataRequest::default()).topics.len(), 6);
    node.delete("__tasks.demo").await.expect("its maker may delete it");
}

#[tokio::test]
async fn a_topic_grows_and_never_shrinks_and_its_settings_reach_every_partition() {
    let node = Node::start().await;
    node.create("orders", 2).await.expect("made");
    let grown = node.alter("orders", 4, &[("segment_ms", "5000")]).await.expect("grown");
    assert_eq!(grown.partitions.len(), 4);
    assert_eq!(node.disk(), node.wanted());
    let image = node.metadata.image();
    for id in image.topic("orders").expect("there").partition_ids() {
        assert_eq!(node.log.settings(id).expect("open").segment_ms, 5_000, "{id}");
    }
    assert_eq!(code(node.alter("orders", 3, &[]).await), ErrorCode::InvalidArgument);
    assert_eq!(code(node.alter("orders", -4, &[]).await), ErrorCode::InvalidArgument);
    assert_eq!(code(node.alter("nothing", 3, &[]).await), ErrorCode::UnknownTopic);
    let appends = node.log.appends();
    node.alter("orders", 4, &[("segment_ms", "5000")]).await.expect("as it is");
    assert_eq!(node.log.appends(), appends, "no change, no command");
}

#[tokio::test]
async fn a_deleted_topic_is_gone_and_its_name_free_for_another_one() {
    let node = Node::start().await;
    let first = node.create("orders", 2).await.expect("made");
    node.delete("orders").await.expect("deleted");
    assert_eq!(node.disk(), node.wanted(), "its partitions are gone");
    assert_eq!(code(node.delete("orders").await), ErrorCode::UnknownTopic);
    let second = node.create("orders", 2).await.expect("made anew");
    assert_ne!(first.topic_id, second.topic_id);
}

#[tokio::test]
async fn partitions_that_cannot_be_opened_refuse_the_topic() {
    let node = Node::start().await;
    node.create("other", 1).await.expect("made");
    node.log.fail_ensures(1);
    assert_eq!(code(node.create("orders", 2).await), ErrorCode::Unavailable);
    assert_eq!(node.names(false), ["other"]);
    node.create("orders", 2).await.expect("now there is room");
    assert_eq!(node.disk(), node.wanted(), "what was half made is gone");
}

#[tokio::test(start_paused = true)]
async fn partitions_that_cannot_be_removed_are_removed_later() {
    let node = Node::start().await;
    node.create("orders", 2).await.expect("made");
    node.log.fail_removes(3);
    node.delete("orders").await.expect("the topic is gone all the same");
    assert_eq!(node.names(false), [] as [&str; 0]);
    assert_ne!(node.disk(), node.wanted());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(node.disk(), node.wanted());
}

#[tokio::test(start_paused = true)]
async fn settings_that_do_not_reach_a_partition_reach_it_later() {
    let node = Node::start().await;
    node.create("orders", 2).await.expect("made");
    node.log.fail_ensures(1);
    node.alter("orders", 0, &[("segment_ms", "5000")]).await.expect("committed");
    tokio::time::sleep(Duration::from_secs(5)).await;
    for id in node.metadata.image().topic("orders").expect("there").partition_ids() {
        assert_eq!(node.log.settings(id).expect("open").segment_ms, 5_000, "{id}");
    }
}

#[tokio::test]
async fn definitions_are_changed_by_whoever_knows_their_version() {
    let node = Node::start().await;
    assert_eq!(node.put("demo", "{}", 0).await, Ok(1));
    assert_eq!(code(node.put("demo", "{}", 0).await), ErrorCode::VersionMismatch);
    assert_eq!(code(node.put("demo", "{}", 2).await), ErrorCode::VersionMismatch);
    assert_eq!(code(node.put("new", "{}", 1).await), ErrorCode::VersionMismatch);
    assert_eq!(node.put("demo", "{\"a\":1}", 1).await, Ok(2));
    assert_eq!(node.put("demo", "{\"a\":2}", -1).await, Ok(3));
    assert_eq!(code(node.put("demo", "{}", -2).await), ErrorCode::InvalidArgument);
    assert_eq!(code(node.put("a b", "{}", 0).await), ErrorCode::InvalidArgument);
    let list =
        |kind: &str| node.metadata.list_definitions(&v1::ListDefinitionsRequest { kind: kind.to_owned() });
    let all = list("").expect("all").definitions;
    assert_eq!(all.iter().map(|d| (d.name.as_str(), d.version)).collect::<Vec<_>>(), [("demo", 3)]);
    assert_eq!(all[0].body, "{\"a\":2}");
    assert_eq!(list("outbox").expect("a kind").definitions, []);
    assert_eq!(code(list("sink")), ErrorCode::InvalidArgument);
    let delete = async |kind: &str| {
        let request = v1::DeleteDefinitionRequest { kind: kind.to_owned(), name: "demo".to_owned() };
        node.metadata.delete_definition(request).await
    };
    assert_eq!(code(delete("outbox").await), ErrorCode::UnknownSource);
    delete("pipeline").await.expect("deleted");
    assert_eq!(code(delete("pipeline").await), ErrorCode::UnknownPipeline);
    assert_eq!(node.put("demo", "{}", 0).await, Ok(4), "no version is given twice");
    assert_eq!(node.put("demo", "{}", 4).await, Ok(5));
}

#[tokio::test]
async fn definitions_are_bounded_one_by_one_and_together() {
    let node = Node::start().await;
    let large = "x".repeat(DEFINITION_BYTES_MAX);
    assert_eq!(code(node.put("a", &format!("{large}x"), -1).await), ErrorCode::InvalidArgument);
    let fit = DEFINITIONS_BYTES_MAX / DEFINITION_BYTES_MAX;
    for n in 0..fit {
        node.put(&format!("d{n}"), &large, -1).await.expect("fits");
    }
    assert_eq!(code(node.put("more", "x", -1).await), ErrorCode::InvalidArgument);
    node.put("d0", &large, -1).await.expect("replacing needs no more room");
}

#[tokio::test]
async fn a_named_producer_keeps_its_identity_and_fences_its_former_self() {
    let mut node = Node::start().await;
    let (id, epoch) = node.producer("outbox/shop/3").await;
    assert_eq!(epoch, 0);
    assert_eq!(node.producer("outbox/shop/3").await, (id, 1));
    assert_ne!(node.producer("outbox/shop/4").await.0, id);
    node.restart().await;
    assert_eq!(node.producer("outbox/shop/3").await, (id, 2));
    let control = v1::InitProducerRequest { name: "a\nb".to_owned(), ..Default::default() };
    assert_eq!(code(node.metadata.init_producer(control).await), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn an_anonymous_producer_gets_what_nobody_had() {
    let mut node = Node::start().await;
    let mut given = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let appends = node.log.appends();
        for _ in 0..400 {
            assert!(given.insert(node.producer("").await.0));
        }
        assert!(node.log.appends() - appends <= 2, "they are taken in blocks");
        assert!(given.insert(node.producer(&format!("named-{}", given.len())).await.0));
        node.restart().await;
    }
}

#[tokio::test]
async fn the_leader_epoch_rises_at_each_start_and_the_cluster_keeps_its_name() {
    let mut node = Node::start().await;
    let cluster = node.metadata.image().cluster_id().to_owned();
    assert!(!cluster.is_empty());
    for starts in 1..4 {
        let topic = node.create(&format!("t{starts}"), 1).await.expect("made");
        assert_eq!(topic.partitions[0].leader_epoch, starts);
        assert_eq!(node.metadata.leader_epoch(), starts);
        let first = node.metadata.described("t1").expect("there");
        assert_eq!(first.partitions[0].leader_epoch, starts, "for what is older as well");
        node.restart().await;
        assert_eq!(node.metadata.image().cluster_id(), cluster);
    }
}

#[tokio::test]
async fn whoever_watches_sees_a_change_when_it_can_be_used() {
    let node = Node::start().await;
    let mut watch = node.metadata.watch();
    watch.mark_unchanged();
    let seen = tokio::spawn({
        let log = node.log.clone();
        async move {
            watch.changed().await.expect("lives");
            let image = watch.borrow_and_update().clone();
            let topic = image.topic("orders").expect("visible");
            topic.partition_ids().all(|id| log.disk().contains(&id))
        }
    });
    node.create("orders", 3).await.expect("made");
    assert!(seen.await.expect("ends"));
}

#[tokio::test]
async fn a_command_that_is_damaged_or_not_known_keeps_the_node_down() {
    let node = Node::start().await;
    node.metadata.stop().await;
    node.log.inject(METADATA.partition(0), bytes::Bytes::from_static(b"not an envelope"));
    let refused = open(&node.log, &node.config).await.expect_err("refused");
    assert_eq!(refused.code, ErrorCode::CorruptLog);
    assert!(refused.message.contains("offset 1 of __metadata"), "{refused}");
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_at_the_start() {
    let node = Node::start().await;
    let mut config = node.config.clone();
    config.topic_defaults.segment_bytes = 1;
    assert_eq!(code(open(&node.log, &config).await), ErrorCode::InvalidArgument);
    let config = super::MetadataConfig { default_partitions: 0, ..node.config.clone() };
    assert_eq!(code(open(&node.log, &config).await), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_stopped_node_refuses_changes_and_still_shows_what_it_knew() {
    let node = Node::start().await;
    node.create("orders", 1).await.expect("made");
    node.metadata.stop().await;
    assert_eq!(code(node.create("more", 1).await), ErrorCode::Unavailable);
    assert_eq!(node.names(false), ["orders"]);
}

#[tokio::test]
async fn a_change_goes_on_when_its_requester_leaves() {
    let node = Node::start().await;
    let create = node.create("orders", 1);
    // long enough to be sent, too short to be answered
    futures::pin_mut!(create);
    assert!(futures::poll!(&mut create).is_pending());
    node.create("other", 1).await.expect("comes after it");
    assert_eq!(node.names(false), ["orders", "other"]);
}

#[tokio::test]
async fn an_answer_that_is_lost_is_read_back_before_the_next_decision() {
    let node = Node::start().await;
    node.log.script([Fault::AnswerLost]);
    assert_eq!(code(node.create("orders", 2).await), ErrorCode::Unavailable);
    assert_eq!(code(node.create("orders", 2).await), ErrorCode::AlreadyExists, "it was there");
    assert_eq!(node.disk(), node.wanted());
    node.log.script([Fault::AnswerLost]);
    assert_eq!(code(node.delete("orders").await), ErrorCode::Unavailable);
    assert_eq!(code(node.delete("orders").await), ErrorCode::UnknownTopic);
    assert_eq!(node.disk(), node.wanted());
}

#[tokio::test]
async fn a_command_that_arrives_late_takes_its_place_and_the_later_one_is_judged_after_it() {
    let node = Node::start().await;
    node.log.script([Fault::Late]);
    assert_eq!(code(node.create("orders", 2).await), ErrorCode::Unavailable);
    assert_eq!(node.names(false), [] as [&str; 0], "not there yet");
    // the late one arrives just before this one, which was made without knowing of it
    assert_eq!(code(node.create("orders", 3).await), ErrorCode::AlreadyExists);
    assert_eq!(node.metadata.described("orders").expect("the first").partitions.len(), 2);
    node.create("more", 1).await.expect("made");
    assert_eq!(node.disk(), node.wanted());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_back_refuses_changes_until_it_can() {
    let node = Node::start().await;
    node.log.script([Fault::AnswerLost]);
    node.log.fail_reads(3);
    assert_eq!(code(node.create("orders", 1).await), ErrorCode::Unavailable);
    assert_eq!(code(node.create("more", 1).await), ErrorCode::Unavailable);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(node.names(false), ["orders"], "read back without a request");
    node.create("more", 1).await.expect("made");
}
