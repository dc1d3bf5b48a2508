//! A data directory read offline, without changing it: what `sunseo log dump|verify DIR` shows.
//!
//! Nothing is locked: of a directory that is in use the newest segment and the journal may be seen half written.

mod aborted;

use std::collections::BTreeMap;
use std::path::Path;

use sunseo_proto::PartitionId;
use sunseo_proto::batch::{self, Compression, Ending};

use aborted::Aborted;

use crate::checkpoint::{self, Checkpoint};
use crate::disk::{Context as _, Disk, read_all};
use crate::entry::{Ended, Entry};
use crate::index::SparseIndex;
use crate::open::journal_files;
use crate::recover::Replay;
use crate::segment::{
    INDEX_SUFFIX, LOG_SUFFIX, Name, PARTITIONS, directory_of, name_of, name_of_facts, partition_of, path_of,
};
use crate::walk::{Stop, Walk};
use crate::{LogError, RealDisk, SealedFacts, journal};

/// Segments that were written by the cleaner.
type CleanedSegments = BTreeMap<PartitionId, Vec<SealedFacts>>;
/// Base and bytes of the active segment in the checkpoint, and the end.
type DurableEnds = BTreeMap<PartitionId, ((i64, u64), i64)>;

/// One segment as its bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentDump {
    pub id: PartitionId,
    pub base_offset: i64,
    /// 0 as it was appended, higher when it was compacted.
    pub generation: u32,
    /// Offset after the last record that is whole.
    pub end_offset: i64,
    /// Bytes of whole batches.
    pub bytes: u64,
    /// Bytes after them: preallocated room, or a torn tail.
    pub tail_bytes: u64,
    pub sealed: bool,
    pub batches: Vec<BatchDump>,
    pub index_entries: usize,
    /// What is wrong, if anything.
    pub problems: Vec<String>,
}

/// One batch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchDump {
    pub base_offset: i64,
    pub last_offset: i64,
    pub records: i32,
    pub bytes: usize,
    /// Where it stands in the segment.
    pub at: u64,
    pub leader_epoch: i32,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub max_timestamp_ms: i64,
    pub compression: &'static str,
    pub transactional: bool,
    /// How the transaction of its producer ended, if it is the marker of that.
    pub marker: Option<Ending>,
}

/// The sum of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub partitions: usize,
    pub segments: usize,
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
    pub journal_frames: u64,
    /// Aborted transactions in files beside the segments.
    pub aborted_ranges: u64,
    /// One line for each thing that is wrong, naming file and place. Empty when the directory is sound.
    pub problems: Vec<String>,
}

/// Hands every segment of the directory to `each`, partition by partition, oldest first.
///
/// # Errors
/// When the directory cannot be read; damage inside of it is reported in the segment.
pub fn dump(dir: &Path, each: &mut dyn FnMut(SegmentDump)) -> Result<(), LogError> {
    let disk = RealDisk::existing(dir).context("cannot open", dir)?;
    let checkpoint = checkpoint::read(&disk)?;
    let (durable, cleaned) = (durable_ends(&checkpoint), cleaned_segments(&disk, &checkpoint)?);
    dump_disk(&disk, &durable, &cleaned, each)
}

/// Checks every checksum, the order of offsets, indexes, files of aborted transactions, journal and checkpoint.
///
/// # Errors
/// When the directory cannot be read.
pub fn verify(dir: &Path) -> Result<VerifyReport, LogError> {
    let disk = RealDisk::existing(dir).context("cannot open", dir)?;
    verify_disk(&disk)
}

pub(crate) fn verify_disk(disk: &dyn Disk) -> Result<VerifyReport, LogError> {
    let mut report = VerifyReport::default();
    let checkpoint = match checkpoint::read(disk) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            report.problems.push(error.to_string());
            Checkpoint::default()
        }
    };
    let (durable, cleaned) = (durable_ends(&checkpoint), cleaned_segments(disk, &checkpoint)?);
    let aborted = Aborted::read(disk, &checkpoint, &mut report.problems);
    report.aborted_ranges = aborted.ranges();
    verify_journal(disk, checkpoint, &mut report)?;
    let mut ends: BTreeMap<PartitionId, i64> = BTreeMap::new();
    dump_disk(disk, &durable, &cleaned, &mut |segment| {
        let file = path_of(segment.id, (segment.base_offset, segment.generation), LOG_SUFFIX);
        let expected = ends.insert(segment.id, segment.end_offset);
        if expected.is_some_and(|expected| expected != segment.base_offset) {
            let found = format!("{}: offsets before it end at {}", file.display(), expected.unwrap_or(0));
            report.problems.push(found);
        }
        aborted.check(&segment, &mut report.problems);
        report.segments += 1;
        report.batches += segment.batches.len() as u64;
        report.records += segment.batches.iter().map(|batch| batch.records as u64).sum::<u64>();
        report.bytes += segment.bytes;
        report.problems.extend(segment.problems);
    })?;
    for (id, (_, end)) in &durable {
        let found = ends.get(id).copied();
        if found.is_none_or(|found| found < *end) {
            let found = found.map_or("nothing is there".into(), |end| format!("they end at {end}"));
            report.problems.push(format!("partition {id}: records up to {end} were durable, {found}"));
        }
    }
    report.partitions = ends.len();
    Ok(report)
}

/// Base and bytes of the active segment as the checkpoint has it, and the end: what must be there.
fn durable_ends(checkpoint: &Checkpoint) -> DurableEnds {
    let states = checkpoint.partitions.iter().filter_map(|(id, state)| Some((*id, state.as_ref().ok()?)));
    states.map(|(id, state)| (id, ((state.active.base, state.active.bytes), state.end()))).collect()
}

/// Segments that the cleaner wrote and that count, by partition: those of the checkpoint, then those of the journal.
fn cleaned_segments(disk: &dyn Disk, checkpoint: &Checkpoint) -> Result<CleanedSegments, LogError> {
    let states = checkpoint.partitions.iter().filter_map(|(id, state)| Some((*id, state.as_ref().ok()?)));
    let mut frames_seen = BTreeMap::new();
    let mut cleaned = CleanedSegments::new();
    for (id, state) in states {
        frames_seen.insert(id, state.frame);
        let of_state = state.sealed.iter().filter(|facts| facts.generation > 0).copied();
        cleaned.insert(id, of_state.collect());
    }
    for sequence in journal_files(disk)?.into_iter().filter(|sequence| *sequence >= checkpoint.journal_from) {
        let path = journal::path_of(sequence);
        let scanned = journal::scan(&read_all(disk, &path).context("cannot read", &path)?, sequence);
        for frame in scanned.frames {
            for (id, entry) in frame.entries {
                if let Entry::Replace { from, to, by } = entry
                    && frames_seen.get(&id).is_none_or(|seen| frame.number > *seen)
                {
                    let of_partition = cleaned.entry(id).or_default();
                    of_partition.retain(|facts| facts.base_offset < from || facts.base_offset >= to);
                    of_partition.push(by);
                }
            }
        }
    }
    Ok(cleaned)
}

/// Whether a file counts: what was cleaned waits for its removal beside what it became, and a crash leaves what was not finished.
fn is_live(cleaned: &[SealedFacts], (base, generation): Name) -> bool {
    match generation {
        0 => !cleaned.iter().any(|facts| (facts.base_offset..facts.end_offset).contains(&base)),
        _ => cleaned.iter().any(|facts| name_of_facts(facts) == (base, generation)),
    }
}

fn verify_journal(
    disk: &dyn Disk,
    checkpoint: Checkpoint,
    report: &mut VerifyReport,
) -> Result<(), LogError> {
    for (id, section) in &checkpoint.partitions {
        match section {
            Err(error) => report.problems.push(format!("checkpoint, section of {id}: {error}")),
            Ok(state) => {
                let reason = state.quarantined.as_ref();
                report
                    .problems
                    .extend(reason.map(|reason| format!("partition {id} is quarantined: {reason}")));
            }
        }
    }
    let from = checkpoint.journal_from;
    let mut replay = Replay::new(checkpoint);
    for sequence in journal_files(disk)?.into_iter().filter(|sequence| *sequence >= from) {
        let path = journal::path_of(sequence);
        let scanned = journal::scan(&read_all(disk, &path).context("cannot read", &path)?, sequence);
        report.problems.extend(scanned.damaged.map(|error| format!("{}: {error}", path.display())));
        report.journal_frames += scanned.frames.len() as u64;
        scanned.frames.iter().for_each(|frame| replay.frame(frame.number));
    }
    report.problems.extend(replay.journal_damage.map(|what| format!("journal: {what}")));
    Ok(())
}

fn dump_disk(
    disk: &dyn Disk,
    durable: &DurableEnds,
    cleaned: &CleanedSegments,
    each: &mut dyn FnMut(SegmentDump),
) -> Result<(), LogError> {
    let directory = Path::new(PARTITIONS);
    let names = disk.list(directory).context("cannot list", directory)?;
    for id in names.iter().filter_map(|entry| partition_of(&entry.name)) {
        let directory = directory_of(id);
        let names = disk.list(&directory).context("cannot list", &directory)?;
        let cleaned = cleaned.get(&id).map_or(&[][..], Vec::as_slice);
        let live = names.iter().filter_map(|entry| name_of(&entry.name, LOG_SUFFIX));
        let segments: Vec<Name> = live.filter(|name| is_live(cleaned, *name)).collect();
        let has_index =
            |name: Name| names.iter().any(|entry| name_of(&entry.name, INDEX_SUFFIX) == Some(name));
        for name in &segments {
            let sealed = Some(name) != segments.last();
            let must_have = durable
                .get(&id)
                .filter(|(active, _)| (active.0, 0) == *name)
                .map_or(0, |(active, _)| active.1);
            let mut segment = dump_segment(disk, id, *name, sealed, must_have)?;
            if has_index(*name) {
                dump_index(disk, &mut segment);
            }
            each(segment);
        }
    }
    Ok(())
}

fn dump_segment(
    disk: &dyn Disk,
    id: PartitionId,
    name: Name,
    sealed: bool,
    must_have: u64,
) -> Result<SegmentDump, LogError> {
    let (path, base) = (path_of(id, name, LOG_SUFFIX), name.0);
    let file = disk.open(&path).context("cannot open", &path)?;
    let length = file.bytes().context("cannot read", &path)?;
    let mut dump = SegmentDump {
        id,
        base_offset: base,
        generation: name.1,
        end_offset: base,
        bytes: 0,
        tail_bytes: 0,
        sealed,
        batches: Vec::new(),
        index_entries: 0,
        problems: Vec::new(),
    };
    let mut walk = Walk::new(file.as_ref(), 0, length, Some(base));
    let mut stop = None;
    while let Some(step) = walk.next() {
        match step {
            Ok(walked) => {
                let batch = batch_dump(&walked.header, walked.at);
                dump.end_offset = walked.header.next_offset();
                dump.bytes = walked.at + walked.header.total_bytes as u64;
                dump.batches.push(batch);
            }
            Err(found) => {
                stop = Some(found);
                break;
            }
        }
    }
    dump.tail_bytes = length - dump.bytes;
    if let Some(stop) = stop
        && (dump.bytes < must_have || (sealed && !is_reserved_room(&stop)))
    {
        dump.problems.push(format!("{}: damaged at byte {}: {stop}", path.display(), dump.bytes));
    }
    Ok(dump)
}

/// Zeros read as a batch of magic 0.
fn is_reserved_room(stop: &Stop) -> bool {
    matches!(stop, Stop::Batch(batch::BatchError::Magic { found: 0 } | batch::BatchError::Torn { .. }))
}

fn dump_index(disk: &dyn Disk, segment: &mut SegmentDump) {
    let path = path_of(segment.id, (segment.base_offset, segment.generation), INDEX_SUFFIX);
    let index = read_all(disk, &path).ok().and_then(|bytes| SparseIndex::open(&bytes, u64::MAX));
    let Some(index) = index else {
        let problem = format!("{}: damaged; it will be built again", path.display());
        segment.problems.push(problem);
        return;
    };
    segment.index_entries = index.len();
    let places: BTreeMap<u64, i64> =
        segment.batches.iter().map(|batch| (batch.at, batch.base_offset)).collect();
    let wrong =
        (0..index.len()).map(|n| index.entry(n)).find(|entry| places.get(&entry.at) != Some(&entry.offset));
    // the index of a segment that is written may know of batches that a crash took
    if let Some(entry) = wrong.filter(|entry| segment.sealed || entry.at < segment.bytes) {
        let problem = format!(
            "{}: names offset {} at byte {}, which is not so",
            path.display(),
            entry.offset,
            entry.at
        );
        segment.problems.push(problem);
    }
}

fn batch_dump(header: &batch::BatchHeader, at: u64) -> BatchDump {
    BatchDump {
        base_offset: header.base_offset,
        last_offset: header.last_offset(),
        records: header.record_count,
        bytes: header.total_bytes,
        at,
        leader_epoch: header.leader_epoch,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        max_timestamp_ms: header.max_timestamp,
        compression: match header.compression() {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        },
        transactional: header.is_transactional(),
        marker: Ended::of(header).map(|ended| ended.ending),
    }
}
