//! An application that sends to several partitions in transactions. Rivals have the same transactional name, and none knows of the other.

use std::sync::Arc;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::Client;

use super::transaction::{Ended, Instance};
use super::{KEPT, LATEST, MADE, PLAIN, Shared, pause};

/// Works until the run stops.
pub(super) async fn run(shared: Arc<Shared>, client: Client, mut rng: StdRng, name: u32) {
    while !shared.stopped() {
        let Ok(mut instance) = Instance::open(&shared, &client, name, &mut rng).await else {
            pause(&mut rng, 50..500).await;
            continue;
        };
        for _ in 0..rng.random_range(3..60) {
            if shared.stopped() || instance.begin().is_err() {
                break;
            }
            work(&shared, &mut instance, &mut rng).await;
            if rng.random_range(0..25) == 0 {
                instance.leave().await;
                break;
            }
            let commit = rng.random_range(0..4) > 0;
            if instance.end(commit, &mut rng).await == Ended::Lost {
                break;
            }
            pause(&mut rng, 2..200).await;
        }
        // long enough for a rival to get something done
        pause(&mut rng, 0..4_000).await;
    }
}

async fn work(shared: &Shared, instance: &mut Instance<'_>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..5) {
        let topic = [PLAIN, KEPT, LATEST, LATEST, MADE][rng.random_range(0..5)];
        let partition = rng.random_range(0..topic.partitions);
        let count = rng.random_range(1..4);
        let records =
            (0..count).map(|_| shared.record_for(rng, topic, partition, instance.process)).collect();
        instance.send(topic.name, records).await;
        match rng.random_range(0..80) {
            // longer than some transactions may take
            0 => pause(rng, 1_000..12_000).await,
            1..40 => pause(rng, 0..30).await,
            _ => {}
        }
    }
}
