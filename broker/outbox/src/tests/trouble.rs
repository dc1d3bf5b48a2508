//! Bad rows, bad databases and bad topics.

use std::time::Duration;

use sunseo_client::testing::{Faults, MemoryTransport};
use sunseo_proto::{ErrorCode, v1};

use super::{committed, count, published, wait_for, wait_positions};
use crate::Outbox;
use crate::testing::{App, broker, event_ids, faults, header, start};

fn fake() -> MemoryTransport {
    broker(1, Faults::default())
}

async fn wait_state(outbox: &Outbox, state: &str) -> v1::SourceStatus {
    let start = tokio::time::Instant::now();
    loop {
        let status = outbox.describe("orders").await.unwrap();
        if status.state == state && (state != "stopped" || status.error.is_some()) {
            return status;
        }
        assert!(start.elapsed().as_secs() < 20, "not {state}: {status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn quarantine(app: &App) -> v1::SourceDefinition {
    v1::SourceDefinition { on_bad_row: "quarantine".to_owned(), ..app.definition() }
}

const BAD: &str = "INSERT INTO outbox_0 (id, aggregatetype, aggregateid, type, payload, headers) \
                   VALUES ('bad', 'delivery', 'k', 't', 'p', '[]')";

#[tokio::test]
async fn a_bad_row_stops_its_shard_only_until_it_is_mended() {
    let (fake, app) = (fake(), App::new(2));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    app.sql("BEGIN");
    app.insert("outbox_0", "a", "k");
    app.sql(BAD);
    app.insert("outbox_0", "c", "k");
    app.sql("COMMIT");
    wait_for(&fake, "delivery", 1).await;
    app.insert("outbox_1", "other", "k1");
    wait_for(&fake, "delivery", 2).await;
    let status = outbox.describe("orders").await.unwrap();
    assert_eq!(status.state, "running", "the other shard goes on");
    let why = status.shards[0].error.clone().unwrap().message;
    for part in ["orders", "outbox_0", "row 2", "headers", "JSON object", "resume"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(event_ids(&fake, "delivery"), ["a", "other"]);
    app.sql("UPDATE outbox_0 SET headers = NULL WHERE id = 'bad'");
    outbox.resume("orders").await.unwrap();
    wait_for(&fake, "delivery", 4).await;
    assert_eq!(published(&fake, "delivery"), committed(&app));
    assert!(outbox.describe("orders").await.unwrap().error.is_none());
}

#[tokio::test]
async fn a_quarantined_row_goes_to_the_dead_letters_and_is_counted() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.add(quarantine(&app)).await.unwrap();
    app.insert("outbox_0", "a", "k");
    app.sql(BAD);
    app.insert("outbox_0", "c", "k");
    wait_positions(&outbox, "orders", 3).await;
    assert_eq!(event_ids(&fake, "delivery"), ["a", "c"]);
    let letters = fake.all("orders.dead-letter");
    assert_eq!(letters.len(), 1);
    let says = |key| header(&letters[0], key);
    assert_eq!([says("table"), says("rowid"), says("id")], ["outbox_0", "2", "bad"]);
    assert!(says("error").contains("JSON object"));
    assert_eq!(letters[0].value.as_deref(), Some(&b"p"[..]));
    let shard = outbox.describe("orders").await.unwrap().shards[0].clone();
    assert_eq!((shard.rows_published, shard.rows_quarantined), (2, 1));
    let found = outbox.verify("orders").await.unwrap();
    assert_eq!((found.rows, found.published, found.missing), (3, 3, 0), "{found:?}");
}

#[tokio::test]
async fn quarantined_rows_survive_crashes_once_each() {
    for seed in 0..4 {
        let (fake, app) = (broker(seed, faults()), App::new(1));
        let mut outbox = start(&fake).await;
        while outbox.add(quarantine(&app)).await.is_err() {}
        for n in 0..60 {
            match n % 3 {
                0 => app.sql(&BAD.replace("'bad'", &format!("'e{n:02}'"))),
                _ => app.insert("outbox_0", &format!("e{n:02}"), "k"),
            }
            if n % 10 == 9 {
                tokio::time::sleep(Duration::from_millis(15)).await;
                drop(outbox);
                outbox = start(&fake).await;
            }
        }
        fake.calm();
        wait_positions(&outbox, "orders", 60).await;
        let ids = |bad: bool| {
            (0..60).filter(|n| (n % 3 == 0) == bad).map(|n| format!("e{n:02}")).collect::<Vec<_>>()
        };
        assert_eq!(event_ids(&fake, "delivery"), ids(false), "seed {seed}");
        assert_eq!(event_ids(&fake, "orders.dead-letter"), ids(true), "seed {seed}");
    }
}

#[tokio::test]
async fn a_row_that_is_too_large_for_its_topic_is_a_bad_row() {
    for (definition, published) in [(App::definition as fn(&App) -> _, 1), (quarantine, 2)] {
        let (fake, app) = (fake(), App::new(1));
        fake.make_topic("delivery", 1, 2_000);
        let outbox = start(&fake).await;
        outbox.add(definition(&app)).await.unwrap();
        app.insert("outbox_0", "a", "k");
        app.insert("outbox_0", &"x".repeat(3_000), "k");
        app.insert("outbox_0", "c", "k");
        wait_for(&fake, "delivery", published).await;
        if published == 1 {
            let why = wait_state(&outbox, "stopped").await.error.unwrap();
            assert_eq!(why.code, "BATCH_TOO_LARGE");
            assert!(
                why.message.contains("row 2") && why.message.contains("max_batch_bytes"),
                "{}",
                why.message
            );
        } else {
            wait_for(&fake, "orders.dead-letter", 1).await;
            assert_eq!(header(&fake.all("orders.dead-letter")[0], "rowid"), "2");
        }
        assert_eq!(count(&fake, "delivery"), published);
    }
}

#[tokio::test]
async fn a_bad_row_that_is_too_large_for_the_dead_letters_too_leaves_what_fits() {
    let (fake, app) = (fake(), App::new(1));
    fake.make_topic("orders.dead-letter", 1, 8_000);
    let outbox = start(&fake).await;
    outbox.add(quarantine(&app)).await.unwrap();
    let large = "x".repeat(9_000);
    app.sql(&BAD.replace("'p'", &format!("'{large}'")));
    app.sql(&BAD.replace("'k'", &format!("'{large}'")));
    // the reason names the value
    app.sql(&BAD.replace("'delivery'", &format!("'{large}'")));
    app.insert("outbox_0", "d", "k");
    wait_for(&fake, "delivery", 1).await;
    wait_for(&fake, "orders.dead-letter", 3).await;
    let letters = fake.all("orders.dead-letter");
    let rowids: Vec<_> = letters.iter().map(|letter| header(letter, "rowid")).collect();
    assert_eq!(rowids, ["1", "2", "3"]);
    assert_eq!((letters[0].value.as_ref(), letters[0].key.as_deref()), (None, Some(&b"k"[..])));
    assert_eq!((header(&letters[0], "id"), letters[1].key.as_ref()), ("bad".to_owned(), None));
}

#[tokio::test]
async fn a_partition_that_failed_stops_the_shard_and_resume_loses_nothing() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    app.insert("outbox_0", "warm", "k");
    wait_for(&fake, "delivery", 1).await;
    fake.broker().broken = (0..4).map(|p| ("delivery".to_owned(), p, ErrorCode::PartitionFailed)).collect();
    (0..20).for_each(|n| app.insert("outbox_0", &format!("e{n}"), &format!("d{n}")));
    let why = wait_state(&outbox, "stopped").await.error.unwrap();
    assert_eq!(why.code, "PARTITION_FAILED");
    fake.broker().broken.clear();
    outbox.resume("orders").await.unwrap();
    wait_for(&fake, "delivery", 21).await;
    assert_eq!(published(&fake, "delivery"), committed(&app));
}

#[tokio::test]
async fn a_topic_that_is_deleted_is_made_again() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    app.insert("outbox_0", "a", "k");
    wait_positions(&outbox, "orders", 1).await;
    fake.remove_topic("delivery");
    app.insert("outbox_0", "b", "k");
    wait_positions(&outbox, "orders", 2).await;
    assert_eq!(event_ids(&fake, "delivery"), ["b"]);
    let found = outbox.verify("orders").await.unwrap();
    assert_eq!((found.published, found.missing), (1, 1), "{found:?}");
}

#[tokio::test]
async fn another_database_under_the_same_path_stops_the_source() {
    type Change = fn(&App);
    let cases: [(&str, Change, &str); 3] = [
        (
            "rows and counter are gone",
            |app| app.sql("DELETE FROM outbox_0; DELETE FROM sqlite_sequence;"),
            "highest key",
        ),
        (
            "the table was made again",
            |app| {
                app.sql("DROP TABLE outbox_0");
                app.make_table("outbox_0");
                app.insert("outbox_0", "new", "k");
            },
            "highest key",
        ),
        (
            "other rows",
            |app| {
                app.sql("DELETE FROM outbox_0; DELETE FROM sqlite_sequence;");
                (0..5).for_each(|n| app.insert("outbox_0", &format!("other{n}"), "k"));
            },
            "row 3",
        ),
    ];
    for (what, change, said) in cases {
        let (fake, app) = (fake(), App::new(1));
        let outbox = start(&fake).await;
        outbox.add(app.definition()).await.unwrap();
        (0..3).for_each(|n| app.insert("outbox_0", &format!("e{n}"), "k"));
        wait_positions(&outbox, "orders", 3).await;
        outbox.shutdown().await;
        drop(outbox);
        change(&app);
        let outbox = start(&fake).await;
        let error = wait_state(&outbox, "stopped").await.error.unwrap();
        assert_eq!(error.code, "SOURCE_DIVERGED", "{what}");
        for part in [said, "outbox_0", "another name"] {
            assert!(error.message.contains(part), "{what}: {part}: {}", error.message);
        }
        assert_eq!(event_ids(&fake, "delivery"), ["e0", "e1", "e2"], "{what}");
    }
}

#[tokio::test]
async fn a_database_that_is_replaced_while_it_is_read_is_noticed() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    (0..3).for_each(|n| app.insert("outbox_0", &format!("e{n}"), "k"));
    wait_positions(&outbox, "orders", 3).await;
    let other = App::new(1);
    (0..9).for_each(|n| other.insert("outbox_0", &format!("other{n}"), "k"));
    other.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    std::fs::copy(other.path(), app.path().with_extension("new")).unwrap();
    // a write-ahead log that is left behind would be read into the new file, by SQLite itself
    app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    std::fs::rename(app.path().with_extension("new"), app.path()).unwrap();
    let error = wait_state(&outbox, "stopped").await.error.unwrap();
    assert!(error.code == "SOURCE_DIVERGED" || error.code == "SOURCE_UNREADABLE", "{error:?}");
    assert_eq!(event_ids(&fake, "delivery"), ["e0", "e1", "e2"]);
}

#[tokio::test]
async fn a_table_that_was_away_for_a_while_is_read_on() {
    let (fake, app) = (fake(), App::new(2));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    app.insert("outbox_0", "a", "k");
    wait_positions(&outbox, "orders", 1).await;
    outbox.shutdown().await;
    let outbox = start(&fake).await;
    app.insert("outbox_0", "b", "k");
    wait_positions(&outbox, "orders", 2).await;
    app.sql("ALTER TABLE outbox_0 RENAME TO away");
    app.insert("outbox_1", "other", "k1");
    wait_positions(&outbox, "orders", 3).await;
    app.sql("ALTER TABLE away RENAME TO outbox_0");
    app.insert("outbox_0", "c", "k");
    wait_for(&fake, "delivery", 4).await;
    assert_eq!(published(&fake, "delivery"), committed(&app));
    assert_eq!(outbox.describe("orders").await.unwrap().state, "running");
}

#[tokio::test]
async fn a_table_that_is_made_again_in_one_transaction_is_noticed_however_many_rows_it_has() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    (0..3).for_each(|n| app.insert("outbox_0", &format!("e{n}"), "k"));
    wait_positions(&outbox, "orders", 3).await;
    app.sql("BEGIN; DROP TABLE outbox_0");
    app.make_table("outbox_0");
    (0..9).for_each(|n| app.insert("outbox_0", &format!("other{n}"), "k"));
    app.sql("COMMIT");
    let error = wait_state(&outbox, "stopped").await.error.unwrap();
    assert_eq!(error.code, "SOURCE_DIVERGED");
    assert!(error.message.contains("row 3"), "{}", error.message);
    assert_eq!(event_ids(&fake, "delivery"), ["e0", "e1", "e2"]);
}

#[tokio::test]
async fn a_database_that_is_gone_stops_the_source_until_it_is_back() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.add(app.definition()).await.unwrap();
    app.insert("outbox_0", "a", "k");
    wait_positions(&outbox, "orders", 1).await;
    outbox.shutdown().await;
    drop(outbox);
    app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let away = app.path().with_extension("away");
    std::fs::rename(app.path(), &away).unwrap();
    let outbox = start(&fake).await;
    let error = wait_state(&outbox, "stopped").await.error.unwrap();
    assert_eq!(error.code, "SOURCE_UNREADABLE");
    assert!(error.message.contains("app.db") && error.message.contains("check the url"), "{}", error.message);
    std::fs::rename(&away, app.path()).unwrap();
    outbox.resume("orders").await.unwrap();
    app.insert("outbox_0", "b", "k");
    wait_positions(&outbox, "orders", 2).await;
    assert_eq!(published(&fake, "delivery")["k"], ["a", "b"]);
}

#[tokio::test]
async fn names_of_tables_and_pushed_shards_do_not_mix() {
    let (fake, app) = (fake(), App::new(1));
    let outbox = start(&fake).await;
    outbox.open("orders", "outbox_0").await.unwrap();
    assert_eq!(outbox.add(app.definition()).await.unwrap_err().code, ErrorCode::AlreadyExists);
    let definition = v1::SourceDefinition { name: "other".to_owned(), ..app.definition() };
    outbox.add(definition).await.unwrap();
    assert_eq!(outbox.open("other", "outbox_0").await.unwrap_err().code, ErrorCode::InvalidArgument);
    app.insert("outbox_0", "a", "k");
    wait_positions(&outbox, "other", 1).await;
    outbox.remove("other").await.unwrap();
    assert_eq!(outbox.open("other", "outbox_0").await.unwrap_err().code, ErrorCode::InvalidArgument);
}
