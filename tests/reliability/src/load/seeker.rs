//! A reader that looks things up: it jumps to offsets and to times, and reads a little there.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::admin::OffsetQuery;
use sunseo_client::{Client, Consumer, ConsumerConfig, OutOfRangePolicy, Result};

use super::{KEPT, PLAIN, Shared, Topic, pause, reads};
use crate::history::{Act, Isolation, Place};

/// One partition under its eyes.
struct Seeker<'a> {
    shared: &'a Shared,
    client: &'a Client,
    consumer: Consumer,
    process: u32,
    topic: Topic,
    partition: i32,
    /// When the run began.
    begin_ms: i64,
    /// Times of records that it has seen: a search for one of them has one right answer, and a wrong one beside it.
    times: Vec<i64>,
}

/// Jumps until the run stops.
pub(super) async fn run(shared: Arc<Shared>, client: Client, mut rng: StdRng) {
    let process = shared.recorder.process();
    let begin_ms = shared.clock.now_ms();
    while !shared.stopped() {
        let topic = if rng.random_range(0..3) == 0 { KEPT } else { PLAIN };
        let partition = rng.random_range(0..topic.partitions);
        let mut config = ConsumerConfig::partitions([(topic.name, partition)]);
        config.on_out_of_range = OutOfRangePolicy::Start;
        config.max_poll_records = [1, 5, 50][rng.random_range(0..3)];
        config.fetch_bytes = [500, 4_000, 1 << 20][rng.random_range(0..3)];
        config.partition_fetch_bytes = config.fetch_bytes;
        config.fetch_wait = Duration::from_millis(1);
        if let Ok(consumer) = client.consumer(config).await {
            let (shared, client) = (shared.as_ref(), &client);
            let times = Vec::new();
            let mut seeker = Seeker { shared, client, consumer, process, topic, partition, begin_ms, times };
            seeker.begin();
            for _ in 0..rng.random_range(5..40) {
                if shared.stopped() || seeker.jump(&mut rng).await.is_err() {
                    break;
                }
                pause(&mut rng, 0..100).await;
            }
            shared.recorder.at_once(process, Act::Crash);
        }
        pause(&mut rng, 10..300).await;
    }
}

impl Seeker<'_> {
    fn place(&self) -> Place {
        Place { topic: self.topic.number, partition: self.partition }
    }

    fn begin(&self) {
        let from = self.consumer.position(self.topic.name, self.partition);
        let from = from.map(|offset| (self.place(), offset)).into_iter().collect();
        self.shared.recorder.at_once(self.process, Act::Assign { from });
    }

    async fn jump(&mut self, rng: &mut StdRng) -> Result<()> {
        let target = match rng.random_range(0..3) {
            0 => self.look_up(rng).await?,
            _ => Some(self.any_offset(rng).await?),
        };
        let Some(offset) = target else { return Ok(()) };
        self.consumer.seek(self.topic.name, self.partition, offset)?;
        self.shared.recorder.at_once(self.process, Act::Seek { place: self.place(), offset });
        for _ in 0..rng.random_range(1..4) {
            self.poll().await?;
        }
        Ok(())
    }

    async fn offset(&self, at: OffsetQuery) -> Result<Option<i64>> {
        self.client.admin().offset(self.topic.name, self.partition, at).await
    }

    async fn any_offset(&self, rng: &mut StdRng) -> Result<i64> {
        let start = self.offset(OffsetQuery::Start).await?.unwrap_or(0);
        let end = self.offset(OffsetQuery::End).await?.unwrap_or(start).max(start);
        Ok(rng.random_range(start..=end))
    }

    /// Asks for a time: that of a record, the one beside it, or any.
    async fn look_up(&self, rng: &mut StdRng) -> Result<Option<i64>> {
        let timestamp_ms = match self.times.len() {
            seen if seen > 0 && rng.random_range(0..4) > 0 => {
                self.times[rng.random_range(0..seen)] + rng.random_range(0..2)
            }
            // a clock that is not the run's own may have gone back
            _ => rng.random_range(self.begin_ms..=self.shared.clock.now_ms().max(self.begin_ms)),
        };
        let start = self.shared.recorder.now();
        let offset = self.offset(OffsetQuery::Timestamp(timestamp_ms)).await?;
        let act = Act::LookUp { place: self.place(), timestamp_ms, offset };
        self.shared.recorder.done(self.process, start, act);
        Ok(offset)
    }

    async fn poll(&mut self) -> Result<()> {
        let start = self.shared.recorder.now();
        let found = self.consumer.poll(Duration::from_millis(100)).await?;
        self.times.extend(found.iter().map(|consumed| consumed.record.timestamp_ms));
        if !found.is_empty() {
            let records = reads(&found, |_| self.topic.number);
            let act = Act::Poll { isolation: Isolation::Committed, group: None, records };
            self.shared.recorder.done(self.process, start, act);
        }
        Ok(())
    }
}
