//! A reader of partitions by hand, which seeks and begins anew.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::{Client, Consumer, ConsumerConfig, OutOfRangePolicy, StartFrom};

use super::{KEPT, LATEST, MADE, PLAIN, Shared, Topic, pause, reads};
use crate::history::{Act, Isolation, Place};

/// Reads until the run stops.
pub(super) async fn run(shared: Arc<Shared>, client: Client, mut rng: StdRng) {
    let process = shared.recorder.process();
    while !shared.stopped() {
        let topic = [KEPT, LATEST, MADE, PLAIN, PLAIN][rng.random_range(0..5)];
        let from = match rng.random_range(0..3) {
            0 => StartFrom::LastN(20),
            _ => StartFrom::Start,
        };
        let mut config = ConsumerConfig::partitions(partitions(topic)).from(from);
        let isolation = [Isolation::Committed, Isolation::Uncommitted][rng.random_range(0..2)];
        config.isolation = match isolation {
            Isolation::Committed => sunseo_client::Isolation::ReadCommitted,
            Isolation::Uncommitted => sunseo_client::Isolation::ReadUncommitted,
        };
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
        let reader = Reader { shared: &shared, process, topic, isolation };
        reader.read(&mut consumer, &mut rng).await;
        shared.recorder.at_once(process, Act::Crash);
    }
}

/// Who reads what.
struct Reader<'a> {
    shared: &'a Shared,
    process: u32,
    topic: Topic,
    isolation: Isolation,
}

impl Reader<'_> {
    async fn read(&self, consumer: &mut Consumer, rng: &mut StdRng) {
        let recorder = &self.shared.recorder;
        for _ in 0..rng.random_range(5..200) {
            if self.shared.stopped() {
                return;
            }
            let start = recorder.now();
            let Ok(records) = consumer.poll(Duration::from_millis(300)).await else {
                // a partition that cannot be read on for now
                pause(rng, 100..500).await;
                return;
            };
            if !records.is_empty() {
                let records = reads(&records, |_| self.topic.number);
                let act = Act::Poll { isolation: self.isolation, group: None, records };
                recorder.done(self.process, start, act);
            }
            if rng.random_range(0..30) == 0 {
                self.seek(consumer, rng);
            }
            pause(rng, 0..60).await;
        }
    }

    fn seek(&self, consumer: &Consumer, rng: &mut StdRng) {
        let partition = rng.random_range(0..self.topic.partitions);
        let Some(position) = consumer.position(self.topic.name, partition) else { return };
        let offset = rng.random_range(0..=position);
        if consumer.seek(self.topic.name, partition, offset).is_ok() {
            let place = Place { topic: self.topic.number, partition };
            self.shared.recorder.at_once(self.process, Act::Seek { place, offset });
        }
    }
}

fn partitions(topic: Topic) -> impl Iterator<Item = (&'static str, i32)> {
    (0..topic.partitions).map(move |partition| (topic.name, partition))
}
