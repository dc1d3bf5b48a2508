//! The loop: one task that looks at the partitions, decides and acts; woken by a change, an interval or a flush.
//!
//! A pass never waits for a store that does not answer longer than one request takes: it ends with an error, and the next one
//! comes after a pause that doubles up to a limit and is drawn by lot, without end. What needs no store (eviction of what
//! is committed, the log start) is done in every pass. Dropping a pass at any await is safe: the records say how to go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{PartitionId, TopicId};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::archive::run as archive_run;
use crate::core::Core;
use crate::host::{ArchiveSource, PartitionFacts};
use crate::offload::{Offloaded, offload};
use crate::plan::{PartitionPlan, PlanFacts, deletions, manifest_object_name, plan};
use crate::record::TierRecord;
use crate::report::{FlushReport, FlushRequest};

/// Objects that are deleted in one pass.
const DELETIONS_PER_PASS: usize = 1_000;

/// Small requests (deletions, exports) at the same time.
const SMALL_REQUESTS_IN_FLIGHT: usize = 4;

/// Flushes that may wait for the loop.
pub const FLUSHES_WAITING: usize = 64;

/// A flush and where its answer goes.
pub type Flush = (FlushRequest, oneshot::Sender<Result<FlushReport>>);

/// Runs until `stop` says so.
pub async fn run(
    core: Arc<Core>,
    wake: Arc<Notify>,
    mut flushes: mpsc::Receiver<Flush>,
    mut stop: watch::Receiver<bool>,
) {
    let mut service = Service { core, probed: false, failures: 0 };
    loop {
        let pause = service.pause();
        let flush = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            flush = flushes.recv() => match flush {
                Some(flush) => Some(flush),
                None => return,
            },
            () = wake.notified(), if service.failures == 0 => None,
            () = tokio::time::sleep(pause) => None,
        };
        let request = flush.as_ref().map(|(request, _)| request.clone());
        let outcome = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            outcome = Box::pin(service.pass(request)) => outcome,
        };
        if let Some((_, answer)) = flush {
            // the one who asked may have left
            let _ = answer.send(outcome);
        }
    }
}

struct Service {
    core: Arc<Core>,
    probed: bool,
    /// Passes that failed in a row.
    failures: u32,
}

/// What is collected during a pass.
#[derive(Default)]
struct Pass {
    report: FlushReport,
    errors: Vec<Error>,
}

impl Pass {
    fn note(&mut self, outcome: Result<()>) {
        self.errors.extend(outcome.err());
    }
}

impl Service {
    fn pause(&self) -> Duration {
        let config = &self.core.config;
        if self.failures == 0 {
            return Duration::from_millis(config.interval_ms);
        }
        let doubled = config.backoff_min_ms.saturating_mul(1 << (self.failures - 1).min(20));
        let longest = doubled.clamp(1, config.backoff_max_ms.max(1));
        Duration::from_millis(longest / 2 + self.core.draw() % (longest / 2 + 1))
    }

    async fn pass(&mut self, flush: Option<FlushRequest>) -> Result<FlushReport> {
        let outcome = self.collect(flush).await;
        let error = match &outcome {
            Ok(pass) => pass.errors.first(),
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            self.failures = self.failures.saturating_add(1);
            metrics::counter!("sunseo_tier_failed_passes_total").increment(1);
            tracing::warn!(%error, failures = self.failures, "a pass of the tier did not go through");
        } else {
            self.failures = 0;
        }
        self.core.set_last_error(error);
        metrics::gauge!("sunseo_tier_reachable").set(f64::from(u8::from(self.core.objects.reachable())));
        let pass = outcome?;
        pass.errors.into_iter().next().map_or(Ok(pass.report), Err)
    }

    async fn collect(&mut self, flush: Option<FlushRequest>) -> Result<Pass> {
        let core = Arc::clone(&self.core);
        let mut pass = Pass::default();
        core.journal.settle_earlier().await?;
        if !self.probed {
            let outcome = core.objects.probe(&probe_name(&core)).await;
            self.probed = outcome.is_ok();
            pass.note(outcome);
        }
        let wanted = |facts: &PartitionFacts| {
            flush.as_ref().is_none_or(|f| f.topic.is_empty() || f.topic == facts.topic)
        };
        let mut partitions = core.host.partitions().await?;
        remove_lost_topics(&core, &partitions).await?;
        if flush.as_ref().is_some_and(|f| f.seal) {
            for facts in partitions.iter().filter(|facts| facts.config.tiered && wanted(facts)) {
                pass.note(core.host.seal(facts.id).await);
            }
            partitions = core.host.partitions().await?;
        }
        partitions.retain(wanted);
        let sources = core.host.archives().await?;
        if self.probed {
            offload_all(&core, &partitions, &mut pass).await;
            archive_all(&core, &partitions, &sources, flush.is_some(), &mut pass).await;
        }
        let evict_all = flush.is_some_and(|f| f.evict);
        settle_all(&core, &sources, evict_all, &partitions, &mut pass).await?;
        if self.probed {
            pass.note(delete_doomed(&core).await);
            export_all(&core, &partitions, &mut pass).await;
        }
        Ok(pass)
    }
}

fn probe_name(core: &Core) -> String {
    format!("{}/probe/{:032x}", core.config.cluster, core.draw_unique())
}

fn plan_for(core: &Core, facts: &PartitionFacts, evict_all: bool, keep_from: i64) -> PartitionPlan {
    let at = PlanFacts {
        now_ms: core.clock.now_ms(),
        orphan_age_ms: core.config.orphan_age_ms,
        evict_all,
        keep_from,
    };
    core.journal.with(|manifest| plan(facts, manifest.partition(facts.id), at))
}

/// Bytes that wait for their upload.
pub fn pending_bytes(core: &Core, facts: &PartitionFacts) -> u64 {
    plan_for(core, facts, false, i64::MIN).pending_bytes
}

/// Topics that were deleted while nobody told the tier.
async fn remove_lost_topics(core: &Core, partitions: &[PartitionFacts]) -> Result<()> {
    let mut known: Vec<TopicId> = core.journal.with(|m| m.partitions().map(|(id, _)| id.topic_id).collect());
    known.dedup();
    for topic_id in known {
        let listed = partitions.iter().any(|facts| facts.id.topic_id == topic_id);
        if !listed && !core.host.topic_exists(topic_id).await? {
            remove_topic(core, topic_id).await?;
        }
    }
    Ok(())
}

/// Forgets a topic; durable when it returns.
pub async fn remove_topic(core: &Core, topic_id: TopicId) -> Result<()> {
    let (removed, partitions) = core.journal.with(|m| {
        let ids: Vec<PartitionId> =
            m.partitions().map(|(id, _)| *id).filter(|id| id.topic_id == topic_id).collect();
        (m.is_removed(topic_id), ids)
    });
    if removed {
        return Ok(());
    }
    core.journal.append(TierRecord::TopicRemoved { topic_id, at_ms: core.clock.now_ms() }).await?;
    for id in partitions {
        core.forget_exported(id);
    }
    Ok(())
}

async fn offload_all(core: &Core, partitions: &[PartitionFacts], pass: &mut Pass) {
    let store_failed = AtomicBool::new(false);
    let work: Vec<BoxFuture<'_, _>> =
        partitions.iter().map(|facts| offload_one(core, facts, &store_failed).boxed()).collect();
    let mut outcomes = futures::stream::iter(work).buffer_unordered(core.config.uploads_in_flight.max(1));
    while let Some((done, outcome)) = outcomes.next().await {
        pass.report.segments_offloaded += done.segments;
        pass.report.bytes_offloaded += done.bytes;
        pass.note(outcome);
    }
}

async fn offload_one(
    core: &Core,
    facts: &PartitionFacts,
    store_failed: &AtomicBool,
) -> (Offloaded, Result<()>) {
    let uploads = plan_for(core, facts, false, i64::MIN).uploads;
    if uploads.is_empty() || store_failed.load(Ordering::Relaxed) {
        return (Offloaded::default(), Ok(()));
    }
    let (done, outcome) = offload(core, facts, uploads).await;
    if outcome.as_ref().is_err_and(|e| e.code == ErrorCode::ObjectStore) {
        store_failed.store(true, Ordering::Relaxed);
    }
    (done, outcome)
}

async fn archive_all(
    core: &Core,
    partitions: &[PartitionFacts],
    sources: &[ArchiveSource],
    flush: bool,
    pass: &mut Pass,
) {
    let (tables, errors) = archive_run::tables(sources);
    pass.errors.extend(errors);
    for facts in partitions {
        let mut outcomes = vec![archive_run::finish_open_cuts(core, facts.id).await];
        for table in tables.iter().filter(|table| table.definition.topic == facts.topic) {
            outcomes.push(archive_run::archive(core, table, facts, flush).await);
        }
        for outcome in outcomes {
            match outcome {
                Ok(archived) => {
                    pass.report.archive_files += archived.files;
                    pass.report.archive_rows += archived.rows;
                }
                Err(error) => pass.errors.push(error),
            }
        }
    }
}

/// Removal, log start and eviction, by facts that are fresh after the uploads.
async fn settle_all(
    core: &Core,
    sources: &[ArchiveSource],
    evict_all: bool,
    partitions: &[PartitionFacts],
    pass: &mut Pass,
) -> Result<()> {
    let fresh: HashMap<PartitionId, PartitionFacts> =
        core.host.partitions().await?.into_iter().map(|facts| (facts.id, facts)).collect();
    for facts in partitions.iter().filter_map(|stale| fresh.get(&stale.id)) {
        match settle(core, sources, evict_all, facts).await {
            Ok(evicted) => pass.report.segments_evicted += evicted,
            Err(error) => pass.errors.push(error),
        }
    }
    Ok(())
}

async fn settle(
    core: &Core,
    sources: &[ArchiveSource],
    evict_all: bool,
    facts: &PartitionFacts,
) -> Result<u32> {
    let plan = plan_for(core, facts, evict_all, archive_run::keep_from(core, sources, facts));
    let at_ms = core.clock.now_ms();
    metrics::gauge!("sunseo_tier_pending_bytes", "partition" => facts.id.to_string())
        .set(plan.pending_bytes as f64);
    for key in plan.abandon {
        core.journal.append(TierRecord::Abandoned { key, at_ms }).await?;
    }
    if let Some(through) = plan.remove_through {
        core.journal.append(TierRecord::Removed { partition: facts.id.into(), through, at_ms }).await?;
    }
    if let Some(offset) = plan.log_start {
        core.host.set_log_start(facts.id, offset).await?;
    }
    match plan.evict_before {
        Some(before) => core.host.evict_local(facts.id, before).await,
        None => Ok(0),
    }
}

async fn delete_doomed(core: &Core) -> Result<()> {
    let now_ms = core.clock.now_ms();
    let ripe = core.journal.with(|m| deletions(m, now_ms, core.config.delete_delay_ms, DELETIONS_PER_PASS));
    if ripe.is_empty() {
        return Ok(());
    }
    let work: Vec<BoxFuture<'_, Result<String>>> = ripe
        .into_iter()
        .map(|object| async move { core.objects.delete(&object).await.map(|()| object) }.boxed())
        .collect();
    let mut outcomes = futures::stream::iter(work).buffer_unordered(SMALL_REQUESTS_IN_FLIGHT);
    let (mut objects, mut failed) = (Vec::new(), Ok(()));
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok(object) => objects.push(object),
            Err(error) => failed = Err(error),
        }
    }
    drop(outcomes);
    if !objects.is_empty() {
        metrics::counter!("sunseo_tier_deleted_objects_total").increment(objects.len() as u64);
        core.journal.append(TierRecord::Deleted { objects }).await?;
    }
    failed
}

async fn export_all(core: &Core, partitions: &[PartitionFacts], pass: &mut Pass) {
    let work: Vec<BoxFuture<'_, _>> = partitions.iter().map(|facts| export(core, facts).boxed()).collect();
    let mut outcomes = futures::stream::iter(work).buffer_unordered(SMALL_REQUESTS_IN_FLIGHT);
    while let Some(outcome) = outcomes.next().await {
        pass.note(outcome);
    }
}

/// Writes the partition's manifest to the bucket if it changed, then deletes the copy before it.
async fn export(core: &Core, facts: &PartitionFacts) -> Result<()> {
    let id = facts.id;
    let (sequence, content) = core.journal.with(|manifest| match manifest.partition(id) {
        Some(partition) if core.exported(id).is_none_or(|(known, _)| known != partition.sequence()) => {
            (partition.sequence(), manifest.export(id))
        }
        _ => (0, Bytes::new()),
    });
    if sequence == 0 {
        return Ok(());
    }
    let object = manifest_object_name(&core.config.cluster, id, facts.leader_epoch, sequence);
    let older = match core.exported(id) {
        Some((_, older)) => older.into_iter().collect(),
        None => {
            let folder = format!("{}/man/{}/{}", core.config.cluster, id.topic_id, id.partition);
            core.objects.list(&folder).await?
        }
    };
    core.objects.overwrite(&object, &[content]).await?;
    core.set_exported(id, sequence, Some(object.clone()));
    for name in older.iter().filter(|name| **name != object) {
        core.objects.delete(name).await?;
    }
    Ok(())
}
