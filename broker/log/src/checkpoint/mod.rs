//! The checkpoint: everything the journal says up to a frame, as one file, after which recovery reads only later frames.
//!
//! The file is a head envelope (frame, first journal file to read, ids) and one envelope for each partition, so that damage to one section
//! is damage to one partition. Written beside and renamed. Before it: every segment and directory it speaks of is synced. After it:
//! journal files are free, and files of removed segments and partitions go.
//!
//! Its content is put together on the log's thread at once; everything that waits for the disk is done in the background while appends
//! go on, and the log's thread takes each next step when it comes by.
//!
//! A failed partition keeps the section it had, and with it the journal files since.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::PartitionId;

pub(crate) use self::file::{Checkpoint, FILE, read, seal_section, take_clean_marker, write_clean_marker};
use self::file::{Sections, encode, read_sections};
#[cfg(feature = "testing")]
pub(crate) use self::file::{decode, open_section, sample};
use crate::background::{Finished, Task};
use crate::disk::Context as _;
use crate::partition::Partition;
use crate::segment::{PARTITIONS, directory_of};
use crate::state::PartitionState;
use crate::{LogError, Store, runs};

/// A checkpoint that is under way. What it says was true when it began; appends have gone on since.
#[derive(Debug)]
pub(crate) struct Running {
    /// Tasks of the present step that are not back.
    outstanding: usize,
    step: Step,
    /// The content of its file, until that is written.
    bytes: Vec<u8>,
    journal_from: u64,
    /// Journal bytes that it has.
    journal_bytes: u64,
    /// Partitions that had ever stopped when it began: when more have by the time everything is synced, it is void.
    failures: u64,
    /// Segments of each partition whose files may go when it is there.
    doomed_segments: BTreeMap<PartitionId, usize>,
    /// The same of files of aborted ranges. When it comes to nothing, the next start removes them.
    doomed_runs: Vec<PathBuf>,
    /// The same of partitions.
    doomed: BTreeSet<PartitionId>,
    /// Partitions whose creation it has.
    created: BTreeSet<PartitionId>,
    /// Why it came to nothing.
    error: Option<LogError>,
}

/// Segments and names, then the file, then its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Sync,
    Write,
    Name,
}

impl Store {
    /// Begins a checkpoint if none is under way; what stands in the way is logged and the next one tries again, with new files.
    pub(crate) fn try_checkpoint(&mut self) {
        if self.running.is_none()
            && let Err(error) = self.begin_checkpoint()
        {
            tracing::warn!(%error, "no checkpoint was taken");
        }
        self.poll_checkpoint();
    }

    /// Commits what is pending, makes every segment durable and writes the checkpoint; waits for it.
    pub(crate) fn checkpoint(&mut self) -> Result<(), LogError> {
        self.finish_checkpoint();
        self.begin_checkpoint()?;
        self.finish_checkpoint();
        self.abandoned.take().map_or(Ok(()), Err)
    }

    /// Takes in what was done in the background.
    pub(crate) fn poll_checkpoint(&mut self) {
        loop {
            let done = self.syncer.poll();
            let was_last = done.is_empty() || !self.syncer.polls_all();
            done.into_iter().for_each(|finished| self.finished(finished));
            self.go_on();
            if was_last {
                return;
            }
        }
    }

    /// Waits for the checkpoint that is under way.
    pub(crate) fn finish_checkpoint(&mut self) {
        while self.running.is_some() {
            match self.syncer.wait() {
                Some(finished) => self.finished(finished),
                None => self.abandon(),
            }
            self.go_on();
        }
    }

    fn begin_checkpoint(&mut self) -> Result<(), LogError> {
        self.commit();
        self.checkpointed_ms = self.now_ms;
        self.abandoned = None;
        if let Some(reason) = &self.failed {
            let error = io::Error::other(reason.to_string());
            return Err(error).context("cannot take a checkpoint in", Path::new(""));
        }
        // first: a partition that stops by it must keep the section it had
        self.write_aborted_runs();
        let any_failed = self.partitions.values().any(is_failed);
        let journal_from = match any_failed {
            true => self.journal.oldest_sequence(),
            false => self.journal.current_sequence(),
        };
        let bytes = encode(&self.sections(journal_from, any_failed)?);
        let mut running = Running {
            outstanding: 0,
            step: Step::Sync,
            bytes,
            journal_from,
            journal_bytes: self.journal.bytes_since_checkpoint(),
            failures: self.failures,
            doomed_segments: BTreeMap::new(),
            doomed_runs: Vec::new(),
            doomed: self.doomed.clone(),
            created: BTreeSet::new(),
            error: None,
        };
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for (id, partition) in self.partitions.iter_mut().filter(|(_, partition)| !is_failed(partition)) {
            running.doomed_segments.insert(*id, partition.doomed.len());
            running.doomed_runs.extend(runs::take_passed(partition));
            running.created.extend(partition.created_after.map(|_| *id));
            if partition.failed.is_none()
                && std::mem::take(&mut partition.changed)
                && let Err(error) = tasks_of(partition, &mut tasks)
            {
                failures.push((*id, Arc::from(error.to_string())));
            }
        }
        if std::mem::take(&mut self.names_dirty) {
            tasks.push(Task::Names { id: None, directory: PARTITIONS.into() });
        }
        self.dirty_segments = self.partitions.values().map(|partition| partition.dirty.len()).sum();
        self.has_many_aborted = false;
        running.outstanding = tasks.len();
        self.running = Some(running);
        failures.iter().for_each(|(id, reason)| self.fail_partition(*id, reason));
        tasks.into_iter().for_each(|task| self.syncer.submit(task));
        self.go_on();
        Ok(())
    }

    /// Moves aborted ranges that are too many for the memory into files that the checkpoint names.
    fn write_aborted_runs(&mut self) {
        let max = self.config.aborted_ranges_max;
        let mut failures: Vec<(PartitionId, Arc<str>)> = Vec::new();
        for (id, partition) in self.partitions.iter_mut().filter(|(_, partition)| partition.failed.is_none())
        {
            if let Err(error) = runs::write_overflow(partition, max) {
                failures.push((*id, error.to_string().into()));
            }
        }
        failures.iter().for_each(|(id, reason)| self.fail_partition(*id, reason));
    }

    /// Acts on the result of a task.
    fn finished(&mut self, finished: Finished) {
        let Finished { task, result } = finished;
        if let Task::Ahead { id, .. } = task {
            return self.synced_ahead(id, result);
        }
        if let Some(running) = &mut self.running {
            running.outstanding = running.outstanding.saturating_sub(1);
        }
        let error = match (result, &task) {
            (Err(error), _) => error,
            (Ok(()), Task::Index { segment, sealed: true, .. }) => return segment.set_index(None),
            (Ok(()), _) => return,
        };
        let reason: Arc<str> = error.to_string().into();
        match task {
            Task::Segment { id, .. } | Task::Names { id: Some(id), .. } => self.fail_partition(id, &reason),
            // nobody knows which names are durable, so nothing may be built on a later success
            Task::Names { id: None, .. } => self.fail_all(&reason),
            // readers go on with the one in memory; after a restart it is built again
            Task::Index { .. } => return tracing::warn!(%error, "an index was not written"),
            Task::Checkpoint { .. } | Task::Ahead { .. } => {}
        }
        if let Some(running) = &mut self.running {
            running.error.get_or_insert(error);
        }
    }

    fn synced_ahead(&mut self, id: PartitionId, result: Result<(), LogError>) {
        if let Err(error) = result {
            self.fail_partition(id, &error.to_string().into());
        }
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.is_synced_ahead = false;
        }
    }

    /// Takes the next step when everything of the present one is done.
    fn go_on(&mut self) {
        while let Some(running) = &mut self.running
            && running.outstanding == 0
        {
            // what a partition has in the journal since it failed is needed
            if running.error.is_some() || (running.step == Step::Sync && running.failures != self.failures) {
                return self.abandon();
            }
            let task = match running.step {
                Step::Sync => {
                    running.step = Step::Write;
                    Task::Checkpoint { bytes: std::mem::take(&mut running.bytes) }
                }
                Step::Write => {
                    running.step = Step::Name;
                    Task::Names { id: None, directory: PathBuf::new() }
                }
                Step::Name => return self.complete(),
            };
            running.outstanding += 1;
            self.syncer.submit(task);
        }
    }

    /// What the checkpoint was for is left to the next one.
    fn abandon(&mut self) {
        let Some(running) = self.running.take() else { return };
        for partition in self.partitions.values_mut() {
            partition.changed = true;
            partition.names_dirty |= std::mem::take(&mut partition.names_syncing);
        }
        self.names_dirty = true;
        let error = running.error.unwrap_or_else(|| {
            let error = Arc::new(io::Error::other("a partition failed meanwhile"));
            LogError::Io { doing: "cannot complete", path: FILE.into(), error }
        });
        tracing::warn!(%error, "no checkpoint was taken");
        self.abandoned = Some(error);
    }

    /// The checkpoint is durable: what it has is not needed elsewhere.
    fn complete(&mut self) {
        let Some(running) = self.running.take() else { return };
        self.journal.checkpointed(running.journal_from, running.journal_bytes);
        for (id, doomed) in running.doomed_segments {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            partition.names_syncing = false;
            if running.created.contains(&id) {
                partition.created_after = None;
            }
            for segment in partition.doomed.drain(..doomed).collect::<Vec<_>>() {
                segment.remove(&self.files);
            }
        }
        runs::remove(self.disk.as_ref(), &running.doomed_runs);
        for id in running.doomed {
            self.doomed.remove(&id);
            let directory = directory_of(id);
            self.files.close_all_in(&directory);
            if let Err(error) = self.disk.remove_dir(&directory) {
                tracing::warn!(path = %directory.display(), %error, "a deleted partition's files stay until the next start");
            }
        }
    }

    fn sections(&mut self, journal_from: u64, any_failed: bool) -> Result<Sections, LogError> {
        let frame = self.journal.last_frame();
        let mut old: BTreeMap<PartitionId, Bytes> = BTreeMap::new();
        if any_failed {
            old.extend(read_sections(self.disk.as_ref())?.into_iter().flat_map(|sections| sections.sections));
        }
        let mut sections = Vec::with_capacity(self.partitions.len());
        for (id, partition) in &mut self.partitions {
            let section = match (is_failed(partition), partition.created_after) {
                (false, _) => {
                    partition.state.frame = frame;
                    seal_section(&partition.state)
                }
                (true, Some(before)) => {
                    seal_section(&PartitionState::new(*id, partition.state.config, before))
                }
                (true, None) => match old.remove(id) {
                    Some(section) => section,
                    None => continue,
                },
            };
            sections.push((*id, section));
        }
        Ok(Sections { frame, journal_from, sections })
    }
}

/// A quarantined partition is failed too, but its section is right.
pub(crate) fn is_failed(partition: &Partition) -> bool {
    partition.failed.is_some() && partition.state.quarantined.is_none()
}

/// What makes a partition durable as it is now.
fn tasks_of(partition: &mut Partition, tasks: &mut Vec<Task>) -> Result<(), LogError> {
    let id = partition.id();
    for segment in std::mem::take(&mut partition.dirty) {
        let written = segment.file(partition.files()).context("cannot open", &segment.path)?;
        segment.set_dirty(false);
        tasks.push(Task::Segment { id, segment, _written: written });
    }
    for segment in std::mem::take(&mut partition.unindexed) {
        if let Some(index) = segment.sealed_index() {
            tasks.push(Task::Index { segment, index, sealed: true });
        }
    }
    if std::mem::take(&mut partition.names_dirty) {
        partition.names_syncing = true;
        tasks.push(Task::Names { id: Some(id), directory: directory_of(id) });
    }
    // so that recovery reads only what is appended later
    if let Some(index) = partition.active.sealed_index() {
        tasks.push(Task::Index { segment: partition.active.clone(), index, sealed: false });
    }
    Ok(())
}
