//! Compacts partitions in the background: one at a time, the dirtiest first, at a bounded rate.
//!
//! The work (reading sealed segments, writing new ones) is done on a blocking thread, a few megabytes at a time; the log's thread only says what
//! there is and puts finished segments in their place. An error ends the run of that partition and lets it rest for a while.
//!
//! Not here: what stays of a segment ([`sunseo_log::clean`]), files that go after a checkpoint.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sunseo_log::clean::{AbortedData, CleanJob, CleanStep, Dirt};
use sunseo_log::{AbortedRange, LogError};
use sunseo_proto::PartitionId;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, Result};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::log_thread::{LogThread, Owner};
use crate::partition::Partition;

/// Bytes that runs read in a second, so that they leave the disk to others.
const READ_BYTES_PER_SECOND: u64 = 64 << 20;
/// How long a partition rests after a run that ended with an error.
const REST_MS: i64 = 60_000;

/// The background task.
#[derive(Debug)]
pub(crate) struct Cleaner {
    task: JoinHandle<()>,
    /// Held while a step works on files.
    working: Arc<tokio::sync::Mutex<()>>,
}

impl Cleaner {
    pub(crate) fn start(log: LogThread, clock: Arc<dyn Clock>, interval: Duration) -> Self {
        let working = Arc::new(tokio::sync::Mutex::new(()));
        let passes = Passes { log, clock, working: Arc::clone(&working), resting: BTreeMap::new() };
        Self { task: tokio::spawn(passes.run(interval)), working }
    }

    /// Ends a run where it is; returns when nothing works on files any more.
    pub(crate) async fn stop(&self) {
        self.task.abort();
        drop(self.working.lock().await);
    }

    /// Ends it without waiting, as a crash would.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }
}

/// Offset that no run may touch or pass: what is above it may not be committed, or belong to a transaction that is not decided.
pub(crate) fn limit_of(partition: &Partition) -> i64 {
    partition.last_stable().unwrap_or(0)
}

/// The aborted ranges of a partition, by producer.
#[derive(Debug, Default)]
struct AbortedRanges(HashMap<i64, Vec<AbortedRange>>);

impl AbortedRanges {
    fn new(ranges: Vec<AbortedRange>) -> Self {
        let mut by_producer: HashMap<i64, Vec<AbortedRange>> = HashMap::new();
        for range in ranges {
            by_producer.entry(range.producer_id).or_default().push(range);
        }
        Self(by_producer)
    }
}

impl AbortedData for AbortedRanges {
    fn is_aborted(&self, producer_id: i64, base_offset: i64) -> bool {
        let ranges = self.0.get(&producer_id).map_or(&[][..], Vec::as_slice);
        // a producer's transactions follow one another, so its ranges do too
        let after = ranges.partition_point(|range| range.last_offset < base_offset);
        ranges.get(after).is_some_and(|range| range.first_offset <= base_offset)
    }
}

/// The partition that is worth it most. Pure.
fn choose(found: &[(PartitionId, Dirt)]) -> Option<PartitionId> {
    let due = found.iter().filter(|(_, dirt)| dirt.due);
    due.max_by_key(|(_, dirt)| (dirt.permille(), dirt.dirty_bytes)).map(|(id, _)| *id)
}

struct Passes {
    log: LogThread,
    clock: Arc<dyn Clock>,
    working: Arc<tokio::sync::Mutex<()>>,
    /// Partitions whose last run failed, with when they may be tried again.
    resting: BTreeMap<PartitionId, i64>,
}

impl Passes {
    async fn run(mut self, interval: Duration) {
        // not at once: a start has other things to do
        let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.pass().await.is_err() {
                // the node is stopping
                return;
            }
        }
    }

    /// Cleans until nothing is due; returns the number of runs.
    async fn pass(&mut self) -> Result<u32> {
        let mut runs = 0;
        while let Some(id) = self.next().await? {
            match self.clean(id).await {
                Ok(true) => runs += 1,
                Ok(false) => return Ok(runs),
                Err(error) => {
                    tracing::warn!(partition = %id, %error, "compaction of a partition was given up for now");
                    self.resting.insert(id, self.clock.now_ms().saturating_add(REST_MS));
                }
            }
        }
        Ok(runs)
    }

    async fn next(&mut self) -> Result<Option<PartitionId>> {
        let now_ms = self.clock.now_ms();
        self.resting.retain(|_, until_ms| *until_ms > now_ms);
        let compacted = |partition: &Arc<Partition>| {
            partition.settings().compaction.is_some() && !self.resting.contains_key(&partition.id)
        };
        let partitions: Vec<_> = self.log.partitions().all().into_iter().filter(compacted).collect();
        if partitions.is_empty() {
            return Ok(None);
        }
        let look = move |owner: &mut Owner| {
            let mut found = Vec::new();
            for partition in partitions {
                // one that has just been deleted is not found
                if let Ok(Some(dirt)) = owner.store().dirt(partition.id, limit_of(&partition), now_ms) {
                    found.push((partition.id, dirt));
                }
            }
            choose(&found)
        };
        self.log.call(look).await
    }

    /// One run; `false` when there was nothing to do after all.
    async fn clean(&self, id: PartitionId) -> Result<bool> {
        let Some(partition) = self.log.partitions().get(id) else { return Ok(false) };
        // in this order: what is below the limit is decided, and known as aborted if it is
        let (limit, now_ms) = (limit_of(&partition), self.clock.now_ms());
        let aborted = self.aborted(&partition, limit).await?;
        let begin = move |owner: &mut Owner| owner.store().begin_clean(id, limit, now_ms, aborted);
        let Some(mut job) = self.log.call(begin).await?? else { return Ok(false) };
        loop {
            let (stepped, step) = self.step(job).await?;
            job = stepped;
            match step {
                Ok(CleanStep::More { read_bytes }) => self.pause(read_bytes).await,
                Ok(CleanStep::Replace(replacement)) => {
                    let switch = move |owner: &mut Owner| Ok(owner.store().switch_cleaned(&replacement)?);
                    if !self.log.commit(Some(id), switch).await? {
                        // its segments went meanwhile, or it is not compacted any more
                        return Ok(true);
                    }
                }
                Ok(CleanStep::Done(finished)) => {
                    metrics::counter!("sunseo_compaction_runs_total").increment(1);
                    metrics::counter!("sunseo_compaction_removed_bytes_total")
                        .increment(finished.removed_bytes);
                    metrics::counter!("sunseo_compaction_read_bytes_total").increment(finished.read_bytes);
                    let finish = move |owner: &mut Owner| Ok(owner.store().finish_clean(id, finished)?);
                    self.log.commit(Some(id), finish).await?;
                    return Ok(true);
                }
                Err(error) => {
                    job.discard();
                    return Err(self.abandoned(id, error).await);
                }
            }
        }
    }

    /// May look at the disk.
    async fn aborted(&self, partition: &Arc<Partition>, limit: i64) -> Result<Arc<dyn AbortedData>> {
        let partition = Arc::clone(partition);
        let look = move || partition.reader.aborted(partition.reader.log_start(), limit);
        let ranges = tokio::task::spawn_blocking(look).await;
        let ranges =
            ranges.map_err(|error| Error::internal(format!("reading aborted ranges: {error}")))??;
        Ok(Arc::new(AbortedRanges::new(ranges)))
    }

    /// A step on a blocking thread, which a stop waits for.
    async fn step(&self, mut job: CleanJob) -> Result<(CleanJob, std::result::Result<CleanStep, LogError>)> {
        let working = Arc::clone(&self.working).lock_owned().await;
        let work = move || {
            let step = job.step();
            drop(working);
            (job, step)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Error::internal(format!("a step of compaction: {error}")))
    }

    async fn pause(&self, read_bytes: u64) {
        let millis = read_bytes.saturating_mul(1_000) / READ_BYTES_PER_SECOND;
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    async fn abandoned(&self, id: PartitionId, error: LogError) -> Error {
        let told = error.clone();
        let abandon = move |owner: &mut Owner| {
            owner.store().abandon_clean(id, &told);
            Ok(())
        };
        match self.log.commit(None, abandon).await {
            Ok(()) => error.into(),
            Err(stopping) => stopping,
        }
    }
}

/// Everything that is due, at once.
#[cfg(test)]
pub(crate) async fn pass(log: &LogThread, clock: Arc<dyn Clock>) -> Result<u32> {
    let working = Arc::default();
    Passes { log: log.clone(), clock, working, resting: BTreeMap::new() }.pass().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use sunseo_proto::TopicId;

    #[test]
    fn a_batch_is_aborted_when_a_range_of_its_producer_holds_it() {
        let range =
            |producer_id, first_offset, last_offset| AbortedRange { producer_id, first_offset, last_offset };
        let ranges = AbortedRanges::new(vec![range(7, 2, 5), range(8, 3, 9), range(7, 10, 12)]);
        let found: Vec<i64> = (0..14).filter(|offset| ranges.is_aborted(7, *offset)).collect();
        assert_eq!(found, [2, 3, 4, 5, 10, 11, 12]);
        assert!(!ranges.is_aborted(9, 4));
    }

    #[test]
    fn the_dirtiest_that_is_due_comes_first() {
        let id = |partition| PartitionId { topic_id: TopicId::random(), partition };
        let dirt = |clean_bytes, dirty_bytes, due| Dirt { clean_bytes, dirty_bytes, due, cleanable_end: 1 };
        let found = [
            (id(0), dirt(0, 900, false)),
            (id(1), dirt(50, 50, true)),
            (id(2), dirt(100, 300, true)),
            (id(3), dirt(10, 30, true)),
        ];
        assert_eq!(choose(&found).map(|id| id.partition), Some(2));
        assert_eq!(choose(&found[..1]), None);
    }
}
