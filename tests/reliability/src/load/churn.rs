//! Topics that are made, filled, deleted and made again under the same name.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::{Client, ConsumerConfig, ErrorCode, NewTopic, ProducerConfig};

use super::{CHURN_NUMBERS, Shared, pause, reads};
use crate::history::{Act, Fate, Isolation, Place};

const NAME: &str = "passing";

/// Makes and deletes until the run stops.
pub(super) async fn run(shared: Arc<Shared>, client: Client, mut rng: StdRng) {
    let process = shared.recorder.process();
    for number in CHURN_NUMBERS.. {
        if shared.stopped() {
            return;
        }
        delete(&client, &mut rng).await;
        create(&client, &mut rng).await;
        fill(&shared, &client, process, number, &mut rng).await;
        pause(&mut rng, 100..3_000).await;
    }
}

async fn delete(client: &Client, rng: &mut StdRng) {
    loop {
        match client.admin().delete_topic(NAME).await {
            Ok(()) => return,
            Err(error) if error.code == ErrorCode::UnknownTopic => return,
            Err(_) => pause(rng, 50..300).await,
        }
    }
}

async fn create(client: &Client, rng: &mut StdRng) {
    let topic = || NewTopic::new(NAME, 1).with("segment_bytes", 4_000).if_not_exists();
    while client.admin().create_topic(topic()).await.is_err() {
        pause(rng, 50..300).await;
    }
}

/// Sends to the topic, and reads it from its beginning: what is there was sent to this life of it.
async fn fill(shared: &Shared, client: &Client, process: u32, number: u32, rng: &mut StdRng) {
    let place = Place { topic: number, partition: 0 };
    let config = ProducerConfig { delivery_timeout: Duration::from_secs(30), ..ProducerConfig::default() };
    let Ok(producer) = client.producer(config) else { return };
    let start = shared.recorder.now();
    let mut acks = Vec::new();
    for _ in 0..rng.random_range(1..30) {
        let (record, sent) = shared.record(rng, place);
        if let Ok(ack) = producer.send_to(NAME, Some(0), record).await {
            acks.push((sent, ack));
        }
    }
    let mut records = Vec::new();
    for (mut sent, ack) in acks {
        if let Ok(found) = ack.await {
            sent.fate = Fate::Acked(Some(found.offset).filter(|offset| *offset >= 0));
        }
        records.push(sent);
    }
    let wanted = records.iter().filter(|sent| matches!(sent.fate, Fate::Acked(_))).count();
    shared.recorder.done(process, start, Act::Send { txn: None, records });
    let Ok(mut consumer) = client.consumer(ConsumerConfig::partitions([(NAME, 0)])).await else { return };
    shared.recorder.at_once(process, Act::Assign { from: vec![(place, 0)] });
    let (mut all, start) = (Vec::new(), shared.recorder.now());
    for _ in 0..100 {
        let Ok(records) = consumer.poll(Duration::from_millis(300)).await else { break };
        all.extend(reads(&records, |_| number));
        if all.len() >= wanted {
            let (log_start, end) = (0, all.last().map_or(0, |read| read.offset + 1));
            shared.recorder.done(process, start, Act::FinalPoll { place, log_start, end, records: all });
            return;
        }
    }
    let act = Act::Poll { isolation: Isolation::Committed, group: None, records: all };
    shared.recorder.done(process, start, act);
}
