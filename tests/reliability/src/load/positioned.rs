//! A source that numbers what it sends, dies, and repeats from what it knows to be there.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::{Client, PositionedConfig, Record};

use super::{PLAIN, Shared, pause};
use crate::history::{Act, Fate, Place, Sent};

/// Sends until the run stops, then makes sure of everything.
pub(super) async fn run(shared: Arc<Shared>, client: Client, mut rng: StdRng, name: String) {
    let partition = rng.random_range(0..PLAIN.partitions);
    let place = Place { topic: PLAIN.number, partition };
    let process = shared.recorder.process();
    let mut next_position = 1;
    // what a call has sent and is not known to be there
    let mut open: Vec<(i64, Record, Sent)> = Vec::new();
    let mut start = shared.recorder.now();
    loop {
        let config = PositionedConfig {
            batch_bytes: [200, 4_000][rng.random_range(0..2)],
            request_timeout: Duration::from_secs(2),
            ..PositionedConfig::default()
        };
        let Ok(source) = client.positioned_with(&name, config).await else {
            pause(&mut rng, 50..300).await;
            continue;
        };
        for _ in 0..rng.random_range(5..60) {
            if open.is_empty() {
                if shared.stopped() {
                    return;
                }
                start = shared.recorder.now();
                for _ in 0..rng.random_range(1..8) {
                    let (record, sent) = shared.record(&mut rng, place);
                    open.push((next_position, record, sent));
                    // positions of a source are not dense
                    next_position += rng.random_range(1..4);
                }
            }
            let records = open.iter().map(|(position, record, _)| (*position, record.clone())).collect();
            let call = source.append(PLAIN.name, partition, records);
            // the source may die at any time
            let patience = Duration::from_millis(rng.random_range(50..20_000));
            match tokio::time::timeout(patience, call).await {
                Ok(Ok(appended)) => {
                    let sure = (appended.dropped == 0).then_some(appended.base_offset);
                    let mut records: Vec<Sent> = open.drain(..).map(|(_, _, sent)| sent).collect();
                    records.iter_mut().for_each(|sent| sent.fate = Fate::Acked(None));
                    records[0].fate = Fate::Acked(sure);
                    shared.recorder.done(process, start, Act::Send { txn: None, records });
                }
                _ => break,
            }
            pause(&mut rng, 5..100).await;
        }
    }
}
