//! The topics that are there for the whole run, and what they promise.

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::{Client, NewTopic, Result};

use super::Shared;
use crate::history::Rules;

/// A topic of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub name: &'static str,
    pub number: u32,
    pub partitions: i32,
}

/// Keeps everything.
pub(crate) const PLAIN: Topic = Topic { name: "plain", number: 0, partitions: 3 };
/// Keeps records for some time.
pub(crate) const KEPT: Topic = Topic { name: "kept", number: 1, partitions: 2 };
/// Keeps the newest record of each key.
pub(crate) const LATEST: Topic = Topic { name: "latest", number: 2, partitions: 2 };
/// Keeps everything; what was made from other records is here.
pub(crate) const MADE: Topic = Topic { name: "made", number: 3, partitions: 2 };
/// All of them.
pub(crate) const STANDING: [Topic; 4] = [PLAIN, KEPT, LATEST, MADE];
/// Numbers of topics that are made and deleted begin here.
pub(crate) const CHURN_NUMBERS: u32 = 100;

/// Age of a segment's first record after which it is closed, where not everything is kept.
pub(crate) const SEGMENT_MS: i64 = 5_000;

/// The number of a topic that is there for the whole run.
pub(crate) fn number(name: &str) -> u32 {
    STANDING.iter().find(|topic| topic.name == name).map_or(u32::MAX, |topic| topic.number)
}

/// Makes them, and notes what they promise.
pub(crate) async fn make_topics(
    client: &Client,
    shared: &Shared,
    rng: &mut StdRng,
    retention_ms: i64,
) -> Result<()> {
    let segment_bytes = rng.random_range(4_000..40_000);
    let new = |topic: Topic| NewTopic::new(topic.name, topic.partitions).with("segment_bytes", segment_bytes);
    let (plain, made) = (new(PLAIN).with("retention_ms", -1), new(MADE).with("retention_ms", -1));
    let kept = new(KEPT).with("segment_ms", SEGMENT_MS).with("retention_ms", retention_ms);
    let latest = NewTopic::new(LATEST.name, LATEST.partitions)
        .with("cleanup", "compact")
        .with("segment_bytes", rng.random_range(1_500..8_000))
        .with("segment_ms", SEGMENT_MS)
        .with("min_dirty_ratio", ["0.01", "0.3"][rng.random_range(0..2)])
        .with("delete_retention_ms", rng.random_range(0..20_000));
    for topic in [plain, kept, latest, made] {
        client.admin().create_topic(topic.if_not_exists()).await?;
    }
    shared.recorder.rules(KEPT.number, Rules { retention_ms: Some(retention_ms), ..Rules::default() });
    shared.recorder.rules(LATEST.number, Rules { compacted: true, ..Rules::default() });
    Ok(())
}
