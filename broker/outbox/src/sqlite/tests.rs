//! What is refused before anything is read, and what is said about it.

use std::time::Duration;

use sunseo_client::testing::Faults;
use sunseo_proto::{ErrorCode, v1};

use super::connection::preflight;
use crate::definition::Definition;
use crate::testing::{App, OUTBOX_COLUMNS, broker, start};

type Change = fn(&App, &mut v1::SourceDefinition);

/// Cause, and what the message names.
const REFUSED: &[(&str, Change, &[&str])] = &[
    ("no file", |_, d| d.url = "/nowhere/app.db".to_owned(), &["/nowhere/app.db", "check the url"]),
    ("a directory", |_, d| d.url = "/tmp".to_owned(), &["/tmp", "path of the database file"]),
    (
        "not a database",
        |app, d| {
            let path = app.path().with_extension("txt");
            std::fs::write(&path, "no database at all, but long enough to be read as one".repeat(40))
                .unwrap();
            d.url = path.display().to_string();
        },
        &["app.txt", "is no SQLite database", "path of the database file"],
    ),
    (
        "no table matches",
        |_, d| d.tables = vec!["events_*".to_owned()],
        &["events_*", "create the outbox table"],
    ),
    (
        "one of two patterns matches nothing",
        |_, d| d.tables.push("outbox_99".to_owned()),
        &["outbox_99", "correct the pattern"],
    ),
    (
        "no autoincrement",
        |app, _| app.sql(&format!("CREATE TABLE outbox_x (seq INTEGER PRIMARY KEY, {OUTBOX_COLUMNS})")),
        &["outbox_x", "AUTOINCREMENT", "CREATE TABLE \"outbox_x_new\"", "ORDER BY rowid", "DROP TABLE"],
    ),
    (
        "no integer key",
        |app, _| {
            app.sql("CREATE TABLE outbox_x (id TEXT PRIMARY KEY, aggregatetype, aggregateid, type, payload)");
        },
        &["outbox_x", "AUTOINCREMENT", "\"position\" INTEGER PRIMARY KEY AUTOINCREMENT"],
    ),
    (
        "without rowid",
        |app, _| {
            app.sql("CREATE TABLE outbox_x (id INTEGER PRIMARY KEY, aggregatetype, aggregateid, type, payload) WITHOUT ROWID");
        },
        &["outbox_x", "rebuild it"],
    ),
    (
        "a column is missing",
        |app, _| {
            app.sql("CREATE TABLE outbox_x (seq INTEGER PRIMARY KEY AUTOINCREMENT, id, aggregatetype, type, payload)");
        },
        &["outbox_x", "aggregateid", "ADD COLUMN", "definition's columns"],
    ),
    (
        "a column the definition names is missing",
        |_, d| drop(d.columns.insert("timestamp".to_owned(), "created_at".to_owned())),
        &["created_at", "timestamp"],
    ),
    (
        "a view",
        |app, _| app.sql("CREATE VIEW outbox_x AS SELECT * FROM outbox_0"),
        &["outbox_x", "view", "table behind it"],
    ),
    (
        "a name that cannot be a shard",
        |app, _| {
            app.sql(&format!(
                "CREATE TABLE \"outbox_주문\" (seq INTEGER PRIMARY KEY AUTOINCREMENT, {OUTBOX_COLUMNS})"
            ))
        },
        &["outbox_주문", "rename it"],
    ),
];

#[tokio::test]
async fn what_cannot_be_read_correctly_is_refused_and_nothing_is_published() {
    for (what, change, said) in REFUSED {
        let (fake, app) = (broker(1, Faults::default()), App::new(1));
        app.insert("outbox_0", "a", "k");
        let mut definition = app.definition();
        change(&app, &mut definition);
        let outbox = start(&fake).await;
        let error = outbox.add(definition).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::SourceUnreadable, "{what}: {error}");
        for part in *said {
            assert!(error.message.contains(part), "{what}: {part:?} is not in: {}", error.message);
        }
        assert!(outbox.list().await.is_empty(), "{what}");
        assert!(fake.topic_names().iter().all(|name| name.starts_with("__")), "{what}");
    }
}

#[test]
fn the_statement_that_mends_a_table_mends_it() {
    for table in [
        format!("CREATE TABLE outbox_x (seq INTEGER PRIMARY KEY, {OUTBOX_COLUMNS})"),
        "CREATE TABLE outbox_x (\"id\" TEXT PRIMARY KEY, aggregatetype, aggregateid, type, payload, position)".to_owned(),
        "CREATE TABLE outbox_x (id INTEGER PRIMARY KEY, aggregatetype, aggregateid, type, payload) WITHOUT ROWID".to_owned(),
    ] {
        let app = App::new(0);
        app.sql(&table);
        (1..4).for_each(|n| app.insert("outbox_x", &n.to_string(), "k"));
        let definition = Definition::parse(app.definition()).unwrap();
        let message = preflight(&definition, Duration::ZERO).unwrap_err().message;
        let statements = message.split_once("rebuild it: ").unwrap().1;
        app.sql(statements);
        preflight(&definition, Duration::ZERO).unwrap();
        let mut rows = app.db.prepare("SELECT id FROM outbox_x ORDER BY rowid").unwrap();
        let ids: Vec<String> = rows
            .query_map([], |row| Ok(row.get_ref(0)?.as_str().map_or_else(|_| row.get::<_, i64>(0).unwrap().to_string(), str::to_owned)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(ids, ["1", "2", "3"], "{table}");
    }
}

#[test]
fn a_good_table_passes_whatever_its_text_looks_like() {
    let app = App::new(0);
    app.sql(
        "create table outbox_x (\"the key\" integer not null primary key autoincrement, -- AUTOINCREMENT\n \
         ID text, AggregateType text, AGGREGATEID text, Type text, \"Payload\" blob check (payload <> 'x'))",
    );
    let definition = Definition::parse(app.definition()).unwrap();
    let tables = preflight(&definition, Duration::ZERO).unwrap();
    assert!(
        tables[0].select.contains("\"the key\"") && tables[0].select.contains("NULL"),
        "{}",
        tables[0].select
    );
}

#[test]
fn a_locked_database_is_no_reason_to_stop() {
    let app = App::new(1);
    app.sql("PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE;");
    let definition = Definition::parse(app.definition()).unwrap();
    let error = preflight(&definition, Duration::from_millis(10)).unwrap_err();
    assert!(error.retryable() && error.message.contains("locked"), "{error}");
}
