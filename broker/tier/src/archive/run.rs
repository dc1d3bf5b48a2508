//! The archive's shell: reads records, commits cuts, writes files.
//!
//! Order of a cut: read and encode, append [`ArchiveCut`], PUT, append [`ArchiveDone`]. A crash after the first record leaves an
//! open cut; it is built again from its range and its own copy of the definition, and gives the same objects.

use sunseo_proto::PartitionId;
use sunseo_proto::error::{Error, ErrorCode, Result};

use super::WRITER_VERSION;
use super::cut::{CutBuilder, CutLimits, CutObject, CutObjects, CutSource};
use super::definition::{Begin, Definition};
use super::ledger::{ArchiveCut, ArchiveDone, ArchiveFile, ArchiveOpened};
use super::plan::{CutFacts, decide};
use crate::core::Core;
use crate::host::{ArchiveSource, PartitionFacts};
use crate::objects::Put;
use crate::record::TierRecord;

/// Bytes of batches that are read at once for a cut.
const READ_BYTES: usize = 8 << 20;

/// Bytes at the end of an archive file that are searched for its owner.
const OWNER_BYTES: u64 = 1 << 20;

/// A definition with the text it came from.
#[derive(Clone, Debug)]
pub struct Table {
    pub definition: Definition,
    body: String,
}

/// What was archived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    pub files: u32,
    pub rows: u64,
}

/// The usable tables, and what is wrong with the others.
pub fn tables(sources: &[ArchiveSource]) -> (Vec<Table>, Vec<Error>) {
    let (mut tables, mut errors) = (Vec::<Table>::new(), Vec::new());
    for source in sources {
        let parsed = Definition::parse(&source.body).and_then(|definition| {
            if let Some(other) = tables.iter().find(|t| t.definition.table == definition.table) {
                let message =
                    format!("table {} is defined twice: keep one definition", other.definition.table);
                return Err(Error::invalid("table", message));
            }
            let body = String::from_utf8_lossy(&source.body).into_owned();
            Ok(Table { definition, body })
        });
        match parsed {
            Ok(table) => tables.push(table),
            Err(error) => {
                let message = format!("archive definition {}: {}", source.name, error.message);
                errors.push(Error { message, ..error });
            }
        }
    }
    (tables, errors)
}

/// First offset of a partition that some table still needs; what is below may be removed.
pub fn keep_from(core: &Core, sources: &[ArchiveSource], facts: &PartitionFacts) -> i64 {
    let (tables, _) = tables(sources);
    let broken = sources.iter().filter(|source| Definition::parse(&source.body).is_err());
    if broken.filter_map(|source| Definition::topic_of(&source.body)).any(|topic| topic == facts.topic) {
        return facts.log_start;
    }
    core.journal.with(|manifest| {
        let ledger = manifest.archive();
        let wanted = tables.iter().filter(|table| table.definition.topic == facts.topic).map(|table| {
            let progress = ledger.table(&table.definition.table).and_then(|t| t.progress(facts.id));
            progress.map_or(facts.log_start, |p| p.through)
        });
        let open = ledger
            .tables()
            .filter_map(|(_, table)| table.progress(facts.id))
            .filter_map(|p| p.open_cut.as_ref());
        wanted.chain(open.map(|cut| cut.from)).min().unwrap_or(i64::MAX)
    })
}

/// Finishes every open cut of a partition, whether its table is still defined or not.
pub async fn finish_open_cuts(core: &Core, id: PartitionId) -> Result<Archived> {
    let open: Vec<(ArchiveCut, usize)> = core.journal.with(|manifest| {
        let progress = manifest.archive().tables().filter_map(|(_, table)| table.progress(id));
        progress.filter_map(|p| p.open_cut.clone().map(|cut| (cut, p.incarnation))).collect()
    });
    let mut archived = Archived::default();
    for (cut, incarnation) in open {
        let definition = Definition::parse(cut.definition.as_bytes())?;
        let source = CutSource { partition: id, incarnation, from: cut.from };
        let builder = fill(core, CutBuilder::new(definition, source, CutLimits::exactly(cut.to))).await?;
        if builder.next_offset() != cut.to {
            let message = format!(
                "table {}: records {}..{} of a committed cut are not readable up to its end",
                cut.table, cut.from, cut.to
            );
            return Err(Error::new(ErrorCode::CorruptLog, message));
        }
        let objects = encode(builder).await?;
        let done = write(core, &cut, objects).await?;
        archived.files += done.files;
        archived.rows += done.rows;
    }
    Ok(archived)
}

/// Cuts one table's partition as long as there is something to cut.
pub async fn archive(core: &Core, table: &Table, facts: &PartitionFacts, flush: bool) -> Result<Archived> {
    let mut archived = Archived::default();
    open_partition(core, table, facts).await?;
    loop {
        let progress = core
            .journal
            .with(|m| m.archive().table(&table.definition.table).and_then(|t| t.progress(facts.id)).cloned());
        let Some(progress) = progress else { return Ok(archived) };
        let cut_facts = CutFacts {
            log_start: facts.log_start,
            high_watermark: facts.last_stable,
            now_ms: core.clock.now_ms(),
            flush,
            rows: core.config.archive_rows.max(1),
            age_ms: core.config.archive_age_ms,
        };
        let Some(range) = decide(&progress, cut_facts) else { return Ok(archived) };
        if range.start > progress.through {
            tracing::warn!(
                table = table.definition.table,
                partition = %facts.id,
                from = progress.through,
                to = range.start,
                "records were deleted before they were archived"
            );
        }
        let limits =
            CutLimits { end: range.end, records: cut_facts.rows, bytes: core.config.archive_cut_bytes };
        let source = CutSource { partition: facts.id, incarnation: progress.incarnation, from: range.start };
        let builder = fill(core, CutBuilder::new(table.definition.clone(), source, limits)).await?;
        let cut = ArchiveCut {
            table: table.definition.table.clone(),
            partition: facts.id.into(),
            from: range.start,
            to: builder.next_offset(),
            definition: table.body.clone(),
            writer_version: WRITER_VERSION,
            at_ms: cut_facts.now_ms,
        };
        if cut.to <= cut.from {
            return Ok(archived);
        }
        let objects = encode(builder).await?;
        core.journal.append(TierRecord::ArchiveCut(cut.clone())).await?;
        if !is_open(core, &cut) {
            // an earlier cut of this partition came first; it is finished in the next pass
            return Ok(archived);
        }
        let done = write(core, &cut, objects).await?;
        archived.files += done.files;
        archived.rows += done.rows;
    }
}

fn is_open(core: &Core, cut: &ArchiveCut) -> bool {
    core.journal.with(|manifest| {
        let table = manifest.archive().table(&cut.table);
        table.and_then(|t| t.progress(cut.partition.id())).is_some_and(|p| p.open_cut.as_ref() == Some(cut))
    })
}

async fn open_partition(core: &Core, table: &Table, facts: &PartitionFacts) -> Result<()> {
    let name = &table.definition.table;
    let known =
        core.journal.with(|m| m.archive().table(name).is_some_and(|t| t.progress(facts.id).is_some()));
    if known {
        return Ok(());
    }
    let from = match table.definition.from {
        Begin::Start => facts.log_start,
        Begin::End => facts.last_stable,
    };
    let opened = ArchiveOpened {
        table: name.clone(),
        partition: facts.id.into(),
        topic: facts.topic.clone(),
        from,
        at_ms: core.clock.now_ms(),
    };
    core.journal.append(TierRecord::ArchiveOpened(opened)).await
}

/// Reads until the builder is full or the log ends; rows are parsed beside the runtime.
async fn fill(core: &Core, mut builder: CutBuilder) -> Result<CutBuilder> {
    while !builder.is_full() {
        let from = builder.next_offset();
        let batches = core.host.read(builder.partition(), from, READ_BYTES).await?;
        if batches.is_empty() {
            break;
        }
        let work = move || builder.push(batches).map(|()| builder);
        builder = beside(work).await?;
        if builder.next_offset() == from && !builder.is_full() {
            let message =
                format!("reading {} at offset {from} gave batches that end before it", builder.partition());
            return Err(Error::internal(message));
        }
    }
    Ok(builder)
}

async fn encode(builder: CutBuilder) -> Result<CutObjects> {
    beside(move || builder.finish()).await
}

async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Error::internal(format!("archiving stopped: {e}"))))
}

async fn write(core: &Core, cut: &ArchiveCut, objects: CutObjects) -> Result<Archived> {
    let mut files = Vec::with_capacity(objects.files.len());
    for object in objects.files {
        files.push(write_object(core, cut, object).await?);
    }
    let bad = match objects.bad {
        Some(object) => Some(write_object(core, cut, object).await?),
        None => None,
    };
    let archived = Archived { files: files.len() as u32, rows: files.iter().map(|f| f.rows).sum() };
    metrics::counter!("sunseo_archive_files_total").increment(u64::from(archived.files));
    metrics::counter!("sunseo_archive_rows_total").increment(archived.rows);
    let bad_rows = bad.as_ref().map_or(0, |b| b.rows);
    metrics::counter!("sunseo_archive_bad_rows_total", "table" => cut.table.clone()).increment(bad_rows);
    if bad_rows > 0 {
        tracing::warn!(table = cut.table, rows = bad_rows, "records do not fit the table and lie under bad/");
    }
    let done = ArchiveDone {
        table: cut.table.clone(),
        partition: cut.partition,
        from: cut.from,
        to: cut.to,
        files,
        bad,
        at_ms: core.clock.now_ms(),
    };
    core.journal.append(TierRecord::ArchiveDone(done)).await?;
    Ok(archived)
}

/// Other bytes under the name are half of ours after a power cut, or those of an older writer for the same range: ours are
/// right. Those of another topic's life or another cluster are not ours to replace.
async fn write_object(core: &Core, cut: &ArchiveCut, object: CutObject) -> Result<ArchiveFile> {
    let name = object.file.object.clone();
    let parts = [object.bytes];
    if core.objects.put_exactly(&name, &parts).await? == Put::Different {
        if is_foreign(core, &name, &cut.partition.topic_id.to_string()).await? {
            let message = format!(
                "{name} was written for another topic or by another cluster: give the table another name or the cluster its own prefix"
            );
            return Err(Error::new(ErrorCode::AlreadyExists, message));
        }
        tracing::warn!(object = name, "an archive file had other bytes and is written again");
        core.objects.overwrite(&name, &parts).await?;
    }
    Ok(object.file)
}

/// Whether an object is whole and does not name the topic. The name of the topic stands in the footer of a Parquet file and in
/// every line of a file of bad records.
async fn is_foreign(core: &Core, object: &str, topic_id: &str) -> Result<bool> {
    let Some(length) = core.objects.length(object).await? else { return Ok(false) };
    let tail = core.objects.get_range(object, length.saturating_sub(OWNER_BYTES), length).await?;
    let whole = tail.ends_with(b"PAR1") || tail.ends_with(b"}\n");
    let names_topic = tail.windows(topic_id.len()).any(|window| window == topic_id.as_bytes());
    Ok(whole && !names_topic)
}
