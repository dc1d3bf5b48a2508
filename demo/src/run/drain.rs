//! Waiting until everything is through: as long as anything moves, and no longer.

use std::time::Duration;

use sunseo_client::Client;
use sunseo_proto::v1;
use tokio::time::Instant;

use super::patience::insist;
use crate::error::{DemoError, Result};
use crate::node::Progress;
use crate::topics::{DELIVERY, DELIVERY_SUMMARY, PIPELINE, RIDER_DISTRICT};
use crate::truth::{Counts, Truth};
use crate::verify::node::{counts, length};

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Looks at which nothing may change once all is there: what comes twice comes soon.
const STILL_LOOKS: u32 = 4;

/// How far the node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    events: u64,
    entered: u64,
    summaries: u64,
    /// Records the pipeline has not processed.
    lag: i64,
    processed: u64,
    counts: Counts,
}

async fn look(client: &Client) -> Result<Standing> {
    let pipelines = client.pipelines().map_err(DemoError::request("asking for the pipeline"))?;
    let pipelines = insist("asking for the pipeline", || pipelines.list()).await?;
    // a node that has just started may not have it yet
    let not_yet = || v1::PipelineSummary { lag: -1, ..v1::PipelineSummary::default() };
    let pipeline = pipelines.into_iter().find(|pipeline| pipeline.name == PIPELINE).unwrap_or_else(not_yet);
    if pipeline.state == "failed" {
        let why = pipeline.error.map_or_else(|| "it does not say why".to_owned(), |error| error.message);
        return Err(DemoError::Node(format!("pipeline {PIPELINE} has failed: {why}")));
    }
    Ok(Standing {
        events: length(client, DELIVERY).await?,
        entered: length(client, RIDER_DISTRICT).await?,
        summaries: length(client, DELIVERY_SUMMARY).await?,
        lag: pipeline.lag,
        processed: pipeline.records_processed,
        counts: counts(client).await?,
    })
}

/// What must be reached.
struct Goal {
    events: u64,
    entered: u64,
    summaries: u64,
    counts: Counts,
}

impl Goal {
    fn reached(&self, standing: &Standing) -> bool {
        standing.events >= self.events
            && standing.entered >= self.entered
            && standing.summaries >= self.summaries
            && standing.lag == 0
            && self.counts_agree(&standing.counts)
    }

    fn counts_agree(&self, counts: &Counts) -> bool {
        counts.iter().filter(|(_, count)| **count > 0).eq(self.counts.iter())
    }
}

/// Returns when all that is expected is there, or nothing has moved for `patience`; the moment at which all was there, if it was.
///
/// # Errors
/// What the node says, or that the pipeline has failed.
pub async fn drain(
    client: &Client,
    truth: &Truth,
    patience: Duration,
    progress: &dyn Progress,
) -> Result<Option<Instant>> {
    let goal = Goal {
        events: truth.events(),
        entered: truth.districts_entered(),
        summaries: truth.ended(),
        counts: truth.counts(),
    };
    let (mut last, mut moved) = (Standing::default(), Instant::now());
    let (mut complete, mut still, mut told) = (None, 0, 0);
    loop {
        let standing = look(client).await?;
        let now = Instant::now();
        progress.done(standing.summaries.saturating_sub(told));
        told = told.max(standing.summaries);
        if standing != last {
            (last, moved, still) = (standing, now, 0);
        } else {
            still += 1;
        }
        if !goal.reached(&last) {
            complete = None;
            if moved.elapsed() >= patience {
                progress.note("nothing moves any more: comparing what is there");
                return Ok(None);
            }
        } else if still >= STILL_LOOKS {
            return Ok(complete);
        } else if complete.is_none() {
            complete = Some(now);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
