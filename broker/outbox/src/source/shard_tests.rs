//! One table's publisher, without its reader.

use std::sync::Arc;

use sunseo_client::testing::Faults;
use sunseo_proto::clock::ManualClock;

use super::Context;
use super::shard::Shard;
use crate::OutboxConfig;
use crate::checkpoint::Checkpoints;
use crate::definition::Definition;
use crate::row::{Column, RawRow, Value};
use crate::sqlite::reader::TableRows;
use crate::testing::{App, broker};

fn rows() -> TableRows {
    let mut row = RawRow { rowid: 1, ..RawRow::default() };
    for (column, text) in [(Column::Id, "a"), (Column::AggregateType, "delivery"), (Column::AggregateId, "k")]
    {
        row.values[column as usize] = Value::Text(text.into());
    }
    TableRows { table: "outbox_0".to_owned(), rows: vec![row], last_key: 1 }
}

#[tokio::test]
async fn nothing_is_sent_to_a_topic_before_its_pin_is_written_down_also_when_the_first_note_fails() {
    let (fake, app) = (broker(1, Faults::default()), App::new(1));
    let (checkpoints, ledger, writer) = Checkpoints::open(&fake.client()).await.unwrap();
    let clock = Arc::new(ManualClock::new(1));
    let context = Context::new(OutboxConfig::default(), fake.client(), clock, (checkpoints, ledger));
    let definition = Arc::new(Definition::parse(app.definition()).unwrap());
    let mut shard = Shard::open(&Arc::new(context), &definition, "outbox_0").await.unwrap();
    drop(writer);
    for attempt in 1..3 {
        assert!(shard.publish(rows()).await.is_err_and(|failure| failure.stops_source), "attempt {attempt}");
        assert_eq!(fake.all("delivery").len(), 0, "attempt {attempt}");
    }
}
