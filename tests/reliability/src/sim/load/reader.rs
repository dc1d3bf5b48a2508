//! A reader of partitions by hand, which seeks and begins anew.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::{Client, Consumer, ConsumerConfig, OutOfRangePolicy, StartFrom};

use super::{KEPT, PLAIN, Shared, Topic, pause, reads};
use crate::history::{Act, Isolation, Place};

/// Reads until the run stops.
pub(in crate::sim) async fn run(shared: Arc<Shared>, client: Client, mut rng: StdRng) {
    let process = shared.recorder.process();
    while !shared.stopped() {
        let topic = if rng.random_range(0..3) == 0 { KEPT } else { PLAIN };
        let from = match rng.random_range(0..3) {
            0 => StartFrom::LastN(20),
            _ => StartFrom::Start,
        };
        let mut config = ConsumerConfig::partitions(partitions(topic)).from(from);
        config.on_out_of_range = OutOfRangePolicy::Start;
        config.max_poll_records = [3, 50, 4096][rng.random_range(0..3)];
        config.fetch_bytes = [2_000, 1 << 20][rng.random_range(0..2)];
        config.partition_fetch_bytes = config.fetch_bytes.min(100_000);
        config.fetch_wait = Duration::from_millis([1, 500][rng.random_range(0..2)]);
        let Ok(mut consumer) = client.consumer(config).await else {
            pause(&mut rng, 50..500).await;
            continue;
        };
        let place = |partition| Place { topic: topic.number, partition };
        let from = (0..topic.partitions).filter_map(|p| Some((place(p), consumer.position(topic.name, p)?)));
        shared.recorder.at_once(process, Act::Assign { from: from.collect() });
        read(&shared, &mut consumer, process, topic, &mut rng).await;
        shared.recorder.at_once(process, Act::Crash);
    }
}

async fn read(shared: &Shared, consumer: &mut Consumer, process: u32, topic: Topic, rng: &mut StdRng) {
    for _ in 0..rng.random_range(5..200) {
        if shared.stopped() {
            return;
        }
        let start = shared.recorder.now();
        let Ok(records) = consumer.poll(Duration::from_millis(300)).await else {
            // a partition that cannot be read on for now
            pause(rng, 100..500).await;
            return;
        };
        if !records.is_empty() {
            let records = reads(&records, |_| topic.number);
            shared.recorder.done(
                process,
                start,
                Act::Poll { isolation: Isolation::Committed, group: None, records },
            );
        }
        if rng.random_range(0..30) == 0 {
            seek(shared, consumer, process, topic, rng);
        }
        pause(rng, 0..60).await;
    }
}

fn seek(shared: &Shared, consumer: &mut Consumer, process: u32, topic: Topic, rng: &mut StdRng) {
    let partition = rng.random_range(0..topic.partitions);
    let Some(position) = consumer.position(topic.name, partition) else { return };
    let offset = rng.random_range(0..=position);
    if consumer.seek(topic.name, partition, offset).is_ok() {
        let place = Place { topic: topic.number, partition };
        shared.recorder.at_once(process, Act::Seek { place, offset });
    }
}

pub(in crate::sim) fn partitions(topic: Topic) -> impl Iterator<Item = (&'static str, i32)> {
    (0..topic.partitions).map(move |partition| (topic.name, partition))
}
