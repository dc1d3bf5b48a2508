//! A day of ordinary life on one node, in simulated time, and whether anything grew that must not.
//!
//! The node is a whole one on a real folder, so that files and descriptors are real ones; its time and its clients' is the run's own and stands
//! still while somebody works. Everything that comes and goes comes and goes many times within a third of the run: topics, groups,
//! transactional names, segments, starts of the node. What remembers the past by design (offsets of groups, transactional names, producers)
//! is told to forget after an hour, so that the day shows it forgetting.
//!
//! Not here: whether what clients see is right. That is [`sim`](crate::sim)'s business.

mod growth;
mod load;
mod node;
mod sample;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_client::Result;
use tokio::time::Instant;

pub use growth::{Growth, growth};
pub use sample::{NAMES, Sample};

use self::load::Life;
use self::node::SoakNode;
use crate::sim::pace::Pace;

const HOUR: Duration = Duration::from_secs(3_600);

/// What to run.
#[derive(Clone, Debug)]
pub struct Soak {
    pub hours: u32,
    pub seed: u64,
    /// Where the node's folder is made; the machine's folder for temporary things when there is none.
    pub under: Option<PathBuf>,
}

/// Runs it; `each` is told of every hour.
///
/// # Errors
/// When the node cannot be started or asked, or its clients get nothing done for an hour.
///
/// # Panics
/// When there is no runtime or no temporary folder to be had.
pub fn run(soak: &Soak, each: impl FnMut(&Sample)) -> Result<Vec<Sample>> {
    Pace::live(|pace| live(soak, pace, each))
}

async fn live(soak: &Soak, pace: Arc<Pace>, mut each: impl FnMut(&Sample)) -> Result<Vec<Sample>> {
    let mut rng = StdRng::seed_from_u64(soak.seed);
    let mut node = SoakNode::new(soak.under.as_deref(), pace);
    node.start().await?;
    let life = Life::begin(&node.client(), node.clock(), &mut rng).await?;
    let mut samples = Vec::new();
    let begin = Instant::now();
    for hour in 1..=soak.hours {
        let end = begin + HOUR * hour;
        // two ends within each hour, one of them sudden, so that every sample is as long after a start as the others
        for sudden in [rng.random_range(0..2) == 0, false] {
            tokio::time::sleep(Duration::from_secs(rng.random_range(600..1_200))).await;
            node.stop(sudden).await;
            tokio::time::sleep(Duration::from_secs(rng.random_range(1..20))).await;
            node.start().await?;
        }
        tokio::time::sleep_until(end).await;
        let sample = sample::take(hour, &node, life.take_progress()).await?;
        sample.check()?;
        each(&sample);
        samples.push(sample);
    }
    drop(life);
    node.stop(false).await;
    Ok(samples)
}
