//! Facts to the status report.

use sunseo_proto::error::Result;

use crate::archive::definition::Definition;
use crate::core::Core;
use crate::host::PartitionFacts;
use crate::report::{ArchiveStatus, TierPartitionStatus, TierStatus};
use crate::service::pending_bytes;

pub async fn status(core: &Core, topic: &str) -> Result<TierStatus> {
    let wanted = |name: &str| topic.is_empty() || name == topic;
    let mut facts = core.host.partitions().await?;
    facts.retain(|f| wanted(&f.topic));
    facts.sort_by_key(|f| (f.topic.clone(), f.id));
    let sources = core.host.archives().await?;
    let defined: Vec<Definition> = sources.iter().filter_map(|s| Definition::parse(&s.body).ok()).collect();
    let partitions: Vec<TierPartitionStatus> = facts.iter().filter_map(|f| partition(core, f)).collect();
    let archives: Vec<ArchiveStatus> = tables(core, &defined)
        .into_iter()
        .filter(|(_, table_topic)| wanted(table_topic))
        .map(|(table, table_topic)| archive(core, &facts, table, table_topic))
        .collect();
    Ok(TierStatus {
        store: core.objects.name().to_owned(),
        reachable: core.objects.reachable(),
        objects: partitions.iter().map(|p| u64::from(p.segments)).sum::<u64>()
            + archives.iter().map(|a| a.files).sum::<u64>(),
        bytes: partitions.iter().map(|p| p.bytes).sum::<u64>()
            + archives.iter().map(|a| a.bytes).sum::<u64>(),
        partitions,
        archives,
        bytes_read_back: core.reader.delivered_bytes(),
        bytes_fetched: core.reader.fetched_bytes(),
        last_error: core.last_error(),
    })
}

fn partition(core: &Core, facts: &PartitionFacts) -> Option<TierPartitionStatus> {
    let pending_bytes = pending_bytes(core, facts);
    core.journal.with(|manifest| {
        let known = manifest.partition(facts.id);
        if known.is_none() && !facts.config.tiered {
            return None;
        }
        let first = known.and_then(|p| p.segments().next());
        Some(TierPartitionStatus {
            id: facts.id,
            topic: facts.topic.clone(),
            segments: known.map_or(0, |p| p.segments().count() as u32),
            bytes: known.map_or(0, |p| p.bytes()),
            offloaded_from: first.map_or(facts.log_start, |s| s.key.base_offset),
            offloaded_to: known.map_or(facts.log_start, |p| p.offloaded_to()),
            pending_bytes,
        })
    })
}

/// Tables that are defined, and those that were and have files.
fn tables(core: &Core, defined: &[Definition]) -> Vec<(String, String)> {
    let mut tables: Vec<(String, String)> =
        defined.iter().map(|d| (d.table.clone(), d.topic.clone())).collect();
    core.journal.with(|manifest| {
        for (name, table) in manifest.archive().tables() {
            if !tables.iter().any(|(known, _)| known == name) {
                tables.push((name.clone(), table.topic.clone()));
            }
        }
    });
    tables.sort();
    tables.dedup_by(|a, b| a.0 == b.0);
    tables
}

fn archive(core: &Core, facts: &[PartitionFacts], table: String, topic: String) -> ArchiveStatus {
    core.journal.with(|manifest| {
        let ledger = manifest.archive().table(&table);
        let lag = facts.iter().filter(|f| f.topic == topic).map(|f| {
            let through =
                ledger.and_then(|l| l.progress(f.id)).map_or(f.log_start, |p| p.through.max(f.log_start));
            u64::try_from(f.high_watermark.saturating_sub(through)).unwrap_or(0)
        });
        ArchiveStatus {
            lag: lag.sum(),
            files: ledger.map_or(0, |l| l.files().len() as u64),
            rows: ledger.map_or(0, |l| l.rows()),
            bytes: ledger.map_or(0, |l| l.bytes()),
            bad_rows: ledger.map_or(0, |l| l.bad_rows()),
            table,
            topic,
        }
    })
}
