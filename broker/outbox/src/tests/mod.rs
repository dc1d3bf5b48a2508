//! Scenarios: an application commits, a broker misbehaves, and afterwards the log holds the committed set, each row once, in
//! order per key.

mod crashes;
mod sources;
mod trouble;

use std::collections::BTreeMap;

use sunseo_client::testing::MemoryTransport;

use crate::testing::{App, header};
use crate::{Outbox, testing};

/// Ids by key, in commit order, as the database has them.
fn committed(app: &App) -> BTreeMap<String, Vec<String>> {
    let mut tables =
        app.db.prepare("SELECT name FROM sqlite_master WHERE name LIKE 'outbox%' ORDER BY name").unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut keys = BTreeMap::<String, Vec<String>>::new();
    for table in tables {
        let mut rows =
            app.db.prepare(&format!("SELECT aggregateid, id FROM {table} ORDER BY rowid")).unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        for (key, id) in rows.map(Result::unwrap) {
            keys.entry(key).or_default().push(id);
        }
    }
    keys
}

/// Ids by key, in log order; a key that stands in two partitions is told.
fn published(fake: &MemoryTransport, topic: &str) -> BTreeMap<String, Vec<String>> {
    let mut keys = BTreeMap::<String, (usize, Vec<String>)>::new();
    for (partition, records) in fake.records(topic).into_iter().enumerate() {
        for record in records {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            let (first, ids) = keys.entry(key.clone()).or_insert((partition, Vec::new()));
            assert_eq!(*first, partition, "key {key} stands in two partitions");
            ids.push(header(&record, "id"));
        }
    }
    keys.into_iter().map(|(key, (_, ids))| (key, ids)).collect()
}

fn count(fake: &MemoryTransport, topic: &str) -> usize {
    fake.all(topic).len()
}

async fn wait_for(fake: &MemoryTransport, topic: &str, records: usize) {
    testing::until(&format!("{records} records"), || count(fake, topic) >= records).await;
}

/// Waits until the shards' positions add up to this.
async fn wait_positions(outbox: &Outbox, source: &str, sum: i64) {
    let start = tokio::time::Instant::now();
    loop {
        let shards = outbox.describe(source).await.unwrap().shards;
        let reached: i64 = shards.iter().map(|shard| shard.position).sum();
        if reached >= sum {
            return;
        }
        assert!(start.elapsed().as_secs() < 30, "positions add up to {reached}, not to {sum}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
