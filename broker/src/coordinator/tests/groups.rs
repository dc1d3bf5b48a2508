//! What members and administrators see.

use std::time::Duration;

use sunseo_proto::{ErrorCode, v1};

use super::{Node, beat, offset_of};

const SESSION: Duration = Duration::from_secs(45);

#[tokio::test]
async fn two_members_share_the_partitions_and_commit_what_they_own() {
    let node = Node::start(4).await;
    let (a, held) = node.beat("a", 0, &[]).await;
    assert_eq!(held, [0, 1, 2, 3]);
    let (b, held) = node.beat("b", 0, &[]).await;
    assert_eq!((held, node.state().await.as_str()), (vec![], "reconciling"));
    let (a, held) = node.beat("a", a, &[0, 1, 2, 3]).await;
    assert_eq!(held, [0, 1]);
    assert_eq!(node.commit("a", a, &[(2, 7)]).await, Ok(vec![None]), "until it let go");
    node.beat("a", a, &[0, 1]).await;
    let (b, held) = node.beat("b", b, &[]).await;
    assert_eq!((held, node.state().await.as_str()), (vec![2, 3], "stable"));
    assert_eq!(node.committed(2).await, 7, "its next owner goes on from there");
    let results = node.commit("b", b, &[(2, 9), (0, 1)]).await;
    assert_eq!(results, Ok(vec![None, Some(ErrorCode::FencedMember)]), "each with its own result");
    assert_eq!((node.committed(2).await, node.committed(0).await), (9, -1));
}

#[tokio::test]
async fn a_commit_is_refused_for_what_does_not_exist() {
    let node = Node::start(2).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    let results = node.commit("a", a, &[(2, 7), (-1, 7), (1, -1), (1, 7)]).await;
    let unknown = Some(ErrorCode::UnknownPartition);
    assert_eq!(results, Ok(vec![unknown, unknown, Some(ErrorCode::InvalidArgument), None]));
    let request = v1::CommitOffsetsRequest {
        group: "g".to_owned(),
        member_id: "a".to_owned(),
        member_epoch: a,
        offsets: vec![offset_of("nothing", 0, 3)],
    };
    let answer = node.groups.commit_offsets(request).await.expect("answers");
    assert_eq!(answer.results[0].error.as_ref().map(|e| e.code.as_str()), Some("UNKNOWN_TOPIC"));
    assert_eq!(node.commit("b", 1, &[(1, 7)]).await, Err(ErrorCode::UnknownMember));
    assert_eq!(node.commit("a", a + 1, &[(1, 7)]).await, Err(ErrorCode::FencedMember));
}

#[tokio::test]
async fn an_administrator_sets_offsets_only_while_nobody_is_there() {
    let node = Node::start(2).await;
    assert_eq!(node.commit("", 0, &[(0, 5)]).await, Ok(vec![None]), "a group may begin with it");
    let (_, held) = node.beat("a", 0, &[]).await;
    assert_eq!((held, node.committed(0).await), (vec![0, 1], 5));
    assert_eq!(node.commit("", 0, &[(0, 6)]).await, Err(ErrorCode::GroupNotEmpty));
    let delete = || node.groups.delete_group(v1::DeleteGroupRequest { group: "g".to_owned() });
    assert_eq!(delete().await.expect_err("refused").code, ErrorCode::GroupNotEmpty);
    node.beat("a", -1, &[]).await;
    assert_eq!(node.commit("", 0, &[(0, 6)]).await, Ok(vec![None]));
    assert_eq!(node.committed(0).await, 6);
    delete().await.expect("empty");
    assert_eq!(delete().await.expect_err("refused").code, ErrorCode::UnknownGroup);
    assert_eq!(node.committed(0).await, -1);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_falls_silent_is_replaced_and_fenced() {
    let node = Node::start(2).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    let (mut b, _) = node.beat("b", 0, &[]).await;
    for _ in 0..4 {
        tokio::time::sleep(SESSION / 4).await;
        b = node.beat("b", b, &[]).await.0;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.beat("b", b, &[]).await.1, [0, 1]);
    assert_eq!(node.commit("a", a, &[(0, 3)]).await, Err(ErrorCode::UnknownMember));
    assert_eq!(node.send(beat("a", a, &[0, 1])).await, Err(ErrorCode::UnknownMember));
    let (a, held) = node.beat("a", 0, &[]).await;
    assert!(a > b && held.is_empty(), "joining again works");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_blames_no_member() {
    let node = Node::start(1).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // one jump without a tick in between: the whole process stood still
    tokio::time::advance(SESSION * 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.beat("a", a, &[0]).await, (a, vec![0]));
}

#[tokio::test(start_paused = true)]
async fn static_members_keep_their_partitions_over_a_rolling_restart() {
    let node = Node::start(6).await;
    let named = |id: &str, pod: usize, epoch| v1::GroupHeartbeatRequest {
        instance_id: format!("pod-{pod}"),
        ..beat(id, epoch, &[])
    };
    let mut epochs = Vec::new();
    for pod in 0..3 {
        epochs.push(node.send(named(&format!("first-{pod}"), pod, 0)).await.expect("joins").0);
    }
    let mut held = vec![Vec::new(); 3];
    for _ in 0..6 {
        for pod in 0..3 {
            let mine = beat(&format!("first-{pod}"), epochs[pod], &held[pod]);
            let mine = v1::GroupHeartbeatRequest { instance_id: format!("pod-{pod}"), ..mine };
            (epochs[pod], held[pod]) = node.send(mine).await.expect("told");
        }
    }
    assert_eq!(held, [[0, 1], [2, 3], [4, 5]]);
    for pod in 0..3 {
        node.send(named(&format!("first-{pod}"), pod, -1)).await.expect("leaves");
        tokio::time::sleep(Duration::from_secs(20)).await;
        let (_, again) = node.send(named(&format!("second-{pod}"), pod, 0)).await.expect("comes back");
        assert_eq!(again, held[pod]);
        for other in pod + 1..3 {
            let mine = beat(&format!("first-{other}"), epochs[other], &held[other]);
            assert_eq!(node.send(mine).await, Ok((epochs[other], held[other].clone())), "nobody else moves");
        }
    }
    assert_eq!(node.commit("first-0", epochs[0], &[(0, 3)]).await, Err(ErrorCode::FencedInstance));
    assert_eq!(node.state().await, "stable");
}

#[tokio::test(start_paused = true)]
async fn topics_that_appear_grow_or_go_reach_the_members() {
    let node = Node::start(1).await;
    let both = |epoch, owned: &[(&str, i32)]| v1::GroupHeartbeatRequest {
        topics: vec!["orders".to_owned(), "riders".to_owned()],
        owned: owned
            .iter()
            .map(|(topic, partition)| v1::TopicPartition {
                topic: (*topic).to_owned(),
                partition: *partition,
            })
            .collect(),
        ..beat("a", epoch, &[])
    };
    let (a, held) = node.send(both(0, &[])).await.expect("joins");
    assert_eq!(held, [0], "a topic that does not exist yet is waited for");
    node.create("riders", 1).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(node.state().await, "reconciling", "without a heartbeat");
    let (a, held) = node.send(both(a, &[("orders", 0)])).await.expect("told");
    assert_eq!(held, [0, 0]);
    let request = v1::AlterTopicRequest {
        name: "orders".to_owned(),
        partitions: 3,
        ..v1::AlterTopicRequest::default()
    };
    node.metadata.alter_topic(request).await.expect("grown");
    let (a, held) = node.send(both(a, &[("orders", 0), ("riders", 0)])).await.expect("told");
    assert_eq!(held, [0, 1, 2, 0]);
    node.delete("orders").await;
    let (_, held) = node
        .send(both(a, &[("orders", 0), ("orders", 1), ("orders", 2), ("riders", 0)]))
        .await
        .expect("told");
    assert_eq!(held, [0], "of the riders");
}

#[tokio::test]
async fn a_topic_made_again_starts_anew() {
    let mut node = Node::start(1).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    assert_eq!(node.commit("a", a, &[(0, 1_000)]).await, Ok(vec![None]));
    node.delete("orders").await;
    node.create("orders", 1).await;
    assert_eq!(node.committed(0).await, -1);
    let late = node.commit("a", a, &[(0, 1_001)]).await;
    assert_eq!(late, Ok(vec![Some(ErrorCode::FencedMember)]), "it read the former topic");
    let (a, held) = node.beat("a", a, &[0]).await;
    assert_eq!(held, [] as [i32; 0]);
    let (a, held) = node.beat("a", a, &[]).await;
    assert_eq!(held, [0]);
    assert_eq!(node.commit("a", a, &[(0, 4)]).await, Ok(vec![None]));
    node.restart().await;
    assert_eq!(node.committed(0).await, 4);
}

#[tokio::test]
async fn a_description_shows_owners_targets_and_lag() {
    let node = Node::start(3).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    node.beat("b", 0, &[]).await;
    node.commit("a", a, &[(0, 5), (1, 50)]).await.expect("committed");
    node.mark("orders", 0, 12);
    node.mark("orders", 1, 40);
    let described = node.describe().await.expect("there");
    let partition =
        |p: &v1::GroupPartition| (p.partition, p.committed_offset, p.high_watermark, p.lag, p.owner.clone());
    let partitions: Vec<_> = described.partitions.iter().map(partition).collect();
    let a = "a".to_owned();
    assert_eq!(partitions, [(0, 5, 12, 7, a.clone()), (1, 50, 40, 0, a.clone()), (2, -1, -1, -1, a)]);
    let target = |m: &v1::GroupMember| m.target.iter().map(|p| p.partition).collect::<Vec<_>>();
    assert_eq!(described.members.iter().map(target).collect::<Vec<_>>(), [vec![0, 1], vec![2]]);
    assert_eq!(described.members[0].owned.len(), 3);
    let summary = described.summary.expect("a summary");
    assert_eq!((summary.members, summary.state.as_str()), (2, "reconciling"));
}

#[tokio::test]
async fn groups_are_listed_by_name_from_every_partition() {
    let node = Node::start(1).await;
    let names: Vec<String> = (0..40).map(|n| format!("group-{n:02}")).collect();
    for name in &names {
        let joins = v1::GroupHeartbeatRequest { group: name.clone(), ..beat("a", 0, &[]) };
        node.groups.heartbeat(joins).await.expect("joins");
    }
    let listed = node.groups.list_groups(v1::ListGroupsRequest {}).await.expect("lists").groups;
    assert_eq!(listed.iter().map(|g| g.group.clone()).collect::<Vec<_>>(), names);
    assert!(listed.iter().all(|g| g.state == "stable" && g.members == 1));
}

#[tokio::test]
async fn offsets_can_be_asked_for_one_by_one_or_all() {
    let node = Node::start(3).await;
    node.commit("", 0, &[(2, 4), (0, 9)]).await.expect("committed");
    let all = v1::FetchOffsetsRequest { group: "g".to_owned(), partitions: Vec::new(), ..Default::default() };
    let all = node.groups.fetch_offsets(all).await.expect("answers").offsets;
    let of = |o: &v1::OffsetCommit| (o.topic.clone(), o.partition, o.offset);
    assert_eq!(
        all.iter().map(of).collect::<Vec<_>>(),
        [("orders".to_owned(), 0, 9), ("orders".to_owned(), 2, 4)]
    );
    assert_eq!(node.committed(1).await, -1);
    let nobody =
        v1::FetchOffsetsRequest { group: "nobody".to_owned(), partitions: Vec::new(), ..Default::default() };
    assert_eq!(node.groups.fetch_offsets(nobody).await.expect("answers").offsets, []);
}

#[tokio::test]
async fn a_request_out_of_form_is_refused_and_makes_no_group() {
    let node = Node::start_with(1, |config| {
        config.request_partitions_max = 2;
        config.groups.groups_max = 1;
    })
    .await;
    let with = |change: fn(&mut v1::GroupHeartbeatRequest)| {
        let mut request = beat("a", 0, &[]);
        change(&mut request);
        request
    };
    for (field, request) in [
        ("group", with(|r| r.group.clear())),
        ("group", with(|r| r.group = "a\0b".to_owned())),
        ("member_id", with(|r| (r.member_id, r.member_epoch) = (String::new(), 4))),
        ("member_epoch", with(|r| r.member_epoch = -2)),
        ("topics", with(|r| r.topics.clear())),
        ("topics", with(|r| r.topics = vec!["a/b".to_owned()])),
        ("assignor", with(|r| r.assignor = "sticky".to_owned())),
        ("session_timeout_ms", with(|r| r.session_timeout_ms = 5)),
        ("owned", beat("a", 0, &[1, 2, 3])),
    ] {
        let refused = node.groups.heartbeat(request).await.expect_err(field);
        assert_eq!((refused.code, refused.field.as_deref()), (ErrorCode::InvalidArgument, Some(field)));
    }
    assert_eq!(node.send(beat("a", 7, &[])).await, Err(ErrorCode::UnknownMember));
    assert_eq!(node.send(beat("a", -1, &[])).await, Ok((-1, vec![])), "leaving what is not there is fine");
    assert_eq!(node.commit("a", 1, &[(0, 1), (0, 2), (0, 3)]).await, Err(ErrorCode::InvalidArgument));
    assert_eq!(node.commit(&"a".repeat(1_000), 1, &[(0, 1)]).await, Err(ErrorCode::InvalidArgument));
    assert_eq!(node.describe().await.expect_err("refused").code, ErrorCode::UnknownGroup);
    assert_eq!(node.records(), 0);
    node.beat("a", 0, &[]).await;
    // of a hundred names some share its partition
    let mut overloaded = 0;
    for n in 0..100 {
        let other = v1::GroupHeartbeatRequest { group: format!("other-{n}"), ..beat("a", 0, &[]) };
        overloaded += usize::from(node.send(other).await == Err(ErrorCode::Overloaded));
    }
    assert_eq!(overloaded, 100 - 7, "one group for each of the eight partitions");
}

#[tokio::test]
async fn a_member_without_an_id_is_given_one() {
    let node = Node::start(1).await;
    let told = node.groups.heartbeat(beat("", 0, &[])).await.expect("joins");
    assert!(!told.member_id.is_empty());
    let next = node.beat(&told.member_id, told.member_epoch, &[0]).await;
    assert_eq!(next, (told.member_epoch, vec![0]));
}

#[tokio::test(start_paused = true)]
async fn a_commit_beyond_the_end_is_refused_with_the_end() {
    let node = Node::start(1).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    node.mark("orders", 0, 10);
    assert_eq!(node.commit("a", a, &[(0, 11)]).await, Ok(vec![Some(ErrorCode::OffsetOutOfRange)]));
    assert_eq!(node.commit("a", a, &[(0, 10)]).await, Ok(vec![None]));
    assert_eq!(node.committed(0).await, 10);
}

const DAY_MS: i64 = 24 * 3_600_000;

#[tokio::test(start_paused = true)]
async fn a_group_that_nobody_uses_is_forgotten_after_its_retention_also_over_restarts() {
    let mut node = Node::start(1).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    assert_eq!(node.commit("a", a, &[(0, 5)]).await, Ok(vec![None]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.beat("a", -1, &[]).await;
    for day in 1..=7 {
        node.wall_ms += DAY_MS;
        node.restart().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(node.committed(0).await, 5, "day {day}");
    }
    node.wall_ms += DAY_MS;
    node.restart().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.committed(0).await, -1);
    assert_eq!(node.describe().await.map(drop).map_err(|e| e.code), Err(ErrorCode::UnknownGroup));
    node.restart().await;
    assert_eq!(node.committed(0).await, -1, "for good");
}

#[tokio::test(start_paused = true)]
async fn a_group_with_members_or_fresh_commits_is_kept_however_old_it_is() {
    let mut node = Node::start(1).await;
    let (a, _) = node.beat("a", 0, &[]).await;
    assert_eq!(node.commit("a", a, &[(0, 5)]).await, Ok(vec![None]));
    node.wall_ms += 30 * DAY_MS;
    node.restart().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.beat("a", a, &[0]).await, (a, vec![0]));
    node.beat("a", -1, &[]).await;
    node.wall_ms += 6 * DAY_MS;
    node.restart().await;
    assert_eq!(node.commit("", 0, &[(0, 6)]).await, Ok(vec![None]), "from outside");
    node.wall_ms += 6 * DAY_MS;
    node.restart().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.committed(0).await, 6);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_the_node_ends_no_session() {
    const MEMBERS: usize = 1_500;
    let node = Node::start_with(1, |config| config.groups.members_max = MEMBERS).await;
    let mut epochs = Vec::new();
    for member in 0..MEMBERS {
        epochs.push(node.beat(&format!("m{member}"), 0, &[]).await.0);
    }
    // every append takes longer than a tick, so that several turns pass before the last of the heartbeats is heard
    node.log.delay(Duration::from_secs(20));
    tokio::time::sleep(SESSION - Duration::from_secs(1)).await;
    let held = |member: usize| if member == 0 { vec![0] } else { vec![] };
    let commits = (0..3).map(|_| node.commit("m0", epochs[0], &[(0, 0)]));
    let beats = (0..MEMBERS).map(|member| {
        let owned: Vec<i32> = held(member);
        let beat = beat(&format!("m{member}"), epochs[member], &owned);
        node.send(beat)
    });
    let (_, told) =
        futures::future::join(futures::future::join_all(commits), futures::future::join_all(beats)).await;
    assert_eq!(told.iter().filter(|told| told.is_err()).count(), 0);
}
