//! A member of a group that makes one record of each it is given, exactly once: records and consumed offsets go in one transaction.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::{Client, ConsumedRecord, Consumer, ConsumerConfig};

use super::transaction::{Ended, Instance};
use super::{MADE, PLAIN, Shared, number, pause, reads, value_of};
use crate::history::{Act, Isolation, Place, Sent};

pub(crate) const GROUP: &str = "mill";
pub(crate) const GROUP_NUMBER: u32 = 2;

/// Polls without a record, after the stop, that end a member.
const QUIET: u32 = 30;

/// Works until the run stops and nothing is left to read.
pub(super) async fn run(shared: Arc<Shared>, client: Client, mut rng: StdRng, name: u32) {
    let mut quiet = 0;
    while quiet < QUIET {
        let Ok(mut instance) = Instance::open(&shared, &client, name, &mut rng).await else {
            pause(&mut rng, 50..500).await;
            continue;
        };
        let mut config = ConsumerConfig::group(GROUP, [PLAIN.name]).manual_commit();
        config.session_timeout = Duration::from_secs([3, 6][rng.random_range(0..2)]);
        config.max_poll_records = [3, 20, 100][rng.random_range(0..3)];
        let Ok(mut consumer) = client.consumer(config).await else {
            pause(&mut rng, 50..500).await;
            continue;
        };
        for _ in 0..rng.random_range(20..300) {
            let start = shared.recorder.now();
            let Ok(records) = consumer.poll(Duration::from_millis(100)).await else { break };
            if records.is_empty() {
                quiet = if shared.stopped() { quiet + 1 } else { 0 };
                if quiet >= QUIET {
                    break;
                }
                continue;
            }
            quiet = 0;
            // one process for each poll: partitions may have come and gone before it
            let act = Act::Poll {
                isolation: Isolation::Committed,
                group: Some(GROUP_NUMBER),
                records: reads(&records, number),
            };
            shared.recorder.done(shared.recorder.process(), start, act);
            if work(&shared, &mut instance, &consumer, &records, &mut rng).await != Ended::Committed {
                // what was not done is read again
                break;
            }
        }
        if rng.random_range(0..3) > 0 || quiet >= QUIET {
            // nothing of it is to be committed
            let _ = consumer.close().await;
        }
    }
}

async fn work(
    shared: &Shared,
    instance: &mut Instance<'_>,
    consumer: &Consumer,
    records: &[ConsumedRecord],
    rng: &mut StdRng,
) -> Ended {
    // both now: a member that loses its partitions meanwhile has no positions, and no offsets are none to be refused
    let (Some(member), positions) = (consumer.group_metadata(), consumer.positions()) else {
        return Ended::Aborted;
    };
    if instance.begin().is_err() {
        return Ended::Lost;
    }
    for consumed in records {
        let source = value_of(&consumed.record);
        let partition = if source.is_multiple_of(2) { 0 } else { 1 };
        let (record, sent) = shared.record(rng, Place { topic: MADE.number, partition });
        instance.send(MADE.name, vec![(record, Sent { source: Some(source), ..sent })]).await;
    }
    if !shared.stopped() && rng.random_range(0..60) == 0 {
        // longer than sessions and transactions last
        pause(rng, 1_000..12_000).await;
    }
    let taken = instance.send_offsets(GROUP_NUMBER, &member, &positions).await;
    instance.end(taken && rng.random_range(0..12) > 0, rng).await
}
