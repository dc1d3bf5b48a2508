//! What is kept when appends fail, answers are lost, and the node dies.

use std::time::Duration;

use sunseo_proto::{ErrorCode, v1};

use super::{Node, beat, open_groups};
use crate::memory_log::Fault;
use crate::metadata::internal_topics::OFFSETS;

#[tokio::test]
async fn members_and_offsets_survive_a_restart() {
    let mut node = Node::start(4).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    node.beat("b", 0, &[]).await;
    let (a, held) = node.beat("a", a, &[0, 1, 2, 3]).await;
    node.commit("a", a, &[(0, 11), (3, 12)]).await.expect("committed");
    let before = node.describe().await.expect("there");
    node.restart().await;
    assert_eq!(node.describe().await.expect("there"), before);
    assert_eq!(node.beat("a", a, &held).await, (a, held), "goes on as if nothing had been");
    assert_eq!((node.committed(0).await, node.committed(3).await), (11, 12));
}

#[tokio::test(start_paused = true)]
async fn a_restart_begins_fresh_sessions() {
    let mut node = Node::start(1).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    tokio::time::sleep(Duration::from_secs(44)).await;
    node.restart().await;
    tokio::time::sleep(Duration::from_secs(44)).await;
    assert_eq!(node.beat("a", a, &[0]).await.0, a);
    tokio::time::sleep(Duration::from_secs(46)).await;
    assert_eq!(node.send(beat("a", a, &[0])).await, Err(ErrorCode::UnknownMember));
}

#[tokio::test]
async fn what_is_not_stored_did_not_happen() {
    let node = Node::start(2).await;
    node.log.script([Fault::Refused]);
    assert_eq!(node.send(beat("a", 0, &[])).await, Err(ErrorCode::Unavailable));
    assert_eq!(node.describe().await.expect_err("refused").code, ErrorCode::UnknownGroup);
    let (a, _) = node.beat("a", 0, &[]).await;
    node.commit("a", a, &[(0, 5)]).await.expect("committed");
    node.log.script([Fault::Refused]);
    assert_eq!(node.commit("a", a, &[(0, 6)]).await, Err(ErrorCode::Unavailable));
    assert_eq!(node.committed(0).await, 5);
    assert_eq!(node.commit("a", a, &[(0, 6)]).await, Ok(vec![None]));
    assert_eq!(node.committed(0).await, 6);
}

#[tokio::test]
async fn what_is_stored_happened_although_nobody_was_told() {
    let node = Node::start(2).await;
    node.log.script([Fault::AnswerLost]);
    assert_eq!(node.send(beat("a", 0, &[])).await, Err(ErrorCode::Unavailable));
    assert_eq!(node.describe().await.expect("there").members.len(), 1);
    let (a, held) = node.beat("a", 0, &[]).await;
    assert_eq!(held, [0, 1], "joining again finds its place");
    node.log.script([Fault::AnswerLost]);
    assert_eq!(node.commit("a", a, &[(0, 6)]).await, Err(ErrorCode::Unavailable));
    assert_eq!(node.committed(0).await, 6);
}

#[tokio::test]
async fn a_record_that_arrives_late_is_noticed_and_folded() {
    let mut node = Node::start(2).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    node.log.script([Fault::Late]);
    assert_eq!(node.commit("a", a, &[(0, 6)]).await, Err(ErrorCode::Unavailable));
    assert_eq!(node.committed(0).await, -1, "not there yet");
    assert_eq!(
        node.commit("a", a, &[(1, 7)]).await,
        Err(ErrorCode::Unavailable),
        "the log is not what was known"
    );
    assert_eq!((node.committed(0).await, node.committed(1).await), (6, 7), "read back");
    assert_eq!(node.commit("a", a, &[(0, 8)]).await, Ok(vec![None]));
    node.restart().await;
    assert_eq!((node.committed(0).await, node.committed(1).await), (8, 7));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_back_refuses_until_it_can() {
    let node = Node::start(1).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    node.log.script([Fault::AnswerLost]);
    assert_eq!(node.commit("a", a, &[(0, 6)]).await, Err(ErrorCode::Unavailable));
    node.log.fail_reads(1);
    assert_eq!(node.commit("a", a, &[(0, 7)]).await, Err(ErrorCode::Unavailable));
    assert_eq!(node.commit("a", a, &[(0, 8)]).await, Ok(vec![None]));
}

#[tokio::test(start_paused = true)]
async fn topics_that_change_meanwhile_are_followed_when_the_log_can_be_read_again() {
    let node = Node::start(1).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    node.log.script([Fault::AnswerLost]);
    assert_eq!(node.commit("a", a, &[(0, 6)]).await, Err(ErrorCode::Unavailable));
    node.log.fail_reads(8);
    let grown = v1::AlterTopicRequest {
        name: "orders".to_owned(),
        partitions: 2,
        ..v1::AlterTopicRequest::default()
    };
    node.metadata.alter_topic(grown).await.expect("grown");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(node.describe().await.is_err(), "tried again with the ticks and not all the time");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(node.beat("a", a, &[0]).await.1, [0, 1]);
}

#[tokio::test]
async fn commits_that_wait_together_share_an_append() {
    let node = Node::start(8).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    let appends = node.log.appends();
    let offsets: Vec<[(i32, i64); 1]> = (0..64).map(|n| [(n % 8, i64::from(n))]).collect();
    let commits = offsets.iter().map(|offsets| node.commit("a", a, offsets));
    for result in futures::future::join_all(commits).await {
        assert_eq!(result, Ok(vec![None]));
    }
    let appends = node.log.appends() - appends;
    assert!(appends <= 3, "{appends} appends for 64 commits");
    assert_eq!(node.committed(7).await, 63);
}

#[tokio::test]
async fn a_calm_heartbeat_costs_no_append() {
    let node = Node::start(2).await;
    let (a, held) = node.beat("a", 0, &[]).await;
    let appends = node.log.appends();
    for _ in 0..10 {
        assert_eq!(node.beat("a", a, &held).await, (a, held.clone()));
    }
    assert_eq!(node.log.appends(), appends);
}

#[tokio::test]
async fn snapshots_keep_the_log_short_and_everything_in_it() {
    let mut node = Node::start_with(4, |config| config.groups.snapshot_records = 10).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    for n in 0..100_i64 {
        let partition = i32::try_from(n % 4).expect("small");
        assert_eq!(node.commit("a", a, &[(partition, n)]).await, Ok(vec![None]));
    }
    let gone = v1::GroupHeartbeatRequest { group: "gone".to_owned(), ..beat("a", 0, &[]) };
    node.groups.heartbeat(gone.clone()).await.expect("joins");
    node.groups.heartbeat(v1::GroupHeartbeatRequest { member_epoch: -1, ..gone }).await.expect("leaves");
    node.groups.delete_group(v1::DeleteGroupRequest { group: "gone".to_owned() }).await.expect("deleted");
    assert!(node.records() < 20, "{} records are kept", node.records());
    let before = node.describe().await.expect("there");
    node.restart().await;
    assert_eq!(node.describe().await.expect("there"), before);
    let names: Vec<_> = node
        .groups
        .list_groups(v1::ListGroupsRequest {})
        .await
        .expect("lists")
        .groups
        .into_iter()
        .map(|g| g.group)
        .collect();
    assert_eq!(names, ["g"]);
    for partition in 0..4 {
        assert_eq!(node.committed(partition).await, 96 + i64::from(partition));
    }
}

#[tokio::test]
async fn a_damaged_record_keeps_the_groups_closed() {
    let node = Node::start(1).await;
    node.groups.stop().await;
    node.log.inject(OFFSETS.partition(5), bytes::Bytes::from_static(b"not an envelope"));
    let refused =
        open_groups(&node.log, &node.metadata, &node.high_watermarks, &node.config, node.wall_ms).await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code, ErrorCode::CorruptLog);
    assert!(refused.message.contains("offset 0 of __offsets-5"), "{refused}");
}

#[tokio::test]
async fn a_stopped_coordinator_refuses() {
    let node = Node::start(1).await;
    node.groups.stop().await;
    assert_eq!(node.send(beat("a", 0, &[])).await, Err(ErrorCode::Unavailable));
}
