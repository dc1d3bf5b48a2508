//! The outbox is dropped at any moment, as by kill -9, over a broker that loses, delays and refuses.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_client::testing::{Faults, MemoryTransport};

use super::{committed, published, wait_positions};
use crate::OutboxConfig;
use crate::testing::{App, broker, faults, start, start_with};

/// Starts until the broker lets it.
async fn start_over(fake: &MemoryTransport, batch_rows: usize) -> crate::Outbox {
    let config = OutboxConfig { batch_rows, ..OutboxConfig::default() };
    loop {
        if let Ok(outbox) = start_with(fake, config.clone()).await {
            return outbox;
        }
    }
}

fn write_some(app: &App, rng: &mut StdRng, next: &mut u64) {
    for _ in 0..rng.random_range(0..4) {
        app.sql("BEGIN");
        for _ in 0..rng.random_range(1..6) {
            // same key, same table
            let key = rng.random_range(0..9);
            app.insert(&format!("outbox_{}", key % 3), &format!("e{next}"), &format!("d{key}"));
            *next += 1;
        }
        app.sql(if rng.random_range(0..5) == 0 { "ROLLBACK" } else { "COMMIT" });
    }
}

fn last_keys(app: &App) -> i64 {
    app.db.query_row("SELECT coalesce(sum(seq), 0) FROM sqlite_sequence", [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_at_any_moment_leave_each_committed_row_once_and_in_order() {
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (fake, app) = (broker(seed, faults()), App::new(3));
        let mut next = 0;
        write_some(&app, &mut rng, &mut next);
        let mut outbox = start_over(&fake, 7).await;
        while outbox.add(app.definition()).await.is_err() {}
        for _ in 0..12 {
            write_some(&app, &mut rng, &mut next);
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..40))).await;
            write_some(&app, &mut rng, &mut next);
            drop(outbox);
            outbox = start_over(&fake, rng.random_range(1..12)).await;
        }
        fake.calm();
        wait_positions(&outbox, "orders", last_keys(&app)).await;
        assert_eq!(published(&fake, "delivery"), committed(&app), "seed {seed}");
        let found = outbox.verify("orders").await.unwrap();
        let bad = (found.missing, found.duplicated, found.out_of_order, found.rows - found.published);
        assert_eq!(bad, (0, 0, 0, 0), "seed {seed}: {found:?}");
    }
}

#[tokio::test]
async fn a_topic_that_grows_between_crash_and_repeat_gets_no_row_twice() {
    for seed in 0..5 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (fake, app) = (broker(seed, Faults::default()), App::new(1));
        // no note is written behind the first one, so everything is read and sent again after the crash
        let config = OutboxConfig { batch_rows: 5, ..OutboxConfig::default() };
        let outbox = crate::Outbox::start(
            OutboxConfig { checkpoint_interval: Duration::from_secs(3600), ..config.clone() },
            fake.client(),
            std::sync::Arc::new(sunseo_proto::clock::ManualClock::new(1)),
        );
        let outbox = outbox.await.unwrap();
        outbox.add(app.definition()).await.unwrap();
        let rows = rng.random_range(10..40);
        (0..rows).for_each(|n| app.insert("outbox_0", &format!("e{n}"), &format!("d{n}")));
        wait_positions(&outbox, "orders", rows).await;
        drop(outbox);
        fake.make_topic("delivery", 16, 0);
        let outbox = start_with(&fake, config.clone()).await.unwrap();
        wait_positions(&outbox, "orders", rows).await;
        let shard = outbox.describe("orders").await.unwrap().shards[0].clone();
        assert_eq!(shard.duplicates_dropped, rows, "seed {seed}: every row was sent again");
        assert_eq!(published(&fake, "delivery"), committed(&app), "seed {seed}");
        // and after the repeat the new partitions are used
        drop(outbox);
        let outbox = start(&fake).await;
        (0..40).for_each(|n| app.insert("outbox_0", &format!("f{n}"), &format!("new{n}")));
        wait_positions(&outbox, "orders", rows + 40).await;
        assert_eq!(published(&fake, "delivery"), committed(&app), "seed {seed}");
    }
}

#[tokio::test]
async fn of_two_outboxes_the_older_one_stops() {
    let (fake, app) = (broker(3, Faults::default()), App::new(2));
    let older = start(&fake).await;
    older.add(app.definition()).await.unwrap();
    app.insert("outbox_0", "a", "d0");
    wait_positions(&older, "orders", 1).await;
    let newer = start(&fake).await;
    for n in 0..30 {
        app.insert(&format!("outbox_{}", n % 2), &format!("e{n}"), &format!("d{}", n % 2));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    wait_positions(&newer, "orders", 31).await;
    assert_eq!(published(&fake, "delivery"), committed(&app));
    let start = tokio::time::Instant::now();
    let status = loop {
        let status = older.describe("orders").await.unwrap();
        if status.state == "stopped" {
            break status;
        }
        assert!(start.elapsed().as_secs() < 20, "{status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(status.error.unwrap().code, "PRODUCER_FENCED");
    assert_eq!(newer.describe("orders").await.unwrap().state, "running");
}
