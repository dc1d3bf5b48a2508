//! What a source does when nothing goes wrong.

use std::time::Duration;

use rusqlite::Connection;
use sunseo_client::testing::{Faults, MemoryTransport};
use sunseo_proto::v1;

use super::{committed, count, published, wait_for, wait_positions};
use crate::testing::{App, broker, event_ids, header, insert, start};

fn fake() -> MemoryTransport {
    broker(1, Faults::default())
}

#[tokio::test]
async fn rows_of_every_shard_are_published_once_and_in_order_per_key() {
    let (fake, app) = (fake(), App::new(4));
    for n in 0..200 {
        app.insert(&format!("outbox_{}", n % 4), &format!("e{n}"), &format!("d{}", n % 12));
    }
    let outbox = start(&fake).await;
    let added = outbox.add(app.definition()).await.unwrap();
    assert_eq!((added.state.as_str(), added.shards.len()), ("running", 4));
    wait_for(&fake, "delivery", 200).await;
    for n in 200..300 {
        app.insert(&format!("outbox_{}", n % 4), &format!("e{n}"), &format!("d{}", n % 12));
    }
    wait_positions(&outbox, "orders", 300).await;
    assert_eq!(published(&fake, "delivery"), committed(&app));
    assert_eq!(fake.records("delivery").len(), 4, "partitions as the definition says");
    let status = outbox.describe("orders").await.unwrap();
    let shards: Vec<_> = status.shards.iter().map(|s| (s.shard.as_str(), s.rows_published)).collect();
    assert_eq!(shards, [("outbox_0", 75), ("outbox_1", 75), ("outbox_2", 75), ("outbox_3", 75)]);
    let found = outbox.verify("orders").await.unwrap();
    assert_eq!((found.rows, found.published, found.missing), (300, 300, 0), "{found:?}");
    assert_eq!((found.duplicated, found.out_of_order, found.problems.len()), (0, 0, 0), "{found:?}");
}

#[tokio::test]
async fn a_row_reaches_the_log_within_milliseconds() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    app.insert("outbox_0", "warm", "k");
    wait_for(&fake, "delivery", 1).await;
    let mut waits = Vec::new();
    for n in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let committed = tokio::time::Instant::now();
        app.insert("outbox_0", &format!("e{n}"), "k");
        wait_for(&fake, "delivery", n + 2).await;
        waits.push(committed.elapsed());
    }
    waits.sort();
    assert!(waits[10] < Duration::from_millis(100), "median {:?}", waits[10]);
}

#[tokio::test]
async fn what_is_rolled_back_is_never_published() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    let row = |id: &str| {
        format!(
            "INSERT INTO outbox_0 (id, aggregatetype, aggregateid, type) VALUES ('{id}', 'delivery', 'k', 't');"
        )
    };
    app.sql(&format!("BEGIN; {} ROLLBACK;", row("rolled back")));
    app.sql(&format!(
        "BEGIN; {} SAVEPOINT s; {} ROLLBACK TO s; {} COMMIT;",
        row("a"),
        row("undone"),
        row("b")
    ));
    app.sql(&format!(
        "BEGIN; SAVEPOINT s; {} RELEASE s; SAVEPOINT s; {} RELEASE s; COMMIT;",
        row("c"),
        row("d")
    ));
    // open for a while, with looks in between
    app.sql("BEGIN IMMEDIATE;");
    app.sql(&row("late"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!event_ids(&fake, "delivery").contains(&"late".to_owned()));
    app.sql("ROLLBACK;");
    app.insert("outbox_0", "last", "k");
    wait_for(&fake, "delivery", 5).await;
    assert_eq!(published(&fake, "delivery")["k"], ["a", "b", "c", "d", "last"]);
}

#[tokio::test]
async fn writers_that_interleave_keep_the_order_of_their_commits() {
    let (fake, app) = (fake(), App::new(2));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let path = app.path();
            std::thread::spawn(move || {
                let db = Connection::open(path).unwrap();
                db.busy_timeout(Duration::from_secs(20)).unwrap();
                db.execute_batch("PRAGMA synchronous=OFF").unwrap();
                for n in 0..40 {
                    db.execute_batch("BEGIN IMMEDIATE").unwrap();
                    for part in 0..=(n % 3) {
                        let id = format!("{writer}-{n}-{part}");
                        insert(&db, &format!("outbox_{}", n % 2), &id, &format!("k{}", n % 6));
                    }
                    db.execute_batch(if n % 7 == 6 { "ROLLBACK" } else { "COMMIT" }).unwrap();
                }
            })
        })
        .collect();
    let expected = tokio::task::spawn_blocking(move || {
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    expected.await.unwrap();
    let committed = committed(&app);
    wait_for(&fake, "delivery", committed.values().map(Vec::len).sum()).await;
    assert_eq!(published(&fake, "delivery"), committed);
}

#[tokio::test]
async fn a_new_shard_table_is_picked_up_and_an_unreadable_one_stops_alone() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    app.insert("outbox_0", "a", "k");
    wait_for(&fake, "delivery", 1).await;
    app.make_table("outbox_1");
    app.insert("outbox_1", "b", "k1");
    app.sql("CREATE TABLE outbox_2 (id TEXT PRIMARY KEY)");
    app.insert("outbox_0", "c", "k");
    wait_for(&fake, "delivery", 3).await;
    let status = outbox.describe("orders").await.unwrap();
    assert_eq!(status.state, "running");
    let states: Vec<_> = status.shards.iter().map(|s| (s.shard.as_str(), s.state.as_str())).collect();
    assert_eq!(states, [("outbox_0", "running"), ("outbox_1", "running"), ("outbox_2", "stopped")]);
    let why = status.shards[2].error.clone().unwrap();
    assert_eq!(why.code, "SOURCE_UNREADABLE");
    assert!(why.message.contains("AUTOINCREMENT") && why.message.contains("outbox_2_new"), "{}", why.message);
    assert_eq!(status.error, Some(why));
}

#[tokio::test]
async fn pause_holds_over_a_restart_and_resume_goes_on_where_it_was() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    app.insert("outbox_0", "a", "k");
    wait_positions(&outbox, "orders", 1).await;
    assert_eq!(outbox.pause("orders").await.unwrap().state, "paused");
    app.insert("outbox_0", "b", "k");
    outbox.shutdown().await;
    drop(outbox);
    let outbox = start(&fake).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(count(&fake, "delivery"), 1);
    let paused = outbox.describe("orders").await.unwrap();
    assert_eq!((paused.state.as_str(), paused.shards[0].position), ("paused", 1));
    let waiting = outbox.verify("orders").await.unwrap();
    assert_eq!((waiting.rows, waiting.published, waiting.missing), (2, 1, 0));
    assert!(waiting.problems[0].message.contains("1 rows wait"), "{waiting:?}");
    outbox.resume("orders").await.unwrap();
    wait_positions(&outbox, "orders", 2).await;
    assert_eq!(published(&fake, "delivery")["k"], ["a", "b"]);
    let shard = outbox.describe("orders").await.unwrap().shards[0].clone();
    assert_eq!((shard.rows_published, shard.duplicates_dropped), (2, 0));
}

#[tokio::test]
async fn a_source_that_is_removed_and_added_again_repeats_nothing() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    app.insert("outbox_0", "a", "k");
    wait_positions(&outbox, "orders", 1).await;
    outbox.remove("orders").await.unwrap();
    assert_eq!(outbox.describe("orders").await.unwrap_err().code.as_str(), "UNKNOWN_SOURCE");
    assert_eq!(outbox.remove("orders").await.unwrap_err().code.as_str(), "UNKNOWN_SOURCE");
    app.insert("outbox_0", "b", "k");
    outbox.add(app.definition()).await.unwrap();
    assert_eq!(outbox.add(app.definition()).await.unwrap_err().code.as_str(), "ALREADY_EXISTS");
    wait_positions(&outbox, "orders", 2).await;
    assert_eq!(published(&fake, "delivery")["k"], ["a", "b"]);
}

#[tokio::test]
async fn renamed_columns_templates_and_bytes_are_read() {
    let (fake, app) = (fake(), App::new(0));
    app.sql(
        "CREATE TABLE events (nr INTEGER PRIMARY KEY AUTOINCREMENT, event_id BLOB, aggregatetype TEXT, subject INTEGER, \
         type TEXT, body BLOB, created_at TEXT, headers TEXT)",
    );
    app.sql(
        "INSERT INTO events (event_id, aggregatetype, subject, type, body, created_at, headers) VALUES \
         (x'00112233445566778899aabbccddeeff', 'order', 7, NULL, x'00ff', '2026-01-01 12:00:00', '{\"traceparent\":\"00-1\"}'), \
         (x'01', 'order', 7, 'GONE', NULL, NULL, NULL)",
    );
    let outbox = start(&fake).await;
    let columns =
        [("id", "event_id"), ("aggregateid", "subject"), ("payload", "body"), ("timestamp", "created_at")];
    let definition = v1::SourceDefinition {
        tables: vec!["events".to_owned()],
        topic_template: "app.{aggregatetype}".to_owned(),
        columns: columns.map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned())).into(),
        ..app.definition()
    };
    outbox.add(definition).await.unwrap();
    wait_for(&fake, "app.order", 2).await;
    let records = fake.all("app.order");
    assert_eq!(header(&records[0], "id"), "00112233-4455-6677-8899-aabbccddeeff");
    assert_eq!((header(&records[0], "traceparent"), records[0].header("type")), ("00-1".to_owned(), None));
    assert_eq!(
        (records[0].key.as_deref(), records[0].value.as_deref()),
        (Some(&b"7"[..]), Some(&[0, 255][..]))
    );
    assert_eq!(records[0].timestamp_ms, 1_767_268_800_000);
    assert_eq!((header(&records[1], "type"), records[1].value.as_ref()), ("GONE".to_owned(), None));
    assert_eq!(records[1].timestamp_ms, 1_000, "the time at which it was read");
}

#[tokio::test]
async fn a_backlog_is_read_in_batches_and_the_list_shows_every_source() {
    let (fake, app) = (fake(), App::new(2));
    app.sql("BEGIN");
    for n in 0..5_000 {
        app.insert(&format!("outbox_{}", n % 2), &format!("e{n}"), &format!("d{}", n % 40));
    }
    app.sql("COMMIT");
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    outbox.open("phones", "a").await.unwrap();
    wait_positions(&outbox, "orders", 5_000).await;
    assert_eq!(published(&fake, "delivery"), committed(&app));
    let listed = outbox.list().await;
    let kinds: Vec<_> =
        listed.iter().map(|s| s.definition.clone().unwrap()).map(|d| (d.name, d.kind)).collect();
    let expected = [("orders", "sqlite"), ("phones", "ingest")].map(|(n, k)| (n.to_owned(), k.to_owned()));
    assert_eq!(kinds, expected);

    app.sql("DELETE FROM outbox_0");
    app.insert("outbox_0", "next", "d0");
    wait_for(&fake, "delivery", 5_001).await;
    assert_eq!(outbox.describe("orders").await.unwrap().state, "running");
}

#[tokio::test]
async fn a_database_that_nobody_has_open_is_read_and_so_is_one_without_a_write_ahead_log() {
    for mode in ["WAL", "DELETE"] {
        let (fake, mut app) = (fake(), App::new(1));
        app.sql(&format!("PRAGMA journal_mode={mode}"));
        app.insert("outbox_0", "a", "k");
        app.close();
        let outbox = start(&fake).await;
        outbox.add(app.definition()).await.unwrap();
        wait_for(&fake, "delivery", 1).await;
        app.reopen();
        for n in 0..20 {
            app.insert("outbox_0", &format!("e{n}"), "k");
        }
        wait_for(&fake, "delivery", 21).await;
        app.close();
        app.reopen();
        app.insert("outbox_0", "z", "k");
        wait_for(&fake, "delivery", 22).await;
        assert_eq!(published(&fake, "delivery"), committed(&app), "{mode}");
        assert_eq!(outbox.describe("orders").await.unwrap().error, None, "{mode}");
    }
}
