//! The last part of recovery, one partition at a time: its files become exactly what its state says.
//!
//! Sound: tails are cut, files that do not belong are removed, everything is synced. Damaged: nothing is changed, the partition is
//! quarantined and can be read up to the damage.

mod lazy;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Context as _, DiskFile, read_exact};
use crate::index::{GrowingIndex, SparseIndex};
use crate::partition::Partition;
use crate::recover::Replayed;
use crate::runs::{RUN_SUFFIX, run_of};
use crate::sealed::UNFINISHED;
use crate::segment::{
    Files, INDEX_SUFFIX, LOG_SUFFIX, Name, Segment, directory_of, log_path, name_of, name_of_facts, path_of,
};
use crate::state::{Active, PartitionState};
use crate::together::Unsynced;
use crate::view::{Shared, Shown};
use crate::walk::Walk;
use crate::{LogError, Recovered};

/// What is the same for all partitions.
#[derive(Debug)]
pub(crate) struct Settle<'a> {
    pub(crate) files: &'a Arc<Files>,
    /// Bytes before the end of the active segment that are checked whatever the index covers.
    pub(crate) verify_bytes: u64,
    pub(crate) now_ms: i64,
    pub(crate) journal_damage: Option<&'a str>,
    /// What must be synced before anything is built on it.
    pub(crate) unsynced: RefCell<Vec<Unsynced>>,
}

impl Settle<'_> {
    fn sync_later(&self, path: PathBuf, file: Arc<dyn DiskFile>) {
        self.unsynced.borrow_mut().push(Unsynced::File(path, file));
    }
}

/// A partition under way.
struct Work<'a> {
    how: &'a Settle<'a>,
    state: PartitionState,
    /// Bytes of the segment files that are there.
    there: BTreeMap<Name, u64>,
    index: GrowingIndex,
    /// Where the last batch of the active segment that its stored index knows begins.
    indexed: Option<u64>,
    /// Segments whose stored index is not to be used again: they grew since, or lost what it speaks of.
    old_indexes: BTreeSet<i64>,
    /// Segments that do not belong to it.
    unknown: BTreeSet<Name>,
    truncated_bytes: u64,
}

pub(crate) fn settle(how: &Settle<'_>, replayed: Replayed) -> Result<(Partition, Recovered), LogError> {
    let Replayed { state, damage, touched, ended } = replayed;
    let earlier = state.quarantined.clone();
    let damage = earlier.or(damage).or_else(|| how.journal_damage.map(|what| format!("the journal: {what}")));
    let directory = directory_of(state.id);
    let names = how.files.disk.list(&directory).context("cannot list", &directory)?;
    let there = names.iter().filter_map(|entry| Some((name_of(&entry.name, LOG_SUFFIX)?, entry.bytes)));
    let mut work = Work {
        how,
        state,
        there: there.collect(),
        index: GrowingIndex::default(),
        indexed: None,
        old_indexes: BTreeSet::new(),
        unknown: BTreeSet::new(),
        truncated_bytes: 0,
    };
    let damage = damage.or_else(|| work.missing_run(&names));
    let damage = match damage {
        Some(damage) => Some(damage),
        None => work.check()?,
    };
    if let Some(damage) = damage {
        return work.quarantine(damage);
    }
    for base in touched {
        if work.there.contains_key(&(base, 0)) && work.belongs((base, 0)) {
            let path = log_path(work.state.id, base);
            how.sync_later(path, work.open((base, 0))?);
            work.old_indexes.insert(base);
        }
    }
    if !work.state.config.fsync {
        work.go_on()?;
        work.skip_to_log_start()?;
    }
    work.disown_index()?;
    work.cut()?;
    work.end_transactions(&ended)?;
    work.remove_leftovers(names.into_iter().map(|entry| entry.name))?;
    how.unsynced.borrow_mut().push(Unsynced::Directory(directory));
    Ok(work.finish())
}

impl Work<'_> {
    fn open(&self, name: Name) -> Result<Arc<dyn DiskFile>, LogError> {
        let path = path_of(self.state.id, name, LOG_SUFFIX);
        self.how.files.disk.open(&path).context("cannot open", &path)
    }

    fn belongs(&self, name: Name) -> bool {
        name == (self.state.active.base, 0)
            || self.state.sealed.iter().any(|facts| name_of_facts(facts) == name)
    }

    /// A file of aborted ranges that the state names and that is gone.
    fn missing_run(&self, names: &[crate::disk::Entry]) -> Option<String> {
        let there: BTreeSet<i64> = names.iter().filter_map(|entry| run_of(&entry.name)).collect();
        let missing =
            self.state.transactions.all_runs().iter().find(|run| !there.contains(&run.first_marker));
        missing.map(|run| {
            format!("the file of aborted transactions {}{RUN_SUFFIX} is missing", run.first_marker)
        })
    }

    /// Whether what the state says is on the disk; what is not, if it is not.
    fn check(&mut self) -> Result<Option<String>, LogError> {
        let Active { base, bytes, end, .. } = self.state.active;
        let all = self.state.sealed.iter().map(|facts| (name_of_facts(facts), facts.bytes));
        for (name, bytes) in all.chain([((base, 0), bytes)]) {
            let base = name.0;
            match self.there.get(&name) {
                None if bytes == 0 => {}
                None => return Ok(Some(format!("segment {base} is missing"))),
                Some(have) if *have < bytes => {
                    return Ok(Some(format!("segment {base} has {have} bytes of {bytes}")));
                }
                Some(_) => {}
            }
        }
        if !self.there.contains_key(&(base, 0)) {
            let directory = directory_of(self.state.id);
            self.how.files.disk.create_dir(&directory).context("cannot create", &directory)?;
            let path = log_path(self.state.id, base);
            self.how.files.disk.create(&path).context("cannot create", &path)?;
            self.there.insert((base, 0), 0);
        }
        let (found, stop) = self.walk_active(bytes)?;
        Ok(match stop {
            Some(stop) => {
                Some(format!("segment {base} is damaged below byte {bytes}, which was durable: {stop}"))
            }
            None if found != end => {
                Some(format!("segment {base} holds offsets up to {found}, not up to {end}"))
            }
            None => None,
        })
    }

    /// Checks the end of the active segment up to byte `limit`, and completes its index. Returns the offset reached, and why the walk
    /// stopped before the limit.
    fn walk_active(&mut self, limit: u64) -> Result<(i64, Option<String>), LogError> {
        if let Some((index, from)) = self.stored_index(limit) {
            self.index = index;
            let walked = self.walk(from.at, from.offset, limit)?;
            if walked.1.is_none() {
                return Ok(walked);
            }
            // the index may be what is wrong
            (self.index, self.indexed) = (GrowingIndex::default(), Some(u64::MAX));
        }
        self.walk(0, self.state.active.base, limit)
    }

    fn walk(&mut self, at: u64, offset: i64, limit: u64) -> Result<(i64, Option<String>), LogError> {
        let file = self.open((self.state.active.base, 0))?;
        let mut walk = Walk::new(file.as_ref(), at, limit, Some(offset));
        let interval = self.how.files.index_interval_bytes;
        let mut end = offset;
        while let Some(step) = walk.next() {
            match step {
                Ok(walked) => {
                    let header = walked.header;
                    self.index.note(header.base_offset, walked.at, header.max_timestamp, interval);
                    end = header.next_offset();
                }
                Err(stop) => return Ok((end, Some(stop.to_string()))),
            }
        }
        Ok((end, None))
    }

    /// The index that the last checkpoint left, up to where checking begins.
    fn stored_index(&mut self, limit: u64) -> Option<(GrowingIndex, crate::index::IndexEntry)> {
        let path = crate::segment::index_path(self.state.id, self.state.active.base);
        let bytes = match crate::disk::read_all(self.how.files.disk.as_ref(), &path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            other => other,
        };
        // what does not read now may later
        self.indexed = Some(u64::MAX);
        // it may know of more than is left, as it is written without a sync
        let index = SparseIndex::open(&bytes.ok()?, u64::MAX)?;
        self.indexed = index.len().checked_sub(1).map(|last| index.entry(last).at);
        GrowingIndex::resume(&index, limit.saturating_sub(self.how.verify_bytes.max(1)))
    }

    /// An index that speaks of batches that power took is gone for good before others stand in their place.
    fn disown_index(&mut self) -> Result<(), LogError> {
        let Active { base, bytes, .. } = self.state.active;
        if self.indexed.is_none_or(|last| last < bytes) {
            return Ok(());
        }
        let (disk, directory) = (self.how.files.disk.as_ref(), directory_of(self.state.id));
        let path = crate::segment::index_path(self.state.id, base);
        disk.remove(&path).context("cannot remove", &path)?;
        disk.sync_dir(&directory).context("cannot sync directory", &directory)?;
        self.old_indexes.remove(&base);
        Ok(())
    }

    /// Cuts off what lies behind the records.
    fn cut(&mut self) -> Result<(), LogError> {
        let active = self.state.active.facts();
        for facts in self.state.sealed.iter().chain([&active]) {
            let name = name_of_facts(facts);
            if self.there.get(&name).is_none_or(|have| *have <= facts.bytes) {
                continue;
            }
            let (file, path) = (self.open(name)?, path_of(self.state.id, name, LOG_SUFFIX));
            let torn = torn_bytes(file.as_ref(), facts.bytes).context("cannot read", &path)?;
            if torn > 0 {
                tracing::warn!(path = %path.display(), bytes = torn, "a tail that was never durable is cut off");
            }
            self.truncated_bytes += torn;
            file.set_bytes(facts.bytes).context("cannot cut", &path)?;
            self.how.sync_later(path, file);
        }
        Ok(())
    }

    /// Removes what can be made again. Segments that do not belong wait for the new checkpoint: until then a recovery that begins
    /// again reads them.
    fn remove_leftovers(&mut self, names: impl Iterator<Item = String>) -> Result<(), LogError> {
        let directory = directory_of(self.state.id);
        for name in names {
            let (log, index) = (name_of(&name, LOG_SUFFIX), name_of(&name, INDEX_SUFFIX));
            let named = |run: &i64| self.state.transactions.all_runs().iter().any(|r| r.first_marker == *run);
            let is_stray_run = run_of(&name).is_some_and(|run| !named(&run));
            if let Some(unknown) = log.or(index).filter(|found| !self.belongs(*found)) {
                self.unknown.insert(unknown);
            } else if index.is_some_and(|(base, _)| self.old_indexes.contains(&base))
                || name.ends_with(UNFINISHED)
                || is_stray_run
            {
                let path = directory.join(name);
                self.how.files.disk.remove(&path).context("cannot remove", &path)?;
            }
        }
        Ok(())
    }

    fn quarantine(mut self, damage: String) -> Result<(Partition, Recovered), LogError> {
        let reason: Arc<str> = format!("recovery found that {damage}").into();
        let reason = match &self.state.quarantined {
            Some(earlier) => Arc::from(earlier.as_str()),
            None => reason,
        };
        tracing::error!(partition = %self.state.id, %reason, "partition is quarantined");
        self.state.quarantined = Some(reason.to_string());
        let claimed = self.state.active;
        self.index = GrowingIndex::default();
        let have = self.there.get(&(claimed.base, 0)).copied();
        let mut readable = Active::empty(claimed.base);
        if let Some(have) = have {
            let (file, limit) = (self.open((claimed.base, 0))?, claimed.bytes.min(have));
            let mut walk = Walk::new(file.as_ref(), 0, limit, Some(claimed.base));
            while let Some(Ok(walked)) = walk.next() {
                let header = walked.header;
                let interval = self.how.files.index_interval_bytes;
                self.index.note(header.base_offset, walked.at, header.max_timestamp, interval);
                readable.bytes = walked.at + header.total_bytes as u64;
                readable.end = header.next_offset();
                readable.max_timestamp_ms = readable.max_timestamp_ms.max(header.max_timestamp);
            }
        }
        let (mut partition, mut report) = self.finish_with(readable);
        partition.failed = Some(reason.clone());
        report.quarantined = Some(reason);
        Ok((partition, report))
    }

    fn finish(mut self) -> (Partition, Recovered) {
        self.state.producers.date_unknown(self.how.now_ms);
        let active = self.state.active;
        self.finish_with(active)
    }

    /// The partition with readers that see the active segment as `shown` says.
    fn finish_with(self, shown: Active) -> (Partition, Recovered) {
        let Self { how, state, index, truncated_bytes, unknown, .. } = self;
        let id = state.id;
        let active = Segment::growing(id, state.active.base, index);
        let sealed =
            state.sealed.iter().map(|facts| Shown::sealed(Segment::named(id, name_of_facts(facts)), facts));
        let mut segments: Vec<Shown> = sealed.collect();
        segments.push(Shown::active(active.clone(), &shown));
        let shared =
            Shared::new(id, how.files.clone(), state.log_start, segments, state.transactions.clone());
        let report = Recovered {
            id,
            config: state.config,
            log_start: state.log_start,
            local_start: state.local_start(),
            end: shown.end,
            leader_epoch: state.epochs.newest().map_or(-1, |(epoch, _)| epoch),
            truncated_bytes,
            quarantined: None,
        };
        let mut partition = Partition::new(state, shared, active);
        partition.changed = true;
        partition.doomed.extend(unknown.into_iter().map(|name| Segment::named(id, name)));
        (partition, report)
    }
}

/// Bytes from `at` up to the last one that is not zero: reserved room reads as zeros.
fn torn_bytes(file: &dyn DiskFile, at: u64) -> std::io::Result<u64> {
    let length = file.bytes()?;
    let mut torn = 0;
    let mut start = at;
    let mut chunk = vec![0; 64 << 10];
    while start < length {
        let part = &mut chunk[..(length - start).min(64 << 10) as usize];
        read_exact(file, part, start)?;
        match part.iter().rposition(|byte| *byte != 0) {
            Some(last) => torn = start - at + last as u64 + 1,
            // reserved room has no records behind it
            None => break,
        }
        start += part.len() as u64;
    }
    Ok(torn)
}
