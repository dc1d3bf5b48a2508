//! Reads the compacted topic as a whole, again and again, while others write and the node compacts.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::admin::OffsetQuery;
use sunseo_client::{Client, ConsumerConfig, Result};

use super::{LATEST, Shared, pause, reads};
use crate::history::{Act, Place, Read};

/// Reads until the run stops.
pub(super) async fn run(shared: Arc<Shared>, client: Client, mut rng: StdRng) {
    let process = shared.recorder.process();
    while !shared.stopped() {
        let partition = rng.random_range(0..LATEST.partitions);
        let start = shared.recorder.now();
        if let Ok(Some(records)) = scan(&client, partition).await {
            let place = Place { topic: LATEST.number, partition };
            shared.recorder.done(process, start, Act::Scan { place, records });
        }
        pause(&mut rng, 500..3_000).await;
    }
}

/// Everything up to the present end; `None` when that takes too long.
async fn scan(client: &Client, partition: i32) -> Result<Option<Vec<Read>>> {
    let end = client.admin().offset(LATEST.name, partition, OffsetQuery::End).await?.unwrap_or(0);
    let mut consumer = client.consumer(ConsumerConfig::partitions([(LATEST.name, partition)])).await?;
    let mut records = Vec::new();
    for _ in 0..40 {
        if consumer.position(LATEST.name, partition).is_some_and(|position| position >= end) {
            return Ok(Some(records));
        }
        let found = consumer.poll(Duration::from_millis(300)).await?;
        records.extend(reads(&found, |_| LATEST.number));
    }
    Ok(None)
}
