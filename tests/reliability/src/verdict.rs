//! The end of a run: everything is read from the beginning, as it is after one more start.

use std::time::Duration;

use sunseo_client::admin::OffsetQuery;
use sunseo_client::{Client, ConsumerConfig, ErrorCode, Result};

use crate::history::{Act, Isolation, Place};
use crate::load::{KEPT, LATEST, PLAIN, STANDING, Shared, Topic, member, mill, reads};

/// Reads everything; as the final poll, or as one that the final one must agree with.
pub(crate) async fn read_everything(shared: &Shared, client: &Client, is_final: bool) {
    for topic in STANDING {
        for partition in 0..topic.partitions {
            let read = read(shared, client, topic, partition, is_final).await;
            read.unwrap_or_else(|error| panic!("{} {partition} cannot be read: {error}", topic.name));
        }
    }
}

async fn read(shared: &Shared, client: &Client, topic: Topic, partition: i32, is_final: bool) -> Result<()> {
    let (process, start) = (shared.recorder.process(), shared.recorder.now());
    let place = Place { topic: topic.number, partition };
    let admin = client.admin();
    let log_start = admin.offset(topic.name, partition, OffsetQuery::Start).await?.unwrap_or(0);
    let end = admin.offset(topic.name, partition, OffsetQuery::End).await?.unwrap_or(0);
    let mut consumer = client.consumer(ConsumerConfig::partitions([(topic.name, partition)])).await?;
    let mut records = Vec::new();
    while consumer.position(topic.name, partition).is_some_and(|position| position < end) {
        let found = consumer.poll(Duration::from_secs(5)).await?;
        let position = consumer.position(topic.name, partition);
        assert!(!found.is_empty() || position >= Some(end), "{place:?} ends at {position:?} before {end}");
        records.extend(reads(&found, |_| topic.number));
    }
    let act = match is_final {
        true => Act::FinalPoll { place, log_start, end, records },
        false if topic == LATEST => Act::Scan { place, records },
        false => Act::Poll { isolation: Isolation::Committed, group: None, records },
    };
    shared.recorder.done(process, start, act);
    Ok(())
}

/// What the groups have committed.
pub(crate) async fn read_commits(shared: &Shared, client: &Client) {
    for (name, group) in [(member::GROUP, member::GROUP_NUMBER), (mill::GROUP, mill::GROUP_NUMBER)] {
        let committed = match client.admin().committed(name, Vec::new()).await {
            Ok(committed) => committed,
            Err(error) if error.code == ErrorCode::UnknownGroup => Vec::new(),
            Err(error) => panic!("committed offsets of {name} cannot be read: {error}"),
        };
        let process = shared.recorder.process();
        for topic in [PLAIN, KEPT] {
            for partition in 0..topic.partitions {
                let place = Place { topic: topic.number, partition };
                let found = committed
                    .iter()
                    .find(|commit| commit.topic == topic.name && commit.partition == partition);
                let offset = found.map(|commit| commit.offset).filter(|offset| *offset >= 0);
                shared.recorder.at_once(process, Act::FinalCommitted { group, place, offset });
            }
        }
    }
}
